//! What an attempt deserves.
//!
//! The ladder, in order of precedence; the first rung that holds decides:
//!
//! 1. **Allowed**: an operator's allow list names the client. Always wins.
//! 2. **Authenticated, local**: the client authenticated, or is this site's own.
//! 3. **Sentenced**: the client has offended, and its session is turned away.
//! 4. **Bad reputation**: its network is known for bad mail.
//! 5. **Trusted**: the client network and folded reverse-path have earned trust by passing.
//! 6. **Trusted for content**: the client address has earned it for the sender's domain, by a message
//!    that came again. Not in envelope mode.
//!    In between, **evidence**: others vouch for the client, or only who looks suspicious is greylisted
//!    and it does not. Nothing is recorded of it.
//! 7. **Tuple**: what is remembered of the tuple says new, early, in the window, passed or late. In
//!    content mode having waited is no proof, and only a tuple that passed before still passes.
//! 8. **Content**: instead of being deferred on rung 7 the message is read, if [`reads`] gives a reason,
//!    and passes at its end if it was read before and its delay is over.
//! 9. **Persistence**: a message that was read and would be deferred for its content passes when its
//!    reverse-path and recipient have been tried often and long enough.
//!
//! Where content says nothing, the body being empty or there being no room to remember it, rung 7
//! answers at end of message what it would have answered before, in content mode too.
//!
//! The modes differ in rungs 6 to 9 alone. **Envelope** ends with rung 7, at RCPT. **Content** has
//! everything that rung 7 would defer, or pass for having waited, read. **Hybrid** reads null and probe
//! senders, which are not refused at RCPT, and those who come from another network than the one that
//! began; all others end with rung 7.
//!
//! [`exempt`] is rungs 1 and 2, [`turns_away`] 3, [`refusal`] 4, [`TrustRecord::is_trusted`] 5,
//! [`TrustRecord::is_earned_by_content`] 6, [`excused`] between 6 and 7, [`decide`] 7, [`ContentStanding::verdict`] 8,
//! [`PairRecord::has_persisted`] 9: they ask for ever more, and a rung that is not reached costs
//! nothing. Only rungs 7 and 8 can punish, so nobody on a higher rung is sentenced for an attempt. The
//! deny list and recipient policies will stand between 2 and 3.
//!
//! [`excused`]: super::excused
//! [`reads`]: super::reads
//! [`turns_away`]: super::turns_away
//! [`refusal`]: super::refusal
//! [`TrustRecord::is_trusted`]: super::TrustRecord::is_trusted
//! [`TrustRecord::is_earned_by_content`]: super::TrustRecord::is_earned_by_content
//! [`ContentStanding::verdict`]: super::ContentStanding::verdict
//! [`PairRecord::has_persisted`]: super::PairRecord::has_persisted

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::attempt::Attempt;
use super::content::reads;
use super::offence::Offence;
use super::record::{Record, Standing};
use super::rhythm::{self, Noted};
use super::rules::{Action, Policy};
use super::time::Timestamp;
use super::verdict::{DeferReason, PassReason, ReadReason, Verdict};

/// What follows from one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to answer.
    pub verdict: Verdict,
    /// What to remember of the tuple from now on.
    pub next: Record,
    /// What the client has done, if this attempt completed it.
    pub offence: Option<Offence>,
    /// Whether only the content of the message can prove what it looks like.
    pub wants_content: bool,
}

/// What is known around an attempt, beside its tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Its HELO argument is remembered for relay hopping, and its client is not that name's own.
    pub helo_hops: bool,
    /// A message of its sender to its recipient has failed permanently within the hour, and what
    /// this attempt announces does not tell whether it is the same.
    pub after_failure: bool,
    /// Why its message is read before it could be deferred, if it is.
    pub reads: Option<ReadReason>,
}

impl Decision {
    /// The decision where the attempt `roams`: what would be deferred is read.
    #[must_use]
    pub fn roaming(self, policy: &Policy, attempt: &Attempt<'_>, roams: bool) -> Self {
        let verdict = match (self.verdict, reads(policy, attempt, roams)) {
            (Verdict::Defer(_), Some(reason)) => Verdict::Read(reason),
            (verdict, _) => verdict,
        };
        Self { verdict, ..self }
    }

