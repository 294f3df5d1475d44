//! The rung of evidence in the store: whom it lets through, what it leaves behind, from what it does
//! not shield; and a domain in the place of a network. (D1, D2)

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, DeferReason, Evidence, Identity, Judge as _, Mode, PassReason, Persistence, Policy,
    RefuseReason, Sentence, SentenceLevel, SentenceReason, SentencedClient, Spf, Verdict, Who,
};
use proptest::prelude::*;

use crate::fixture::{ATTEMPT, Fixture, pass_once};

const VOUCHED: Evidence = Evidence {
    blocklist: None,
    score: Some(3),
    spf: Spf::Unknown,
};

fn suspicious() -> Policy {
    let mut policy = Policy::default();
    policy.evidence.who = Who::Suspicious;
    policy.evidence.blocklists = 1;
    policy.evidence.allowlists = 1;
    policy
}

fn by_spf() -> Policy {
    let mut policy = Policy {
        // In another one content would tell a pool.
        mode: Mode::Envelope,
        ..Policy::default()
    };
    policy.evidence.identity = Identity::Spf;
    policy
}

/// One of a pool's, of which SPF says so.
fn from_pool(client: &str, spf: Spf) -> Attempt<'static> {
    Attempt {
        client: client.parse().expect("an address"),
        evidence: Evidence {
            spf,
            ..Evidence::default()
        },
        ..ATTEMPT
    }
}

#[test]
fn who_is_not_in_doubt_leaves_no_record() {
    let fixture = Fixture::with_policy(suspicious());
    let store = fixture.open();
    for number in 0..50 {
        let sender = format!("s{number}@sender.example");
        let attempt = Attempt {
            reverse_path: sender.as_bytes(),
            ..ATTEMPT
        };
        let unsuspicious = Verdict::Pass(PassReason::Unsuspicious);
        assert_eq!(fixture.judge(&store, &attempt), unsuspicious);
        let vouched = Attempt {
            client_name: b"",
            evidence: VOUCHED,
            ..attempt
        };
        let passes = Verdict::Pass(PassReason::Vouched);
        assert_eq!(fixture.judge(&store, &vouched), passes);
    }
    let census = store.census();
    assert_eq!((census.tuples, census.trusted, census.pairs), (0, 0, 0));
    let nameless = Attempt {
        client_name: b"",
        ..ATTEMPT
    };
    let deferred = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(&store, &nameless), deferred);
}

#[test]
fn nobody_is_shielded_from_a_sentence_by_what_others_say() {
    let fixture = Fixture::with_policy(suspicious());
    let store = fixture.open();
    let now = fixture.clock.now();
    let given = store.punish(Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: now,
        until: now.after(std::time::Duration::from_hours(1)),
        persistence: Persistence::default(),
    });
    assert!(given.is_some());
    fixture.wait_seconds(1);
    for evidence in [Evidence::default(), VOUCHED] {
        let attempt = Attempt {
            evidence,
            ..ATTEMPT
        };
        let refused = Verdict::Refuse(RefuseReason::Sentenced);
        assert_eq!(fixture.judge(&store, &attempt), refused);
        let wanted = store.wants(&attempt, fixture.clock.now());
        assert!(!wanted.is_any(), "nothing would change it");
    }
}

#[test]
fn nothing_is_asked_where_it_would_not_matter() {
    let fixture = Fixture::with_policy(suspicious());
    let store = fixture.open();
    let nameless = Attempt {
        client_name: b"",
        ..ATTEMPT
    };
    let wants = |attempt: &Attempt<'_>| store.wants(attempt, fixture.clock.now());
    assert!(wants(&ATTEMPT).blocklists);
    assert!(wants(&nameless).allowlists && !wants(&nameless).blocklists);
    let authenticated = Attempt {
        authenticated: true,
        ..nameless
    };
    assert!(!wants(&authenticated).is_any());
    fixture.judge(&store, &nameless);
    assert!(wants(&nameless).is_any(), "it is early");
    fixture.wait_minutes(4);
    assert!(!wants(&nameless).is_any(), "it passes now");
    fixture.judge(&store, &nameless);
    assert!(!wants(&nameless).is_any(), "it has passed");
    assert_eq!(store.census().tuples, 1, "asking leaves no trace");
}

#[test]
fn pool_passes_at_its_first_retry_and_who_forges_it_does_not() {
    let fixture = Fixture::with_policy(by_spf());
    let store = fixture.open();
    let first = from_pool("192.0.2.7", Spf::Pass);
    let deferred = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(&store, &first), deferred);
    fixture.wait_minutes(4);
    let forged = from_pool("203.0.113.9", Spf::NoPass);
    assert_eq!(fixture.judge(&store, &forged), deferred);
    let second = from_pool("198.51.100.7", Spf::Pass);
    let verdict = fixture.judge(&store, &second);
    assert!(
        matches!(verdict, Verdict::Pass(PassReason::Waited { .. })),
        "{verdict:?}"
    );
}

#[test]
fn trust_that_a_domain_has_earned_holds_on_every_network_where_spf_passes() {
    let policy = Policy {
        trust_after: 1,
        ..by_spf()
    };
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    pass_once(&fixture, &store, &from_pool("192.0.2.7", Spf::Pass));
    let to_another = |client, spf| Attempt {
        recipient: b"another@here.example",
        ..from_pool(client, spf)
    };
    let elsewhere = to_another("198.51.100.7", Spf::Pass);
    let trusted = Verdict::Pass(PassReason::Trusted);
    assert_eq!(fixture.judge(&store, &elsewhere), trusted);
    for spf in [Spf::Unknown, Spf::NoPass] {
        let verdict = fixture.judge(&store, &to_another("203.0.113.9", spf));
        assert!(matches!(verdict, Verdict::Defer(_)), "{spf:?}");
    }
}

#[test]
fn hosts_with_like_addresses_do_not_pay_for_each_other() {
    let fixture = Fixture::with_policy(by_spf());
    let store = fixture.open();
    fixture.wait_hours(1);
    let sentences = || store.sentences(fixture.clock.now()).len();
    // The last octet is the same: within a /24 that would be one host, which hammers.
    for network in 0..20 {
        let client = format!("198.51.{network}.7");
        fixture.judge(&store, &from_pool(&client, Spf::Pass));
        fixture.wait_seconds(3);
    }
    assert_eq!(sentences(), 0);
    for _ in 0..20 {
        fixture.judge(&store, &from_pool("198.51.100.7", Spf::Pass));
        fixture.wait_seconds(3);
    }
    assert_eq!(sentences(), 1, "one that does is told from them");
}

proptest! {
    /// However SPF comes and goes: once for the domain, and once for each network that was ever seen
    /// without it.
    #[test]
    fn nobody_starts_anew_for_ever(
        attempts in proptest::collection::vec((0..3_u8, any::<bool>()), 1..20),
    ) {
        let fixture = Fixture::with_policy(by_spf());
        let store = fixture.open();
        let mut alone = std::collections::BTreeSet::new();
        let mut deferred = 0;
        for (network, passes) in attempts {
            let spf = if passes { Spf::Pass } else { Spf::Unknown };
            let client = format!("198.51.{network}.7");
            if !passes {
                alone.insert(network);
            }
            let verdict = fixture.judge(&store, &from_pool(&client, spf));
            deferred += usize::from(matches!(verdict, Verdict::Defer(_)));
            fixture.wait_minutes(4);
        }
        prop_assert!(deferred <= 1 + alone.len(), "{deferred}");
    }
}
