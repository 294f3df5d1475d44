//! What a client network's past is worth.

use std::time::Duration;

/// What a client network's past is worth: see [`Reputation`](crate::policy::Reputation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReputationRules {
    /// What becomes of mail from a network with a bad reputation. Default observe.
    pub action: Refusing,
    /// The time in which a count loses half its weight. Default 30 d.
    pub half_life: Duration,
    /// Days on which a good record must have had good counts. Default 3.
    pub good_days: u8,
    /// Distinct recipients that a good record must have reached. Default 10, at most 32. They are
    /// told apart by 64 marks, so that one or two more may be needed.
    pub good_recipients: u8,
    /// Good counts from which a good record shields from every sentence, not from block alone, if they came on
    /// four times as many days as a good record takes.
    /// Default 100.
    pub established: u32,
    /// Passes until a sender from a network with a good record is trusted, if that is fewer than
    /// [`trust_after`](super::Policy::trust_after). Default 2; 0 means that a good record trusts
    /// nobody earlier.
    pub trust_after: u16,
    /// Bad counts from which a reputation can be bad. Default 50. Once mail has been refused for it,
    /// half as many keep it so.
    pub bad_counts: u32,
    /// The share of bad counts, in percent, from which it is. Default 95.
    pub bad_share: u8,
}

/// What becomes of mail from a network with a bad reputation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusing {
    /// Counted only.
    Observe,
    /// Answered 4yz.
    Defer,
    /// Answered 5yz.
    Reject,
}

impl Refusing {
    /// The word for it in configuration and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Defer => "defer",
            Self::Reject => "reject",
        }
    }
}

impl Default for ReputationRules {
    fn default() -> Self {
        Self {
            action: Refusing::Observe,
            half_life: Duration::from_hours(30 * 24),
            good_days: 3,
            good_recipients: 10,
            established: 100,
            trust_after: 2,
            bad_counts: 50,
            bad_share: 95,
        }
    }
}
