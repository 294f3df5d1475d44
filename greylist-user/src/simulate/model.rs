//! When senders come again of whom the log does not say: the schedules of the mail queues that are
//! common, by name, each with a quick and a slow end.
//!
//! An assumption, and never called anything else. A sender is dealt one queue for all its mail, and
//! the share that never comes again is the same for the quick end's share as part of the slow end's,
//! so that the two ends are a range.

use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What is assumed of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Which queues they have.
    pub queues: Queues,
    /// How many of a hundred never come again, at the quick end and at the slow one.
    pub no_retry: (u8, u8),
}

/// Which mail queues senders have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Queues {
    /// Of a hundred senders, 40 have Postfix, 25 Exchange, 15 Exim, 10 Sendmail and 10 qmail
    #[default]
    Mixed,
    /// Nothing is assumed: only what the log shows is counted
    None,
    /// Postfix: after 5m, 10m, 20m and so on to 66m40s; at the slow end each up to 5m later
    Postfix,
    /// Exchange: four times a minute apart, then every 5m; at the slow end every 15m
    Exchange,
    /// Exim: every 15m for two hours, then every hour; at the slow end every 30m first
    Exim,
    /// Sendmail: every 30m; at the slow end every hour
    Sendmail,
    /// Qmail: after 6m40s, 26m40s, 1h, growing as the square
    Qmail,
}

impl Queues {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::None => "none",
            Self::Postfix => "postfix",
            Self::Exchange => "exchange",
            Self::Exim => "exim",
            Self::Sendmail => "sendmail",
            Self::Qmail => "qmail",
        }
    }
}

/// One end of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Queues come again as soon as they may, and few never do.
    Quick,
    /// They come as late as they may, and many never do.
    Slow,
}

impl Model {
    /// Whether a sender never comes again. `sender` names it.
    pub(super) fn gives_up(self, end: End, sender: &[u8]) -> bool {
        let share = match end {
            End::Quick => self.no_retry.0,
            End::Slow => self.no_retry.1,
        };
        xxh3_64(sender) % 100 < share.into()
    }

    /// When, after its first attempt, the sender makes attempt `number`, counted from 1 for the first
    /// retry; [`None`] if its queue has given up by then.
    pub(super) fn retry(self, end: End, sender: &[u8], number: u32) -> Option<Duration> {
        let queue = match self.queues {
            Queues::Mixed => match xxh3_64_with_seed(sender, 1) % 100 {
                0..40 => Queues::Postfix,
                40..65 => Queues::Exchange,
                65..80 => Queues::Exim,
                80..90 => Queues::Sendmail,
                _ => Queues::Qmail,
            },
            one => one,
        };
        let minutes = |count: u64| Duration::from_mins(count);
        let (number, is_slow) = (u64::from(number), end == End::Slow);
        let after = match (queue, is_slow) {
            (Queues::Mixed | Queues::None, _) => return None,
            (Queues::Postfix, _) => postfix(number, is_slow),
            (Queues::Exchange, false) => minutes(number.min(4) + 5 * number.saturating_sub(4)),
            (Queues::Exchange, true) => minutes(15 * number),
            (Queues::Exim, false) => minutes(15 * number.min(8) + 60 * number.saturating_sub(8)),
            (Queues::Exim, true) => minutes(30 * number.min(4) + 60 * number.saturating_sub(4)),
            (Queues::Sendmail, false) => minutes(30 * number),
            (Queues::Sendmail, true) => minutes(60 * number),
            (Queues::Qmail, _) => Duration::from_secs(400 * number * number),
        };
        (after <= GIVES_UP).then_some(after)
    }
}

/// The next attempt is as far away as the message is old, 300 s to 4,000 s; the queue is looked
/// through every 300 s.
fn postfix(number: u64, is_slow: bool) -> Duration {
    let (least, most, round) = (300, 4_000, if is_slow { 300 } else { 0 });
    let mut age = 0;
    for _ in 0..number.min(200) {
        age += age.clamp(least, most) + round;
    }
    Duration::from_secs(age)
}

/// Mail queues give a message back after five days.
const GIVES_UP: Duration = Duration::from_hours(5 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(queues: Queues, end: End) -> Vec<u64> {
        let model = Model {
            queues,
            no_retry: (0, 0),
        };
        (1..=6)
            .map_while(|number| model.retry(end, b"a", number))
            .map(|it| it.as_secs() / 60)
            .collect()
    }

    #[test]
    fn schedules_are_those_of_the_queues() {
        assert_eq!(
            minutes(Queues::Postfix, End::Quick),
            [5, 10, 20, 40, 80, 146]
        );
        assert_eq!(
            minutes(Queues::Postfix, End::Slow),
            [10, 25, 55, 115, 186, 258]
        );
        assert_eq!(minutes(Queues::Exchange, End::Quick), [1, 2, 3, 4, 9, 14]);
        assert_eq!(
            minutes(Queues::Exchange, End::Slow),
            [15, 30, 45, 60, 75, 90]
        );
        assert_eq!(
            minutes(Queues::Qmail, End::Quick),
            [6, 26, 60, 106, 166, 240]
        );
        assert_eq!(minutes(Queues::None, End::Quick), [0; 0]);
    }

    #[test]
    fn every_queue_comes_later_each_time_and_gives_up() {
        for queues in [
            Queues::Mixed,
            Queues::Postfix,
            Queues::Exchange,
            Queues::Exim,
            Queues::Sendmail,
            Queues::Qmail,
        ] {
            let model = Model {
                queues,
                no_retry: (0, 0),
            };
            for end in [End::Quick, End::Slow] {
                let mut last = Duration::ZERO;
                let mut number = 1;
                while let Some(after) = model.retry(end, b"sender", number) {
                    assert!(after > last, "{queues:?} {number}");
                    assert!(after >= model.retry(End::Quick, b"sender", number).unwrap_or(last));
                    last = after;
                    number += 1;
                }
                assert!(number > 10 && number < 3_000, "{queues:?} {number}");
            }
        }
    }

    #[test]
    fn who_never_comes_again_at_the_quick_end_does_not_at_the_slow_one() {
        let model = Model {
            queues: Queues::Mixed,
            no_retry: (5, 50),
        };
        let gives_up = |end, number: u32| model.gives_up(end, &number.to_le_bytes());
        let quick = (0..10_000).filter(|it| gives_up(End::Quick, *it)).count();
        let slow = (0..10_000).filter(|it| gives_up(End::Slow, *it)).count();
        assert!(
            (400..600).contains(&quick) && (4_800..5_200).contains(&slow),
            "{quick} {slow}"
        );
        assert!((0..10_000).all(|it| !gives_up(End::Quick, it) || gives_up(End::Slow, it)));
    }
}
