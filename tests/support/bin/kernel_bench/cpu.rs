//! CPU time used, which others on the machine do not add to.

use std::{fs, time::Duration};

use nix::{
    sched::sched_getcpu,
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

    /// Of this process and of the kernel's thread that takes frames in on its CPU when there are too
    /// many of them.
    pub(crate) fn of_this_cpu() -> Self {
        Self::start(|| {
            let process: Duration = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
                .expect("every Linux has this clock")
                .into();
            process + ksoftirqd().unwrap_or_default()
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

/// CPU time that the thread for deferred interrupts of this CPU has used; [`None`] on a kernel that
/// does not say.
fn ksoftirqd() -> Option<Duration> {
    let name = format!("ksoftirqd/{}", sched_getcpu().ok()?);
    let thread = fs::read_dir("/proc").ok()?.flatten().find(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|it| it.trim_end() == name)
    })?;
    let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
    let nanos = account.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
