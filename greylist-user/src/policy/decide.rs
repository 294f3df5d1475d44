//! What an attempt deserves.
//!
//! The ladder, in order of precedence; the first rung that holds decides:
//!
//! 1. **Allowed**: the operator's allow list names the client or the mail. Always wins.
//! 2. **Authenticated, local**: the client authenticated, or is this site's own.
//! 3. **Denied**: the operator's deny list names the client or the mail.
//! 4. **Policy**: the recipient's own rules take the place of the site's, if it has any.
//! 5. **Sentenced**: the client has offended, and its session is turned away.
//! 6. **Bad reputation**: its network is known for bad mail.
//! 7. **Not greylisted**: the rules of rung 4 greylist nobody, or a list names a sender that would not
//!    try again. Chosen on rung 4, it spares the wait and nothing else: whoever is turned away is.
//! 8. **Trusted**: the client network and folded reverse-path have earned trust by passing, and no list
//!    says that they never shall.
//! 9. **Trusted for content**: the client address has earned it for the sender's domain, by a message
//!    that came again. Not in envelope mode.
//! 10. **Evidence**: others vouch for the client, or only who looks suspicious is greylisted and it does
//!     not. Nothing is recorded of it.
//! 11. **Tuple**: what is remembered of the tuple says new, early, in the window, passed or late. In
//!     content mode having waited is no proof, and only a tuple that passed before still passes.
//! 12. **Content**: instead of being deferred on rung 11 the message is read, if [`reads`] gives a reason,
//!     and passes at its end if it was read before and its delay is over.
//! 13. **Persistence**: a message that was read and would be deferred for its content passes when its
//!     reverse-path and recipient have been tried often and long enough.
//!
//! Where content says nothing, the body being empty or there being no room to remember it, rung 11
//! answers at end of message what it would have answered before, in content mode too.
//!
//! The modes differ in rungs 9 and 11 to 13 alone. **Envelope** ends with rung 11, at RCPT. **Content** has
//! everything that rung 11 would defer, or pass for having waited, read. **Hybrid** reads null and probe
//! senders, which are not refused at RCPT, and those who come from another network than the one that
//! began; all others end with rung 11.
//!
//! [`exempt`] is rungs 1 and 2, [`denial`] 3, [`Policy::for_recipient`] 4, [`turns_away`] 5, [`refusal`] 6,
//! [`spares_the_wait`] 7, [`TrustRecord::is_trusted`] 8, [`TrustRecord::is_earned_by_content`] 9,
//! [`excused`] 10, [`decide`] 11, [`ContentStanding::verdict`] 12, [`PairRecord::has_persisted`] 13: they
//! ask for ever more, and a rung that is not reached costs nothing. Only rungs 11 and 12 can punish for
//! what an attempt is, and rungs 3 and 6 where they refuse for good and are not heard; so nobody on another
//! rung is sentenced for an attempt.
//!
//! [`excused`]: super::excused
//! [`reads`]: super::reads
//! [`turns_away`]: super::turns_away
//! [`refusal`]: super::refusal
//! [`TrustRecord::is_trusted`]: super::TrustRecord::is_trusted
//! [`TrustRecord::is_earned_by_content`]: super::TrustRecord::is_earned_by_content
//! [`ContentStanding::verdict`]: super::ContentStanding::verdict
//! [`PairRecord::has_persisted`]: super::PairRecord::has_persisted

use std::time::Duration;

use super::attempt::Attempt;
use super::content::reads;
use super::lists::Listed;
use super::offence::Offence;
use super::record::{Record, Standing};
use super::rhythm::{self, Noted};
use super::rules::{Action, Policy, Refusing};
use super::time::Timestamp;
use super::verdict::{DeferReason, PassReason, ReadReason, RefuseReason, Verdict};

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
    if policy.lists.allow.find(attempt).is_some() {
        Some(PassReason::Allowed)
    } else if attempt.authenticated {
        Some(PassReason::Authenticated)
    } else if client.is_loopback() || policy.lists.local.find_host(client, b"").is_some() {
        Some(PassReason::Local)
    } else {
        None
    }
}

/// Whether nothing that the client of `attempt` does is held against it. What it says of itself, and
/// whom its mail is for, makes it exempt and no more: a stranger may say what it likes.
pub fn is_spared(policy: &Policy, attempt: &Attempt<'_>) -> bool {
    match exempt(policy, attempt) {
        Some(PassReason::Allowed) => policy.shielding(attempt).is_some(),
        exempt => exempt.is_some(),
    }
}

/// The entry of the deny list that names `attempt`, which is not exempt, and how it is refused for that;
/// [`None`] if that is only observed: rung 3.
pub fn denial<'p>(
    policy: &'p Policy,
    attempt: &Attempt<'_>,
) -> Option<(&'p Listed, Option<RefuseReason>)> {
    let listed = policy.lists.deny.find(attempt)?;
    let permanently = match policy.deny {
        Refusing::Observe => return Some((listed, None)),
        Refusing::Defer => false,
        Refusing::Reject => true,
    };
    Some((listed, Some(RefuseReason::Denied { permanently })))
}

/// Why `attempt`, which is not turned away, need not wait, whatever is remembered: rung 7. `policy` is
/// that of its recipient.
pub fn spares_the_wait(policy: &Policy, attempt: &Attempt<'_>) -> Option<PassReason> {
    if !policy.greylists {
        Some(PassReason::OptedOut)
    } else if policy.lists.no_retry.find(attempt).is_some() {
        Some(PassReason::NoRetry)
    } else {
        None
    }
}

/// What `attempt`, neither exempt nor trusted, deserves at `now`, `prior` being what is remembered
/// of its tuple: rung 10, and whether rung 11 is asked.
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
            rhythm::note_same_attempt(&mut next, attempt);
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
