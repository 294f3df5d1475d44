//! The sentences in force: who is punished, and until when.
//!
//! Few beside the tuples, and never pushed out by them. The milter path comes here only to give
//! one.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::policy::{Sentence, SentencedClient, Timestamp};

/// The table of sentences.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    by_client: DashMap<SentencedClient, Sentence>,
    /// Sentences held or about to be, ended ones included.
    len: AtomicUsize,
}

/// What giving a sentence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// The client was not sentenced before, or less hard.
    New(Sentence),
    /// The client was sentenced already; this is the sentence now.
    Renewed(Sentence),
    /// There is no room.
    Full,
}

impl Sentences {
    /// Gives `sentence`. One that is in force is never shortened or softened by it.
    pub(super) fn give(&self, sentence: Sentence) -> Given {
        match self.by_client.entry(sentence.client) {
            Entry::Occupied(mut entry) => {
                let prior = *entry.get();
                if prior.has_ended(sentence.since) {
                    entry.insert(sentence);
                    return Given::New(sentence);
                }
                let merged = prior.merge(sentence);
                entry.insert(merged);
                if merged.level == prior.level {
                    Given::Renewed(merged)
                } else {
                    Given::New(merged)
                }
            }
            Entry::Vacant(entry) => {
                if self.len.fetch_add(1, Ordering::Relaxed) >= MOST {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Given::Full;
                }
                entry.insert(sentence);
                Given::New(sentence)
            }
        }
    }

    /// Undoes the sentence of `client`. Gives it back if it was in force at `now`.
    pub(super) fn lift(&self, client: SentencedClient, now: Timestamp) -> Option<Sentence> {
        let (_, sentence) = self.by_client.remove(&client)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        (!sentence.has_ended(now)).then_some(sentence)
    }

    /// Whether `client` has a sentence, ended or not.
    pub(super) fn holds(&self, client: SentencedClient) -> bool {
        self.by_client.contains_key(&client)
    }

    /// The sentences in force at `now`.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<Sentence> {
        self.by_client
            .iter()
            .map(|entry| *entry)
            .filter(|sentence| !sentence.has_ended(now))
            .collect()
    }

    /// Removes those that have ended at `now`, and says how many.
    pub(super) fn sweep(&self, now: Timestamp) -> usize {
        self.retain(|sentence| !sentence.has_ended(now))
    }

    /// Removes all.
    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    /// Sentences held.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed).min(MOST)
    }

    fn retain(&self, keep: impl Fn(&Sentence) -> bool) -> usize {
        let mut removed = 0;
        self.by_client.retain(|_, sentence| {
            let kept = keep(sentence);
            removed += usize::from(!kept);
            kept
        });
        self.len.fetch_sub(removed, Ordering::Relaxed);
        removed
    }
}

/// More than the kernel's tables hold, and a bound on what a botnet can make us remember.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use crate::policy::{SentenceLevel, SentenceReason};

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn minutes(minutes: u64) -> Timestamp {
        T0.after(Duration::from_mins(minutes))
    }

    fn block(since: Timestamp, length: Duration) -> Sentence {
        Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Block,
            reason: SentenceReason::RapidRetries,
            since,
            until: since.after(length),
        }
    }

    #[test]
    fn sentence_ends_and_the_next_is_new() {
        let sentences = Sentences::default();
        let first = block(T0, Duration::from_mins(30));
        assert_eq!(sentences.give(first), Given::New(first));
        assert_eq!(sentences.in_force(minutes(29)), [first]);
        assert_eq!(sentences.in_force(minutes(30)), []);
        let second = block(minutes(30), Duration::from_mins(30));
        assert_eq!(sentences.give(second), Given::New(second));
        assert_eq!(sentences.len(), 1);
    }

    #[test]
    fn repeat_lengthens_and_never_shortens() {
        let sentences = Sentences::default();
        let first = block(T0, Duration::from_mins(30));
        sentences.give(first);
        let shorter = block(minutes(1), Duration::from_mins(5));
        assert_eq!(sentences.give(shorter), Given::Renewed(first));
        let later = block(minutes(10), Duration::from_mins(30));
        let until = minutes(40);
        assert_eq!(
            sentences.give(later),
            Given::Renewed(Sentence { until, ..first })
        );
    }

    #[test]
    fn harder_level_is_new() {
        let sentences = Sentences::default();
        let hard = block(T0, Duration::from_mins(30));
        let soft = Sentence {
            level: SentenceLevel::Observe,
            ..hard
        };
        sentences.give(soft);
        assert_eq!(sentences.give(hard), Given::New(hard));
        assert_eq!(sentences.give(soft), Given::Renewed(hard));
    }

    #[test]
    fn full_table_gives_no_more_and_still_changes_what_it_holds() {
        let sentences = Sentences::default();
        let held = block(T0, Duration::from_mins(30));
        sentences.give(held);
        sentences.len.store(MOST, Ordering::Relaxed);
        let another = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 8)),
            ..held
        };
        assert_eq!(sentences.give(another), Given::Full);
        assert_eq!(sentences.give(held), Given::Renewed(held));
        assert_eq!(sentences.in_force(T0), [held]);
    }

    #[test]
    fn lifts_and_sweeps() {
        let sentences = Sentences::default();
        let sentence = block(T0, Duration::from_mins(30));
        sentences.give(sentence);
        assert_eq!(sentences.lift(sentence.client, T0), Some(sentence));
        assert_eq!(sentences.lift(sentence.client, T0), None);
        sentences.give(sentence);
        assert_eq!(sentences.sweep(minutes(29)), 0);
        assert_eq!(sentences.sweep(minutes(30)), 1);
        assert_eq!(sentences.len(), 0);
    }
}
