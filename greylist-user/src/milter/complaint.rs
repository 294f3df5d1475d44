//! What others can make happen a thousand times a second, and is worth a line now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Says which of many equal events is told. The metrics count them all.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told: Mutex<Option<Instant>>,
}

impl Complaint {
    /// Whether the event of this moment is told: the first one, and then one in [`INTERVAL`].
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= INTERVAL);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

/// Least time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_of_many_is_told() {
        let complaint = Complaint::default();
        let told = (0..1_000).filter(|_| complaint.is_due()).count();
        assert_eq!(told, 1, "a thousand take far less than the interval");
    }

    #[test]
    fn told_again_after_the_interval() {
        let complaint = Complaint::default();
        assert!(complaint.is_due());
        let long_ago = Instant::now().checked_sub(INTERVAL);
        *complaint.told.lock().expect("no test panics in here") = long_ago;
        assert!(complaint.is_due());
    }
}
