//! The books: what was counted, what was checked, and what must not have happened.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::chronicle::Chronicle;

/// The books of a run.
#[derive(Debug)]
pub(crate) struct Books {
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<Count, u64>,
    faults: BTreeMap<&'static str, Tally>,
    longest_lost: Duration,
    violations: Vec<String>,
}

/// How often a fault was done, and what was looked at for its sake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) times: u64,
    pub(crate) checks: u64,
}

/// What is counted over the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    Sessions,
    Answers,
    Deferrals,
    Passes,
    Read,
    TrustedPasses,
    TurnedAway,
    BrokenOff,
    SurvivedLoss,
    LostWithinBound,
    LostOnFullDisk,
    Connections,
    Requests,
}

impl Books {
    pub(crate) fn new(seed: u64) -> Self {
        let inner = Mutex::default();
        Self { seed, inner }
    }

    /// One more of it.
    pub(crate) fn count(&self, what: Count) {
        *self.inner().counts.entry(what).or_default() += 1;
    }

    /// A fault was done once more.
    pub(crate) fn did(&self, fault: &'static str) {
        self.inner().faults.entry(fault).or_default().times += 1;
    }

    /// Something was looked at for the sake of a fault, and was as it should be or is a violation
    /// besides.
    pub(crate) fn checked(&self, fault: &'static str) {
        self.inner().faults.entry(fault).or_default().checks += 1;
    }

    /// Something was lost that old, as it may.
    pub(crate) fn lost(&self, age: Duration) {
        let mut inner = self.inner();
        *inner.counts.entry(Count::LostWithinBound).or_default() += 1;
        inner.longest_lost = inner.longest_lost.max(age);
    }

    /// Something that must not happen has.
    pub(crate) fn violate(&self, chronicle: &Chronicle, at: Instant, what: &str) {
        let active = chronicle.active(at);
        let active = match &active[..] {
            [] => "none".to_owned(),
            _ => active.join(", "),
        };
        let when = chronicle.elapsed(at).as_secs_f64();
        let line = format!(
            "{what} (at {when:.3} s, seed {}, faults about then: {active})",
            self.seed
        );
        eprintln!("VIOLATED {line}");
        self.inner().violations.push(line);
    }

    pub(crate) fn of(&self, what: Count) -> u64 {
        self.inner().counts.get(&what).copied().unwrap_or(0)
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, Tally> {
        self.inner().faults.clone()
    }

    pub(crate) fn longest_lost(&self) -> Duration {
        self.inner().longest_lost
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
