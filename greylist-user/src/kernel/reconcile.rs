//! From what should be in the kernel's table and what is there to the changes that mend it.
//!
//! Pure: two lists in, a list out. Also when to try again after a failure.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use super::{Change, Entry};
use crate::policy::{Sentence, SentencedClient, Timestamp};

/// What to do, what had to be left out, and what was found that nobody did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Removals first, so that there is room for what is put; puts by client.
    pub changes: Vec<Change>,
    /// Sentences for which there is no room.
    pub crowded_out: usize,
    /// Sentences given more than [`TOLERANCE`] ago that have no entry.
    pub missing: usize,
    /// Entries with time left that no sentence explains.
    pub unexpected: usize,
}

/// Plans how the table that holds `entries` comes to hold `sentences`, at most `capacity` of each
/// address family.
///
/// Where they do not fit, those with the least time left give way: they would lapse first, and
/// nothing is ever widened to make room. An entry is rewritten when its level differs or its end
/// lies more than [`TOLERANCE`] off; sentences that have ended are left out.
pub fn plan(sentences: &[Sentence], entries: &[Entry], capacity: u32, now: Timestamp) -> Plan {
    let (kept, crowded_out) = fitting(sentences, capacity, now);
    let mut unexplained: HashMap<SentencedClient, &Entry> =
        entries.iter().map(|entry| (entry.client, entry)).collect();
    let (mut puts, mut missing) = (Vec::new(), 0);
    for sentence in kept {
        let entry = unexplained.remove(&sentence.client);
        if entry.is_none() && now.since(sentence.since) > TOLERANCE {
            missing += 1;
        }
        if entry.is_none_or(|entry| differs(&sentence, entry)) {
            puts.push(sentence);
        }
    }
    // Neighbours together: they share presence bits, and are written fastest side by side.
    puts.sort_unstable_by_key(|sentence| sentence.client);
    let has_time_left = |entry: &&&Entry| entry.until.since(now) > TOLERANCE;
    Plan {
        crowded_out,
        missing,
        unexpected: unexplained.values().filter(has_time_left).count(),
        changes: unexplained
            .into_keys()
            .map(Change::Remove)
            .chain(puts.into_iter().map(Change::Put))
            .collect(),
    }
}

/// How far an entry's end may lie off, and how fresh a sentence may be that has no entry yet: the
/// clocks are read one after the other, and NTP slews by at most 30 ms in the minute between two
/// reconciliations.
pub const TOLERANCE: Duration = Duration::from_secs(1);

/// When to try again after failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a failure and says how long to wait: 1 s, doubled each time, 1 min at most.
    pub fn failed(&mut self) -> Duration {
        let wait = Duration::from_secs(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        wait.min(Duration::from_mins(1))
    }

    /// Notes a success and says whether it ended a row of failures.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// Whether the last try failed.
    pub fn is_failing(self) -> bool {
        self.failures > 0
    }
}

fn fitting(sentences: &[Sentence], capacity: u32, now: Timestamp) -> (Vec<Sentence>, usize) {
    let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    let (mut ipv4, mut ipv6): (Vec<Sentence>, Vec<Sentence>) = sentences
        .iter()
        .filter(|sentence| !sentence.has_ended(now))
        .partition(|sentence| sentence.client.network().addr().is_ipv4());
    let mut crowded_out = 0;
    for family in [&mut ipv4, &mut ipv6] {
        if family.len() > capacity {
            crowded_out += family.len() - capacity;
            family.select_nth_unstable_by_key(capacity, |sentence| {
                (Reverse(sentence.until), sentence.client)
            });
            family.truncate(capacity);
        }
    }
    ipv4.append(&mut ipv6);
    (ipv4, crowded_out)
}

