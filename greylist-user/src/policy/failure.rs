//! What is remembered of a permanent failure, for an hour: a message that was rejected (5yz) and
//! is tried again and again.
//!
//! A queue takes a 5yz for the end of it. Who goes on is broken or does not listen, but only
//! evidence says that it is the same message that comes again:
//!
//! - Equal `SIZE=` from the same client, reverse-path and recipient is one message. Another size is
//!   other mail and counts for nothing, so a newsletter to a dead address, and a monitoring job
//!   that reports every few minutes, are none. Mails made of one template can be of one size to the
//!   byte; more than five of those within an hour, from one sender to one address that rejects
//!   them, are taken for one mail.
//! - Without a size the content tells, if the MTA lets the attempt come that far: a fingerprint that
//!   repeats. Refused at RCPT and without a size, nothing tells, and nothing counts.
//! - Bounces and probes have no size that tells: a relay makes all its bounces of one template, and
//!   a thousand of them to an unknown user are what a forger did to it. One bounce that comes again
//!   and again with one Message-ID and body is as broken as any mail, so content does count.
//!
//! The failure itself may be known without its evidence, when another filter tells of it. Then the
//! next attempt is taken for the same message: a wrong guess costs nothing, since as many more of
//! exactly that one must follow.

use super::attempt::{Attempt, Origin};
use super::fingerprint::Fingerprint;
use super::rules::Policy;
use super::time::{Second, Timestamp};

/// The facts about one client, reverse-path and recipient after a 5yz of enhanced status 5.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When the message failed first.
    pub since: Second,
    /// What tells the message: its announced size, or a part of its fingerprint with the highest bit
    /// set; 0 while that is not known.
    pub evidence: u32,
    /// The latest attempt that counted.
    pub latest: Timestamp,
    /// Addresses of this site tried in the present delivery round.
    pub round: u16,
    /// Retries since, or since they last were an offence.
    pub retries: u16,
    /// Counts the lives: a failure after this one has lapsed begins the next, and so does an
    /// offence.
    pub life: u16,
}

/// What an attempt after a failure has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It is other mail.
    None,
    /// It is the same message.
    Retry,
    /// Only its content can tell.
    WantsContent,
}

impl Failure {
    /// The failure of `attempt`, rejected at `now`, `prior` being what was remembered; and whether
    /// this was one retry too many.
    pub fn rejected(
        policy: &Policy,
        prior: Option<&Self>,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> (Self, bool) {
        let evidence = announced(policy, attempt);
        match prior {
            Some(prior) if !prior.has_lapsed(policy, now) => {
                let mut next = *prior;
                let offends = next.retried(policy, evidence, attempt, now);
                (next, offends)
            }
            _ => (
                Self::begun(prior, evidence, attempt.server.bit(), now),
                false,
            ),
        }
    }

    /// The failure of a message of which another filter tells, its size if that is known. What is
    /// remembered and has not lapsed stands: the attempt has been counted when it was made.
    pub fn reported(
        policy: &Policy,
        prior: Option<&Self>,
        size: Option<u64>,
        now: Timestamp,
    ) -> Self {
        match prior {
            Some(prior) if !prior.has_lapsed(policy, now) => *prior,
            _ => Self::begun(prior, size.map_or(UNKNOWN, of_size), 0, now),
        }
    }

    /// What `attempt`, made at `now` and not rejected by the MTA, has to do with it.
    pub fn bearing(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> Bearing {
        if attempt.origin == Origin::AnotherHost || self.has_lapsed(policy, now) {
            return Bearing::None;
        }
        let is_size = self.evidence != UNKNOWN && self.evidence & Fingerprint::EVIDENCE == 0;
        match announced(policy, attempt) {
            UNKNOWN if is_size => Bearing::None,
            UNKNOWN => Bearing::WantsContent,
            size if self.evidence == UNKNOWN || self.evidence == size => Bearing::Retry,
            _ => Bearing::None,
        }
    }

    /// Notes an attempt that may be a [retry](Bearing::Retry). Says whether it was one too many.
    pub fn note_attempt(&mut self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> bool {
        self.bearing(policy, attempt, now) == Bearing::Retry
            && self.retried(policy, announced(policy, attempt), attempt, now)
    }

    /// Notes the content of an attempt that [nothing else](Bearing::WantsContent) can tell. Says
    /// whether it was one retry too many.
    pub fn note_content(
        &mut self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> bool {
        self.bearing(policy, attempt, now) == Bearing::WantsContent
            && self.retried(policy, fingerprint.evidence(), attempt, now)
    }

    /// Whether it counts no more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        !self.since.is_within(policy.punish.rejected_window, now)
    }

    /// One record out of two of the same failure, from two hosts: the higher life wins. Within one,
    /// since is the smaller, latest the larger with its round, and retries the larger with the
    /// evidence that they were counted by.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let (latest, round) = (self.latest, self.round).max((other.latest, other.round));
        let (retries, evidence) =
            (self.retries, self.evidence).max((other.retries, other.evidence));
        Self {
            since: self.since.min(other.since),
            evidence,
            latest,
            round,
            retries,
            life: self.life,
        }
    }

    fn begun(prior: Option<&Self>, evidence: u32, round: u16, now: Timestamp) -> Self {
        Self {
            since: now.into(),
            evidence,
            latest: now,
            round,
            retries: 0,
            life: prior.map_or(1, |prior| prior.life.saturating_add(1)),
        }
    }

    /// Counts an attempt of the message that `evidence` tells, if it is this one, and not the same
    /// delivery round at another of our addresses. Says whether it was one too many; then as many
    /// again must follow until the next is.
    fn retried(
        &mut self,
        policy: &Policy,
        evidence: u32,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        if self.evidence == UNKNOWN {
            self.evidence = evidence;
        }
        if evidence == UNKNOWN || self.evidence != evidence {
            return false;
        }
        let server = attempt.server.bit();
        let in_round = self.round != 0 && now.since(self.latest) < policy.punish.round;
        if in_round && server != 0 && self.round & server == 0 {
            self.round |= server;
            return false;
        }
        self.round = server;
        self.latest = self.latest.max(now);
        self.retries = self.retries.saturating_add(1);
        let offends = self.retries > policy.punish.rejected_retries;
        if offends {
            self.retries = 0;
            self.life = self.life.saturating_add(1);
        }
        offends
    }
}

/// Whether the rejection of `attempt` says anything of its client: not on the word of another host, and
/// not of bounces and probes, which a forger has sent to whom he made up.
pub fn counts_rejections(policy: &Policy, attempt: &Attempt<'_>) -> bool {
    attempt.origin == Origin::ThisHost && !policy.is_probe_sender(attempt.reverse_path)
}

/// What the announced size of `attempt` tells of its message.
fn announced(policy: &Policy, attempt: &Attempt<'_>) -> u32 {
    if counts_rejections(policy, attempt) {
        of_size(attempt.announced_size)
    } else {
        UNKNOWN
    }
}

fn of_size(size: u64) -> u32 {
    let size = u32::try_from(size).unwrap_or(UNKNOWN);
    if size & Fingerprint::EVIDENCE == 0 {
        size
    } else {
        UNKNOWN
    }
}

/// Evidence that tells nothing.
const UNKNOWN: u32 = 0;

#[cfg(test)]
mod tests;
