//! A process that is measured, whoever wrote it: how it is spoken to, and what it took so far.
//!
//! A server may be several processes; all that descend from those it was started as are counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use greygate::milter::Endpoint;

use super::{
    policy_service::PolicyService,
    visit::{Played, Visit},
};
use crate::{Error, load, netns::Namespace};

/// A server, running.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it is called in the table.
    pub name: &'static str,
    /// Where it is reached.
    pub namespace: Arc<Namespace>,
    /// How it is spoken to.
    pub speech: Speech,
    /// The processes it was started as.
    pub started: Vec<u32>,
}

/// What it speaks.
#[derive(Clone, Debug)]
pub enum Speech {
    /// A milter, of Postfix's protocol.
    Milter(SocketAddr),
    /// A service of Postfix's policy protocol.
    Policy(Arc<PolicyService>),
}

/// CPU time of each of its processes, at some moment.
#[derive(Debug)]
pub struct Spent(BTreeMap<u32, Duration>);

impl Server {
    /// Where its milter is, if it is one.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match &self.speech {
            Speech::Milter(address) => Some(Endpoint::Inet(*address)),
            Speech::Policy(_) => None,
        }
    }

    /// One visit, from inside its namespace.
    pub fn play(&self, visit: &Visit<'_>) -> io::Result<Played> {
        match &self.speech {
            Speech::Milter(address) => visit.play(&Endpoint::Inet(*address)),
            Speech::Policy(service) => service.ask(visit),
        }
    }

    /// CPU time of all its processes.
    pub fn spent(&self) -> Result<Spent, Error> {
        let spent = self.processes()?.into_iter().map(|pid| {
            let spent = load::cpu_time(pid);
            Ok((pid, spent.map_err(self.unreadable("the CPU time"))?))
        });
        spent.collect::<Result<_, Error>>().map(Spent)
    }

    /// CPU time since `before`.
    pub fn spent_since(&self, before: &Spent) -> Result<Duration, Error> {
        let Spent(after) = self.spent()?;
        if let Some(gone) = before.0.keys().find(|pid| !after.contains_key(pid)) {
            return Err(Error::unexpected(
                format!("{} should run on while it is measured", self.name),
                format!("its process {gone} has ended"),
            ));
        }
        Ok(after
            .iter()
            .map(|(pid, now)| {
                let before = before.0.get(pid).copied().unwrap_or_default();
                now.saturating_sub(before)
            })
            .sum())
    }

    /// Bytes that all its processes have resident.
    pub fn resident(&self) -> Result<u64, Error> {
        let resident = self.processes()?.into_iter().map(load::resident);
        resident
            .sum::<io::Result<u64>>()
            .map_err(self.unreadable("the memory"))
    }

    fn processes(&self) -> Result<BTreeSet<u32>, Error> {
        let parents = parents().map_err(self.unreadable("the processes"))?;
        let mut family: BTreeSet<u32> = self.started.iter().copied().collect();
        loop {
            let before = family.len();
            let children = parents
                .iter()
                .filter(|(_, parent)| family.contains(parent))
                .map(|(pid, _)| *pid);
            let children: Vec<_> = children.collect();
            family.extend(children);
            if family.len() == before {
                return Ok(family);
            }
        }
    }

    fn unreadable(&self, what: &str) -> impl Fn(io::Error) -> Error + use<> {
        let reading = format!("reading {what} of {}", self.name);
        move |source| Error::io(reading.clone())(source)
    }
}

/// Every process of the machine, with its parent.
fn parents() -> io::Result<Vec<(u32, u32)>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is nobody's child.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The program's name may hold anything, a parenthesis too; behind it: state, parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    Ok(parents)
}
