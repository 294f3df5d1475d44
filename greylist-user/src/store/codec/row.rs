//! What stands in each kind of row, field by field.
//!
//! A new field is appended to the end of its row, a new kind gets a new letter, and neither is ever
//! reused. Knows nothing of blocks and checksums.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, HeloKey, HoppingHelo, HostMark, Neighbour,
    Neighbours, NetworkKey, NetworkMark, Offence, PairRecord, PairTag, Persistence, Record,
    Reputation, Second, Sentence, SentenceLevel, SentenceReason, SentencedClient, Strike,
    Timestamp, TrustKey, TrustRecord, TupleKey,
};
use crate::store::kept::{Kept, KeptOf};
use crate::store::pardons::Pardon;

/// One thing remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A client address: its strikes and AUTH.
    Client(ClientKey, ClientRecord),
    /// A message that was read.
    Content(Fingerprint, ContentRecord),
    /// What was remembered and is no more: a journal's word, which no snapshot has.
    Gone(Gone),
    /// A HELO argument caught at relay hopping.
    Helo(HeloKey, HoppingHelo),
    /// Addresses in clear.
    Kept(KeptOf, Kept),
    /// The struck hosts of a network.
    Neighbours(ClientKey, Neighbours),
    /// A reverse-path and recipient of which mail is pending.
    Pair(PairTag, PairRecord),
    /// That a client was forgiven.
    Pardon(Pardon),
    /// What is said of a client network.
    Reputation(NetworkKey, Reputation),
    /// A sentence.
    Sentence(Sentence),
    /// What a sender has earned.
    Trust(TrustKey, TrustRecord),
    /// A tuple.
    Tuple(TupleKey, Record),
    /// A row of a kind, or with a code, that a newer greygate wrote.
    Unknown,
}

/// What is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A client address.
    Client(ClientKey),
    /// A message that was read.
    Content(Fingerprint),
    /// A HELO argument.
    Helo(HeloKey),
    /// Addresses in clear, though not what they belong to.
    Kept(KeptOf),
    /// The struck hosts of a network.
    Neighbours(ClientKey),
    /// A reverse-path and recipient.
    Pair(PairTag),
    /// What was said of a client network.
    Reputation(NetworkKey),
    /// A sentence.
    Sentence(SentencedClient),
    /// What a sender had earned.
    Trust(TrustKey),
    /// A tuple.
    Tuple(TupleKey),
}

impl Row {
    /// The letter of its kind; [`None`] if that is not known.
    pub(super) const fn kind(&self) -> Option<u8> {
        Some(match self {
            Self::Client(..) => CLIENT,
            Self::Content(..) => CONTENT,
            Self::Gone(_) => GONE,
            Self::Helo(..) => HELO,
            Self::Kept(..) => KEPT,
            Self::Neighbours(..) => NEIGHBOURS,
            Self::Pair(..) => PAIR,
            Self::Pardon(_) => PARDON,
            Self::Reputation(..) => REPUTATION,
            Self::Sentence(_) => SENTENCE,
            Self::Trust(..) => TRUST,
            Self::Tuple(..) => TUPLE,
            Self::Unknown => return None,
        })
    }
}

