//! Whom the operator names, through the whole store: what each list spares, and what it does not; and
//! recipients with rules of their own.

use std::sync::Arc;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    AddressPattern, Attempt, DeferReason, Entry, Judge as _, List, Listed, Lists, Mode, PassReason,
    Policy, ReadReason, RecipientPolicy, Recipients, RefuseReason, Refusing, Sentence,
    SentenceLevel, SentenceReason, SentencedClient, Source, Verdict,
};
use greygate::store::{ListName, Question, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};

const DENIED: Verdict = Verdict::Refuse(RefuseReason::Denied { permanently: true });
const SENTENCED: Verdict = Verdict::Refuse(RefuseReason::Sentenced);
const ALLOWED: Verdict = Verdict::Pass(PassReason::Allowed);
const NO_RETRY: Verdict = Verdict::Pass(PassReason::NoRetry);
const OPTED_OUT: Verdict = Verdict::Pass(PassReason::OptedOut);
const NEW: Verdict = Verdict::Defer(DeferReason::New);

fn list(entries: &[&str]) -> List {
    List::of(entries.iter().enumerate().map(|(at, text)| Listed {
        entry: text.parse::<Entry>().expect("an entry"),
        source: Source::File {
            file: std::path::Path::new("senders.list").into(),
            line: at + 1,
        },
    }))
}

fn opened(lists: Lists, change: impl FnOnce(&mut Policy)) -> (Fixture, Store) {
    let mut policy = Policy {
        lists: Arc::new(lists),
        ..Policy::default()
    };
    change(&mut policy);
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    fixture.warm_up();
    (fixture, store)
}

fn sentence(fixture: &Fixture, store: &Store) {
    let now = fixture.clock.now();
    let given = store.punish(Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: now,
        until: now.after(Duration::from_hours(24)),
        persistence: greygate::policy::Persistence::default(),
    });
    assert!(given.is_some());
}

/// That `why` foretells the verdict, and names what decides.
fn told(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) -> (Verdict, Vec<String>) {
    let question = Question {
        client: attempt.client,
        name: Some(attempt.client_name),
        helo: attempt.helo,
        mail: Some((attempt.reverse_path, attempt.recipient)),
    };
    let explanation = store.explain(&question, fixture.clock.now());
    let mail = explanation.networks[0].mail.expect("it was asked about");
    let listed = explanation.listed.iter();
    let listed = listed.map(|(name, it)| format!("{} {} {}", name.as_str(), it.entry, it.source));
    (mail.next.verdict, listed.collect())
}

