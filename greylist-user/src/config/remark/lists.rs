//! What in the lists and in the policies of recipients may not be meant.

use crate::config::duration::format;
use crate::config::model::Config;
use crate::policy::{Entry, Listed, Refusing};

/// One sentence for each.
pub(super) fn remarks(config: &Config) -> Vec<String> {
    let policy = &config.policy;
    let lists = &policy.lists;
    let mut remarks = Vec::new();
    if let Some(all) = lists.allow.networks().find(|it| it.prefix_len() == 0) {
        remarks.push(format!("[lists] allow {all}: nobody is greylisted"));
    }
    // That of everybody has been said.
    let is_all = |entry: &Entry| matches!(entry, Entry::Client(it) if it.prefix_len() == 0);
    let is_wide = |listed: &&Listed| listed.entry.is_wide() && !is_all(&listed.entry);
    for (key, list) in [("allow", &lists.allow), ("deny", &lists.deny)] {
        if let Some(wide) = list.entries().iter().find(is_wide) {
            let Listed { entry, source } = wide;
            remarks.push(format!(
                "[lists] {key} has {entry} ({source}), which names a large part of the world"
            ));
        }
    }
    if policy.deny == Refusing::Observe && !lists.deny.entries().is_empty() {
        remarks.push("[lists] deny_action only observes: nobody is denied".to_owned());
    }
    let own = policy.recipients.policies();
    if !policy.greylists && own.iter().all(|it| !it.policy.greylists) {
        remarks.push(
            "[greylist] recipients is \"listed\" and no [[recipients]] table opts anybody in: nobody is \
             greylisted"
                .to_owned(),
        );
    }
    for it in own.iter().filter(|it| it.policy.greylists) {
        if it.policy.delay == policy.delay && it.policy.mode == policy.mode && policy.greylists {
            let delay = format(policy.delay);
            remarks.push(format!(
                "[[recipients]] at {}: it says what [greylist] says, {} after {delay}",
                it.source,
                policy.mode.as_str()
            ));
        }
    }
    remarks
}
