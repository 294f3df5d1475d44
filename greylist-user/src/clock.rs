//! The only reads of system time.
//!
//! Everything else takes `now` as an argument, or is handed a [`Clock`].

use std::time::{SystemTime, UNIX_EPOCH};

use crate::policy::Timestamp;

/// Where the present comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time, now.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}
