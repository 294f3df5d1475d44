//! What another greylister remembered, and what it is worth here.
//!
//! Another program's records name clients and addresses. Here they become records of the same shape as
//! those that mail makes, under every key that the client's next attempt may look for: its reverse name
//! is not known, so neither is how its address is cut.
//!
//! Nothing here makes a record worse. What an attempt has lapsed begins a new life, and what has not is
//! merged by the record's own rules, so that to hear the same twice is to hear it once.

use ipnet::IpNet;

use super::attempt::{Attempt, Origin, ServerMark};
use super::evidence::Evidence;
use super::network::ClientNetwork;
use super::pair::PairRecord;
use super::record::Record;
use super::rules::{ContentTrust, Policy};
use super::time::{Second, Timestamp};
use super::trust::TrustRecord;
use super::tuple::{PairTag, Seed, TrustKey, TupleKey};

/// One fact that another greylister kept. A client is one address, or the network that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A client that was trusted with all it sent.
    Client {
        /// Who.
        client: IpNet,
        /// When its trust was last used.
        last_used: Timestamp,
    },
    /// A client that was trusted with all it sent for a domain.
    Domain {
        /// Who.
        client: IpNet,
        /// The domain of the reverse-paths.
        domain: String,
        /// When its trust was last used.
        last_used: Timestamp,
    },
    /// A client that was trusted with all it sent for a reverse-path.
    Sender {
        /// Who.
        client: IpNet,
        /// The reverse-path.
        sender: String,
        /// When its trust was last used.
        last_used: Timestamp,
    },
    /// A tuple, pending or passed.
    Tuple {
        /// Who.
        client: IpNet,
        /// The reverse-path; empty is the null one.
        sender: String,
        /// The recipient.
        recipient: String,
        /// The first attempt.
        first_seen: Timestamp,
        /// The latest attempt.
        last_seen: Timestamp,
        /// Whether it passed there.
        passed: bool,
    },
}

/// Why a fact that another greylister kept comes to nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoCounterpart {
    /// Trust in all that a client sends is not given by these rules.
    ClientTrust,
    /// Nor in all it sends for a domain.
    DomainTrust,
    /// No sender is trusted by these rules.
    SenderTrust,
    /// The network is wider than one that clients are told apart by here.
    WideNetwork,
}

impl NoCounterpart {
    /// What to tell the operator.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientTrust => {
                "clients trusted with all they send: only under [content] trust = \"address\", and in a \
                 mode that reads; name them in [lists] allow if they shall pass"
            }
            Self::DomainTrust => {
                "clients trusted with a domain: only single addresses, under [content] trust = \
                 \"domain\", and in a mode that reads"
            }
            Self::SenderTrust => "trusted senders: [greylist] trust_after is 0",
            Self::WideNetwork => {
                "clients of which only a network is known, wider than ipv4_prefix or ipv6_prefix"
            }
        }
    }
}

/// Trust that a fact gives: the record as it would begin, and the keys that it may be looked for by.
pub type GivenTrust = (Vec<TrustKey>, TrustRecord);

impl Foreign {
    /// The keys of its tuple, with what is remembered of its sender and recipient for each.
    pub fn tuples(
        &self,
        policy: &Policy,
        seed: &Seed,
    ) -> Result<Vec<(TupleKey, PairTag, PairRecord)>, NoCounterpart> {
        let Self::Tuple {
            client,
            sender,
            recipient,
            first_seen,
            ..
        } = self
        else {
            return Ok(Vec::new());
        };
        let attempt = attempt(client, sender, recipient);
        let tag = seed.pair_key(&attempt).tag();
        let networks = networks(policy, client)?;
        let of = |network| {
            let mark = seed.network_key(network).mark();
            let pair = PairRecord::begun(1, mark, *first_seen);
            (seed.tuple_key(network, &attempt), tag, pair)
        };
        Ok(networks.into_iter().map(of).collect())
    }

