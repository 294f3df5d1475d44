//! What is remembered of a message by its fingerprint, and when it passes for that.
//!
//! A message that comes again, byte for byte and with the same Message-ID, reverse-path and
//! recipient, is queued somewhere: worms and bots that give up after DATA do not do that. So it
//! passes from any network, once [`ContentRules::delay`] has gone by since it was first read. The
//! first-seen time is never moved by an early retry, so that who retries each minute passes for any
//! delay.
//!
//! **A passed fingerprint is spent**: for [`ContentRules::repeat`] it is accepted again, since a
//! sender may have split the recipients; then it is new. Whoever sends one template for ever gets
//! these minutes and no more.
//!
//! Knows nothing of tuples and pairs, see `record` and `pair`, nor of bytes, see `fingerprint`.
//!
//! [`ContentRules::delay`]: super::ContentRules::delay
//! [`ContentRules::repeat`]: super::ContentRules::repeat

use std::time::Duration;

use super::Attempt;
use super::fingerprint::Fingerprint;
use super::rules::{Action, Mode, Policy};
use super::time::{Second, Timestamp};
use super::tuple::NetworkMark;
use super::verdict::{DeferReason, PassReason, ReadReason, Verdict};

/// The facts about one message to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRecord {
    /// When it was first read in this life. An early retry never moves it.
    pub first_seen: Timestamp,
    /// When it was read last.
    pub last_seen: Second,
    /// When it first passed in this life; [`Second::NEVER`] while it is pending.
    pub passed: Second,
    /// Times it was read in this life, the first included.
    pub attempts: u16,
    /// Times it passed in this life.
    pub passes: u16,
    /// Counts the lives: a reading after the record has lapsed begins the next one.
    pub life: u16,
    /// The network that began this life: whose share of the room it takes.
    pub network: NetworkMark,
}

/// Where the record of a message stands at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentStanding {
    /// It may pass after `left`.
    Early {
        /// Time until it may.
        left: Duration,
    },
    /// It may pass.
    InWindow {
        /// From when it was first read to now.
        waited: Duration,
    },
    /// The record is void: the retry window closed, or it is spent.
    Lapsed,
    /// It has passed, and may again.
    Passed,
}

impl ContentRecord {
    /// The record of a message that was first read at `now`, in the given life, from `network`.
    pub fn begun(life: u16, network: NetworkMark, now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_seen: now.into(),
            passed: Second::NEVER,
            attempts: 1,
            passes: 0,
            life,
            network,
        }
    }

    /// The record after the message was read at `now`, coming from `network`.
    #[must_use]
    pub fn read(
        prior: Option<&Self>,
        policy: &Policy,
        network: NetworkMark,
        now: Timestamp,
    ) -> Self {
        match prior {
            None => Self::begun(1, network, now),
            Some(prior) if prior.has_lapsed(policy, now) => {
                Self::begun(prior.life.saturating_add(1), network, now)
            }
            Some(prior) => Self {
                last_seen: prior.last_seen.max(now.into()),
                attempts: prior.attempts.saturating_add(1),
                ..*prior
            },
        }
    }

    /// Notes that the message passes at `now`. Says whether it is the first time in this life.
    pub fn note_pass(&mut self, now: Timestamp) -> bool {
        let is_first = self.passed == Second::NEVER;
        if is_first {
            self.passed = now.into();
        }
        self.passes = self.passes.saturating_add(1);
        is_first
    }

    /// Where the record stands at `now`: the one definition, for look-up, sweep and listing.
    pub fn standing(&self, policy: &Policy, now: Timestamp) -> ContentStanding {
        let rules = &policy.content;
        // A clock that was wrong and then set back leaves records from the future. Nobody shall
        // wait until the future is reached again.
        if now >= self.lapses(policy) || self.first_seen > now.after(rules.delay) {
            return ContentStanding::Lapsed;
        }
        if self.passed != Second::NEVER {
            return ContentStanding::Passed;
        }
        let waited = now.since(self.first_seen);
        match rules.delay.checked_sub(waited) {
            Some(left) if !left.is_zero() => ContentStanding::Early { left },
            _ => ContentStanding::InWindow { waited },
        }
    }

    /// Whether the record is void at `now`.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.standing(policy, now) == ContentStanding::Lapsed
    }

    /// When the record lapses, whatever more is heard of its message.
    pub fn lapses(&self, policy: &Policy) -> Timestamp {
        if self.passed == Second::NEVER {
            self.first_seen.after(policy.retry_window)
        } else {
            Timestamp::from(self.passed).after(policy.content.repeat)
        }
    }

    /// One record out of two of the same message: the higher life wins; within one life first-seen,
    /// and who began, are of the one that began first, all else is the larger.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let (first_seen, network) =
            (self.first_seen, self.network).min((other.first_seen, other.network));
        Self {
            first_seen,
            network,
            last_seen: self.last_seen.max(other.last_seen),
            passed: self.passed.max(other.passed),
            attempts: self.attempts.max(other.attempts),
            passes: self.passes.max(other.passes),
            life: self.life,
        }
    }
}

impl ContentStanding {
    /// What a message deserves that is read when its record stands here, `prior` to that reading.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Early { left } => Verdict::Defer(DeferReason::ContentEarly { left }),
            Self::InWindow { waited } => Verdict::Pass(PassReason::Content { waited }),
            Self::Lapsed => Verdict::Defer(DeferReason::ContentNew),
            Self::Passed => Verdict::Pass(PassReason::ContentAgain),
        }
    }
}

/// Why the message of `attempt` is to be read before it can be deferred, if so: its sender and
/// recipient have been `roaming` from network to network, for one.
///
/// While greylisting only observes nothing is read: what was let through does not come again.
pub fn reads(policy: &Policy, attempt: &Attempt<'_>, roaming: bool) -> Option<ReadReason> {
    if policy.action == Action::Observe {
        return None;
    }
    match policy.mode {
        Mode::Envelope => None,
        Mode::Content => Some(ReadReason::Mode),
        Mode::Hybrid if policy.is_probe_sender(attempt.reverse_path) => Some(ReadReason::Probe),
        Mode::Hybrid => roaming.then_some(ReadReason::Roaming),
    }
}

/// Many are held: a field that makes the entry larger is a decision, not an accident.
const _: () = assert!(size_of::<(Fingerprint, ContentRecord)>() <= 40);
