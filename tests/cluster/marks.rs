//! What a host tells again to an engine that holds less than it did: by the mark that the engine came back with.

use std::fs;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::SharedKey;
use support::clock::TestClock;
use support::interrupt;
use tempfile::TempDir;

use crate::engine::{Engine, NODES, PORT, connect, equipment, holds, name_of, sign_of_mx1};
use crate::hosts::{ATTEMPT, Host, OTHER, PATIENCE, Site, is_new, play, until};

/// As it is after a power cut, with whatever it saved last.
#[test]
fn engine_that_comes_back_with_less_is_told_what_it_lacks_and_no_more() {
    equipment().expect("the suite's needs are installed");
    let mut engine = Engine::start(&[]);
    let site = Site::new();
    let [mx1] = engine.with(|| site.hosts());
    assert!(is_new(mx1.judge(&ATTEMPT)));
    let saved = SharedKey::Tuple(mx1.tuple_key());
    until("it is told", || engine.with(|| holds(PORT, saved)));
    site.clock.advance(Duration::from_hours(2));
    engine.with(|| until_all_is_told(&site.clock));
    // What is told again would come back.
    engine.with(|| forget(saved));
    assert_eq!(engine.say(&["save"]), "OK");
    site.clock.advance(Duration::from_mins(10));
    let unsaved = mx1.missing_tuple(&OTHER).expect("it is new");
    assert!(is_new(mx1.judge(&OTHER)));
    until("it is told", || engine.with(|| holds(PORT, unsaved)));
    site.clock.advance(Duration::from_hours(2));
    engine.with(|| until_all_is_told(&site.clock));

    restart(&mut engine);
    until("it is told what it had not saved", || {
        engine.with(|| holds(PORT, unsaved))
    });
    let settled = || mx1.wait_until("it has told all", |it| it.queued == 0 && !it.resyncing);
    settled();
    let holds_it = engine.with(|| holds(PORT, saved));
    assert!(!holds_it, "what had been saved was not told again");

    fs::remove_file(engine.redis.saved()).expect("it has saved");
    restart(&mut engine);
    for key in [saved, unsaved] {
        until("one that saved nothing is told all", || {
            engine.with(|| holds(PORT, key))
        });
    }
}

/// It went back to what it had saved, as when it follows another master for a moment.
#[test]
fn engine_that_goes_back_while_nobody_is_cut_off_is_told_what_it_lacks() {
    play(|_, site| {
        let [mx1] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        let tuple = SharedKey::Tuple(mx1.tuple_key());
        until("it is told", || holds(PORT, tuple));
        until_all_is_told(&site.clock);
        let before = sign_of_mx1();
        site.clock.advance(Duration::from_hours(2));
        until_all_is_told(&site.clock);
        let connections = mx1.metrics.connections.get();
        forget(tuple);
        redis::cmd("HSET")
            .arg(NODES)
            .arg("mx1")
            .arg(before)
            .exec(&mut connect())
            .expect("the engine runs");
        until("it is told again", || holds(PORT, tuple));
        if mx1.metrics.connections.get() != connections {
            eprintln!("this machine was so busy that the connection broke: it shows less");
        }
    });
}

#[test]
fn mark_waits_for_what_is_not_told() {
    play(|engine, site| {
        let disk = TempDir::new().expect("a temporary directory");
        let mx1 = site.host_on("mx1", disk.path());
        mx1.wait_until_it_shares();
        until_all_is_told(&site.clock);
        let before = site.clock.now();
        // Signs are taken, and nothing else.
        engine.say(&["acl", "setuser", "default", "-evalsha"]);
        assert!(is_new(mx1.judge(&ATTEMPT)));
        let tuple = SharedKey::Tuple(mx1.tuple_key());
        mx1.wait_until("it waits to be told", |it| it.queued > 0);
        site.clock.advance(Duration::from_hours(2));
        assert_eq!(told_at_the_next_sign(&site.clock), before.as_millis());
        drop(mx1);

        // Now it is no change that waits: all is compared, and nothing comes of it.
        let mx1 = site.host_on("mx1", disk.path());
        mx1.wait_until_it_shares();
        site.clock.advance(Duration::from_hours(2));
        assert_eq!(told_at_the_next_sign(&site.clock), before.as_millis());
        engine.say(&["acl", "setuser", "default", "+evalsha"]);
        until("it is told after all", || holds(PORT, tuple));
        until_all_is_told(&site.clock);
    });
}

