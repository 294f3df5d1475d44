//! Records as they are written for the engine: their fields, the form that says how two values become one,
//! and how long a value is good for.

use super::{BY_NEIGHBOURS, BY_OPERATOR, LAYOUT, SENTENCES_KEPT, SHORTEST, Value, code_of};
use crate::policy::{
    ClientRecord, ContentRecord, HoppingHelo, Neighbours, PairRecord, Policy, Record, Reputation,
    Second, Sentence, SentenceLevel, SentenceReason, Timestamp, TrustRecord,
};
use crate::store::codec::Row;
use crate::store::{Shared, SharedSentence};

/// What is told of a record at `now`; [`None`] of what is not shared.
pub fn value(of: &Shared, policy: &Policy, now: Timestamp) -> Option<Value> {
    let mut fields = Fields::new();
    let (form, lasts) = match of {
        Shared::Row(Row::Tuple(_, record)) => {
            fields.tuple(record);
            (TUPLE_FORM.into(), record.lapses(policy).since(now))
        }
        Shared::Row(Row::Trust(_, record)) => {
            fields.trust(record);
            let lapses = record.last_used.after(policy.trust);
            (TRUST_FORM.into(), lapses.since(now))
        }
        Shared::Row(Row::Content(_, record)) => {
            fields.content(record);
            (CONTENT_FORM.into(), record.lapses(policy).since(now))
        }
        Shared::Row(Row::Pair(_, record)) => {
            fields.pair(*record);
            (PAIR_FORM.into(), record.lapses(policy).since(now))
        }
        Shared::Row(Row::Reputation(_, record)) => {
            fields.reputation(record);
            let half_life = policy.reputation.half_life.as_secs().max(1);
            let form = format!("l1o8d2.16f4.4.{half_life}n4x2x2x1");
            (form.into(), policy.reputation.half_life * FADES_IN)
        }
        Shared::Row(Row::Client(_, record)) => {
            fields.client(record);
            let shown = policy.punish.forgive_after.saturating_mul(CLIENT_SHOWN);
            (CLIENT_FORM.into(), shown.max(policy.punish.authenticated))
        }
        Shared::Row(Row::Neighbours(_, record)) => {
            fields.neighbours(record);
            (NEIGHBOURS_FORM.into(), policy.punish.forgive_after)
        }
        Shared::Row(Row::Helo(_, record)) => {
            fields.helo(record);
            (HELO_FORM.into(), policy.punish.hopping_memory)
        }
        Shared::Sentence(sentence) => {
            fields.sentence(sentence);
            let until = sentence.given.map_or(Timestamp::NEVER, |it| it.until);
            let remembered = sentence.lifted.after(Sentence::LONGEST);
            (SENTENCE_FORM.into(), until.max(remembered).since(now))
        }
        Shared::Row(
            Row::Gone(_) | Row::Kept(..) | Row::Pardon(_) | Row::Sentence(_) | Row::Unknown,
        ) => return None,
    };
    Some(Value {
        form,
        bytes: fields.done(),
        // What is over by now is told all the same: it may be news that it is.
        lasts: lasts.max(SHORTEST),
    })
}

