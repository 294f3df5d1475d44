//! The generic cell rate algorithm (ITU-T I.371, annex A) on a [`Limit`]: whether a connection is
//! within it, and what is to be written down then.
//!
//! Pure: it reads no clock and writes no entry. Of all numbers it makes something harmless, since
//! entry and limit are written by others at other times.

use crate::abi::{KernelTime, Limit};

/// What the limit says of one new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conformance {
    /// Within the limit, once this arrival time is written down.
    Within(KernelTime),
    /// Beyond it, and nothing changes: who knocks in vain does not make the wait longer.
    Beyond,
    /// Beyond it, and the arrival time lies further ahead than this limit can bring it: it is of a
    /// harder limit, and this one replaces it.
    Astray(KernelTime),
}

impl Limit {
    /// Judges a connection that comes `now`, where `arrival` is the theoretical arrival time.
    #[inline(always)]
    pub const fn judge(&self, arrival: KernelTime, now: KernelTime) -> Conformance {
        let (arrival, now) = (arrival.as_nanos(), now.as_nanos());
        let latest = now.saturating_add(self.tolerance);
        if arrival <= latest {
            let base = if arrival > now { arrival } else { now };
            let next = base.saturating_add(self.interval);
            return Conformance::Within(KernelTime::from_nanos(next));
        }
        // A connection at the last moment that conforms leaves this much behind, no more.
        let furthest = latest.saturating_add(self.interval);
        if arrival <= furthest {
            Conformance::Beyond
        } else {
            Conformance::Astray(KernelTime::from_nanos(furthest))
        }
    }
}
