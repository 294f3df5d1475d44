//! Where asking about clients does nothing, or costs more than may be meant.

use std::net::IpAddr;
use std::time::Duration;

use super::super::duration::format;
use super::super::model::Config;
use crate::policy::{Identity, Who};

/// What may not be meant, one sentence each.
pub(super) fn remarks(config: &Config) -> Vec<String> {
    let (dns, rules) = (&config.dns, &config.policy.evidence);
    let mut remarks = Vec::new();
    match (rules.who, dns.blocklists.is_empty()) {
        (Who::Suspicious, true) => remarks.push(
            "[greylist] who = \"suspicious\" without blocklists in [dns]: a robot on a server with a good \
             name is never greylisted"
                .to_owned(),
        ),
        (Who::Everyone, false) => remarks.push(
            "[dns] blocklists are asked under [greylist] who = \"suspicious\" only: everyone is greylisted \
             already"
                .to_owned(),
        ),
        _ => {}
    }
    if rules.identity == Identity::Spf {
        remarks.push(
            "[greylist] identity = \"spf\" asks the DNS about mail that would be deferred, which waits up to \
             the budget of [dns] for it"
                .to_owned(),
        );
    }
    if !dns.allowlists.is_empty() && rules.allowlist_score == 0 {
        remarks.push(
            "[dns] allowlist_score of 0 exempts whoever is in an allowlist at all, those with a score of none \
             included"
                .to_owned(),
        );
    }
    let public = dns.servers.iter().find(|it| is_public(it.0.ip()));
    if let Some(server) = public
        && !(dns.blocklists.is_empty() && dns.allowlists.is_empty())
    {
        remarks.push(format!(
            "[dns] servers {server} is a public resolver, which Spamhaus, dnswl.org and most other lists \
             refuse: ask a resolver of your own"
        ));
    }
    if dns.timeout < dns.budget {
        remarks.push(format!(
            "[dns] timeout of {} is shorter than the budget of {}, which is never used up",
            format(dns.timeout),
            format(dns.budget)
        ));
    }
    if dns.budget > LONG_WAIT {
        remarks.push(format!(
            "[dns] budget of {}: while the DNS is slow, Postfix holds a process that long for each message \
             that is asked about",
            format(dns.budget)
        ));
    }
    remarks
}

/// Whether the whole world asks there.
fn is_public(server: IpAddr) -> bool {
    PUBLIC.iter().any(|it| it.parse() == Ok(server))
}

/// Google, Cloudflare, Quad9 and OpenDNS.
const PUBLIC: [&str; 14] = [
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
    "1.1.1.1",
    "1.0.0.1",
    "2606:4700:4700::1111",
    "2606:4700:4700::1001",
    "9.9.9.9",
    "149.112.112.112",
    "2620:fe::fe",
    "2620:fe::9",
    "208.67.222.222",
    "208.67.220.220",
];

/// From here on a slow resolver is felt.
const LONG_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::read::parse;

    #[test]
    fn what_may_not_be_meant_is_named() {
        for (text, remarks) in [
            (
                "[greylist]\nwho = \"suspicious\"\n",
                vec!["without blocklists"],
            ),
            (
                "[greylist]\nwho = \"suspicious\"\n[dns]\nblocklists = [\"l.example\"]\n",
                vec![],
            ),
            ("[dns]\nblocklists = [\"l.example\"]\n", vec!["everyone is"]),
            ("[greylist]\nidentity = \"spf\"\n", vec!["waits up to"]),
            (
                "[dns]\nallowlists = [\"l.example\"]\nallowlist_score = 0\nservers = [\"9.9.9.9\"]\n",
                vec!["score of 0", "public resolver"],
            ),
            ("[dns]\nservers = [\"1.1.1.1\"]\n", vec![]),
            (
                "[dns]\nbudget = \"4s\"\ntimeout = \"1s\"\n",
                vec!["never used up", "holds a process"],
            ),
        ] {
            let config = parse(Path::new("f"), text.as_bytes()).expect("it is legal");
            let said = super::remarks(&config);
            assert_eq!(said.len(), remarks.len(), "{text}: {said:?}");
            for (said, remark) in said.iter().zip(remarks) {
                assert!(said.contains(remark), "{text}: {said}");
            }
        }
    }
}
