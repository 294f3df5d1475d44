//! The ledger of one tuple: when it was asked for, what it waits from, when it passed, and whether an answer
//! can be right.

use std::time::{Duration, Instant};

use super::{
    chronicle::{Known, Span},
    sender::{DELAY, Desk, check_lost, survived},
};

/// The ledger of one client, sender and recipient.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuple {
    /// Every attempt that may have been recorded.
    pub(crate) asks: Vec<Span>,
    /// The attempt that it waits from, of which the answer was heard.
    pub(crate) first: Option<Span>,
    /// When it was last seen to be remembered.
    seen: Option<Instant>,
    /// The first session of this life in which it passed.
    pub(crate) passed: Option<Span>,
}

impl Tuple {
    /// Enters what came of an attempt of sender `number`, who `may_be_trusted`.
    pub(crate) fn enter(
        &mut self,
        desk: Desk<'_>,
        span: Span,
        passed: bool,
        number: u32,
        may_be_trusted: bool,
    ) {
        let chronicle = desk.chronicle;
        let (earliest_now, latest_now) = chronicle.daemon_time(span);
        let delay = millis(DELAY);
        if passed {
            let begun = self.asks.iter().map(|ask| chronicle.daemon_time(*ask).0);
            let waited = begun.min().map(|begun| latest_now - begun);
            if self.passed.is_none() && waited.is_none_or(|waited| waited < delay) {
                if may_be_trusted {
                    // Then it was not asked for, and nothing is known of it.
                    self.asks.push(span);
                    return;
                }
                let what = format!(
                    "tuple of sender {number} passed after {waited:?} ms of {delay} ({})",
                    self.told(desk)
                );
                desk.books.violate(chronicle, span.end(), &what);
            }
            if let Some(first) = self.first {
                survived(desk, self.known(first), span);
            }
            if self.passed.is_none() {
                // An earlier one may have been lost, and this is what it waited from.
                let due = |ask: &&Span| latest_now - chronicle.daemon_time(**ask).0 >= delay;
                self.first = self.asks.iter().rev().find(due).copied().or(Some(span));
            }
            self.seen = Some(span.from);
            self.passed.get_or_insert(span);
        } else if let Some(first) = self.first {
            let (_, begun_latest) = chronicle.daemon_time(first);
            // What was begun in the future, by a clock that was turned back since, is void for as long, were it
            // turned ahead again by now: a sweep or a start may have forgotten it. It is begun anew, unless it
            // has passed: then the pass is what must not be lost.
            let since = Span {
                from: first.from,
                to: Some(span.end()),
            };
            let (earliest_since, _) = chronicle.daemon_time(since);
            let was_ahead =
                begun_latest > earliest_since + delay && chronicle.turns_back_within(since);
            if was_ahead && self.passed.is_none() {
                self.first = Some(span);
                self.asks.push(span);
                return;
            }
            if self.passed.is_some() || earliest_now - begun_latest >= delay {
                let known = self.passed.filter(|_| was_ahead).unwrap_or(first);
                let what = format!("tuple of sender {number} ({})", self.told(desk));
                check_lost(desk, self.known(known), span, &what);
                // None that would be due is remembered, so that none is to be counted from.
                let was_due = |ask: &Span| earliest_now - chronicle.daemon_time(*ask).1 >= delay;
                self.asks.retain(|ask| !was_due(ask));
                self.first = Some(span);
                self.seen = None;
                self.passed = None;
            }
        } else {
            self.first = Some(span);
        }
        self.asks.push(span);
    }

    /// What is known of it, for whoever looks for a fault: by our clock, and how far the daemon's was ahead.
    fn told(&self, desk: Desk<'_>) -> String {
        let chronicle = desk.chronicle;
        let at = |span: Span| {
            let (_, by_daemon) = chronicle.daemon_time(span);
            let ours = chronicle.elapsed(span.end());
            let ahead = by_daemon / 1_000 - i64::try_from(ours.as_secs()).unwrap_or(i64::MAX);
            format!("{ours:.3?} {ahead:+} s")
        };
        let asks: Vec<_> = self
            .asks
            .iter()
            .rev()
            .take(TOLD)
            .map(|it| at(*it))
            .collect();
        let passed = self.passed.map_or_else(|| "never".to_owned(), at);
        let seen = self.seen.map_or_else(
            || "never".to_owned(),
            |seen| format!("{:.3?}", chronicle.elapsed(seen)),
        );
        format!("passed {passed}, seen {seen}, asked {}", asks.join(", "))
    }

    fn known(&self, first: Span) -> Known {
        let answered = first.end();
        let seen = self.seen.map_or(answered, |seen| seen.max(answered));
        Known { answered, seen }
    }

    /// Whether any attempt that may be recorded has waited long enough within this session.
    pub(crate) fn may_be_due(&self, desk: Desk<'_>, span: Span) -> bool {
        let (_, latest) = desk.chronicle.daemon_time(span);
        let mut asks = self.asks.iter();
        asks.any(|ask| latest - desk.chronicle.daemon_time(*ask).0 >= millis(DELAY))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Attempts that are told of a tuple that was lost, the latest.
const TOLD: usize = 5;

#[cfg(test)]
mod tests {
    use super::super::sender::tests::violations_of;
    use super::*;

    /// What the books say of a tuple that was begun an hour ahead, or while the clock was turned there, and is not
    /// remembered when it is due, the daemon's clock having stood at these seconds ahead in between.
    fn violations_of_one_begun_ahead(while_turned: bool, between: &[i64]) -> usize {
        let at = |seconds: u64| {
            let at = Instant::now() + Duration::from_secs(seconds);
            Span {
                from: at,
                to: Some(at),
            }
        };
        violations_of(|desk| {
            let chronicle = desk.chronicle;
            let mut tuple = Tuple::default();
            chronicle.begin_step(3_600);
            if while_turned {
                tuple.enter(desk, at(0), false, 1, false);
            }
            chronicle.end_step();
            if !while_turned {
                tuple.enter(desk, at(0), false, 1, false);
            }
            for seconds in between {
                chronicle.begin_step(*seconds);
                chronicle.end_step();
            }
            tuple.enter(desk, at(2), false, 1, false);
        })
    }

    #[test]
    fn tuple_passes_early_by_trust_alone() {
        for (may_be_trusted, violations) in [(false, 1), (true, 0)] {
            let found = violations_of(|desk| {
                let now = Span::since(Instant::now());
                let mut tuple = Tuple::default();
                tuple.enter(desk, now, false, 1, may_be_trusted);
                tuple.enter(desk, now, true, 1, may_be_trusted);
            });
            assert_eq!(found, violations);
        }
    }

    #[test]
    fn tuple_of_the_future_may_be_forgotten_while_the_clock_is_back() {
        for while_turned in [false, true] {
            assert_eq!(violations_of_one_begun_ahead(while_turned, &[]), 1);
            assert_eq!(violations_of_one_begun_ahead(while_turned, &[0]), 0);
            assert_eq!(violations_of_one_begun_ahead(while_turned, &[0, 3_600]), 0);
        }
    }
}
