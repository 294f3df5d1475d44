//! Network namespaces to throw away, and cables between them.
//!
//! Knows `ip netns` and veth pairs. A namespace is named after this process, so that several runs
//! fit on one machine, and is removed when its guard is dropped. Needs root and iproute2.
//!
//! Nothing of the host's own network is touched: a pair is made inside its two namespaces, never
//! in the host's.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, thread};

use nix::sched::{CloneFlags, setns};

use crate::error::Error;
use crate::{interrupt, process};

/// A network namespace that lives as long as this guard.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace with its loopback up. `label` says in `ip netns list` what it is for.
    pub fn create(label: &str) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        // From here on an interrupt has something to clean up.
        interrupt::watch();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greygate-{}-{number}-{label}", std::process::id());
        process::run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with `arguments` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<String, Error> {
        process::run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Runs `work` on a thread of its own inside. Sockets opened there stay inside when they are
    /// carried out; the file system is the caller's.
    ///
    /// # Panics
    ///
    /// When the namespace was removed by somebody else, and when `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter()
                .expect("a namespace lives as long as its guard");
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Starts a program inside, with the caller's file system.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    fn enter(&self) -> io::Result<()> {
        let file = File::open(self.path())?;
        Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = process::run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("namespace {} is left behind: {}", self.name, error.chain());
        }
    }
}

/// One end of a cable: the interface's name inside a namespace, and its addresses with their
/// prefix lengths (`192.0.2.1/24`).
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where the end is.
    pub namespace: &'a Namespace,
    /// The interface's name there, 15 bytes at most.
    pub interface: &'a str,
    /// The interface's addresses.
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair; both ends are up when it returns. The pair goes with
/// either of its namespaces.
pub fn join(one: End<'_>, other: End<'_>) -> Result<(), Error> {
    process::run(Command::new("ip").args([
        "link",
        "add",
        one.interface,
        "netns",
        one.namespace.name(),
        "type",
        "veth",
        "peer",
        "name",
        other.interface,
        "netns",
        other.namespace.name(),
    ]))?;
    for end in [one, other] {
        for address in end.addresses {
            // `nodad`: an IPv6 address is usable at once. IPv4 ignores it.
            end.namespace
                .ip(&["addr", "add", address, "dev", end.interface, "nodad"])?;
        }
        end.namespace.ip(&["link", "set", end.interface, "up"])?;
    }
    Ok(())
}
