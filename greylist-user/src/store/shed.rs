//! What becomes of a tuple for which room is short: a flood is shed, and fairly.
//!
//! While a quarter of the table is free, nothing here is asked but for a trace of before, if any was left.
//! From there on a network may begin the fewer new tuples the fuller the table is, see `shares`: of those
//! who hold most, the youngest finds no place.
//! It is deferred like any other, and leaves a trace of eight bytes, see `traces`, by which its retry is
//! known. So a flood buys itself no pass by filling the table, and who queues passes at its retry, with a
//! record or without.
//!
//! What has a record is never pushed out by a newcomer. When the table is nearly full, the sweep takes
//! what never came again in [`KEPT`]. Only where there is not even a place for a trace, since more
//! were left within one delay than there are places, an attempt passes without a word kept.
//!
//! Independent of the table's size: a look at four counts and at two lines of traces, with no lock but
//! that of the tuple's own shard.

use std::time::Duration;

use crate::policy::{
    Attempt, Decision, PairRecord, PassReason, Policy, Record, Timestamp, TupleKey, Verdict,
};

use super::Store;
use super::metrics::Shed;
use super::shares::{self, Holder};

/// What was decided of a tuple, and where that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// In its record.
    Recorded(Decision),
    /// Nowhere but in its trace, if it has not passed.
    Shed(Decision),
    /// There was no room for anything.
    Nowhere,
}

impl Store {
    /// Decides on a tuple, and remembers it as there is room.
    pub(super) fn decide_tuple(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        key: TupleKey,
        decide: impl Fn(Option<&Record>) -> Decision,
        now: Timestamp,
    ) -> Decided {
        let free = self.tuples.capacity() - self.tuples.len();
        if free > shares::reserve(self.tuples.capacity())
            && let Some(decision) = self.decide_and_record(policy, key, &decide, now)
        {
            return Decided::Recorded(decision);
        }
        self.decide_when_short(policy, attempt, key, decide, now)
    }

    fn decide_when_short(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        key: TupleKey,
        decide: impl Fn(Option<&Record>) -> Decision,
        now: Timestamp,
    ) -> Decided {
        let holder = || Holder::of(&self.seed, attempt.client);
        if self.tuples.contains(&key)
            && let Some(decision) = self.decide_and_record(policy, key, &decide, now)
        {
            if let Verdict::Pass(PassReason::Waited { .. }) = decision.verdict {
                let begun = decision.next.first_seen;
                self.shares.give_back(holder(), begun, now);
            }
            return Decided::Recorded(decision);
        }
        if let Some(trace) = self.traces.find(&key, now) {
            let decision = decide(Some(&trace));
            if decision.next.has_passed() {
                // It has waited, and is no newcomer any more.
                self.metrics.traces_retried.inc();
                let recorded = self.decide_and_record(policy, key, &decide, now);
                return recorded.map_or(Decided::Shed(decision), Decided::Recorded);
            }
            if decision.next.life == trace.life {
                return Decided::Shed(decision);
            }
        }
        let holder = holder();
        let capacity = self.tuples.capacity();
        let share = shares::share(capacity, capacity - self.tuples.len());
        let cause = if self.shares.take(holder, share, now) {
            if let Some(decision) = self.decide_and_record(policy, key, &decide, now) {
                return Decided::Recorded(decision);
            }
            self.shares.give_back(holder, now, now);
            Shed::Full
        } else {
            Shed::Share
        };
        let decision = decide(None);
        if self.traces.leave(&key, policy.delay, now).is_err() {
            return Decided::Nowhere;
        }
        self.metrics.shed(cause);
        Decided::Shed(decision)
    }

    /// Decides inside the lock of the entry; where there is none, its trace stands for it, if one was
    /// left. [`None`] if there is no room for one.
    fn decide_and_record(
        &self,
        policy: &Policy,
        key: TupleKey,
        decide: impl Fn(Option<&Record>) -> Decision,
        now: Timestamp,
    ) -> Option<Decision> {
        let decided = self.tuples.update(key, |prior| {
            let decision = match prior {
                Some(prior) => decide(Some(prior)),
                None => decide(self.traces.find(&key, now).as_ref()),
            };
            if let Some(prior) = prior.filter(|it| it.life != decision.next.life) {
                self.metrics.note_lapsed_tuple(policy, prior);
            }
            (decision.next, decision)
        });
        decided.ok()
    }

    /// What is known of a tuple: its record, or what its trace says.
    pub(super) fn find_tuple(&self, key: &TupleKey, now: Timestamp) -> Option<Record> {
        self.tuples.get(key).or_else(|| self.traces.find(key, now))
    }
}

/// Whether the tuple makes way at `now` where room is short: it never came again, though its window has
/// been open for [`KEPT`]. It opens after `delay` at the latest, and what was added to that.
pub(super) fn makes_way(record: &Record, delay: Duration, now: Timestamp) -> bool {
    let waited = now.since(record.first_seen);
    let delay = delay.saturating_add(record.extra());
    record.attempts <= 1 && !record.has_passed() && waited >= delay.saturating_add(KEPT)
}

/// The same of a reverse-path and recipient.
pub(super) fn pair_makes_way(pair: PairRecord, delay: Duration, now: Timestamp) -> bool {
    pair.contacts == 1 && pair.waited(now) >= delay.saturating_add(KEPT)
}

