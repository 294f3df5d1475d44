//! The only reads of system time.
//!
//! Everything else takes `now` as an argument, or is handed a [`Clock`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greylist_ebpf::abi::KernelTime;
use nix::time::{ClockId, clock_gettime};

use crate::policy::Timestamp;

/// Where the present comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time, now.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Kernel time, now: `CLOCK_MONOTONIC`, the clock by which the XDP program ends sentences.
///
/// # Panics
///
/// Never: every Linux has this clock, and it counts up from zero.
pub fn kernel_now() -> KernelTime {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    let seconds = u64::try_from(now.tv_sec()).expect("the monotonic clock starts at zero");
    let nanos = u64::try_from(now.tv_nsec()).expect("nanoseconds of a time are not negative");
    KernelTime::from_nanos(seconds * 1_000_000_000 + nanos)
}

/// Measures how long this machine takes for something. No decision goes by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody turns the clock that the machine's own work is measured by"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_time_does_not_go_back() {
        let earlier = kernel_now();
        assert!(earlier > KernelTime::default());
        assert!(kernel_now() >= earlier);
    }
}
