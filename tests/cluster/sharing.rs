//! What hosts know of each other's mail, sentences and pardons, and what they do when the engine fails.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::cluster::Secret;
use greygate::cluster::State;
use greygate::policy::{
    Attempt, DeferReason, Effect, Offence, PassReason, Record, Sentence, SentenceLevel,
    SentenceReason, SentencedClient, Verdict,
};
use greygate::store::codec::Row;
use greygate::store::{Absorbed, Shared};

use support::clock::TestClock;

use crate::engine::{Engine, equipment};
use crate::hosts::{ATTEMPT, Host, SEED, Site, block, client, is_new, is_sentenced, play, until};

const DELAY: Duration = Duration::from_mins(3);

#[test]
fn mail_deferred_at_one_host_passes_at_another_after_its_delay() {
    play(|_, site| {
        let [mx1, mx2] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
        site.clock.advance(Duration::from_mins(1));
        assert!(matches!(
            mx2.judge(&ATTEMPT),
            Verdict::Defer(DeferReason::Early { .. })
        ));
        site.clock.advance(DELAY);
        assert!(matches!(
            mx2.judge(&ATTEMPT),
            Verdict::Pass(PassReason::Waited { .. })
        ));
    });
}

#[test]
fn earlier_of_two_first_attempts_at_one_moment_counts() {
    play(|_, site| {
        let [mx1, mx2] = site.hosts();
        // Neither has heard of the other: both judge alone.
        assert!(is_new(mx1.judge_alone(&ATTEMPT)));
        site.clock.advance(Duration::from_secs(100));
        assert!(is_new(mx2.judge_alone(&ATTEMPT)));
        until("both know the earlier", || {
            [&mx1, &mx2].map(Host::first_seen) == [Some(TestClock::START); 2]
        });
        site.clock.advance(Duration::from_secs(81));
        assert!(matches!(mx2.judge(&ATTEMPT), Verdict::Pass(_)));
    });
}

#[test]
fn sentence_of_one_host_is_every_hosts_and_a_pardon_frees_everywhere() {
    play(|_, site| {
        let [mx1, mut mx2, mx3] = site.hosts();
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        until("all hosts sentence", || {
            is_sentenced(&mx2, site) && is_sentenced(&mx3, site)
        });
        until(
            "the kernel of mx2 is told",
            || matches!(mx2.effects.try_recv(), Ok(Effect::Punish(it)) if it.client == client()),
        );
        site.clock.advance(Duration::from_secs(5));
        mx3.store.forgive(client(), site.clock.now());
        until("all hosts forgive", || {
            !is_sentenced(&mx1, site) && !is_sentenced(&mx2, site)
        });
        until(
            "the kernel of mx2 is told",
            || matches!(mx2.effects.try_recv(), Ok(Effect::Forgive(it)) if it == client()),
        );
        // What is earned anew is no part of what was forgiven.
        site.clock.advance(Duration::from_secs(5));
        mx2.store
            .punish(block(site, client()))
            .expect("there is room");
        until("all hosts sentence anew", || {
            is_sentenced(&mx1, site) && is_sentenced(&mx3, site)
        });
    });
}

#[test]
fn host_that_was_away_comes_back_to_the_same_truth() {
    play(|engine, site| {
        let [mx1] = site.hosts();
        let mx2 = site.host("mx2");
        mx2.wait_until("it shares", |it| it.state == State::Sharing);
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        until("mx2 sentences", || is_sentenced(&mx2, site));
        drop(mx2);
        // While nobody called mx2 is there, and even the messages are gone.
        site.clock.advance(Duration::from_secs(5));
        mx1.store.forgive(client(), site.clock.now());
        assert!(is_new(mx1.judge(&ATTEMPT)));
        until("it is told", || {
            engine.say(&["dbsize"]) != "0" && mx1.cluster.standing().queued == 0
        });
        let away = site.host("mx2");
        away.store.punish(block(
            site,
            SentencedClient::of("192.0.2.99".parse().expect("one")),
        ));
        away.wait_until("it shares again", |it| {
            it.state == State::Sharing && it.circuit_closed
        });
        until("mx2 knows the tuple", || away.knows(&ATTEMPT));
        until("mx1 hears what mx2 gave", || {
            mx1.store.sentences(site.clock.now()).len() == 1
        });
    });
}

