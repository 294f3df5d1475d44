//! What is remembered of a tuple: facts and times, never a verdict.
//!
//! Knows how an attempt changes the facts, when a record has lapsed, and how two hosts' records of
//! one tuple become one. Leaves what an attempt deserves to `decide`, what a run of retries means
//! to `rhythm`, and where records are kept to `store`.

use std::time::Duration;

use super::attempt::ServerMark;
use super::rhythm;
use super::rules::{Action, Policy};
use super::time::{Second, Timestamp};
use super::tuple::{HostMark, TupleKey};

/// The facts about one tuple.
///
/// Every field can be merged with the same field of another host's record, in any order: see
/// [`Record::merge`]. Counts stay at their largest value rather than wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The attempt that began this life of the record. An early retry never moves it.
    pub first_seen: Timestamp,
    /// The latest attempt: where it was a delivery round, when the round began.
    pub last_seen: Timestamp,
    /// When the tuple first passed in this life; [`Second::NEVER`] while it is pending.
    pub passed: Second,
    /// What tells the message of the latest attempt, if anything does: its `SIZE=`, or a part of
    /// its fingerprint with the highest bit set. The highest bit alone: no size was announced, and
    /// only the content could tell. 0: nothing can.
    pub run_evidence: u32,
    /// Which host of the client network the latest attempt came from.
    pub run_host: HostMark,
    /// From the first attempt of the current run of rapid retries to its latest, in tenths of a
    /// second.
    pub run_span: u16,
    /// Attempts in the current run of rapid retries, the one that began it included; 0 if the
    /// latest attempt is no evidence to begin one with.
    pub run_attempts: u16,
    /// What early retries, and relay hopping, have added to the delay, in seconds.
    pub extra: u16,
    /// Addresses of this host tried in the present delivery round, one bit each, and one for those of the
    /// site's other hosts; 0 if the address is not known.
    pub round: u16,
    /// Attempts in this life, the first included.
    pub attempts: u16,
    /// Attempts in this life that passed.
    pub passes: u16,
    /// Counts the lives: an attempt after the record has lapsed begins the next one.
    pub life: u16,
}

/// Where a record stands at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The retry window has not opened; it opens after `left`.
    Early {
        /// Time until the window opens.
        left: Duration,
    },
    /// The retry window is open.
    InWindow {
        /// From the first attempt to now.
        waited: Duration,
    },
    /// The record is void: the window closed, or it passed and went unused for too long.
    Lapsed,
    /// The tuple has passed, and is remembered for it.
    Passed,
}

