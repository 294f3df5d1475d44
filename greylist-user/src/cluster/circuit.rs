//! Whether the engine is asked at all: a switch that opens when it fails, so that no session waits for
//! an engine that does not answer.
//!
//! It opens at once when a round of the news fails, and when several questions in a row come to nothing.
//! It closes when several rounds in a row were answered within a session's budget. Knows no clock and no
//! engine.

use std::time::Duration;

/// The switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circuit {
    state: State,
    /// Rounds in a row that close it: more each time that it opened again before long.
    wanted: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been heard yet.
    Unknown,
    /// The engine is asked; so many questions in a row came to nothing, and so many rounds were answered.
    Closed { missed: u8, rounds: u16 },
    /// It is not; so many rounds in a row were well again.
    Open { well: u16 },
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            state: State::Unknown,
            wanted: WELL,
        }
    }
}

/// What a word about the engine changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// Nothing.
    Not,
    /// It is not asked any more.
    Open,
    /// It is asked from now on.
    Closed,
}

impl Circuit {
    /// Whether sessions may wait for the engine.
    pub(super) const fn is_closed(self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Notes a question that was answered in time.
    pub(super) fn note_answer(&mut self) {
        if let State::Closed { missed, .. } = &mut self.state {
            *missed = 0;
        }
    }

    /// Notes a question that failed, or whose answer came too late.
    pub(super) fn note_miss(&mut self) -> Turned {
        match &mut self.state {
            State::Closed { missed, .. } if *missed + 1 < MISSED => {
                *missed += 1;
                Turned::Not
            }
            State::Closed { .. } => {
                // Rounds are well, and questions are not: it would open and close by turns.
                self.wanted = self.wanted.saturating_mul(2).min(MOST_WANTED);
                self.open()
            }
            State::Open { .. } | State::Unknown => Turned::Not,
        }
    }

    /// Notes a round that took so long, of which a session would wait for `budget`.
    pub(super) fn note_round(&mut self, took: Duration, budget: Duration) -> Turned {
        if took > budget {
            // Late is not gone: those who asked say whether it matters.
            if let State::Open { well } = &mut self.state {
                *well = 0;
            }
            return Turned::Not;
        }
        match &mut self.state {
            State::Open { well } if *well + 1 < self.wanted => {
                *well += 1;
                Turned::Not
            }
            State::Open { .. } | State::Unknown => {
                self.state = State::Closed {
                    missed: 0,
                    rounds: 0,
                };
                Turned::Closed
            }
            State::Closed { rounds, .. } => {
                *rounds = rounds.saturating_add(1);
                if *rounds >= CALM {
                    self.wanted = WELL;
                }
                Turned::Not
            }
        }
    }

    /// Notes that a round failed, or that there is no connection.
    pub(super) fn note_failure(&mut self) -> Turned {
        match &mut self.state {
            State::Closed { .. } | State::Unknown => self.open(),
            State::Open { well } => {
                *well = 0;
                Turned::Not
            }
        }
    }

    fn open(&mut self) -> Turned {
        self.state = State::Open { well: 0 };
        Turned::Open
    }
}

/// Questions in a row without an answer that open it.
const MISSED: u8 = 8;
/// Rounds in a row that close it.
const WELL: u16 = 3;
/// The same once it has opened again and again: a minute.
const MOST_WANTED: u16 = 300;
/// Rounds after which it is forgotten that it opened: a minute.
const CALM: u16 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(20);
    const SOON: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_millis(21);

    fn closed() -> Circuit {
        let mut circuit = Circuit::default();
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Closed);
        circuit
    }

    /// Misses until it opens.
    fn opened_by_misses(circuit: &mut Circuit) {
        for _ in 1..MISSED {
            assert_eq!(circuit.note_miss(), Turned::Not);
        }
        assert_eq!(circuit.note_miss(), Turned::Open);
    }

    /// Good rounds until it closes.
    fn rounds_to_close(circuit: &mut Circuit) -> u16 {
        (1..=1_000)
            .find(|_| circuit.note_round(SOON, BUDGET) == Turned::Closed)
            .expect("it closes some day")
    }

    #[test]
    fn closes_with_the_first_round_and_opens_when_one_fails() {
        assert!(!Circuit::default().is_closed());
        let mut circuit = closed();
        assert_eq!(circuit.note_failure(), Turned::Open);
        assert_eq!(circuit.note_failure(), Turned::Not, "said once");
    }

    #[test]
    fn opens_when_many_questions_in_a_row_come_to_nothing() {
        let mut circuit = closed();
        for _ in 0..100 {
            for _ in 1..MISSED {
                assert_eq!(circuit.note_miss(), Turned::Not);
            }
            circuit.note_answer();
        }
        opened_by_misses(&mut circuit);
    }

    #[test]
    fn closes_only_after_several_rounds_in_time() {
        let mut circuit = closed();
        circuit.note_failure();
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Not);
        assert_eq!(circuit.note_round(LATE, BUDGET), Turned::Not);
        assert!(!circuit.is_closed());
        assert_eq!(rounds_to_close(&mut circuit), WELL);
    }

    #[test]
    fn slow_round_alone_opens_nothing() {
        let mut circuit = closed();
        for _ in 0..100 {
            assert_eq!(circuit.note_round(LATE, BUDGET), Turned::Not);
        }
        assert!(circuit.is_closed());
    }

    /// An engine whose rounds are in time and whose answers are not.
    #[test]
    fn stays_open_for_longer_each_time_until_it_was_calm() {
        let mut circuit = closed();
        let mut waits = Vec::new();
        for _ in 0..10 {
            opened_by_misses(&mut circuit);
            waits.push(rounds_to_close(&mut circuit));
        }
        assert!(waits.is_sorted() && waits[0] == 2 * WELL, "{waits:?}");
        assert_eq!(waits.last(), Some(&MOST_WANTED));
        for _ in 0..CALM {
            circuit.note_round(SOON, BUDGET);
        }
        opened_by_misses(&mut circuit);
        assert_eq!(rounds_to_close(&mut circuit), 2 * WELL);
    }
}
