//! What a host has to tell when the engine was away: more than its queue holds, and across a restart.

use std::sync::Arc;
use std::time::Duration;

use greygate::cluster::State;
use greygate::policy::{Attempt, Mode, Policy};
use support::Error;
use support::clock::TestClock;
use support::greygate::{Greygate, binary};
use support::interrupt;
use tempfile::TempDir;

use crate::daemon::{mail_flows, sharing, site_of_today, wait_until_it_shares};
use crate::engine::{Engine, equipment};
use crate::hosts::{ATTEMPT, PATIENCE, Site, block, client, is_new, is_sentenced, play, until};

#[test]
fn what_found_no_room_while_the_engine_was_away_is_told_once_it_is_back() {
    equipment().expect("the suite's needs are installed");
    let mut engine = Engine::start(&[]);
    let site = with_a_short_queue();
    let [mx1] = engine.with(|| site.hosts());
    engine.redis.kill().expect("it ran");
    mx1.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
    let recipients = recipients();
    let attempts = attempts(&recipients);
    // An hour of mail, of which the queue is full within minutes.
    let collected = || mx1.cluster.standing().queued + mx1.metrics.queue_overflow.get();
    let mut tried = 0;
    for minute in attempts.chunks(attempts.len().div_ceil(60)) {
        for attempt in minute {
            assert!(is_new(mx1.judge(attempt)), "mail flows");
            tried += 1;
        }
        until("the minute to be noted", || collected() >= tried);
        site.clock.advance(Duration::from_mins(1));
    }
    mx1.store
        .punish(block(&site, client()))
        .expect("there is room");
    let queued = mx1.cluster.standing().queued;
    assert!(queued <= QUEUE as u64, "{queued} wait");
    assert!(mx1.metrics.queue_overflow.get() > 0, "and more than wait");

    engine.redis.resume(&engine.namespace).expect("it starts");
    mx1.wait_until_it_shares();
    let mx2 = engine.with(|| site.host("mx2"));
    mx2.wait_until_it_shares();
    until("mx2 sentences", || is_sentenced(&mx2, &site));
    for attempt in &attempts {
        until("mx2 knows each tuple", || mx2.knows(attempt));
    }
}

/// It is silent for a moment, and no connection breaks that would have all told again.
#[test]
fn what_found_no_room_while_the_engine_was_slow_is_told_too() {
    play(|engine, _| {
        let site = with_a_short_queue();
        let [mx1, mx2] = site.hosts();
        let recipients = recipients();
        let attempts = attempts(&recipients);
        let connections = || mx1.metrics.connections.get();
        let before = connections();
        engine.redis.freeze(true).expect("it runs");
        for attempt in &attempts {
            assert!(is_new(mx1.judge_alone(attempt)), "mail flows");
        }
        until("the queue is full", || mx1.metrics.queue_overflow.get() > 0);
        engine.redis.freeze(false).expect("it runs");
        mx2.wait_until_it_shares();
        for attempt in &attempts {
            until("mx2 knows each tuple", || mx2.knows(attempt));
        }
        if connections() != before {
            eprintln!("this machine was so busy that the connection broke: it shows less");
        }
    });
}

#[test]
fn what_was_not_told_before_a_restart_is_told_after_it() {
    equipment().expect("the suite's needs are installed");
    let mut engine = Engine::start(&[]);
    let site = Site::new();
    let disk = TempDir::new().expect("a temporary directory");
    let mx1 = engine.with(|| site.host_on("mx1", disk.path()));
    mx1.wait_until_it_shares();
    engine.redis.kill().expect("it ran");
    mx1.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
    assert!(is_new(mx1.judge(&ATTEMPT)), "mail flows");
    mx1.store
        .punish(block(&site, client()))
        .expect("there is room");
    mx1.wait_until("it waits to be told", |it| it.queued > 0);
    drop(mx1);
    site.clock.advance(Duration::from_mins(30));

    let mx1 = engine.with(|| site.host_on("mx1", disk.path()));
    mx1.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
    assert_eq!(
        mx1.first_seen(),
        Some(TestClock::START),
        "the disk remembers"
    );
    engine.redis.resume(&engine.namespace).expect("it starts");
    let mx2 = engine.with(|| site.host("mx2"));
    mx2.wait_until_it_shares();
    until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
    until("mx2 sentences", || is_sentenced(&mx2, &site));
}

#[test]
fn what_was_not_told_before_a_crash_is_told_after_it() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let mut engine = Engine::start(&[]);
    let site = site_of_today();
    let [mx1] = engine.with(|| site.hosts());
    let disk = TempDir::new().map_err(Error::io("making a directory"))?;
    let mut mx2 = Greygate::start(&engine.namespace, disk.path(), &[&sharing("", "info")])?;
    wait_until_it_shares(&mx2)?;
    engine.redis.kill()?;
    let rows = || mx2.metric(&engine.namespace, "greygate_journal_rows_total");
    let before = rows()?;
    engine.with(|| mail_flows("r@here.example"));
    interrupt::wait_for("the journal", PATIENCE, || {
        Ok((rows()? > before).then_some(()))
    })?;
    mx2.kill()?;

    engine.redis.resume(&engine.namespace)?;
    mx1.wait_until_it_shares();
    mx2.resume(&engine.namespace)?;
    let attempt = Attempt {
        client_name: b"",
        ..ATTEMPT
    };
    until("mx1 knows the tuple", || mx1.knows(&attempt));
    Ok(())
}

fn with_a_short_queue() -> Site {
    let mut site = Site::new();
    // A record for each attempt, and few beside.
    site.policy.store(Arc::new(Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    }));
    site.settings.queue = QUEUE;
    // Thousands of questions in turn: on a busy machine one may be late.
    site.settings.budget = Duration::from_secs(1);
    site
}

/// More than wait in a short queue.
fn recipients() -> Vec<String> {
    let numbers = 0..4 * QUEUE;
    numbers.map(|it| format!("{it}@here.example")).collect()
}

fn attempts(recipients: &[String]) -> Vec<Attempt<'_>> {
    let attempts = recipients.iter().map(|recipient| Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    });
    attempts.collect()
}

const QUEUE: usize = 500;