#[test]
fn allowed_mail_passes_whatever_is_denied_or_sentenced() {
    for allowed in [
        "192.0.2.7",
        ".sender.example",
        "from @sender.example",
        "to r@here.example",
        "helo mail.sender.example",
    ] {
        let lists = Lists {
            allow: list(&[allowed]),
            deny: list(&["192.0.2.0/24"]),
            ..Lists::default()
        };
        let (fixture, store) = opened(lists, |_| ());
        sentence(&fixture, &store);
        let (verdict, listed) = told(&fixture, &store, &ATTEMPT);
        assert_eq!(verdict, ALLOWED, "{allowed}");
        assert_eq!(
            listed,
            [
                format!("allow {allowed} senders.list:1"),
                "deny 192.0.2.0/24 senders.list:1".to_owned(),
            ]
        );
        assert_eq!(fixture.judge(&store, &ATTEMPT), ALLOWED, "{allowed}");
        assert!(!store.turns_away(&ATTEMPT, fixture.clock.now()));
        let other = Attempt {
            client_name: b"",
            helo: b"x",
            reverse_path: b"a@b.example",
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        let by_network = allowed == "192.0.2.7";
        let expected = if by_network { ALLOWED } else { DENIED };
        assert_eq!(fixture.judge(&store, &other), expected, "{allowed}");
    }
}

#[test]
fn denied_client_is_refused_before_its_sentence_is_asked_for_and_nothing_is_remembered() {
    let lists = Lists {
        deny: list(&["192.0.2.0/24", "from spam@sender.example"]),
        ..Lists::default()
    };
    let (fixture, store) = opened(lists, |_| ());
    sentence(&fixture, &store);
    assert_eq!(told(&fixture, &store, &ATTEMPT).0, DENIED);
    assert_eq!(fixture.judge(&store, &ATTEMPT), DENIED);
    assert_eq!(fixture.metrics.count_of(DENIED), 1);
    assert_eq!(store.census().tuples, 0);
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    let passes = Verdict::Pass(PassReason::Authenticated);
    assert_eq!(fixture.judge(&store, &authenticated), passes);
    let spam = Attempt {
        client: [198, 51, 100, 7].into(),
        reverse_path: b"Spam@SENDER.example",
        ..ATTEMPT
    };
    assert_eq!(fixture.judge(&store, &spam), DENIED);
}

#[test]
fn deny_list_defers_or_only_counts_where_that_is_what_it_shall_do() {
    for (action, expected, counted) in [
        (
            Refusing::Defer,
            Verdict::Refuse(RefuseReason::Denied { permanently: false }),
            0,
        ),
        (Refusing::Observe, NEW, 1),
    ] {
        let lists = Lists {
            deny: list(&["192.0.2.7"]),
            ..Lists::default()
        };
        let (fixture, store) = opened(lists, |policy| policy.deny = action);
        assert_eq!(told(&fixture, &store, &ATTEMPT).0, expected);
        assert_eq!(fixture.judge(&store, &ATTEMPT), expected);
        assert_eq!(fixture.metrics.would_deny.get(), counted);
    }
}

#[test]
fn denied_client_that_goes_on_retrying_after_550_is_struck_and_one_that_was_told_451_is_not() {
    for (action, strikes) in [(Refusing::Reject, 1), (Refusing::Defer, 0)] {
        let lists = Lists {
            deny: list(&["from @sender.example"]),
            ..Lists::default()
        };
        let (fixture, store) = opened(lists, |policy| policy.deny = action);
        for _ in 0..8 {
            fixture.judge(&store, &ATTEMPT);
            fixture.wait_minutes(2);
        }
        assert_eq!(store.census().clients, strikes, "{action:?}");
    }
}

#[test]
fn sender_that_does_not_retry_is_not_greylisted_and_is_sentenced_like_anybody() {
    let lists = Lists {
        no_retry: list(&[".sender.example"]),
        ..Lists::default()
    };
    let (fixture, store) = opened(lists, |_| ());
    assert_eq!(told(&fixture, &store, &ATTEMPT).0, NO_RETRY);
    assert_eq!(fixture.judge(&store, &ATTEMPT), NO_RETRY);
    assert_eq!(store.census().tuples, 0);
    let stranger = Attempt {
        client_name: b"mail.badsender.example",
        ..ATTEMPT
    };
    assert_eq!(fixture.judge(&store, &stranger), NEW);
    sentence(&fixture, &store);
    assert_eq!(told(&fixture, &store, &ATTEMPT).0, SENTENCED);
    assert_eq!(fixture.judge(&store, &ATTEMPT), SENTENCED);
}

#[test]
fn who_shall_never_be_trusted_waits_for_each_recipient_however_often_it_passed() {
    let other = Attempt {
        recipient: b"other@here.example",
        ..ATTEMPT
    };
    for (never, expected) in [
        (&[][..], Verdict::Pass(PassReason::Trusted)),
        (&["192.0.2.0/24"], NEW),
        (&["from @sender.example"], NEW),
    ] {
        let lists = Lists {
            never_trust: list(never),
            ..Lists::default()
        };
        let (fixture, store) = opened(lists, |policy| policy.trust_after = 1);
        pass_once(&fixture, &store, &ATTEMPT);
        assert_eq!(told(&fixture, &store, &other).0, expected, "{never:?}");
        assert_eq!(fixture.judge(&store, &other), expected, "{never:?}");
        let known = Verdict::Pass(PassReason::Passed);
        assert_eq!(fixture.judge(&store, &ATTEMPT).word(), known.word());
        assert_eq!(store.census().trusted, usize::from(never.is_empty()));
    }
}

#[test]
fn trust_that_was_earned_counts_no_more_for_whom_the_list_names_since() {
    let (fixture, store) = opened(Lists::default(), |policy| policy.trust_after = 1);
    pass_once(&fixture, &store, &ATTEMPT);
    let other = Attempt {
        recipient: b"other@here.example",
        ..ATTEMPT
    };
    let mut policy = Policy::clone(&fixture.policy.load());
    policy.lists = Arc::new(Lists {
        never_trust: list(&["192.0.2.7"]),
        ..Lists::default()
    });
    fixture.policy.store(Arc::new(policy));
    assert_eq!(fixture.judge(&store, &other), NEW);
}

fn own(recipients: &[&str], policy: Policy) -> RecipientPolicy {
    let patterns = recipients.iter();
    RecipientPolicy {
        recipients: patterns
            .map(|it| it.parse::<AddressPattern>().expect("a pattern"))
            .collect(),
        source: Source::File {
            file: std::path::Path::new("greygate.toml").into(),
            line: 7,
        },
        policy,
    }
}

#[test]
fn recipients_are_opted_out_delayed_and_read_each_by_its_own_rules() {
    let base = Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    };
    let recipients = Recipients::of(vec![
        own(
            &["@out.example"],
            Policy {
                greylists: false,
                ..base.clone()
            },
        ),
        own(
            &["quick@here.example"],
            Policy {
                delay: Duration::from_secs(30),
                ..base.clone()
            },
        ),
        own(
            &[".read.example"],
            Policy {
                mode: Mode::Content,
                ..base.clone()
            },
        ),
    ]);
    let (fixture, store) = opened(Lists::default(), |policy| {
        *policy = base;
        policy.recipients = Arc::new(recipients);
    });
    let to = |recipient: &'static str| Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    };
    for (recipient, expected) in [
        ("r@out.example", OPTED_OUT),
        ("quick@here.example", NEW),
        ("slow@here.example", NEW),
        ("r@mx.read.example", Verdict::Read(ReadReason::Mode)),
    ] {
        assert_eq!(told(&fixture, &store, &to(recipient)).0, expected);
        assert_eq!(
            fixture.judge(&store, &to(recipient)),
            expected,
            "{recipient}"
        );
    }
    fixture.wait_seconds(40);
    let waited = Duration::from_secs(40);
    assert_eq!(
        fixture.judge(&store, &to("quick@here.example")),
        Verdict::Pass(PassReason::Waited { waited })
    );
    let early = fixture.judge(&store, &to("slow@here.example"));
    assert!(
        matches!(early, Verdict::Defer(DeferReason::Early { .. })),
        "{early:?}"
    );

    let question = Question {
        client: ATTEMPT.client,
        name: Some(ATTEMPT.client_name),
        helo: b"",
        mail: Some((b"s@sender.example", b"Quick@here.example")),
    };
    let explained = store.explain(&question, fixture.clock.now());
    let own = explained.recipient.expect("it has its own");
    assert_eq!(own.pattern.to_string(), "quick@here.example");
    assert_eq!(own.source.to_string(), "greygate.toml:7");
    assert_eq!(own.delay, Duration::from_secs(30));
}

