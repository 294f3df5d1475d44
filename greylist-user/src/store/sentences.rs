//! The sentences in force: who is punished, and until when.
//!
//! Few beside the tuples, and never pushed out by them. The milter path comes here only to give
//! one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ipnet::IpNet;

use crate::policy::{self, History, Policy, Sentence, SentencedClient, Timestamp};

use super::changes::{Bell, Ear, Ears, Marks};

/// The table of sentences.
#[derive(Debug)]
pub(super) struct Sentences {
    by_client: DashMap<SentencedClient, Sentence>,
    /// Sentences held or about to be, ended ones included.
    len: AtomicUsize,
    /// Most of them: a bound on what a botnet can make us remember.
    capacity: usize,
    /// Where changes are noted, for whoever asks.
    ears: Ears<SentencedClient>,
}

/// What giving a sentence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// The client was not sentenced before, or at another level.
    New(Sentence),
    /// The client was sentenced already; this is the sentence now.
    Renewed(Sentence),
    /// There is no room.
    Full,
}

impl Sentences {
    /// An empty table for `capacity` sentences. Memory is taken as it fills.
    pub(super) fn growing(capacity: usize) -> Self {
        Self {
            by_client: DashMap::with_shard_amount(SHARDS),
            len: AtomicUsize::new(0),
            capacity,
            ears: Ears::default(),
        }
    }

    /// Notes from now on for `ear` which sentences are given, changed or lifted.
    pub(super) fn note_changes(&mut self, ear: Ear, bell: &Arc<Bell>) {
        self.ears.open(ear, bell);
    }

    /// Where changes are noted for `ear`, if they are.
    pub(super) fn marks(&self, ear: Ear) -> Option<&Marks<SentencedClient>> {
        self.ears.marks(ear)
    }

    /// The sentence of `client`, ended or not.
    pub(super) fn get(&self, client: SentencedClient) -> Option<Sentence> {
        self.by_client.get(&client).map(|entry| *entry)
    }

    /// Gives `sentence`. One that is in force becomes one with it, and is never shortened.
    pub(super) fn give(&self, sentence: Sentence) -> Given {
        let given = self.enter(sentence);
        if given != Given::Full {
            self.note(sentence.client);
        }
        given
    }

    /// Puts `sentence` in the place of what the client's was. Returns whether there was room.
    pub(super) fn put(&self, sentence: Sentence) -> bool {
        self.discard(sentence.client);
        self.enter(sentence) != Given::Full
    }

    /// Removes the sentence of `client`, if there is one.
    pub(super) fn discard(&self, client: SentencedClient) -> Option<Sentence> {
        let (_, sentence) = self.by_client.remove(&client)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(sentence)
    }

