//! What `greygate why` tells: the same as what then happens, and without a trace.

use std::net::Ipv4Addr;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, ClientNetwork, DeferReason, Judge as _, Mode, Offence, PassReason, Persistence,
    Policy, ReadReason, RefuseReason, Sentence, SentenceLevel, SentenceReason, SentencedClient,
    Verdict,
};
use greygate::store::{Explanation, MailStanding, Question, Store};
use proptest::prelude::*;

use crate::fixture::{ATTEMPT, Fixture, listing, pass_once};

#[test]
fn tells_what_the_next_attempt_gets_at_each_step_of_a_tuple() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let verdict = |fixture: &Fixture| mail(&explain(fixture, &store, &ATTEMPT)).next.verdict;
    assert_eq!(verdict(&fixture), Verdict::Defer(DeferReason::New));
    agrees(&fixture, &store, &ATTEMPT);
    fixture.wait_minutes(1);
    let left = Duration::from_mins(2);
    let early = verdict(&fixture);
    assert!(
        matches!(early, Verdict::Defer(DeferReason::Early { left: said }) if said >= left),
        "{early:?}"
    );
    agrees(&fixture, &store, &ATTEMPT);
    fixture.wait_minutes(4);
    let waited = Duration::from_mins(5);
    let passes = Verdict::Pass(PassReason::Waited { waited });
    assert_eq!(verdict(&fixture), passes);
    agrees(&fixture, &store, &ATTEMPT);
    assert_eq!(verdict(&fixture), Verdict::Pass(PassReason::Passed));
    agrees(&fixture, &store, &ATTEMPT);
    fixture.wait_hours(40 * 24);
    assert_eq!(verdict(&fixture), Verdict::Defer(DeferReason::Late));
    agrees(&fixture, &store, &ATTEMPT);
}

#[test]
fn tells_trust_and_whom_no_rule_touches() {
    let policy = Policy {
        lists: listing(["198.51.100.0/24"], []),
        trust_after: 1,
        ..Policy::default()
    };
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    let known = mail(&explain(&fixture, &store, &ATTEMPT));
    assert_eq!(known.next.verdict, Verdict::Pass(PassReason::Trusted));
    assert!(known.trusted);
    assert_eq!(known.tuple.expect("it is remembered").passes, 1);
    let allowed = Attempt {
        client: [198, 51, 100, 7].into(),
        ..ATTEMPT
    };
    let explanation = explain(&fixture, &store, &allowed);
    assert_eq!(explanation.exempt, Some(PassReason::Allowed));
    assert!(explanation.shielded);
    agrees(&fixture, &store, &allowed);
}

#[test]
fn tells_a_pool_by_reverse_path_and_recipient_and_what_its_message_earns() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let from = |network: u8| Attempt {
        client: [198, 51, network, 7].into(),
        ..ATTEMPT
    };
    let known = |network| mail(&explain(&fixture, &store, &from(network)));
    assert_eq!(known(0).pair, None);
    agrees(&fixture, &store, &from(0));
    fixture.wait_minutes(5);
    let pair = known(1).pair.expect("the first address has made it known");
    assert_eq!((pair.contacts, known(0).pair), (1, Some(pair)));
    let roams = Verdict::Read(ReadReason::Roaming);
    assert_eq!(known(1).next.verdict, roams);
    agrees(&fixture, &store, &from(1));
    fixture.wait_minutes(5);
    assert_eq!(known(2).next.verdict, roams);
    assert_eq!(known(2).content_trust, None);
    agrees(&fixture, &store, &from(2));
    let trust = known(2).content_trust.expect("its first pass");
    assert_eq!((trust.passes, known(2).content_trusted), (1, true));
    let trusted = Verdict::Pass(PassReason::ContentTrusted);
    assert_eq!(known(2).next.verdict, trusted);
    agrees(&fixture, &store, &from(2));
    assert_eq!(
        (known(3).content_trust, known(3).content_trusted),
        (None, false)
    );
    fixture.policy.store(
        Policy {
            mode: Mode::Envelope,
            ..Policy::default()
        }
        .into(),
    );
    assert_eq!(known(2).content_trust, Some(trust));
    assert!(!known(2).content_trusted, "nobody asks for it in that mode");
    agrees(&fixture, &store, &from(2));
    fixture.wait_hours(24);
    assert_eq!(known(3).pair, None, "it has lapsed");
}

#[test]
fn tells_the_sentences_that_cover_a_client_and_what_is_left_of_them() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    let now = fixture.clock.now();
    let sentence = |network: &str, level| {
        let network: ipnet::IpNet = network.parse().expect("a network");
        Sentence {
            client: SentencedClient::try_from(network).expect("it can be sentenced"),
            level,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: now,
            until: now.after(Duration::from_hours(1)),
            persistence: Persistence::default(),
        }
    };
    let own = sentence("192.0.2.7/32", SentenceLevel::Rate);
    let around = sentence("192.0.2.0/24", SentenceLevel::Rate);
    store.punish(own);
    store.punish(around);
    store.punish(sentence("192.0.2.8/32", SentenceLevel::Rate));
    while fixture.effects.try_recv().is_ok() {}
    let explanation = explain(&fixture, &store, &ATTEMPT);
    let said: Vec<_> = explanation.sentences.iter().map(|it| it.sentence).collect();
    assert_eq!(said, [own, around]);
    assert_eq!(explanation.sentences[0].upheld, Some(own));
    fixture.policy.store(
        Policy {
            lists: listing([], ["192.0.2.7/32"]),
            ..Policy::default()
        }
        .into(),
    );
    let explanation = explain(&fixture, &store, &ATTEMPT);
    assert_eq!(explanation.sentences[0].upheld, None, "it is void");
    fixture.wait_hours(1);
    assert_eq!(explain(&fixture, &store, &ATTEMPT).sentences, []);
}

