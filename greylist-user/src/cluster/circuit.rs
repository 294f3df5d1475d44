//! Whether the engine is asked at all: a switch that opens when it fails, so that no session waits for
//! an engine that does not answer.
//!
//! It opens at once when a round of the news fails, and when several questions in a row come to nothing.
//! It closes when several rounds in a row were answered within a session's budget. Knows no clock and no
//! engine.

use std::time::Duration;

/// The switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Circuit {
    /// Nothing has been heard yet.
    #[default]
    Unknown,
    /// The engine is asked; so many questions in a row came to nothing.
    Closed {
        /// Questions without an answer, one after the other.
        missed: u8,
    },
    /// It is not; so many rounds in a row were well again.
    Open {
        /// Rounds that were answered in time, one after the other.
        well: u8,
    },
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
        matches!(self, Self::Closed { .. })
    }

    /// Notes a question that was answered in time.
    pub(super) fn note_answer(&mut self) {
        if let Self::Closed { missed } = self {
            *missed = 0;
        }
    }

    /// Notes a question that failed, or whose answer came too late.
    pub(super) fn note_miss(&mut self) -> Turned {
        match self {
            Self::Closed { missed } if *missed + 1 < MISSED => {
                *missed += 1;
                Turned::Not
            }
            Self::Closed { .. } => self.open(),
            Self::Open { .. } | Self::Unknown => Turned::Not,
        }
    }

    /// Notes a round that took so long, of which a session would wait for `budget`.
    pub(super) fn note_round(&mut self, took: Duration, budget: Duration) -> Turned {
        if took > budget {
            // Late is not gone: those who asked say whether it matters.
            if let Self::Open { well } = self {
                *well = 0;
            }
            return Turned::Not;
        }
        match self {
            Self::Open { well } if *well + 1 < WELL => {
                *well += 1;
                Turned::Not
            }
            Self::Open { .. } | Self::Unknown => {
                *self = Self::Closed { missed: 0 };
                Turned::Closed
            }
            Self::Closed { .. } => Turned::Not,
        }
    }

    /// Notes that a round failed, or that there is no connection.
    pub(super) fn note_failure(&mut self) -> Turned {
        match self {
            Self::Closed { .. } | Self::Unknown => self.open(),
            Self::Open { well } => {
                *well = 0;
                Turned::Not
            }
        }
    }

    fn open(&mut self) -> Turned {
        *self = Self::Open { well: 0 };
        Turned::Open
    }
}

/// Questions in a row without an answer that open it.
const MISSED: u8 = 8;
/// Rounds in a row that close it.
const WELL: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(20);
    const SOON: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_millis(21);

    #[test]
    fn closes_with_the_first_round_and_opens_when_one_fails() {
        let mut circuit = Circuit::default();
        assert!(!circuit.is_closed());
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Closed);
        assert_eq!(circuit.note_failure(), Turned::Open);
        assert_eq!(circuit.note_failure(), Turned::Not, "said once");
    }

    #[test]
    fn opens_when_many_questions_in_a_row_come_to_nothing() {
        let mut circuit = Circuit::Closed { missed: 0 };
        for _ in 0..100 {
            for _ in 1..MISSED {
                assert_eq!(circuit.note_miss(), Turned::Not);
            }
            circuit.note_answer();
        }
        for _ in 1..MISSED {
            assert_eq!(circuit.note_miss(), Turned::Not);
        }
        assert_eq!(circuit.note_miss(), Turned::Open);
    }

    #[test]
    fn closes_only_after_several_rounds_in_time() {
        let mut circuit = Circuit::Open { well: 0 };
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Not);
        assert_eq!(circuit.note_round(LATE, BUDGET), Turned::Not);
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Not);
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Not);
        assert!(!circuit.is_closed());
        assert_eq!(circuit.note_round(SOON, BUDGET), Turned::Closed);
    }

    #[test]
    fn slow_round_alone_opens_nothing() {
        let mut circuit = Circuit::Closed { missed: 0 };
        for _ in 0..100 {
            assert_eq!(circuit.note_round(LATE, BUDGET), Turned::Not);
        }
        assert!(circuit.is_closed());
    }
}
