//! What waits to be told to the engine: bounded, and when it is full, that more would have to be told.

use std::collections::VecDeque;

use crate::policy::Timestamp;

use super::layout::{Subject, Value};

/// A record that waits.
#[derive(Clone, Debug)]
pub(super) struct Untold {
    pub(super) of: Subject,
    pub(super) value: Value,
    /// Whether all hosts that have the record are to hear of it.
    pub(super) is_news: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Untold>,
    most: usize,
    /// Since when something was not noted that others may lack.
    missed_since: Option<Timestamp>,
}

impl Queue {
    pub(super) fn of(most: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            most,
            missed_since: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds one; says whether there was room.
    pub(super) fn push(&mut self, untold: Untold, now: Timestamp) -> bool {
        let has_room = self.waiting.len() < self.most;
        if has_room {
            self.waiting.push_back(untold);
        } else {
            self.miss(now);
        }
        has_room
    }

    /// Puts back what was taken, whether or not there is room: it was there before.
    pub(super) fn put_back(&mut self, untold: Untold) {
        self.waiting.push_back(untold);
    }

    /// Takes up to `most` from the front.
    pub(super) fn take(&mut self, most: usize) -> Vec<Untold> {
        let taken = self.waiting.len().min(most);
        let batch = self.waiting.drain(..taken).collect();
        // A queue that has been long once is not long for ever.
        if self.waiting.is_empty() && self.waiting.capacity() > SMALL {
            self.waiting.shrink_to(SMALL);
        }
        batch
    }

    /// Notes that something from `since` on may not be known to others.
    pub(super) fn miss(&mut self, since: Timestamp) {
        self.missed_since = Some(self.missed_since.map_or(since, |it| it.min(since)));
    }

    /// Whether something was missed.
    pub(super) fn has_missed(&self) -> bool {
        self.missed_since.is_some()
    }

    /// From when on all has to be told again; [`None`] if nothing was missed.
    pub(super) fn take_missed(&mut self) -> Option<Timestamp> {
        self.missed_since.take()
    }
}

const SMALL: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{SharedKey, TupleKey};

    fn untold() -> Untold {
        Untold {
            of: Subject::Record(SharedKey::Tuple(TupleKey::from_bytes([1; 16]))),
            value: Value {
                form: "l2".into(),
                bytes: vec![1],
                lasts: Duration::from_secs(1),
            },
            is_news: false,
        }
    }

    #[test]
    fn full_queue_remembers_since_when_something_is_missing() {
        let at = Timestamp::from_millis;
        let mut queue = Queue::of(2);
        assert!(queue.push(untold(), at(1)));
        assert!(queue.push(untold(), at(2)));
        assert!(!queue.push(untold(), at(3)));
        assert!(!queue.push(untold(), at(4)));
        assert_eq!(queue.take(9).len(), 2);
        assert!(queue.push(untold(), at(5)), "there is room again");
        assert_eq!(queue.take_missed(), Some(at(3)));
        assert_eq!(queue.take_missed(), None, "told once");
    }
}
