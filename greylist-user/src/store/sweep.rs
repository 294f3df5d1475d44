//! The sweep: returns the memory of lapsed records, a slice at a time.
//!
//! What has lapsed is `policy`'s word, the same that a look-up goes by; no decision relies on the
//! sweep having been here. A slice looks at a bounded number of records, about a millisecond's
//! work, and locks a shard at a time. While room is short it also takes what never came again for
//! hours, see `shed`. Sentences are swept all at once, but seldom: a million take
//! some 30 ms.
//!
//! Fingerprints are swept by the clock, whether or not mail comes: each of their aisles once an
//! interval, one after the other, so that none that has lapsed is held for longer.

use std::time::Duration;

use crate::policy::{ClientRecord, Record, Timestamp, TrustRecord};

use super::Store;
use super::metrics::Shed;
use super::shed;
use super::table::{Lot, Walked};

/// Returns memory in rounds. The keeper makes one a second; who replays the past makes them by the
/// time of what it replays.
#[derive(Debug)]
pub struct Sweeper {
    trigger: Trigger,
    sweep: Sweep,
    content_sweep: ContentSweep,
}

impl Sweeper {
    /// Percent of a table's capacity below which there is room enough.
    pub(super) const ROOMY: usize = 90;

    /// From here on it may soon come to traces: some time before shares are counted.
    const TRACEABLE: usize = 70;

    /// Sweeps `store`, as its settings say, from `now` on.
    pub fn new(store: &Store, now: Timestamp) -> Self {
        let settings = &store.settings;
        Self {
            trigger: Trigger::new(settings.sweep_messages, settings.sweep_interval, now),
            sweep: Sweep::default(),
            content_sweep: ContentSweep::new(
                store.contents.by_message.aisles(),
                settings.contents_sweep,
                now,
            ),
        }
    }

    /// Sweeps the slices that are due. A store that is nearly full does not wait for its trigger.
    pub fn round(&mut self, store: &Store, now: Timestamp) {
        let due = self.trigger.is_due(store.judged(), now);
        if store.percent_full() >= Self::TRACEABLE {
            store.traces.prepare();
        }
        if due || store.percent_full() >= Self::ROOMY {
            self.sweep.slice(store, now);
        }
        let is_crowded = store.contents_percent_full() >= Self::ROOMY;
        self.content_sweep.slice(store, is_crowded, now);
    }
}

impl Store {
    /// The share of the room for fingerprints that is taken.
    pub(super) fn contents_percent_full(&self) -> usize {
        let contents = &self.contents.by_message;
        percent(contents.len(), contents.capacity())
    }

    /// The share of the room for tuples that is taken.
    pub(super) fn percent_full(&self) -> usize {
        percent(self.tuples.len(), self.tuples.capacity())
    }
}

/// How many percent of `capacity` are `len`.
fn percent(len: usize, capacity: usize) -> usize {
    len.saturating_mul(100) / capacity.max(1)
}

/// Where the sweep stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The next aisle, the tables' counted one after the other.
    next: usize,
    /// When sentences were swept.
    sentences: Timestamp,
}

