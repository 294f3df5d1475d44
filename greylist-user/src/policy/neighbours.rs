//! What is remembered of a `/24` or `/64` whose hosts hold strikes.
//!
//! One strike is one host's. That a network is to blame is shown by several of its hosts.

use super::rules::Policy;
use super::sentence::{Sentence, SentenceReason, SentencedClient};
use super::time::{Second, Timestamp};
use super::tuple::HostMark;

/// The latest hosts of one network that were struck: as many as make a network's sentence.
///
/// Hosts with a good record are not in here. Two hosts of an IPv6 network may have the same mark,
/// and count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// The hosts, the latest struck first.
    pub hosts: [Neighbour; Self::REMEMBERED],
    /// Counts the lives: forgiving begins the next one.
    pub life: u16,
}

/// A struck host of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Its latest strike; [`Second::NEVER`] for nobody.
    pub struck: Second,
    /// Which host of the network it is.
    pub host: HostMark,
}

impl Neighbours {
    /// Hosts remembered.
    pub const REMEMBERED: usize = 4;

    /// With `host` struck at `now`.
    #[must_use]
    pub fn struck(self, host: HostMark, now: Timestamp) -> Self {
        let mut this_one = [Neighbour::default(); Self::REMEMBERED];
        this_one[0] = Neighbour {
            struck: now.into(),
            host,
        };
        Self {
            hosts: newest(self.hosts, this_one),
            ..self
        }
    }

    /// Hosts whose strikes count at `now`.
    pub fn count(&self, policy: &Policy, now: Timestamp) -> usize {
        self.hosts
            .iter()
            .filter(|it| it.struck.is_within(policy.punish.forgive_after, now))
            .count()
    }

    /// What `network` is sentenced to when `strike`, the sentence of one of its hosts, is added to
    /// those in here: the same as the host, if enough hosts hold strikes and none is shielded.
    pub fn sentence(
        &self,
        policy: &Policy,
        network: SentencedClient,
        strike: &Sentence,
    ) -> Option<Sentence> {
        let wanted = usize::from(policy.punish.neighbours).min(Self::REMEMBERED);
        let is_due =
            wanted > 0 && self.count(policy, strike.since) >= wanted && !policy.shields(network);
        is_due.then_some(Sentence {
            client: network,
            reason: SentenceReason::Neighbours,
            ..*strike
        })
    }

    /// With `host` forgiven.
    #[must_use]
    pub fn without(self, host: HostMark) -> Self {
        let mut hosts = self.hosts;
        for it in hosts.iter_mut().filter(|it| it.host == host) {
            *it = Neighbour::default();
        }
        hosts.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            hosts,
            life: self.life.saturating_add(1),
        }
    }

    /// With all hosts forgiven.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self {
            life: self.life.saturating_add(1),
            ..Self::default()
        }
    }

    /// What is known by either of two. The higher life knows the hosts.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match self.life.cmp(&other.life) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => Self {
                hosts: newest(self.hosts, other.hosts),
                life: self.life,
            },
            std::cmp::Ordering::Greater => self,
        }
    }

    /// Whether nothing in here counts any more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.count(policy, now) == 0
    }
}

