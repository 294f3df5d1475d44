//! What a client network's past says of it: good and bad counts that fade.

use super::rules::{Policy, Refusing};
use super::time::{Second, Timestamp};
use super::verdict::RefuseReason;

/// The facts about one client network.
///
/// Counts are kept in 256ths, as they stood at `updated`, and lose half their weight in each
/// [`half_life`](super::ReputationRules::half_life).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reputation {
    /// Recipients that good counts came from, one bit each: as many bits are at least as many
    /// recipients.
    pub recipients: u64,
    /// Those of `day`.
    pub recipients_today: u64,
    /// Recipients that bad counts of `day` came from.
    pub bad_today: u64,
    /// Good counts.
    pub good: u32,
    /// Bad counts.
    pub bad: u32,
    /// When the counts stood as they are here.
    pub updated: Second,
    /// The first good count.
    pub since: Second,
    /// The day of the latest count, counted from the Unix epoch.
    pub day: u16,
    /// Days with a good count.
    pub good_days: u8,
    /// Counts the lives: forgiving begins the next one.
    pub life: u8,
}

impl Reputation {
    /// Of a network of which nothing is known.
    pub const EMPTY: Self = Self {
        recipients: 0,
        recipients_today: 0,
        bad_today: 0,
        good: 0,
        bad: 0,
        updated: Second::NEVER,
        since: Second::NEVER,
        day: 0,
        good_days: 0,
        life: 1,
    };

    /// What it says at `now`.
    pub fn standing(&self, policy: &Policy, now: Timestamp) -> Repute {
        let _ = (policy, now);
        Repute::Unknown
    }

    /// Whether it says nothing any more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        now.since(self.updated.into()) >= policy.reputation.half_life * 8
    }
}

/// What a reputation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repute {
    /// Too little is known.
    Unknown,
    /// Bad counts, and hardly any good ones.
    Bad,
    /// A good record: it shields from block.
    Good,
    /// A good record of so much mail that it shields from every sentence.
    Established,
}

/// Whether, and how, a network of which `repute` is said is turned away.
pub fn refusal(policy: &Policy, repute: Repute) -> Option<RefuseReason> {
    let permanently = match policy.reputation.action {
        Refusing::Observe => return None,
        Refusing::Defer => false,
        Refusing::Reject => true,
    };
    (repute == Repute::Bad).then_some(RefuseReason::BadReputation { permanently })
}

impl Repute {
    /// The word for logs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Established => "established",
        }
    }
}