/// Appends the row to `to`.
pub(super) fn encode(row: &Row, to: &mut Vec<u8>) {
    match row {
        Row::Tuple(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.first_seen.as_millis().to_le_bytes());
            to.extend_from_slice(&record.last_seen.as_millis().to_le_bytes());
            let passed = Timestamp::from(record.passed);
            to.extend_from_slice(&passed.as_millis().to_le_bytes());
            to.extend_from_slice(&record.attempts.to_le_bytes());
            to.extend_from_slice(&record.passes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            to.extend_from_slice(&record.run_attempts.to_le_bytes());
            let span = u32::from(record.run_span) * SPAN_UNIT;
            to.extend_from_slice(&span.to_le_bytes());
            to.extend_from_slice(&record.run_evidence.to_le_bytes());
            to.extend_from_slice(&u32::from(record.run_host.to_bits()).to_le_bytes());
            to.extend_from_slice(&record.extra.to_le_bytes());
            to.extend_from_slice(&record.round.to_le_bytes());
        }
        Row::Trust(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.counted.as_millis().to_le_bytes());
            to.extend_from_slice(&record.last_used.as_millis().to_le_bytes());
            to.extend_from_slice(&record.passes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            to.push(record.by_content.into());
        }
        Row::Sentence(sentence) => encode_sentence(sentence, to),
        Row::Client(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.authenticated.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.strikes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            for strike in record.latest {
                let (at, code) = strike.map_or((0, 0), |strike| {
                    (strike.at.as_seconds(), code_of(strike.offence))
                });
                to.extend_from_slice(&at.to_le_bytes());
                to.push(code);
            }
            to.extend_from_slice(&record.felt.to_le_bytes());
        }
        Row::Neighbours(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            for neighbour in record.hosts {
                to.extend_from_slice(&neighbour.struck.as_seconds().to_le_bytes());
                to.extend_from_slice(&neighbour.host.to_bits().to_le_bytes());
            }
        }
        Row::Reputation(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.recipients.to_le_bytes());
            to.extend_from_slice(&record.recipients_today.to_le_bytes());
            to.extend_from_slice(&record.bad_today.to_le_bytes());
            to.extend_from_slice(&record.good.to_le_bytes());
            to.extend_from_slice(&record.bad.to_le_bytes());
            to.extend_from_slice(&record.updated.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.since.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.day.to_le_bytes());
            to.extend_from_slice(&[record.good_days, record.life]);
            to.extend_from_slice(&record.ham.to_le_bytes());
            to.extend_from_slice(&record.spam.to_le_bytes());
            to.extend_from_slice(&record.struck_day.to_le_bytes());
            to.extend_from_slice(&record.refused_day.to_le_bytes());
        }
        Row::Helo(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.since.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.latest.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.times.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
        }
        Row::Content(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.first_seen.as_millis().to_le_bytes());
            to.extend_from_slice(&record.last_seen.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.passed.as_seconds().to_le_bytes());
            to.extend_from_slice(&record.attempts.to_le_bytes());
            to.extend_from_slice(&record.passes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            to.extend_from_slice(&record.network.to_bits().to_le_bytes());
        }
        Row::Pair(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.first_seen.as_seconds().to_le_bytes());
            to.extend_from_slice(&[record.network, record.contacts, record.minute, record.life]);
        }
        Row::Kept(of, kept) => {
            encode_owner(*of, to);
            to.extend_from_slice(kept.as_bytes());
        }
        Row::Pardon(pardon) => {
            encode_sentenced(pardon.client, to);
            to.extend_from_slice(&pardon.lifted.as_millis().to_le_bytes());
        }
        Row::Gone(gone) => encode_gone(gone, to),
        Row::Unknown => {}
    }
}

/// The kind of what is gone, and its key.
fn encode_gone(gone: &Gone, to: &mut Vec<u8>) {
    let mut keyed = |kind, key: &[u8]| {
        to.push(kind);
        to.extend_from_slice(key);
    };
    match gone {
        Gone::Client(key) => keyed(CLIENT, &key.to_bytes()),
        Gone::Content(key) => keyed(CONTENT, &key.to_bytes()),
        Gone::Helo(key) => keyed(HELO, &key.to_bytes()),
        Gone::Kept(of) => {
            to.push(KEPT);
            encode_owner(*of, to);
        }
        Gone::Neighbours(key) => keyed(NEIGHBOURS, &key.to_bytes()),
        Gone::Pair(key) => keyed(PAIR, &key.to_bytes()),
        Gone::Reputation(key) => keyed(REPUTATION, &key.to_bytes()),
        Gone::Sentence(client) => {
            to.push(SENTENCE);
            encode_sentenced(*client, to);
        }
        Gone::Trust(key) => keyed(TRUST, &key.to_bytes()),
        Gone::Tuple(key) => keyed(TUPLE, &key.to_bytes()),
    }
}