#[test]
fn engine_that_is_emptied_is_told_everything_again() {
    play(|engine, site| {
        let [mx1, mx2] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        until("mx2 sentences", || is_sentenced(&mx2, site));
        assert_eq!(engine.say(&["flushall"]), "OK");
        site.clock.advance(Duration::from_secs(5));
        let again = Attempt {
            client: "198.51.100.7".parse().expect("an address"),
            ..ATTEMPT
        };
        until("all is told again", || {
            mx1.cluster.standing().state == State::Sharing
                && engine.say(&["hlen", "greygate:{told}:records"]) != "0"
                && engine
                    .say(&["dbsize"])
                    .parse::<u64>()
                    .is_ok_and(|keys| keys > 5)
        });
        assert!(is_new(mx2.judge(&again)), "and it goes on");
    });
}

#[test]
fn hosts_decide_alone_while_the_engine_is_gone_and_share_again_when_it_is_back() {
    equipment().expect("the suite's needs are installed");
    let mut engine = Engine::start(&[]);
    let site = Site::new();
    let [mx1, mx2] = engine.with(|| site.hosts());
    engine.redis.kill().expect("it ran");
    mx1.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
    assert!(mx1.cluster.standing().complaint().is_some());
    assert!(is_new(mx1.judge(&ATTEMPT)), "mail flows");
    engine.redis.resume(&engine.namespace).expect("it starts");
    for host in [&mx1, &mx2] {
        host.wait_until("it shares again", |it| {
            it.state == State::Sharing && it.circuit_closed
        });
    }
    until("mx2 knows what mx1 judged alone", || mx2.knows(&ATTEMPT));
}

#[test]
fn engine_that_hangs_opens_the_circuit_and_nobody_waits_for_it() {
    play(|engine, site| {
        let [mx1] = site.hosts();
        engine.redis.freeze(true).expect("it runs");
        mx1.wait_until("it does not ask any more", |it| !it.circuit_closed);
        let skipped = mx1.metrics.skipped.get();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        assert!(mx1.metrics.skipped.get() > skipped, "nobody waited");
        engine.redis.freeze(false).expect("it runs");
        mx1.wait_until("it shares again", |it| {
            it.state == State::Sharing && it.circuit_closed
        });
    });
}

#[test]
fn host_with_another_seed_is_refused_and_goes_on_alone() {
    play(|_, site| {
        let [_mx1] = site.hosts();
        let stranger = site.with_another_seed().host("mx2");
        stranger.wait_until("it is refused", |it| matches!(it.state, State::Refused(_)));
        assert!(is_new(stranger.judge(&ATTEMPT)), "mail flows");
    });
}

