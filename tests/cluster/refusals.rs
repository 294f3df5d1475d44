//! Engines that do not do what they should: one that lets a host do too little, one that is too old, and what is
//! no engine at all. Mail flows, the host says why it keeps to itself, and nothing is lost.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use greygate::cluster::{Secret, State};

use crate::engine::Engine;
use crate::hosts::{ATTEMPT, OTHER, Site, block, client, is_new, is_sentenced, play, until};
use crate::stranger::{Stranger, speaks_as_redis_6};

#[test]
fn host_that_may_not_write_is_alone_until_it_may() {
    play(|engine, site| {
        let [mx1] = site.hosts();
        let mx2 = logging_in(site, engine, &["~*", "+@all", "-@write", "-@scripting"]).host("mx2");
        mx2.wait_until(
            "it says why it does not share",
            |it| matches!(&it.state, State::Alone(why) if why.contains("no permissions")),
        );
        assert!(is_new(mx2.judge(&ATTEMPT)), "mail flows");
        allow(engine, &["+@all"]);
        mx2.wait_until_it_shares();
        until("mx1 knows what mx2 judged alone", || mx1.knows(&ATTEMPT));
    });
}

#[test]
fn right_to_write_that_is_taken_away_keeps_what_is_told_waiting() {
    // What a script does, a part of that, and the script itself.
    for taken in ["-@write", "-xadd", "-@scripting"] {
        play(|engine, site| {
            let [mx1] = site.hosts();
            let mx2 = logging_in(site, engine, &["~*", "+@all"]).host("mx2");
            mx2.wait_until_it_shares();
            allow(engine, &[taken]);
            assert!(is_new(mx2.judge(&ATTEMPT)), "mail flows");
            mx2.store
                .punish(block(site, client()))
                .expect("there is room");
            mx2.wait_until("it complains, and shares on", |it| {
                it.complaint().is_some() && it.state == State::Sharing && it.queued > 0
            });
            assert!(is_new(mx1.judge(&OTHER)));
            until("what others tell is still asked for", || mx2.knows(&OTHER));
            allow(engine, &["+@all"]);
            until("mx1 knows what waited", || mx1.knows(&ATTEMPT));
            until("mx1 sentences", || is_sentenced(&mx1, site));
            mx2.wait_until("it is content", |it| {
                it.complaint().is_none() && it.queued == 0 && !it.resyncing
            });
        });
    }
}

#[test]
fn rights_that_the_manual_names_are_enough() {
    play(|engine, site| {
        let manual = include_str!("../../docs/scaling.md");
        let order = manual
            .lines()
            .find(|it| it.contains("ACL SETUSER greygate"));
        let order = order.expect("the manual has the order");
        let rights = order
            .split_whitespace()
            .filter(|it| it.starts_with(['~', '-', '+']));
        let rights: Vec<_> = rights.collect();
        let site = logging_in(site, engine, &rights);
        let [mx1, mx2] = site.hosts();
        assert!(is_new(mx1.judge(&ATTEMPT)));
        mx1.store
            .punish(block(&site, client()))
            .expect("there is room");
        until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
        until("mx2 sentences", || is_sentenced(&mx2, &site));
        mx1.wait_until("nothing is refused", |it| {
            it.nodes.len() == 2 && it.keys.is_some() && it.queued == 0 && !it.resyncing
        });
        assert_eq!(mx1.metrics.untold.get() + mx1.metrics.failed.get(), 0);
        let log = engine.say(&["acl", "log"]);
        let lines: Vec<_> = log.lines().collect();
        let tried = lines.windows(2).filter(|it| it[0] == "object");
        // A name for whoever lists clients, from Redis 7.2 on, which nothing hangs on.
        let tried: Vec<_> = tried.filter(|it| it[1] != "client|setinfo").collect();
        assert!(tried.is_empty(), "nothing else was tried: {log}");
    });
}

#[test]
fn engine_that_is_too_old_is_told_so_and_left_alone() {
    play(|_, site| {
        let old = Stranger::start(speaks_as_redis_6);
        let host = calling(site, &old).host("mx1");
        host.wait_until(
            "it says what is wrong",
            |it| matches!(&it.state, State::Alone(why) if why.contains("Redis 6.0.16") && why.contains("7.0")),
        );
        assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
    });
}

#[test]
fn what_is_no_engine_at_all_costs_nobody_mail() {
    type Serve = fn(TcpStream) -> io::Result<()>;
    let strangers: [(&str, Serve); 4] = [
        ("a web server", |mut caller| {
            caller.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        }),
        ("gibberish", |mut caller| caller.write_all(&[0xff; 512])),
        ("one that hangs up", |_| Ok(())),
        ("one that never says a word", |mut caller| {
            let mut said = [0; 512];
            while caller.read(&mut said)? > 0 {}
            Ok(())
        }),
    ];
    play(|_, site| {
        for (what, serve) in strangers {
            let stranger = Stranger::start(serve);
            let host = calling(site, &stranger).host("mx1");
            host.wait_until(what, |it| matches!(it.state, State::Alone(_)));
            assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
            assert_eq!(host.metrics.skipped.get(), 1, "nobody waited");
            until("it goes on trying", || stranger.calls() > 1);
        }
    });
}

#[test]
fn what_a_newer_greygate_wrote_is_left_alone() {
    play(|engine, site| {
        let about = "greygate:{told}:about";
        engine.say(&["hset", about, "layout", "2", "seed", "theirs", "born", "x"]);
        let host = site.host("mx1");
        host.wait_until(
            "it is refused",
            |it| matches!(&it.state, State::Refused(why) if why.contains("another layout")),
        );
        assert!(is_new(host.judge(&ATTEMPT)), "mail flows");
        assert_eq!(engine.say(&["dbsize"]), "1", "nothing was written");
        assert_eq!(engine.say(&["hget", about, "seed"]), "theirs");
    });
}

/// The site as somebody who has these rights.
fn logging_in(site: &Site, engine: &Engine, rights: &[&str]) -> Site {
    allow(engine, &["reset", "on", ">swordfish"]);
    allow(engine, rights);
    let mut site = site.clone();
    site.settings.user = String::from(USER);
    site.settings.password = Secret::new("swordfish".to_owned());
    site
}

/// Changes what the user may do.
fn allow(engine: &Engine, rules: &[&str]) {
    let words = [&["acl", "setuser", USER], rules].concat();
    assert_eq!(engine.say(&words), "OK", "{rules:?}");
}

/// The site with that in the engine's place.
fn calling(site: &Site, stranger: &Stranger) -> Site {
    let mut site = site.clone();
    site.settings.servers = vec![stranger.server()];
    site
}

const USER: &str = "mx";