fn encode_owner(of: KeptOf, to: &mut Vec<u8>) {
    let (letter, key) = match of {
        KeptOf::Client(key) => (CLIENT, key.to_bytes()),
        KeptOf::Trust(key) => (TRUST, key.to_bytes()),
        KeptOf::Tuple(key) => (TUPLE, key.to_bytes()),
    };
    to.push(letter);
    to.extend_from_slice(&key);
}

fn encode_sentenced(client: SentencedClient, to: &mut Vec<u8>) {
    let network = client.network();
    let address = match network.addr() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    to.extend_from_slice(&address.octets());
    to.push(network.prefix_len());
}

fn encode_sentence(sentence: &Sentence, to: &mut Vec<u8>) {
    encode_sentenced(sentence.client, to);
    to.push(match sentence.level {
        SentenceLevel::Observe => b'o',
        SentenceLevel::Rate => b'r',
        SentenceLevel::Block => b'b',
    });
    to.push(match sentence.reason {
        SentenceReason::Operator => b'o',
        SentenceReason::Neighbours => b'n',
        SentenceReason::Offence(offence) => code_of(offence),
    });
    to.extend_from_slice(&sentence.since.as_millis().to_le_bytes());
    to.extend_from_slice(&sentence.until.as_millis().to_le_bytes());
    to.extend_from_slice(&sentence.persistence.drops.to_le_bytes());
    to.extend_from_slice(&sentence.persistence.counter.to_le_bytes());
    to.push(sentence.persistence.lengthened.into());
    to.extend_from_slice(&sentence.persistence.observed.to_le_bytes());
}

/// The row of the given kind; [`None`] if it is too short to have a meaning.
pub(in crate::store) fn decode(kind: u8, bytes: &[u8]) -> Option<Row> {
    let mut fields = Fields(bytes);
    match kind {
        TUPLE => {
            let key = TupleKey::from_bytes(fields.array()?);
            let first_seen = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
            // Fields are read in the order in which they were appended.
            let record = Record {
                first_seen,
                last_seen: fields.time().max(first_seen),
                passed: Second::from(fields.time()),
                attempts: fields.u16().max(1),
                passes: fields.u16(),
                life: fields.u16().max(1),
                run_attempts: fields.u16(),
                run_span: u16::try_from(fields.u32() / SPAN_UNIT).unwrap_or(u16::MAX),
                run_evidence: fields.u32(),
                run_host: HostMark::from_bits(u16::try_from(fields.u32()).unwrap_or(u16::MAX)),
                extra: fields.u16(),
                round: fields.u16(),
            };
            Some(Row::Tuple(key, record))
        }
        TRUST => {
            let key = TrustKey::from_bytes(fields.array()?);
            let counted = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
            let record = TrustRecord {
                counted,
                last_used: fields.time().max(counted),
                passes: fields.u16().max(1),
                life: fields.u16().max(1),
                by_content: fields.u8() != 0,
            };
            Some(Row::Trust(key, record))
        }
        SENTENCE => decode_sentence(&mut fields),
        CLIENT => {
            let key = ClientKey::from_bytes(fields.array()?);
            let authenticated = Second::from_seconds(u32::from_le_bytes(fields.array()?));
            let record = ClientRecord {
                authenticated,
                strikes: fields.u16(),
                life: fields.u16().max(1),
                latest: std::array::from_fn(|_| {
                    let at = fields.second();
                    offence_of(fields.u8()).map(|offence| Strike { at, offence })
                }),
                felt: fields.u16(),
            };
            Some(Row::Client(key, record))
        }
        NEIGHBOURS => {
            let key = ClientKey::from_bytes(fields.array()?);
            let record = Neighbours {
                life: u16::from_le_bytes(fields.array()?).max(1),
                hosts: std::array::from_fn(|_| Neighbour {
                    struck: fields.second(),
                    host: HostMark::from_bits(fields.u16()),
                }),
            };
            Some(Row::Neighbours(key, record))
        }
        REPUTATION => {
            let key = NetworkKey::from_bytes(fields.array()?);
            let record = Reputation {
                recipients: u64::from_le_bytes(fields.array()?),
                recipients_today: fields.u64(),
                bad_today: fields.u64(),
                good: fields.u32(),
                bad: fields.u32(),
                updated: fields.second(),
                since: fields.second(),
                day: fields.u16(),
                good_days: fields.u8(),
                life: fields.u8().max(1),
                ham: fields.u32(),
                spam: fields.u32(),
                struck_day: fields.u16(),
                refused_day: fields.u16(),
            };
            Some(Row::Reputation(key, record))
        }
        HELO => {
            let key = HeloKey::from_bytes(fields.array()?);
            let since = Second::from_seconds(u32::from_le_bytes(fields.array()?));
            let record = HoppingHelo {
                since,
                latest: fields.second().max(since),
                times: fields.u16().max(1),
                life: fields.u16().max(1),
            };
            Some(Row::Helo(key, record))
        }
        CONTENT => decode_content(&mut fields),
        GONE => decode_gone(&mut fields),
        KEPT => decode_kept(&mut fields),
        PAIR => decode_pair(&mut fields),
        PARDON => decode_pardon(&mut fields),
        _ => Some(Row::Unknown),
    }
}