#[test]
fn opted_out_recipient_gets_no_mail_of_whom_is_sentenced_or_denied() {
    let lists = Lists {
        deny: list(&["helo mail.sender.example"]),
        ..Lists::default()
    };
    let (fixture, store) = opened(lists, |policy| policy.greylists = false);
    assert_eq!(fixture.judge(&store, &ATTEMPT), DENIED);
    let other = Attempt {
        helo: b"other.example",
        ..ATTEMPT
    };
    assert_eq!(fixture.judge(&store, &other), OPTED_OUT);
    sentence(&fixture, &store);
    assert_eq!(fixture.judge(&store, &other), SENTENCED);
}

#[test]
fn forged_sender_that_is_allowed_does_not_hide_who_harvests_addresses() {
    for (allowed, is_counted) in [("from @sender.example", true), ("192.0.2.7", false)] {
        let lists = Lists {
            allow: list(&[allowed]),
            ..Lists::default()
        };
        let (fixture, store) = opened(lists, |_| ());
        store.note_rejected(&ATTEMPT, fixture.clock.now());
        let counted = store.census().reputations > 0;
        assert_eq!(counted, is_counted, "{allowed}");
    }
}

#[test]
fn every_list_has_its_word() {
    let all = [
        ListName::Allow,
        ListName::Deny,
        ListName::Local,
        ListName::NeverTrust,
        ListName::NoRetry,
    ];
    let words = all.map(ListName::as_str);
    assert_eq!(words, ["allow", "deny", "local", "never_trust", "no_retry"]);
}
