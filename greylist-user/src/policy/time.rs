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
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        // Not `as_millis`, whose 128 bits would be most of what a decision costs.
        let whole = duration.as_secs().saturating_mul(1_000);
        let millis = whole.saturating_add(duration.subsec_millis() as u64);
        Self(self.0.saturating_add(millis))
    }
}

/// Whole seconds since the Unix epoch, wall clock, up to the year 2106: half the size of a
/// [`Timestamp`], for facts that need not be finer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Second(u32);

impl Second {
    /// Has not happened. Earlier than every real time.
    pub const NEVER: Self = Self(0);

    /// The time `seconds` seconds after the Unix epoch.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    pub const fn as_seconds(self) -> u32 {
        self.0
    }

    /// Whether this lies less than `time` before `now`, or after it: a clock that was wrong and then
    /// set back leaves facts from the future, which shall not count for ever.
    pub fn is_within(self, time: Duration, now: Timestamp) -> bool {
        let at = Timestamp::from(self);
        self != Self::NEVER && now.since(at).max(at.since(now)) < time
    }
}

impl From<Timestamp> for Second {
    /// The second that `time` lies in.
    fn from(time: Timestamp) -> Self {
        Self(u32::try_from(time.0 / 1_000).unwrap_or(u32::MAX))
    }
}

impl From<Second> for Timestamp {
    fn from(second: Second) -> Self {
        Self(u64::from(second.0) * 1_000)
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
