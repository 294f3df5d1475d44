//! What Postfix makes of a refusal, and what it tells of its own.

use std::time::Duration;

use support::Error;
use support::postfix::address;
use support::smtp::{Message, SmtpError};

use crate::send;
use crate::stage::{KNOWN, NEW, Stage};

const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn hangs_up_on_a_client_that_is_sentenced_and_judges_its_next_session_anew() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let known = [address(KNOWN)];
    let mut session = stage.client().open(PATIENCE)?;
    let before = Message::new("bob@sender.example", "a-message");
    assert!(session.attempt(&before, &known)?.is_queued());
    stage.script.sentence();
    session.command("MAIL FROM:<bob@sender.example>")?;
    let reply = session.command(&format!("RCPT TO:<{}>", known[0]))?;
    assert_eq!(reply.code, 421, "{reply}");
    assert!(reply.lines[0].starts_with("4.7.0 Your host "), "{reply}");
    assert!(
        reply.lines[0].contains(" postmaster@mx.lab.example "),
        "{reply}"
    );
    let gone = session.command("RSET");
    assert!(matches!(gone, Err(SmtpError::HungUp { .. })), "{gone:?}");
    stage.postfix().wait_for_log(": 421 4.7.0 ")?;
    assert_eq!(stage.metrics.turned_away.get(), 1);

    let after = Message::new("bob@sender.example", "the-next-message");
    assert!(send(stage.client(), &after, &[KNOWN])?.is_queued());
    for message in [before, after] {
        stage.postfix().wait_for_delivery(KNOWN, &message.id)?;
    }
    Ok(())
}

#[test]
fn hangs_up_at_data_on_a_client_that_was_sentenced_after_its_recipient() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let mut session = stage.client().open(PATIENCE)?;
    session.command("MAIL FROM:<bob@sender.example>")?;
    let reply = session.command(&format!("RCPT TO:<{}>", address(KNOWN)))?;
    assert!(reply.is_positive(), "{reply}");
    stage.script.sentence();
    let reply = session.command("DATA")?;
    assert_eq!(reply.code, 421, "{reply}");
    let gone = session.command("RSET");
    assert!(matches!(gone, Err(SmtpError::HungUp { .. })), "{gone:?}");
    assert_eq!(stage.metrics.turned_away.get(), 1);
    Ok(())
}

#[test]
fn hangs_up_on_a_probe_that_is_sentenced_at_data() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let mut session = stage.client().open(PATIENCE)?;
    stage.script.sentence();
    session.command("MAIL FROM:<>")?;
    let reply = session.command(&format!("RCPT TO:<{}>", address(NEW)))?;
    assert!(reply.is_positive(), "{reply}");
    let reply = session.command("DATA")?;
    assert_eq!(reply.code, 421, "{reply}");
    let gone = session.command("RSET");
    assert!(matches!(gone, Err(SmtpError::HungUp { .. })), "{gone:?}");
    Ok(())
}

#[test]
fn tells_the_judge_of_an_unknown_recipient_and_not_of_a_known_one() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(stage.client(), &message, &["nobody-here", NEW])?;
    let codes: Vec<_> = round.recipients.iter().map(|(_, it)| it.code).collect();
    assert_eq!(codes, [550, 451]);
    let size = message.text().len();
    assert_eq!(
        stage.script.rejected(),
        [format!("nobody-here@lab.example {size}")]
    );
    assert_eq!(stage.metrics.recipients_rejected.get(), 1);
    Ok(())
}

#[test]
fn names_the_address_that_was_called() -> Result<(), Error> {
    support::needs!(crate::mta());
    let stage = Stage::start()?;
    let message = Message::new("bob@sender.example", "a-message");
    for server in [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 1]] {
        send(stage.client_of(server), &message, &[NEW])?;
    }
    let servers: Vec<_> = stage.script.attempts().iter().map(|it| it.server).collect();
    assert_eq!(servers, [1, 2, 1]);
    Ok(())
}
