//! The watch for relay hopping: who used which HELO argument at which recipient in the last seconds,
//! and which HELO arguments were caught.
//!
//! Knows memory, locks, and who was convicted already; leaves to `policy` what makes an offence.
//!
//! Bounded, whatever strangers send. HELO argument and recipient are theirs to choose, so what is
//! seen of them lies on shelves of fixed size, where the stalest gives way to the newest: a flood
//! costs no memory and no time, only sight. With 131,072 sightings and a window of 30 s the watch
//! begins to lose some at about 3,000 attempts a second that each have another HELO argument or
//! recipient, and is blind from about 4,400 on; what still counted and was lost is itself counted.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::{STRANGERS, field};
use crate::policy::{
    Action, Attempt, ClientKey, ClientNetwork, HeloKey, HoppingHelo, Origin, Policy, Seed,
    SentencedClient, Sighting, Sightings, Suspect, Timestamp,
};

use super::metrics::Metrics;
use super::table::{Key, Table};

/// The tables of the watch.
#[derive(Debug)]
pub(super) struct Hops {
    pub(super) helos: Table<HeloKey, HoppingHelo>,
    sightings: Shelves<Sightings>,
    convictions: Shelves<Convictions>,
    /// When room was last made for HELO arguments, in milliseconds.
    cleared: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What an attempt came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hopped {
    /// The clients that it convicts, with their networks.
    pub(super) struck: Vec<(IpAddr, ClientNetwork)>,
    /// Whether its HELO argument is remembered, and is not its client's own name.
    pub(super) helo_hops: bool,
}

impl Hops {
    /// An empty watch.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            helos: Table::growing(HELOS),
            sightings: Shelves::new(SIGHTING_SHELVES, || Sightings::EMPTY),
            convictions: Shelves::new(CONVICTION_SHELVES, || Convictions::EMPTY),
            cleared: AtomicU64::new(0),
            metrics,
        }
    }

    /// Notes an attempt from `network`. One that another host reports is no evidence, but pays.
    pub(super) fn note(
        &self,
        policy: &Policy,
        seed: &Seed,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Hopped {
        let Some(sighting) = Sighting::of(seed, network, attempt, now) else {
            return Hopped::default();
        };
        let action = consequence(policy);
        let mut struck = Vec::new();
        if attempt.origin == Origin::ThisHost {
            let key = sighting.key();
            let mut watched = self.sightings.lock(&key);
            let finding = watched.note(policy, sighting, now);
            let suspects = finding.are_strangers.then(|| {
                let suspects = watched.suspects(policy, key, now);
                suspects.collect::<Vec<_>>()
            });
            drop(watched);
            if finding.displaced {
                self.metrics.hops_displaced.inc();
            }
            if finding.is_hopping {
                let suspects = suspects.unwrap_or_default();
                struck = self.catch(policy, seed, attempt, suspects, now);
            }
        }
        let helo_hops = self.remembers(policy, seed, attempt, now);
        if helo_hops {
            self.metrics.hopping_slowed(action).inc();
        }
        match action {
            Action::Enforce => Hopped { struck, helo_hops },
            Action::Observe => Hopped::default(),
        }
    }

    /// Remembers the HELO argument of `attempt`, and gives those of `suspects` who are convicted
    /// now.
    fn catch(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        suspects: Vec<Suspect>,
        now: Timestamp,
    ) -> Vec<(IpAddr, ClientNetwork)> {
        let is_new = self.remember(policy, seed.helo_key(attempt.helo), now);
        let convicted: Vec<_> = suspects
            .into_iter()
            .filter(|suspect| self.convict(policy, seed, suspect, now))
            .map(|suspect| (suspect.address, suspect.network))
            .collect();
        if !is_new && convicted.is_empty() {
            return convicted;
        }
        let action = consequence(policy);
        self.metrics
            .hopping_caught(action)
            .inc_by(convicted.len() as u64);
        let helo = field(attempt.helo);
        let clients = convicted.iter().map(|(address, _)| address);
        let clients = clients.map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        match action {
            Action::Enforce => {
                tracing::info!(name: "caught", target: STRANGERS, %helo, clients, "caught");
            }
            Action::Observe => {
                tracing::info!(name: "would-catch", target: STRANGERS, %helo, clients, "would-catch");
            }
        }
        convicted
    }

    /// Remembers a HELO argument that was caught. Whether that is news: it was not, or is caught
    /// again after a quiet window.
    fn remember(&self, policy: &Policy, key: HeloKey, now: Timestamp) -> bool {
        let caught = |prior: Option<&HoppingHelo>| {
            let next = HoppingHelo::caught(prior, policy, now);
            let is_new = prior.is_none_or(|it| (it.life, it.times) != (next.life, next.times));
            (next, is_new)
        };
        let remembered = self.helos.update(key, caught).or_else(|full| {
            if self.make_room(policy, now) {
                self.helos.update(key, caught)
            } else {
                Err(full)
            }
        });
        remembered.unwrap_or_else(|_| {
            self.metrics.helos_unrecorded.inc();
            false
        })
    }

    /// Removes the HELO arguments that have lapsed, unless that was tried lately: a walk through
    /// them all takes a millisecond. Whether it was tried now.
    fn make_room(&self, policy: &Policy, now: Timestamp) -> bool {
        let last = self.cleared.load(Ordering::Relaxed);
        let since = now.as_millis().abs_diff(last);
        let is_due = u128::from(since) >= CLEARING_INTERVAL.as_millis()
            && self
                .cleared
                .compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            for aisle in 0..self.helos.aisles() {
                self.helos
                    .retain_in_aisle(aisle, |helo| !helo.has_lapsed(policy, now));
            }
        }
        is_due
    }

    /// Whether an attempt from `network` would wait longer for its HELO argument. Notes nothing.
    pub(super) fn slows(
        &self,
        policy: &Policy,
        seed: &Seed,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        consequence(policy) == Action::Enforce
            && Sighting::of(seed, network, attempt, now).is_some()
            && self.remembers(policy, seed, attempt, now)
    }

    /// Whether the HELO argument of `attempt` is remembered. Free as long as none is.
    fn remembers(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        let remembered = || self.helos.get(&seed.helo_key(attempt.helo));
        self.helos.len() > 0 && remembered().is_some_and(|helo| !helo.has_lapsed(policy, now))
    }

    /// Whether `suspect` is convicted now. It is once in a window, of however many recipients: what
    /// it did until the window after its conviction was over is part of the same offence.
    fn convict(&self, policy: &Policy, seed: &Seed, suspect: &Suspect, now: Timestamp) -> bool {
        let key = seed.client_key(SentencedClient::host(suspect.address));
        let window = policy.punish.hopping_window;
        self.convictions
            .lock(&key)
            .convict(key, suspect.at, now, window)
    }
}

