//! The funnel of a mail server: what came, what was turned away where, and how much of it reaches
//! the content analysis behind greygate.
//!
//! Pure: counters in, facts out. What a message is, and under which fate it is counted, the milter
//! says; what was dropped, the kernel program.
//!
//! **Connections refused in the kernel are an estimate**, and stand apart from all else. The program
//! sees SYNs, of which a client that hears nothing sends several: Linux up to seven, a Postfix client
//! with its 30 s for a connection five. It tells a SYN that comes again from the first one as long as
//! no other connection under the same sentence is dropped in between. So there are, give or take one
//! in 256, at most as many connections as SYNs that did not look like a repetition, and at least a
//! seventh of all. Which of the two is nearer depends on how many connections each client tries at a
//! time. One that is let through at a later SYN is among them all the same, and whether a connection
//! would have brought one message, none or many nobody can tell.

use serde::{Deserialize, Serialize};

use crate::kernel::{Counter, FilterStatus};
use crate::milter::{Fate, Tally};

/// What was counted of a daemon's mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunnelCounts {
    /// When counting began, in seconds since the Unix epoch.
    pub since: u64,
    /// What became of messages.
    pub fates: [(Fate, Tally); Fate::COUNT],
    /// Messages of no known size.
    pub unsized_messages: u64,
    /// Tuples that never came back.
    pub tuples: u64,
    /// Fingerprints that never came back.
    pub contents: u64,
    /// SYNs dropped in the kernel; [`None`] without a filter.
    pub syns: Option<DroppedSyns>,
}

/// SYNs that the kernel program has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedSyns {
    /// Those that did not look like a repetition.
    pub first: u64,
    /// Those of the connection that was dropped before them.
    pub again: u64,
}

impl DroppedSyns {
    /// Those that a filter tells of; [`None`] if there is none.
    pub fn of(filter: &FilterStatus) -> Option<Self> {
        let FilterStatus::On(on) = filter else {
            return None;
        };
        let again = on.frames.get(Counter::DroppedAgain.name());
        let again = again.copied().unwrap_or_default();
        Some(Self {
            first: on.drops.saturating_sub(again),
            again,
        })
    }

    /// What was added to what was there `before`. Maps that were made anew begin at zero.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let less = |now: u64, before: u64| now.checked_sub(before);
        match (
            less(self.first, before.first),
            less(self.again, before.again),
        ) {
            (Some(first), Some(again)) => Self { first, again },
            _ => self,
        }
    }
}

/// The funnel, as it is told. Each message is in one place, and the places add up to those seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FunnelFacts {
    /// Since when, in seconds since the Unix epoch: the start of the daemon. 0 where an older daemon
    /// does not tell.
    pub since: u64,
    /// All messages.
    pub seen: Amount,
    /// Those refused for what their client did.
    pub refused: Amount,
    /// Those deferred.
    pub deferred: Amount,
    /// Those whose client went away without an answer.
    pub left: Amount,
    /// Those passed: they reach the content analysis.
    pub passed: Amount,
    /// How much of what was seen that is.
    pub reach: Share,
    /// The same by where or by what it befell them.
    pub fates: Vec<FateFact>,
    /// Messages that announced no size and were not read; they are among those seen, and have no
    /// bytes.
    pub unsized_messages: u64,
    /// What never came back.
    pub given_up: GivenUp,
    /// What the kernel refused; absent without a filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelRefusals>,
}

impl FunnelFacts {
    /// The funnel out of what was counted.
    pub fn of(counts: &FunnelCounts) -> Self {
        let total = |word: &str| {
            let fates = counts.fates.iter();
            let of_word = fates.filter(|(fate, _)| fate.word() == word);
            of_word.fold(Amount::default(), |sum, (_, tally)| sum.with(*tally))
        };
        let passed = total("passed");
        let fates = counts.fates.iter();
        let seen = fates.fold(Amount::default(), |sum, (_, tally)| sum.with(*tally));
        Self {
            since: counts.since,
            seen,
            refused: total("refused"),
            deferred: total("deferred"),
            left: total("left"),
            passed,
            reach: Share::of(passed, seen),
            fates: counts.fates.iter().copied().map(FateFact::of).collect(),
            unsized_messages: counts.unsized_messages,
            given_up: GivenUp {
                tuples: counts.tuples,
                contents: counts.contents,
            },
            kernel: counts
                .syns
                .map(|syns| KernelRefusals::of(syns, passed, seen)),
        }
    }
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Their bytes: as announced, or as far as they were read where that is more.
    pub bytes: u64,
}

impl Amount {
    fn with(self, tally: Tally) -> Self {
        Self {
            messages: self.messages + tally.messages,
            bytes: self.bytes + tally.bytes,
        }
    }
}

/// A part of messages and bytes, in millionths; absent of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Of the messages.
    pub messages_per_million: Option<u64>,
    /// Of the bytes.
    pub bytes_per_million: Option<u64>,
}

impl Share {
    fn of(part: Amount, whole: Amount) -> Self {
        Self {
            messages_per_million: per_million(part.messages, whole.messages),
            bytes_per_million: per_million(part.bytes, whole.bytes),
        }
    }
}

/// What became of some of the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateFact {
    /// `refused`, `deferred`, `left` or `passed`.
    pub fate: String,
    /// Where or by what: the words of the metric.
    pub by: String,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl FateFact {
    fn of((fate, tally): (Fate, Tally)) -> Self {
        Self {
            fate: fate.word().to_owned(),
            by: fate.by().to_owned(),
            messages: tally.messages,
            bytes: tally.bytes,
        }
    }
}

/// What was deferred and not seen to pass before its retry window closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Tuples: a recipient of a sender from one client network. Those of a pool count for each of its
    /// networks, though the mail may have passed from another.
    pub tuples: u64,
    /// Messages that were read, for each recipient.
    pub contents: u64,
}

