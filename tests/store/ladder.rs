//! The order of precedence through the whole store: exempt, trusted, tuple; who is punished and
//! who never is.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, DeferReason, Effect, Offence, Origin, PassReason, Policy, SentenceLevel,
    SentenceReason, SentencedClient, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture, listing, pass_once};

/// Lets the sender of `attempt` pass with one new recipient an hour, `times` times.
fn pass_hourly(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>, times: u32) {
    for number in 0..times {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..*attempt
        };
        pass_once(fixture, store, &attempt);
        fixture.wait_hours(1);
    }
}

/// A recipient that the sender has not written to.
fn to_another(attempt: &Attempt<'static>) -> Attempt<'static> {
    Attempt {
        recipient: b"another@here.example",
        ..*attempt
    }
}

/// Retries of one message a second apart, for a minute.
fn hammer(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) {
    for _ in 0..60 {
        fixture.judge(store, attempt);
        fixture.clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn trusts_after_five_passes_for_any_recipient() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_hourly(&fixture, &store, &ATTEMPT, 4);
    let new = Verdict::Defer(DeferReason::New);
    let trusted = Verdict::Pass(PassReason::Trusted);
    let fifth = to_another(&ATTEMPT);
    assert_eq!(fixture.judge(&store, &fifth), new);
    fixture.wait_minutes(5);
    fixture.judge(&store, &fifth);
    assert_eq!(fixture.judge(&store, &fifth), trusted);
    let neighbour = Attempt {
        client: std::net::Ipv4Addr::new(192, 0, 2, 200).into(),
        recipient: b"third@here.example",
        ..ATTEMPT
    };
    assert_eq!(fixture.judge(&store, &neighbour), trusted);
}

#[test]
fn trust_is_for_the_sender_not_for_everything_of_the_client() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_hourly(&fixture, &store, &ATTEMPT, 5);
    let other_sender = Attempt {
        reverse_path: b"other@sender.example",
        ..ATTEMPT
    };
    assert_eq!(
        fixture.judge(&store, &other_sender),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn many_passes_in_an_hour_earn_no_trust() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    for _ in 0..50 {
        fixture.wait_minutes(1);
        fixture.judge(&store, &ATTEMPT);
    }
    assert_eq!(
        fixture.judge(&store, &to_another(&ATTEMPT)),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn trust_is_renewed_on_use() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_hourly(&fixture, &store, &ATTEMPT, 5);
    for month in 0..12 {
        fixture.wait_hours(30 * 24);
        assert_eq!(
            fixture.judge(&store, &to_another(&ATTEMPT)),
            Verdict::Pass(PassReason::Trusted),
            "after month {month}"
        );
    }
    fixture.wait_hours(36 * 24);
    assert_eq!(
        fixture.judge(&store, &to_another(&ATTEMPT)),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn trust_of_an_ipv6_client_outlives_sweep_and_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let ipv6 = Attempt {
        client: "2001:db8:1:2::3".parse().expect("an address"),
        ..ATTEMPT
    };
    pass_hourly(&fixture, &store, &ipv6, 5);
    fixture.rows(&store);
    drop(store);
    let store = std::sync::Arc::new(fixture.open());
    let clock = std::sync::Arc::clone(&fixture.clock);
    let keeper = greygate::store::Keeper::start(std::sync::Arc::clone(&store), clock)
        .expect("the system has a thread to give");
    fixture.wait_hours(30 * 24);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fixture.metrics.sweep_seen.get() == 0 {
        assert!(std::time::Instant::now() < deadline, "a sweep within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    keeper.stop().expect("it is writable");
    assert_eq!(
        fixture.judge(&store, &to_another(&ipv6)),
        Verdict::Pass(PassReason::Trusted)
    );
}

#[test]
fn large_mail_is_greylisted_like_any_other() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let large = Attempt {
        announced_size: 50_000_000,
        ..ATTEMPT
    };
    assert_eq!(
        fixture.judge(&store, &large),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn hammering_client_is_sentenced_and_the_kernel_told() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    hammer(&fixture, &store, &ATTEMPT);
    let sentences = store.sentences(fixture.clock.now());
    let [sentence] = sentences[..] else {
        panic!("one sentence: {sentences:?}");
    };
    assert_eq!(sentence.client, SentencedClient::of(ATTEMPT.client));
    assert_eq!(sentence.level, SentenceLevel::Rate, "the first");
    assert_eq!(
        sentence.reason,
        SentenceReason::Offence(Offence::RapidRetries)
    );
    assert_eq!(
        fixture.effects.try_recv().ok(),
        Some(Effect::Punish(sentence))
    );
    assert_eq!(fixture.metrics.sentences_given.get(), 1);
    // Half an hour, and up to a tenth more.
    fixture.wait_minutes(34);
    assert_eq!(store.sentences(fixture.clock.now()), []);
}

#[test]
fn nobody_above_the_last_rung_is_sentenced() {
    let allowing = Policy {
        lists: listing(["192.0.2.0/24"], []),
        ..Policy::default()
    };
    let local = Policy {
        lists: listing([], ["192.0.2.0/24"]),
        ..Policy::default()
    };
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    let loopback = Attempt {
        client: std::net::Ipv6Addr::LOCALHOST.into(),
        ..ATTEMPT
    };
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    for (policy, attempt, who) in [
        (allowing, ATTEMPT, "allowed"),
        (local, ATTEMPT, "local"),
        (Policy::default(), authenticated, "authenticated"),
        (Policy::default(), loopback, "loopback"),
        (Policy::default(), reported, "reported by another host"),
    ] {
        let fixture = Fixture::with_policy(policy);
        let store = fixture.open();
        fixture.warm_up();
        hammer(&fixture, &store, &attempt);
        assert_eq!(store.census().sentences, 0, "{who}");
    }
}

#[test]
fn trusted_client_is_not_sentenced() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_hourly(&fixture, &store, &ATTEMPT, 5);
    hammer(&fixture, &store, &to_another(&ATTEMPT));
    assert_eq!(store.census().sentences, 0);
}

#[test]
fn ten_alerts_in_ten_seconds_are_ten_mails() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    for size in 5_000..5_010 {
        let alert = Attempt {
            announced_size: size,
            ..ATTEMPT
        };
        fixture.judge(&store, &alert);
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(store.census().sentences, 0);
}

#[test]
fn forgiving_lifts_the_sentence_and_tells_the_kernel() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    hammer(&fixture, &store, &ATTEMPT);
    while fixture.effects.try_recv().is_ok() {}
    let now = fixture.clock.now();
    let client = SentencedClient::of(ATTEMPT.client);
    assert!(
        store
            .forgive(SentencedClient::of(ATTEMPT.client), now)
            .lifted
            .is_some()
    );
    assert_eq!(
        fixture.effects.try_recv().ok(),
        Some(Effect::Forgive(client))
    );
    assert!(
        store
            .forgive(SentencedClient::of(ATTEMPT.client), now)
            .lifted
            .is_none()
    );
    assert_eq!(store.sentences(now), []);
}

#[test]
fn full_channel_loses_the_effect_and_keeps_the_sentence() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    for last in 0..20 {
        let client = std::net::Ipv4Addr::new(198, 51, last, 7);
        hammer(
            &fixture,
            &store,
            &Attempt {
                client: client.into(),
                recipient: &[b'r', last],
                ..ATTEMPT
            },
        );
    }
    assert_eq!(store.sentences(fixture.clock.now()).len(), 20);
    let told = fixture.effects.len() as u64;
    assert_eq!(told, 4, "as many as the channel holds");
    assert!(fixture.metrics.effects_lost.get() >= 16);
}

#[test]
fn full_store_knows_a_retry_by_its_trace() {
    let mut fixture = Fixture::new();
    fixture.settings.capacity = 1;
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let new = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(&store, &to_another(&ATTEMPT)), new);
    assert_eq!(store.census().tuples, 1);
    fixture.wait_minutes(2);
    let early = fixture.judge(&store, &to_another(&ATTEMPT));
    assert!(
        matches!(early, Verdict::Defer(DeferReason::Early { .. })),
        "{early:?}"
    );
    fixture.wait_minutes(3);
    let waited = Duration::from_mins(5);
    let passed = Verdict::Pass(PassReason::Waited { waited });
    assert_eq!(fixture.judge(&store, &to_another(&ATTEMPT)), passed);
    assert_eq!(fixture.metrics.traces_retried.get(), 1);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited }),
        "what is recorded is judged as ever"
    );

    // There is as much room for trust, which the first of them has.
    assert_eq!(fixture.metrics.trust_unrecorded.get(), 0);
    let stranger = Attempt {
        reverse_path: b"stranger@elsewhere.example",
        ..ATTEMPT
    };
    assert_eq!(fixture.judge(&store, &stranger), new);
    fixture.wait_minutes(5);
    assert_eq!(fixture.judge(&store, &stranger), passed);
    assert_eq!(fixture.metrics.trust_unrecorded.get(), 1);
    assert_eq!(
        fixture.judge(&store, &stranger),
        passed,
        "for as long as its trace is there"
    );
}

#[test]
fn reloaded_policy_is_obeyed_at_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fixture.policy.store(std::sync::Arc::new(Policy {
        delay: Duration::from_secs(1),
        ..Policy::default()
    }));
    let waited = Duration::from_secs(1);
    fixture.clock.advance(waited);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited })
    );
}
