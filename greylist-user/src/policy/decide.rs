//! What an attempt deserves.
//!
//! The ladder, in order of precedence; the first rung that holds decides:
//!
//! 1. **Allowed**: an operator's allow list names the client. Always wins.
//! 2. **Authenticated, local**: the client authenticated, or is this site's own.
//! 3. **Trusted**: the client network and folded reverse-path have earned trust.
//! 4. **Tuple**: what is remembered of the tuple says new, early, in the window, passed or late.
//!
//! [`exempt`] is rungs 1 and 2, [`TrustRecord::is_trusted`] rung 3, [`decide`] rung 4: they ask for
//! ever more memory, and a rung that is not reached costs nothing. Only rung 4 can punish, so
//! nobody on a higher rung is ever sentenced. The deny list, recipient policies and reputation will
//! stand between 2 and 3.
//!
//! Null and probe senders are judged like others; that they are not refused at RCPT is the
//! milter's part ([`Policy::is_probe_sender`]).
//!
//! [`TrustRecord::is_trusted`]: super::TrustRecord::is_trusted

use std::net::IpAddr;

use ipnet::IpNet;

use super::attempt::Attempt;
use super::hopping::Circumstances;
use super::offence::Offence;
use super::punish;
use super::record::{Record, Standing};
use super::rules::{Action, Policy};
use super::sentence::SentencedClient;
use super::time::Timestamp;
use super::verdict::{DeferReason, PassReason, Verdict};

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

impl Decision {
    /// Whether this pass counts towards trust: the sender came again, or had before.
    pub fn earns_trust(&self) -> bool {
        matches!(
            self.verdict,
            Verdict::Pass(PassReason::Waited { .. } | PassReason::Passed)
        )
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
/// of its tuple: rung 4.
pub fn decide(
    policy: &Policy,
    prior: Option<&Record>,
    attempt: &Attempt<'_>,
    circumstances: &Circumstances,
    now: Timestamp,
) -> Decision {
    let _ = circumstances;
    let Some(prior) = prior else {
        let next = Record::begun(1, now);
        return defer(policy, DeferReason::New, next, attempt, now);
    };
    let mut next = *prior;
    match prior.standing(policy, now) {
        Standing::Lapsed => {
            let next = Record::begun(prior.life.saturating_add(1), now);
            defer(policy, DeferReason::Late, next, attempt, now)
        }
        Standing::Early { left } => defer(policy, DeferReason::Early { left }, next, attempt, now),
        Standing::InWindow { waited } => {
            next.note_attempt(now);
            pass(PassReason::Waited { waited }, next, now)
        }
        Standing::Passed => {
            next.note_attempt(now);
            pass(PassReason::Passed, next, now)
        }
    }
}

fn defer(
    policy: &Policy,
    reason: DeferReason,
    mut next: Record,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> Decision {
    let offends = punish::note_deferred(policy, &mut next, attempt, now)
        && !policy.shields(SentencedClient::host(attempt.client));
    if matches!(reason, DeferReason::Early { .. }) {
        next.note_attempt(now);
    }
    Decision {
        verdict: match policy.action {
            Action::Enforce => Verdict::Defer(reason),
            Action::Observe => Verdict::Pass(PassReason::Observed),
        },
        next,
        offence: offends.then_some(Offence::RapidRetries),
        wants_content: false,
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
