//! The clock that both sides share.

/// Kernel time: nanoseconds of `CLOCK_MONOTONIC`, which stands still while the machine sleeps and
/// knows no leap, step or time zone. Never mixed with wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct KernelTime(u64);

impl KernelTime {
    /// The time `nanos` nanoseconds after the clock's start.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[inline(always)]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}
