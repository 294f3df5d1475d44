//! A package's life: installed, used, upgraded, removed, purged, installed again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::error::Error;
use support::interrupt;
use support::needs;
use support::smtp::Round;

use crate::equipment;
use crate::machine::{INTERFACE, MAILBOX, MILTER, Machine, PACKAGES, message};

#[test]
fn package_is_installed_used_upgraded_removed_and_leaves_nothing() -> Result<(), Error> {
    let equipment = needs!(equipment());
    let machine = Machine::boot(&equipment)?;
    let before = files(&machine)?;

    let said = machine.install(PACKAGES[0])?;
    assert!(
        said.contains("smtpd_milters"),
        "it says what to do next: {said}"
    );
    assert!(is_active(&machine), "it runs at once");
    assert!(
        machine.attempt(&message("untouched"))?.is_queued(),
        "Postfix is as it was"
    );
    point_postfix(&machine)?;
    // What docs/install.md says to change, and a delay that a test can wait for.
    machine.run(&format!(
        "sed -i -e 's/^action = .*/&\\ndelay = \"{DELAY}s\"/' \
            -e 's/^interfaces = .*/interfaces = [\"{INTERFACE}\"]\\nmode = \"generic\"\\ncapacity = 1024/' \
            /etc/greygate/greygate.toml
         greygate check-config
         systemctl restart greygate"
    ))?;

    is_deferred_then_passes(&machine)?;
    is_told(&machine)?;
    is_punished_and_forgiven(&machine)?;
    is_upgraded_without_a_loss(&machine)?;
    is_removed_and_mail_flows(&machine)?;
    is_purged(&machine, &before)?;

    machine.install(PACKAGES[0])?;
    assert!(is_active(&machine), "it runs again");
    Ok(())
}

fn is_deferred_then_passes(machine: &Machine) -> Result<(), Error> {
    let first = machine.attempt(&message("known"))?;
    assert!(first.outcome().is_greylisting(), "{}", first.outcome());
    let why = machine.run(&format!(
        "greygate why 192.0.2.1 sender@remote.example {MAILBOX}"
    ))?;
    assert!(why.contains("defer"), "{why}");
    interrupt::pause(Duration::from_secs(DELAY + 1))?;
    let second = machine.attempt(&message("known"))?;
    assert!(second.is_queued(), "{}", second.outcome());
    machine.wait_for_delivery("This is known.")?;
    let unit = machine.run("systemctl show -P StatusText greygate")?;
    assert!(
        unit.contains("unix:/var/spool/postfix/greygate/milter.sock"),
        "{unit}"
    );
    assert!(unit.contains(INTERFACE), "{unit}");
    Ok(())
}

/// What a postmaster looks at next: one screen, a list, and what the journal would have come to.
fn is_told(machine: &Machine) -> Result<(), Error> {
    let screen = machine.run("greygate top --once")?;
    assert!(screen.contains("healthy"), "{screen}");
    assert!(screen.contains("deferred"), "{screen}");
    let passed = machine.run("greygate list pending --passed")?;
    assert!(passed.contains("1 "), "{passed}");
    let log = machine.run("journalctl -u greygate -o cat")?;
    assert!(log.contains("deferred"), "{log}");
    let report = machine.run("journalctl -o export | greygate simulate --log - --json")?;
    assert!(report.contains("\"shows_greylisting\":true"), "{report}");
    Ok(())
}

fn is_punished_and_forgiven(machine: &Machine) -> Result<(), Error> {
    let patience = Duration::from_millis(600);
    assert!(
        is_filtered(machine)?,
        "the kernel filter is on: {}",
        machine.tell("greygate xdp status")
    );
    machine.run("greygate punish 192.0.2.3 --for 1h --level block")?;
    // The first connection of an hour is let through, to be told why.
    interrupt::wait_for("the block in the kernel", PATIENCE, || {
        let knocked = machine.client(3).connect(patience);
        Ok(knocked
            .is_err_and(|error| error.is_connect_timeout())
            .then_some(()))
    })?;
    machine.client(2).connect(patience)?;
    machine.run("greygate forgive 192.0.2.3")?;
    interrupt::wait_for("the forgiveness in the kernel", PATIENCE, || {
        Ok(machine.client(3).connect(patience).is_ok().then_some(()))
    })
}

