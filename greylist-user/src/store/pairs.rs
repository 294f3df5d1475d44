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

    /// An empty table for `capacity` pairs, which grows as they come.
    pub(super) fn growing(capacity: usize) -> Self {
        Self {
            by_tag: Table::growing(capacity),
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
            after_contact(prior, policy, network, is_new, now)
        });
        if noted.is_err() {
            metrics.pairs_unrecorded.inc();
        }
        noted.unwrap_or(false)
    }

    /// Notes the attempt if the pair is known already. Says whether it was a roaming retry.
    pub(super) fn note_known(
        &self,
        policy: &Policy,
        tag: PairTag,
        network: NetworkMark,
        is_new: bool,
        now: Timestamp,
    ) -> bool {
        let noted = self.by_tag.alter(&tag, |record| {
            let (next, roamed) = after_contact(Some(record), policy, network, is_new, now);
            *record = next;
            roamed
        });
        noted.unwrap_or(false)
    }

    /// What is known of a pair; it may have lapsed.
    pub(super) fn get(&self, tag: PairTag) -> Option<PairRecord> {
        self.by_tag.get(&tag)
    }

    /// Mail of the pair passed for its content: it is a pool's, and begins anew.
    pub(super) fn begin_anew(&self, tag: PairTag, now: Timestamp) {
        self.by_tag
            .alter(&tag, |record| *record = record.begun_anew(now));
    }

    /// Mail of the pair passed for its tuple. If one of a pool's addresses came again, the others are
    /// not to begin from the beginning.
    pub(super) fn end(&self, policy: &Policy, tag: PairTag, now: Timestamp) {
        let Some(record) = self.get(tag) else {
            return;
        };
        if record.is_of_several(policy, now) {
            self.begin_anew(tag, now);
        } else {
            self.by_tag.take(&tag);
        }
    }
}

/// The record after an attempt from `network` that did not pass, and whether that was a roaming retry.
fn after_contact(
    prior: Option<&PairRecord>,
    policy: &Policy,
    network: NetworkMark,
    is_new: bool,
    now: Timestamp,
) -> (PairRecord, bool) {
    let roamed = prior.is_some_and(|it| it.roams(policy, network, is_new, now));
    let next = PairRecord::contacted(prior, policy, network, now);
    (if roamed { next.roamed() } else { next }, roamed)
}
