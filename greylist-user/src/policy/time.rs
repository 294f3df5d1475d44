//! Points in wall-clock time, as facts are stored.
//!
//! The policy never reads a clock: every `now` is an argument. Kernel time
//! (`CLOCK_MONOTONIC`) is another type, in `kernel`; the two are never mixed.

use std::time::Duration;

/// Milliseconds since the Unix epoch, wall clock.
///
/// Arithmetic saturates: a clock that was set back makes intervals zero, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Has not happened. Earlier than every real time.
    pub const NEVER: Self = Self(0);

    /// The time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time moved into the future.
    pub const fn after(self, duration: Duration) -> Self {
        let millis = duration.as_millis();
        let millis = if millis > u64::MAX as u128 {
            u64::MAX
        } else {
            millis as u64
        };
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_set_back_makes_intervals_zero() {
        let earlier = Timestamp::from_millis(1_000);
        let later = earlier.after(Duration::from_secs(2));
        assert_eq!(later.since(earlier), Duration::from_secs(2));
        assert_eq!(earlier.since(later), Duration::ZERO);
    }

    #[test]
    fn far_future_saturates() {
        let now = Timestamp::from_millis(1);
        assert_eq!(now.after(Duration::MAX), Timestamp::from_millis(u64::MAX));
    }
}
