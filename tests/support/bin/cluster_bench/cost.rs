//! Sessions at all hosts of a site at once, and what they cost the hosts, their engine and the wire, until
//! everything is told and on the disk.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use support::{
    Error,
    bench::{
        fill,
        run::{self, Pace, Run},
        visit::Outcome,
    },
    interrupt,
};

use crate::{
    site::Site,
    wire::{Flow, Traffic},
};

/// What sessions cost, or hosts that nobody visits.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Microseconds of the hosts' CPU time, for one session; for a second of one host where there was none.
    pub(crate) session: f64,
    /// Sessions a second, at all hosts.
    pub(crate) rate: f64,
    /// How long the answers took that decided.
    pub(crate) latency: Histogram<u64>,
    /// What sharing came to, where there is any.
    pub(crate) sharing: Option<Sharing>,
}

/// What sharing came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing {
    /// Microseconds of the threads that share, for one session.
    pub(crate) thread: f64,
    /// Microseconds of the engine's CPU time, for one session.
    pub(crate) engine: f64,
    /// Changes that were told, for one session.
    pub(crate) changes: f64,
    /// Changes told a second, from the first session to the last change.
    pub(crate) pace: f64,
    /// Bytes of a session's questions.
    pub(crate) questions: Flow,
    /// Bytes of a session's changes.
    pub(crate) told: Flow,
    /// Questions that were asked, for one session.
    pub(crate) asked: f64,
    /// Sessions that decided without the answer, of all that wanted one, for one session.
    pub(crate) unanswered: f64,
}

/// Plays `sessions` with mails from number `first` on, which the hosts have among them.
pub(crate) fn play(
    site: &Site,
    what: &str,
    first: u32,
    sessions: u32,
    pace: Pace,
) -> Result<Cost, Error> {
    let hosts = u32::try_from(site.hosts.len()).expect("a few");
    let each = sessions / hosts;
    let pace = match pace {
        Pace::Offered(rate) => Pace::Offered(rate / f64::from(hosts)),
        Pace::AtOnce => Pace::AtOnce,
    };
    measured(site, Some(each * hosts), || {
        at_all_hosts(site, what, first, each, pace)
    })
}

/// Lets a moment go by in which nobody comes.
pub(crate) fn rest(site: &Site) -> Result<Cost, Error> {
    measured(site, None, || {
        interrupt::pause(QUIET)?;
        Ok(Vec::new())
    })
}

/// Does `work`, and says what that cost until all is told and written: by session, or by second of a host.
fn measured(
    site: &Site,
    sessions: Option<u32>,
    work: impl FnOnce() -> Result<Vec<run::Cost>, Error>,
) -> Result<Cost, Error> {
    let said = site.telling()?;
    let traffic = site.engine.as_ref().map(Traffic::of).transpose()?;
    let spent = site.spent()?;
    let begun = Instant::now();
    let played = work()?;
    let played_for = begun.elapsed();
    let told_until = match site.engine {
        Some(_) => site.wait_until_told()?,
        None => Instant::now(),
    };
    // Everybody's journal is written by then, too.
    interrupt::pause(JOURNAL)?;
    let spent = site.spent()?.since(spent);
    let took = begun.elapsed();
    let said = site.telling()?.since(&said);

    let host_seconds =
        || f64::from(u32::try_from(site.hosts.len()).expect("a few")) * took.as_secs_f64();
    let units = sessions.map_or_else(host_seconds, f64::from);
    let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / units;
    let sharing = match (&site.engine, traffic) {
        (Some(engine), Some(traffic)) => {
            let traffic = Traffic::of(engine)?.since(traffic);
            Some(Sharing {
                thread: micros(spent.sharing),
                engine: micros(spent.engine),
                changes: said.told / units,
                pace: said.told / (told_until - begun).as_secs_f64(),
                questions: traffic.questions.over(units),
                told: traffic.changes.over(units),
                asked: said.asked / units,
                unanswered: said.unanswered / units,
            })
        }
        _ => None,
    };
    let mut latency = Histogram::new(3).map_err(|error| Error::unexpected("a histogram", error))?;
    for cost in &played {
        let summed = latency.add(&cost.latency);
        summed.map_err(|error| Error::unexpected("latencies add up", error))?;
    }
    Ok(Cost {
        session: micros(spent.hosts),
        rate: sessions.map_or(0.0, f64::from) / played_for.as_secs_f64(),
        latency,
        sharing,
    })
}

fn at_all_hosts(
    site: &Site,
    what: &str,
    first: u32,
    each: u32,
    pace: Pace,
) -> Result<Vec<run::Cost>, Error> {
    thread::scope(|scope| {
        let runs = site.hosts.iter().zip(0..).map(|(host, number): (_, u32)| {
            scope.spawn(move || {
                let run = Run {
                    server: &host.server,
                    what,
                    first: first.wrapping_add(number * each),
                    sessions: each,
                    end: Some(Outcome::DeferredAtRcpt),
                    client: &|number| -> Ipv4Addr { fill::newcomer(number) },
                    body: &|_| Vec::new(),
                };
                run.play(pace)
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter()
            .map(|run| run.join().expect("no panic is wanted"))
            .collect()
    })
}

/// A second until the journal is written, and some.
const JOURNAL: Duration = Duration::from_millis(1_200);
/// In which nobody comes.
const QUIET: Duration = Duration::from_secs(2);
