//! What is remembered of a client address: its strikes, and when it last authenticated.
//!
//! Only of clients that did one or the other, so most of the world is not in here. What a strike
//! costs is `ladder`'s.

use std::time::Duration;

use super::offence::Offence;
use super::reputation::Repute;
use super::rules::Policy;
use super::sentence::SentencedClient;
use super::time::{Second, Timestamp};

/// The facts about one client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// The latest successful AUTH; [`Second::NEVER`] if there was none.
    pub authenticated: Second,
    /// Strikes of this life; [`strikes`](Self::strikes) says whether they still count.
    pub strikes: u16,
    /// The latest strikes, the newest first, those of former lives included.
    pub latest: [Option<Strike>; Self::REMEMBERED],
    /// Counts the lives: forgiving begins the next one, and so does a strike after a quiet month.
    pub life: u16,
}

/// One strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strike {
    /// When.
    pub at: Second,
    /// What for.
    pub offence: Offence,
}

/// How far a client is protected from what its offence would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Not at all.
    None,
    /// A good record: it is sentenced to level rate at most.
    FromBlock,
    /// It is never sentenced, and its offences are no strikes.
    FromAll,
}

/// What is known of a client that has committed an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accused {
    /// Its address.
    pub address: std::net::IpAddr,
    /// What its past protects it from.
    pub protection: Protection,
    /// Whether it has passes on record.
    pub has_passed: bool,
}

impl ClientRecord {
    /// Strikes remembered with their time.
    pub const REMEMBERED: usize = 6;

    /// The record of a client of which nothing is known.
    pub const EMPTY: Self = Self {
        authenticated: Second::NEVER,
        strikes: 0,
        latest: [None; Self::REMEMBERED],
        life: 1,
    };

    /// Strikes that count at `now`: none after a quiet month.
    pub fn strikes(&self, policy: &Policy, now: Timestamp) -> u16 {
        if self.was_struck_within(policy.punish.forgive_after, now) {
            self.strikes
        } else {
            0
        }
    }

    /// Whether its AUTH shields it at `now`.
    pub fn has_authenticated(&self, policy: &Policy, now: Timestamp) -> bool {
        is_within(policy.punish.authenticated, self.authenticated, now)
    }

    /// Whether nothing in here counts or is shown any more at `now`: the one definition. Strikes
    /// are shown for longer than they count.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        let shown = policy.punish.forgive_after.saturating_mul(SHOWN);
        !self.has_authenticated(policy, now) && !self.was_struck_within(shown, now)
    }

    /// After an AUTH at `now`; [`None`] if one was noted so lately that it makes no difference.
    pub fn authenticated(self, now: Timestamp) -> Option<Self> {
        let noted = Timestamp::from(self.authenticated);
        if noted <= now && now.since(noted) < AUTH_INTERVAL {
            return None;
        }
        let mut next = self;
        next.authenticated = now.into();
        Some(next)
    }

    /// Forgiven by an operator: no strike counts, and that there were some is still shown.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self {
            strikes: 0,
            life: self.life.saturating_add(1),
            ..self
        }
    }

    /// What is known by either of two. The higher life knows the strikes.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let lives = |it: &Self| (it.life, it.strikes);
        let (life, strikes) = lives(&self).max(lives(&other));
        Self {
            authenticated: self.authenticated.max(other.authenticated),
            strikes,
            latest: newest(self.latest, other.latest),
            life,
        }
    }

    /// With one more strike, at `now`.
    pub(super) fn struck(self, policy: &Policy, offence: Offence, now: Timestamp) -> Self {
        let strike = Strike {
            at: now.into(),
            offence,
        };
        let mut this_one = [None; Self::REMEMBERED];
        this_one[0] = Some(strike);
        let counted = self.strikes(policy, now);
        let life = if counted == 0 && self.strikes > 0 {
            self.life.saturating_add(1)
        } else {
            self.life
        };
        Self {
            strikes: counted.saturating_add(1),
            latest: newest(self.latest, this_one),
            life,
            ..self
        }
    }

    /// Whether a strike lies within `time` of `now`. All are asked: the newest may be of a clock that
    /// was wrong.
    pub(super) fn was_struck_within(&self, time: Duration, now: Timestamp) -> bool {
        let mut strikes = self.latest.iter().flatten();
        strikes.any(|strike| is_within(time, strike.at, now))
    }
}

/// What a client at `address` is protected from, its network's `repute` and whether it
/// `authenticated` lately being known.
pub fn protection(
    policy: &Policy,
    address: std::net::IpAddr,
    repute: Repute,
    authenticated: bool,
) -> Protection {
    if authenticated || policy.shields(SentencedClient::host(address)) {
        return Protection::FromAll;
    }
    match repute {
        Repute::Established => Protection::FromAll,
        Repute::Good => Protection::FromBlock,
        Repute::Unknown | Repute::Bad => Protection::None,
    }
}

/// Whether `fact` lies less than `time` before `now`, or after it: a clock that was wrong and then
/// set back leaves facts from the future, which shall not count for ever.
pub(super) fn is_within(time: Duration, fact: Second, now: Timestamp) -> bool {
    let at = Timestamp::from(fact);
    fact != Second::NEVER && now.since(at).max(at.since(now)) < time
}

/// The newest of both, none twice.
fn newest(
    one: [Option<Strike>; ClientRecord::REMEMBERED],
    other: [Option<Strike>; ClientRecord::REMEMBERED],
) -> [Option<Strike>; ClientRecord::REMEMBERED] {
    let mut all = [None; 2 * ClientRecord::REMEMBERED];
    all[..ClientRecord::REMEMBERED].copy_from_slice(&one);
    all[ClientRecord::REMEMBERED..].copy_from_slice(&other);
    all.sort_unstable_by(|a, b| b.cmp(a));
    let mut newest = [None; ClientRecord::REMEMBERED];
    let mut places = newest.iter_mut();
    let mut latest = None;
    for strike in all.into_iter().flatten() {
        if latest != Some(strike)
            && let Some(place) = places.next()
        {
            *place = Some(strike);
        }
        latest = Some(strike);
    }
    newest
}

/// Times [`forgive_after`](super::Punish::forgive_after) that strikes are shown.
const SHOWN: u32 = 6;

/// How often an AUTH is noted: it is asked for in days, and writing takes a lock.
const AUTH_INTERVAL: Duration = Duration::from_hours(1);
