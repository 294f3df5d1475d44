//! What a client can be guilty of, and what may become of it.

use super::sentence::SentenceReason;

/// Behaviour that earns a strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// Retries of one message, seconds apart.
    RapidRetries,
    /// One HELO argument and one recipient from many unrelated networks at once.
    RelayHopping,
    /// Retries of one message that had failed permanently.
    RejectedRetries,
    /// Very many recipients that the MTA refused permanently.
    RejectedRecipients,
}

impl Offence {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RapidRetries,
        Self::RelayHopping,
        Self::RejectedRetries,
        Self::RejectedRecipients,
    ];

    /// The word for logs, metrics and answers.
    pub const fn as_str(self) -> &'static str {
        SentenceReason::Offence(self).as_str()
    }
}

/// What became of an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The client was struck.
    Struck,
    /// It would have been, were strikes not only observed.
    Observed,
    /// It was struck for the same burst just before.
    Repeated,
    /// A list, AUTH or its record protects it from everything.
    Spared,
    /// greygate has not watched for long enough.
    TooEarly,
    /// There is no room to remember one more client.
    Unrecorded,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Struck,
        Self::Observed,
        Self::Repeated,
        Self::Spared,
        Self::TooEarly,
        Self::Unrecorded,
    ];

    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Struck => "struck",
            Self::Observed => "observed",
            Self::Repeated => "repeated",
            Self::Spared => "spared",
            Self::TooEarly => "too-early",
            Self::Unrecorded => "unrecorded",
        }
    }
}
