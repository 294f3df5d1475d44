//! One record as a line of JSON, for every kind that the store keeps and for what others kept.
//!
//! Fields are those of the records, times milliseconds or, where a record has no more, seconds since the
//! Unix epoch (`…_s`); keys are hexadecimal digits. Fields are added, never renamed; a reader gives what
//! a line lacks its default.

mod addresses;
mod parts;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, Foreign, HeloKey, HoppingHelo, HostMark,
    Neighbours, NetworkMark, Offence, PairRecord, PairTag, Persistence, Record, Second, Sentence,
    SentenceReason, SentencedClient, Timestamp, TrustKey, TrustRecord, TupleKey,
};
use crate::store::Arrival;
use crate::store::codec::Row;
use addresses::AddressesItem;

pub use parts::InvalidItem;
use parts::{NeighbourItem, ReputationItem, StrikeItem, bytes, hex, invalid};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the records")]
pub enum Item {
    /// The addresses of a record, in clear.
    Addresses(Box<AddressesItem>),
    /// A client address: its strikes and AUTH.
    Client {
        key: String,
        authenticated_s: u32,
        strikes: u16,
        life: u16,
        /// The latest strikes, each with its place.
        latest: Vec<Option<StrikeItem>>,
        #[serde(default)]
        felt: u16,
    },
    /// A message that was read.
    Content {
        key: String,
        first_seen: u64,
        last_seen_s: u32,
        passed_s: u32,
        attempts: u16,
        passes: u16,
        life: u16,
        network: u16,
    },
    /// What another greylister kept of a client it trusted with everything.
    ForeignClient { client: IpNet, last_used: u64 },
    /// What another greylister kept of a client it trusted with a domain.
    ForeignDomain {
        client: IpNet,
        domain: String,
        last_used: u64,
    },
    /// What another greylister kept of a sender it trusted.
    ForeignSender {
        client: IpNet,
        sender: String,
        last_used: u64,
    },
    /// What another greylister kept of a tuple.
    ForeignTuple {
        client: IpNet,
        sender: String,
        recipient: String,
        first_seen: u64,
        last_seen: u64,
        passed: bool,
    },
    /// A HELO argument caught at relay hopping.
    Helo {
        key: String,
        since_s: u32,
        latest_s: u32,
        times: u16,
        life: u16,
    },
    /// The struck hosts of a network.
    Neighbours {
        key: String,
        life: u16,
        hosts: Vec<NeighbourItem>,
    },
    /// A reverse-path and recipient of which mail is pending.
    Pair {
        key: String,
        first_seen_s: u32,
        network: u8,
        contacts: u8,
        minute: u8,
        life: u8,
    },
    /// What is said of a client network.
    Reputation(Box<ReputationItem>),
    /// A sentence.
    Sentence {
        client: IpNet,
        level: String,
        reason: String,
        since: u64,
        until: u64,
        #[serde(default)]
        drops: u64,
        #[serde(default)]
        lengthened: bool,
        #[serde(default)]
        observed: u64,
    },
    /// What a sender has earned.
    Trust {
        key: String,
        counted: u64,
        last_used: u64,
        passes: u16,
        life: u16,
        #[serde(default)]
        by_content: bool,
    },
    /// A tuple.
    Tuple {
        key: String,
        first_seen: u64,
        last_seen: u64,
        passed_s: u32,
        attempts: u16,
        passes: u16,
        life: u16,
        #[serde(default)]
        run_attempts: u16,
        #[serde(default)]
        run_span: u16,
        #[serde(default)]
        run_evidence: u32,
        #[serde(default)]
        run_host: u16,
        #[serde(default)]
        extra: u16,
        #[serde(default)]
        round: u16,
    },
}

/// The kinds of records that an export can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Addresses in clear, where they are kept.
    Addresses,
    /// Strikes and AUTH of clients.
    Client,
    /// Fingerprints of messages.
    Content,
    /// HELO arguments caught at relay hopping.
    Helo,
    /// Struck hosts of networks.
    Neighbours,
    /// Senders and recipients with pending mail.
    Pair,
    /// What is said of client networks.
    Reputation,
    /// Sentences.
    Sentence,
    /// Earned trust.
    Trust,
    /// Tuples.
    Tuple,
}

