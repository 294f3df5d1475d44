//! The mail that greylisting is there for: a tuple that nobody has seen, deferred. At greygate with few
//! tuples and with many, at filters that do nothing, and at other greylisters.

use std::net::Ipv4Addr;

use hdrhistogram::Histogram;
use support::{
    Error,
    bench::{
        daemon::{Daemon, Setup, Workers},
        fill,
        report::{Absent, Figure, Report, Row, Samples, Spread, Target, Unit},
        run::{Cost, Pace, Run},
        server::Server,
        visit::{self, Outcome},
    },
};

use crate::{
    greylisters::{self, Found, Greylister, MILTER_GREYLIST, POSTGREY, RSPAMD},
    memory::{self, Held},
    peers::{FLOOR, LIBMILTER, Peers},
};

/// What the targets are for.
pub(crate) const LARGE: &str = "greygate, 10 M tuples";
const LARGE_WORKER_A_CORE: &str = "greygate, 10 M, a worker a core";
const MEDIUM: &str = "greygate, 1 M tuples";
const SMALL: &str = "greygate, 10 k tuples";

/// Everybody who is visited, and what that took so far.
#[derive(Debug)]
pub(crate) struct Newcomers {
    contenders: Vec<Contender>,
    absent: Vec<Absent>,
    /// The next mail that nobody has seen.
    next: u32,
    _daemons: Vec<Daemon>,
    _greylisters: Vec<Greylister>,
}

/// One who is visited.
#[derive(Debug)]
struct Contender {
    server: Server,
    /// Tuples that it holds to begin with, if that is known.
    tuples: Option<u32>,
    /// Resident at the beginning.
    resident: u64,
    /// Sessions of a round.
    sessions: u32,
    /// Bytes of a message, if it takes one to be deferred.
    body: usize,
    idle: Option<Held>,
    costs: Vec<Cost>,
    /// At a quarter of what it can do.
    quarter: Histogram<u64>,
    offered: Vec<f64>,
}

impl Newcomers {
    /// Starts all, each with its tuples; `step` hears of what is begun.
    pub(crate) fn start(
        peers: &Peers,
        daemon: &Daemon,
        step: impl Fn(&str),
    ) -> Result<Self, Error> {
        let mut contenders = Vec::new();
        let mut daemons = Vec::new();
        for (name, tuples, workers) in [
            (LARGE, 10_000_000, Workers::Default),
            (LARGE_WORKER_A_CORE, 10_000_000, Workers::OneACore),
            (MEDIUM, 1_000_000, Workers::Default),
            (SMALL, 10_000, Workers::Default),
        ] {
            step(&format!("{name}: filled, written, loaded"));
            let daemon = Daemon::start(name, Setup::holding(tuples, workers))?;
            contenders.push(Contender::new(&daemon.server, Some(tuples), SESSIONS, 0)?);
            daemons.push(daemon);
        }
        for name in [FLOOR, LIBMILTER] {
            contenders.push(Contender::new(
                peers.named(name, false)?,
                None,
                SESSIONS,
                0,
            )?);
        }
        step("other greylisters");
        let namespace = &daemon.server.namespace;
        let directory = daemon.directory.path();
        let mut absent = Vec::new();
        let mut running = Vec::new();
        let found: [(Found, _, u32, usize); 3] = [
            (
                greylisters::milter_greylist(namespace, directory)?,
                Some(greylisters::MILLION),
                SESSIONS,
                0,
            ),
            (
                greylisters::rspamd(namespace, directory)?,
                None,
                SESSIONS / 20,
                4 << 10,
            ),
            (
                greylisters::postgrey(namespace, directory)?,
                None,
                SESSIONS / 10,
                0,
            ),
        ];
        for (found, tuples, sessions, body) in found {
            match found {
                Ok(greylister) => {
                    let contender = Contender::new(&greylister.server, tuples, sessions, body)?;
                    contenders.push(contender);
                    running.push(greylister);
                }
                Err(missing) => absent.push(missing),
            }
        }
        Ok(Self {
            contenders,
            absent,
            next: 0,
            _daemons: daemons,
            _greylisters: running,
        })
    }