impl Record {
    /// The record of a first attempt, made at `now`, in the given life.
    pub const fn begun(life: u16, now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_seen: now,
            passed: Second::NEVER,
            run_evidence: 0,
            run_host: HostMark::from_bits(0),
            run_span: 0,
            run_attempts: 0,
            extra: 0,
            round: 0,
            attempts: 1,
            passes: 0,
            life,
        }
    }

    /// Where the record stands at `now`: the one definition of what has lapsed, for look-up, sweep
    /// and listing alike.
    pub fn standing(&self, policy: &Policy, now: Timestamp) -> Standing {
        if now >= self.lapses(policy) {
            return Standing::Lapsed;
        }
        if self.has_passed() {
            return Standing::Passed;
        }
        // A clock that was wrong and then set back leaves records from the future. Nobody shall
        // wait until the future is reached again.
        if self.first_seen > now.after(policy.delay) {
            return Standing::Lapsed;
        }
        let waited = now.since(self.first_seen);
        match self.delay(policy).checked_sub(waited) {
            Some(left) if !left.is_zero() => Standing::Early { left },
            _ => Standing::InWindow { waited },
        }
    }

    /// Whether the record is void at `now`.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.standing(policy, now) == Standing::Lapsed
    }

    /// When the record lapses if nothing more is heard of its tuple.
    pub fn lapses(&self, policy: &Policy) -> Timestamp {
        if self.has_passed() {
            self.last_seen.after(policy.trust)
        } else {
            self.first_seen.after(policy.retry_window)
        }
    }

    /// Whether the tuple has passed in this life.
    pub fn has_passed(&self) -> bool {
        self.passed != Second::NEVER
    }

    /// What has been added to the delay, as it was when it was added.
    pub fn extra(&self) -> Duration {
        Duration::from_secs(self.extra.into())
    }

    /// From the first attempt to the opening of this tuple's retry window.
    pub fn delay(&self, policy: &Policy) -> Duration {
        match policy.punish.extra_delay_action {
            Action::Enforce => self.lengthened_delay(policy),
            Action::Observe => policy.delay,
        }
    }

    /// The delay and what has been added to it, as far as these rules, which may be newer, have it
    /// count. The window it leaves is never closed.
    pub fn lengthened_delay(&self, policy: &Policy) -> Duration {
        // As of nearly all: not worth the arithmetic.
        if self.extra == 0 {
            return policy.delay;
        }
        let extra = self.extra.min(rhythm::most_extra(policy));
        policy
            .delay
            .saturating_add(Duration::from_secs(extra.into()))
    }

    /// Forgiven by an operator: it waits as if no retry had been early, in a new life, so that what
    /// another host knows of the old one does not bring it back.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self {
            run_span: 0,
            run_attempts: 0,
            extra: 0,
            life: self.life.saturating_add(1),
            ..self
        }
    }

    /// Notes one more attempt, at the given address of this site.
    pub(super) fn note_attempt(&mut self, server: ServerMark, now: Timestamp) {
        self.last_seen = self.last_seen.max(now);
        self.round = server.bit();
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Notes that the latest attempt passed.
    pub fn note_pass(&mut self, now: Timestamp) {
        if !self.has_passed() {
            self.passed = Second::from(now);
        }
        self.passes = self.passes.saturating_add(1);
    }

    /// One record out of two of the same tuple, from two hosts or two times.
    ///
    /// The higher life wins. Within one life first-seen is the smaller, last-seen and passed the
    /// larger, counts the larger, and the run is the one that was seen last. The order of merging
    /// makes no difference, and merging twice changes nothing.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let latest = if self.run_order() >= other.run_order() {
            self
        } else {
            other
        };
        Self {
            first_seen: self.first_seen.min(other.first_seen),
            passed: self.passed.max(other.passed),
            attempts: self.attempts.max(other.attempts),
            passes: self.passes.max(other.passes),
            extra: self.extra.max(other.extra),
            ..latest
        }
    }

    /// The record as another host of the site knows it: its latest attempt was made there.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        Self {
            round: ServerMark::ELSEWHERE,
            ..self
        }
    }

    /// This record with what another host of the site knows of the tuple.
    ///
    /// As in [`merge`](Self::merge), but that addresses of the two hosts are not compared: the same attempt
    /// stays where it was made here, and a later one was made elsewhere. A sender that walks all hosts of
    /// the site makes one attempt.
    #[must_use]
    pub fn heard(self, other: Self) -> Self {
        let merged = self.merge(other);
        let run = |it: &Self| Self { round: 0, ..*it }.run_order();
        let round = if self.life != merged.life {
            ServerMark::ELSEWHERE
        } else if run(&self) == run(&merged) {
            self.round
        } else if self.last_seen == merged.last_seen {
            self.round | ServerMark::ELSEWHERE
        } else {
            ServerMark::ELSEWHERE
        };
        Self { round, ..merged }
    }

    /// Orders the runs of two records; equal only if the runs are.
    fn run_order(&self) -> (Timestamp, u16, u16, u32, HostMark, u16) {
        (
            self.last_seen,
            self.run_attempts,
            self.run_span,
            self.run_evidence,
            self.run_host,
            self.round,
        )
    }
}

