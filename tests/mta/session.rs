//! What greygate makes of a session: several transactions, refused recipients, an early end.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Error;
use support::interrupt;
use support::postfix::address;
use support::site::Plan;
use support::smtp::Message;

use crate::{SHORT_DELAY, deliver, send, start};

#[test]
fn judges_each_transaction_of_a_session_by_itself() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan {
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let known = Message::new("bob@sender.example", "a-message");
    deliver(site.client(), &known, &["alice"])?;

    let alice = [address("alice")];
    let mut session = site.client().open(Duration::from_secs(3))?;
    let stranger = Message::new("eve@sender.example", "another-message");
    let deferred = session.attempt(&stranger, &alice)?;
    assert!(deferred.outcome().is_greylisting(), "{deferred:?}");
    let next = Message::new("bob@sender.example", "the-next-message");
    let queued = session.attempt(&next, &alice)?;
    assert!(queued.is_queued(), "{queued:?}");
    // A transaction that is given up must leave nothing to the next one.
    session.command("MAIL FROM:<bob@sender.example>")?;
    session.command("RCPT TO:<alice@lab.example>")?;
    session.command("RSET")?;
    let deferred = session.attempt(&stranger, &alice)?;
    assert!(deferred.outcome().is_greylisting(), "{deferred:?}");
    let last = Message::new("bob@sender.example", "the-last-message");
    let queued = session.attempt(&last, &alice)?;
    assert!(queued.is_queued(), "{queued:?}");
    session.quit()?;

    for message in [&known, &next, &last] {
        site.postfix().wait_for_delivery("alice", &message.id)?;
    }
    assert_eq!(site.postfix().delivered("alice")?.len(), 3);
    Ok(())
}

#[test]
fn leaves_recipients_that_postfix_refuses_alone() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan::default())?;
    let site = &turn.site;
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(site.client(), &message, &["nobody-here"])?;
    assert_eq!(round.outcome().code, 550, "{round:?}");
    assert_eq!(site.greygate().tuples()?, 0);

    // Nor does a refused one change what the others get.
    let round = send(site.client(), &message, &["nobody-here", "alice"])?;
    let codes: Vec<_> = round
        .recipients
        .iter()
        .map(|(_, reply)| reply.code)
        .collect();
    assert_eq!(codes, [550, 451]);
    assert_eq!(site.greygate().tuples()?, 1);
    Ok(())
}

#[test]
fn survives_a_client_that_hangs_up_in_the_middle() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan::default())?;
    let site = &turn.site;
    for _ in 0..5 {
        let mut session = site.client().open(Duration::from_secs(3))?;
        session.command("MAIL FROM:<bob@sender.example>")?;
        let reply = session.command("RCPT TO:<alice@lab.example>")?;
        assert!(reply.is_greylisting(), "{reply}");
    }
    let message = Message::new("eve@sender.example", "a-message");
    let round = send(site.client(), &message, &["alice"])?;
    assert!(round.outcome().is_greylisting(), "{round:?}");
    Ok(())
}

#[test]
fn remembers_over_a_restart_what_passed() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mut turn = start(&Plan {
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &mut turn.site;
    let message = Message::new("bob@sender.example", "a-message");
    deliver(site.client(), &message, &["alice"])?;
    let before = site.greygate().tuples()?;

    site.stop_greygate()?;
    site.resume_greygate()?;
    assert_eq!(site.greygate().tuples()?, before);
    let next = Message::new("bob@sender.example", "the-next-message");
    let round = send(site.client(), &next, &["alice"])?;
    assert!(round.is_queued(), "{round:?}");
    Ok(())
}

#[test]
fn remembers_over_a_stop_that_is_hurried() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mut turn = start(&Plan::default())?;
    let site = &mut turn.site;
    // Postfix keeps the milter connection for as long as the session lasts; the drain waits for it.
    let mut session = site.client().open(Duration::from_secs(3))?;
    let message = Message::new("bob@sender.example", "a-message");
    let round = session.attempt(&message, &[address("alice")])?;
    assert!(round.outcome().is_greylisting(), "{round:?}");

    let pid = site.greygate().pid().expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).expect("it is our child");
    interrupt::wait_for("the stop", Duration::from_secs(10), || {
        Ok(site.greygate().log().contains("stopping").then_some(()))
    })?;
    site.stop_greygate()?;
    assert!(site.greygate().log().contains("hurried"));
    site.resume_greygate()?;
    assert_eq!(site.greygate().tuples()?, 1);
    Ok(())
}
