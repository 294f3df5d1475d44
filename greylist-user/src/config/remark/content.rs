//! Where the rules of content do nothing, or do more than may be meant.

use super::super::duration::format;
use super::super::model::Config;
use super::super::value::Setting;
use crate::policy::{ContentTrust, Policy};

/// What may not be meant, one sentence each.
pub(super) fn remarks(config: &Config) -> Vec<String> {
    let policy = &config.policy;
    if !policy.reads_anywhere() {
        // The keys may wait there for another mode.
        return Vec::new();
    }
    let mut remarks = Vec::new();
    way_out(policy, &mut remarks);
    if policy.content.repeat.is_zero() {
        let what = "[content] repeat is zero: a message whose sender did not hear that it passed is new \
                    again";
        remarks.push(what.to_owned());
    }
    if policy.trust_after == 0 && policy.content.trust != ContentTrust::Off {
        remarks.push(format!(
            "[greylist] trust_after of 0 trusts nobody for mail that passed, but [content] trust = {} \
             does for a message that came again",
            policy.content.trust.show()
        ));
    }
    let limit = policy.content.hash_limit;
    if (1..SHORTEST_HASHED).contains(&limit) {
        remarks.push(format!(
            "[content] hash_limit of {limit} bytes: messages of one length that begin alike are one \
             message"
        ));
    }
    let (share, all) = (config.store.contents_per_network, config.store.contents);
    if share as usize >= all {
        remarks.push(format!(
            "[store] contents_per_network of {} leaves one network most of the room for {} fingerprints",
            share.show(),
            all.show()
        ));
    }
    remarks
}

/// Where a message that changes at each retry never passes, though its sender persists.
fn way_out(policy: &Policy, remarks: &mut Vec<String>) {
    let rules = &policy.content;
    let windows = policy.contacts_window(rules.contacts);
    if rules.contacts_after >= windows {
        remarks.push(format!(
            "[content] contacts_after of {} is not less than the {} that {} contacts are remembered: a \
             pool whose messages change at each retry never passes",
            format(rules.contacts_after),
            format(windows),
            rules.contacts
        ));
    }
}

/// Less than this is a salutation.
const SHORTEST_HASHED: u64 = 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Mode;

    #[test]
    fn defaults_do_what_they_say() {
        assert_eq!(remarks(&Config::default()), Vec::<String>::new());
    }

    /// How a rule is changed, and a part of what is said of it.
    type Case = (fn(&mut Config), &'static str);

    const CASES: [Case; 5] = [
        (
            |it| it.policy.content.contacts_after = it.policy.retry_window * 6,
            "contacts_after of 6d is not less than the 6d that 6 contacts are remembered: a pool",
        ),
        (
            |it| it.policy.content.repeat = Duration::ZERO,
            "repeat is zero",
        ),
        (
            |it| it.policy.trust_after = 0,
            "but [content] trust = \"domain\" does",
        ),
        (
            |it| it.policy.content.hash_limit = 100,
            "hash_limit of 100 bytes",
        ),
        (
            |it| it.store.contents_per_network = 1_000_000,
            "one network most of the room for 1_000_000 fingerprints",
        ),
    ];

    #[test]
    fn names_each_rule_that_does_nothing_or_more_than_may_be_meant() {
        for (change, expected) in CASES {
            let mut config = Config::default();
            change(&mut config);
            let said = remarks(&config);
            assert_eq!(said.len(), 1, "{expected}: {said:?}");
            assert!(said[0].contains(expected), "{expected}: {said:?}");
        }
    }

    #[test]
    fn has_nothing_to_say_where_no_message_is_read() {
        for (change, expected) in CASES {
            let mut config = Config::default();
            change(&mut config);
            config.policy.mode = Mode::Envelope;
            assert_eq!(remarks(&config), Vec::<String>::new(), "{expected}");
        }
    }

    #[test]
    fn trust_that_is_off_everywhere_is_what_was_meant() {
        let mut config = Config::default();
        config.policy.trust_after = 0;
        config.policy.content.trust = ContentTrust::Off;
        assert_eq!(remarks(&config), Vec::<String>::new());
    }

    #[test]
    fn delay_that_is_longer_than_a_minute_is_fine() {
        let mut config = Config::default();
        config.policy.content.delay = Duration::from_mins(30);
        assert_eq!(remarks(&config), Vec::<String>::new());
    }
}
