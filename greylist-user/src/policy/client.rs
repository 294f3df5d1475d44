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
    /// Rungs of the ladder that were carried out in this life: who has not felt one, since sentences
    /// or blocks were only observed, is not sent up to the next.
    pub felt: u16,
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
        felt: 0,
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
        self.authenticated
            .is_within(policy.punish.authenticated, now)
    }

    /// Whether nothing in here counts or is shown any more at `now`: the one definition. Strikes
    /// are shown for longer than they count.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        let shown = policy.punish.forgive_after.saturating_mul(SHOWN);
        !self.has_authenticated(policy, now) && !self.was_struck_within(shown, now)
    }

    /// After an AUTH at `now`; [`None`] if one was noted so lately that it makes no difference.
    pub fn after_auth(self, now: Timestamp) -> Option<Self> {
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
            felt: 0,
            life: self.life.saturating_add(1),
            ..self
        }
    }

    /// What is known by either of two. The higher life knows the strikes.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let life = self.life.max(other.life);
        let lived = |it: &Self| {
            if it.life == life {
                (it.strikes, it.felt)
            } else {
                (0, 0)
            }
        };
        let (one, another) = (lived(&self), lived(&other));
        Self {
            authenticated: self.authenticated.max(other.authenticated),
            strikes: one.0.max(another.0),
            felt: one.1.max(another.1),
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
            felt: if counted == 0 { 0 } else { self.felt },
            latest: newest(self.latest, this_one),
            life,
            ..self
        }
    }

    /// Whether a strike lies within `time` of `now`. All are asked: the newest may be of a clock that
    /// was wrong.
    pub(super) fn was_struck_within(&self, time: Duration, now: Timestamp) -> bool {
        let mut strikes = self.latest.iter().flatten();
        strikes.any(|strike| strike.at.is_within(time, now))
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
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::T0;

    fn days(days: u64) -> Timestamp {
        T0.after(Duration::from_hours(24 * days))
    }

    fn struck_on(record: ClientRecord, now: Timestamp) -> ClientRecord {
        record.struck(&Policy::default(), Offence::RapidRetries, now)
    }

    #[test]
    fn quiet_month_forgives_and_the_history_stays() {
        let policy = Policy::default();
        let twice = struck_on(struck_on(ClientRecord::EMPTY, days(0)), days(3));
        assert_eq!(twice.strikes(&policy, days(32)), 2);
        assert_eq!(twice.strikes(&policy, days(33)), 0);
        let again = struck_on(twice, days(33));
        assert_eq!((again.strikes, again.life), (1, 2));
        let history: Vec<_> = again.latest.iter().flatten().map(|it| it.at).collect();
        assert_eq!(history, [days(33), days(3), days(0)].map(Second::from));
        assert_eq!(again.merge(twice), again, "the life before counts no more");
    }

    #[test]
    fn history_is_of_the_latest_six() {
        let record = (0..10).map(days).fold(ClientRecord::EMPTY, struck_on);
        assert_eq!(record.strikes, 10);
        let history: Vec<_> = record.latest.iter().flatten().map(|it| it.at).collect();
        assert_eq!(
            history,
            [9, 8, 7, 6, 5, 4].map(|day| Second::from(days(day)))
        );
    }

    #[test]
    fn strikes_are_shown_for_half_a_year_and_forgotten_then() {
        let policy = Policy::default();
        let record = struck_on(ClientRecord::EMPTY, days(0)).forgiven();
        assert_eq!(record.strikes(&policy, days(0)), 0);
        assert!(!record.has_lapsed(&policy, days(179)));
        assert!(record.has_lapsed(&policy, days(180)));
        assert!(ClientRecord::EMPTY.has_lapsed(&policy, days(0)));
    }

    #[test]
    fn auth_shields_for_a_fortnight_and_is_noted_once_an_hour() {
        let policy = Policy::default();
        let record = ClientRecord::EMPTY.after_auth(T0).expect("it is the first");
        assert_eq!(record.after_auth(T0.after(Duration::from_mins(59))), None);
        assert!(
            record
                .after_auth(T0.after(Duration::from_hours(1)))
                .is_some()
        );
        assert!(record.has_authenticated(&policy, days(13)));
        assert!(!record.has_authenticated(&policy, days(14)));
        assert!(record.has_lapsed(&policy, days(14)));
    }

    #[test]
    fn what_a_wrong_clock_left_in_the_future_does_not_count_for_ever() {
        let policy = Policy::default();
        let ahead = struck_on(ClientRecord::EMPTY, days(3_000));
        let ahead = ahead.after_auth(days(3_000)).expect("it is the first");
        assert_eq!(ahead.strikes(&policy, days(0)), 0);
        assert!(!ahead.has_authenticated(&policy, days(0)));
        assert!(ahead.has_lapsed(&policy, days(0)));
        assert!(ahead.after_auth(days(0)).is_some(), "the new time is noted");
        let climbs = struck_on(struck_on(ahead, days(0)), days(1));
        assert_eq!(climbs.strikes(&policy, days(1)), 2);
    }

    #[test]
    fn authenticated_and_shielded_and_established_are_protected_from_all() {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
        let private = std::net::Ipv4Addr::new(100, 64, 0, 7).into();
        let policy = Policy::default();
        let protected =
            |address, repute, authenticated| protection(&policy, address, repute, authenticated);
        assert_eq!(protected(address, Repute::Unknown, false), Protection::None);
        assert_eq!(protected(address, Repute::Bad, false), Protection::None);
        assert_eq!(
            protected(address, Repute::Good, false),
            Protection::FromBlock
        );
        assert_eq!(
            protected(address, Repute::Established, false),
            Protection::FromAll
        );
        assert_eq!(protected(address, Repute::Bad, true), Protection::FromAll);
        assert_eq!(protected(private, Repute::Bad, false), Protection::FromAll);
    }

    /// Few strikes, so that records have some in common.
    fn record() -> impl Strategy<Value = ClientRecord> {
        let strike =
            (1..8_u64, prop::sample::select(&Offence::ALL[..])).prop_map(|(at, offence)| Strike {
                at: Second::from(Timestamp::from_millis(at * 1_000)),
                offence,
            });
        let strikes = proptest::collection::vec(strike, 0..6);
        (strikes, (0..4_u16, 0..4_u16), 1..4_u16, 0..4_u64).prop_map(
            |(strikes, (count, felt), life, auth)| {
                let mut latest = [None; ClientRecord::REMEMBERED];
                for (place, strike) in latest.iter_mut().zip(strikes) {
                    *place = Some(strike);
                }
                ClientRecord {
                    authenticated: Second::from(Timestamp::from_millis(auth * 1_000)),
                    strikes: count,
                    felt,
                    latest: newest(latest, latest),
                    life,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn merge_is_the_same_in_any_order(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        }

        #[test]
        fn merge_keeps_the_newest_strikes_in_their_order(a in record(), b in record()) {
            let merged = a.merge(b).latest;
            let kept: Vec<_> = merged.iter().flatten().collect();
            prop_assert!(kept.is_sorted_by(|newer, older| newer > older), "{kept:?}");
            let held = |record: ClientRecord| record.latest.into_iter().flatten();
            for strike in held(a).chain(held(b)) {
                let is_old = kept.len() == ClientRecord::REMEMBERED && kept.iter().all(|it| **it > strike);
                prop_assert!(kept.contains(&&strike) || is_old);
            }
        }
    }
}