fn differs(sentence: &Sentence, entry: &Entry) -> bool {
    let off = sentence.until.since(entry.until) + entry.until.since(sentence.until);
    sentence.level != entry.level || off > TOLERANCE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Offence, Persistence, SentenceLevel, SentenceReason};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn sentence(host: u8, seconds_left: u64) -> Sentence {
        Sentence {
            client: SentencedClient::of([192, 0, 2, host].into()),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: NOW,
            until: NOW.after(Duration::from_secs(seconds_left)),
            persistence: Persistence::default(),
        }
    }

    fn entry(sentence: Sentence) -> Entry {
        Entry {
            client: sentence.client,
            level: sentence.level,
            until: sentence.until,
            drops: 3,
        }
    }

    #[test]
    fn equal_sets_need_no_change() {
        let sentences = [sentence(1, 60), sentence(2, 90)];
        assert_eq!(
            plan(&sentences, &sentences.map(entry), 10, NOW),
            Plan::default()
        );
    }

    #[test]
    fn puts_what_is_missing_and_removes_what_is_too_much() {
        let plan = plan(&[sentence(1, 60)], &[entry(sentence(2, 60))], 10, NOW);
        assert_eq!(
            plan.changes,
            [
                Change::Remove(sentence(2, 60).client),
                Change::Put(sentence(1, 60))
            ]
        );
    }

    #[test]
    fn only_what_nobody_did_is_unexpected() {
        let found = |sentences: &[Sentence], entries: &[Entry]| {
            let plan = plan(sentences, entries, 10, NOW);
            (plan.missing, plan.unexpected)
        };
        let fresh = sentence(1, 60);
        assert_eq!(found(&[fresh], &[]), (0, 0), "its effect is on the way");
        let old = Sentence {
            since: Timestamp::from_millis(NOW.as_millis() - 60_000),
            ..fresh
        };
        assert_eq!(found(&[old], &[]), (1, 0));
        assert_eq!(found(&[old], &[entry(old)]), (0, 0));
        assert_eq!(found(&[], &[entry(old)]), (0, 1));
        let lapsed = entry(sentence(2, 0));
        assert_eq!(found(&[], &[lapsed]), (0, 0), "it lapsed");
    }

    #[test]
    fn rewrites_another_level_or_end() {
        let wanted = sentence(1, 60);
        let mut observed = entry(wanted);
        observed.level = SentenceLevel::Observe;
        assert_eq!(
            plan(&[wanted], &[observed], 10, NOW).changes,
            [Change::Put(wanted)]
        );
        let ends_early = entry(sentence(1, 50));
        assert_eq!(
            plan(&[wanted], &[ends_early], 10, NOW).changes,
            [Change::Put(wanted)]
        );
        let ends_late = entry(sentence(1, 70));
        assert_eq!(
            plan(&[wanted], &[ends_late], 10, NOW).changes,
            [Change::Put(wanted)]
        );
        let mut jitter = entry(wanted);
        jitter.until = wanted.until.after(TOLERANCE);
        assert_eq!(plan(&[wanted], &[jitter], 10, NOW), Plan::default());
    }

    #[test]
    fn ended_sentence_is_removed() {
        let ended = sentence(1, 0);
        assert_eq!(
            plan(&[ended], &[entry(ended)], 10, NOW).changes,
            [Change::Remove(ended.client)]
        );
    }

    #[test]
    fn least_time_left_gives_way_when_the_table_is_full() {
        let shortest = sentence(1, 10);
        let plan = plan(
            &[shortest, sentence(2, 90), sentence(3, 60)],
            &[entry(shortest), entry(sentence(3, 60))],
            2,
            NOW,
        );
        assert_eq!(plan.crowded_out, 1);
        assert_eq!(
            plan.changes,
            [
                Change::Remove(shortest.client),
                Change::Put(sentence(2, 90))
            ]
        );
    }

    #[test]
    fn families_have_their_own_room() {
        let mut ipv6 = sentence(1, 60);
        ipv6.client = SentencedClient::of([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into());
        let plan = plan(&[sentence(1, 60), ipv6], &[], 1, NOW);
        assert_eq!((plan.changes.len(), plan.crowded_out), (2, 0));
    }

    #[test]
    fn without_capacity_nothing_is_put() {
        let plan = plan(&[sentence(1, 60)], &[], 0, NOW);
        assert_eq!((plan.changes.len(), plan.crowded_out), (0, 1));
    }

    #[test]
    fn waits_longer_after_each_failure_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(backoff.succeeded());
        assert!(!backoff.succeeded());
        assert_eq!(backoff.failed().as_secs(), 1);
    }

    proptest! {
        /// Whatever was there, carrying the plan out in its order gives the wanted set, and never
        /// holds more than fits on the way.
        #[test]
        fn carrying_the_plan_out_gives_what_was_wanted(
            wanted in proptest::collection::hash_map(0_u8..40, 0_u64..100, 0..40),
            there in proptest::collection::hash_map(0_u8..40, 0_u64..100, 0..20),
            capacity in 20_u32..40,
        ) {
            let wanted: Vec<Sentence> = wanted.into_iter().map(|(h, s)| sentence(h, s)).collect();
            let there: Vec<Entry> = there.into_iter().map(|(h, s)| entry(sentence(h, s))).collect();
            let plan = plan(&wanted, &there, capacity, NOW);
            let mut table: HashMap<_, _> = there.iter().map(|e| (e.client, e.until)).collect();
            for change in &plan.changes {
                match change {
                    Change::Put(sentence) => table.insert(sentence.client, sentence.until),
                    Change::Remove(client) => table.remove(client),
                };
                prop_assert!(table.len() <= capacity as usize);
            }
            let lasting = wanted.iter().filter(|sentence| !sentence.has_ended(NOW)).count();
            prop_assert_eq!(table.len() + plan.crowded_out, lasting);
            for sentence in wanted.iter().filter(|s| table.contains_key(&s.client)) {
                let off = sentence.until.since(table[&sentence.client])
                    + table[&sentence.client].since(sentence.until);
                prop_assert!(off <= TOLERANCE);
            }
        }
    }
}
