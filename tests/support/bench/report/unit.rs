//! What figures are of: which way is better, and how they are written.

use std::fmt;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds of CPU time a frame, over a program that only passes.
    NanosAFrame,
    /// Millions of frames a second.
    MegaframesASecond,
    /// Microseconds of CPU time a change.
    MicrosAChange,
    /// Seconds.
    Seconds,
    /// Bytes of one thing.
    Bytes,
    /// Microseconds of CPU time a session.
    MicrosASession,
    /// Sessions a second.
    SessionsASecond,
    /// Changes a second.
    ChangesASecond,
    /// Answers waited for in a session.
    RoundTrips,
    /// So many for each session.
    EachSession,
    /// So many times something that was measured beside it.
    Times,
    /// Millions of bytes.
    Megabytes,
    /// Microseconds by the clock.
    Micros,
    /// Milliseconds.
    Millis,
    /// Nanoseconds by the clock.
    Nanos,
}

impl Unit {
    pub(super) fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::MegaframesASecond | Self::SessionsASecond | Self::ChangesASecond
        )
    }

    /// A figure, with as many digits as say something.
    pub(super) fn shown(self, figure: f64) -> String {
        match self {
            Self::Megabytes | Self::SessionsASecond | Self::ChangesASecond => {
                format!("{figure:.0}")
            }
            Self::NanosAFrame | Self::Bytes | Self::MicrosASession => format!("{figure:.1}"),
            _ => format!("{figure:.2}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Megabytes => "MB",
            Self::Millis => "ms",
            Self::NanosAFrame | Self::Nanos => "ns",
            Self::MegaframesASecond => "M/s",
            Self::Micros | Self::MicrosAChange | Self::MicrosASession => "µs",
            Self::Seconds => "s",
            Self::Bytes => "B",
            Self::SessionsASecond | Self::ChangesASecond => "/s",
            Self::RoundTrips | Self::EachSession => "",
            Self::Times => "×",
        })
    }
}
