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

/// What one CPU knows of the time. Used by the program alone; user space only has to know its size.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Moment {
    /// The tick at which [`now`](Self::now) was read, in jiffies.
    pub tick: u64,
    /// The coarse clock, in nanoseconds.
    pub now: u64,
    /// Before this no further event is told.
    pub next_event: u64,
}