/// The letter that an offence is written as.
const fn code_of(offence: Offence) -> u8 {
    match offence {
        Offence::RapidRetries => b'r',
        Offence::RelayHopping => b'h',
        Offence::RejectedRetries => b'f',
        Offence::RejectedRecipients => b'u',
    }
}

/// The offence that was written as `code`; [`None`] for one that a newer greygate knows.
fn offence_of(code: u8) -> Option<Offence> {
    Offence::ALL.into_iter().find(|it| code_of(*it) == code)
}

fn decode_content(fields: &mut Fields<'_>) -> Option<Row> {
    let key = Fingerprint::from_bytes(fields.array()?);
    let first_seen = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    let record = ContentRecord {
        first_seen,
        last_seen: fields.second().max(first_seen.into()),
        passed: fields.second(),
        attempts: fields.u16().max(1),
        passes: fields.u16(),
        life: fields.u16().max(1),
        network: NetworkMark::from_bits(fields.u16()),
    };
    Some(Row::Content(key, record))
}

/// Addresses whose record is of a kind that a newer greygate knows are nobody's.
fn decode_kept(fields: &mut Fields<'_>) -> Option<Row> {
    let [letter] = fields.array()?;
    let key = fields.array()?;
    let kept = Kept::from_bytes(fields.0)?;
    Some(owner(letter, key).map_or(Row::Unknown, |of| Row::Kept(of, kept)))
}

/// Whose addresses they are, if that is known here.
fn owner(letter: u8, key: [u8; 16]) -> Option<KeptOf> {
    Some(match letter {
        CLIENT => KeptOf::Client(ClientKey::from_bytes(key)),
        TRUST => KeptOf::Trust(TrustKey::from_bytes(key)),
        TUPLE => KeptOf::Tuple(TupleKey::from_bytes(key)),
        _ => return None,
    })
}

fn decode_gone(fields: &mut Fields<'_>) -> Option<Row> {
    let [kind] = fields.array()?;
    let gone = match kind {
        CLIENT => Gone::Client(ClientKey::from_bytes(fields.array()?)),
        CONTENT => Gone::Content(Fingerprint::from_bytes(fields.array()?)),
        HELO => Gone::Helo(HeloKey::from_bytes(fields.array()?)),
        KEPT => {
            let [letter] = fields.array()?;
            match owner(letter, fields.array()?) {
                Some(of) => Gone::Kept(of),
                None => return Some(Row::Unknown),
            }
        }
        NEIGHBOURS => Gone::Neighbours(ClientKey::from_bytes(fields.array()?)),
        PAIR => Gone::Pair(PairTag::from_bytes(fields.array()?)),
        REPUTATION => Gone::Reputation(NetworkKey::from_bytes(fields.array()?)),
        SENTENCE => {
            let [address, prefix] = [fields.take(16)?, fields.take(1)?];
            match sentenced(address.try_into().ok()?, prefix[0]) {
                Some(client) => Gone::Sentence(client),
                None => return Some(Row::Unknown),
            }
        }
        TRUST => Gone::Trust(TrustKey::from_bytes(fields.array()?)),
        TUPLE => Gone::Tuple(TupleKey::from_bytes(fields.array()?)),
        _ => return Some(Row::Unknown),
    };
    Some(Row::Gone(gone))
}

