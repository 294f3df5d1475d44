//! What is remembered of a client address: its strikes, and when it last authenticated.
//!
//! Only of clients that did one or the other, so most of the world is not in here.

use super::attempt::Attempt;
use super::history::History;
use super::offence::Offence;
use super::reputation::Repute;
use super::rules::Policy;
use super::sentence::{Sentence, SentencedClient};
use super::time::{Second, Timestamp};

/// The facts about one client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// The latest successful AUTH; [`Second::NEVER`] if there was none.
    pub authenticated: Second,
    /// Strikes of this life that have not been forgiven by a quiet month.
    pub strikes: u16,
    /// The latest strikes, the newest first, those of before a quiet month included.
    pub latest: [Option<Strike>; Self::REMEMBERED],
    /// Counts the lives: forgiving begins the next one.
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

/// What an offence comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// What to remember of the client.
    pub next: ClientRecord,
    /// What it is sentenced to.
    pub sentence: Option<Sentence>,
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
        let latest = self.latest.iter().flatten().map(|it| it.at).max();
        let counts = |at: Second| now.since(at.into()) < policy.punish.forgive_after;
        if latest.is_some_and(counts) {
            self.strikes
        } else {
            0
        }
    }
}

/// What `offence`, committed at `now`, comes to for a client of which `prior` is remembered.
pub fn strike(
    policy: &Policy,
    prior: Option<&ClientRecord>,
    accused: &Accused,
    offence: Offence,
    history: History,
    now: Timestamp,
) -> Struck {
    let _ = (accused, history);
    let next = *prior.unwrap_or(&ClientRecord::EMPTY);
    Struck {
        next,
        sentence: Some(super::punish::sentence(
            policy,
            accused.address,
            offence,
            now,
        )),
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

/// Whether `sentence`, in force, has the session of `attempt` turned away.
pub fn turns_away(
    policy: &Policy,
    sentence: &Sentence,
    attempt: &Attempt<'_>,
    history: History,
    now: Timestamp,
) -> bool {
    let _ = (policy, sentence, attempt, history, now);
    false
}
