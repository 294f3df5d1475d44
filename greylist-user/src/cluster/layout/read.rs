//! Records as they are read from the engine: strangers' bytes, which are a record or nothing.

use super::{BY_NEIGHBOURS, BY_OPERATOR, LAYOUT, SENTENCES_KEPT, Unreadable, offence_of};
use crate::policy::{
    ClientRecord, ContentRecord, HoppingHelo, HostMark, Neighbour, Neighbours, NetworkMark,
    PairRecord, Persistence, Record, Reputation, Second, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, Strike, Timestamp, TrustRecord,
};
use crate::store::codec::Row;
use crate::store::{Shared, SharedKey, SharedSentence};

/// What the engine has of a record.
///
/// # Errors
///
/// The value is of another layout.
pub fn read(of: SharedKey, value: &[u8]) -> Result<Shared, Unreadable> {
    let mut bytes = Bytes::of(value)?;
    let row = bytes.row(of).filter(|_| bytes.0.is_empty());
    row.ok_or(Unreadable)
}

/// Fields as they are read, the rest of a value.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The fields of a value, if it is of this layout.
    pub(super) fn of(value: &'a [u8]) -> Result<Self, Unreadable> {
        match value.split_first() {
            Some((&LAYOUT, fields)) => Ok(Self(fields)),
            _ => Err(Unreadable),
        }
    }

    /// What is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

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

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn second(&mut self) -> Option<Second> {
        self.u32().map(Second::from_seconds)
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        let field: [u8; 6] = self.array()?;
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&field);
        Some(Timestamp::from_millis(u64::from_be_bytes(millis)))
    }
}