    /// The record of its tuple after it was heard at `now`, `prior` being what is remembered.
    pub fn record(
        &self,
        prior: Option<&Record>,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Record> {
        let Self::Tuple {
            first_seen,
            last_seen,
            passed,
            ..
        } = self
        else {
            return None;
        };
        let held = prior.filter(|it| !it.has_lapsed(policy, now));
        let life = match (prior, held) {
            (_, Some(held)) => held.life,
            (Some(lapsed), None) => lapsed.life.saturating_add(1),
            (None, None) => 1,
        };
        // A clock that was wrong there must not hold mail up here.
        let last_seen = (*last_seen).min(now);
        let heard = Record {
            last_seen,
            passed: if *passed {
                Second::from(last_seen)
            } else {
                Second::NEVER
            },
            attempts: 1 + u16::from(*passed),
            passes: u16::from(*passed),
            ..Record::begun(life, (*first_seen).min(last_seen))
        };
        Some(held.map_or(heard, |held| held.merge(heard)))
    }

    /// The trust that it gives.
    pub fn trust(&self, policy: &Policy, seed: &Seed) -> Result<Option<GivenTrust>, NoCounterpart> {
        let (keys, passes, last_used) = match self {
            Self::Tuple { .. } => return Ok(None),
            Self::Sender {
                client,
                sender,
                last_used,
            } => {
                if policy.trust_after == 0 {
                    return Err(NoCounterpart::SenderTrust);
                }
                let attempt = attempt(client, sender, "");
                let networks = networks(policy, client)?.into_iter();
                let keys = networks.map(|network| seed.trust_key(network, &attempt));
                (keys.collect(), policy.trust_after, *last_used)
            }
            Self::Domain {
                client,
                domain,
                last_used,
            } => {
                let sender = format!("@{domain}");
                let scope = ContentTrust::Domain;
                let key = content_trust(policy, seed, scope, client, &sender);
                let key = key.ok_or(NoCounterpart::DomainTrust)?;
                (vec![key], 1, *last_used)
            }
            Self::Client { client, last_used } => {
                let scope = ContentTrust::Address;
                let key = content_trust(policy, seed, scope, client, "");
                let key = key.ok_or(NoCounterpart::ClientTrust)?;
                (vec![key], 1, *last_used)
            }
        };
        let record = TrustRecord {
            passes,
            ..TrustRecord::begun(1, last_used)
        };
        Ok(Some((keys, record)))
    }
}

/// The record of trust after `heard` was heard at `now`.
#[must_use]
pub fn trust_heard(
    heard: TrustRecord,
    prior: Option<&TrustRecord>,
    policy: &Policy,
    now: Timestamp,
) -> TrustRecord {
    let heard = TrustRecord {
        counted: heard.counted.min(now),
        last_used: heard.last_used.min(now),
        ..heard
    };
    match prior {
        None => heard,
        Some(prior) if prior.has_lapsed(policy, now) => TrustRecord {
            life: prior.life.saturating_add(1),
            ..heard
        },
        Some(prior) => prior.merge(TrustRecord {
            life: prior.life,
            ..heard
        }),
    }
}

/// The networks that the client's next attempt may be told to come from, each once.
fn networks(policy: &Policy, client: &IpNet) -> Result<Vec<ClientNetwork>, NoCounterpart> {
    let known = client.prefix_len();
    let possible = ClientNetwork::possible(policy, client.network());
    let mut networks: Vec<_> = possible
        .into_iter()
        .filter(|network| network.prefix() <= known)
        .collect();
    networks.dedup();
    if networks.is_empty() {
        Err(NoCounterpart::WideNetwork)
    } else {
        Ok(networks)
    }
}

/// The key that content trusts the client by, where these rules do.
fn content_trust(
    policy: &Policy,
    seed: &Seed,
    scope: ContentTrust,
    client: &IpNet,
    sender: &str,
) -> Option<TrustKey> {
    let is_address = client.prefix_len() == client.max_prefix_len();
    let is_given = policy.mode.reads() && policy.content.trust == scope;
    let key = || seed.content_trust_key(scope, &attempt(client, sender, ""));
    (is_address && is_given).then(key).flatten()
}

fn attempt<'a>(client: &IpNet, sender: &'a str, recipient: &'a str) -> Attempt<'a> {
    Attempt {
        evidence: Evidence::default(),
        client: client.network(),
        client_name: b"",
        helo: b"",
        reverse_path: sender.as_bytes(),
        recipient: recipient.as_bytes(),
        announced_size: 0,
        connected: Timestamp::NEVER,
        server: ServerMark::UNKNOWN,
        authenticated: false,
        origin: Origin::AnotherHost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Standing;
    use crate::policy::fixture::ATTEMPT;

    const T0: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn seed() -> Seed {
        Seed::from_bytes(std::array::from_fn(|index| index.to_le_bytes()[0]))
    }

    fn tuple(client: &str, passed: bool) -> Foreign {
        Foreign::Tuple {
            client: client.parse().expect("a network"),
            sender: "Sender@A.Example".to_owned(),
            recipient: "r@b.example".to_owned(),
            first_seen: T0,
            last_seen: T0.after(Duration::from_mins(6)),
            passed,
        }
    }

    #[test]
    fn tuple_is_found_by_the_next_attempt_whatever_its_reverse_name() {
        let policy = Policy::default();
        let keys: Vec<_> = tuple("192.0.2.7/32", false)
            .tuples(&policy, &seed())
            .expect("an address")
            .into_iter()
            .map(|(key, ..)| key)
            .collect();
        for name in ["", "mail.a.example"] {
            let attempt = Attempt {
                client: [192, 0, 2, 7].into(),
                client_name: name.as_bytes(),
                reverse_path: b"Sender@a.example",
                recipient: b"r@b.example",
                ..ATTEMPT
            };
            let network = ClientNetwork::of(&policy, &attempt);
            assert!(
                keys.contains(&seed().tuple_key(network, &attempt)),
                "{name}"
            );
        }
        assert_eq!(keys.len(), 2);
        let of_network = tuple("192.0.2.0/24", false).tuples(&policy, &seed());
        assert_eq!(of_network.expect("it is as wide")[0].0, keys[0]);
        let wide = tuple("192.0.0.0/16", false).tuples(&policy, &seed());
        assert_eq!(wide, Err(NoCounterpart::WideNetwork));
    }

    #[test]
    fn passed_tuple_passes_and_a_pending_one_has_waited_since_it_was_first_seen() {
        let policy = Policy::default();
        let now = T0.after(Duration::from_mins(10));
        let standing = |passed| {
            let record = tuple("192.0.2.7/32", passed).record(None, &policy, now);
            record.expect("it is a tuple").standing(&policy, now)
        };
        assert_eq!(standing(true), Standing::Passed);
        let waited = Duration::from_mins(10);
        assert_eq!(standing(false), Standing::InWindow { waited });
    }

    #[test]
    fn what_is_heard_twice_is_heard_once_and_makes_nothing_worse() {
        let policy = Policy::default();
        let now = T0.after(Duration::from_mins(10));
        let heard = |prior: Option<&Record>, passed| {
            tuple("192.0.2.7/32", passed)
                .record(prior, &policy, now)
                .expect("it is a tuple")
        };
        let once = heard(None, true);
        assert_eq!(heard(Some(&once), true), once);
        assert!(heard(Some(&once), false).has_passed(), "it stays passed");

        let lapsed = Record::begun(3, Timestamp::from_millis(1));
        let anew = heard(Some(&lapsed), false);
        assert_eq!((anew.life, anew.first_seen), (4, T0));
        assert_eq!(heard(Some(&anew), false), anew);

        let later = Record::begun(1, T0.after(Duration::from_mins(5)));
        assert_eq!(
            heard(Some(&later), false).first_seen,
            T0,
            "it has waited longer"
        );
    }

    #[test]
    fn trust_is_given_where_these_rules_give_it() {
        let mut policy = Policy::default();
        let client: IpNet = "192.0.2.7/32".parse().expect("an address");
        let sender = Foreign::Sender {
            client,
            sender: "list@a.example".to_owned(),
            last_used: T0,
        };
        let given = sender.trust(&policy, &seed()).expect("they do");
        let (keys, record) = given.expect("it is trust");
        assert_eq!((keys.len(), record.passes), (2, policy.trust_after));
        let twice = trust_heard(record, Some(&record), &policy, T0);
        assert_eq!(twice, record);

        let domain = |client| Foreign::Domain {
            client,
            domain: "a.example".to_owned(),
            last_used: T0,
        };
        assert!(domain(client).trust(&policy, &seed()).is_ok());
        let network = "192.0.2.0/24".parse().expect("a network");
        let refused = domain(network).trust(&policy, &seed());
        assert_eq!(refused, Err(NoCounterpart::DomainTrust));
        let all = Foreign::Client {
            client,
            last_used: T0,
        };
        assert_eq!(all.trust(&policy, &seed()), Err(NoCounterpart::ClientTrust));
        policy.content.trust = ContentTrust::Address;
        assert!(all.trust(&policy, &seed()).is_ok());
        policy.trust_after = 0;
        assert_eq!(
            sender.trust(&policy, &seed()),
            Err(NoCounterpart::SenderTrust)
        );
    }
}
