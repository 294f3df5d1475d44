//! What was done to the daemon and when: what the ledgers judge its answers by.
//!
//! Every fault writes here before it begins and after it has ended, so that an answer is never excused
//! by what came later.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Chronicle {
    begun: Instant,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// By what they excuse.
    spans: Vec<(Excuse, &'static str, Span)>,
    losses: Vec<Loss>,
    steps: Vec<(Span, i64)>,
}

/// What a fault excuses while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// Nothing: it is only named beside what goes wrong.
    Nothing,
    /// Sessions that break off, or are closed.
    Away,
    /// Verdicts: other rules are in force than the ledgers know.
    Rules,
    /// What is lost at the next kill: the disk takes nothing.
    Undurable,
}

/// From one moment to another; the end is open while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) to: Option<Instant>,
}

/// The end of a process, which may cost what is in memory alone.
#[derive(Clone, Copy, Debug)]
struct Loss {
    at: Instant,
    /// When it had ended.
    until: Option<Instant>,
    /// How old what is lost may be; nothing may be where it was asked to end.
    bound: Option<Duration>,
    /// How old what is on no disk may be while there is room.
    reach: Duration,
    /// Since when nothing reached the disk, if that is so.
    undurable_since: Option<Instant>,
}

/// What was answered for, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// When the answer was there.
    pub(crate) answered: Instant,
    /// When it was last seen to be remembered: what happened before has not lost it.
    pub(crate) seen: Instant,
}

/// What the record says of something that is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was this old when the process ended, which is within the bound.
    Within(Duration),
    /// The same, and the disk was full.
    Undurable,
    /// It was older.
    TooOld(Duration),
    /// Nothing has happened that could have lost it.
    WithoutReason,
}

impl Lost {
    /// What is excused comes first, and then how old it was.
    pub(crate) fn gravity(&self) -> (u8, Duration) {
        match *self {
            Self::Within(age) => (0, age),
            Self::Undurable => (1, Duration::ZERO),
            Self::TooOld(age) => (2, age),
            Self::WithoutReason => (3, Duration::ZERO),
        }
    }
}

