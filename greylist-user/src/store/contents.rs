//! The fingerprints of messages that were read, and the room they may take.
//!
//! Strangers choose how many messages they send, so a network has a bounded share of the room, the
//! smaller the fuller the table is: those who hold much of it find no more room first, and a
//! network that holds nothing finds some nearly to the end. Shares are counted by mark, so two
//! networks in 65,536 have one in common, and nobody can choose with whom.
//!
//! What a message deserves that comes again is `policy`'s word. Where there is no room, content says
//! nothing and the envelope decides alone: mail passes, later.

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
    /// Fingerprints held, by the share that they are taken from. Each is counted in the lock of its
    /// entry, once: the sum is what the table holds.
    shares: Box<[AtomicU32]>,
    /// Most of them while there is room.
    share: u32,
    /// Fingerprints that lapsed before their message passed.
    given_up: Counter,
}

/// Which pass of its message one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassOrder {
    /// The first of all that are remembered: proof that somebody queues.
    First,
    /// The first of a later life: the same was sent before, to pass or to be given up.
    Later,
    /// One more of the same life, or of a message that is not remembered.
    Again,
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
        let known = self.by_message.alter(&fingerprint, |record| {
            let standing = record.standing(policy, now);
            let next = ContentRecord::read(Some(record), policy, network, now);
            // Who begins a new life of it has it from then on.
            if next.network != record.network {
                self.take(next.network)?;
                self.give_back(record.network);
            }
            if standing == ContentStanding::Lapsed {
                self.note_lapsed(record);
            }
            *record = next;
            Ok(standing)
        });
        if let Some(known) = known {
            return known;
        }
        if self.by_message.len() >= self.by_message.capacity() {
            return Err(NoRoom::Full);
        }
        self.take(network)?;
        let entered = self.by_message.update(fingerprint, |prior| {
            let standing = prior.map_or(ContentStanding::Lapsed, |it| it.standing(policy, now));
            let next = ContentRecord::read(prior, policy, network, now);
            if let Some(prior) = prior {
                // Somebody else was first: of what was taken for it and for this, one is too much.
                let spare = if next.network == network {
                    prior.network
                } else {
                    network
                };
                self.give_back(spare);
                if standing == ContentStanding::Lapsed {
                    self.note_lapsed(prior);
                }
            }
            (next, standing)
        });
        entered.map_err(|_full| {
            self.give_back(network);
            NoRoom::Full
        })
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

    /// Notes that a message passes.
    pub(super) fn note_pass(&self, fingerprint: &Fingerprint, now: Timestamp) -> PassOrder {
        let noted = self.by_message.alter(fingerprint, |record| {
            let was_pending = record.passed == Second::NEVER;
            match (was_pending, record.note_pass(now)) {
                (_, true) => PassOrder::First,
                (true, false) => PassOrder::Later,
                (false, false) => PassOrder::Again,
            }
        });
        noted.unwrap_or(PassOrder::Again)
    }

    /// Takes back a message from a snapshot, whatever its network holds. Returns whether there was
    /// room.
    pub(super) fn restore(&self, fingerprint: Fingerprint, record: ContentRecord) -> bool {
        let restored = self.by_message.update(fingerprint, |prior| {
            let next = prior.map_or(record, |prior| record.merge(*prior));
            if let Some(prior) = prior {
                self.give_back(prior.network);
            }
            self.share_of(next.network).fetch_add(1, Ordering::Relaxed);
            (next, ())
        });
        restored.is_ok()
    }

    /// Puts `record` in the place of what was held. Returns whether there was room.
    pub(super) fn put(&self, fingerprint: Fingerprint, record: ContentRecord) -> bool {
        self.forget(&fingerprint);
        self.restore(fingerprint, record)
    }

    /// Forgets a message. Says whether it was remembered.
    pub(super) fn forget(&self, fingerprint: &Fingerprint) -> bool {
        let forgotten = self.by_message.take(fingerprint);
        if let Some(record) = &forgotten {
            self.give_back(record.network);
        }
        forgotten.is_some()
    }

    /// Sweeps aisle `number`.
    pub(super) fn sweep_aisle(&self, number: usize, policy: &Policy, now: Timestamp) -> Walked {
        self.retain_in_aisle(number, |record| {
            let has_lapsed = record.has_lapsed(policy, now);
            if has_lapsed {
                self.note_lapsed(record);
            }
            !has_lapsed
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for number in 0..self.by_message.aisles() {
            self.retain_in_aisle(number, |_| false);
        }
    }

    fn retain_in_aisle(&self, number: usize, keep: impl Fn(&ContentRecord) -> bool) -> Walked {
        self.by_message.retain_in_aisle(number, |record| {
            let kept = keep(record);
            if !kept {
                self.give_back(record.network);
            }
            kept
        })
    }

    /// Takes room for one message of the network's share.
    fn take(&self, network: NetworkMark) -> Result<(), NoRoom> {
        let share = self.share_now();
        let one_more = |held: u32| (held < share).then(|| held.saturating_add(1));
        self.share_of(network)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(drop)
            .map_err(|_held| NoRoom::Share)
    }

    /// Gives back the room of one message.
    fn give_back(&self, network: NetworkMark) {
        let before = self.share_of(network).fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "what is given back was taken");
    }

    /// Most messages that one network may have now: its share until the table is half full, then
    /// the less the fuller it is, but one at least, unless its share is none. So a flood from a
    /// hundred networks comes to rest before the table is full.
    fn share_now(&self) -> u32 {
        let capacity = self.by_message.capacity() as u64;
        let free = capacity.saturating_sub(self.by_message.len() as u64);
        let share = u64::from(self.share) * (2 * free).min(capacity) / capacity.max(1);
        u32::try_from(share)
            .unwrap_or(self.share)
            .max(self.share.min(1))
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

#[cfg(test)]
mod tests;
