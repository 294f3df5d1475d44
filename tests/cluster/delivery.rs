//! Three MX hosts with real Postfixes and kernel filters behind one Redis cluster: what a sender, and who
//! hammers, get to feel of it, whatever becomes of the engine.

use std::time::{Duration, Instant};

use support::Error;
use support::hosts::Hosts;
use support::interrupt;
use support::postfix;
use support::requirements;
use support::site::{Plan, Site};
use support::smtp::{Message, Round};

/// A delay that a test can wait out.
const DELAY: Duration = Duration::from_secs(3);
const SHORT_DELAY: &str = "[greylist]\ndelay = \"3s\"\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> Result<Hosts, Error> {
    let hosts = Hosts::start(&Plan {
        kernel: true,
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    wait_until_all_share(&hosts)?;
    Ok(hosts)
}

/// Waits until every host shares, and has neither anything to tell nor to compare.
fn wait_until_all_share(hosts: &Hosts) -> Result<(), Error> {
    let mut times = 0;
    interrupt::wait_for("all hosts to share", PATIENCE, || {
        let mut are_settled = true;
        for host in 0..Hosts::NUMBER {
            are_settled &= hosts.is_settled(host)?;
        }
        times = if are_settled { times + 1 } else { 0 };
        // What was just seen may not have been collected at the first look.
        Ok((times == 3).then_some(()))
    })
}

fn send(site: &Site, message: &Message) -> Result<Round, Error> {
    interrupt::check()?;
    Ok(site
        .stranger()
        .attempt(message, &[postfix::address("alice")])?)
}

/// Deferred at `first`, and after the delay delivered at `then`.
fn passes_from_one_to_the_other(
    hosts: &Hosts,
    first: usize,
    then: usize,
    word: &str,
) -> Result<(), Error> {
    let message = Message::new(&format!("{word}@sender.example"), word);
    let round = send(&hosts.sites[first], &message)?;
    let tried = Instant::now();
    assert!(round.outcome().is_greylisting(), "{round:?}");
    // Whatever is left of the delay is the sender's to wait.
    wait_out(tried)?;
    let round = send(&hosts.sites[then], &message)?;
    let states = [hosts.state(first)?, hosts.state(then)?];
    assert!(round.is_queued(), "{word}: {round:?}, {states:?}");
    let postfix = hosts.sites[then].postfix();
    postfix.wait_for_delivery("alice", &message.id).map(drop)
}

/// Waits for as long as a sender that was deferred at `tried` has to.
fn wait_out(tried: Instant) -> Result<(), Error> {
    interrupt::pause((DELAY + Duration::from_millis(500)).saturating_sub(tried.elapsed()))
}

#[test]
fn sender_and_offender_are_one_at_all_hosts() -> Result<(), Error> {
    support::needs!(
        crate::engine::equipment(),
        requirements::program("postfix"),
        requirements::xdp_object()
    );
    let hosts = start()?;
    passes_from_one_to_the_other(&hosts, 0, 1, "walker")?;

    let offender = hosts.sites[0].stranger().source.ip();
    hosts.sites[0]
        .greygate()
        .run(&["punish", &offender.to_string(), "--for", "10m"])?;
    let ordered = Instant::now();
    for host in [1, 2] {
        interrupt::wait_for("it to be sentenced", PATIENCE, || {
            Ok(hosts.sites[host]
                .greygate()
                .sentenced()?
                .contains(&offender.to_string())
                .then_some(()))
        })?;
    }
    for host in 0..Hosts::NUMBER {
        interrupt::wait_for("its SYNs to be dropped", PATIENCE, || {
            Ok((!hosts.serves(host, offender)).then_some(()))
        })?;
    }
    // A second is promised to a machine that is not as busy as one that runs tests.
    let took = ordered.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");

    hosts.sites[2]
        .greygate()
        .run(&["forgive", &offender.to_string()])?;
    for host in 0..Hosts::NUMBER {
        interrupt::wait_for("it to be served again", PATIENCE, || {
            Ok(hosts.serves(host, offender).then_some(()))
        })?;
    }
    // Who is denied or allowed by a command is so at all.
    let list = |host: usize, order: &[&str]| hosts.sites[host].greygate().run(order).map(drop);
    let denied = offender.to_string();
    list(
        1,
        &["deny", "add", &denied, "--for", "1h", "--note", "the story"],
    )?;
    let message = Message::new("denied@sender.example", "denied-at-all");
    for host in 0..Hosts::NUMBER {
        interrupt::wait_for("it to be denied", PATIENCE, || {
            let listed = hosts.sites[host].greygate().run(&["deny", "list"])?;
            Ok(listed.contains(&denied).then_some(()))
        })?;
    }
    let round = send(&hosts.sites[0], &message)?;
    assert!(
        (500..600).contains(&round.outcome().code),
        "MX 1 turns it away: {round:?}"
    );
    list(0, &["deny", "remove", &denied])?;
    let is_listed = |host: usize| {
        let listed = hosts.sites[host].greygate().run(&["deny", "list"])?;
        Ok::<_, Error>(listed.contains(&denied))
    };
    for host in 0..Hosts::NUMBER {
        interrupt::wait_for("it to be denied no more", PATIENCE, || {
            Ok((!is_listed(host)?).then_some(()))
        })?;
    }

    // Nothing brings any of it back.
    hosts.sites[1].greygate().run(&["cluster", "resync"])?;
    wait_until_all_share(&hosts)?;
    for host in 0..Hosts::NUMBER {
        assert!(hosts.serves(host, offender), "MX {} has forgiven", host + 1);
        assert!(!is_listed(host)?, "MX {} denies it", host + 1);
    }
    Ok(())
}

#[test]
fn whatever_becomes_of_the_engine_mail_flows_and_hosts_agree_again() -> Result<(), Error> {
    support::needs!(
        crate::engine::equipment(),
        requirements::program("postfix"),
        requirements::xdp_object()
    );
    let mut hosts = start()?;

    // A master is killed; its replica takes its place.
    let masters = hosts.redis.masters(&hosts.engine)?;
    hosts.redis.servers[masters[0]].kill()?;
    let message = Message::new("amid@sender.example", "amid-a-failover");
    let round = send(&hosts.sites[0], &message)?;
    assert!(round.outcome().is_greylisting(), "mail flows: {round:?}");
    hosts.redis.wait_until_whole(&hosts.engine)?;
    wait_until_all_share(&hosts)?;
    passes_from_one_to_the_other(&hosts, 1, 2, "after-the-failover")?;

    // A host is cut off, decides alone, and comes back.
    hosts.set_cut(0, true)?;
    interrupt::wait_for("MX 1 to be alone", PATIENCE, || {
        Ok((!hosts.shares(0)?).then_some(()))
    })?;
    let message = Message::new("cut@sender.example", "while-cut-off");
    let round = send(&hosts.sites[0], &message)?;
    let tried = Instant::now();
    assert!(round.outcome().is_greylisting(), "mail flows: {round:?}");
    let offender = hosts.sites[0].neighbour().source.ip();
    hosts.sites[1]
        .greygate()
        .run(&["punish", &offender.to_string(), "--for", "10m"])?;
    hosts.set_cut(0, false)?;
    wait_until_all_share(&hosts)?;
    interrupt::wait_for("MX 1 to hear what it missed", PATIENCE, || {
        Ok((!hosts.serves(0, offender)).then_some(()))
    })?;
    wait_out(tried)?;
    // One attempt: a second one could pass for the first.
    let round = send(&hosts.sites[1], &message)?;
    assert!(
        round.is_queued(),
        "MX 2 has heard what it missed: {round:?}"
    );

    // Somebody empties it by mistake.
    let message = Message::new("flushed@sender.example", "before-a-flush");
    let round = send(&hosts.sites[2], &message)?;
    let tried = Instant::now();
    assert!(round.outcome().is_greylisting(), "{round:?}");
    hosts.redis.say_to_masters(&hosts.engine, &["flushall"])?;
    wait_out(tried)?;
    wait_until_all_share(&hosts)?;
    let round = send(&hosts.sites[1], &message)?;
    assert!(round.is_queued(), "the tuple is known again: {round:?}");
    assert!(
        !hosts.serves(2, offender),
        "the sentence is still every host's"
    );

    // All servers are stopped, and started again.
    let Hosts { redis, .. } = &mut hosts;
    for server in &mut redis.servers {
        server.kill()?;
    }
    let message = Message::new("alone@sender.example", "without-an-engine");
    let round = send(&hosts.sites[0], &message)?;
    let tried = Instant::now();
    assert!(round.outcome().is_greylisting(), "mail flows: {round:?}");
    let Hosts { redis, engine, .. } = &mut hosts;
    for server in &mut redis.servers {
        server.resume(engine)?;
    }
    hosts.redis.wait_until_whole(&hosts.engine)?;
    wait_until_all_share(&hosts)?;
    wait_out(tried)?;
    let round = send(&hosts.sites[2], &message)?;
    assert!(round.is_queued(), "what MX 1 saw alone is known: {round:?}");
    for site in &hosts.sites {
        let log = site.greygate().log();
        assert!(!log.contains("panicked"), "{log}");
    }
    Ok(())
}