/// Millions of these are held: a field that makes the entry larger is a decision, not an accident.
const _: () = assert!(size_of::<(TupleKey, Record)>() <= 56);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    prop_compose! {
        /// Small ranges, so that equal lives and times are common.
        fn record()(
            first_seen in 1u64..5, last_seen in 1u64..5, passed in 0u64..3,
            run_evidence in 0u32..3, run_host in 0u16..3, run_span in 0u16..3,
            run_attempts in 0u16..3, extra in 0u16..3, round in 0u16..3,
            attempts in 1u16..4, passes in 0u16..3, life in 1u16..3,
        ) -> Record {
            Record {
                first_seen: Timestamp::from_millis(first_seen),
                last_seen: Timestamp::from_millis(last_seen),
                passed: Second::from(Timestamp::from_millis(passed * 1_000)),
                run_evidence,
                run_host: HostMark::from_bits(run_host),
                run_span,
                run_attempts,
                extra,
                round,
                attempts,
                passes,
                life,
            }
        }
    }

    proptest! {
        #[test]
        fn merging_is_commutative(a in record(), b in record()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
        }

        #[test]
        fn merging_is_associative(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        }

        #[test]
        fn merging_is_idempotent(a in record(), b in record()) {
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
        }
    }

    #[test]
    fn attempt_that_is_heard_of_keeps_where_it_was_made_here() {
        let here = Record {
            round: 0b101,
            ..Record::begun(1, T0)
        };
        let same = here.elsewhere();
        assert_eq!(here.heard(same), here, "it was ours");
        let later = Record {
            last_seen: T0.after(Duration::from_mins(5)),
            attempts: 2,
            ..same
        };
        assert_eq!(here.heard(later), later, "it was made elsewhere");
        assert_eq!(later.heard(same), later, "what is older changes nothing");
    }

    #[test]
    fn higher_life_wins_whole() {
        let old = Record {
            attempts: 9,
            ..Record::begun(1, T0)
        };
        let new = Record::begun(2, T0.after(Duration::from_hours(48)));
        assert_eq!(old.merge(new), new);
    }

    #[test]
    fn stands_early_then_in_the_window_then_lapsed() {
        let policy = Policy::default();
        let record = Record::begun(1, T0);
        let at = |seconds| record.standing(&policy, T0.after(Duration::from_secs(seconds)));
        let left = Duration::from_mins(3);
        assert_eq!(at(0), Standing::Early { left });
        let left = Duration::from_secs(1);
        assert_eq!(at(179), Standing::Early { left });
        let waited = Duration::from_mins(3);
        assert_eq!(at(180), Standing::InWindow { waited });
        let waited = Duration::from_secs(86_399);
        assert_eq!(at(86_399), Standing::InWindow { waited });
        assert_eq!(at(86_400), Standing::Lapsed);
    }

    #[test]
    fn passed_record_lapses_when_unused() {
        let policy = Policy::default();
        let mut record = Record::begun(1, T0);
        let used = T0.after(Duration::from_hours(20 * 24));
        record.note_attempt(ServerMark::UNKNOWN, used);
        record.note_pass(used);
        let end = used.after(policy.trust);
        let last_moment = Timestamp::from_millis(end.as_millis() - 1);
        assert_eq!(record.standing(&policy, last_moment), Standing::Passed);
        assert_eq!(record.standing(&policy, end), Standing::Lapsed);
    }

    #[test]
    fn record_from_the_future_is_void_unless_it_passed() {
        let policy = Policy::default();
        let mut record = Record::begun(1, T0.after(Duration::from_hours(1)));
        assert_eq!(record.standing(&policy, T0), Standing::Lapsed);
        record.note_pass(record.first_seen);
        assert_eq!(record.standing(&policy, T0), Standing::Passed);
    }

    #[test]
    fn counts_saturate() {
        let mut record = Record {
            attempts: u16::MAX,
            passes: u16::MAX,
            ..Record::begun(1, T0)
        };
        record.note_attempt(ServerMark::UNKNOWN, T0);
        record.note_pass(T0);
        assert_eq!((record.attempts, record.passes), (u16::MAX, u16::MAX));
    }
}