    fn enter(&self, sentence: Sentence) -> Given {
        match self.by_client.entry(sentence.client) {
            Entry::Occupied(mut entry) => {
                let prior = *entry.get();
                if prior.has_ended(sentence.since) {
                    let renewed = Sentence {
                        persistence: prior.persistence.renewed(),
                        ..sentence
                    };
                    entry.insert(renewed);
                    return Given::New(renewed);
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
                if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity {
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
        let sentence = self.discard(client)?;
        self.note(client);
        (!sentence.has_ended(now)).then_some(sentence)
    }

    /// Those whose clients lie in `network`, ended or not.
    pub(super) fn within(&self, network: IpNet) -> Vec<SentencedClient> {
        self.by_client
            .iter()
            .map(|entry| *entry.key())
            .filter(|client| network.contains(&client.network()))
            .collect()
    }

    /// Notes that the kernel's counter of `client` stands at `counter`, and lengthens the sentence
    /// if there is a `policy` that wants that; without one, what was counted passed. Gives it back
    /// if so.
    pub(super) fn heed(
        &self,
        policy: Option<&Policy>,
        history: History,
        client: SentencedClient,
        counter: u64,
        now: Timestamp,
    ) -> Option<Sentence> {
        let (before, read, longer) = {
            let mut sentence = self.by_client.get_mut(&client)?;
            let before = *sentence;
            sentence.persistence = before.persistence.read(counter, policy.is_some());
            let longer =
                policy.and_then(|policy| policy::lengthened(policy, &sentence, history, now));
            *sentence = longer.unwrap_or(*sentence);
            (before, *sentence, longer)
        };
        if read != before {
            self.note(client);
        }
        longer
    }

    /// The sentence of `client`, if it is in force at `now`.
    pub(super) fn of(&self, client: SentencedClient, now: Timestamp) -> Option<Sentence> {
        if self.len() == 0 {
            return None;
        }
        let sentence = *self.by_client.get(&client)?;
        (!sentence.has_ended(now)).then_some(sentence)
    }

    /// Whether `client` has a sentence, ended or not.
    pub(super) fn holds(&self, client: SentencedClient) -> bool {
        self.by_client.contains_key(&client)
    }

    /// All that are held, ended or not.
    pub(super) fn all(&self) -> Vec<Sentence> {
        self.by_client.iter().map(|entry| *entry).collect()
    }

    /// The sentences in force at `now`.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<Sentence> {
        self.by_client
            .iter()
            .map(|entry| *entry)
            .filter(|sentence| !sentence.has_ended(now))
            .collect()
    }

    /// Shows each to `look` that is in force at `now`. A shard is locked only while it is looked
    /// through; `look` must not come back here.
    pub(super) fn for_each_in_force(&self, now: Timestamp, mut look: impl FnMut(&Sentence)) {
        for entry in &self.by_client {
            if !entry.has_ended(now) {
                look(entry.value());
            }
        }
    }

    /// How many are in force at `now` and are counted by `is_counted`.
    pub(super) fn count(&self, now: Timestamp, is_counted: impl Fn(Sentence) -> bool) -> usize {
        self.by_client
            .iter()
            .filter(|sentence| !sentence.has_ended(now) && is_counted(**sentence))
            .count()
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
        self.len.load(Ordering::Relaxed).min(self.capacity)
    }

    /// Most sentences it holds.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Notes a change, once the entry's lock is free again.
    fn note(&self, client: SentencedClient) {
        self.ears.note(|| spread(client), client);
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

/// 32 bits of who is sentenced, uniform enough to spread the notes.
pub(super) fn spread(client: SentencedClient) -> u32 {
    let bits = match client.network().addr() {
        IpAddr::V4(address) => address.to_bits(),
        // What a network is given, folded.
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = (address.to_bits() >> 64).to_be_bytes();
            u32::from_be_bytes([a, b, c, d])
        }
    };
    bits.wrapping_mul(0x9e37_79b9)
}

/// So many that a shard which grows at the largest capacity keeps its lock for milliseconds, and an
/// empty one costs nothing to speak of.
const SHARDS: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use crate::policy::{Offence, Persistence, SentenceLevel, SentenceReason};

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn minutes(minutes: u64) -> Timestamp {
        T0.after(Duration::from_mins(minutes))
    }

    fn block(since: Timestamp, length: Duration) -> Sentence {
        Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since,
            until: since.after(length),
            persistence: Persistence::default(),
        }
    }

    #[test]
    fn sentence_ends_and_the_next_is_new() {
        let sentences = Sentences::growing(10);
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
        let sentences = Sentences::growing(10);
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
        let sentences = Sentences::growing(10);
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
        let sentences = Sentences::growing(1);
        let held = block(T0, Duration::from_mins(30));
        sentences.give(held);
        let another = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 8)),
            ..held
        };
        assert_eq!(sentences.give(another), Given::Full);
        assert_eq!(sentences.give(held), Given::Renewed(held));
        assert_eq!(sentences.in_force(T0), [held]);
    }

    #[test]
    fn heeds_what_the_kernel_counted_and_lengthens_once() {
        let sentences = Sentences::growing(10);
        let first = block(T0, Duration::from_mins(30));
        sentences.give(first);
        let policy = Policy::default();
        let history = History {
            begun: Timestamp::NEVER,
        };
        let reading =
            |client, counter, at| sentences.heed(Some(&policy), history, client, counter, at);
        let read = |counter| reading(first.client, counter, minutes(5));
        assert_eq!(read(99), None);
        let longer = read(100).expect("it kept knocking");
        assert_eq!(longer.until, minutes(60));
        assert_eq!(read(1_000_000), None);
        let [held] = sentences.in_force(minutes(59))[..] else {
            panic!("it is still in force");
        };
        assert_eq!(held.persistence.drops, 1_000_000);

        sentences.give(block(minutes(60), Duration::from_mins(30)));
        let [anew] = sentences.in_force(minutes(60))[..] else {
            panic!("it is in force again");
        };
        assert_eq!(
            (anew.persistence.drops, anew.persistence.lengthened),
            (0, false)
        );
        let counted_since = reading(anew.client, 1_000_099, minutes(61));
        assert_eq!(counted_since, None, "99 since it was sentenced again");
    }

    #[test]
    fn finds_what_lies_in_a_network() {
        let sentences = Sentences::growing(10);
        for network in [
            "192.0.2.7/32",
            "192.0.2.0/24",
            "198.51.100.7/32",
            "2001:db8::/64",
        ] {
            let network: IpNet = network.parse().expect("a network");
            sentences.give(Sentence {
                client: network.try_into().expect("it can be sentenced"),
                ..block(T0, Duration::from_mins(30))
            });
        }
        let within = |network: &str| {
            let network = network.parse().expect("a network");
            let mut found = sentences.within(network);
            found.sort();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(within("192.0.2.0/24"), ["192.0.2.0/24", "192.0.2.7"]);
        assert_eq!(within("192.0.2.0/25"), ["192.0.2.7"]);
        assert_eq!(within("192.0.2.8/32"), Vec::<String>::new());
        assert_eq!(within("::/0"), ["2001:db8::/64"]);
    }

    #[test]
    fn lifts_and_sweeps() {
        let sentences = Sentences::growing(10);
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
