//! Greygate behind a real Postfix.
//!
//! Every test has a site of its own: namespaces, Postfix, daemon; or a stage, where the daemon is the
//! milter alone. Nothing of the machine's own mail
//! system is used. Run by `cargo xtask test`; needs root, Postfix and the daemon's binary.

mod away;
mod cleanup;
mod content;
mod deferral;
mod differential;
mod kernel;
mod load;
mod messages;
mod miltertest;
mod pools;
mod probes;
mod recipients;
mod refusal;
mod reload;
mod selective;
mod session;
mod simulate;
mod stage;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::error::Error;
use support::requirements::{self, Missing};
use support::site::{Plan, Site};
use support::smtp::{Client, Message, Round};
use support::{greygate, interrupt, postfix};

/// What a site needs.
pub(crate) fn equipment() -> Result<(), Missing> {
    mta()?;
    greygate::binary()?;
    Ok(())
}

/// What a Postfix of one's own needs.
pub(crate) fn mta() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    requirements::program("ip")?;
    requirements::program("postfix")?;
    Ok(())
}

/// A site, and the right to run it.
pub(crate) struct Turn {
    // Ends before the next one may begin.
    pub(crate) site: Site,
    _turn: MutexGuard<'static, ()>,
}

/// Starts a site when it is its turn.
pub(crate) fn start(plan: &Plan) -> Result<Turn, Error> {
    let turn = wait_for_turn();
    let site = Site::start(plan)?;
    Ok(Turn { site, _turn: turn })
}

/// Waits for the right to run a site: one at a time, so that a small machine keeps the times that
/// greylisting is about.
pub(crate) fn wait_for_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has cleaned up after itself like any other.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A delay that tests can wait out, as `[greylist]` configuration.
pub(crate) const SHORT_DELAY: &str = "[greylist]\ndelay = \"2s\"\n";

/// Sends `message` as an MTA does, each round to those that were deferred, until nobody is left.
/// The first round must be deferred whole. Returns all rounds.
pub(crate) fn deliver(
    client: Client<'_>,
    message: &Message,
    to: &[&str],
) -> Result<Vec<Round>, Error> {
    let mut left: Vec<_> = to.iter().map(|mailbox| postfix::address(mailbox)).collect();
    let mut rounds = Vec::new();
    interrupt::wait_for("the delivery", Duration::from_secs(15), || {
        let round = client.attempt(message, &left)?;
        assert!(!rounds.is_empty() || round.deferred() == left, "{round:?}");
        left = round.deferred();
        rounds.push(round);
        interrupt::pause(Duration::from_millis(300))?;
        Ok(left.is_empty().then_some(()))
    })?;
    Ok(rounds)
}

pub(crate) fn send(client: Client<'_>, message: &Message, to: &[&str]) -> Result<Round, Error> {
    interrupt::check()?;
    let to: Vec<_> = to.iter().map(|mailbox| postfix::address(mailbox)).collect();
    Ok(client.attempt(message, &to)?)
}

/// The values of a header field of a delivered message.
pub(crate) fn headers<'a>(delivered: &'a str, name: &str) -> Vec<&'a str> {
    let (head, _) = delivered.split_once("\n\n").unwrap_or((delivered, ""));
    let lines = head.lines();
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .collect()
}