impl Sweep {
    /// Sweeps the next slice, at most all of the store once.
    pub(super) fn slice(&mut self, store: &Store, now: Timestamp) -> Walked {
        let policy = store.policy.load();
        let policy = &**policy;
        let kept = store.kept.as_ref();
        let pairs = &store.pairs.by_tag;
        let is_short = |len, capacity| percent(len, capacity) >= Sweeper::ROOMY;
        let tuples_short = is_short(store.tuples.len(), store.tuples.capacity());
        let pairs_short = is_short(pairs.len(), pairs.capacity());
        // Of whom a record is does not show in it.
        let longest_delay = policy.longest_delay();
        macro_rules! hall {
            ($table:expr) => {
                Hall {
                    aisles: $table.aisles(),
                    sweep: &|aisle| {
                        $table.retain_in_aisle(aisle, |record| !record.has_lapsed(policy, now))
                    },
                }
            };
            ($table:expr, with $kept:ident, $lot:expr) => {
                Hall {
                    aisles: $table.aisles(),
                    sweep: &|aisle| {
                        let (walked, gone) = $table.sweep_aisle(aisle, $lot);
                        if let Some(kept) = kept {
                            kept.forget(&kept.$kept, &gone);
                        }
                        walked
                    },
                }
            };
        }
        let halls = [
            hall!(store.tuples, with tuples, |record: &Record| {
                if record.has_lapsed(policy, now) {
                    store.metrics.note_lapsed_tuple(policy, record);
                    Lot::Lapsed
                } else if tuples_short && shed::makes_way(record, longest_delay, now) {
                    store.metrics.shed(Shed::Age);
                    Lot::MakesWay
                } else {
                    Lot::Stays
                }
            }),
            hall!(store.trust, with trust, |it: &TrustRecord| {
                Lot::until_it_lapses(it.has_lapsed(policy, now))
            }),
            hall!(store.clients.by_address, with clients, |it: &ClientRecord| {
                Lot::until_it_lapses(it.has_lapsed(policy, now))
            }),
            hall!(store.clients.by_network),
            Hall {
                aisles: store.reputations.aisles(),
                sweep: &|aisle| store.reputations.sweep_aisle(aisle, policy, now),
            },
            hall!(store.failures.by_message),
            hall!(store.failures.by_client),
            hall!(store.hops.helos),
            Hall {
                aisles: pairs.aisles(),
                sweep: &|aisle| {
                    let swept = pairs.sweep_aisle(aisle, |record| {
                        if pairs_short && shed::pair_makes_way(*record, longest_delay, now) {
                            Lot::MakesWay
                        } else {
                            Lot::until_it_lapses(record.has_lapsed(policy, now))
                        }
                    });
                    swept.0
                },
            },
        ];
        let aisles = halls.iter().map(|hall| hall.aisles).sum();
        let mut slice = Walked::default();
        for _ in 0..aisles {
            let step = sweep_aisle(&halls, self.next);
            slice.seen += step.seen;
            slice.removed += step.removed;
            self.next = (self.next + 1) % aisles;
            if slice.seen >= RECORDS_PER_SLICE {
                break;
            }
        }
        let since = now.since(self.sentences);
        // A clock that was set back must not put it off.
        if since >= SENTENCES_INTERVAL || now < self.sentences {
            slice.removed += store.sentences.sweep(now);
            store.pardons.sweep(now);
            self.sentences = now;
        }
        store.metrics.sweep_seen.inc_by(slice.seen as u64);
        store.metrics.swept.inc_by(slice.removed as u64);
        slice
    }
}

/// Where the sweep of the fingerprints stands.
#[derive(Debug)]
pub(super) struct ContentSweep {
    /// From one aisle to the next.
    step: Duration,
    /// When the latest aisle was due.
    stepped: Timestamp,
    next: usize,
}

impl ContentSweep {
    /// Walks through `aisles` in less than `interval`, from `now` on.
    pub(super) fn new(aisles: usize, interval: Duration, now: Timestamp) -> Self {
        let aisles = u32::try_from(aisles.max(1)).unwrap_or(u32::MAX);
        // An eighth is left for what makes a walk late: rounds, and slices that are too short.
        let walk = interval.saturating_sub(interval / 8);
        Self {
            step: (walk / aisles).max(Duration::from_millis(1)),
            stepped: now,
            next: 0,
        }
    }

