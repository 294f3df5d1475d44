//! What goes wrong with the daemon must not go wrong with the mail.

use std::time::{Duration, Instant};

use support::error::Error;
use support::needs;

use crate::equipment;
use crate::machine::{MILTER, Machine, PACKAGES, message};

#[test]
fn daemon_that_does_not_start_is_given_up_and_mail_is_not_held_up() -> Result<(), Error> {
    let equipment = needs!(equipment());
    let machine = Machine::boot(&equipment)?;
    machine.install(PACKAGES[0])?;
    point_postfix(&machine)?;
    let greylisted = machine.attempt(&message("first"))?;
    assert!(
        greylisted.outcome().is_greylisting(),
        "{}",
        greylisted.outcome()
    );

    machine.run("echo 'no = [' >>/etc/greygate/greygate.toml")?;
    let reloaded = machine.tell("systemctl reload greygate");
    assert!(reloaded.contains("failed"), "{reloaded}");
    machine.run("systemctl is-active greygate.service && greygate status")?;
    let restarted = machine.tell("systemctl restart greygate");
    assert!(restarted.contains("failed"), "{restarted}");
    let log = machine.tell("journalctl -u greygate --no-pager -n 20");
    assert!(log.contains("greygate.toml:"), "file and line: {log}");
    // Whoever comes first has systemd try again, which then gives up and closes the socket.
    let started = Instant::now();
    let word = "while it is broken";
    let round = machine.attempt(&message(word))?;
    assert!(round.is_queued(), "{}", round.outcome());
    assert!(started.elapsed() < POSTFIX_WAITS, "{:?}", started.elapsed());
    let started = Instant::now();
    assert!(machine.attempt(&message("at once"))?.is_queued());
    assert!(started.elapsed() < POSTFIX_WAITS, "{:?}", started.elapsed());

    machine.run(
        "sed -i '$d' /etc/greygate/greygate.toml && greygate check-config
         systemctl reset-failed greygate.service greygate.socket
         systemctl restart greygate",
    )?;
    machine.run("systemctl is-active greygate.service greygate.socket")?;
    // The sender is known by now to nobody: greylisting is back.
    let round = machine
        .client(2)
        .attempt(&message("again"), &["ann@lab.example".to_owned()])?;
    assert!(round.outcome().is_greylisting(), "{}", round.outcome());
    Ok(())
}

#[test]
fn frozen_daemon_is_noticed_by_the_watchdog_and_a_session_waits_for_the_next() -> Result<(), Error>
{
    let equipment = needs!(equipment());
    let machine = Machine::boot(&equipment)?;
    machine.install(PACKAGES[0])?;
    point_postfix(&machine)?;
    machine.run(
        "mkdir -p /etc/systemd/system/greygate.service.d
         printf '[Service]\\nWatchdogSec=5s\\n' >/etc/systemd/system/greygate.service.d/watchdog.conf
         systemctl daemon-reload && systemctl restart greygate",
    )?;
    let restarts = "systemctl show -P NRestarts greygate";
    // Alive for longer than the watchdog waits: it is told of it.
    support::interrupt::pause(Duration::from_secs(7))?;
    assert_eq!(machine.run(restarts)?.trim(), "0", "no false alarm");

    machine.run("kill -STOP $(systemctl show -P MainPID greygate)")?;
    let round = machine.attempt(&message("waits"))?;
    assert!(round.outcome().is_greylisting(), "{}", round.outcome());
    assert_eq!(machine.run(restarts)?.trim(), "1");
    let log = machine.tell("journalctl -u greygate --no-pager -n 40");
    assert!(log.contains("Watchdog timeout"), "{log}");
    Ok(())
}

fn point_postfix(machine: &Machine) -> Result<(), Error> {
    machine
        .run(&format!(
            "postconf -e 'smtpd_milters = {MILTER}' && postfix reload 2>&1"
        ))
        .map(drop)
}

/// Less than Postfix waits for a milter.
const POSTFIX_WAITS: Duration = Duration::from_secs(25);
