//! What is remembered of a `/24` or `/64` whose hosts hold strikes.

use super::rules::Policy;
use super::time::{Second, Timestamp};
use super::tuple::HostMark;

/// The latest hosts of one network that were struck: as many as make a network's sentence.
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

    /// Whether nothing in here counts any more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.hosts
            .iter()
            .all(|it| now.since(it.struck.into()) >= policy.punish.forgive_after)
    }
}
