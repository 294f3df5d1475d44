//! What became of each message, counted once, on the wire.

use std::{sync::Arc, time::Duration};

use greygate::{
    admin::{self, Answer, MetricsListen, Request},
    config::Config,
    daemon::{Daemon, Rights},
    log,
    milter::Endpoint,
    policy::{PassReason, ReadReason, RefuseReason, Verdict},
};
use support::{clock::TestClock, mta::Mta};

use crate::world::{CLIENT, World};

/// One message of 1,000 announced bytes from its MAIL on, as far as it gets.
fn deliver(mta: &mut Mta, to: &[&str]) {
    mta.mail("a@x.example").expect("held");
    let mut goes_on = false;
    for recipient in to {
        let answer = mta.rcpt(recipient).expect("an answer");
        if answer.status.starts_with("y421") {
            return;
        }
        goes_on |= answer.is_continue();
    }
    if goes_on {
        let answer = mta.data().expect("an answer");
        if answer.is_continue() {
            mta.hold(b'L', b"Message-ID\0 <1@x.example>\0");
            mta.hold(b'B', &[b'x'; 2_000]);
            mta.end_of_message().expect("an answer");
            return;
        }
    }
    mta.abort();
}

#[test]
fn every_fate_is_counted_once_and_no_message_twice() {
    let world = World::new();
    for (recipient, verdict) in [
        ("local@y.example", Verdict::Pass(PassReason::Local)),
        ("seen@y.example", Verdict::Pass(PassReason::Observed)),
        ("full@y.example", Verdict::Pass(PassReason::Unrecorded)),
        ("trust@y.example", Verdict::Pass(PassReason::Trusted)),
        (
            "earned@y.example",
            Verdict::Pass(PassReason::ContentTrusted),
        ),
        ("stubborn@y.example", persisted()),
        ("came@y.example", Verdict::Pass(PassReason::ContentAgain)),
        ("pool@y.example", Verdict::Read(ReadReason::Roaming)),
        (
            "bad@y.example",
            refused(RefuseReason::BadReputation { permanently: false }),
        ),
        ("worst@y.example", refused(RefuseReason::Sentenced)),
    ] {
        world.table.tell(recipient, verdict);
    }
    let mut mta = world.session();
    deliver(&mut mta, &["new@y.example"]);
    deliver(&mut mta, &["read@y.example"]);
    deliver(&mut mta, &["pool@y.example", "known@y.example"]);
    deliver(&mut mta, &["bad@y.example"]);
    for one in [
        "local", "seen", "full", "trust", "earned", "known", "stubborn", "came",
    ] {
        deliver(&mut mta, &[&format!("{one}@y.example")]);
    }
    // By several keys: the one that took longest. One deferred recipient does not make it deferred.
    deliver(
        &mut mta,
        &["known@y.example", "stubborn@y.example", "another@y.example"],
    );
    // A callback: it asks for a recipient and goes.
    mta.hold(b'M', b"<>\0");
    assert!(
        mta.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    mta.abort();
    // Broken off half-way; and nothing but recipients that the MTA refuses.
    mta.mail("a@x.example").expect("held");
    mta.rcpt("read@y.example").expect("an answer");
    mta.data().expect("an answer");
    mta.hold(b'B', b"half");
    mta.abort();
    mta.mail("a@x.example").expect("held");
    mta.rejected_rcpt("nobody@y.example").expect("an answer");
    mta.abort();
    deliver(&mut mta, &["worst@y.example"]);
    deliver(&mut mta, &["known@y.example"]);
    mta.quit().expect("a clean end");
    world.wait_for_metric("milter_connections_open", 0);

    let expected = [
        ("refused", "sentence", 1, 1_000),
        ("refused", "reputation", 1, 1_000),
        ("deferred", "rcpt", 1, 1_000),
        ("deferred", "data", 0, 0),
        ("deferred", "end_of_message", 2, 2 * 2_000 + 2 * HEADER),
        ("left", "before_data", 1, 0),
        ("left", "in_message", 1, 1_000),
        ("passed", "exempt", 1, 1_000),
        ("passed", "observed", 1, 1_000),
        ("passed", "unrecorded", 1, 1_000),
        ("passed", "trust", 1, 1_000),
        ("passed", "content_trust", 1, 1_000),
        ("passed", "tuple", 1, 1_000),
        ("passed", "persistence", 2, 2 * 2_000 + 2 * HEADER),
        ("passed", "content", 1, 1_000),
    ];
    for (fate, by, messages, bytes) in expected {
        let labels = format!(r#"{{fate="{fate}",by="{by}"}}"#);
        let messages_counted = world.metric(&format!("milter_messages_total{labels}"));
        assert_eq!(messages_counted, messages, "{fate} {by}");
        let bytes_counted = world.metric(&format!("milter_message_bytes_total{labels}"));
        assert_eq!(bytes_counted, bytes, "{fate} {by}");
    }
    assert_eq!(
        world.metric("milter_messages_unsized_total"),
        1,
        "the callback"
    );
}

#[test]
fn message_held_at_data_and_one_whose_mta_hangs_up_are_counted() {
    let world = World::new();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    for name in 0..12 {
        mta.rcpt(&format!("{name}@y.example")).expect("an answer");
    }
    assert!(mta.data().expect("an answer").is_deferral());
    drop(mta);
    let held = r#"milter_messages_total{fate="deferred",by="data"}"#;
    world.wait_for_metric(held, 1);
    world.wait_for_metric("milter_connections_open", 0);
    assert_eq!(world.metric(held), 1);
}

/// From the wire through the store to the command that an operator gives.
#[test]
fn status_of_the_daemon_tells_what_became_of_its_mail() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.milter.listen = vec![Endpoint::Inet(([127, 0, 0, 1], 0).into())];
    config.log.level = log::Level::Error;
    config.store.directory = directory.path().join("store");
    config.store.seed_file = directory.path().join("seed");
    config.store.capacity = 1_000;
    config.admin.socket = directory.path().join("control.sock");
    config.metrics.listen = MetricsListen::Off;
    let socket = config.admin.socket.clone();
    let clock = Arc::<TestClock>::default();
    let log = log::init(&config.log);
    let daemon = Daemon::start(config, Arc::clone(&clock) as _, &log, Rights::as_they_are())
        .expect("everything is free");
    let mut mta = Mta::open(&daemon.endpoints()[0], CLIENT).expect("a session");
    for (minutes, recipient) in [(0, "a@y.example"), (0, "b@y.example"), (5, "a@y.example")] {
        clock.advance(Duration::from_mins(minutes));
        deliver(&mut mta, &[recipient]);
    }
    // Too late: the first attempt of this one has lapsed.
    clock.advance(Duration::from_hours(24));
    deliver(&mut mta, &["b@y.example"]);
    mta.quit().expect("a clean end");

    let answer = admin::call(&socket, &Request::Status).expect("it answers");
    let Answer::Status(status) = answer else {
        panic!("it is no status: {answer:?}");
    };
    let funnel = status.funnel;
    let messages = [
        funnel.seen,
        funnel.deferred,
        funnel.passed,
        funnel.left,
        funnel.refused,
    ];
    assert_eq!(messages.map(|it| it.messages), [4, 3, 1, 0, 0]);
    assert_eq!(funnel.reach.messages_per_million, Some(250_000));
    let by = |by: &str| funnel.fates.iter().find(|it| it.by == by).cloned();
    assert_eq!(by("rcpt").expect("told").messages, 3);
    assert_eq!(by("tuple").expect("told").messages, 1);
    assert_eq!(funnel.given_up.tuples, 1);
    assert_eq!(funnel.kernel, None, "there is no filter");
    assert_eq!(funnel.since, status.started);
    daemon.stop();
}

fn persisted() -> Verdict {
    let waited = Duration::from_hours(1);
    Verdict::Pass(PassReason::Persisted { waited })
}

fn refused(reason: RefuseReason) -> Verdict {
    Verdict::Refuse(reason)
}

/// Name and value of the header, as they are sent.
const HEADER: u64 = 24;
