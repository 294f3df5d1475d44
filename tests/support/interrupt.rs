//! SIGINT and SIGTERM as an ordinary error, so that guards are dropped and clean up.
//!
//! Every wait of the harness goes through here. After a signal each of them returns
//! [`Error::Interrupted`], the scene unwinds, and namespaces, mounts and processes go with it.
//! Only [`settle`], for the clean-up itself, takes no notice.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long a scene may take to notice a signal and clean up before the process ends anyway.
const GRACE: Duration = Duration::from_secs(30);

/// Begins to listen for signals. Further calls change nothing.
///
/// # Panics
///
/// When the system refuses a thread or a signal handler.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime needs two descriptors");
        let (interrupt, terminate) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            )
        };
        let mut interrupt = interrupt.expect("SIGINT can be caught");
        let mut terminate = terminate.expect("SIGTERM can be caught");
        // Ends with the process: nothing waits for it.
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            INTERRUPTED.store(true, Ordering::Relaxed);
            eprintln!("interrupted: cleaning up");
            thread::sleep(GRACE);
            process::exit(130);
        });
    });
}

/// An error once a signal has come.
pub fn check() -> Result<(), Error> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    Ok(())
}

/// Lets `duration` go by, for a scene whose point is that time passes.
pub fn pause(duration: Duration) -> Result<(), Error> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(POLL));
    }
}

/// Waits until `seen` returns something, `within` at most. `what` completes "… did not happen".
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut seen: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let found = settle(within, || match check() {
        Ok(()) => seen().transpose(),
        Err(interrupted) => Some(Err(interrupted)),
    });
    found.unwrap_or_else(|| {
        Err(Error::TimedOut {
            what: what.to_owned(),
            after: within,
        })
    })
}

/// Waits until `seen` returns something, `within` at most, and does not hear of signals: for what
/// cleans up.
pub fn settle<T>(within: Duration, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        let found = seen();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        thread::sleep(POLL);
    }
}
