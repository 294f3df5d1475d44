//! Load on a milter: as many SMTP sessions as it can take, and what each costs it.
//!
//! What a session is, is the caller's; [`deferred_at_rcpt`] is the one that greylisting is most of
//! the time. The same load runs against every milter, whatever it negotiates, so that figures can be
//! compared.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use greygate::milter::Endpoint;
use nix::{time::ClockId, unistd::Pid};

use crate::mta::Mta;

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of the first session; the others follow.
    pub first: u32,
    /// Sessions in all.
    pub sessions: u32,
    /// Sessions at once.
    pub parallel: u32,
    /// The milter's process, if its cost is to be measured.
    pub pid: Option<u32>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Sessions that ended as was expected.
    pub expected: u32,
    /// Sessions that ended otherwise, without error.
    pub others: u32,
    /// How long all of it took.
    pub elapsed: Duration,
    /// CPU time of the milter's process.
    pub server_cpu: Option<Duration>,
}

impl Load {
    /// Runs `session` with each number; it says whether it ended as was expected.
    ///
    /// # Errors
    ///
    /// The first error of any session.
    pub fn run(&self, session: impl Fn(u32) -> io::Result<bool> + Sync) -> io::Result<Outcome> {
        let next = AtomicU32::new(0);
        let expected = AtomicU32::new(0);
        let cpu_before = self.pid.map(cpu_time).transpose()?;
        let begun = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.parallel)
                .map(|_| scope.spawn(|| self.work(&session, &next, &expected)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let died = |_| io::Error::other("a client thread panicked");
                thread.join().map_err(died)?
            })
        })?;
        let elapsed = begun.elapsed();
        let cpu_after = self.pid.map(cpu_time).transpose()?;
        let expected = expected.into_inner();
        Ok(Outcome {
            expected,
            others: self.sessions - expected,
            elapsed,
            server_cpu: cpu_after
                .zip(cpu_before)
                .map(|(after, before)| after.saturating_sub(before)),
        })
    }

    fn work(
        &self,
        session: impl Fn(u32) -> io::Result<bool>,
        next: &AtomicU32,
        expected: &AtomicU32,
    ) -> io::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.sessions {
                return Ok(());
            }
            if session(self.first.wrapping_add(number))? {
                expected.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A connection of its own, as Postfix makes it, of a client that was never seen: options, then
/// connect, HELO, MAIL and RCPT of a new tuple, the reply, QUIT. Whether it was deferred.
pub fn deferred_at_rcpt(endpoint: &Endpoint, number: u32) -> io::Result<bool> {
    // 198.18.0.0/15 is for benchmarks (RFC 2544).
    let client = Ipv4Addr::from(0xc612_0000 | (number & 0x1_ffff));
    let mut mta = Mta::open(endpoint, IpAddr::V4(client))?;
    mta.mail(&format!("s{number}@sender.example"))?;
    let answer = mta.rcpt("someone@recipient.example")?;
    mta.abort();
    mta.hold(b'Q', b"");
    mta.flush()?;
    Ok(answer.is_deferral() || answer.status.starts_with('t'))
}

impl Outcome {
    /// Sessions a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.expected + self.others) / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the milter's CPU time for one session.
    pub fn cpu_per_session(&self) -> Option<f64> {
        let sessions = f64::from(self.expected + self.others);
        self.server_cpu
            .map(|cpu| cpu.as_secs_f64() * 1e6 / sessions)
    }
}

/// CPU time of a process so far, of its threads that have ended too: by its own clock, which counts
/// nanoseconds and not ticks.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
    Ok(clock.now()?.into())
}

/// CPU time so far of a process' threads of this name, by the scheduler's own count of nanoseconds.
pub fn thread_time(pid: u32, name: &str) -> io::Result<Duration> {
    let mut spent = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        // One that has ended meanwhile is none of those that last.
        let Ok(called) = fs::read_to_string(thread.join("comm")) else {
            continue;
        };
        if called.trim_end() != name {
            continue;
        }
        let counted = fs::read_to_string(thread.join("schedstat"))?;
        let nanos = counted.split(' ').next().and_then(|it| it.parse().ok());
        let nanos = nanos.ok_or_else(|| io::Error::other(format!("odd schedstat {counted:?}")))?;
        spent += Duration::from_nanos(nanos);
    }
    Ok(spent)
}

/// Bytes of memory that a process has resident.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other(format!("cannot read /proc/{pid}/status")))
}