/// How long the window of a tuple that never came again is open for sure: nearly every queue has retried
/// by then.
pub(super) const KEPT: Duration = Duration::from_hours(4);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;
    use crate::policy::fixture::{ATTEMPT, T0};
    use crate::policy::{ClientNetwork, DeferReason, History, Judge as _, Seed};
    use crate::store::traces::Traces;
    use crate::store::{ForgottenKind, Settings, Sweeper};

    fn store_of(capacity: usize) -> Store {
        let settings = Settings {
            capacity,
            ..Settings::default()
        };
        let policy = Policy {
            trust_after: 0,
            ..Policy::default()
        };
        let (effects, _closed) = mpsc::channel(1);
        let history = History { begun: T0 };
        let seed = Seed::from_bytes([7; Seed::LENGTH]);
        let policy = Arc::new(arc_swap::ArcSwap::from_pointee(policy));
        Store::in_memory(settings, seed, policy, effects, Arc::default(), history)
    }

    /// Mail `number` of `network`; gives its key, too.
    fn judge(store: &Store, network: u8, number: u8, now: Timestamp) -> (TupleKey, Verdict) {
        let reverse_path = format!("s{number}@n{network}.example");
        let attempt = Attempt {
            client: Ipv4Addr::new(192, 0, network, 7).into(),
            reverse_path: reverse_path.as_bytes(),
            ..ATTEMPT
        };
        let network = ClientNetwork::of(&store.policy.load(), &attempt);
        let key = store.seed.tuple_key(network, &attempt);
        (key, store.judge(&attempt, now).verdict)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whoever comes in whatever order: the table holds its capacity at most, keeps what it took for
        /// four hours, and who comes again passes after the delay and not before.
        #[test]
        fn what_was_taken_stays_and_who_waits_passes(
            capacity in 0_usize..40,
            steps in prop::collection::vec((0u8..6, 0u8..20, 0u64..40), 1..200),
        ) {
            let mut store = store_of(capacity);
            // Enough for so few, and not megabytes for each case.
            store.traces = Traces::in_buckets(1_000, store.metrics.traces_replaced.clone());
            let mut sweeper = Sweeper::new(&store, T0);
            let mut now = T0;
            let mut begun = HashMap::new();
            let mut held = HashMap::new();
            for (network, number, minutes) in steps {
                now = now.after(Duration::from_mins(minutes));
                let (key, verdict) = judge(&store, network, number, now);
                let first = *begun.entry(key).or_insert(now);
                let waited = now.since(first);
                let passes = matches!(verdict, Verdict::Pass(_));
                prop_assert!(!passes || waited >= Duration::from_mins(3), "{verdict:?}");
                if waited >= KEPT && !passes {
                    begun.insert(key, now);
                } else if waited > Duration::from_mins(3) {
                    prop_assert!(passes, "{verdict:?} after {waited:?}");
                }
                sweeper.round(&store, now);
                prop_assert!(store.tuples.len() <= capacity);
                if store.tuples.contains(&key) {
                    held.entry(key).or_insert(now);
                }
                held.retain(|_, taken| now.since(*taken) < KEPT);
                prop_assert!(held.keys().all(|key| store.tuples.contains(key)));
            }
        }
    }

    #[test]
    fn operator_who_forgets_a_tuple_forgets_its_trace() {
        let store = store_of(0);
        let (key, _) = judge(&store, 1, 1, T0);
        assert!(store.find_tuple(&key, T0).is_some());
        assert_eq!(store.forget(key.to_bytes()), [ForgottenKind::Pending]);
        assert_eq!(store.forget(key.to_bytes()), []);
        let later = T0.after(Duration::from_mins(5));
        let (_, verdict) = judge(&store, 1, 1, later);
        assert_eq!(verdict, Verdict::Defer(DeferReason::New));
    }

    #[test]
    fn memory_of_traces_is_there_before_anybody_is_shed() {
        let store = store_of(100);
        let mut sweeper = Sweeper::new(&store, T0);
        let mut has_memory_at = |tuples: u8| {
            let held = u8::try_from(store.tuples.len()).expect("few");
            for number in held..tuples {
                judge(&store, number, number, T0);
            }
            sweeper.round(&store, T0);
            store.traces.has_memory()
        };
        assert!(!has_memory_at(69), "who is not flooded does not pay");
        assert!(has_memory_at(70));
        assert_eq!(store.metrics.count_of_shed(Shed::Share), 0);
    }

    #[test]
    fn passes_without_a_record_only_where_traces_do_not_outlive_the_delay() {
        let mut store = store_of(0);
        let replaced = store.metrics.traces_replaced.clone();
        store.traces = Traces::in_buckets(1, replaced);
        let new = Verdict::Defer(DeferReason::New);
        for number in 0..8 {
            assert_eq!(judge(&store, 1, number, T0).1, new);
        }
        let unrecorded = Verdict::Pass(PassReason::Unrecorded);
        assert_eq!(judge(&store, 1, 8, T0).1, unrecorded);
        let later = T0.after(Duration::from_mins(5));
        let waited = Verdict::Pass(PassReason::Waited {
            waited: Duration::from_mins(5),
        });
        assert_eq!(judge(&store, 1, 0, later).1, waited);
        assert_eq!(judge(&store, 1, 8, later).1, new, "the oldest makes way");
        assert_eq!(store.metrics.traces_replaced.get(), 1);
        assert_eq!(store.metrics.count_of_shed(Shed::Full), 9);
    }

    #[test]
    fn what_never_came_again_makes_way_when_its_window_was_open_for_four_hours() {
        let delay = Duration::from_hours(5);
        let makes_way = |record: &Record, now| makes_way(record, delay, now);
        let record = Record::begun(1, T0);
        let later = T0.after(delay + KEPT);
        let earlier = Timestamp::from_millis(later.as_millis() - 1);
        assert!(makes_way(&record, later) && !makes_way(&record, earlier));
        let tried = Record {
            attempts: 2,
            ..record
        };
        let mut passed = record;
        passed.note_pass(T0);
        assert!(!makes_way(&tried, later) && !makes_way(&passed, later));
    }
}
