//! A configuration that changes under a running daemon.

use std::time::Duration;

use support::Error;
use support::interrupt;
use support::site::Plan;
use support::smtp::Message;

use crate::{send, start};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_reload_changes_the_rules_and_a_wrong_file_changes_nothing() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan::default())?;
    let site = &turn.site;
    let greygate = site.greygate();
    let message = Message::new("bob@sender.example", "a-message");
    let round = send(site.client(), &message, &["alice"])?;
    assert!(round.outcome().is_greylisting(), "{round:?}");

    greygate.reload(&["[greylist]\naction = \"observe\"\n"])?;
    interrupt::wait_for("the new rule", PATIENCE, || {
        let status = greygate.ask(&["status"])?;
        Ok((status["greylist_action"] == "observe").then_some(()))
    })?;
    let round = send(site.client(), &message, &["alice"])?;
    assert!(round.is_queued(), "{round:?}");

    greygate.reload(&["[greylist]\naction = \"enforce\"\nno_such_key = 1\n"])?;
    interrupt::wait_for("a line about the wrong file", PATIENCE, || {
        let log = greygate.log();
        let complaint = log.lines().find(|line| line.contains("no_such_key"));
        Ok(complaint.map(str::to_owned))
    })?;
    let next = Message::new("carol@sender.example", "another-message");
    let round = send(site.client(), &next, &["alice"])?;
    assert!(round.is_queued(), "the old rules stay: {round:?}");
    Ok(())
}