/// Whether anything follows: not as long as greylisting itself only observes.
fn consequence(policy: &Policy) -> Action {
    match policy.action {
        Action::Enforce => policy.punish.hopping_action,
        Action::Observe => Action::Observe,
    }
}

/// The latest convictions of some clients.
#[derive(Debug)]
struct Convictions([Option<Conviction>; Self::MOST]);

#[derive(Clone, Copy, Debug)]
struct Conviction {
    client: ClientKey,
    at: Timestamp,
}

impl Convictions {
    const MOST: usize = 8;
    const EMPTY: Self = Self([None; Self::MOST]);

    /// Notes that `client` is convicted at `now` of what it did at `deed`, unless that belongs to
    /// the offence it was convicted of before. The oldest conviction gives way.
    fn convict(
        &mut self,
        client: ClientKey,
        deed: Timestamp,
        now: Timestamp,
        window: Duration,
    ) -> bool {
        let prior = self.0.iter_mut().flatten().find(|it| it.client == client);
        if let Some(prior) = prior {
            // One from the future is of a clock that was set back since.
            let is_new = deed.since(prior.at) >= window || prior.at > now.after(window);
            if is_new {
                prior.at = now;
            }
            return is_new;
        }
        let oldest = self
            .0
            .iter_mut()
            .min_by_key(|it| it.map(|conviction| conviction.at));
        if let Some(oldest) = oldest {
            *oldest = Some(Conviction { client, at: now });
        }
        true
    }
}

/// Shelves of fixed size, each with a lock of its own; a key belongs to one of them.
struct Shelves<S>(Box<[Mutex<S>]>);

impl<S> Shelves<S> {
    fn new(number: usize, empty: impl Fn() -> S) -> Self {
        let shelves = std::iter::repeat_with(|| Mutex::new(empty()));
        Self(shelves.take(number).collect())
    }

    /// The shelf of `key`. What a panic left on it is still a shelf.
    fn lock(&self, key: &impl Key) -> MutexGuard<'_, S> {
        let scaled = u64::from(key.spread()) * self.0.len() as u64;
        let number = usize::try_from(scaled >> 32).expect("less than the number of shelves");
        self.0[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number: what lies on thousands of shelves is of no use in a log.
impl<S> std::fmt::Debug for Shelves<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shelves").field(&self.0.len()).finish()
    }
}

/// HELO arguments remembered at once: up to 4 MB when full.
const HELOS: usize = 65_536;

/// Least time between two walks in search of room.
const CLEARING_INTERVAL: Duration = Duration::from_mins(1);

/// Shelves of sightings: 131,072 sightings in all, 7.9 MB.
const SIGHTING_SHELVES: usize = 2_048;

/// Shelves of convictions: of 8,192 clients in all, 0.3 MB.
const CONVICTION_SHELVES: usize = 1_024;

/// What the watch takes at most, beside the HELO arguments that were caught.
const MEMORY: usize = 8_300_000;

const _: () = assert!(
    SIGHTING_SHELVES * size_of::<Mutex<Sightings>>()
        + CONVICTION_SHELVES * size_of::<Mutex<Convictions>>()
        <= MEMORY
);

#[cfg(test)]
mod tests;
