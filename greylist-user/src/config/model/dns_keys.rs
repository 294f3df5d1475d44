//! The keys of `[dns]`.

use std::time::Duration;

use super::{Config, Visitor};

impl Config {
    pub(super) fn visit_dns(&mut self, v: &mut impl Visitor) {
        let dns = &mut self.dns;
        let rules = &mut self.policy.evidence;
        v.section(
            "dns",
            "What others know of a client. Asked only of mail that would be deferred, and only where \
             something here or in [greylist] wants it.",
        );
        v.key(
            "servers",
            &mut dns.servers,
            "Whom to ask, such as [\"127.0.0.1\"] or [\"192.0.2.53:5353\"]. None: those of \
             /etc/resolv.conf. A resolver of your own: most lists refuse public ones.",
        );
        v.key(
            "blocklists",
            &mut dns.blocklists,
            "Zones such as [\"zen.spamhaus.org\"] whose every hit makes a client suspicious, under who = \
             \"suspicious\" of [greylist]. None: whose word counts, and on whose terms, is your choice.",
        );
        v.key(
            "allowlists",
            &mut dns.allowlists,
            "Zones with the codes of dnswl.org, such as [\"list.dnswl.org\"]: whom they vouch for is not \
             greylisted.",
        );
        v.bounded(
            "allowlist_score",
            &mut rules.allowlist_score,
            0..=3,
            "The least score that counts: 0 none, 1 low, 2 medium, 3 high. Low, since none only says that \
             mail is known to come from there.",
        );
        v.key(
            "spf_trusted",
            &mut rules.spf_trusted,
            "Domains such as [\"example.org\", \".example.net\"], the second with all below it, whose mail \
             is not greylisted where SPF passes. Of others a pass exempts nobody: spammers publish SPF, too.",
        );
        v.bounded(
            "budget",
            &mut dns.budget,
            Duration::from_millis(10)..=Duration::from_secs(5),
            "How long a message waits for all that is asked about it, at most; then it is judged by what \
             came. A resolver nearby answers most in a tenth.",
        );
        v.bounded(
            "timeout",
            &mut dns.timeout,
            Duration::from_millis(30)..=Duration::from_secs(30),
            "When a question is given up. What comes after the budget is kept for the next attempt.",
        );
        v.bounded(
            "pause",
            &mut dns.pause,
            Duration::from_millis(100)..=Duration::from_hours(1),
            "How long a list, or the servers, are left alone that do not answer, refuse or lie, and then \
             tested; longer each time, up to sixteen times. Nobody waits for them meanwhile.",
        );
        v.bounded(
            "cache",
            &mut dns.cache,
            100..=10_000_000,
            "Answers kept at most, some 100 bytes each, as long as they hold.",
        );
        v.bounded(
            "in_flight",
            &mut dns.in_flight,
            1..=1_000,
            "Questions under way at once, each of which may hold a socket. Beyond that mail is judged \
             without.",
        );
    }
}
