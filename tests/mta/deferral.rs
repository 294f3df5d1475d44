//! Who is deferred, where, and what becomes of the retry.

use std::time::{Duration, Instant};

use support::Error;
use support::postfix::World;
use support::site::{Endpoint, Plan};
use support::smtp::Message;

use crate::{SHORT_DELAY, deliver, send, start};

/// Postfix slows a client from this many errors in one session on.
const SOFT_ERROR_LIMIT: usize = 10;

#[test]
fn delivers_the_retry_of_a_deferred_message_with_a_header() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers_the_retry(Endpoint::Inet)
}

#[test]
fn serves_postfix_over_a_unix_socket() -> Result<(), Error> {
    support::needs!(crate::equipment());
    delivers_the_retry(Endpoint::Unix)
}

fn delivers_the_retry(endpoint: Endpoint) -> Result<(), Error> {
    let turn = start(&Plan {
        endpoint,
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let message = Message::new("bob@sender.example", "a-message");

    let begun = Instant::now();
    let rounds = deliver(site.client(), &message, &["alice"])?;
    let first = &rounds[0];
    assert!(first.outcome().is_greylisting(), "{first:?}");
    assert_eq!(first.data, None, "one recipient is deferred at RCPT");
    // Unless this machine was so busy that none was early.
    let is_slow = begun.elapsed() > Duration::from_secs(4);
    assert!(
        rounds.len() > 2 || is_slow,
        "early retries are deferred: {rounds:?}"
    );

    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    let (header, _) = delivered.split_once("\n\n").unwrap_or((&delivered, ""));
    let lines = header
        .lines()
        .filter(|line| line.starts_with("X-Greylist: "));
    assert_eq!(lines.count(), 1, "{header}");
    Ok(())
}

#[test]
fn defers_a_retry_that_comes_too_early() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan::default())?;
    let message = Message::new("bob@sender.example", "a-message");
    for _ in 0..3 {
        let round = send(turn.site.client(), &message, &["alice"])?;
        assert!(round.outcome().is_greylisting(), "{round:?}");
    }
    Ok(())
}

#[test]
fn defers_the_null_sender_at_data_where_the_envelope_decides() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&by_envelope())?;
    let bounce = Message::new("", "a-bounce");
    let round = send(turn.site.client(), &bounce, &["alice"])?;
    let rcpt = &round.recipients[0].1;
    assert!(
        rcpt.is_positive(),
        "a probe must learn that alice exists: {rcpt}"
    );
    let data = round.data.as_ref().expect("the recipient was accepted");
    assert!(data.is_greylisting(), "{data}");
    Ok(())
}

#[test]
fn saying_data_again_gains_nothing() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&by_envelope())?;
    let mut session = turn.site.client().open(Duration::from_secs(3))?;
    session.command("MAIL FROM:<>")?;
    session.command("RCPT TO:<alice@lab.example>")?;
    // Postfix keeps the transaction open after the first.
    for _ in 0..2 {
        let reply = session.command("DATA")?;
        assert!(reply.is_greylisting(), "{reply}");
    }
    let reply = session.command("RCPT TO:<alice@lab.example>")?;
    assert!(reply.is_positive(), "{reply}");
    let reply = session.command("DATA")?;
    assert!(reply.is_greylisting(), "{reply}");
    Ok(())
}

#[test]
fn answers_at_data_once_enough_recipients_were_refused() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mailboxes = ["ann", "ben", "cat", "dan"];
    let turn = start(&Plan {
        world: World {
            mailboxes: mailboxes.map(str::to_owned).into(),
            ..World::default()
        },
        tweaks: "[greylist]\nrcpt_deferrals = 2\n".to_owned(),
        ..Plan::default()
    })?;
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(turn.site.client(), &message, &mailboxes)?;
    let codes: Vec<_> = round
        .recipients
        .iter()
        .map(|(_, reply)| reply.code)
        .collect();
    assert_eq!(codes, [451, 451, 250, 250]);
    let data = round.data.as_ref().expect("two recipients were accepted");
    assert!(data.is_greylisting(), "{data}");
    assert_eq!(turn.site.greygate().tuples()?, 4, "all four are recorded");
    Ok(())
}

#[test]
fn many_recipients_stay_below_postfix_error_limits() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mailboxes: Vec<_> = (0..45).map(|number| format!("member{number}")).collect();
    let turn = start(&Plan {
        world: World {
            mailboxes: mailboxes.clone(),
            ..World::default()
        },
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let message = Message::new("news@list.example", "an-issue");
    let all: Vec<_> = mailboxes.iter().map(String::as_str).collect();

    // Were the client hung up on, a round would fail.
    for round in deliver(site.client(), &message, &all)? {
        assert!(round.errors() < SOFT_ERROR_LIMIT, "{round:?}");
    }
    for mailbox in all {
        site.postfix().wait_for_delivery(mailbox, &message.id)?;
        assert_eq!(site.postfix().delivered(mailbox)?.len(), 1, "{mailbox}");
    }
    assert!(!site.postfix().log().contains("too many errors"));
    Ok(())
}

/// Nothing is read: what is deferred is deferred at DATA at the latest.
fn by_envelope() -> Plan {
    Plan {
        tweaks: "[greylist]\nmode = \"envelope\"\n".to_owned(),
        ..Plan::default()
    }
}