    /// Sweeps the aisles that are due, as far as a slice goes; the whole slice if there is `no_room`.
    pub(super) fn slice(&mut self, store: &Store, no_room: bool, now: Timestamp) -> Walked {
        let policy = store.policy.load();
        let aisles = store.contents.by_message.aisles();
        // A clock that was set back must not put it off, nor one that was set forward be walked after.
        let steps = u32::try_from(aisles).unwrap_or(u32::MAX);
        let whole_walk = Timestamp::NEVER.after(self.step.saturating_mul(steps));
        let earliest = Timestamp::NEVER.after(now.since(whole_walk));
        self.stepped = self.stepped.clamp(earliest, now);
        let mut slice = Walked::default();
        for _ in 0..aisles {
            let is_due = now.since(self.stepped) >= self.step;
            if slice.seen >= RECORDS_PER_SLICE || !(is_due || no_room) {
                break;
            }
            let walked = store.contents.sweep_aisle(self.next, &policy, now);
            slice.seen += walked.seen;
            slice.removed += walked.removed;
            self.next = (self.next + 1) % aisles;
            self.stepped = self.stepped.after(self.step).min(now);
        }
        store.metrics.sweep_seen.inc_by(slice.seen as u64);
        store.metrics.swept.inc_by(slice.removed as u64);
        slice
    }
}

/// A table to sweep.
struct Hall<'a> {
    aisles: usize,
    sweep: &'a dyn Fn(usize) -> Walked,
}

/// Sweeps the aisle that is number `next` when all halls are counted through.
fn sweep_aisle(halls: &[Hall<'_>], mut next: usize) -> Walked {
    for hall in halls {
        match next.checked_sub(hall.aisles) {
            None => return (hall.sweep)(next),
            Some(rest) => next = rest,
        }
    }
    Walked::default()
}

/// When the next slice is due.
#[derive(Debug)]
struct Trigger {
    messages: u32,
    interval: Duration,
    /// Attempts judged up to the last slice.
    judged: u64,
    swept: Timestamp,
}

impl Trigger {
    /// Due every `messages` attempts or every `interval`, whichever comes first, counted from
    /// `now`.
    fn new(messages: u32, interval: Duration, now: Timestamp) -> Self {
        Self {
            messages,
            interval,
            judged: 0,
            swept: now,
        }
    }

    /// Whether a slice is due, `judged` being the attempts judged so far. If so, the next is
    /// counted from here, so triggers that come faster than this is asked merge into one.
    fn is_due(&mut self, judged: u64, now: Timestamp) -> bool {
        let due = judged.saturating_sub(self.judged) >= self.messages.into()
            || now.since(self.swept) >= self.interval
            // A clock that was set back must not put the sweep off.
            || now < self.swept;
        if due {
            self.judged = judged;
            self.swept = now;
        }
        due
    }
}

/// A slice ends with the aisle in which it reaches this many. At a capacity of 4,000,000 that is one
/// aisle of 26,000 records, measured at 0.2 to 0.3 ms, 25 µs of it under each shard's lock.
const RECORDS_PER_SLICE: usize = 16_384;

/// How long ended sentences may take up room in a full table.
const SENTENCES_INTERVAL: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_every_so_many_messages_or_so_long() {
        let start = Timestamp::from_millis(1_000_000);
        let hours = |hours| start.after(Duration::from_hours(hours));
        let mut trigger = Trigger::new(1_500, Duration::from_hours(12), start);
        assert!(!trigger.is_due(1_499, start));
        assert!(trigger.is_due(1_500, start));
        assert!(!trigger.is_due(2_999, hours(11)));
        assert!(trigger.is_due(2_999, hours(12)));
        assert!(!trigger.is_due(2_999, hours(23)));
        assert!(trigger.is_due(2_999, hours(24)));
        assert!(trigger.is_due(99_000, hours(24)));
        assert!(!trigger.is_due(99_000, hours(24)), "merged into one");
    }

    #[test]
    fn clock_set_back_does_not_put_it_off() {
        let start = Timestamp::from_millis(1_000_000);
        let mut trigger = Trigger::new(1_500, Duration::from_hours(12), start);
        let before = Timestamp::from_millis(1);
        assert!(trigger.is_due(0, before));
        assert!(!trigger.is_due(0, before));
    }
}