    /// What idle connections take of each: before the sessions, which leave memory to be used again.
    pub(crate) fn hold_idle(&mut self) -> Result<(), Error> {
        for contender in &mut self.contenders {
            let connections = match contender.server.name {
                LARGE => 10_000,
                LARGE_WORKER_A_CORE | SMALL | MEDIUM | POSTGREY => continue,
                _ => 1_000,
            };
            contender.idle = Some(memory::hold(&contender.server, connections)?);
        }
        Ok(())
    }

    /// Visits everybody in turn: first as often as it can take, then at a quarter of that.
    pub(crate) fn round(&mut self) -> Result<(), Error> {
        for contender in &mut self.contenders {
            let cost = contender
                .run(self.next, contender.sessions)
                .play(Pace::AtOnce)?;
            self.next = self.next.wrapping_add(contender.sessions);
            contender.costs.push(cost);
        }
        for contender in &mut self.contenders {
            let Some(saturated) = contender.rate() else {
                continue;
            };
            let rate = saturated / 4.0;
            // A second of it, and no fewer than say something of the hundredth.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some thousands"
            )]
            let sessions = (rate as u32).max(200);
            let cost = contender
                .run(self.next, sessions)
                .play(Pace::Offered(rate))?;
            self.next = self.next.wrapping_add(sessions);
            let summed = contender.quarter.add(cost.latency);
            summed.map_err(|error| Error::unexpected("latencies add up", error))?;
            contender.offered.push(rate);
        }
        Ok(())
    }

    /// Forgets what was measured.
    pub(crate) fn forget(&mut self) {
        for contender in &mut self.contenders {
            contender.costs.clear();
            contender.quarter.clear();
            contender.offered.clear();
        }
    }

    /// What was measured, in lines.
    pub(crate) fn report(&self, report: &mut Report) {
        report.heading("CPU time: a new mail, deferred");
        report.push(self.row("microseconds", Unit::MicrosASession, |it| it.cpu_micros));
        self.tell_absent(report);
        for (what, peer, most) in [
            ("in times of the floor", FLOOR, 1.5),
            ("in times of milter-greylist", MILTER_GREYLIST, 0.2),
            ("in times of itself with 10 k tuples", SMALL, 1.2),
        ] {
            match self.ratio(peer) {
                Some(greygate) => report.push(Row {
                    what: what.to_owned(),
                    unit: Unit::Times,
                    greygate,
                    beside: Vec::new(),
                    target: Some(Target::AtMost(most)),
                }),
                None => report.absent(Absent {
                    what: what.to_owned(),
                    why: format!("so ≤ {most} is not known"),
                }),
            }
        }
        report.push(self.row("sessions a second", Unit::SessionsASecond, |it| it.rate));
        report.push(self.row("round trips", Unit::RoundTrips, |it| it.round_trips));
    }

    /// How long an answer took, as the client sees it.
    pub(crate) fn report_latency(&self, report: &mut Report) {
        let columns = &["/s", "p50 µs", "p99 µs", "max µs"];
        let spread = |what: &str, of: &dyn Fn(&Contender) -> Option<Latency>| Spread {
            what: what.to_owned(),
            columns,
            rows: self
                .contenders
                .iter()
                .filter_map(|contender| {
                    let (rate, latency) = of(contender)?;
                    let micros = [
                        latency.value_at_quantile(0.5),
                        latency.value_at_quantile(0.99),
                        latency.max(),
                    ];
                    let figures = micros.iter().map(|nanos| Some(to_float(*nanos) / 1e3));
                    let figures = std::iter::once(Some(rate)).chain(figures).collect();
                    Some((contender.server.name.to_owned(), figures))
                })
                .collect(),
        };
        report.spread(spread("the answer, at a quarter of saturation", &|it| {
            let rate = Samples::new(it.offered.clone())?.median();
            (!it.quarter.is_empty()).then(|| (rate, it.quarter.clone()))
        }));
        report.spread(spread("the answer, at saturation", &|it| {
            let mut all = Histogram::new(3).ok()?;
            for cost in &it.costs {
                all.add(&cost.latency).ok()?;
            }
            Some((it.rate()?, all))
        }));
    }

    /// What each holds of the machine's memory.
    pub(crate) fn report_memory(&self, report: &mut Report) {
        let rows = self.contenders.iter().map(|it| {
            let resident = to_float(it.resident);
            let tuples = it.tuples.map(f64::from);
            let each = tuples.filter(|it| *it >= 1e6).map(|it| resident / it);
            let figures = vec![Some(resident / 1e6), tuples, each];
            (it.server.name.to_owned(), figures)
        });
        report.spread(Spread {
            what: "resident before the first session".to_owned(),
            columns: &["MB", "tuples", "B/tuple"],
            rows: rows.collect(),
        });
        report.heading("memory of an idle connection");
        let parts: [(&str, Part); 2] = [
            ("after the options", |held| held.after_options),
            ("after RCPT", |held| held.after_rcpt),
        ];
        for (what, part) in parts {
            let figure = |contender: &Contender| {
                let held = contender.idle.as_ref();
                held.map(|held| Ok(Samples::one(part(held))))
            };
            let ours = self.named(LARGE).and_then(figure);
            let beside = self.contenders.iter().filter(|it| it.server.name != LARGE);
            report.push(Row {
                what: what.to_owned(),
                unit: Unit::Bytes,
                greygate: ours.unwrap_or_else(nothing),
                beside: beside
                    .filter_map(|it| Some((it.server.name, figure(it)?)))
                    .collect(),
                target: Some(Target::AtMost(4096.0)),
            });
        }
    }

    fn row(&self, what: &str, unit: Unit, part: fn(&Cost) -> f64) -> Row {
        let beside = self.contenders.iter().filter(|it| it.server.name != LARGE);
        Row {
            what: what.to_owned(),
            unit,
            greygate: self.figure(LARGE, part).unwrap_or_else(nothing),
            beside: beside.map(|it| (it.server.name, it.figure(part))).collect(),
            target: None,
        }
    }

    /// CPU time with most tuples in times of `peer`'s, round by round.
    fn ratio(&self, peer: &str) -> Option<Figure> {
        let ours = self.figure(LARGE, |it| it.cpu_micros)?;
        let theirs = self.figure(peer, |it| it.cpu_micros)?;
        Some(ours.and_then(|ours| Ok(ours.over(&theirs?))))
    }

    fn figure(&self, name: &str, part: fn(&Cost) -> f64) -> Option<Figure> {
        self.named(name).map(|it| it.figure(part))
    }

    fn named(&self, name: &str) -> Option<&Contender> {
        self.contenders.iter().find(|it| it.server.name == name)
    }

    fn tell_absent(&self, report: &mut Report) {
        for Absent { what, why } in &self.absent {
            report.absent(Absent {
                what: what.clone(),
                why: why.clone(),
            });
        }
    }
}

