//! When greygate dies without a word, Postfix goes on by its `default_action`.

use std::time::Duration;

use support::Error;
use support::postfix::address;
use support::site::Plan;
use support::smtp::Message;

use crate::{send, start};

#[test]
fn mail_flows_while_greygate_is_dead() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mut turn = start(&Plan::default())?;
    let site = &mut turn.site;
    let message = Message::new("bob@sender.example", "a-message");
    let alice = [address("alice")];

    // One session is open when it happens.
    let client = site.client().open(Duration::from_secs(3));
    let mut session = client?;
    let before = session.attempt(&message, &alice)?;
    assert!(before.outcome().is_greylisting(), "{before:?}");
    site.kill_greygate()?;
    let after = session.attempt(&message, &alice)?;
    assert!(after.is_queued(), "{after:?}");
    session.quit()?;
    site.postfix().wait_for_delivery("alice", &message.id)?;

    let next = Message::new("carol@sender.example", "a-message-in-a-new-session");
    assert!(send(site.client(), &next, &["alice"])?.is_queued());
    let delivered = site.postfix().wait_for_delivery("alice", &next.id)?;
    assert!(!delivered.contains("X-Greylist:"), "{delivered}");

    site.resume_greygate()?;
    let later = Message::new("dave@sender.example", "a-message-after-the-crash");
    let round = send(site.client(), &later, &["alice"])?;
    assert!(round.outcome().is_greylisting(), "{round:?}");
    Ok(())
}

#[test]
fn mail_is_deferred_while_greygate_is_dead_where_the_operator_says_tempfail() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let mut turn = start(&Plan {
        default_action: "tempfail",
        ..Plan::default()
    })?;
    let site = &mut turn.site;
    site.kill_greygate()?;
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(site.client(), &message, &["alice"])?;
    assert_eq!(round.outcome().code, 451, "{round:?}");
    assert!(site.postfix().delivered("alice")?.is_empty());
    Ok(())
}
