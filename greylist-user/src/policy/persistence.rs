//! Clients that go on knocking while they are sentenced, as the kernel's counters tell.
//!
//! The counters are weak evidence: a SYN's source can be forged, so anybody can make anybody's
//! counter rise. What follows from them is therefore small and happens once: a sentence that was
//! earned in SMTP sessions, which cannot be forged, lasts longer by at most as much again. A
//! counter never sentences, never raises a level, and never touches an operator's order.

use std::time::Duration;

use super::history::History;
use super::rules::Policy;
use super::sentence::{Sentence, SentenceLevel, SentenceReason};
use super::time::Timestamp;

/// What the kernel has told of a client since it was sentenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// New connections that the kernel dropped, or would have dropped where it only observes.
    pub drops: u64,
    /// What the kernel's counter stood at when it was last read. It goes on from one sentence to
    /// the next, and begins again when the kernel's table does.
    pub counter: u64,
    /// Whether the sentence was lengthened for it.
    pub lengthened: bool,
    /// Those of the drops that only would have been: they passed, and prove nothing.
    pub observed: u64,
}

impl Persistence {
    /// Of a client that is sentenced anew, with these of the sentence before, which has ended.
    #[must_use]
    pub fn renewed(self) -> Self {
        Self {
            counter: self.counter,
            ..Self::default()
        }
    }

    /// After the kernel's counter was read, of what `dropped` or only would have been.
    ///
    /// A counter that went back has begun again, and what it shows came since. One that began again
    /// and overtook what was read before is taken for less than it is.
    #[must_use]
    pub fn read(self, counter: u64, dropped: bool) -> Self {
        let since = counter.checked_sub(self.counter).unwrap_or(counter);
        let observed = if dropped { 0 } else { since };
        Self {
            drops: self.drops.saturating_add(since),
            counter,
            observed: self.observed.saturating_add(observed),
            ..self
        }
    }

    /// What is known by either of two.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            drops: self.drops.max(other.drops),
            counter: self.counter.max(other.counter),
            lengthened: self.lengthened || other.lengthened,
            observed: self.observed.max(other.observed),
        }
    }
}

/// The longer sentence that `sentence` becomes at `now` for the persistence it shows; [`None`]
/// where it stays as it is.
///
/// As long again, but by no more than a day, and never beyond [`Sentence::LONGEST`]: a hundred
/// forged packets are not to make a fortnight of a week.
pub fn lengthened(
    policy: &Policy,
    sentence: &Sentence,
    history: History,
    now: Timestamp,
) -> Option<Sentence> {
    let least = u64::from(policy.punish.persistent_drops);
    let Persistence {
        drops, observed, ..
    } = sentence.persistence;
    let stays = least == 0
        || drops.saturating_sub(observed) < least
        || sentence.persistence.lengthened
        || sentence.reason == SentenceReason::Operator
        || sentence.has_ended(now);
    if stays || policy.uphold(*sentence, history, now)?.level == SentenceLevel::Observe {
        return None;
    }
    let length = sentence.until.since(sentence.since);
    let room = Sentence::LONGEST.saturating_sub(length);
    let more = length.min(MOST).min(room);
    (more > Duration::ZERO).then(|| Sentence {
        until: sentence.until.after(more),
        persistence: Persistence {
            lengthened: true,
            ..sentence.persistence
        },
        ..*sentence
    })
}

