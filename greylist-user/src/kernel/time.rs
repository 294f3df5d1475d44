//! Between wall time, in which sentences stand in the store, and kernel time, in which the XDP
//! program ends them.
//!
//! The two clocks drift and step against one another, so a translation holds for the moment it was
//! made. Reconciliation reads entries back through a fresh one and rewrites those that moved.

use super::KernelTime;
use crate::{clock, policy::Timestamp};

/// One moment, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct TimeBridge {
    wall: Timestamp,
    kernel: KernelTime,
}

impl TimeBridge {
    /// The moment that is `wall` by the wall clock and `kernel` by the kernel's.
    pub fn new(wall: Timestamp, kernel: KernelTime) -> Self {
        Self { wall, kernel }
    }

    /// The present, which is `now` by the caller's wall clock.
    pub fn at(now: Timestamp) -> Self {
        Self::new(now, clock::kernel_now())
    }

    /// The moment, on the kernel's clock.
    #[cfg(feature = "xdp")]
    pub(super) fn kernel(self) -> KernelTime {
        self.kernel
    }

    /// `wall` on the kernel's clock. What lies before the kernel's start becomes its start.
    pub fn to_kernel(self, wall: Timestamp) -> KernelTime {
        let kernel = self.kernel.as_nanos();
        let (ahead, behind) = (wall.since(self.wall), self.wall.since(wall));
        KernelTime::from_nanos(
            kernel
                .saturating_add(nanos(ahead))
                .saturating_sub(nanos(behind)),
        )
    }

    /// `kernel` on the wall clock, to the millisecond.
    pub fn to_wall(self, kernel: KernelTime) -> Timestamp {
        let (there, here) = (kernel.as_nanos(), self.kernel.as_nanos());
        let ahead = there.saturating_sub(here) / NANOS_PER_MILLI;
        let behind = here.saturating_sub(there) / NANOS_PER_MILLI;
        Timestamp::from_millis(
            self.wall
                .as_millis()
                .saturating_add(ahead)
                .saturating_sub(behind),
        )
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const NANOS_PER_MILLI: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_the_same(
            wall in 1_000_000_000_000_u64..2_000_000_000_000,
            up in 0_u64..10_000_000_000_000_000,
            ahead in 0_u64..100_000_000_000,
        ) {
            let bridge = TimeBridge::new(Timestamp::from_millis(wall), KernelTime::from_nanos(up));
            let until = Timestamp::from_millis(wall + ahead);
            prop_assert_eq!(bridge.to_wall(bridge.to_kernel(until)), until);
        }
    }

    #[test]
    fn time_before_the_kernels_start_is_its_start() {
        let bridge = TimeBridge::new(Timestamp::from_millis(10_000), KernelTime::from_nanos(5));
        assert_eq!(bridge.to_kernel(Timestamp::NEVER), KernelTime::default());
    }

    #[test]
    fn far_future_saturates() {
        let bridge = TimeBridge::new(Timestamp::from_millis(1), KernelTime::from_nanos(5));
        let end = bridge.to_kernel(Timestamp::from_millis(u64::MAX));
        assert_eq!(end, KernelTime::from_nanos(u64::MAX));
    }

    #[test]
    fn wall_clock_set_back_shows_as_a_later_end() {
        let (wall, up) = (1_000_000, KernelTime::from_nanos(50_000_000_000));
        let until = Timestamp::from_millis(wall + 60_000);
        let written = TimeBridge::new(Timestamp::from_millis(wall), up).to_kernel(until);
        let set_back = TimeBridge::new(Timestamp::from_millis(wall - 3_000), up);
        assert_eq!(
            set_back.to_wall(written).as_millis(),
            until.as_millis() - 3_000
        );
    }
}