/// The client of a sentence. A network of another size cannot be expressed, and nobody is punished on a
/// guess.
fn sentenced(address: [u8; 16], prefix: u8) -> Option<SentencedClient> {
    let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
    let network = IpNet::new(address, prefix).ok()?;
    SentencedClient::try_from(network).ok()
}

fn decode_pair(fields: &mut Fields<'_>) -> Option<Row> {
    let key = PairTag::from_bytes(fields.array()?);
    let record = PairRecord {
        first_seen: Second::from_seconds(u32::from_le_bytes(fields.array()?)),
        network: fields.u8(),
        contacts: fields.u8(),
        minute: fields.u8(),
        life: fields.u8().max(1),
    };
    Some(Row::Pair(key, record))
}

fn decode_pardon(fields: &mut Fields<'_>) -> Option<Row> {
    let address = fields.array()?;
    let [prefix] = fields.array()?;
    let lifted = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    Some(sentenced(address, prefix).map_or(Row::Unknown, |client| {
        Row::Pardon(Pardon { client, lifted })
    }))
}

fn decode_sentence(fields: &mut Fields<'_>) -> Option<Row> {
    let address = fields.array()?;
    let [prefix, level, reason] = fields.array()?;
    let since = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    let until = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    let persistence = Persistence {
        drops: fields.u64(),
        counter: fields.u64(),
        lengthened: fields.u8() != 0,
        observed: fields.u64(),
    };
    let level = match level {
        b'o' => SentenceLevel::Observe,
        b'r' => SentenceLevel::Rate,
        b'b' => SentenceLevel::Block,
        _ => return Some(Row::Unknown),
    };
    let reason = match reason {
        b'o' => SentenceReason::Operator,
        b'n' => SentenceReason::Neighbours,
        code => match offence_of(code) {
            Some(offence) => SentenceReason::Offence(offence),
            None => return Some(Row::Unknown),
        },
    };
    let Some(client) = sentenced(address, prefix) else {
        return Some(Row::Unknown);
    };
    Some(Row::Sentence(Sentence {
        client,
        level,
        reason,
        since,
        until,
        persistence,
    }))
}

/// The fields of a row, in order; those beyond its end are zero, as if they had been written
/// before the field existed.
pub(in crate::store) struct Fields<'a>(pub(in crate::store) &'a [u8]);

impl<'a> Fields<'a> {
    pub(in crate::store) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(in crate::store) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(in crate::store) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array().unwrap_or_default())
    }

    pub(in crate::store) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array().unwrap_or_default())
    }

    pub(in crate::store) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array().unwrap_or_default())
    }

    pub(in crate::store) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array().unwrap_or_default())
    }

    fn second(&mut self) -> Second {
        Second::from_seconds(self.u32())
    }

    pub(in crate::store) fn time(&mut self) -> Timestamp {
        Timestamp::from_millis(self.u64())
    }
}

/// Milliseconds that a record's span is counted in.
const SPAN_UNIT: u32 = 100;

pub(super) const CLIENT: u8 = b'C';
pub(super) const CONTENT: u8 = b'M';
pub(super) const GONE: u8 = b'G';
pub(super) const HELO: u8 = b'H';
pub(super) const KEPT: u8 = b'A';
pub(super) const NEIGHBOURS: u8 = b'N';
pub(super) const PAIR: u8 = b'Q';
pub(super) const PARDON: u8 = b'F';
pub(super) const REPUTATION: u8 = b'P';
pub(super) const SENTENCE: u8 = b'S';
pub(super) const TRUST: u8 = b'R';
pub(super) const TUPLE: u8 = b'T';