/// The most that a sentence is lengthened by.
const MOST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Action, Offence, SentencedClient};

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);
    /// Long enough for everything.
    const OLD: History = History {
        begun: Timestamp::NEVER,
    };

    fn earned(drops: u64) -> Sentence {
        Sentence {
            client: SentencedClient::of([192, 0, 2, 7].into()),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: T0,
            until: T0.after(Duration::from_mins(20)),
            persistence: Persistence::default().read(drops, true),
        }
    }

    #[test]
    fn lengthens_once_by_its_own_length() {
        let policy = Policy::default();
        assert_eq!(lengthened(&policy, &earned(99), OLD, T0), None);
        let longer = lengthened(&policy, &earned(100), OLD, T0).expect("it kept knocking");
        assert_eq!(longer.until, T0.after(Duration::from_mins(40)));
        assert_eq!(longer.since, T0);
        let more = Sentence {
            persistence: longer.persistence.read(1_000_000, true),
            ..longer
        };
        assert_eq!(lengthened(&policy, &more, OLD, T0), None, "never twice");
        let repeated = more.merge(earned(0));
        assert_eq!(
            lengthened(&policy, &repeated, OLD, T0),
            None,
            "nor by a repeat"
        );
    }

    #[test]
    fn lengthens_a_week_by_no_more_than_a_day_and_not_beyond_the_longest() {
        let policy = Policy::default();
        let week = Sentence {
            until: T0.after(MOST * 7),
            ..earned(1_000_000)
        };
        let longer = lengthened(&policy, &week, OLD, T0).expect("it kept knocking");
        assert_eq!(longer.until, T0.after(MOST * 8));

        let nearly = Sentence {
            since: T0.after(Duration::from_mins(1)),
            until: T0.after(Sentence::LONGEST),
            ..earned(100)
        };
        let longer = lengthened(&policy, &nearly, OLD, nearly.since).expect("a minute is left");
        assert_eq!(longer.until, nearly.since.after(Sentence::LONGEST));
        let longest = Sentence {
            since: T0,
            ..nearly
        };
        assert_eq!(lengthened(&policy, &longest, OLD, T0), None);
    }

    #[test]
    fn block_that_is_only_observed_is_not_lengthened() {
        let young = History { begun: T0 };
        let persistent = earned(1_000);
        assert_eq!(lengthened(&Policy::default(), &persistent, young, T0), None);
        let rate = Sentence {
            level: SentenceLevel::Rate,
            ..persistent
        };
        assert!(lengthened(&Policy::default(), &rate, young, T0).is_some());
    }

    #[test]
    fn what_passed_while_observing_counts_for_nothing_once_it_is_dropped() {
        let policy = Policy::default();
        let observed = Persistence::default().read(1_000, false);
        let after = |counter| Sentence {
            persistence: observed.read(counter, true),
            ..earned(0)
        };
        assert_eq!(after(1_099).persistence.drops, 1_099);
        assert_eq!(lengthened(&policy, &after(1_099), OLD, T0), None);
        assert!(lengthened(&policy, &after(1_100), OLD, T0).is_some());
    }

    #[test]
    fn leaves_alone_whom_counters_may_not_touch() {
        let policy = Policy::default();
        let persistent = earned(1_000_000);
        for (sentence, who) in [
            (
                Sentence {
                    reason: SentenceReason::Operator,
                    ..persistent
                },
                "an operator's order",
            ),
            (
                Sentence {
                    level: SentenceLevel::Observe,
                    ..persistent
                },
                "only observed",
            ),
        ] {
            assert_eq!(lengthened(&policy, &sentence, OLD, T0), None, "{who}");
        }
        assert_eq!(
            lengthened(&policy, &persistent, OLD, persistent.until),
            None
        );
        let mut never = Policy::default();
        never.punish.persistent_drops = 0;
        let mut observing = Policy::default();
        observing.punish.action = Action::Observe;
        let allowing = Policy {
            lists: crate::policy::fixture::allowing(["192.0.2.0/24"]),
            ..Policy::default()
        };
        for policy in [never, observing, allowing] {
            assert_eq!(
                lengthened(&policy, &persistent, OLD, T0),
                None,
                "{policy:?}"
            );
        }
    }

    #[test]
    fn counts_on_over_kernel_tables_and_sentences() {
        let first = Persistence::default().read(40, true).read(70, true);
        assert_eq!((first.drops, first.counter), (70, 70));
        let restarted = first.read(5, true);
        assert_eq!((restarted.drops, restarted.counter), (75, 5));
        let renewed = restarted.renewed().read(9, true);
        assert_eq!((renewed.drops, renewed.counter), (4, 9));
    }

    proptest! {
        #[test]
        fn drops_never_shorten_soften_nor_harden(drops in any::<u64>(), minute in 0..60_u64) {
            let now = T0.after(Duration::from_mins(minute));
            let sentence = earned(drops);
            if let Some(longer) = lengthened(&Policy::default(), &sentence, OLD, now) {
                prop_assert!(longer.until > sentence.until);
                prop_assert!(longer.until <= sentence.until.after(Duration::from_mins(20)));
                prop_assert_eq!(longer.level, sentence.level);
            }
        }
    }
}
