//! Messages that are read: each kind at each server in turn, and the lines that come of it.

use std::{collections::BTreeMap, sync::Arc};

use support::{
    Error,
    bench::{
        daemon::{Daemon, Setup, Workers},
        report::{Figure, Report, Row, Samples, Unit},
        run::{Cost, Pace, Run},
        server::Server,
        visit::{self, Outcome},
    },
};

use crate::{
    digest,
    kinds::{KINDS, Kind},
    peers::{FLOOR, Peers},
};

/// As it is installed.
pub(crate) const GREYGATE: &str = "greygate";
/// Greygate with twice as many threads for sessions as it would have.
const WORKER_A_CORE: &str = "greygate, a worker a core";

/// Everything that runs, and what was measured so far.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) peers: Peers,
    pub(crate) daemon: Daemon,
    worker_a_core: Daemon,
    bodies: Vec<Vec<u8>>,
    /// The next mail that nobody has seen.
    next: u32,
    /// By kind, and there by server.
    costs: Vec<BTreeMap<&'static str, Vec<Cost>>>,
    /// By kind.
    hashing: Vec<Vec<f64>>,
}

impl Messages {
    /// Starts greygate and its peers.
    pub(crate) fn start() -> Result<Self, Error> {
        let daemon = Daemon::start(GREYGATE, Setup::empty("hybrid", Workers::Default))?;
        let worker_a_core =
            Daemon::start(WORKER_A_CORE, Setup::empty("hybrid", Workers::OneACore))?;
        let namespace = Arc::clone(&daemon.server.namespace);
        let peers = Peers::start(&namespace, daemon.directory.path())?;
        let mut messages = Self {
            peers,
            daemon,
            worker_a_core,
            bodies: KINDS.iter().map(|kind| visit::text(kind.body)).collect(),
            next: 0,
            costs: Vec::new(),
            hashing: Vec::new(),
        };
        messages.forget();
        Ok(messages)
    }

    /// Measures everything once.
    pub(crate) fn round(&mut self) -> Result<(), Error> {
        for (index, kind) in KINDS.iter().enumerate() {
            let body = &self.bodies[index];
            let first = self.next;
            self.next += kind.sessions;
            let visits = |attempt, end| Visits {
                kind,
                body,
                first,
                attempt,
                end,
            };
            let mut costs = Vec::new();
            for daemon in [&self.daemon, &self.worker_a_core] {
                for attempt in 0..kind.before {
                    visits(attempt, None).at(&daemon.server)?;
                }
                let measured = visits(kind.before, Some(kind.end));
                let cost = measured.at(&daemon.server)?;
                costs.push((daemon.server.name, cost));
            }
            for name in kind.peers {
                let peer = self.peers.named(name, true)?;
                let measured = visits(kind.before, Some(Outcome::DeferredAtEnd));
                costs.push((*name, measured.at(peer)?));
            }
            self.hashing[index].push(digest::micros(body)?);
            for (name, cost) in costs {
                self.costs[index].entry(name).or_default().push(cost);
            }
        }
        Ok(())
    }

    /// Forgets what was measured.
    pub(crate) fn forget(&mut self) {
        self.costs = KINDS.iter().map(|_| BTreeMap::new()).collect();
        self.hashing = KINDS.iter().map(|_| Vec::new()).collect();
    }

    /// What was measured, in lines.
    pub(crate) fn report(&self, report: &mut Report) {
        for (index, kind) in KINDS.iter().enumerate() {
            report.heading(format!("CPU time: {}", kind.what));
            report.extend(self.rows_of(index, kind));
        }
    }

    fn rows_of(&self, index: usize, kind: &Kind) -> Vec<Row> {
        let costs = &self.costs[index];
        let figure = |name, part: fn(&Cost) -> f64| -> Figure {
            let samples = costs.get(name).map(|it| it.iter().map(part).collect());
            samples
                .and_then(Samples::new)
                .ok_or_else(|| "no round was finished".to_owned())
        };
        let row = |what: &str, unit, part: fn(&Cost) -> f64, target| Row {
            what: what.to_owned(),
            unit,
            greygate: figure(GREYGATE, part),
            beside: [&WORKER_A_CORE]
                .into_iter()
                .chain(kind.peers)
                .map(|name| (*name, figure(name, part)))
                .collect(),
            target,
        };
        let mut rows = vec![row(
            "microseconds",
            Unit::MicrosASession,
            |it| it.cpu_micros,
            kind.target,
        )];
        if let Some(target) = kind.hashes {
            rows.push(Row {
                what: "over the floor, beside its MD5 alone".to_owned(),
                unit: Unit::Times,
                greygate: self.hashes(index),
                beside: Vec::new(),
                target: Some(target),
            });
        }
        if let Some(hashing) = Samples::new(self.hashing[index].clone()) {
            rows[0].beside.push(("MD5 of the body", Ok(hashing)));
        }
        rows.push(row(
            "sessions a second",
            Unit::SessionsASecond,
            |it| it.rate,
            None,
        ));
        rows.push(row(
            "round trips",
            Unit::RoundTrips,
            |it| it.round_trips,
            None,
        ));
        rows
    }

    /// What greygate took more than the floor, in times of the MD5, round by round.
    fn hashes(&self, index: usize) -> Figure {
        let costs = &self.costs[index];
        let of = |name| costs.get(name).into_iter().flatten();
        let samples = of(GREYGATE)
            .zip(of(FLOOR))
            .zip(&self.hashing[index])
            .map(|((ours, floor), hashing)| (ours.cpu_micros - floor.cpu_micros) / hashing);
        Samples::new(samples.collect()).ok_or_else(|| "no round was finished".to_owned())
    }
}

/// Sessions of one kind, from mail number `first` on.
#[derive(Debug)]
struct Visits<'a> {
    kind: &'a Kind,
    body: &'a [u8],
    first: u32,
    /// Which attempt at their mail it is.
    attempt: u32,
    /// How they are to end, if that matters.
    end: Option<Outcome>,
}

impl Visits<'_> {
    fn at(&self, server: &Server) -> Result<Cost, Error> {
        Run {
            server,
            what: self.kind.what,
            first: self.first,
            sessions: self.kind.sessions,
            end: self.end,
            client: &|number| visit::client(number, self.attempt),
            body: &|_| self.body.to_vec(),
        }
        .play(Pace::AtOnce)
    }
}
