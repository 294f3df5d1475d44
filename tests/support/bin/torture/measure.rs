//! What the daemon holds of the machine: descriptors, threads, memory.

use std::{fmt, fs, io};

use support::load;

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Bytes resident.
    pub(crate) memory: u64,
}

impl Held {
    pub(crate) fn by(pid: u32) -> io::Result<Self> {
        let count =
            |what: &str| Ok::<_, io::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
        Ok(Self {
            descriptors: count("fd")?,
            threads: count("task")?,
            memory: load::resident(pid)?,
        })
    }

    /// What is more than what a daemon holds that has just started with the same store.
    pub(crate) fn leaked_over(self, fresh: Self) -> Option<String> {
        let mut leaks = Vec::new();
        if self.descriptors > fresh.descriptors + DESCRIPTORS {
            leaks.push(format!(
                "{} descriptors",
                self.descriptors - fresh.descriptors
            ));
        }
        if self.threads > fresh.threads {
            leaks.push(format!("{} threads", self.threads - fresh.threads));
        }
        if self.memory > fresh.memory + MEMORY {
            leaks.push(format!("{} MiB", (self.memory - fresh.memory) >> 20));
        }
        (!leaks.is_empty()).then(|| leaks.join(", "))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            descriptors,
            threads,
            memory,
        } = self;
        write!(
            out,
            "{descriptors} descriptors, {threads} threads, {} MiB",
            memory >> 20
        )
    }
}

/// A connection or two that is being closed.
const DESCRIPTORS: usize = 8;
/// What the allocator keeps of the memory of ten thousand connections and a snapshot.
const MEMORY: u64 = 96 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_margins_is_no_leak() {
        let fresh = Held {
            descriptors: 30,
            threads: 9,
            memory: 20 << 20,
        };
        assert_eq!(fresh.leaked_over(fresh), None);
        let aged = Held {
            descriptors: 45,
            threads: 10,
            memory: 200 << 20,
        };
        let leaks = aged.leaked_over(fresh);
        assert_eq!(leaks.as_deref(), Some("15 descriptors, 1 threads, 180 MiB"));
    }
}
