//! The permanent failures of the last hour, and who keeps trying in spite of them.

use crate::policy::{
    Attempt, ClientKey, Failure, FailureKey, Fingerprint, Offence, Policy, Timestamp,
};

use super::table::Table;

/// The table of failures.
#[derive(Debug)]
pub(super) struct Failures {
    pub(super) by_message: Table<FailureKey, Failure>,
}

/// What is known of an attempt after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AfterFailure {
    /// The offence that it completed.
    pub(super) offence: Option<Offence>,
    /// Whether only the content of its message can tell if it is a retry.
    pub(super) wants_content: bool,
}

impl Failures {
    /// An empty table.
    pub(super) fn new() -> Self {
        Self {
            by_message: Table::growing(FAILURES),
        }
    }

    /// Notes an attempt that the MTA did not refuse itself.
    pub(super) fn note_attempt(
        &self,
        policy: &Policy,
        key: FailureKey,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> AfterFailure {
        let _ = (policy, key, attempt, now);
        AfterFailure::default()
    }

    /// Notes what the message of an attempt turned out to be.
    pub(super) fn note_content(
        &self,
        policy: &Policy,
        key: FailureKey,
        attempt: &Attempt<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Option<Offence> {
        let _ = (policy, key, attempt, fingerprint, now);
        None
    }

    /// Notes that a recipient was refused for good.
    pub(super) fn note_rejected(
        &self,
        policy: &Policy,
        key: FailureKey,
        client: ClientKey,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let _ = (policy, key, client, attempt, now);
        None
    }
}

/// Failures remembered at once.
const FAILURES: usize = 262_144;
