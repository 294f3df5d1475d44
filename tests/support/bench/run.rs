//! Sessions at one server, as many at once as the rounds have, and what they took.

use std::{
    io,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    server::Server,
    visit::{Outcome, Visit},
};
use crate::{Error, interrupt, load::Load};

/// Sessions from mail number `first` on.
pub struct Run<'a> {
    /// Where.
    pub server: &'a Server,
    /// What kind of session it is, for who reads of an error.
    pub what: &'a str,
    /// The first mail's number.
    pub first: u32,
    /// How many there are.
    pub sessions: u32,
    /// How they are to end, if that matters.
    pub end: Option<Outcome>,
    /// Who comes with a mail.
    pub client: &'a (dyn Fn(u32) -> Ipv4Addr + Sync),
    /// Its body.
    pub body: &'a (dyn Fn(u32) -> Vec<u8> + Sync),
}

/// What the sessions took.
#[derive(Debug)]
pub struct Cost {
    /// Of the server, for each.
    pub cpu_micros: f64,
    /// Sessions a second.
    pub rate: f64,
    /// For each.
    pub round_trips: f64,
    /// To the answer that decides, in nanoseconds.
    pub latency: Histogram<u64>,
}

/// When sessions begin.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many at once, the next as soon as one has ended.
    AtOnce,
    /// So many a second, whether the server keeps up or not: a session that begins late, since those
    /// before it are late, has waited since it was due.
    Offered(f64),
}

impl Run<'_> {
    /// Plays them.
    pub fn play(&self, pace: Pace) -> Result<Cost, Error> {
        interrupt::check()?;
        let before = self.server.spent()?;
        let load = Load {
            first: 0,
            sessions: self.sessions,
            parallel: match pace {
                Pace::AtOnce => PARALLEL,
                Pace::Offered(_) => 4 * PARALLEL,
            },
            pid: None,
        };
        let round_trips = AtomicU32::new(0);
        let latencies: Vec<_> = (0..self.sessions).map(|_| AtomicU64::new(0)).collect();
        let played = self.server.namespace.run(|| {
            // So that a session begins when it is due, and not 50 µs later.
            nix::sys::prctl::set_timerslack(1)?;
            let begun = Instant::now();
            load.run(|index| {
                let due = match pace {
                    Pace::AtOnce => None,
                    Pace::Offered(rate) => {
                        let due = begun + Duration::from_secs_f64(f64::from(index) / rate);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        Some(due)
                    }
                };
                let number = self.first.wrapping_add(index);
                let body = (self.body)(number);
                let visit = Visit {
                    number,
                    client: (self.client)(number),
                    body: &body,
                };
                let due = due.unwrap_or_else(Instant::now);
                let played = self.server.play(&visit)?;
                round_trips.fetch_add(played.round_trips, Ordering::Relaxed);
                let waited = played.answered.saturating_duration_since(due).as_nanos();
                let waited = u64::try_from(waited).unwrap_or(u64::MAX);
                latencies[index as usize].store(waited, Ordering::Relaxed);
                Ok(self.end.is_none_or(|end| played.end == end))
            })
        });
        let spent = self.server.spent_since(&before)?;
        let doing = format!("{} at {}", self.what, self.server.name);
        let played = played.map_err(Error::io(&doing))?;
        // One network in 256 is taken for that of the visit before, and then a mail is not seen to roam.
        if played.others > self.sessions / 100 + 8 {
            return Err(Error::unexpected(
                format!("{doing}: the sessions should end as meant"),
                format!("{} of {} ended otherwise", played.others, self.sessions),
            ));
        }
        let sessions = f64::from(self.sessions);
        Ok(Cost {
            cpu_micros: spent.as_secs_f64() * 1e6 / sessions,
            rate: played.rate(),
            round_trips: f64::from(round_trips.into_inner()) / sessions,
            latency: histogram(latencies).map_err(Error::io(doing))?,
        })
    }
}

fn histogram(latencies: Vec<AtomicU64>) -> io::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3).map_err(io::Error::other)?;
    for nanos in latencies {
        histogram
            .record(nanos.into_inner())
            .map_err(io::Error::other)?;
    }
    Ok(histogram)
}

/// Sessions at once.
const PARALLEL: u32 = 32;