/// The end of a span that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl Chronicle {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            told: Mutex::default(),
        }
    }

    /// Since the run began.
    pub(crate) fn elapsed(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }

    /// A fault begins now.
    pub(crate) fn begin(&self, excuse: Excuse, what: &'static str) -> Mark {
        let mut told = self.told();
        let from = Instant::now();
        told.spans.push((excuse, what, Span { from, to: None }));
        Mark(told.spans.len() - 1)
    }

    /// It has ended now.
    pub(crate) fn end(&self, mark: Mark) {
        if let Some((_, _, span)) = self.told().spans.get_mut(mark.0) {
            span.to = Some(Instant::now());
        }
    }

    /// The process is about to end; what is older than `bound`, or everything, must outlive it. What is
    /// on no disk was answered for within `reach`, where there was room.
    pub(crate) fn begin_loss(&self, bound: Option<Duration>, reach: Duration) {
        let at = Instant::now();
        let mut told = self.told();
        let undurable_since = told.undurable_since(at);
        told.losses.push(Loss {
            at,
            until: None,
            bound,
            reach,
            undurable_since,
        });
    }

    /// It has ended: nothing was answered later.
    pub(crate) fn end_loss(&self) {
        if let Some(loss) = self.told().losses.last_mut() {
            loss.until = Some(Instant::now());
        }
    }

    /// The daemon's clock is being turned to be `seconds` ahead of ours.
    pub(crate) fn begin_step(&self, seconds: i64) {
        let from = Instant::now();
        self.told().steps.push((Span { from, to: None }, seconds));
    }

    /// It has been turned.
    pub(crate) fn end_step(&self) {
        if let Some((span, _)) = self.told().steps.last_mut() {
            span.to = Some(Instant::now());
        }
    }

    /// Whether anything of this kind overlaps with the span.
    pub(crate) fn excuses(&self, excuse: Excuse, during: Span) -> bool {
        let told = self.told();
        let mut spans = told.spans.iter();
        spans.any(|(kind, _, span)| *kind == excuse && span.overlaps(during))
    }

    /// Whether the daemon's clock was turned in this span.
    pub(crate) fn steps_within(&self, during: Span) -> bool {
        let told = self.told();
        told.steps.iter().any(|(span, _)| span.overlaps(during))
    }

    /// Whether it was turned back in this span.
    pub(crate) fn turns_back_within(&self, during: Span) -> bool {
        let told = self.told();
        let before = std::iter::once(0).chain(told.steps.iter().map(|(_, seconds)| *seconds));
        let mut steps = before.zip(&told.steps);
        steps.any(|(before, (span, seconds))| *seconds < before && span.overlaps(during))
    }

    /// The daemon's time in milliseconds, at the earliest and at the latest, of something that it did
    /// within this span.
    pub(crate) fn daemon_time(&self, during: Span) -> (i64, i64) {
        let told = self.told();
        let from = self.millis(during.from);
        let to = self.millis(during.to.unwrap_or_else(Instant::now));
        // An offset holds from the beginning of its own step to the end of the next.
        let mut holding = Vec::new();
        let mut since = self.begun;
        let mut offset = 0;
        for (step, seconds) in &told.steps {
            let until = step.to;
            holding.push((
                Span {
                    from: since,
                    to: until,
                },
                offset,
            ));
            (since, offset) = (step.from, seconds * 1_000);
        }
        holding.push((
            Span {
                from: since,
                to: None,
            },
            offset,
        ));
        let held = holding.iter().filter(|(span, _)| span.overlaps(during));
        let offsets: Vec<i64> = held.map(|(_, offset)| *offset).collect();
        let least = offsets.iter().min().copied().unwrap_or(offset);
        let most = offsets.iter().max().copied().unwrap_or(offset);
        (from + least, to + most)
    }

    /// What may have become of something that is not there at `now`.
    pub(crate) fn lost(&self, known: Known, now: Instant) -> Lost {
        let Known { answered, seen } = known;
        let told = self.told();
        let mut youngest = None;
        for loss in &told.losses {
            if loss.until.is_some_and(|until| until < seen) || loss.at > now {
                continue;
            }
            // What was answered for while it ended has no age.
            let age = loss.at.saturating_duration_since(answered);
            // First: how old it was says nothing of a disk with room.
            let unwritten = |since: Instant| answered + loss.reach >= since;
            if loss.undurable_since.is_some_and(unwritten) {
                return Lost::Undurable;
            }
            if loss.bound.is_some_and(|bound| age <= bound) {
                return Lost::Within(age);
            }
            youngest = Some(youngest.map_or(age, |other: Duration| other.min(age)));
        }
        youngest.map_or(Lost::WithoutReason, Lost::TooOld)
    }

    /// The faults that were active at this moment or ended within the seconds before.
    pub(crate) fn active(&self, at: Instant) -> Vec<&'static str> {
        let about = Span {
            from: at.checked_sub(RECENT).unwrap_or(at),
            to: Some(at),
        };
        let told = self.told();
        let active = told
            .spans
            .iter()
            .filter(|(_, _, span)| span.overlaps(about));
        active.map(|(_, what, _)| *what).collect()
    }

    fn millis(&self, at: Instant) -> i64 {
        i64::try_from(self.elapsed(at).as_millis()).unwrap_or(i64::MAX)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Since this moment, and not asked for since.
    pub(crate) const fn at(answered: Instant) -> Self {
        Self {
            answered,
            seen: answered,
        }
    }
}

impl Span {
    /// From then until now.
    pub(crate) fn since(from: Instant) -> Self {
        let to = Some(Instant::now());
        Self { from, to }
    }

    /// Its end, or now.
    pub(crate) fn end(self) -> Instant {
        self.to.unwrap_or_else(Instant::now)
    }

    fn overlaps(self, other: Self) -> bool {
        let before = |end: Option<Instant>, begin| end.is_some_and(|end| end < begin);
        !before(self.to, other.from) && !before(other.to, self.from)
    }
}

impl Told {
    /// Since when nothing reaches the disk at `at`, if that is so. The span ends when a snapshot stands on
    /// the disk and the journal works.
    fn undurable_since(&self, at: Instant) -> Option<Instant> {
        let mut undurable = self.spans.iter().filter(|(excuse, _, span)| {
            *excuse == Excuse::Undurable && span.to.is_none_or(|to| to > at)
        });
        undurable.next().map(|(_, _, span)| span.from)
    }
}

