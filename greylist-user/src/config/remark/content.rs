//! Where the rules of content do nothing, or do more than may be meant.

use std::time::Duration;

use super::super::duration::format;
use super::super::model::Config;
use super::super::value::Setting;
use crate::policy::{ContentTrust, Policy};

/// What may not be meant, one sentence each.
pub(super) fn remarks(config: &Config) -> Vec<String> {
    let policy = &config.policy;
    if !policy.mode.reads() {
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
            "[store] contents_per_network of {} leaves one network the room of all {} fingerprints",
            share.show(),
            all.show()
        ));
    }
    remarks
}

/// Where a message that changes at each retry never passes, though its sender persists.
fn way_out(policy: &Policy, remarks: &mut Vec<String>) {
    let (rules, window) = (&policy.content, policy.retry_window);
    let never = "a pool whose messages change at each retry never passes";
    if rules.contacts_after >= window {
        remarks.push(format!(
            "[content] contacts_after of {} is not less than the retry_window of {}: {never}",
            format(rules.contacts_after),
            format(window)
        ));
    }
    if MINUTE * u32::from(rules.contacts.saturating_sub(1)) >= window {
        remarks.push(format!(
            "[content] contacts of {}, of which one a minute counts, do not fit into the retry_window \
             of {}: {never}",
            rules.contacts,
            format(window)
        ));
    }
}

const MINUTE: Duration = Duration::from_mins(1);

/// Less than this is a salutation.
const SHORTEST_HASHED: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Mode;

    #[test]
    fn defaults_do_what_they_say() {
        assert_eq!(remarks(&Config::default()), Vec::<String>::new());
    }

    /// How a rule is changed, and a part of what is said of it.
    type Case = (fn(&mut Config), &'static str);

    const CASES: [Case; 6] = [
        (
            |it| it.policy.content.contacts_after = it.policy.retry_window,
            "contacts_after of 24h is not less than the retry_window of 24h: a pool",
        ),
        (
            |it| {
                it.policy.content.contacts_after = Duration::ZERO;
                it.policy.retry_window = MINUTE * 5;
            },
            "contacts of 6, of which one a minute counts, do not fit into the retry_window of 5m",
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
            "one network the room of all 1_000_000 fingerprints",
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
        config.policy.content.delay = MINUTE * 30;
        assert_eq!(remarks(&config), Vec::<String>::new());
    }
}
