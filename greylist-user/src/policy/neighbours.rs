//! What is remembered of a `/24` or `/64` whose hosts hold strikes.
//!
//! One strike is one host's. That a network is to blame is shown by several of its hosts.

use super::client::is_within;
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
            .filter(|it| is_within(policy.punish.forgive_after, it.struck, now))
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
