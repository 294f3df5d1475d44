//! The reputations of client networks, and the watch over tuples that may never be retried.

use crate::policy::{
    Attempt, NetworkKey, PairKey, Policy, Reputation, Repute, Seed, SentencedClient, Timestamp,
};

use super::table::Table;

/// The table of reputations.
#[derive(Debug)]
pub(super) struct Reputations {
    pub(super) by_network: Table<NetworkKey, Reputation>,
}

impl Reputations {
    /// An empty table for `capacity` networks. Memory is taken as it fills.
    pub(super) fn growing(capacity: usize) -> Self {
        Self {
            by_network: Table::growing(capacity),
        }
    }

    /// What is said of the network at `now`.
    pub(super) fn standing(&self, policy: &Policy, key: &NetworkKey, now: Timestamp) -> Repute {
        let found = self
            .by_network
            .alter(key, |record| record.standing(policy, now));
        found.unwrap_or(Repute::Unknown)
    }

    /// Whether the network has passes on record.
    pub(super) fn has_passed(&self, key: &NetworkKey) -> bool {
        let _ = key;
        false
    }

    /// Notes that mail of the network passed: a good count, one for a recipient and day.
    pub(super) fn note_pass(
        &self,
        policy: &Policy,
        key: NetworkKey,
        attempt: &Attempt<'_>,
        seed: &Seed,
        now: Timestamp,
    ) {
        let _ = (policy, key, attempt, seed, now);
    }

    /// Notes that the MTA refused a recipient for good.
    pub(super) fn note_rejected(
        &self,
        policy: &Policy,
        key: NetworkKey,
        attempt: &Attempt<'_>,
        seed: &Seed,
        now: Timestamp,
    ) {
        let _ = (policy, key, attempt, seed, now);
    }

    /// Notes a strike of a client in the network.
    pub(super) fn note_strike(&self, policy: &Policy, key: NetworkKey, now: Timestamp) {
        let _ = (policy, key, now);
    }

    /// Forgets what `client`, an address or the network around it, is reputed for.
    pub(super) fn forgive(&self, seed: &Seed, client: SentencedClient) {
        let _ = (seed, client);
    }

    /// Watches a reverse-path and recipient that the network has begun to try: if they never pass,
    /// from nowhere, that counts against all who tried.
    pub(super) fn watch(&self, policy: &Policy, pair: PairKey, key: NetworkKey, now: Timestamp) {
        let _ = (policy, pair, key, now);
    }

    /// They have passed: that counts for all who tried.
    pub(super) fn settle(
        &self,
        policy: &Policy,
        pair: PairKey,
        attempt: &Attempt<'_>,
        seed: &Seed,
        now: Timestamp,
    ) {
        let _ = (policy, pair, attempt, seed, now);
    }
}
