//! The keys of `[greylist]` and `[reputation]`.

use std::time::Duration;

use super::{Config, Visitor};
use crate::policy::ReputationRules;

impl Config {
    pub(super) fn visit_greylist(&mut self, v: &mut impl Visitor) {
        let policy = &mut self.policy;
        v.section("greylist", "Who is deferred, and for how long.");
        v.key(
            "mode",
            &mut policy.mode,
            "By what unknown mail is told when it comes again. \"envelope\" is by client network, sender \
             and recipient, deferred at RCPT. \"content\" is by the message, from any network, deferred at \
             its end: each first attempt is a whole transfer. \"hybrid\" is by the envelope, and by the \
             message where a pool of many addresses sends it: that costs a pool one retry more, not days.",
        );
        v.key(
            "action",
            &mut policy.action,
            "\"enforce\" defers; \"observe\" passes and counts what would have been deferred.",
        );
        v.key(
            "recipients",
            &mut self.greylisted,
            "Whose mail is greylisted: \"all\", but for those whom a table [[recipients]] opts out; or \
             \"listed\", those whom one opts in.",
        );
        v.bounded(
            "delay",
            &mut policy.delay,
            Duration::from_millis(1)..=Duration::from_hours(12),
            "From the first attempt until a retry passes, or from another network is read. Many senders \
             retry after 200 to 285 seconds and then only after hours: three minutes lets that first \
             retry in.",
        );
        v.bounded(
            "retry_window",
            &mut policy.retry_window,
            Duration::from_secs(1)..=Duration::from_hours(30 * 24),
            "From the first attempt until a retry counts as new. A day, as RFC 6647 advises: \
             some senders come back no sooner.",
        );
        v.bounded(
            "trust",
            &mut policy.trust,
            Duration::from_secs(1)..=Duration::from_hours(400 * 24),
            "How long what has passed is remembered after its last use. Longer than a month, so \
             that a monthly list is not delayed each month.",
        );
        v.key(
            "trust_after",
            &mut policy.trust_after,
            "Passes after which a client network and sender are trusted with any recipient; 0 is \
             never. Five are more than one lucky robot makes.",
        );
        v.bounded(
            "trust_interval",
            &mut policy.trust_interval,
            Duration::ZERO..=Duration::from_hours(30 * 24),
            "Passes closer together count once towards trust, so that it takes hours to earn.",
        );
        v.key(
            "rcpt_deferrals",
            &mut policy.rcpt_deferrals,
            "Recipients of one session that are deferred at RCPT; further ones are deferred \
             together at DATA, or at the end of a message that is read. Postfix slows a client \
             from its 10th error in a session and hangs up at the 20th: eight stay below. 0 is \
             never at RCPT.",
        );
        v.key(
            "probe_senders",
            &mut policy.probe_senders,
            "Senders that test an address and send no mail: never refused at RCPT, as the null sender \
             never is, but deferred at DATA, or at the end of the message where content is read. \
             \"double-bounce@*\" is Postfix's address verification; a \"*\" stands for any domain.",
        );
        v.bounded(
            "ipv4_prefix",
            &mut policy.ipv4_prefix,
            8..=32,
            "Bits of an IPv4 address that make the client network, where its reverse name tells a \
             server. 24: farms retry from a neighbouring address.",
        );
        v.bounded(
            "ipv4_prefix_unnamed",
            &mut policy.ipv4_prefix_unnamed,
            8..=32,
            "The same where there is no verified reverse name, or one that looks dynamic. 32: the \
             neighbours of such an address are other people's.",
        );
        v.bounded(
            "ipv6_prefix",
            &mut policy.ipv6_prefix,
            16..=128,
            "Bits of an IPv6 address that make the client network. 64 is the least that one host \
             is given.",
        );
    }
}

/// What a client network's past is worth.
pub(super) fn visit_reputation(rules: &mut ReputationRules, v: &mut impl Visitor) {
    v.section(
        "reputation",
        "What a client network's past is worth: good and bad counts that fade.",
    );
    v.key(
        "action",
        &mut rules.action,
        "What becomes of mail from a network with a bad reputation: \"observe\" counts it, \"defer\" \
         answers 4yz, \"reject\" answers 5yz. Watch first: a mistake of \"reject\" is bounced mail.",
    );
    v.bounded(
        "half_life",
        &mut rules.half_life,
        Duration::from_secs(1)..=Duration::from_hours(400 * 24),
        "The time in which a count loses half its weight, so that a network that has changed its \
         ways is soon judged by the new ones.",
    );
    v.bounded(
        "good_days",
        &mut rules.good_days,
        1..=100,
        "Days on which a good record must have had good counts: one busy night buys none.",
    );
    v.bounded(
        "good_recipients",
        &mut rules.good_recipients,
        1..=32,
        "Distinct recipients that a good record must have reached: mail to one accomplice buys \
         none. It shields from block.",
    );
    v.bounded(
        "established",
        &mut rules.established,
        1..,
        "Good counts from which a good record shields from every sentence, if they came on four \
         times as many days as good_days: a big relay is not punished for one customer, whose mail alone pays.",
    );
    v.key(
        "trust_after",
        &mut rules.trust_after,
        "Passes after which a sender from a network with a good record is trusted, where that is \
         fewer than trust_after of [greylist]; 0 trusts nobody earlier.",
    );
    v.bounded(
        "bad_counts",
        &mut rules.bad_counts,
        1..,
        "Bad counts from which a reputation can be bad: strikes, refused recipients, mail that was \
         never tried again, and what `greygate report spam` told.",
    );
    v.bounded(
        "bad_share",
        &mut rules.bad_share,
        50..=100,
        "The share of bad counts, in percent, from which it is: who also sends wanted mail is \
         left to the content filter.",
    );
}