/// A known sender goes on sending while dpkg exchanges the daemon.
fn is_upgraded_without_a_loss(machine: &Machine) -> Result<(), Error> {
    let pid = "systemctl show -P MainPID greygate";
    let old = machine.run(pid)?;
    let since = machine.run("date '+%F %T'")?;
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut rounds: Vec<Result<Round, Error>> = Vec::new();
            while !over.load(Ordering::Relaxed) && rounds.len() < 2_000 {
                rounds.push(machine.attempt(&message(&format!("upgrade-{}", rounds.len()))));
            }
            rounds
        });
        let upgraded = machine.install(PACKAGES[1]);
        // Once more after it answers again.
        let answered = machine.run("greygate status");
        over.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("no panic");
        upgraded.and(answered).map(|_| sent)
    })?;
    let count = sent.len();
    for round in sent {
        let round = round?;
        assert!(round.is_queued(), "{}", round.outcome());
    }
    println!("{count} messages were taken during the upgrade");
    assert!(count > 3, "only {count} messages while it was upgraded");
    assert_ne!(machine.run(pid)?, old, "it is another process");
    let complaints = machine.tell(&format!(
        "journalctl --no-pager --since '{}' --grep 'warning: .*milter' | grep postfix",
        since.trim()
    ));
    assert_eq!(complaints, "", "Postfix was never without it");
    machine.wait_for_delivery(&format!("This is upgrade-{}.", count - 1))?;
    let version = machine.run("dpkg-query -W -f '${Version}' greygate")?;
    assert!(version.ends_with("-2"), "{version}");
    let configuration = machine.run("cat /etc/greygate/greygate.toml")?;
    assert!(
        configuration.contains(INTERFACE),
        "what the operator wrote stays"
    );
    assert!(is_filtered(machine)?, "the filter stayed, or came again");
    Ok(())
}

fn is_removed_and_mail_flows(machine: &Machine) -> Result<(), Error> {
    let said = machine.run("apt-get remove --yes --quiet=2 greygate 2>&1")?;
    assert!(
        said.contains("smtpd_milters"),
        "it says what is left to do: {said}"
    );
    assert!(!is_filtered(machine)?, "no filter stays behind");
    let round = machine
        .client(2)
        .attempt(&message("without"), &[MAILBOX.to_owned()])?;
    assert!(round.is_queued(), "{}", round.outcome());
    machine.wait_for_delivery("This is without.")?;
    machine.run("test -f /etc/greygate/greygate.toml && test -d /var/lib/greygate")?;
    Ok(())
}

fn is_purged(machine: &Machine, before: &BTreeSet<String>) -> Result<(), Error> {
    machine.run("apt-get purge --yes --quiet=2 greygate 2>&1")?;
    let after = files(machine)?;
    let left: Vec<_> = after.difference(before).collect();
    assert!(left.is_empty(), "{left:?}");
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let accounts = machine.tell("getent passwd greygate; getent group greygate");
    assert_eq!(accounts, "");
    let mounts = machine.run("cat /proc/mounts")?;
    assert!(!mounts.contains("greygate-bpf"), "{mounts}");
    Ok(())
}

fn point_postfix(machine: &Machine) -> Result<(), Error> {
    machine
        .run(&format!(
            "postconf -e 'smtpd_milters = {MILTER}' && postfix reload 2>&1"
        ))
        .map(drop)
}

fn is_active(machine: &Machine) -> bool {
    machine.tell("systemctl is-active greygate.service greygate.socket") == "active\nactive\n"
}

/// Whether the kernel runs a program on the machine's interface.
fn is_filtered(machine: &Machine) -> Result<bool, Error> {
    let link = machine.run(&format!("ip -details link show dev {INTERFACE}"))?;
    Ok(link.contains("xdp"))
}

/// What lies on the machine, but for what every installation and every process changes.
fn files(machine: &Machine) -> Result<BTreeSet<String>, Error> {
    let found = machine.run(
        "exec 2>/dev/null; set +e; find / /run -xdev \\( -path /var/log -o -path /var/cache -o -path /var/lib/apt \
            -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /tmp -o -path /var/tmp \
            -o -path /proc -o -path /run/systemd -o -path /run/log \
            -o -path /var/spool/postfix -o -path /var/lib/postfix -o -path /var/mail -o -path '/var/mail/*' \\) -prune -o -print
         find /var/spool/postfix /var/lib/dpkg /var/lib/systemd /var/cache /var/log \
            /run/systemd -name '*greygate*'
         true",
    )?;
    let passing = [
        "/etc/passwd-",
        "/etc/group-",
        "/etc/shadow-",
        "/etc/gshadow-",
        "/etc/.pwd.lock",
    ];
    let lines = found.lines().filter(|line| !passing.contains(line));
    Ok(lines.map(str::to_owned).collect())
}

/// Seconds that a first attempt waits here; never as short on a real server.
const DELAY: u64 = 2;

const PATIENCE: Duration = Duration::from_secs(20);