    /// How much longer the attempt, if it passes, would have had to wait if the extra delay were not
    /// only observed.
    pub fn would_wait(&self, policy: &Policy) -> Duration {
        match self.verdict {
            Verdict::Pass(PassReason::Waited { waited }) => {
                self.next.lengthened_delay(policy).saturating_sub(waited)
            }
            _ => Duration::ZERO,
        }
    }
}

/// Why `attempt` is not greylisted at all, whatever is remembered: rungs 1 and 2.
pub fn exempt(policy: &Policy, attempt: &Attempt<'_>) -> Option<PassReason> {
    let client = attempt.client.to_canonical();
    if names(&policy.allow, client) {
        Some(PassReason::Allowed)
    } else if attempt.authenticated {
        Some(PassReason::Authenticated)
    } else if client.is_loopback() || names(&policy.local, client) {
        Some(PassReason::Local)
    } else {
        None
    }
}

/// What `attempt`, neither exempt nor trusted, deserves at `now`, `prior` being what is remembered
/// of its tuple: rung 7, and whether rung 8 is asked.
pub fn decide(
    policy: &Policy,
    prior: Option<&Record>,
    attempt: &Attempt<'_>,
    circumstances: Circumstances,
    now: Timestamp,
) -> Decision {
    let mut decision = decide_by_tuple(policy, prior, attempt, circumstances, now);
    decision.wants_content |= circumstances.after_failure;
    decision
}

fn decide_by_tuple(
    policy: &Policy,
    prior: Option<&Record>,
    attempt: &Attempt<'_>,
    circumstances: Circumstances,
    now: Timestamp,
) -> Decision {
    let Circumstances {
        helo_hops, reads, ..
    } = circumstances;
    let defer = |reason, next, noted| defer(policy, reads, reason, next, noted);
    let begin = |life, reason| {
        let mut first = Record::begun(life, now);
        rhythm::note_first(policy, &mut first, attempt);
        if helo_hops {
            rhythm::note_hopping(policy, &mut first);
        }
        defer(reason, first, Noted::default())
    };
    let Some(prior) = prior else {
        return begin(1, DeferReason::New);
    };
    let mut next = *prior;
    if helo_hops && !prior.has_passed() {
        rhythm::note_hopping(policy, &mut next);
    }
    match next.standing(policy, now) {
        Standing::Lapsed => begin(prior.life.saturating_add(1), DeferReason::Late),
        Standing::Early { left } if rhythm::is_same_attempt(policy, prior, attempt, now) => {
            next.round |= attempt.server.bit();
            defer(DeferReason::Early { left }, next, Noted::default())
        }
        Standing::Early { .. } => {
            let noted = rhythm::note_early(policy, &mut next, attempt, now);
            next.note_attempt(attempt.server, now);
            let waited = now.since(next.first_seen);
            let left = next.delay(policy).saturating_sub(waited);
            defer(DeferReason::Early { left }, next, noted)
        }
        // Having waited is no proof where content alone is.
        Standing::InWindow { .. } if reads == Some(ReadReason::Mode) => {
            next.note_attempt(attempt.server, now);
            let left = Duration::ZERO;
            defer(DeferReason::Early { left }, next, Noted::default())
        }
        Standing::InWindow { waited } => {
            next.note_attempt(attempt.server, now);
            pass(PassReason::Waited { waited }, next, now)
        }
        Standing::Passed => {
            next.note_attempt(attempt.server, now);
            pass(PassReason::Passed, next, now)
        }
    }
}

fn defer(
    policy: &Policy,
    reads: Option<ReadReason>,
    reason: DeferReason,
    next: Record,
    noted: Noted,
) -> Decision {
    Decision {
        verdict: match (policy.action, reads) {
            (Action::Observe, _) => Verdict::Pass(PassReason::Observed),
            (Action::Enforce, Some(reason)) => Verdict::Read(reason),
            (Action::Enforce, None) => Verdict::Defer(reason),
        },
        next,
        offence: noted.offence,
        wants_content: noted.wants_content,
    }
}

fn pass(reason: PassReason, mut next: Record, now: Timestamp) -> Decision {
    next.note_pass(now);
    Decision {
        verdict: Verdict::Pass(reason),
        next,
        offence: None,
        wants_content: false,
    }
}

fn names(networks: &[IpNet], client: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&client))
}