/// How long after a fault what goes wrong may still be of its doing.
const RECENT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    fn chronicle(at: Instant, undurable_since: Option<Instant>) -> Chronicle {
        let chronicle = Chronicle::new();
        chronicle.told().losses.push(Loss {
            at,
            until: Some(at),
            bound: Some(BOUND),
            reach: BOUND,
            undurable_since,
        });
        chronicle
    }

    fn before(moment: Instant, time: Duration) -> Instant {
        moment
            .checked_sub(time)
            .expect("the machine has run for longer")
    }

    #[test]
    fn what_is_younger_than_the_bound_may_be_lost_and_nothing_older() {
        let kill = Instant::now() + Duration::from_secs(9);
        let chronicle = chronicle(kill, None);
        let known = |age: u64| Known::at(before(kill, Duration::from_millis(age)));
        let lost = |age: u64| chronicle.lost(known(age), kill + BOUND);
        assert_eq!(lost(900), Lost::Within(Duration::from_millis(900)));
        assert_eq!(lost(1_100), Lost::TooOld(Duration::from_millis(1_100)));
    }

    #[test]
    fn nothing_is_lost_without_a_kill_between() {
        let kill = Instant::now() + Duration::from_secs(9);
        let chronicle = chronicle(kill, None);
        assert_eq!(
            chronicle.lost(Known::at(kill + BOUND), kill + 2 * BOUND),
            Lost::WithoutReason
        );
        assert_eq!(
            chronicle.lost(Known::at(before(kill, 3 * BOUND)), before(kill, BOUND)),
            Lost::WithoutReason
        );
    }

    #[test]
    fn kill_that_it_was_seen_to_survive_is_no_reason() {
        let kill = Instant::now() + Duration::from_secs(9);
        let chronicle = chronicle(kill, None);
        let known = Known {
            answered: before(kill, BOUND / 2),
            seen: kill + BOUND,
        };
        assert_eq!(chronicle.lost(known, kill + 2 * BOUND), Lost::WithoutReason);
    }

    #[test]
    fn disk_that_has_healed_excuses_nothing() {
        let chronicle = Chronicle::new();
        let mark = chronicle.begin(Excuse::Undurable, "disk-full");
        let known = Known::at(Instant::now());
        chronicle.begin_loss(None, BOUND);
        chronicle.end_loss();
        assert_eq!(chronicle.lost(known, Instant::now()), Lost::Undurable);
        chronicle.end(mark);
        assert_eq!(chronicle.told().undurable_since(Instant::now()), None);
    }

    #[test]
    fn full_disk_excuses_what_came_after_it_was_full() {
        let kill = Instant::now() + Duration::from_secs(9);
        let chronicle = chronicle(kill, Some(before(kill, 4 * BOUND)));
        let known = |age: u32| Known::at(before(kill, age * BOUND));
        let lost = |age: u32| chronicle.lost(known(age), kill + BOUND);
        assert_eq!(lost(3), Lost::Undurable);
        assert_eq!(lost(5), Lost::Undurable);
        assert_eq!(lost(6), Lost::TooOld(6 * BOUND));
    }

    #[test]
    fn daemon_time_is_in_doubt_only_while_its_clock_is_turned() {
        let chronicle = Chronicle::new();
        let at = |seconds: u64| chronicle.begun + Duration::from_secs(seconds);
        let span = |from, to| Span {
            from: at(from),
            to: Some(at(to)),
        };
        let steps = [(span(10, 11), 3_600), (span(20, 21), 0)];
        chronicle.told().steps.extend(steps);
        assert_eq!(chronicle.daemon_time(span(5, 6)), (5_000, 6_000));
        assert_eq!(chronicle.daemon_time(span(9, 10)), (9_000, 3_610_000));
        assert_eq!(chronicle.daemon_time(span(15, 16)), (3_615_000, 3_616_000));
        assert_eq!(chronicle.daemon_time(span(30, 31)), (30_000, 31_000));
    }

    #[test]
    fn spans_excuse_what_they_overlap() {
        let chronicle = Chronicle::new();
        let before = Span::since(Instant::now());
        let mark = chronicle.begin(Excuse::Away, "kill");
        assert!(!chronicle.excuses(Excuse::Away, before));
        assert!(chronicle.excuses(Excuse::Away, Span::since(Instant::now())));
        assert!(!chronicle.excuses(Excuse::Rules, Span::since(Instant::now())));
        chronicle.end(mark);
        assert!(!chronicle.excuses(Excuse::Away, Span::since(Instant::now())));
        assert_eq!(chronicle.active(Instant::now()), ["kill"]);
    }
}
