//! What happened in the last minute: a ring of counts, one taken each second.
//!
//! The keeper takes them on its round; nothing that judges mail is touched. Knows which counts a rate is
//! made of, and leaves telling them to `status`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admin::{LatencyFacts, Recent};
use crate::kernel;
use crate::milter::{self, LatencyTally, Turn};
use crate::policy::Timestamp;
use crate::store;

/// The ring, and where its counts come from.
#[derive(Debug)]
pub(super) struct Pulse {
    milter: Arc<milter::Metrics>,
    store: Arc<store::Metrics>,
    kernel: Arc<kernel::Metrics>,
    beats: Mutex<VecDeque<Beat>>,
}

impl Pulse {
    /// A ring with what has been counted before `now`.
    pub(super) fn new(
        milter: Arc<milter::Metrics>,
        store: Arc<store::Metrics>,
        kernel: Arc<kernel::Metrics>,
        now: Timestamp,
    ) -> Self {
        let pulse = Self {
            milter,
            store,
            kernel,
            beats: Mutex::default(),
        };
        pulse.beat(now);
        pulse
    }

    /// Takes the counts of `now`.
    pub(super) fn beat(&self, now: Timestamp) {
        let beat = self.counts(now);
        let mut beats = self.beats();
        // A clock that was put back would make the span negative.
        if beats.back().is_some_and(|last| last.at > now) {
            beats.clear();
        }
        let is_old = |beat: &Beat| now.since(beat.at) > WINDOW;
        while beats.len() >= MOST || beats.len() > 1 && is_old(&beats[0]) {
            beats.pop_front();
        }
        beats.push_back(beat);
    }

    /// What was counted from about a minute ago to `now`.
    pub(super) fn recent(&self, now: Timestamp) -> Recent {
        let latest = self.counts(now);
        let first = self.beats().front().copied();
        first.map_or_else(Recent::default, |first| latest.since(&first))
    }

    fn counts(&self, at: Timestamp) -> Beat {
        Beat {
            at,
            sessions: self.milter.connections_served(),
            deferred: self.store.verdicts_called("deferred"),
            passed: self.store.verdicts_called("passed"),
            refused: self.store.verdicts_called("refused"),
            read: self.store.verdicts_called("read"),
            dropped: self.kernel.dropped(),
            at_once: self.milter.latency.tally(Turn::AtOnce),
            waited: self.milter.latency.tally(Turn::Waited),
        }
    }

    fn beats(&self) -> MutexGuard<'_, VecDeque<Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Timestamp,
    sessions: u64,
    deferred: u64,
    passed: u64,
    refused: u64,
    read: u64,
    dropped: u64,
    at_once: LatencyTally,
    waited: LatencyTally,
}

impl Beat {
    fn since(&self, before: &Self) -> Recent {
        let latency = |now: &LatencyTally, before: &LatencyTally| {
            let turns = now.since(before);
            let micros = |percent| turns.percentile(percent).map(micros);
            LatencyFacts {
                turns: turns.count(),
                p50_micros: micros(50),
                p99_micros: micros(99),
            }
        };
        Recent {
            seconds: self.at.since(before.at).as_secs(),
            sessions: self.sessions.saturating_sub(before.sessions),
            deferred: self.deferred.saturating_sub(before.deferred),
            passed: self.passed.saturating_sub(before.passed),
            refused: self.refused.saturating_sub(before.refused),
            read: self.read.saturating_sub(before.read),
            // The kernel's counters begin anew with its maps.
            dropped: self.dropped.saturating_sub(before.dropped),
            latency: latency(&self.at_once, &before.at_once),
            latency_waited: latency(&self.waited, &before.waited),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How far back the rates go.
const WINDOW: Duration = Duration::from_mins(1);
/// A beat a second, and those of a clock that stands still.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_minute_and_forget_what_was_before() {
        let pulse = pulse();
        sessions(&pulse, 1_000);
        for second in 1..=300 {
            sessions(&pulse, 2);
            pulse.beat(at(second));
        }
        sessions(&pulse, 2);
        let recent = pulse.recent(at(301));
        assert_eq!(recent.sessions, recent.seconds * 2, "{recent:?}");
        assert!((59..=61).contains(&recent.seconds), "{recent:?}");
        assert!(pulse.beats().len() <= MOST);
    }

    #[test]
    fn first_seconds_are_measured_as_long_as_they_are() {
        let pulse = pulse();
        sessions(&pulse, 6);
        let recent = pulse.recent(at(3));
        assert_eq!((recent.seconds, recent.sessions), (3, 6));
        assert_eq!(recent.latency.p99_micros, None, "no turn, no percentile");
    }

    #[test]
    fn clock_that_is_put_back_begins_anew() {
        let pulse = pulse();
        for second in [100, 101, 5, 6] {
            pulse.beat(at(second));
        }
        assert_eq!(pulse.recent(at(7)).seconds, 2);
    }

    #[test]
    fn beats_of_a_clock_that_stands_still_stay_few() {
        let pulse = pulse();
        for _ in 0..10_000 {
            pulse.beat(at(1));
        }
        assert!(pulse.beats().len() <= MOST);
    }

    fn pulse() -> Pulse {
        Pulse::new(Arc::default(), Arc::default(), Arc::default(), at(0))
    }

    fn sessions(pulse: &Pulse, many: u64) {
        pulse.milter.connections.inet.inc_by(many);
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + second * 1_000)
    }
}
