//! What operators order of the lists while the daemon runs, and which of two orders counts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Entry, List};
use crate::policy::Policy;
use crate::policy::time::Timestamp;

/// Which of the lists that can be changed while the daemon runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveList {
    /// Never greylisted, refused or punished.
    #[default]
    Allow,
    /// Refused.
    Deny,
}

/// An operator's order to list somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// When it was given.
    pub at: Timestamp,
    /// Who gave it.
    pub uid: u32,
    /// When it ends; [`None`] if it does not.
    pub until: Option<Timestamp>,
    /// What the operator wrote to it.
    pub note: String,
}

/// The latest word on an entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOrder {
    /// Of which list.
    pub list: LiveList,
    /// Whom it is about.
    pub entry: Entry,
    /// What was ordered.
    pub word: Word,
}

/// What was ordered of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// That it is listed.
    Listed(Arc<Order>),
    /// At this time, that it is not any more.
    Removed(Timestamp),
}

impl LiveList {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Deny];

    /// Its key in `[lists]`, and the command that changes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// The list of that name.
    pub fn of(self, policy: &Policy) -> &List {
        match self {
            Self::Allow => &policy.lists.allow,
            Self::Deny => &policy.lists.deny,
        }
    }
}

impl fmt::Display for LiveList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Order {
    /// Bytes of a note at most: one line of a terminal, twice.
    pub const LONGEST_NOTE: usize = 200;

    /// Whether it is over at `now`.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Word {
    /// For how long it is remembered that somebody was removed, or that his time is over: a host that is away for
    /// longer may bring back what it still has listed.
    pub const REMOVED_KEPT: Duration = Duration::from_hours(400 * 24);

    /// When it was given.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Listed(order) => order.at,
            Self::Removed(at) => *at,
        }
    }

    /// Whether it counts beside `other`, and `other` no more: the later does. Of one moment, removing does, then
    /// what tells them apart at all, so that all hosts agree.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (Timestamp, bool, Timestamp, u32, &[u8]) {
        match self {
            Self::Listed(order) => {
                let until = order.until.unwrap_or(Timestamp::NEVER);
                (order.at, false, until, order.uid, order.note.as_bytes())
            }
            Self::Removed(at) => (*at, true, Timestamp::NEVER, 0, b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(at: u64, note: &str) -> Word {
        Word::Listed(Arc::new(Order {
            at: Timestamp::from_millis(at),
            uid: 0,
            until: None,
            note: note.to_owned(),
        }))
    }

    #[test]
    fn later_word_counts_and_of_one_moment_removing_does() {
        let removed = |at| Word::Removed(Timestamp::from_millis(at));
        let rising = [
            listed(1, "b"),
            removed(1),
            listed(2, "a"),
            listed(2, "b"),
            removed(2),
        ];
        for (index, word) in rising.iter().enumerate() {
            for (other_index, other) in rising.iter().enumerate() {
                assert_eq!(
                    word.supersedes(other),
                    index > other_index,
                    "{word:?} {other:?}"
                );
            }
        }
    }
}
