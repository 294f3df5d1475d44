//! The keys of `[content]`.

use std::time::Duration;

use super::Visitor;
use crate::policy::ContentRules;

pub(super) fn visit(rules: &mut ContentRules, v: &mut impl Visitor) {
    v.section(
        "content",
        "When a message passes because it comes again, whoever brings it. Under mode \"envelope\" none \
         does.",
    );
    v.bounded(
        "delay",
        &mut rules.delay,
        Duration::from_millis(1)..=Duration::from_hours(12),
        "From the first time a message was read until it passes, from any network. A minute: the retry \
         that proves a pool comes minutes later anyway, and bots that share a template send it at once. \
         Unset, it is that, or half of retry_window where that is less.",
    );
    v.bounded(
        "repeat",
        &mut rules.repeat,
        Duration::ZERO..=Duration::from_hours(24),
        "How long a message that passed passes again: a sender may not have heard the reply. Then it is \
         new, so that one template does not pass for ever.",
    );
    v.key(
        "trust",
        &mut rules.trust,
        "What the first pass of a message earns, for as long as trust in [greylist] lasts: \"domain\" \
         trusts the client address for senders of that domain; \"address\" for all it sends, whoever else \
         sends from there; \"off\" is nothing.",
    );
    v.bounded(
        "contacts",
        &mut rules.contacts,
        2..=u8::MAX,
        "Contacts of a sender with a recipient, of which one a minute counts, from which its message \
         passes whatever it says: some senders change it at each retry. Of bots that forge one sender to \
         one recipient this lets one mail in each time.",
    );
    v.bounded(
        "contacts_after",
        &mut rules.contacts_after,
        Duration::ZERO..=Duration::from_hours(30 * 24),
        "The least time from the first of these contacts. They are remembered for a retry_window each, so \
         that slow senders get there; a time as long as all of these shuts the way out. Unset, it is an \
         hour, or half of them where that is less.",
    );
    v.key(
        "hash_limit",
        &mut rules.hash_limit,
        "Bytes of a body that are hashed, of which the length always counts; 0 is all. Hashing takes \
         a core one to two milliseconds a megabyte: a limit spares that, and no transfer.",
    );
}
