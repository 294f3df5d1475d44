//! Load on a milter: as many SMTP sessions as it can take, and what each costs it.
//!
//! A session is a connection of its own, as Postfix makes it: options, then connect, HELO, MAIL and
//! RCPT of a new tuple, the reply, QUIT. The same load runs against every milter, whatever it
//! negotiates, so that figures can be compared.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use greygate::milter::Endpoint;
use nix::unistd::{SysconfVar, sysconf};

use crate::mta::Mta;

/// What to run.
#[derive(Clone, Debug)]
pub struct Load {
    /// The milter.
    pub endpoint: Endpoint,
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
    /// Sessions that were deferred, the expected end.
    pub deferred: u32,
    /// Sessions that ended otherwise, without error.
    pub others: u32,
    /// How long all of it took.
    pub elapsed: Duration,
    /// CPU time of the milter's process.
    pub server_cpu: Option<Duration>,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// The first error of any session.
    pub fn run(&self) -> io::Result<Outcome> {
        let next = AtomicU32::new(0);
        let deferred = AtomicU32::new(0);
        let cpu_before = self.pid.map(cpu_time).transpose()?;
        let begun = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.parallel)
                .map(|_| scope.spawn(|| self.work(&next, &deferred)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let died = |_| io::Error::other("a client thread panicked");
                thread.join().map_err(died)?
            })
        })?;
        let elapsed = begun.elapsed();
        let cpu_after = self.pid.map(cpu_time).transpose()?;
        let deferred = deferred.into_inner();
        Ok(Outcome {
            deferred,
            others: self.sessions - deferred,
            elapsed,
            server_cpu: cpu_after
                .zip(cpu_before)
                .map(|(after, before)| after.saturating_sub(before)),
        })
    }

    fn work(&self, next: &AtomicU32, deferred: &AtomicU32) -> io::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.sessions {
                return Ok(());
            }
            if self.session(number)? {
                deferred.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One session of a client that was never seen; whether it was deferred.
    fn session(&self, number: u32) -> io::Result<bool> {
        // 198.18.0.0/15 is for benchmarks (RFC 2544).
        let client = Ipv4Addr::from(0xc612_0000 | (number & 0x1_ffff));
        let mut mta = Mta::open(&self.endpoint, IpAddr::V4(client))?;
        mta.mail(&format!("s{number}@sender.example"))?;
        let answer = mta.rcpt("someone@recipient.example")?;
        mta.abort();
        mta.hold(b'Q', b"");
        mta.flush()?;
        Ok(answer.is_deferral() || answer.status.starts_with('t'))
    }
}

impl Outcome {
    /// Sessions a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.deferred + self.others) / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the milter's CPU time for one session.
    pub fn cpu_per_session(&self) -> Option<f64> {
        let sessions = f64::from(self.deferred + self.others);
        self.server_cpu
            .map(|cpu| cpu.as_secs_f64() * 1e6 / sessions)
    }
}

/// User and system time of a process and its threads so far.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let unreadable = || io::Error::other(format!("cannot read /proc/{pid}/stat"));
    // The command name may hold blanks; it ends at the last parenthesis, before field 3.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unreadable)?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|it| it.parse::<u64>().ok());
    let (user, system) = ticks().zip(ticks()).ok_or_else(unreadable)?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or_else(unreadable)?;
    let per_second = u64::try_from(per_second).map_err(io::Error::other)?;
    Ok(Duration::from_micros(
        (user + system) * 1_000_000 / per_second,
    ))
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
