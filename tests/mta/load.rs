//! Many sessions at once, driven by Postfix's own load generator.

use std::process::Command;
use std::time::Duration;

use support::Error;
use support::interrupt;
use support::postfix::World;
use support::process;
use support::requirements;
use support::site::Plan;

use crate::start;

const SESSIONS: u32 = 200;

#[test]
fn defers_every_session_of_smtp_source_and_counts_them() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let source = support::needs!(requirements::program("smtp-source"));
    // `-N` numbers the recipients from 1 on.
    let mailboxes = (0..=SESSIONS).map(|number| format!("{number}load"));
    let turn = start(&Plan {
        world: World {
            mailboxes: mailboxes.collect(),
            ..World::default()
        },
        ..Plan::default()
    })?;
    let site = &turn.site;
    let sessions = SESSIONS.to_string();
    // `-A`: goes on when a reply is no success, as none will be. `-d` is left out: one message a
    // connection.
    process::run_in(
        site.client_network(),
        Command::new(source).args([
            "-A",
            "-N",
            "-s",
            "20",
            "-m",
            &sessions,
            "-f",
            "bob@sender.example",
            "-t",
            "load@lab.example",
            "192.0.2.1:25",
        ]),
    )?;

    // Its log is written by a process of its own.
    let replies = || site.postfix().log().matches(" 451 4.7.1 ").count();
    let are_there = interrupt::settle(Duration::from_secs(20), || (replies() >= 200).then_some(()));
    assert!(
        are_there.is_some() && replies() == 200,
        "{} of 200: {}",
        replies(),
        process::tail(&site.postfix().log_file(), 20)
    );
    assert_eq!(site.greygate().tuples()?, 200);
    let deferred = site
        .greygate()
        .metric(site.mx(), "greygate_milter_deferrals_total")?;
    assert!(
        (deferred - 200.0).abs() < 0.5,
        "{}",
        site.greygate().metrics(site.mx())?
    );
    Ok(())
}
