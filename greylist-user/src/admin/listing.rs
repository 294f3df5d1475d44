//! What operators list while the daemon runs: `greygate allow` and `greygate deny`.
//!
//! Pure: whether an order obeys the rules is said here, the rules being an argument; carrying it out is
//! left to the daemon.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{Entry, Listed, LiveList, Order, Policy, ranges};

/// An order to list somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveOrder {
    /// Where.
    pub list: LiveList,
    /// Whom, as in a list file.
    pub entry: String,
    /// For how long, in seconds; without it, until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// What to remember of why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Even if it is wide, or is allowed or local and to be denied.
    #[serde(default)]
    pub force: bool,
}

impl LiveOrder {
    /// The entry to list, unless the rules speak against it.
    pub fn entry(&self, policy: &Policy) -> Result<Entry, String> {
        let entry = entry(&self.entry)?;
        let longest = LONGEST_TIME.as_secs();
        if self.seconds.is_some_and(|it| it == 0 || it > longest) {
            return Err(
                "an entry lasts from 1s to 400d; without --for, until it is removed".into(),
            );
        }
        let longest_note = Order::LONGEST_NOTE;
        if self.note.len() > longest_note || self.note.contains(char::is_control) {
            return Err(format!(
                "a note is one line of at most {longest_note} characters"
            ));
        }
        if self.force {
            return Ok(entry);
        }
        if entry.is_wide() {
            return Err(format!(
                "{entry} names a large part of the world; insist with --force"
            ));
        }
        if self.list == LiveList::Deny
            && let Some(why) = spared(&entry, policy)
        {
            return Err(format!(
                "{entry} is {why}, which wins, so that denying it does nothing for them; insist with --force"
            ));
        }
        Ok(entry)
    }
}

/// The entry that `text` is.
pub(super) fn entry(text: &str) -> Result<Entry, String> {
    if text.len() > LONGEST_ENTRY {
        return Err("that is longer than any entry".to_owned());
    }
    text.parse()
        .map_err(|invalid: crate::policy::InvalidEntry| invalid.to_string())
}

/// Why those whom `entry` names, or some of them, are never denied.
fn spared(entry: &Entry, policy: &Policy) -> Option<String> {
    let lists = &policy.lists;
    let told = |listed: &Listed, list| format!("{list} by {} ({})", listed.entry, listed.source);
    let Entry::Client(network) = entry else {
        let same = lists.allow.entries().iter().find(|it| it.entry == *entry)?;
        return Some(told(same, "allowed"));
    };
    let untouchable = ranges::UNTOUCHABLE
        .iter()
        .any(|it| it.contains(network) || network.contains(it));
    if untouchable {
        return Some("loopback or link-local".to_owned());
    }
    let allowed = lists.allow.overlapping_network(*network);
    let local = || lists.local.overlapping_network(*network);
    allowed
        .map(|it| told(it, "allowed"))
        .or_else(|| local().map(|it| told(it, "local")))
}

/// What became of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChange {
    /// Which list.
    pub list: LiveList,
    /// The entry, as it is kept.
    pub entry: String,
    /// Whether it was added, else removed.
    pub added: bool,
    /// When it ends, in seconds since the Unix epoch; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Another entry that has the same effect still, such as one of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<String>,
}

/// What was listed while the daemon ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEntries {
    /// Which list.
    pub list: LiveList,
    /// When this was so, in seconds since the Unix epoch.
    pub now: u64,
    /// The entries, the newest first, a thousand at most.
    pub entries: Vec<LiveEntry>,
    /// How many more there are than are listed.
    #[serde(default)]
    pub left_off: u64,
    /// How many there may be.
    pub limit: u64,
    /// How many more the configuration and its files name.
    pub configured: u64,
    /// The file they are kept in.
    pub file: String,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEntry {
    /// The entry.
    pub entry: String,
    /// When it was listed, in seconds since the Unix epoch.
    pub at: u64,
    /// By whom.
    pub uid: u32,
    /// When it ends; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What was noted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Longer than the longest name or address with its kind.
const LONGEST_ENTRY: usize = 400;
/// As long as the longest trust.
const LONGEST_TIME: Duration = Duration::from_hours(400 * 24);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::Lists;
    use crate::policy::fixture::networks_of;

    fn order(list: LiveList, entry: &str) -> LiveOrder {
        LiveOrder {
            list,
            entry: entry.to_owned(),
            seconds: None,
            note: String::new(),
            force: false,
        }
    }

    fn policy() -> Policy {
        Policy {
            lists: Arc::new(Lists {
                allow: networks_of(["192.0.2.0/24"]),
                local: networks_of(["198.51.100.7/32"]),
                ..Lists::default()
            }),
            ..Policy::default()
        }
    }

    #[test]
    fn denying_whom_something_stronger_protects_wants_force() {
        for entry in [
            "192.0.2.7",
            "192.0.0.0/16",
            "198.51.100.0/24",
            "127.0.0.1",
            "::1",
            "64.0.0.0/7",
            ".org",
        ] {
            let order = order(LiveList::Deny, entry);
            let refused = order.entry(&policy()).expect_err(entry);
            assert!(refused.ends_with("insist with --force"), "{refused}");
            let order = LiveOrder {
                force: true,
                ..order
            };
            assert!(order.entry(&policy()).is_ok(), "{entry}");
        }
        let free = order(LiveList::Deny, "203.0.113.7").entry(&policy());
        assert_eq!(free, Ok("203.0.113.7".parse().expect("an entry")));
        let known = order(LiveList::Allow, "192.0.2.7").entry(&policy());
        assert!(known.is_ok(), "to allow it again does no harm");
    }

    #[test]
    fn times_notes_and_texts_have_bounds() {
        let refused = |change: &dyn Fn(&mut LiveOrder)| {
            let mut order = order(LiveList::Allow, "203.0.113.7");
            change(&mut order);
            order.entry(&policy()).expect_err("it is not legal")
        };
        assert!(refused(&|it| it.seconds = Some(0)).contains("1s to 400d"));
        assert!(refused(&|it| it.seconds = Some(u64::MAX)).contains("1s to 400d"));
        assert!(refused(&|it| it.note = "x".repeat(201)).contains("one line"));
        assert!(refused(&|it| it.note = "two\nlines".to_owned()).contains("one line"));
        assert!(refused(&|it| it.entry = "x".repeat(401)).contains("longer"));
        assert!(refused(&|it| it.entry = "no host".to_owned()).contains("is no entry"));
    }
}
