//! Bounces, which have nobody to tell, and callers who only want to know whether an address exists.

use std::time::{Duration, Instant};

use serde_json::Value;
use support::Error;
use support::interrupt;
use support::postfix::address;
use support::site::{Plan, Site};
use support::smtp::Message;

use crate::{SHORT_DELAY, send, start};

const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn bounce_is_deferred_at_its_end_and_passes_when_it_comes_again() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan {
        tweaks: format!("{SHORT_DELAY}[content]\ndelay = \"2s\"\n"),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let bounce = Message::new("", "a-bounce");
    let (begun, mut early) = (Instant::now(), 0);
    interrupt::wait_for("the delivery", Duration::from_secs(15), || {
        let round = send(site.client(), &bounce, &["alice"])?;
        let rcpt = &round.recipients[0].1;
        assert!(rcpt.is_positive(), "RCPT is never refused: {rcpt}");
        let data = round.data.as_ref().map(|reply| reply.code);
        assert_eq!(data, Some(354), "{round:?}");
        if round.is_queued() {
            return Ok(Some(()));
        }
        assert!(round.outcome().is_greylisting(), "{round:?}");
        early += 1;
        interrupt::pause(Duration::from_millis(300))?;
        Ok(None)
    })?;
    // Unless this machine was so busy that the second attempt was late.
    let is_slow = begun.elapsed() > Duration::from_secs(4);
    assert!(early > 1 || is_slow, "it passed after {early} deferrals");
    site.postfix().wait_for_delivery("alice", &bounce.id)?;
    Ok(())
}

#[test]
fn probe_is_told_who_exists_and_leaves_no_trace() -> Result<(), Error> {
    support::needs!(crate::equipment());
    for mode in ["envelope", "hybrid", "content"] {
        let turn = start(&Plan {
            tweaks: format!("[greylist]\nmode = \"{mode}\"\n"),
            ..Plan::default()
        })?;
        let site = &turn.site;
        let before = memory(site)?;
        for sender in ["", "double-bounce@verifier.example"] {
            for _ in 0..PROBES {
                let mut session = site.client().open(PATIENCE)?;
                session.command(&format!("MAIL FROM:<{sender}>"))?;
                let reply = session.command(&format!("RCPT TO:<{}>", address("alice")))?;
                assert_eq!(reply.code, 250, "{mode}: {reply}");
                session.quit()?;
            }
        }
        // The daemon hears of the end of a session when Postfix has said goodbye to the client.
        let greygate = site.greygate();
        interrupt::wait_for("the end of all probes", PATIENCE * 3, || {
            let quit = greygate.metric(site.mx(), "greygate_milter_probes_quit_total")?;
            Ok((quit >= f64::from(2 * PROBES)).then_some(()))
        })?;
        assert_eq!(memory(site)?, before, "{mode}");
        assert_eq!(greygate.sentenced()?, Vec::<String>::new());

        // Nor has the caller's own mail waited or gained by it.
        let message = Message::new("bob@sender.example", "a-message");
        let round = send(site.client(), &message, &["alice"])?;
        assert!(round.outcome().is_greylisting(), "{mode}: {round:?}");
        assert_eq!(greygate.tuples()?, 1, "{mode}");
    }
    Ok(())
}

/// What the daemon remembers: the state of its store, what it judged and held against anybody, and
/// what it says of the caller.
fn memory(site: &Site) -> Result<(Value, Vec<String>, Vec<Value>), Error> {
    let greygate = site.greygate();
    let mut status = greygate.ask(&["status"])?;
    let metrics = greygate.metrics(site.mx())?;
    let judged = metrics.lines().filter(|line| {
        ["greygate_verdicts_total", "greygate_offences_total"]
            .iter()
            .any(|name| line.starts_with(name))
    });
    let mut judged: Vec<_> = judged.map(str::to_owned).collect();
    judged.sort();
    let ip = site.client().source.ip().to_string();
    let mut why = greygate.ask(&["why", &ip, "", &address("alice")])?;
    // Everything but the time.
    let held = [
        "networks",
        "strikes",
        "latest_strikes",
        "sentences",
        "neighbours",
    ];
    let held = held.map(|field| why[field].take());
    Ok((status["store"].take(), judged, held.to_vec()))
}

/// More than the retries that any rule takes for hasty.
const PROBES: u32 = 12;
