//! The ladder of sentences: what a strike costs, how many it takes, and whom a sentence turns away.
//!
//! The first strike limits the rate for half an hour; each further one blocks for longer, a day
//! first. A day is also the most for whoever has mail that passed on record. Who has not felt a rung,
//! since it was only observed, is not sent up to the next.
//! What a good record, a list or AUTH protects from is [`Protection`]'s; how the kernel's drops
//! lengthen a sentence is `persistence`'s.

use std::net::IpAddr;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::attempt::Attempt;
use super::client::{Accused, ClientRecord, Protection};
use super::history::History;
use super::offence::{Offence, Outcome};
use super::persistence::Persistence;
use super::rules::{Action, Policy};
use super::sentence::{Sentence, SentenceLevel, SentenceReason, SentencedClient};
use super::time::Timestamp;

/// What an offence of a client that is liable comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// What to remember of the client.
    pub next: ClientRecord,
    /// What it is sentenced to; [`None`] if the offence belongs to the burst that it was struck for
    /// already.
    pub sentence: Option<Sentence>,
}

/// What becomes of an offence of `accused` that is no strike at `now`; [`None`] if it is one.
pub fn excuse(
    policy: &Policy,
    accused: &Accused,
    history: History,
    now: Timestamp,
) -> Option<Outcome> {
    if accused.protection == Protection::FromAll {
        Some(Outcome::Spared)
    } else if !history.judges(policy, now) {
        Some(Outcome::TooEarly)
    } else if [policy.punish.strike_action, policy.action].contains(&Action::Observe) {
        // While greylisting only observes, nobody is punished, whatever for.
        Some(Outcome::Observed)
    } else {
        None
    }
}

/// What `offence`, committed at `now` and not [excused](excuse), comes to for a client of which
/// `prior` is remembered.
///
/// Two runs of rapid retries take [`rapid_span`](super::Punish::rapid_span) each, if they come one
/// after the other. Offences that are closer are one burst: a message to two recipients, or an
/// attempt that convicts its client twice. A burst is one strike, even of rules without a span.
pub fn strike(
    policy: &Policy,
    prior: Option<&ClientRecord>,
    accused: &Accused,
    offence: Offence,
    history: History,
    now: Timestamp,
) -> Struck {
    let prior = prior.copied().unwrap_or(ClientRecord::EMPTY);
    let burst = policy.punish.rapid_span.max(SHORTEST_BURST);
    if prior.was_struck_within(burst, now) {
        return Struck {
            next: prior,
            sentence: None,
        };
    }
    let mut next = prior.struck(policy, offence, now);
    let rung = Rung::above(policy, accused, next.felt);
    if rung.is_carried_out(policy, history, now) {
        next.felt = rung.number;
    }
    Struck {
        next,
        sentence: Some(sentence(policy, accused.address, offence, rung, now)),
    }
}

/// `sentence`, a network's, shortened to what one is given in which somebody who was not struck has
/// mail that passed on record.
pub fn a_day_at_most(sentence: Sentence) -> Sentence {
    let day = spread(DAY, sentence.client, sentence.since);
    Sentence {
        until: sentence.until.min(sentence.since.after(day)),
        ..sentence
    }
}

/// Whether `sentence`, in force, has the session of `attempt` turned away: at level block always,
/// at level rate if the session is older than the sentence, since new ones are the kernel's part.
///
/// Of a session of which nobody knows when it began, or a sentence from before the clock was set
/// back, nothing can be said to be older: the milder answer is given.
pub fn turns_away(
    policy: &Policy,
    sentence: &Sentence,
    attempt: &Attempt<'_>,
    history: History,
    now: Timestamp,
) -> bool {
    let Some(upheld) = policy.uphold(*sentence, history, now) else {
        return false;
    };
    match upheld.level {
        SentenceLevel::Observe => false,
        SentenceLevel::Rate => {
            let connected = attempt.connected;
            connected != Timestamp::NEVER && connected < upheld.since && upheld.since <= now
        }
        SentenceLevel::Block => true,
    }
}

/// How hard and how long, before it is [`spread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rung {
    level: SentenceLevel,
    length: Duration,
    /// How many rungs are felt once this one is: what a good record softens is none more.
    number: u16,
}

impl Rung {
    /// The rung above the `felt` ones.
    fn above(policy: &Policy, accused: &Accused, felt: u16) -> Self {
        let punish = &policy.punish;
        let block = usize::from(felt)
            .checked_sub(1)
            .and_then(|further| punish.blocks.get(further).or(punish.blocks.last()));
        let Some(block) = block.filter(|_| accused.protection == Protection::None) else {
            return Self {
                level: SentenceLevel::Rate,
                length: punish.sentence,
                number: felt.max(1),
            };
        };
        let most = if accused.has_passed {
            DAY
        } else {
            Sentence::LONGEST
        };
        Self {
            level: SentenceLevel::Block,
            length: (*block).min(most),
            number: felt.saturating_add(1),
        }
    }

    /// Whether a sentence of this rung is more than observed at `now`.
    fn is_carried_out(self, policy: &Policy, history: History, now: Timestamp) -> bool {
        let is_block = self.level == SentenceLevel::Block;
        policy.punish.action == Action::Enforce && (!is_block || history.blocks(policy, now))
    }
}

/// The sentence of the client at `address` for an offence, committed at `now`, that put it on
/// `rung`.
fn sentence(
    policy: &Policy,
    address: IpAddr,
    offence: Offence,
    rung: Rung,
    now: Timestamp,
) -> Sentence {
    let client = SentencedClient::host(address);
    Sentence {
        client,
        level: match policy.punish.action {
            Action::Enforce => rung.level,
            Action::Observe => SentenceLevel::Observe,
        },
        reason: SentenceReason::Offence(offence),
        since: now,
        until: now.after(spread(rung.length, client, now)),
        persistence: Persistence::default(),
    }
}

/// `length`, or up to a tenth more, so that those who are sentenced at one time, as a botnet is,
/// do not all come back at another. The same for the same client and time.
///
/// Not keyed: who finds out how long it will be has gained nothing.
fn spread(length: Duration, client: SentencedClient, since: Timestamp) -> Duration {
    let network = client.network();
    let mut hasher = Xxh3::new();
    match network.addr() {
        IpAddr::V4(address) => hasher.update(&address.octets()),
        IpAddr::V6(address) => hasher.update(&address.octets()),
    }
    hasher.update(&[network.prefix_len()]);
    hasher.update(&since.as_millis().to_le_bytes());
    let tenth = length.as_millis() / 10;
    let more = (tenth * u128::from(hasher.digest())) >> 64;
    let more = Duration::from_millis(u64::try_from(more).unwrap_or(u64::MAX));
    length
        .saturating_add(more)
        .min(Sentence::LONGEST.max(length))
}

/// One message is named to all its recipients within this time.
const SHORTEST_BURST: Duration = Duration::from_secs(2);

/// The longest block of a client with mail that passed on record.
const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests;