#[test]
fn tells_each_client_network_that_it_may_be_where_the_reverse_name_is_not_known() {
    let fixture = Fixture::new();
    let policy = fixture.policy.load_full();
    let store = fixture.open();
    let prefix = |client, client_name| {
        let attempt = Attempt {
            client,
            client_name,
            ..ATTEMPT
        };
        ClientNetwork::of(&policy, &attempt).prefix()
    };
    let told = |client, name| {
        let question = Question {
            client,
            name,
            helo: b"",
            mail: None,
        };
        let explanation = store.explain(&question, fixture.clock.now());
        let networks = explanation.networks.iter();
        networks.map(|it| it.prefix).collect::<Vec<_>>()
    };
    let server = &b"mail.sender.example"[..];
    for client in ["192.0.2.7", "2001:db8::7"] {
        let client = client.parse().expect("an address");
        for name in [b"", server] {
            assert_eq!(told(client, Some(name)), [prefix(client, name)]);
        }
        let mut either = vec![prefix(client, b""), prefix(client, server)];
        either.dedup();
        assert_eq!(told(client, None), either, "{client}");
    }
}

#[test]
fn asking_leaves_no_trace() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.wait_minutes(10);
    let rows = fixture.rows(&store);
    let counts = fixture.metrics.count_of(Verdict::Pass(PassReason::Passed));
    let census = store.census();
    for recipient in [ATTEMPT.recipient, b"stranger@here.example"] {
        let asked = Attempt {
            recipient,
            ..ATTEMPT
        };
        explain(&fixture, &store, &asked);
    }
    let unchanged = store.census();
    assert_eq!(
        (unchanged.tuples, unchanged.clients),
        (census.tuples, census.clients)
    );
    assert_eq!(
        fixture.metrics.count_of(Verdict::Pass(PassReason::Passed)),
        counts
    );
    assert_eq!(sorted(&fixture.rows(&store)), sorted(&rows));
    assert!(fixture.effects.try_recv().is_err(), "nobody hears of it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever has happened, the next attempt gets what was foretold.
    #[test]
    fn foretells_what_comes(mode in mode(), story in proptest::collection::vec(step(), 1..40)) {
        let policy = Policy { trust_after: 2, mode, ..Policy::default() };
        let fixture = Fixture::with_policy(policy);
        let store = fixture.open();
        for Step { wait, client, named, sender, recipient } in story {
            fixture.clock.advance(Duration::from_secs(wait));
            let now = fixture.clock.now();
            let attempt = Attempt {
                client: Ipv4Addr::from(0xc000_0007 + 0x51 * client).into(),
                client_name: if named { b"mail.sender.example" } else { b"" },
                reverse_path: [&b"a@sender.example"[..], b"b@sender.example", b""][sender],
                recipient: [&b"r@here.example"[..], b"q@here.example"][recipient],
                announced_size: 0,
                connected: now,
                ..ATTEMPT
            };
            agrees(&fixture, &store, &attempt);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    wait: u64,
    client: u32,
    named: bool,
    sender: usize,
    recipient: usize,
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Envelope, Mode::Content, Mode::Hybrid])
}

/// Few of everything, so that tuples meet again, in two networks and one of them with two clients; waits of a burst, of a queue and of a month.
fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![
        4 => 0..8_u64,
        4 => 60..1_000_u64,
        2 => 3_600..90_000_u64,
        1 => Just(40 * 86_400),
    ];
    (wait, 2..5_u32, any::<bool>(), 0..3_usize, 0..2_usize).prop_map(
        |(wait, client, named, sender, recipient)| Step {
            wait,
            client,
            named,
            sender,
            recipient,
        },
    )
}

/// What is foretold of `attempt` is what it gets. Its message is sent, if it is to be read.
fn agrees(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) {
    let foretold = mail(&explain(fixture, store, attempt)).next;
    let attempt = Attempt {
        announced_size: 0,
        connected: fixture.clock.now(),
        ..*attempt
    };
    let given = fixture.judge(store, &attempt);
    assert_eq!(foretold.verdict, given);
    assert_ne!(
        given,
        Verdict::Refuse(RefuseReason::BadReputation { permanently: true })
    );
    if let Verdict::Read(_) = given {
        let now = fixture.clock.now();
        let mut message = store.message_hasher();
        message.header(b"Message-ID", b"<1@sender.example>");
        message.body(b"Hello.\r\n");
        let judged = store.judge_content(&attempt, &message, now).verdict;
        if let Verdict::Pass(_) = judged {
            store.note_content_pass(&attempt, &message, now);
        }
    }
}

fn explain(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) -> Explanation {
    let question = Question {
        client: attempt.client,
        name: Some(attempt.client_name),
        helo: attempt.helo,
        mail: Some((attempt.reverse_path, attempt.recipient)),
    };
    store.explain(&question, fixture.clock.now())
}

/// What is known of the mail; the reverse name was given, so that there is one client network.
fn mail(explanation: &Explanation) -> MailStanding {
    let [network] = &explanation.networks[..] else {
        panic!("{:?}", explanation.networks);
    };
    network.mail.expect("a mail was asked about")
}

/// Tables have no order.
fn sorted(rows: &[greygate::store::codec::Row]) -> Vec<String> {
    let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    rows
}