impl Item {
    /// The record as a line; [`None`] of one that this greygate does not know.
    pub fn of(row: &Row) -> Option<Self> {
        Some(match row {
            Row::Client(key, it) => Self::Client {
                key: hex(&key.to_bytes()),
                authenticated_s: it.authenticated.as_seconds(),
                strikes: it.strikes,
                life: it.life,
                latest: it.latest.iter().map(|it| it.map(StrikeItem::of)).collect(),
                felt: it.felt,
            },
            Row::Content(key, it) => Self::Content {
                key: hex(&key.to_bytes()),
                first_seen: it.first_seen.as_millis(),
                last_seen_s: it.last_seen.as_seconds(),
                passed_s: it.passed.as_seconds(),
                attempts: it.attempts,
                passes: it.passes,
                life: it.life,
                network: it.network.to_bits(),
            },
            Row::Helo(key, it) => Self::Helo {
                key: hex(&key.to_bytes()),
                since_s: it.since.as_seconds(),
                latest_s: it.latest.as_seconds(),
                times: it.times,
                life: it.life,
            },
            Row::Kept(owner, kept) => Self::Addresses(Box::new(AddressesItem::of(*owner, kept))),
            Row::Neighbours(key, it) => Self::Neighbours {
                key: hex(&key.to_bytes()),
                life: it.life,
                hosts: it.hosts.into_iter().map(NeighbourItem::of).collect(),
            },
            Row::Pair(key, it) => Self::Pair {
                key: hex(&key.to_bytes()),
                first_seen_s: it.first_seen.as_seconds(),
                network: it.network,
                contacts: it.contacts,
                minute: it.minute,
                life: it.life,
            },
            Row::Reputation(key, it) => Self::Reputation(Box::new(ReputationItem::of(*key, it))),
            Row::Sentence(it) => Self::Sentence {
                client: it.client.network(),
                level: it.level.as_str().to_owned(),
                reason: it.reason.as_str().to_owned(),
                since: it.since.as_millis(),
                until: it.until.as_millis(),
                drops: it.persistence.drops,
                lengthened: it.persistence.lengthened,
                observed: it.persistence.observed,
            },
            Row::Trust(key, it) => Self::Trust {
                key: hex(&key.to_bytes()),
                counted: it.counted.as_millis(),
                last_used: it.last_used.as_millis(),
                passes: it.passes,
                life: it.life,
                by_content: it.by_content,
            },
            Row::Tuple(key, it) => Self::Tuple {
                key: hex(&key.to_bytes()),
                first_seen: it.first_seen.as_millis(),
                last_seen: it.last_seen.as_millis(),
                passed_s: it.passed.as_seconds(),
                attempts: it.attempts,
                passes: it.passes,
                life: it.life,
                run_attempts: it.run_attempts,
                run_span: it.run_span,
                run_evidence: it.run_evidence,
                run_host: it.run_host.to_bits(),
                extra: it.extra,
                round: it.round,
            },
            // Pardons are for hosts that share.
            Row::Gone(_) | Row::Pardon(_) | Row::Unknown => return None,
        })
    }

