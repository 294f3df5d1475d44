//! By what a message was let through, and how long it waited for that: what the added header says.
//!
//! Knows the keys that mail which is greylisted can pass by. Exempt mail passes by none, nor does mail
//! that only could not be recorded, or would have been deferred if greylisting did not merely observe.

use std::fmt;
use std::time::Duration;

use crate::policy::PassReason;

/// How a recipient, or of several the one that waited longest, passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// [`None`] if it passed at once.
    pub(super) waited: Option<Duration>,
    /// The word for the key that it passed by.
    key: &'static str,
}

impl Passed {
    /// How what passes for `reason` does; [`None`] for what is not greylisted.
    pub(super) fn of(reason: PassReason) -> Option<Self> {
        let (waited, key) = match reason {
            PassReason::Content { waited } => (Some(waited), CONTENT),
            PassReason::ContentAgain => (None, CONTENT),
            PassReason::ContentTrusted => (None, CONTENT_TRUST),
            PassReason::Passed => (None, TUPLE),
            PassReason::Persisted { waited } => (Some(waited), PERSISTENCE),
            PassReason::Trusted => (None, TRUST),
            PassReason::Waited { waited } => (Some(waited), TUPLE),
            PassReason::Allowed
            | PassReason::Authenticated
            | PassReason::Local
            | PassReason::NoRetry
            | PassReason::Observed
            | PassReason::OptedOut
            | PassReason::Unrecorded
            | PassReason::Unsuspicious
            | PassReason::Vouched => return None,
        };
        Some(Self { waited, key })
    }

    /// The one of two that waited longer, or the first.
    pub(super) fn longest(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if first.waited >= second.waited => Some(first),
            (first, None) => first,
            (_, second) => second,
        }
    }

    /// The value of the header that `host` adds.
    pub(super) fn told_by(self, host: &str) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            match self.waited {
                Some(waited) => write!(f, "delayed {} seconds", waited.as_secs()),
                None => f.write_str("not delayed"),
            }?;
            write!(f, " by {host} (greygate), passed by {}", self.key)
        })
    }
}

const CONTENT: &str = "content";
const CONTENT_TRUST: &str = "content trust";
const PERSISTENCE: &str = "persistence";
const TRUST: &str = "trust";
const TUPLE: &str = "tuple";
