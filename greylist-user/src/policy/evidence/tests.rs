use super::*;
use crate::policy::fixture::ATTEMPT;

fn policy(who: Who) -> Policy {
    let mut policy = Policy::default();
    policy.evidence.who = who;
    policy.evidence.own_names = vec!["mx.here.example".to_owned()];
    policy
}

fn trusting(domain: &str) -> Policy {
    let mut policy = policy(Who::Everyone);
    policy.evidence.spf_trusted = vec![domain.to_owned()];
    policy
}

fn with(evidence: Evidence) -> Attempt<'static> {
    Attempt {
        evidence,
        ..ATTEMPT
    }
}

const LISTED: Evidence = Evidence {
    blocklist: Some(0),
    score: None,
    spf: Spf::Unknown,
};
const PASSES: Evidence = Evidence {
    blocklist: None,
    score: None,
    spf: Spf::Pass,
};

#[test]
fn signs_are_read_from_name_and_greeting() {
    let policy = policy(Who::Suspicious);
    let table: [(&str, &str, &str, Option<Sign>); 12] = [
        (
            "192.0.2.7",
            "mail.sender.example",
            "mail.sender.example",
            None,
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "MAIL.sender.example.",
            None,
        ),
        ("192.0.2.7", "", "mail.sender.example", Some(Sign::NoName)),
        (
            "192.0.2.7",
            "192-0-2-7.isp.example",
            "a.isp.example",
            Some(Sign::AccessLine),
        ),
        (
            "192.0.2.7",
            "x.dsl.isp.example",
            "a.isp.example",
            Some(Sign::AccessLine),
        ),
        (
            "2001:db8::7",
            "x.dsl.isp.example",
            "a.isp.example",
            Some(Sign::AccessLine),
        ),
        (
            "2001:db8::7",
            "mail.sender.example",
            "mail.sender.example",
            None,
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "",
            Some(Sign::HeloNoName),
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "[192.0.2.7]",
            Some(Sign::HeloNoName),
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "192.0.2.7",
            Some(Sign::HeloNoName),
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "friend",
            Some(Sign::HeloNoName),
        ),
        (
            "192.0.2.7",
            "mail.sender.example",
            "MX.here.example",
            Some(Sign::HeloOurs),
        ),
    ];
    for (client, name, helo, expected) in table {
        let attempt = Attempt {
            client: client.parse().expect("an address"),
            client_name: name.as_bytes(),
            helo: helo.as_bytes(),
            ..ATTEMPT
        };
        assert_eq!(sign(&policy, &attempt), expected, "{client} {name} {helo}");
        let excused = excused(&policy, &attempt);
        assert_eq!(excused.is_some(), expected.is_none(), "{name} {helo}");
    }
}

#[test]
fn off_excuses_nobody_and_asks_nothing() {
    let policy = Policy::default();
    assert!(!policy.evidence.asks());
    assert_eq!(excused(&policy, &ATTEMPT), None);
    assert!(!wanted(&policy, &ATTEMPT).is_any());
    assert_eq!(identity(&policy, &with(PASSES)), None);
}

#[test]
fn blocklist_makes_who_looks_well_suspicious() {
    let mut policy = policy(Who::Suspicious);
    policy.evidence.blocklists = 1;
    assert!(wanted(&policy, &ATTEMPT).blocklists);
    assert_eq!(excused(&policy, &ATTEMPT), Some(PassReason::Unsuspicious));
    assert_eq!(excused(&policy, &with(LISTED)), None);
}

#[test]
fn who_looks_suspicious_anyway_is_not_looked_for_in_blocklists() {
    let mut policy = policy(Who::Suspicious);
    policy.evidence.blocklists = 1;
    policy.evidence.allowlists = 1;
    let nameless = Attempt {
        client_name: b"",
        ..ATTEMPT
    };
    let wanted = wanted(&policy, &nameless);
    assert!(!wanted.blocklists && wanted.allowlists);
}

#[test]
fn score_from_the_least_on_vouches_whoever_is_greylisted() {
    for who in [Who::Everyone, Who::Suspicious] {
        let mut policy = policy(who);
        policy.evidence.allowlist_score = 2;
        let scored = |score| {
            with(Evidence {
                score: Some(score),
                ..LISTED
            })
        };
        assert_eq!(excused(&policy, &scored(1)), None);
        assert_eq!(excused(&policy, &scored(2)), Some(PassReason::Vouched));
    }
}

#[test]
fn spf_pass_exempts_listed_domains_only() {
    for (listed, exempts) in [
        ("sender.example", true),
        ("SENDER.example", true),
        (".sender.example", true),
        (".example", true),
        ("example", false),
        ("ender.example", false),
        (".ender.example", false),
        ("other.example", false),
    ] {
        let policy = trusting(listed);
        assert_eq!(wanted(&policy, &ATTEMPT).spf, exempts, "{listed}");
        let excused = excused(&policy, &with(PASSES));
        assert_eq!(excused.is_some(), exempts, "{listed}");
    }
    let no_pass = Evidence {
        spf: Spf::NoPass,
        ..PASSES
    };
    assert_eq!(excused(&trusting("sender.example"), &with(no_pass)), None);
}

#[test]
fn null_reverse_path_stands_for_the_greeting() {
    let bounce = Attempt {
        reverse_path: b"",
        helo: b"mail.bouncer.example.",
        ..with(PASSES)
    };
    assert_eq!(spf_domain(&bounce), b"mail.bouncer.example");
    let policy = trusting(".bouncer.example");
    assert_eq!(excused(&policy, &bounce), Some(PassReason::Vouched));
}

#[test]
fn domain_stands_for_the_network_where_it_passes_alone() {
    let mut policy = Policy::default();
    policy.evidence.identity = Identity::Spf;
    assert!(wanted(&policy, &ATTEMPT).spf);
    assert_eq!(identity(&policy, &ATTEMPT), None);
    assert_eq!(
        identity(&policy, &with(PASSES)),
        Some(&b"sender.example"[..])
    );
}