/// Its clock was ahead when it signed, and what was used since cannot be told by it.
#[test]
fn mark_of_a_clock_that_was_ahead_is_none() {
    play(|_, site| {
        let ahead = site.ahead_by(Duration::from_hours(1));
        let disk = TempDir::new().expect("a temporary directory");
        let mx1 = site.host_on("mx1", disk.path());
        mx1.wait_until_it_shares();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        let tuple = SharedKey::Tuple(mx1.tuple_key());
        until("it is told", || holds(PORT, tuple));
        drop(mx1);
        let fast = ahead.host("mx1");
        fast.wait_until_it_shares();
        until_all_is_told(&ahead.clock);
        drop(fast);
        forget(tuple);
        site.clock.advance(Duration::from_mins(30));
        let mx1 = site.host_on("mx1", disk.path());
        settled(&mx1);
        until("it is told again", || holds(PORT, tuple));
    });
}

#[test]
fn restart_tells_what_the_engine_was_not_told_and_no_more_unless_it_was_emptied() {
    play(|engine, site| {
        let disk = TempDir::new().expect("a temporary directory");
        let mx1 = site.host_on("mx1", disk.path());
        mx1.wait_until_it_shares();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        let old = SharedKey::Tuple(mx1.tuple_key());
        until("it is told", || holds(PORT, old));
        site.clock.advance(Duration::from_hours(2));
        until_all_is_told(&site.clock);
        site.clock.advance(Duration::from_mins(5));
        engine.say(&["config", "set", "maxmemory", "1"]);
        assert!(is_new(mx1.judge(&OTHER)));
        mx1.wait_until("it waits to be told", |it| it.queued > 0);
        drop(mx1);

        engine.say(&["config", "set", "maxmemory", "0"]);
        // What is told again would come back.
        forget(old);
        let mx1 = site.host_on("mx1", disk.path());
        let mx2 = site.host("mx2");
        mx2.wait_until_it_shares();
        until("mx2 knows what was not told", || mx2.knows(&OTHER));
        settled(&mx1);
        assert!(!holds(PORT, old), "the engine was told of it before");
        drop(mx1);

        assert_eq!(engine.say(&["flushall"]), "OK");
        let mx1 = site.host_on("mx1", disk.path());
        settled(&mx1);
        until("an engine in another life is told all", || holds(PORT, old));
    });
}

#[test]
fn signs_that_nobody_has_needed_for_a_month_are_cleared() {
    play(|engine, site| {
        let [mx1] = site.hosts();
        until_all_is_told(&site.clock);
        let old = sign_of_mx1();
        engine.say(&["hset", NODES, "mx9", &old]);
        engine.say(&["hset", NODES, "stranger", "mine"]);
        site.clock.advance(Duration::from_hours(29 * 24));
        until_all_is_told(&site.clock);
        assert_eq!(engine.say(&["hget", NODES, "mx9"]), old);
        assert_eq!(mx1.cluster.standing().nodes.len(), 1, "it is not shown");
        site.clock.advance(Duration::from_hours(24));
        until("it is cleared", || {
            engine.say(&["hget", NODES, "mx9"]).is_empty()
        });
        assert_eq!(engine.say(&["hget", NODES, "stranger"]), "mine");
        assert_ne!(sign_of_mx1(), "");
    });
}

/// Kills the engine and starts it again, with what it saved.
fn restart(engine: &mut Engine) {
    engine.redis.kill().expect("it ran");
    engine.redis.resume(&engine.namespace).expect("it starts");
}

/// Waits until mx1 has signed in by this clock, and gives until when all was told, in milliseconds.
fn told_at_the_next_sign(clock: &TestClock) -> u64 {
    let now = clock.now().as_millis();
    let told = interrupt::wait_for("mx1 to sign in", PATIENCE, || {
        let sign = sign_of_mx1();
        let words: Vec<u64> = sign.split(' ').filter_map(|it| it.parse().ok()).collect();
        let (Some(&signed), Some(&told)) = (words.first(), words.last()) else {
            return Ok(None);
        };
        Ok((signed >= now).then_some(told))
    });
    told.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until the engine says of mx1 that it was told all until now.
fn until_all_is_told(clock: &TestClock) {
    let now = clock.now().as_millis();
    until("all is told", || told_at_the_next_sign(clock) >= now);
}

/// Waits until a host has compared and told everything.
fn settled(host: &Host) {
    host.wait_until_it_shares();
    until("all is compared", || host.metrics.resyncs.get() > 0);
    host.wait_until("it has told all", |it| it.queued == 0 && !it.resyncing);
}

/// Takes a record out of the engine.
fn forget(key: SharedKey) {
    let removed: u8 = redis::cmd("DEL")
        .arg(name_of(key))
        .query(&mut connect())
        .expect("the engine runs");
    assert_eq!(removed, 1, "it was there");
}