/// The latest struck of both, each host once.
fn newest(
    one: [Neighbour; Neighbours::REMEMBERED],
    other: [Neighbour; Neighbours::REMEMBERED],
) -> [Neighbour; Neighbours::REMEMBERED] {
    let mut all = [Neighbour::default(); 2 * Neighbours::REMEMBERED];
    all[..Neighbours::REMEMBERED].copy_from_slice(&one);
    all[Neighbours::REMEMBERED..].copy_from_slice(&other);
    all.sort_unstable_by(|a, b| b.cmp(a));
    let mut newest = [Neighbour::default(); Neighbours::REMEMBERED];
    let mut held = 0;
    for neighbour in all {
        let is_known = newest[..held].iter().any(|it| it.host == neighbour.host);
        if neighbour.struck != Second::NEVER && !is_known && held < newest.len() {
            newest[held] = neighbour;
            held += 1;
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::{T0, allowing};
    use crate::policy::{Offence, Persistence, SentenceLevel};

    fn minutes(minutes: u64) -> Timestamp {
        T0.after(Duration::from_mins(minutes))
    }

    fn struck(hosts: impl IntoIterator<Item = u16>) -> Neighbours {
        let hosts = hosts.into_iter().zip(0..);
        hosts.fold(Neighbours::default(), |known, (host, minute)| {
            known.struck(HostMark::from_bits(host), minutes(minute))
        })
    }

    fn sentence(since: Timestamp) -> Sentence {
        Sentence {
            client: SentencedClient::host([192, 0, 2, 4].into()),
            level: SentenceLevel::Rate,
            reason: SentenceReason::Offence(Offence::RelayHopping),
            since,
            until: since.after(Duration::from_mins(30)),
            persistence: Persistence::default(),
        }
    }

    fn network() -> SentencedClient {
        let network: ipnet::IpNet = "192.0.2.0/24".parse().expect("a network");
        network.try_into().expect("it can be sentenced")
    }

    #[test]
    fn four_hosts_make_the_sentence_of_their_network() {
        let policy = Policy::default();
        let host = sentence(minutes(4));
        let given =
            |hosts: &[u16]| struck(hosts.iter().copied()).sentence(&policy, network(), &host);
        assert_eq!(given(&[1, 2, 3]), None);
        assert_eq!(given(&[1, 2, 3, 3, 1, 2]), None, "three hosts");
        let expected = Sentence {
            client: network(),
            reason: SentenceReason::Neighbours,
            ..host
        };
        assert_eq!(given(&[1, 2, 3, 4]), Some(expected));
        assert_eq!(given(&[1, 2, 3, 4, 5, 6]), Some(expected));
    }

    #[test]
    fn policy_says_how_many_and_zero_is_never() {
        let given = |neighbours, hosts| {
            let mut policy = Policy::default();
            policy.punish.neighbours = neighbours;
            struck(0..hosts)
                .sentence(&policy, network(), &sentence(minutes(9)))
                .is_some()
        };
        assert!(!given(2, 1));
        assert!(given(2, 2));
        assert!(!given(0, 9));
        assert!(
            given(200, 4),
            "more than are remembered means as many as are"
        );
    }

    #[test]
    fn network_of_a_shielded_host_is_not_sentenced() {
        let policy = Policy {
            lists: allowing(["192.0.2.250/32"]),
            ..Policy::default()
        };
        assert_eq!(
            struck(0..4).sentence(&policy, network(), &sentence(minutes(4))),
            None
        );
    }

    #[test]
    fn strikes_of_a_month_ago_count_no_more() {
        let policy = Policy::default();
        let known = struck(0..4);
        let month = policy.punish.forgive_after;
        assert_eq!(known.count(&policy, T0.after(month)), 3);
        assert!(!known.has_lapsed(&policy, minutes(2).after(month)));
        assert!(known.has_lapsed(&policy, minutes(3).after(month)));
        assert!(Neighbours::default().has_lapsed(&policy, T0));
    }

    #[test]
    fn forgiven_hosts_count_no_more_and_do_not_come_back_by_a_merge() {
        let policy = Policy::default();
        let known = struck(0..4);
        let one_less = known.without(HostMark::from_bits(2));
        assert_eq!(one_less.count(&policy, minutes(4)), 3);
        assert_eq!(one_less.merge(known), one_less);
        assert_eq!(known.forgiven().count(&policy, minutes(4)), 0);
        assert_eq!(known.merge(known.forgiven()), known.forgiven());
    }

    fn neighbours() -> impl Strategy<Value = Neighbours> {
        let hosts = proptest::collection::vec((0..6_u16, 0..9_u64), 0..5);
        (hosts, 0..3_u16).prop_map(|(hosts, life)| {
            let known = hosts
                .into_iter()
                .fold(Neighbours::default(), |known, (host, minute)| {
                    known.struck(HostMark::from_bits(host), minutes(minute))
                });
            Neighbours { life, ..known }
        })
    }

    proptest! {
        #[test]
        fn merge_is_the_same_in_any_order(a in neighbours(), b in neighbours(), c in neighbours()) {
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        }
    }
}
