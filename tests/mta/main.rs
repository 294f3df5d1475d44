//! Greygate behind a real Postfix.
//!
//! Every test has a site of its own: namespaces, Postfix, daemon. Nothing of the machine's own mail
//! system is used. Run by `cargo xtask test`; needs root, Postfix and the daemon's binary.

mod away;
mod cleanup;
mod deferral;
mod kernel;
mod load;
mod session;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::error::Error;
use support::requirements::{self, Missing};
use support::site::{Plan, Site};
use support::smtp::{Client, Message, Round};
use support::{greygate, interrupt, postfix};

/// What every test of this suite needs.
pub(crate) fn equipment() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    requirements::program("ip")?;
    requirements::program("postfix")?;
    greygate::binary()?;
    Ok(())
}

/// A site, and the right to run it: one at a time, so that a small machine keeps the times that
/// greylisting is about.
pub(crate) struct Turn {
    pub(crate) site: Site,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) fn start(plan: &Plan) -> Result<Turn, Error> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has cleaned up after itself like any other.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let site = Site::start(plan)?;
    Ok(Turn { site, _turn: turn })
}

/// The delay that tests wait out, as `[greylist]` configuration.
pub(crate) const SHORT_DELAY: &str = "[greylist]\ndelay = \"2s\"\n";

/// Lets [`SHORT_DELAY`] go by.
pub(crate) fn wait_out_the_delay() -> Result<(), Error> {
    interrupt::pause(Duration::from_millis(2_200))
}

pub(crate) fn send(client: Client<'_>, message: &Message, to: &[&str]) -> Result<Round, Error> {
    interrupt::check()?;
    let to: Vec<_> = to.iter().map(|mailbox| postfix::address(mailbox)).collect();
    Ok(client.attempt(message, &to)?)
}
