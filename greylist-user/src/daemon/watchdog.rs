//! When systemd's watchdog wants to hear from us: four times within the time it waits.
//!
//! A false alarm costs more than a late one: it cuts open sessions, and what was learned since the
//! last snapshot is gone. So nothing is told from any other thread, each of several signs of life is
//! enough, and the shipped unit waits two minutes.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The times to say that we are alive.
#[derive(Debug)]
pub(super) struct Watchdog {
    interval: Option<Interval>,
}

impl Watchdog {
    /// As the environment says; without a watchdog nothing is ever due.
    pub(super) fn of_this_process() -> Self {
        Self::that_waits(sd_notify::watchdog_enabled())
    }

    fn that_waits(patience: Option<Duration>) -> Self {
        let interval = patience.map(|patience| {
            let mut interval = interval((patience / 4).max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { interval }
    }

    /// Waits until it is time. Waiting that is broken off loses nothing.
    pub(super) async fn is_due(&mut self) {
        match &mut self.interval {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[test]
    fn is_due_four_times_within_systemds_patience_and_never_without_one() {
        let runtime = Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let patience = Duration::from_millis(80);
            let started = Instant::now();
            let mut watchdog = Watchdog::that_waits(Some(patience));
            for _ in 0..5 {
                watchdog.is_due().await;
            }
            assert!(started.elapsed() >= patience, "{:?}", started.elapsed());
            let mut none = Watchdog::that_waits(None);
            assert!(timeout(patience, none.is_due()).await.is_err());
        });
    }
}
