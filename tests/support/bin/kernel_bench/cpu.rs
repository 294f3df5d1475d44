//! CPU time used, which others on the machine do not add to.

use std::time::Duration;

use nix::{
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
};

/// A stop watch that runs while somebody works.
pub(crate) struct CpuClock {
    read: fn() -> Duration,
    begun: Duration,
}

impl CpuClock {
    /// Of this thread, from now on.
    pub(crate) fn of_this_thread() -> Self {
        Self::start(|| {
            clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
                .expect("every Linux has this clock")
                .into()
        })
    }

    /// Of all programs that are started and end from now on.
    pub(crate) fn of_children() -> Self {
        Self::start(|| {
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel keeps account");
            [usage.user_time(), usage.system_time()]
                .into_iter()
                .map(|time| {
                    let micros = u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec());
                    Duration::from_micros(micros.expect("used time is not negative"))
                })
                .sum()
        })
    }

    /// What was used since.
    pub(crate) fn used(&self) -> Duration {
        (self.read)().saturating_sub(self.begun)
    }

    fn start(read: fn() -> Duration) -> Self {
        Self {
            read,
            begun: read(),
        }
    }
}