impl Contender {
    fn new(
        server: &Server,
        tuples: Option<u32>,
        sessions: u32,
        body: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            server: server.clone(),
            tuples,
            resident: server.resident()?,
            sessions,
            body,
            idle: None,
            costs: Vec::new(),
            quarter: Histogram::new(3)
                .map_err(|error| Error::unexpected("a histogram has three figures", error))?,
            offered: Vec::new(),
        })
    }

    fn run(&self, first: u32, sessions: u32) -> Run<'_> {
        Run {
            server: &self.server,
            what: "a new mail",
            first,
            sessions,
            end: Some(match self.server.name {
                RSPAMD => Outcome::DeferredAtEnd,
                _ => Outcome::DeferredAtRcpt,
            }),
            client: &|number| -> Ipv4Addr { fill::newcomer(number) },
            body: match self.body {
                0 => &|_| Vec::new(),
                _ => &distinct,
            },
        }
    }

    /// Sessions a second when it has all it can take.
    fn rate(&self) -> Option<f64> {
        let rates = self.costs.iter().map(|cost| cost.rate).collect();
        Samples::new(rates).map(|rates| rates.median())
    }

    fn figure(&self, part: fn(&Cost) -> f64) -> Figure {
        Samples::new(self.costs.iter().map(part).collect())
            .ok_or_else(|| "no round was finished".to_owned())
    }
}

/// Sessions a second, and what their answers took.
type Latency = (f64, Histogram<u64>);

/// One of the figures.
type Part = fn(&Held) -> f64;

/// A body that no other mail has.
fn distinct(number: u32) -> Vec<u8> {
    let mut body = format!("This is message {number}.\r\n").into_bytes();
    body.extend(visit::text(4 << 10));
    body.truncate(4 << 10);
    body
}

fn nothing() -> Figure {
    Err("no round was finished".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn to_float(number: u64) -> f64 {
    number as f64
}

/// Sessions of a round, at whoever takes thousands a second.
const SESSIONS: u32 = 4_000;