    /// Its kind: of what another greylister kept, that of the record it becomes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Addresses(_) => Kind::Addresses,
            Self::Client { .. } => Kind::Client,
            Self::Content { .. } => Kind::Content,
            Self::Helo { .. } => Kind::Helo,
            Self::Neighbours { .. } => Kind::Neighbours,
            Self::Pair { .. } => Kind::Pair,
            Self::Reputation(_) => Kind::Reputation,
            Self::Sentence { .. } => Kind::Sentence,
            Self::Trust { .. }
            | Self::ForeignClient { .. }
            | Self::ForeignDomain { .. }
            | Self::ForeignSender { .. } => Kind::Trust,
            Self::Tuple { .. } | Self::ForeignTuple { .. } => Kind::Tuple,
        }
    }

    /// Whether it has a key that was made with a seed.
    pub fn has_key(&self) -> bool {
        !matches!(
            self,
            Self::Sentence { .. }
                | Self::ForeignClient { .. }
                | Self::ForeignDomain { .. }
                | Self::ForeignSender { .. }
                | Self::ForeignTuple { .. }
        )
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind, field by field"
    )]
    /// What there is to take in; what no record can hold is put right as when a snapshot is read.
    pub fn into_arrival(self) -> Result<Arrival, InvalidItem> {
        let at = Timestamp::from_millis;
        let second = Second::from_seconds;
        let row = match self {
            Self::Addresses(item) => item.into_row()?,
            Self::Client {
                key,
                authenticated_s,
                strikes,
                life,
                latest,
                felt,
            } => {
                let mut latest = latest.into_iter();
                let mut strikes_found = [None; ClientRecord::REMEMBERED];
                for place in &mut strikes_found {
                    let strike = latest.next().flatten();
                    *place = strike.map(StrikeItem::into_strike).transpose()?;
                }
                let record = ClientRecord {
                    authenticated: second(authenticated_s),
                    strikes,
                    life: life.max(1),
                    latest: strikes_found,
                    felt,
                };
                Row::Client(ClientKey::from_bytes(bytes(&key)?), record)
            }
            Self::Content {
                key,
                first_seen,
                last_seen_s,
                passed_s,
                attempts,
                passes,
                life,
                network,
            } => {
                let first_seen = at(first_seen);
                let record = ContentRecord {
                    first_seen,
                    last_seen: second(last_seen_s).max(first_seen.into()),
                    passed: second(passed_s),
                    attempts: attempts.max(1),
                    passes,
                    life: life.max(1),
                    network: NetworkMark::from_bits(network),
                };
                Row::Content(Fingerprint::from_bytes(bytes(&key)?), record)
            }
            Self::Helo {
                key,
                since_s,
                latest_s,
                times,
                life,
            } => {
                let record = HoppingHelo {
                    since: second(since_s),
                    latest: second(latest_s).max(second(since_s)),
                    times: times.max(1),
                    life: life.max(1),
                };
                Row::Helo(HeloKey::from_bytes(bytes(&key)?), record)
            }
            Self::Neighbours { key, life, hosts } => {
                let record = Neighbours {
                    life: life.max(1),
                    hosts: std::array::from_fn(|index| {
                        let none = NeighbourItem::NONE;
                        hosts.get(index).unwrap_or(&none).to_neighbour()
                    }),
                };
                Row::Neighbours(ClientKey::from_bytes(bytes(&key)?), record)
            }
            Self::Pair {
                key,
                first_seen_s,
                network,
                contacts,
                minute,
                life,
            } => {
                let record = PairRecord {
                    first_seen: second(first_seen_s),
                    network,
                    contacts,
                    minute,
                    life: life.max(1),
                };
                Row::Pair(PairTag::from_bytes(bytes(&key)?), record)
            }
            Self::Reputation(it) => it.into_row()?,
            Self::Sentence {
                client,
                level,
                reason,
                since,
                until,
                drops,
                lengthened,
                observed,
            } => Row::Sentence(Sentence {
                client: SentencedClient::try_from(client)
                    .map_err(|_| invalid("client that can be sentenced", client.to_string()))?,
                level: level.parse().map_err(|_| invalid("level", level))?,
                reason: reason_of(&reason).ok_or_else(|| invalid("reason", reason))?,
                since: at(since),
                until: at(until).min(at(since).after(Sentence::LONGEST)),
                persistence: Persistence {
                    drops,
                    // Of the kernel's counter there, which is none of ours.
                    counter: 0,
                    lengthened,
                    observed,
                },
            }),
            Self::Trust {
                key,
                counted,
                last_used,
                passes,
                life,
                by_content,
            } => {
                let record = TrustRecord {
                    counted: at(counted),
                    last_used: at(last_used.max(counted)),
                    passes: passes.max(1),
                    life: life.max(1),
                    by_content,
                };
                Row::Trust(TrustKey::from_bytes(bytes(&key)?), record)
            }
            Self::Tuple {
                key,
                first_seen,
                last_seen,
                passed_s,
                attempts,
                passes,
                life,
                run_attempts,
                run_span,
                run_evidence,
                run_host,
                extra,
                round,
            } => {
                let record = Record {
                    first_seen: at(first_seen),
                    last_seen: at(last_seen.max(first_seen)),
                    passed: second(passed_s),
                    run_evidence,
                    run_host: HostMark::from_bits(run_host),
                    run_span,
                    run_attempts,
                    extra,
                    round,
                    attempts: attempts.max(1),
                    passes,
                    life: life.max(1),
                };
                Row::Tuple(TupleKey::from_bytes(bytes(&key)?), record)
            }
            Self::ForeignClient { .. }
            | Self::ForeignDomain { .. }
            | Self::ForeignSender { .. }
            | Self::ForeignTuple { .. } => return Ok(Arrival::Foreign(self.into_foreign())),
        };
        Ok(Arrival::Kept(row))
    }

    /// Of what another greylister kept only.
    fn into_foreign(self) -> Foreign {
        let at = Timestamp::from_millis;
        match self {
            Self::ForeignClient { client, last_used } => Foreign::Client {
                client,
                last_used: at(last_used),
            },
            Self::ForeignDomain {
                client,
                domain,
                last_used,
            } => Foreign::Domain {
                client,
                domain,
                last_used: at(last_used),
            },
            Self::ForeignSender {
                client,
                sender,
                last_used,
            } => Foreign::Sender {
                client,
                sender,
                last_used: at(last_used),
            },
            Self::ForeignTuple {
                client,
                sender,
                recipient,
                first_seen,
                last_seen,
                passed,
            } => Foreign::Tuple {
                client,
                sender,
                recipient,
                first_seen: at(first_seen),
                last_seen: at(last_seen.max(first_seen)),
                passed,
            },
            kept => unreachable!("{:?} is greygate's own", kept.kind()),
        }
    }
}

fn reason_of(word: &str) -> Option<SentenceReason> {
    let offences = Offence::ALL.into_iter().map(SentenceReason::Offence);
    [SentenceReason::Operator, SentenceReason::Neighbours]
        .into_iter()
        .chain(offences)
        .find(|reason| reason.as_str() == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::codec::tests::row;

    proptest! {
        #[test]
        fn record_that_is_written_and_read_again_is_the_same(row in row()) {
            let item = Item::of(&row).expect("it is known");
            let line = serde_json::to_string(&item).expect("plain data");
            let read: Item = serde_json::from_str(&line).expect("what was written");
            prop_assert_eq!(&read, &item);
            let arrived = read.into_arrival().expect("it was a record");
            let without_counter = match row {
                Row::Sentence(mut sentence) => {
                    sentence.persistence.counter = 0;
                    let longest = sentence.since.after(Sentence::LONGEST);
                    sentence.until = sentence.until.min(longest);
                    Row::Sentence(sentence)
                }
                other => other,
            };
            prop_assert_eq!(arrived, Arrival::Kept(without_counter));
        }
    }
}
