//! The seats of a worker: a place for each open connection.
//!
//! Knows which are taken, and hands out the one that was left last; leaves what happens to who sits
//! there to `worker`. A row of places instead of a map: a connection comes and goes with each mail.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::task::AbortHandle;

/// The seats of one worker. There are as many as connections were ever open at once.
#[derive(Debug, Default)]
pub(super) struct Seats {
    places: Vec<Option<Seated>>,
    free: Vec<usize>,
}

/// What is known of an open connection from outside.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) task: AbortHandle,
    pub(super) is_idle: Arc<AtomicBool>,
}

impl Seats {
    /// The number of a seat for whoever comes next, who has to [take](Self::take) it.
    pub(super) fn vacant(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    /// Sits down on seat `number`.
    pub(super) fn take(&mut self, number: usize, seated: Seated) {
        self.places[number] = Some(seated);
    }

    /// Leaves seat `number`.
    pub(super) fn leave(&mut self, number: usize) {
        self.places[number] = None;
        self.free.push(number);
    }

    /// Whether nobody has a seat.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Who sits.
    pub(super) fn taken(&self) -> impl Iterator<Item = &Seated> {
        self.places.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seats_that_were_left_are_taken_again() {
        let mut seats = Seats::default();
        assert!(seats.is_empty());
        let sit = |seats: &mut Seats| {
            let number = seats.vacant();
            let task = tokio::spawn(async {}).abort_handle();
            let is_idle = Arc::default();
            seats.take(number, Seated { task, is_idle });
            number
        };
        assert_eq!([(); 3].map(|()| sit(&mut seats)), [0, 1, 2]);
        seats.leave(1);
        assert_eq!((seats.taken().count(), seats.is_empty()), (2, false));
        assert_eq!([(); 2].map(|()| sit(&mut seats)), [1, 3]);
        (0..4).for_each(|number| seats.leave(number));
        assert!(seats.is_empty() && seats.taken().next().is_none());
    }
}
