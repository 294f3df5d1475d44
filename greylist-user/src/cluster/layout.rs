//! What stands in the engine: the key, the form and the value of each kind of record.
//!
//! A value is a byte for its layout and then fields of a fixed width, big-endian, so that two of them can
//! be made one without knowing what they mean: bytes compare as numbers do. What is done with each
//! field, the form says, which `lua/merge.lua` reads. What comes of two values is what
//! [`merge`](Record::merge) makes of the two records; a test holds one against the other in a real engine.
//!
//! Only what every node may know is in here. What a kernel counted for a sentence is its node's own, and
//! so are the addresses at which a delivery round tried one host.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, HeloKey, HoppingHelo, HostMark, Neighbour,
    Neighbours, NetworkKey, NetworkMark, Offence, PairRecord, PairTag, Persistence, Policy, Record,
    Reputation, Second, Sentence, SentenceLevel, SentenceReason, SentencedClient, Strike,
    Timestamp, TrustKey, TrustRecord, TupleKey,
};
use crate::store::codec::Row;
use crate::store::{Shared, SharedKey, SharedSentence};

/// A record as it is told to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What is done with each field where there is a value already.
    pub form: Cow<'static, str>,
    /// The fields.
    pub bytes: Vec<u8>,
    /// How long it is good for, unless more is heard.
    pub lasts: Duration,
}

/// A value that this greygate cannot read: a newer one's, or a stranger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no value of this layout")]
pub struct Unreadable;

/// Names a record in the engine: a letter for its kind, then its key as it is.
pub fn key(of: SharedKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(LONGEST_KEY);
    let mut put = |letter, bytes: &[u8]| {
        key.push(letter);
        key.extend_from_slice(bytes);
    };
    match of {
        SharedKey::Client(it) => put(CLIENT, &it.to_bytes()),
        SharedKey::Content(it) => put(CONTENT, &it.to_bytes()),
        SharedKey::Helo(it) => put(HELO, &it.to_bytes()),
        SharedKey::Neighbours(it) => put(NEIGHBOURS, &it.to_bytes()),
        SharedKey::Pair(it) => put(PAIR, &it.to_bytes()),
        SharedKey::Reputation(it) => put(REPUTATION, &it.to_bytes()),
        SharedKey::Sentence(it) => {
            let network = it.network();
            let (address, prefix) = match network.addr() {
                IpAddr::V4(address) => (address.to_ipv6_mapped(), network.prefix_len()),
                IpAddr::V6(address) => (address, network.prefix_len()),
            };
            put(SENTENCE, &address.octets());
            key.push(prefix);
        }
        SharedKey::Trust(it) => put(TRUST, &it.to_bytes()),
        SharedKey::Tuple(it) => put(TUPLE, &it.to_bytes()),
    }
    key
}

/// What a name says; [`None`] if it is no record's.
pub fn read_key(name: &[u8]) -> Option<SharedKey> {
    let (&letter, key) = name.split_first()?;
    if letter == PAIR {
        return Some(SharedKey::Pair(PairTag::from_bytes(key.try_into().ok()?)));
    }
    if letter == SENTENCE {
        let (&prefix, address) = key.split_last()?;
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
        let network = IpNet::new(IpAddr::from(address).to_canonical(), prefix).ok()?;
        return SentencedClient::try_from(network)
            .ok()
            .map(SharedKey::Sentence);
    }
    let key = key.try_into().ok()?;
    Some(match letter {
        CLIENT => SharedKey::Client(ClientKey::from_bytes(key)),
        CONTENT => SharedKey::Content(Fingerprint::from_bytes(key)),
        HELO => SharedKey::Helo(HeloKey::from_bytes(key)),
        NEIGHBOURS => SharedKey::Neighbours(ClientKey::from_bytes(key)),
        REPUTATION => SharedKey::Reputation(NetworkKey::from_bytes(key)),
        TRUST => SharedKey::Trust(TrustKey::from_bytes(key)),
        TUPLE => SharedKey::Tuple(TupleKey::from_bytes(key)),
        _ => return None,
    })
}

/// What is told of a record at `now`; [`None`] of what is not shared.
pub fn value(of: &Shared, policy: &Policy, now: Timestamp) -> Option<Value> {
    let mut fields = Fields(vec![LAYOUT]);
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
        Shared::Row(Row::Gone(_) | Row::Kept(..) | Row::Sentence(_) | Row::Unknown) => return None,
    };
    Some(Value {
        form,
        bytes: fields.0,
        // What is over by now is told all the same: it may be news that it is.
        lasts: lasts.max(SHORTEST),
    })
}