/// What the kernel refused: an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRefusals {
    /// SYNs dropped since then.
    pub syns: u64,
    /// There were hardly fewer connections.
    pub connections_least: u64,
    /// There were hardly more.
    pub connections_most: u64,
    /// How much would reach the content analysis of all messages, had each connection brought one: of
    /// as many connections as there may have been.
    pub reach_per_million_least: Option<u64>,
    /// Of as few.
    pub reach_per_million_most: Option<u64>,
}

impl KernelRefusals {
    fn of(syns: DroppedSyns, passed: Amount, seen: Amount) -> Self {
        let all = syns.first.saturating_add(syns.again);
        let most = syns.first;
        let least = all.div_ceil(MOST_SYNS).min(most);
        let reach = |connections: u64| {
            per_million(passed.messages, seen.messages.saturating_add(connections))
        };
        Self {
            syns: all,
            connections_least: least,
            connections_most: most,
            reach_per_million_least: reach(most),
            reach_per_million_most: reach(least),
        }
    }
}

/// `part` of `whole` in millionths, to the nearest.
fn per_million(part: u64, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let share = (part * 1_000_000 + whole / 2).checked_div(whole)?;
    u64::try_from(share).ok()
}

/// SYNs of one connection, as Linux sends them: `net.ipv4.tcp_syn_retries` is 6 (ip-sysctl).
const MOST_SYNS: u64 = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::OnStatus;

    fn counts(tallies: &[Tally; Fate::COUNT]) -> FunnelCounts {
        let mut index = 0;
        FunnelCounts {
            since: 1_795_000_000,
            fates: Fate::ALL.map(|fate| {
                index += 1;
                (fate, tallies[index - 1])
            }),
            unsized_messages: 0,
            tuples: 0,
            contents: 0,
            syns: None,
        }
    }

    fn messages(of: &[(Fate, u64)]) -> FunnelCounts {
        let mut tallies = [Tally::default(); Fate::COUNT];
        for &(fate, messages) in of {
            tallies[fate as usize] = Tally { messages, bytes: 0 };
        }
        counts(&tallies)
    }

    /// As two sites counted in a month with content greylisting, a backup MX first.
    #[test]
    fn shares_of_the_reported_funnels_are_their_own() {
        for (passed, others, expected) in [(160, 477_369, 335), (3_021, 44_414, 63_687)] {
            let facts = FunnelFacts::of(&messages(&[
                (Fate::PassedTuple, passed),
                (Fate::DeferredAtRcpt, others),
            ]));
            assert_eq!(facts.seen.messages, passed + others);
            assert_eq!(facts.reach.messages_per_million, Some(expected));
            assert_eq!(facts.reach.bytes_per_million, None, "nothing has bytes");
        }
    }

    #[test]
    fn nothing_seen_has_no_share() {
        let facts = FunnelFacts::of(&messages(&[]));
        assert_eq!(facts.reach, Share::default());
        assert_eq!(facts.kernel, None);
    }

    #[test]
    fn refused_connections_lie_between_a_seventh_of_all_syns_and_those_that_differ() {
        let mut counts = messages(&[(Fate::PassedTuple, 10), (Fate::DeferredAtData, 90)]);
        for (first, again, least, most) in [
            (0, 0, 0, 0),
            (1, 0, 1, 1),
            (1, 6, 1, 1),
            // A stack that sends more of them than Linux.
            (1, 13, 1, 1),
            (100, 600, 100, 100),
            // Many connections of one client at a time: no SYN looks like the one before.
            (700, 0, 100, 700),
        ] {
            counts.syns = Some(DroppedSyns { first, again });
            let kernel = FunnelFacts::of(&counts).kernel.expect("a filter");
            assert_eq!(kernel.syns, first + again);
            let range = (kernel.connections_least, kernel.connections_most);
            assert_eq!(range, (least, most), "{first} and {again}");
        }
        let kernel = FunnelFacts::of(&counts).kernel.expect("a filter");
        assert_eq!(kernel.reach_per_million_most, Some(50_000), "10 of 200");
        assert_eq!(kernel.reach_per_million_least, Some(12_500), "10 of 800");
    }

    #[test]
    fn what_was_dropped_before_the_start_does_not_count() {
        let told = |drops, again| {
            DroppedSyns::of(&FilterStatus::On(OnStatus {
                drops,
                frames: [("dropped_again".to_owned(), again)].into(),
                ..OnStatus::default()
            }))
            .expect("it is on")
        };
        let since = told(100, 40).since(told(30, 10));
        assert_eq!((since.first, since.again), (40, 30));
        let anew = told(7, 3).since(told(30, 10));
        assert_eq!((anew.first, anew.again), (4, 3), "the maps are new");
        let off = FilterStatus::Off { why: String::new() };
        assert_eq!(DroppedSyns::of(&off), None);
    }

    proptest! {
        #[test]
        fn places_add_up_to_what_was_seen(
            tallies in prop::array::uniform18((0_u64..1 << 40, 0_u64..1 << 50)),
        ) {
            let tallies = tallies.map(|(messages, bytes)| Tally { messages, bytes });
            let facts = FunnelFacts::of(&counts(&tallies));
            let places = [facts.refused, facts.deferred, facts.left, facts.passed];
            let sum = |of: fn(&Amount) -> u64| places.iter().map(of).sum::<u64>();
            prop_assert_eq!(facts.seen.messages, sum(|it| it.messages));
            prop_assert_eq!(facts.seen.bytes, sum(|it| it.bytes));
            prop_assert_eq!(facts.seen.messages, facts.fates.iter().map(|it| it.messages).sum::<u64>());
        }
    }
}
