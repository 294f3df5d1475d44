//! Which retries are an offence.
//!
//! A retry is evidence, not arithmetic: ten alerts from one sender to one recipient in ten seconds
//! are ten mails. Attempts count as retries of one message only if each announced the same `SIZE=`
//! at MAIL and came from the same host. An early attempt that follows the one before within
//! [`Punish::rapid_interval`] continues a run; anything else, an attempt without `SIZE=` included,
//! begins anew. A run of [`Punish::rapid_retries`] over [`Punish::rapid_span`] is an offence.
//!
//! What this leaves open, on purpose:
//! - Different mails of exactly equal size, on one tuple, at most 8 s apart for 30 s, look like one
//!   mail. Equal templates do that; the span is there so that a burst does not.
//! - A delivery round that walks several of our MX addresses counts as that many attempts. It is
//!   over within seconds, so the span saves it too, unless each of at least six addresses takes it
//!   six seconds.
//! - A client that changes the size at each try is never struck.
//!
//! [`Punish::rapid_interval`]: super::Punish::rapid_interval
//! [`Punish::rapid_retries`]: super::Punish::rapid_retries
//! [`Punish::rapid_span`]: super::Punish::rapid_span

use std::time::Duration;

use super::attempt::{Attempt, Origin};
use super::fingerprint::Fingerprint;
use super::network::ClientNetwork;
use super::offence::Offence;
use super::record::Record;
use super::rules::{Action, Policy};
use super::time::Timestamp;
use super::tuple::HostMark;

/// Notes a deferred attempt in the run of `record`, whose `last_seen` is still that of the attempt
/// before. Says whether the run has become an offence; if so, a new run begins.
pub(super) fn note_deferred(
    policy: &Policy,
    record: &mut Record,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> bool {
    let evidence = Evidence::of(policy, attempt);
    let gap = now.since(record.last_seen);
    let continues = evidence != Evidence::NONE
        && evidence == Evidence::last_of(record)
        && gap <= policy.punish.rapid_interval;
    record.run_evidence = evidence.size;
    record.run_host = evidence.host;
    if continues {
        let gap = u16::try_from(gap.as_millis() / 100).unwrap_or(u16::MAX);
        record.run_span = record.run_span.saturating_add(gap);
        record.run_retries = record.run_retries.saturating_add(1);
    }
    let offends = continues
        && record.run_retries >= policy.punish.rapid_retries
        && Duration::from_millis(u64::from(record.run_span) * 100) >= policy.punish.rapid_span;
    if offends || !continues {
        record.run_span = 0;
        record.run_retries = 0;
    }
    offends
}

/// Notes in `record` what the message of `attempt` turned out to be. Says what its client has done,
/// if that completed it.
pub fn note_content(
    policy: &Policy,
    record: &mut Record,
    attempt: &Attempt<'_>,
    fingerprint: Fingerprint,
    now: Timestamp,
) -> Option<Offence> {
    let _ = (policy, record, attempt, fingerprint, now);
    None
}

/// What must be equal in two attempts for them to be one message, tried twice.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Evidence {
    size: u32,
    host: HostMark,
}

impl Evidence {
    /// Proves nothing.
    const NONE: Self = Self {
        size: 0,
        host: HostMark::from_bits(0),
    };

    /// What `attempt` proves.
    ///
    /// Nothing on the word of another host, since the sentence falls on this one's connections;
    /// nothing without a size; and nothing while greylisting only observes, since what was let
    /// through does not come again: the next attempt is the next mail.
    fn of(policy: &Policy, attempt: &Attempt<'_>) -> Self {
        let size = u32::try_from(attempt.announced_size).unwrap_or(0);
        if size == 0 || attempt.origin == Origin::AnotherHost || policy.action == Action::Observe {
            return Self::NONE;
        }
        Self {
            size,
            host: HostMark::of(ClientNetwork::of(policy, attempt), attempt.client),
        }
    }

    /// What the latest attempt in `record` proved.
    fn last_of(record: &Record) -> Self {
        Self {
            size: record.run_evidence,
            host: record.run_host,
        }
    }
}
