//! The scenes in which content decides: a pool of many addresses, and senders who have no address.

use std::time::Duration;

use support::error::Error;
use support::interrupt;
use support::pool::{self, Pool};
use support::postfix::address;
use support::site::Site;
use support::smtp::{Message, Reply};
use support::story::Scene;

use crate::scenes::{AFTER_DELAY, attempt, envelope};

/// The `delay` of `[content]`, and a moment more.
const AFTER_CONTENT_DELAY: Duration = Duration::from_millis(3_300);

/// A provider that sends each retry from another network, and waits for no one.
pub(super) fn pool(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let alice = ["alice".to_owned()];
    let mut pool = Pool::new(site);
    let message = Message::new("bob@pool.example", "a-message-of-a-pool");
    let first = pool.turn();
    scene.tries(format!(
        "{}; {} addresses in as many networks, by turns",
        envelope(first, &message, "alice"),
        pool::SIZE
    ));
    let new = attempt(first, &message, &alice)?;
    scene.saw(format!("at RCPT: {}", new.outcome()));
    interrupt::pause(AFTER_DELAY)?;
    let second = pool.turn();
    let roaming = attempt(second, &message, &alice)?;
    scene.saw(format!(
        "{} at the end of the message: {}",
        second.source.ip(),
        roaming.outcome()
    ));
    let ip = second.source.ip().to_string();
    let why = ["why", &ip, &message.reverse_path, &address("alice")];
    let why = site.greygate().run(&why)?;
    scene.saw(format!("greygate why {ip}:\n{}", why.trim_end()));
    interrupt::pause(AFTER_CONTENT_DELAY)?;
    let third = pool.turn();
    let passed = attempt(third, &message, &alice)?;
    scene.saw(format!("{}: {}", third.source.ip(), passed.outcome()));
    let deferred_twice = new.data.is_none()
        && new.outcome().is_greylisting()
        && roaming.end.as_ref().is_some_and(Reply::is_greylisting);
    scene.holds(
        "deferred twice, once at RCPT and once when it had been read, then taken from a third network",
        deferred_twice && passed.is_queued(),
        format!("{}, {}, {}", new.outcome(), roaming.outcome(), passed.outcome()),
    )?;
    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    let header = delivered
        .lines()
        .find(|line| line.starts_with("X-Greylist:"));
    let header = header.unwrap_or("no X-Greylist header");
    scene.saw(format!("in alice's mailbox: {header}"));
    scene.holds(
        "deferred twice, then delivered, passed by content",
        header.ends_with(", passed by content"),
        header,
    )
}

/// Who sends a bounce, and who only asks whether an address exists, says nothing of itself.
pub(super) fn null_sender(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let caller = site.neighbour();
    let ip = caller.source.ip().to_string();
    let seen = || {
        let why = site.greygate().ask(&["why", &ip])?;
        let held = ["strikes", "sentences"].map(|field| why[field].clone());
        let judged = site
            .greygate()
            .metric(site.mx(), "greygate_verdicts_total")?;
        Ok::<_, Error>((site.greygate().tuples()?, judged.to_bits(), held))
    };
    let before = seen()?;
    let mut replies = Vec::new();
    for sender in ["", "double-bounce@verifier.example"] {
        scene.tries(format!(
            "{PROBES} times <{sender}> -> {} from {ip}, and QUIT after RCPT",
            address("alice")
        ));
        for _ in 0..PROBES {
            let mut session = caller.open(Duration::from_secs(3))?;
            session.command(&format!("MAIL FROM:<{sender}>"))?;
            let reply = session.command(&format!("RCPT TO:<{}>", address("alice")))?;
            replies.push(reply.code);
            session.quit()?;
        }
    }
    // The daemon hears of the end of a session after the client does.
    let quit = || {
        let name = "greygate_milter_probes_quit_total";
        let quit = site.greygate().metric(site.mx(), name)?;
        Ok((quit >= f64::from(2 * PROBES)).then_some(quit))
    };
    let quit = interrupt::wait_for("the end of the probes", Duration::from_secs(10), quit)?;
    let after = seen()?;
    scene.saw(format!(
        "RCPT {replies:?}; {quit} probes counted, {} tuples before, {} after",
        before.0, after.0
    ));
    scene.holds(
        "each is told that alice exists, and none is judged or remembered",
        replies.iter().all(|code| *code == 250) && before == after,
        format!("{replies:?}, {before:?}, {after:?}"),
    )?;

    let alice = ["alice".to_owned()];
    let bounce = Message::new("", "a-bounce");
    scene.tries(envelope(caller, &bounce, "alice"));
    let first = attempt(caller, &bounce, &alice)?;
    let rcpt = first.recipients.iter().map(|(_, reply)| reply.code);
    scene.saw(format!(
        "RCPT {:?}, at the end of the message: {}",
        rcpt.collect::<Vec<_>>(),
        first.outcome()
    ));
    interrupt::pause(AFTER_CONTENT_DELAY)?;
    let again = attempt(caller, &bounce, &alice)?;
    scene.saw(format!("the same again: {}", again.outcome()));
    scene.holds(
        "probes leave no trace; a bounce is deferred when it has been read, and passes when it comes again",
        first.end.as_ref().is_some_and(Reply::is_greylisting) && again.is_queued(),
        again.outcome(),
    )?;
    site.postfix().wait_for_delivery("alice", &bounce.id)?;
    Ok(())
}

/// More than any rule takes for hasty retries here.
const PROBES: u32 = 7;