#[test]
fn strangers_keys_under_the_prefix_are_left_alone_and_cost_nobody_mail() {
    play(|engine, site| {
        let [mx1, mx2] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
        let other = Attempt {
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        // Everything that the engine may be told of this mail is a list by now.
        let missing = greygate::policy::Peers::missing(&mx1.cluster, &other, site.clock.now());
        for key in &missing {
            let mut name = b"greygate:".to_vec();
            name.extend(greygate::cluster::layout::key(*key));
            let mut connection = crate::engine::connect();
            redis::cmd("LPUSH")
                .arg(name)
                .arg("mine")
                .exec(&mut connection)
                .expect("it is free");
        }
        assert!(is_new(mx1.judge(&other)));
        until("it is complained of", || mx1.cluster.standing().foreign > 0);
        assert_eq!(mx1.cluster.standing().state, State::Sharing);
        let types = missing.iter().map(|key| {
            let mut name = b"greygate:".to_vec();
            name.extend(greygate::cluster::layout::key(*key));
            let mut connection = crate::engine::connect();
            redis::cmd("TYPE")
                .arg(name)
                .query::<String>(&mut connection)
                .expect("it is there")
        });
        assert!(types.into_iter().all(|it| it == "list"), "left as they are");
        let _ = engine;
    });
}

#[test]
fn hosts_that_agree_have_nothing_to_tell() {
    play(|_, site| {
        let hosts: [Host; 3] = site.hosts();
        let [mx1, mx2, mx3] = &hosts;
        assert!(is_new(mx1.judge(&ATTEMPT)));
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        until("all hosts sentence", || {
            is_sentenced(mx2, site) && is_sentenced(mx3, site)
        });
        site.clock.advance(Duration::from_secs(5));
        mx3.store.forgive(client(), site.clock.now());
        until("all hosts forgive", || {
            !is_sentenced(mx1, site) && !is_sentenced(mx2, site)
        });
        site.clock.advance(Duration::from_secs(5));
        // Two that know nothing of each other, of another level, reason and length.
        let milder = Sentence {
            level: SentenceLevel::Rate,
            reason: SentenceReason::Offence(Offence::RelayHopping),
            until: site.clock.now().after(Duration::from_hours(2)),
            ..block(site, client())
        };
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        mx2.store.punish(milder).expect("there is room");
        until("all hosts sentence anew", || {
            hosts.iter().all(|it| is_sentenced(it, site))
        });
        let told = || hosts.iter().map(|it| it.metrics.told.get()).sum::<u64>();
        let mut before = told();
        let falls_silent = (0..10).any(|_| {
            // Changes are told twenty times a second.
            support::interrupt::pause(Duration::from_millis(500)).expect("nobody interrupts");
            let now = told();
            std::mem::replace(&mut before, now) == now
        });
        assert!(falls_silent, "{before} records were told, and it goes on");
        let held = |host: &Host| {
            let sentences = host.store.sentences(site.clock.now());
            sentences
                .into_iter()
                .map(|it| (it.level, it.until))
                .collect::<Vec<_>>()
        };
        until("all know the same", || {
            hosts.iter().all(|it| held(it) == held(mx1))
        });
    });
}

#[test]
fn long_sentence_that_was_forgiven_hides_no_later_one() {
    play(|_, site| {
        let [mx1, mx2] = site.hosts();
        let long = Sentence {
            until: site.clock.now().after(Duration::from_hours(28 * 24)),
            reason: SentenceReason::Operator,
            ..block(site, client())
        };
        mx1.store.punish(long).expect("there is room");
        until("mx2 sentences", || is_sentenced(&mx2, site));
        site.clock.advance(Duration::from_secs(5));
        mx1.store.forgive(client(), site.clock.now());
        until("mx2 forgives", || !is_sentenced(&mx2, site));
        site.clock.advance(Duration::from_secs(5));
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        until("mx2 sentences anew", || is_sentenced(&mx2, site));
    });
}

#[test]
fn pardon_while_the_engine_is_away_or_emptied_stands() {
    equipment().expect("the suite's needs are installed");
    let mut engine = Engine::start(&[]);
    let site = Site::new();
    let [mx1, mx2] = engine.with(|| site.hosts());
    mx1.store
        .punish(block(&site, client()))
        .expect("there is room");
    until("mx2 sentences", || is_sentenced(&mx2, &site));
    engine.redis.freeze(true).expect("it runs");
    mx1.wait_until("it is alone", |it| it.state != State::Sharing);
    site.clock.advance(Duration::from_secs(5));
    mx1.store.forgive(client(), site.clock.now());
    engine.redis.freeze(false).expect("it runs");
    until("mx2 forgives", || !is_sentenced(&mx2, &site));
    assert!(
        !is_sentenced(&mx1, &site),
        "what others still told brought nothing back"
    );
    // Who was away meanwhile still holds what was forgiven, and all of it has been forgotten.
    engine.redis.kill().expect("it ran");
    let late = engine.with(|| site.host("mx3"));
    let sentenced = late.store.punish(Sentence {
        since: TestClock::START,
        ..block(&site, client())
    });
    assert!(sentenced.is_some() && is_sentenced(&late, &site));
    engine.redis.resume(&engine.namespace).expect("it starts");
    until("mx3 hears of the pardon", || !is_sentenced(&late, &site));
    assert!(!is_sentenced(&mx1, &site) && !is_sentenced(&mx2, &site));
}

#[test]
fn record_that_is_void_here_gives_way_to_one_that_lives_elsewhere() {
    play(|_, site| {
        let [mx1] = site.hosts();
        assert!(is_new(mx1.judge_alone(&ATTEMPT)));
        // Its window has closed, and nobody has swept it yet.
        site.clock.advance(Duration::from_hours(25));
        let begun = site.clock.now();
        let key = mx1.tuple_key();
        let heard = Shared::Row(Row::Tuple(key, Record::begun(1, begun)));
        assert_eq!(mx1.store.absorb(heard, begun), Absorbed::Held);
        site.clock.advance(DELAY);
        let retry = mx1.judge_alone(&ATTEMPT);
        assert!(
            matches!(retry, Verdict::Pass(PassReason::Waited { .. })),
            "{retry:?}"
        );
    });
}

#[test]
fn full_engine_is_asked_and_told_when_there_is_room() {
    play(|engine, site| {
        let [mx1, mx2] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
        assert_eq!(engine.say(&["config", "set", "maxmemory", "1"]), "OK");
        let other = Attempt {
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        assert!(is_new(mx1.judge(&other)), "mail flows");
        until("it waits to be told", || mx1.cluster.standing().queued > 0);
        assert_eq!(
            mx1.cluster.standing().state,
            State::Sharing,
            "what it holds is still asked for"
        );
        assert_eq!(engine.say(&["config", "set", "maxmemory", "0"]), "OK");
        until("mx2 knows the other one", || mx2.knows(&other));
    });
}

#[test]
fn wrong_password_is_told_and_never_shown() {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&["--requirepass", "swordfish"]);
    engine.with(|| {
        let mut site = Site::new();
        site.settings.password = Secret::new("sturgeon".to_owned());
        let stranger = site.host("mx1");
        stranger.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
        assert!(is_new(stranger.judge(&ATTEMPT)), "mail flows");
        let shown = format!("{:?} {:?}", stranger.cluster.standing(), site.settings);
        assert!(!shown.contains("sturgeon"), "{shown}");
        site.settings.password = Secret::new("swordfish".to_owned());
        let [_welcome] = site.hosts();
    });
}

#[test]
fn host_that_was_refused_makes_no_seed_everybodys() {
    play(|engine, site| {
        let mut connection = crate::engine::connect();
        redis::cmd("HSET")
            .arg("greygate:{told}:about")
            .arg("layout")
            .arg("1")
            .arg("seed")
            .arg("theirs")
            .exec(&mut connection)
            .expect("the engine runs");
        let refused = site.host("mx1");
        refused.wait_until("it is refused", |it| matches!(it.state, State::Refused(_)));
        assert_eq!(engine.say(&["flushall"]), "OK");
        refused.wait_until(
            "it says so",
            |it| matches!(&it.state, State::Refused(why) if why.contains("emptied")),
        );
        assert_eq!(engine.say(&["exists", "greygate:{told}:about"]), "0");
    });
}

#[test]
fn strangers_key_where_everybodys_would_be_is_left_alone() {
    for key in ["records", "nodes", "about", "news"] {
        play(|engine, site| {
            let key = format!("greygate:{{told}}:{key}");
            assert_eq!(engine.say(&["set", &key, "mine"]), "OK");
            let host = site.host("mx1");
            host.wait_until("it is refused", |it| matches!(it.state, State::Refused(_)));
            assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
            assert_eq!(engine.say(&["get", &key]), "mine");
        });
    }
}

#[test]
fn beginning_that_was_cut_off_is_ended() {
    for begun in [
        &[("layout", &b"1"[..])][..],
        &[("layout", b"1"), ("seed", &SEED)],
    ] {
        play(|engine, site| {
            redis::cmd("HSET")
                .arg("greygate:{told}:about")
                .arg(begun)
                .exec(&mut crate::engine::connect())
                .expect("the engine runs");
            let [mx1, mx2] = site.hosts();
            assert!(is_new(mx1.judge(&ATTEMPT)));
            until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
            assert_ne!(engine.say(&["hget", "greygate:{told}:about", "born"]), "");
        });
    }
}

#[test]
fn what_is_told_while_a_stranger_sits_where_everybodys_is_waits_until_he_has_gone() {
    play(|engine, site| {
        let [mx1, mx2] = site.hosts();
        engine.say(&["del", "greygate:{told}:records"]);
        assert_eq!(
            engine.say(&["set", "greygate:{told}:records", "mine"]),
            "OK"
        );
        mx1.store
            .punish(block(site, client()))
            .expect("there is room");
        mx1.wait_until("it is refused", |it| matches!(it.state, State::Refused(_)));
        assert!(mx1.cluster.standing().complaint().is_some());
        assert_eq!(engine.say(&["get", "greygate:{told}:records"]), "mine");
        assert_eq!(engine.say(&["del", "greygate:{told}:records"]), "1");
        until("mx2 sentences", || is_sentenced(&mx2, site));
    });
}

#[test]
fn mail_of_a_trusted_sender_waits_for_nobody() {
    play(|_, site| {
        let policy = greygate::policy::Policy {
            trust_after: 1,
            ..greygate::policy::Policy::default()
        };
        site.policy.store(std::sync::Arc::new(policy));
        let [mx1] = site.hosts();
        assert!(is_new(mx1.judge_alone(&ATTEMPT)));
        let other = Attempt {
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        let asks =
            || !greygate::policy::Peers::missing(&mx1.cluster, &other, site.clock.now()).is_empty();
        assert!(asks(), "of a stranger others may know");
        site.clock.advance(DELAY);
        assert!(matches!(mx1.judge_alone(&ATTEMPT), Verdict::Pass(_)));
        assert!(!asks(), "it passes in any case");
    });
}
