//! A clock that a test turns by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greygate::clock::Clock;
use greygate::policy::Timestamp;

/// Stands still until it is turned. Share it in an `Arc`.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// When every test begins: 14 November 2023, 22:13:20 UTC.
    pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Turns the clock forward.
    pub fn advance(&self, duration: Duration) {
        let to = self.now().after(duration);
        self.0.store(to.as_millis(), Ordering::SeqCst);
    }

    /// Sets the clock back, as somebody does who finds it wrong.
    pub fn set_back(&self, duration: Duration) {
        let to = self.now().since(Timestamp::NEVER.after(duration));
        let to = Timestamp::NEVER.after(to);
        self.0.store(to.as_millis(), Ordering::SeqCst);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicU64::new(Self::START.as_millis()))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
