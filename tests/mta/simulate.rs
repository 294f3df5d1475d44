//! A rehearsal over the log of a real Postfix, beside what greygate itself said of the same mail.

use std::fs;

use serde_json::Value;
use support::Error;
use support::postfix::World;
use support::site::Plan;
use support::smtp::Message;

use crate::{SHORT_DELAY, deliver, send, start};

#[test]
fn rehearsal_of_postfix_own_log_agrees_with_what_greygate_did() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan {
        world: World {
            mailboxes: vec!["alice".to_owned(), "carol".to_owned()],
            ..World::default()
        },
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    // Deferred until its time, then delivered.
    let letter = Message::new("bob@sender.example", "a-letter");
    let rounds = deliver(site.client(), &letter, &["alice"])?;
    site.postfix().wait_for_delivery("alice", &letter.id)?;
    // Tried once, and never again.
    let once = Message::new("eve@sender.example", "tried-once");
    send(site.stranger(), &once, &["carol"])?;
    // From a pool's other network, by IPv6.
    let other = Message::new("mallory@sender.example", "tried-by-ipv6");
    send(site.stranger_v6(), &other, &["alice"])?;

    site.postfix().wait_for_log("mallory@sender.example")?;
    let log = site.postfix().log_file();
    let log_name = log.display().to_string();
    let told = site.greygate().ask(&["simulate", "--log", &log_name])?;
    let number = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64);
    let deferrals = rounds.len() as u64 - 1;
    let explain = || format!("{told:#}\n{}", site.postfix().log());
    assert_eq!(told["log"]["shows_greylisting"], true, "{}", explain());
    // The stamps of the log are of whole seconds: by them the window may open up to a second sooner, and
    // what the log shows until then is not tried in the rehearsal.
    let sooner = number("/shown/not_repeated").unwrap_or(0);
    assert_eq!(
        number("/shown/deferrals"),
        Some(deferrals + 2 - sooner),
        "{}",
        explain()
    );
    assert_eq!(number("/shown/deferred"), Some(3), "{}", explain());
    assert_eq!(number("/shown/passed_after"), Some(1), "{}", explain());
    assert_eq!(number("/shown/still_waiting"), Some(2), "{}", explain());
    assert_eq!(number("/shown/retry_not_shown"), Some(0), "{}", explain());
    assert_eq!(
        number("/seen/attempts"),
        Some(deferrals + 3),
        "{}",
        explain()
    );
    assert!(told["assumed"].is_null(), "{}", explain());
    let waited = number("/shown/delay/max").unwrap_or(0);
    assert!((2..=15).contains(&waited), "{}", explain());

    // What greygate counted itself.
    let counted = |verdict: &str, reason: &str| {
        let rows = told["shown"]["verdicts"].as_array();
        let row = rows.and_then(|rows| {
            rows.iter()
                .find(|it| it["verdict"] == verdict && it["reason"] == reason)
        });
        row.map_or(0.0, |it| it["attempts"].as_f64().unwrap_or(0.0))
    };
    for (verdict, reason) in [
        ("deferred", "new"),
        ("deferred", "early"),
        ("passed", "waited"),
    ] {
        let metrics = site.greygate().metrics(site.mx())?;
        let labels = [
            format!("verdict=\"{verdict}\""),
            format!("reason=\"{reason}\""),
        ];
        let row = metrics.lines().find(|line| {
            let is_verdict = line.starts_with("greygate_verdicts_total{");
            is_verdict && labels.iter().all(|it| line.contains(it))
        });
        let did = row.and_then(|row| row.rsplit(' ').next()?.parse().ok());
        let not_tried = if reason == "early" { sooner } else { 0 };
        let would =
            counted(verdict, reason) + f64::from(u32::try_from(not_tried).unwrap_or(u32::MAX));
        assert_eq!(
            did,
            Some(would),
            "{verdict} {reason}\n{}\n{metrics}",
            explain()
        );
    }

    let page = log.with_extension("html");
    let page_name = page.display().to_string();
    site.greygate()
        .run(&["simulate", "--log", &log_name, "--html", &page_name])?;
    let page = fs::read_to_string(&page).map_err(Error::io("reading the page"))?;
    assert!(
        page.contains("192.0.2.10") && page.contains("<svg"),
        "{page}"
    );
    if let Some(keep) = std::env::var_os("GREYGATE_KEEP_MAILLOG") {
        fs::copy(&log, keep).map_err(Error::io("keeping the log"))?;
    }
    Ok(())
}
