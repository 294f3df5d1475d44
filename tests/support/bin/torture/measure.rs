//! What the daemon holds of the machine: descriptors, threads, memory.

use std::{fmt, fs, io, time::Duration};

use support::{interrupt::settle, load};

/// What a process holds at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    /// Their names, in order.
    pub(crate) threads: Vec<String>,
    /// Bytes resident.
    pub(crate) memory: u64,
}

impl Held {
    pub(crate) fn by(pid: u32) -> io::Result<Self> {
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: threads(pid)?,
            memory: load::resident(pid)?,
        })
    }

    /// The same once nobody asks it: what answers a request is kept for ten seconds more.
    pub(crate) fn at_rest(pid: u32) -> io::Result<Self> {
        let rests = || {
            let held = Self::by(pid).ok()?;
            let is_asked = held.threads.iter().any(|name| name == ANSWERS);
            (!is_asked).then_some(held)
        };
        match settle(REST, rests) {
            Some(held) => Ok(held),
            None => Self::by(pid),
        }
    }

    /// What is more than what a daemon holds that has just started with the same store.
    pub(crate) fn leaked_over(&self, fresh: &Self) -> Option<String> {
        let mut leaks = Vec::new();
        if self.descriptors > fresh.descriptors + DESCRIPTORS {
            leaks.push(format!(
                "{} descriptors",
                self.descriptors - fresh.descriptors
            ));
        }
        let mut more = self.threads.clone();
        for name in &fresh.threads {
            if let Some(index) = more.iter().position(|other| other == name) {
                more.swap_remove(index);
            }
        }
        if !more.is_empty() {
            leaks.push(format!("threads {more:?}"));
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
            "{descriptors} descriptors, {} threads, {} MiB",
            threads.len(),
            memory >> 20
        )
    }
}

fn threads(pid: u32) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("comm")) {
            Ok(name) => names.push(name.trim_end().to_owned()),
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    names.sort();
    Ok(names)
}

/// The threads of the runtime that answer requests, beside the ones that take them.
const ANSWERS: &str = "tokio-rt-worker";
/// Longer than the runtime keeps one of those which has nothing more to do.
const REST: Duration = Duration::from_secs(30);
/// A connection or two that is being closed.
const DESCRIPTORS: usize = 8;
/// What the allocator keeps of the memory of ten thousand connections and a snapshot.
const MEMORY: u64 = 96 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_within_the_margins_is_no_leak() {
        let fresh = Held {
            descriptors: 30,
            threads: named(&["control", "greygate"]),
            memory: 20 << 20,
        };
        assert_eq!(fresh.leaked_over(&fresh), None);
        let aged = Held {
            descriptors: 45,
            threads: named(&["control", "control", "greygate"]),
            memory: 200 << 20,
        };
        let leaks = aged.leaked_over(&fresh);
        assert_eq!(
            leaks.as_deref(),
            Some("15 descriptors, threads [\"control\"], 180 MiB")
        );
    }
}
