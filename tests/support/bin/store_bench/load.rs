//! A thread that offers decisions at a fixed rate, whatever becomes of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greygate::policy::{DeferReason, Judge as _, Timestamp, Verdict};
use greygate::store::{LockTally, LockWaits, Store};
use hdrhistogram::Histogram;
use support::Error;

use crate::filled::{NANOS_A_MINUTE, bytes, nanos};
use crate::findings::Findings;
use crate::people::{BEGINNING, People};

/// Early retries of everybody in the store, at random.
#[derive(Debug)]
pub(crate) struct Load {
    tuples: u32,
    people: People,
    state: u64,
}

/// What became of a while of them.
#[derive(Debug)]
pub(crate) struct Served {
    times: Histogram<u64>,
    locks: LockTally,
}

impl Load {
    pub(crate) fn of(tuples: u32) -> Self {
        Self {
            tuples,
            people: People::default(),
            state: 0x2545_f491_4f6c_dd1d,
        }
    }

    /// Decisions a second when one follows the other.
    pub(crate) fn saturation(&mut self, store: &Store) -> Result<f64, Error> {
        let begun = Instant::now();
        let mut decisions = 0;
        while begun.elapsed() < SATURATION {
            for _ in 0..100 {
                self.decide(store)?;
            }
            decisions += 100;
        }
        Ok(f64::from(decisions) / begun.elapsed().as_secs_f64())
    }

    /// Offers `rate` decisions a second until `ended`. One that comes late because the one before took
    /// long was late itself: its time counts from when it was due.
    pub(crate) fn offer(
        &mut self,
        store: &Store,
        rate: f64,
        ended: &AtomicBool,
    ) -> Result<Served, Error> {
        let mut times = Histogram::new_with_bounds(1, NANOS_A_MINUTE, 3)
            .map_err(|error| Error::unexpected("a histogram", error))?;
        let before = LockWaits::tally();
        let apart = Duration::from_secs_f64(1.0 / rate);
        let mut due = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            // It does not sleep: a timer would be later than what is measured takes.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            self.decide(store)?;
            times.saturating_record(nanos(due.elapsed()));
            due += apart;
        }
        Ok(Served {
            times,
            locks: LockWaits::tally().since(&before),
        })
    }

    fn decide(&mut self, store: &Store) -> Result<(), Error> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let scaled = (self.state >> 32) * u64::from(self.tuples);
        let number = u32::try_from(scaled >> 32).unwrap_or(0);
        let attempt = self.people.attempt(number);
        let verdict = store.judge(&attempt, RETRIED).verdict;
        if matches!(verdict, Verdict::Defer(DeferReason::Early { .. })) {
            return Ok(());
        }
        Err(Error::unexpected("an early retry", format!("{verdict:?}")))
    }
}

impl Served {
    /// Notes what `what` went on beside them.
    pub(crate) fn note(&self, what: &str, findings: &mut Findings) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let time = bytes(self.times.value_at_quantile(quantile));
            findings.push(format!("decision {name} {what}"), time);
        }
        findings.push(format!("decision worst {what}"), bytes(self.times.max()));
        let beyond = Duration::from_secs(1);
        let wait = |of_a_million| nanos(self.locks.quantile(of_a_million).unwrap_or(beyond));
        findings.push(format!("lock p99 {what}"), bytes(wait(990_000)));
        findings.push(format!("lock p99.99 {what}"), bytes(wait(999_900)));
        let each = bytes(self.locks.nanos) / bytes(self.locks.acquired.max(1));
        findings.push(format!("lock mean {what}"), each);
    }
}

/// Within the delay of everybody.
const RETRIED: Timestamp = Timestamp::from_millis(BEGINNING.as_millis() + 30_000);
const SATURATION: Duration = Duration::from_secs(2);
