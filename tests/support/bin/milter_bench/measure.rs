//! The rounds: each kind of session at each server in turn, and the lines that come of it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use support::{
    Error,
    bench::report::{Figure, Row, Samples, Unit},
    interrupt,
    load::Load,
    netns::Namespace,
};

use crate::{
    digest,
    kinds::{KINDS, Kind},
    peers::{Daemon, FLOOR, GREYGATE, ONE_WORKER, Peers, Server},
    visit::{self, Outcome, Visit},
};

/// Everything that runs, and what was measured so far.
#[derive(Debug)]
pub(crate) struct Benchmark {
    peers: Peers,
    daemon: Daemon,
    one_worker: Daemon,
    bodies: Vec<Vec<u8>>,
    /// The next mail that nobody has seen.
    next: u32,
    /// By kind, and there by server.
    costs: Vec<BTreeMap<&'static str, Vec<Cost>>>,
    /// By kind.
    hashing: Vec<Vec<f64>>,
}

/// What the sessions of one measurement took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of the server, for each.
    cpu_micros: f64,
    rate: f64,
    round_trips: f64,
}

impl Benchmark {
    /// Starts greygate and its peers.
    pub(crate) fn start() -> Result<Self, Error> {
        let daemon = Daemon::start(GREYGATE, "hybrid", 0)?;
        let one_worker = Daemon::start(ONE_WORKER, "hybrid", 1)?;
        let peers = Peers::start(&daemon.namespace, daemon.directory.path())?;
        let mut benchmark = Self {
            peers,
            daemon,
            one_worker,
            bodies: KINDS.iter().map(|kind| visit::text(kind.body)).collect(),
            next: 0,
            costs: Vec::new(),
            hashing: Vec::new(),
        };
        benchmark.forget();
        Ok(benchmark)
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
            for daemon in [&self.daemon, &self.one_worker] {
                for attempt in 0..kind.before {
                    visits(attempt, None).at(&daemon.server, &daemon.namespace)?;
                }
                let measured = visits(kind.before, Some(kind.end));
                let cost = measured.at(&daemon.server, &daemon.namespace)?;
                costs.push((daemon.server.name, cost));
            }
            for name in kind.peers {
                let reads = kind.body > 0;
                let end = if reads {
                    Outcome::DeferredAtEnd
                } else {
                    Outcome::DeferredAtRcpt
                };
                let peer = self.peers.named(name, reads)?;
                let measured = visits(kind.before, Some(end));
                costs.push((*name, measured.at(peer, &self.daemon.namespace)?));
            }
            if !body.is_empty() {
                self.hashing[index].push(digest::micros(body)?);
            }
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
    pub(crate) fn rows(&self) -> Vec<Row> {
        let rows = KINDS.iter().enumerate();
        rows.flat_map(|(index, kind)| self.rows_of(index, kind))
            .collect()
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
            beside: [&ONE_WORKER]
                .into_iter()
                .chain(kind.peers)
                .map(|name| (*name, figure(name, part)))
                .collect(),
            target,
        };
        let mut rows = vec![row(
            kind.what,
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
    fn at(&self, server: &Server, namespace: &Namespace) -> Result<Cost, Error> {
        interrupt::check()?;
        let kind = self.kind;
        let load = Load {
            first: self.first,
            sessions: kind.sessions,
            parallel: PARALLEL,
            pid: Some(server.pid),
        };
        let round_trips = AtomicU32::new(0);
        let session = |number| {
            let visit = Visit {
                number,
                attempt: self.attempt,
                body: self.body,
            };
            let (seen, trips) = visit.play(&server.endpoint)?;
            round_trips.fetch_add(trips, Ordering::Relaxed);
            Ok(self.end.is_none_or(|end| seen == end))
        };
        let played = namespace.run(|| load.run(session));
        let played = played.map_err(Error::io(format!("{} at {}", kind.what, server.name)))?;
        // One network in 256 is taken for that of the visit before, and then a mail is not seen to roam.
        if played.others > kind.sessions / 100 + 8 {
            return Err(Error::unexpected(
                format!(
                    "{}: the sessions at {} should end so",
                    kind.what, server.name
                ),
                format!("{} of {} ended otherwise", played.others, kind.sessions),
            ));
        }
        Ok(Cost {
            cpu_micros: played.cpu_per_session().unwrap_or(f64::NAN),
            rate: played.rate(),
            round_trips: f64::from(round_trips.into_inner()) / f64::from(kind.sessions),
        })
    }
}

/// Sessions at once.
const PARALLEL: u32 = 32;