/// What the engine has of a record.
///
/// # Errors
///
/// The value is of another layout.
pub fn read(of: SharedKey, value: &[u8]) -> Result<Shared, Unreadable> {
    let mut bytes = Bytes(value);
    if bytes.u8() != Some(LAYOUT) {
        return Err(Unreadable);
    }
    let row = bytes.row(of).filter(|_| bytes.0.is_empty());
    row.ok_or(Unreadable)
}

/// Fields as they are appended to a value.
struct Fields(Vec<u8>);

impl Fields {
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

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn second(&mut self, value: Second) {
        self.u32(value.as_seconds());
    }

    /// Six bytes are enough until the year 10889.
    fn time(&mut self, value: Timestamp) {
        let millis = value.as_millis().min(LATEST);
        self.0.extend_from_slice(&millis.to_be_bytes()[2..]);
    }
}

/// Fields as they are read, the rest of a value.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn row(&mut self, of: SharedKey) -> Option<Shared> {
        Some(Shared::Row(match of {
            SharedKey::Tuple(key) => Row::Tuple(key, self.tuple()?),
            SharedKey::Trust(key) => Row::Trust(key, self.trust()?),
            SharedKey::Content(key) => Row::Content(key, self.content()?),
            SharedKey::Pair(key) => Row::Pair(key, self.pair()?),
            SharedKey::Reputation(key) => Row::Reputation(key, self.reputation()?),
            SharedKey::Client(key) => Row::Client(key, self.client()?),
            SharedKey::Neighbours(key) => Row::Neighbours(key, self.neighbours()?),
            SharedKey::Helo(key) => Row::Helo(key, self.helo()?),
            SharedKey::Sentence(client) => return self.sentence(client).map(Shared::Sentence),
        }))
    }

    fn tuple(&mut self) -> Option<Record> {
        let life = self.u16()?;
        let first_seen = self.time()?;
        Some(Record {
            life,
            passed: self.second()?,
            attempts: self.u16()?,
            passes: self.u16()?,
            extra: self.u16()?,
            last_seen: self.time()?,
            run_attempts: self.u16()?,
            run_span: self.u16()?,
            run_evidence: self.u32()?,
            run_host: HostMark::from_bits(self.u16()?),
            ..Record::begun(life, first_seen)
        })
    }

    fn trust(&mut self) -> Option<TrustRecord> {
        Some(TrustRecord {
            life: self.u16()?,
            counted: self.time()?,
            last_used: self.time()?,
            passes: self.u16()?,
            by_content: self.u8()? != 0,
        })
    }

    fn content(&mut self) -> Option<ContentRecord> {
        Some(ContentRecord {
            life: self.u16()?,
            first_seen: self.time()?,
            network: NetworkMark::from_bits(self.u16()?),
            last_seen: self.second()?,
            passed: self.second()?,
            attempts: self.u16()?,
            passes: self.u16()?,
        })
    }

    fn pair(&mut self) -> Option<PairRecord> {
        Some(PairRecord {
            life: self.u8()?,
            first_seen: self.second()?,
            network: self.u8()?,
            contacts: self.u8()?,
            minute: self.u8()?,
        })
    }

    fn reputation(&mut self) -> Option<Reputation> {
        Some(Reputation {
            life: self.u8()?,
            recipients: self.u64()?,
            day: self.u16()?,
            recipients_today: self.u64()?,
            bad_today: self.u64()?,
            updated: self.second()?,
            good: self.u32()?,
            bad: self.u32()?,
            ham: self.u32()?,
            spam: self.u32()?,
            since: Second::from_seconds(self.u32()?.wrapping_add(1)),
            struck_day: self.u16()?,
            refused_day: self.u16()?,
            good_days: self.u8()?,
        })
    }

    fn client(&mut self) -> Option<ClientRecord> {
        let authenticated = self.second()?;
        let mut latest = [None; ClientRecord::REMEMBERED];
        for strike in &mut latest {
            let at = self.second()?;
            *strike = offence_of(self.u8()?).map(|offence| Strike { at, offence });
        }
        Some(ClientRecord {
            authenticated,
            latest,
            life: self.u16()?,
            strikes: self.u16()?,
            felt: self.u16()?,
        })
    }

    fn neighbours(&mut self) -> Option<Neighbours> {
        let life = self.u16()?;
        let mut hosts = [Neighbour::default(); Neighbours::REMEMBERED];
        for neighbour in &mut hosts {
            *neighbour = Neighbour {
                struck: self.second()?,
                host: HostMark::from_bits(self.u16()?),
            };
        }
        Some(Neighbours { hosts, life })
    }

    fn helo(&mut self) -> Option<HoppingHelo> {
        Some(HoppingHelo {
            life: self.u16()?,
            since: self.second()?,
            latest: self.second()?,
            times: self.u16()?,
        })
    }

    /// What was given after it was last lifted, as one sentence.
    fn sentence(&mut self, client: SentencedClient) -> Option<SharedSentence> {
        let lifted = self.time()?;
        let mut given: Option<Sentence> = None;
        for _ in 0..SENTENCES_KEPT {
            let (since, until) = (self.time()?, self.time()?);
            let (level, reason) = (self.u8()?, self.u8()?);
            let level = match level {
                0 => continue,
                1 => SentenceLevel::Observe,
                2 => SentenceLevel::Rate,
                3 => SentenceLevel::Block,
                _ => return None,
            };
            let reason = match reason {
                BY_NEIGHBOURS => SentenceReason::Neighbours,
                BY_OPERATOR => SentenceReason::Operator,
                code => SentenceReason::Offence(offence_of(code)?),
            };
            let sentence = Sentence {
                client,
                level,
                reason,
                since,
                until,
                persistence: Persistence::default(),
            };
            if since > lifted {
                given = Some(given.map_or(sentence, |it| it.merge(sentence)));
            }
        }
        Some(SharedSentence {
            client,
            lifted,
            given,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn second(&mut self) -> Option<Second> {
        self.u32().map(Second::from_seconds)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let field: [u8; 6] = self.array()?;
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&field);
        Some(Timestamp::from_millis(u64::from_be_bytes(millis)))
    }
}

/// The byte that an offence is written as: they follow each other as the offences do, and 0 is none.
const fn code_of(offence: Offence) -> u8 {
    match offence {
        Offence::RapidRetries => 1,
        Offence::RelayHopping => 2,
        Offence::RejectedRetries => 3,
        Offence::RejectedRecipients => 4,
    }
}

/// The offence that was written as `code`; [`None`] for none, and for one that a newer greygate knows.
fn offence_of(code: u8) -> Option<Offence> {
    Offence::ALL.into_iter().find(|it| code_of(*it) == code)
}

/// The layout of all values. A new field, a wider one or another order is another layout.
const LAYOUT: u8 = 1;

const CLIENT: u8 = b'C';
const CONTENT: u8 = b'M';
const HELO: u8 = b'H';
const NEIGHBOURS: u8 = b'N';
const PAIR: u8 = b'Q';
const REPUTATION: u8 = b'P';
const SENTENCE: u8 = b'S';
const TRUST: u8 = b'R';
const TUPLE: u8 = b'T';
/// A letter, an address and a prefix.
const LONGEST_KEY: usize = 18;

const TUPLE_FORM: &str = "l2n6x4x2x2x2x16";
const TRUST_FORM: &str = "l2x6x6x2o1";
const CONTENT_FORM: &str = "l2n8x4x4x2x2";
const PAIR_FORM: &str = "l1n5x2";
const CLIENT_FORM: &str = "x4t5.6.5l2x2x2";
const NEIGHBOURS_FORM: &str = "l2t6.4.2";
const HELO_FORM: &str = "l2n4x4x2";
/// The latest that were given: a pardon may void some of them and not others.
const SENTENCE_FORM: &str = "x6t14.4.14";

/// Sentences of one client that are kept.
const SENTENCES_KEPT: usize = 4;
/// Bytes of all of it, with the one that tells the layout.
const SENTENCE_BYTES: usize = 1 + 6 + SENTENCES_KEPT * 14;
/// Reasons of sentences that are no offences.
const BY_NEIGHBOURS: u8 = 0xf0;
const BY_OPERATOR: u8 = 0xff;

/// Half-lives after which the largest count weighs nothing.
const FADES_IN: u32 = 32;
/// Times that strikes count for which they are shown.
const CLIENT_SHOWN: u32 = 6;
/// For what has lapsed already.
const SHORTEST: Duration = Duration::from_mins(1);
/// The latest time that six bytes hold.
const LATEST: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_differ() {
        let letters = [
            CLIENT, CONTENT, HELO, NEIGHBOURS, PAIR, REPUTATION, SENTENCE, TRUST, TUPLE,
        ];
        let mut distinct = letters.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), letters.len());
    }

    #[test]
    fn codes_of_offences_follow_each_other_as_they_do() {
        let codes = Offence::ALL.map(code_of);
        assert!(codes.is_sorted() && codes[0] > 0, "{codes:?}");
        assert!(Offence::ALL.is_sorted());
        assert!(codes.iter().all(|it| *it < BY_NEIGHBOURS));
    }

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

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(letter in 0u8.., bytes: Vec<u8>) {
            let mut name = vec![letter];
            name.extend([7; 16]);
            if let Some(key) = read_key(&name) {
                let _ = read(key, &bytes);
            }
        }

        #[test]
        fn any_key_is_read_or_refused(name: Vec<u8>) {
            if let Some(read) = read_key(&name) {
                prop_assert_eq!(read_key(&key(read)), Some(read));
            }
        }
    }
}
