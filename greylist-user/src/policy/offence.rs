//! What a client can be guilty of.

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
