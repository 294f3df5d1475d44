//! A clock that tests turn by hand.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use greygate::{clock::Clock, policy::Timestamp};

/// Stands still until it is turned. Begins on 1 January 2026.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// Moves time on.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).expect("tests take less than an age");
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicU64::new(1_767_225_600_000))
    }
}
