//! What stands in the engine: the name, the form and the value of each thing that hosts tell.
//!
//! A value is a byte for its layout and then fields of a fixed width, big-endian, so that two of them can
//! be made one without knowing what they mean: bytes compare as numbers do. What is done with each
//! field, the form says, which `lua/merge.lua` reads. What comes of two values is what
//! [`merge`](crate::policy::Record::merge) makes of the two records; a test holds one against the other in a real engine.
//!
//! Only what every node may know is in here. What a kernel counted for a sentence is its node's own, and
//! so are the addresses at which a delivery round tried one host.

mod orders;
mod read;
mod written;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::{
    ClientKey, Entry, Fingerprint, HeloKey, ListOrder, LiveList, NetworkKey, Offence, PairTag,
    SentencedClient, TrustKey, TupleKey,
};
use crate::store::SharedKey;

pub use self::orders::{order_value, read_order};
pub use self::read::read;
pub use self::written::value;

/// What a value is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An entry of a list that orders change.
    Entry(LiveList, Entry),
    /// A record.
    Record(SharedKey),
}

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

impl Subject {
    /// What an order is about.
    pub fn of_order(order: &ListOrder) -> Self {
        Self::Entry(order.list, order.entry.clone())
    }

    /// Whether every host is told of it. The others are asked for when they are missed.
    pub const fn is_told(&self) -> bool {
        match self {
            Self::Entry(..) => true,
            Self::Record(key) => key.is_told(),
        }
    }

    /// Its name in the engine: a letter for its kind, then an entry as it is written, or the key of a record as it
    /// is.
    pub fn name(&self) -> Vec<u8> {
        match self {
            Self::Entry(list, entry) => {
                let mut name = vec![match list {
                    LiveList::Allow => ALLOW,
                    LiveList::Deny => DENY,
                }];
                name.extend_from_slice(entry.to_string().as_bytes());
                name
            }
            Self::Record(key) => self::key(*key),
        }
    }

    /// What a name says; [`None`] if it is a stranger's.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let (letter, entry) = name.split_first()?;
        let list = match *letter {
            ALLOW => LiveList::Allow,
            DENY => LiveList::Deny,
            _ => return read_key(name).map(Self::Record),
        };
        if entry.len() > LONGEST_ENTRY {
            return None;
        }
        let entry = std::str::from_utf8(entry).ok()?.parse().ok()?;
        Some(Self::Entry(list, entry))
    }
}

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

/// What a record's name says; [`None`] if it is none.
fn read_key(name: &[u8]) -> Option<SharedKey> {
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

const ALLOW: u8 = b'A';
const CLIENT: u8 = b'C';
const CONTENT: u8 = b'M';
const DENY: u8 = b'D';
const HELO: u8 = b'H';
const NEIGHBOURS: u8 = b'N';
const PAIR: u8 = b'Q';
const REPUTATION: u8 = b'P';
const SENTENCE: u8 = b'S';
const TRUST: u8 = b'R';
const TUPLE: u8 = b'T';
/// A letter, an address and a prefix.
const LONGEST_KEY: usize = 18;
/// Bytes of an entry as it is written, somewhat more than a command takes.
const LONGEST_ENTRY: usize = 512;
/// Reasons of sentences that are no offences.
const BY_NEIGHBOURS: u8 = 0xf0;
const BY_OPERATOR: u8 = 0xff;
/// For what has lapsed already.
const SHORTEST: Duration = Duration::from_mins(1);
/// Sentences of one client that are kept.
const SENTENCES_KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_differ() {
        let letters = [
            ALLOW, CLIENT, CONTENT, DENY, HELO, NEIGHBOURS, PAIR, REPUTATION, SENTENCE, TRUST,
            TUPLE,
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

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(letter in 0u8.., bytes: Vec<u8>) {
            let mut name = vec![letter];
            name.extend([b'7'; 16]);
            match Subject::of_name(&name) {
                Some(Subject::Record(key)) => drop(read(key, &bytes)),
                Some(Subject::Entry(list, entry)) => drop(read_order(list, entry, &bytes)),
                None => {}
            }
        }

        #[test]
        fn any_name_is_read_or_refused(name: Vec<u8>) {
            if let Some(read) = Subject::of_name(&name) {
                prop_assert_eq!(Subject::of_name(&read.name()), Some(read));
            }
        }
    }
}