/// Fields as they are appended to a value.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn new() -> Self {
        let mut fields = Vec::with_capacity(USUAL_BYTES);
        fields.push(LAYOUT);
        Self(fields)
    }

    /// The value.
    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    fn tuple(&mut self, record: &Record) {
        self.u16(record.life);
        self.time(record.first_seen);
        self.second(record.passed);
        self.u16(record.attempts);
        self.u16(record.passes);
        self.u16(record.extra);
        self.time(record.last_seen);
        self.u16(record.run_attempts);
        self.u16(record.run_span);
        self.u32(record.run_evidence);
        self.u16(record.run_host.to_bits());
    }

    fn trust(&mut self, record: &TrustRecord) {
        self.u16(record.life);
        self.time(record.counted);
        self.time(record.last_used);
        self.u16(record.passes);
        self.u8(record.by_content.into());
    }

    fn content(&mut self, record: &ContentRecord) {
        self.u16(record.life);
        self.time(record.first_seen);
        self.u16(record.network.to_bits());
        self.second(record.last_seen);
        self.second(record.passed);
        self.u16(record.attempts);
        self.u16(record.passes);
    }

    fn pair(&mut self, record: PairRecord) {
        self.u8(record.life);
        self.second(record.first_seen);
        self.u8(record.network);
        self.u8(record.contacts);
        self.u8(record.minute);
    }

    fn reputation(&mut self, record: &Reputation) {
        self.u8(record.life);
        self.u64(record.recipients);
        self.u16(record.day);
        self.u64(record.recipients_today);
        self.u64(record.bad_today);
        self.second(record.updated);
        for count in [record.good, record.bad, record.ham, record.spam] {
            self.u32(count);
        }
        // No good count is later than any.
        self.u32(record.since.as_seconds().wrapping_sub(1));
        self.u16(record.struck_day);
        self.u16(record.refused_day);
        self.u8(record.good_days);
    }

    fn client(&mut self, record: &ClientRecord) {
        self.second(record.authenticated);
        for strike in record.latest {
            self.second(strike.map_or(Second::NEVER, |it| it.at));
            self.u8(strike.map_or(0, |it| code_of(it.offence)));
        }
        self.u16(record.life);
        self.u16(record.strikes);
        self.u16(record.felt);
    }

    fn neighbours(&mut self, record: &Neighbours) {
        self.u16(record.life);
        for neighbour in record.hosts {
            self.second(neighbour.struck);
            self.u16(neighbour.host.to_bits());
        }
    }

    fn helo(&mut self, record: &HoppingHelo) {
        self.u16(record.life);
        self.second(record.since);
        self.second(record.latest);
        self.u16(record.times);
    }

    fn sentence(&mut self, sentence: &SharedSentence) {
        self.time(sentence.lifted);
        // What was given before it was lifted is void.
        if let Some(given) = sentence.given.filter(|it| it.since > sentence.lifted) {
            self.time(given.since);
            self.time(given.until);
            self.u8(match given.level {
                SentenceLevel::Observe => 1,
                SentenceLevel::Rate => 2,
                SentenceLevel::Block => 3,
            });
            self.u8(match given.reason {
                SentenceReason::Offence(offence) => code_of(offence),
                SentenceReason::Neighbours => BY_NEIGHBOURS,
                SentenceReason::Operator => BY_OPERATOR,
            });
        }
        self.0.resize(SENTENCE_BYTES, 0);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// The rest of a value.
    pub(super) fn rest(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn second(&mut self, value: Second) {
        self.u32(value.as_seconds());
    }

    /// Six bytes are enough until the year 10889.
    pub(super) fn time(&mut self, value: Timestamp) {
        let millis = value.as_millis().min(LATEST);
        self.0.extend_from_slice(&millis.to_be_bytes()[2..]);
    }
}

const TUPLE_FORM: &str = "l2n6x4x2x2x2x16";
const TRUST_FORM: &str = "l2x6x6x2o1";
const CONTENT_FORM: &str = "l2n8x4x4x2x2";
const PAIR_FORM: &str = "l1n5x2";
const CLIENT_FORM: &str = "x4t5.6.5l2x2x2";
const NEIGHBOURS_FORM: &str = "l2t6.4.2";
const HELO_FORM: &str = "l2n4x4x2";
/// The latest that were given: a pardon may void some of them and not others.
const SENTENCE_FORM: &str = "x6t14.4.14";

/// Bytes of all of it, with the one that tells the layout.
const SENTENCE_BYTES: usize = 1 + 6 + SENTENCES_KEPT * 14;
/// No record is longer; a note may be.
const USUAL_BYTES: usize = 64;
/// Half-lives after which the largest count weighs nothing.
const FADES_IN: u32 = 32;
/// Times that strikes count for which they are shown.
const CLIENT_SHOWN: u32 = 6;
/// The latest time that six bytes hold.
const LATEST: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::TupleKey;

    #[test]
    fn tuple_takes_as_much_as_one_allocation_of_the_engine_holds() {
        let row = Shared::Row(Row::Tuple(
            TupleKey::from_bytes([1; 16]),
            Record::begun(1, Timestamp::from_millis(1)),
        ));
        let value = value(&row, &Policy::default(), Timestamp::from_millis(1));
        let value = value.expect("tuples are shared");
        assert_eq!(value.bytes.len(), 35);
        // Redis keeps a string of at most 44 bytes in one piece with its header.
        assert!(value.bytes.len() <= 44);
    }
}
