//! What hosts know of each other's mail, sentences and pardons, and what they do when the engine fails.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::cluster::State;
use greygate::policy::{
    Attempt, DeferReason, Effect, Offence, PassReason, Persistence, Sentence, SentenceLevel,
    SentenceReason, SentencedClient, Verdict,
};

use support::clock::TestClock;

use crate::engine::{Engine, equipment};
use crate::hosts::{ATTEMPT, Host, Site, until};

const DELAY: Duration = Duration::from_mins(3);

/// Plays a test where the engine is on loopback.
fn play(test: impl FnOnce(&Engine, &Site) + Send) {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&[]);
    engine.with(|| test(&engine, &Site::new()));
}

fn is_new(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Defer(DeferReason::New))
}

fn block(site: &Site, client: SentencedClient) -> Sentence {
    let now = site.clock.now();
    Sentence {
        client,
        level: SentenceLevel::Block,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since: now,
        until: now.after(Duration::from_hours(1)),
        persistence: Persistence::default(),
    }
}

fn client() -> SentencedClient {
    SentencedClient::of(ATTEMPT.client)
}

fn is_sentenced(host: &Host, site: &Site) -> bool {
    !host.store.sentences(site.clock.now()).is_empty()
}

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
        let told = mx2.effects.try_recv();
        assert!(
            matches!(told, Ok(Effect::Punish(it)) if it.client == client()),
            "{told:?}"
        );
        site.clock.advance(Duration::from_secs(5));
        mx3.store.forgive(client(), site.clock.now());
        until("all hosts forgive", || {
            !is_sentenced(&mx1, site) && !is_sentenced(&mx2, site)
        });
        let told = mx2.effects.try_recv();
        assert!(
            matches!(told, Ok(Effect::Forgive(it)) if it == client()),
            "{told:?}"
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
    let Engine {
        redis, namespace, ..
    } = &mut engine;
    redis.resume(namespace).expect("it starts");
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
