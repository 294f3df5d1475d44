//! The reverse-paths and recipients of which mail is pending, from whatever network.
//!
//! Knows when one begins and ends; what it proves is `policy`'s word. One is held for each pending
//! tuple, or fewer. Where there is no room for one more, a pool of addresses is not known for one,
//! and its tuples wait each for itself.

use crate::policy::{NetworkMark, PairRecord, PairTag, Policy, Timestamp};

use super::Metrics;
use super::table::Table;

/// The table of pairs.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) by_tag: Table<PairTag, PairRecord>,
}

impl Pairs {
    /// An empty table for `capacity` pairs, with room for all of them as the tuples have, so that a
    /// full one is not left half empty by its last growth. What is not used yet is hardly resident.
    pub(super) fn reserved(capacity: usize) -> Self {
        Self {
            by_tag: Table::reserved(capacity),
        }
    }

    /// Notes an attempt from `network` that did not pass; its tuple `is_new` or was known. Says
    /// whether it was a roaming retry.
    pub(super) fn note_contact(
        &self,
        policy: &Policy,
        tag: PairTag,
        network: NetworkMark,
        is_new: bool,
        metrics: &Metrics,
        now: Timestamp,
    ) -> bool {
        let noted = self.by_tag.update(tag, |prior| {
            let roamed = prior.is_some_and(|it| it.roams(policy, network, is_new, now));
            (PairRecord::contacted(prior, policy, network, now), roamed)
        });
        if noted.is_err() {
            metrics.pairs_unrecorded.inc();
        }
        noted.unwrap_or(false)
    }

    /// What is known of a pair; it may have lapsed.
    pub(super) fn get(&self, tag: PairTag) -> Option<PairRecord> {
        self.by_tag.get(&tag)
    }

    /// Mail of the pair passed for its content, from `network`: it is a pool's, and begins anew.
    pub(super) fn begin_anew(&self, tag: PairTag, network: NetworkMark, now: Timestamp) {
        self.by_tag
            .alter(&tag, |record| *record = record.begun_anew(network, now));
    }

    /// Mail of the pair passed for its tuple.
    pub(super) fn end(&self, tag: PairTag) {
        self.by_tag.take(&tag);
    }
}
