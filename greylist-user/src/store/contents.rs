//! The fingerprints of messages that were read, and the room they may take.
//!
//! Knows that a network has a bounded share of that room, so that one flood of messages cannot keep
//! the others out; what a message deserves that comes again is `policy`'s word. Where there is no
//! room, content says nothing and the envelope decides alone: mail passes, later.

use std::sync::atomic::{AtomicU32, Ordering};

use prometheus_client::metrics::counter::Counter;

use crate::policy::{
    ContentRecord, ContentStanding, Fingerprint, NetworkMark, Policy, Second, Timestamp,
};

use super::table::{Table, Walked};

/// The table of fingerprints.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) by_message: Table<Fingerprint, ContentRecord>,
    /// Fingerprints held that each share of the networks began.
    shares: Box<[AtomicU32]>,
    /// Most of them.
    share: u32,
    /// Fingerprints that lapsed before their message passed.
    given_up: Counter,
}

/// Why a message is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// As many are held as may be.
    Full,
    /// The network has its share.
    Share,
}

impl Contents {
    /// An empty table for `capacity` messages, `share` of them from one network. Memory is taken as
    /// it fills.
    pub(super) fn growing(capacity: usize, share: u32, given_up: Counter) -> Self {
        Self {
            by_message: Table::growing(capacity),
            shares: std::iter::repeat_with(AtomicU32::default)
                .take(NetworkMark::COUNT)
                .collect(),
            share,
            given_up,
        }
    }

    /// Notes that a message was read, coming from `network`, and says where its record stood.
    pub(super) fn note_read(
        &self,
        policy: &Policy,
        fingerprint: Fingerprint,
        network: NetworkMark,
        now: Timestamp,
    ) -> Result<ContentStanding, NoRoom> {
        let held = self.share_of(network);
        let has_room = held.load(Ordering::Relaxed) < self.share;
        let known = self.by_message.alter(&fingerprint, |record| {
            let standing = record.standing(policy, now);
            let next = ContentRecord::read(Some(record), policy, network, now);
            // Who begins a new life of it takes the room of it.
            let before = std::mem::replace(record, next);
            (standing, before)
        });
        if let Some((standing, before)) = known {
            if standing == ContentStanding::Lapsed {
                self.note_lapsed(&before);
                if before.network != network {
                    release(self.share_of(before.network));
                    held.fetch_add(1, Ordering::Relaxed);
                }
            }
            return Ok(standing);
        }
        if !has_room {
            return Err(NoRoom::Share);
        }
        let entered = self.by_message.update(fingerprint, |prior| {
            let standing = prior.map_or(ContentStanding::Lapsed, |it| it.standing(policy, now));
            let is_new = prior.is_none();
            let next = ContentRecord::read(prior, policy, network, now);
            (next, (standing, is_new))
        });
        let (standing, is_new) = entered.map_err(|_full| NoRoom::Full)?;
        if is_new {
            held.fetch_add(1, Ordering::Relaxed);
        }
        Ok(standing)
    }

    /// Where the record of a message stands.
    pub(super) fn standing(
        &self,
        policy: &Policy,
        fingerprint: &Fingerprint,
        now: Timestamp,
    ) -> ContentStanding {
        let found = self.by_message.get(fingerprint);
        found.map_or(ContentStanding::Lapsed, |it| it.standing(policy, now))
    }

    /// Notes that a message passes. Says whether it is the first time.
    pub(super) fn note_pass(&self, fingerprint: &Fingerprint, now: Timestamp) -> bool {
        let noted = self.by_message.alter(fingerprint, |it| it.note_pass(now));
        noted.unwrap_or(false)
    }

    /// Takes back a message from a snapshot. Returns whether there was room.
    pub(super) fn restore(&self, fingerprint: Fingerprint, record: ContentRecord) -> bool {
        let restored = self.by_message.update(fingerprint, |prior| match prior {
            None => (record, Some(record.network)),
            Some(prior) => (record.merge(*prior), None),
        });
        if let Ok(Some(network)) = restored {
            self.share_of(network).fetch_add(1, Ordering::Relaxed);
        }
        restored.is_ok()
    }

    /// Sweeps aisle `number`.
    pub(super) fn sweep_aisle(&self, number: usize, policy: &Policy, now: Timestamp) -> Walked {
        self.by_message.retain_in_aisle(number, |record| {
            let has_lapsed = record.has_lapsed(policy, now);
            if has_lapsed {
                self.note_lapsed(record);
                release(self.share_of(record.network));
            }
            !has_lapsed
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.by_message.clear();
        for share in &self.shares {
            share.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a message that never came back, once: its record is removed, or a new life of it begins.
    fn note_lapsed(&self, record: &ContentRecord) {
        if record.passed == Second::NEVER {
            self.given_up.inc();
        }
    }

    fn share_of(&self, network: NetworkMark) -> &AtomicU32 {
        &self.shares[usize::from(network.to_bits())]
    }
}

/// Gives back the room of one message.
fn release(share: &AtomicU32) {
    let taken = |held: u32| held.checked_sub(1);
    let _was_empty = share.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
}
