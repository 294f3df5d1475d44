//! The watch for relay hopping: who used which HELO argument at which recipient in the last seconds,
//! and which HELO arguments were caught. Bounded, whatever strangers send.

use std::net::IpAddr;

use crate::policy::{Attempt, HeloKey, HoppingHelo, Policy, Seed, Timestamp};

use super::table::Table;

/// The tables of the watch.
#[derive(Debug)]
pub(super) struct Hops {
    pub(super) helos: Table<HeloKey, HoppingHelo>,
}

/// What an attempt came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hopped {
    /// The clients that it convicts.
    pub(super) struck: Vec<IpAddr>,
    /// Whether its HELO argument is remembered, and is not its client's own name.
    pub(super) helo_hops: bool,
}

impl Hops {
    /// Empty tables.
    pub(super) fn new() -> Self {
        Self {
            helos: Table::growing(HELOS),
        }
    }

    /// Notes an attempt.
    pub(super) fn note(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Hopped {
        let _ = (policy, seed, attempt, now);
        Hopped::default()
    }
}

/// HELO arguments remembered at once.
const HELOS: usize = 65_536;
