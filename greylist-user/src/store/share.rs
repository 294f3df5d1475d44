//! What other hosts of the site know: what is asked of them, what is heard of them, and what they are told.
//!
//! Knows which records an attempt hangs on, and how a record that is heard of becomes one with what is
//! held. Leaves to `cluster` where the others are and how they are reached. Whoever hears never waits for
//! anybody: a row is merged in the lock of its entry, like an attempt.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::policy::{
    self, Attempt, ClientNetwork, ContentRecord, Effect, PairRecord, Policy, Record, Second,
    Sentence, SentencedClient, SharedKey, Standing, Timestamp, TrustRecord, TupleKey,
};

use super::Store;
use super::changes::{Bell, Changes, Ear};
use super::codec::Row;
use super::forget::attempt_of;
use super::import::heard_by;
use super::judge::Keyed;
use super::pardons::{CLOCKS_DIFFER, Pardon};
use super::table::{Full, Key, Table};
use super::trust::never_trusts;

/// What hosts know of the sentence of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSentence {
    /// Who.
    pub client: SentencedClient,
    /// When it was last forgiven; [`Timestamp::NEVER`] if it never was. What was given until then is void.
    pub lifted: Timestamp,
    /// What was given, whether or not it is void.
    pub given: Option<Sentence>,
}

/// One thing that hosts tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A record, of any kind but a sentence.
    Row(Row),
    /// A sentence, or that it was lifted.
    Sentence(SharedSentence),
}

/// What became of what was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// It is held now.
    Held,
    /// It says nothing any more, and nothing is held of it.
    Void,
    /// There is no room for it.
    NoRoom,
}

/// What is to be told to the other hosts.
#[derive(Debug)]
pub(super) struct Outbox {
    bell: Arc<Bell>,
    changes: Mutex<Changes>,
    /// Records that were forgiven, which every host that has them is to hear of.
    forgiven: Mutex<HashSet<SharedKey>>,
}

impl Outbox {
    fn new(overflows: Counter) -> Self {
        Self {
            bell: Arc::new(Bell::new(false, overflows)),
            changes: Mutex::default(),
            forgiven: Mutex::default(),
        }
    }

    /// Where lists say that something was noted.
    fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Notes that the record of `key`, which others may have, was forgiven. Its change is noted anyway.
    pub(super) fn note_forgiven(&self, key: SharedKey) {
        let mut forgiven = locked(&self.forgiven);
        if forgiven.len() < MOST_FORGIVEN {
            forgiven.insert(key);
        }
    }
}

impl Shared {
    /// What it is of; [`None`] of what no other host hears of.
    pub fn key(&self) -> Option<SharedKey> {
        Some(match self {
            Self::Sentence(sentence) => SharedKey::Sentence(sentence.client),
            Self::Row(Row::Client(key, _)) => SharedKey::Client(*key),
            Self::Row(Row::Content(key, _)) => SharedKey::Content(*key),
            Self::Row(Row::Helo(key, _)) => SharedKey::Helo(*key),
            Self::Row(Row::Neighbours(key, _)) => SharedKey::Neighbours(*key),
            Self::Row(Row::Pair(key, _)) => SharedKey::Pair(*key),
            Self::Row(Row::Reputation(key, _)) => SharedKey::Reputation(*key),
            Self::Row(Row::Trust(key, _)) => SharedKey::Trust(*key),
            Self::Row(Row::Tuple(key, _)) => SharedKey::Tuple(*key),
            Self::Row(
                Row::Gone(_) | Row::Kept(..) | Row::Pardon(_) | Row::Sentence(_) | Row::Unknown,
            ) => return None,
        })
    }
}

impl Store {
    /// Notes from now on what other hosts are to hear of, if there are any.
    pub(super) fn open_outbox(&mut self) {
        if self.settings.shares {
            let outbox = Outbox::new(self.metrics.outbox_overflows.clone());
            self.note_changes(Ear::Others, outbox.bell());
            self.outbox = Some(outbox);
        }
    }

    /// What may be known elsewhere that the verdict on `attempt` hangs on, and is not known here:
    /// nothing where it would pass, or be refused, in any case, and where its tuple is known. Changes
    /// nothing.
    pub fn missing(&self, attempt: &Attempt<'_>, now: Timestamp) -> Vec<SharedKey> {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        if !self.would_hold(policy, attempt, now) {
            return Vec::new();
        }
        let keyed = Keyed::of(&self.seed, policy, attempt);
        let tuple = self.seed.tuple_key(keyed.network, attempt);
        if self.knows_tuple(policy, &tuple, now) {
            return Vec::new();
        }
        let mut missing = vec![SharedKey::Tuple(tuple)];
        if let Some(domain) = policy::identity(policy, attempt) {
            let by_domain = self.seed.domain_tuple_key(domain, attempt);
            if self.knows_tuple(policy, &by_domain, now) {
                return Vec::new();
            }
            missing.push(SharedKey::Tuple(by_domain));
            missing.push(SharedKey::Trust(
                self.seed.domain_trust_key(domain, attempt),
            ));
        }
        if never_trusts(policy, attempt).is_none() {
            missing.push(SharedKey::Trust(
                self.seed.trust_key(keyed.network, attempt),
            ));
            let by_content = self.seed.content_trust_key(policy.content.trust, attempt);
            missing.extend(by_content.map(SharedKey::Trust));
        }
        missing.push(SharedKey::Reputation(keyed.network_key));
        if policy.mode.reads() {
            missing.push(SharedKey::Pair(keyed.pair.tag()));
        }
        missing.retain(|key| !self.holds_alive(*key, policy, now));
        missing
    }

    /// The fingerprint of a message that was read, if it may be known elsewhere and is not here.
    pub fn missing_content(
        &self,
        attempt: &Attempt<'_>,
        message: &policy::MessageHasher,
        now: Timestamp,
    ) -> Option<SharedKey> {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        let network = ClientNetwork::of(policy, attempt);
        let fingerprint = message.fingerprint(network, attempt)?;
        let key = SharedKey::Content(fingerprint);
        (!self.holds_alive(key, policy, now)).then_some(key)
    }

    /// What an operator asks about or undoes, and is not known here: what the networks of a client are reputed
    /// for, and the tuple of a mail of it, as reverse-path and recipient.
    pub fn missing_of(&self, client: IpAddr, mail: Option<(&[u8], &[u8])>) -> Vec<SharedKey> {
        let policy = self.policy.load();
        let mut missing = Vec::new();
        for network in ClientNetwork::possible(&policy, client) {
            missing.push(SharedKey::Reputation(self.seed.network_key(network)));
            if let Some((reverse_path, recipient)) = mail {
                let attempt = attempt_of(client, reverse_path, recipient);
                missing.push(SharedKey::Tuple(self.seed.tuple_key(network, &attempt)));
            }
        }
        missing.retain(|key| !self.holds(*key));
        missing
    }

    /// Takes in what is heard: it becomes one with what is held, whatever comes first.
    pub fn absorb(&self, heard: Shared, now: Timestamp) -> Absorbed {
        let row = match heard {
            Shared::Row(row) => heard_by(row, now),
            Shared::Sentence(sentence) => return self.absorb_sentence(sentence, now),
        };
        let policy = self.policy.load();
        let policy = &**policy;
        // Of two of which one is void the other counts, whatever their lives: it was begun where the void one was
        // not known.
        macro_rules! revived {
            ($prior:ident, $it:ident) => {{
                let (mut prior, mut it) = ($prior, $it);
                match (prior.has_lapsed(policy, now), it.has_lapsed(policy, now)) {
                    (true, false) if it.life <= prior.life => {
                        it.life = prior.life.saturating_add(1);
                    }
                    (false, true) if prior.life <= it.life => {
                        prior.life = it.life.saturating_add(1);
                    }
                    _ => {}
                }
                (prior, it)
            }};
        }
        macro_rules! absorbed {
            ($table:expr, $key:expr, $record:expr) => {
                absorbed!($table, $key, $record, |prior, it| prior.merge(it))
            };
            (revived $table:expr, $key:expr, $record:expr, |$old:ident, $new:ident| $merge:expr) => {
                absorbed!($table, $key, $record, |prior, it| {
                    let ($old, $new) = revived!(prior, it);
                    $merge
                })
            };
            ($table:expr, $key:expr, $record:expr, |$prior:ident, $it:ident| $merged:expr) => {
                if $record.has_lapsed(policy, now) && !$table.contains(&$key) {
                    Absorbed::Void
                } else {
                    let merged = $table.update($key, |prior| {
                        let merged = prior.map_or($record, |&$prior| {
                            let $it = $record;
                            $merged
                        });
                        (merged, ())
                    });
                    absorbed(merged)
                }
            };
        }
        match row {
            Row::Tuple(key, record) => {
                let record = record.elsewhere();
                absorbed!(revived self.tuples, key, record, |old, new| old.heard(new))
            }
            Row::Trust(key, record) => {
                absorbed!(revived self.trust, key, record, |old, new| old.merge(new))
            }
            Row::Client(key, record) => absorbed!(self.clients.by_address, key, record),
            Row::Neighbours(key, record) => absorbed!(self.clients.by_network, key, record),
            Row::Helo(key, record) => absorbed!(self.hops.helos, key, record),
            Row::Pair(key, record) => {
                absorbed!(revived self.pairs.by_tag, key, record, |old, new| old.merge(new))
            }
            Row::Reputation(key, record) => {
                absorbed!(self.reputations.by_network, key, record, |prior, it| prior
                    .merge(it, policy))
            }
            Row::Content(key, record) => {
                let held = self.contents.by_message.get(&key);
                let record = held.map_or(record, |prior| revived!(prior, record).1);
                if record.has_lapsed(policy, now) && !self.contents.by_message.contains(&key) {
                    Absorbed::Void
                } else if self.contents.restore(key, record) {
                    Absorbed::Held
                } else {
                    Absorbed::NoRoom
                }
            }
            Row::Gone(_) | Row::Kept(..) | Row::Pardon(_) | Row::Sentence(_) | Row::Unknown => {
                Absorbed::Void
            }
        }
    }

    /// Hands what the other hosts are to hear of to `take`: what has changed since this was called last, and
    /// whether it is an operator's pardon. Returns whether more has changed than was noted, so that all
    /// would have to be told.
    pub fn take_changes(&self, mut take: impl FnMut(Shared, bool)) -> bool {
        let Some(outbox) = &self.outbox else {
            return false;
        };
        if !outbox.bell.has_noted() {
            return outbox.bell.take_overflow();
        }
        outbox.bell.answer();
        let mut changes = locked(&outbox.changes);
        changes.add_changes(self, Ear::Others);
        let forgiven = std::mem::take(&mut *locked(&outbox.forgiven));
        let given = changes.give_records(self, &mut |row| {
            let shared = self.shared(row);
            let is_pardon = shared.key().is_some_and(|key| forgiven.contains(&key));
            take(shared, is_pardon);
            Ok(())
        });
        debug_assert!(given.is_ok(), "taking cannot fail");
        changes.clear();
        outbox.bell.take_overflow()
    }

    /// Hands what every host is told of to `take`: sentences, pardons, strikes, HELO arguments.
    pub fn for_each_told(&self, mut take: impl FnMut(Shared)) {
        for pardon in self.pardons.all() {
            take(self.shared_sentence(pardon.client));
        }
        for sentence in self.sentences.all() {
            if self.pardons.get(sentence.client).is_none() {
                take(self.shared_sentence(sentence.client));
            }
        }
        walk(&self.clients.by_address, |_| true, Row::Client, &mut take);
        walk(
            &self.clients.by_network,
            |_| true,
            Row::Neighbours,
            &mut take,
        );
        walk(&self.hops.helos, |_| true, Row::Helo, &mut take);
    }

    /// The same of what other hosts ask for and still says something, as far as it was used since `since`;
    /// pairs, which do not tell when that was, all. `take` may wait: nothing is held meanwhile.
    pub fn for_each_asked(&self, since: Timestamp, now: Timestamp, mut take: impl FnMut(Shared)) {
        let policy = self.policy.load_full();
        let policy = &*policy;
        // Of attempts in one delivery round the first tells its time.
        let since = since.as_millis().saturating_sub(ROUND_LASTS);
        let since = Timestamp::from_millis(since);
        let second = Second::from(since);
        let take = &mut take;
        let is_wanted = |it: &Record| it.last_seen >= since && !it.has_lapsed(policy, now);
        walk(&self.tuples, is_wanted, Row::Tuple, take);
        let is_wanted = |it: &TrustRecord| it.last_used >= since && !it.has_lapsed(policy, now);
        walk(&self.trust, is_wanted, Row::Trust, take);
        let is_wanted = |it: &ContentRecord| it.last_seen >= second && !it.has_lapsed(policy, now);
        walk(&self.contents.by_message, is_wanted, Row::Content, take);
        let reputations = &self.reputations.by_network;
        walk(
            reputations,
            |it| it.updated >= second,
            Row::Reputation,
            take,
        );
        let is_wanted = |it: &PairRecord| !it.has_lapsed(policy, now);
        walk(&self.pairs.by_tag, is_wanted, Row::Pair, take);
    }

    /// What other hosts hear of a row.
    fn shared(&self, row: Row) -> Shared {
        match row {
            Row::Pardon(pardon) => self.shared_sentence(pardon.client),
            Row::Sentence(sentence) => self.shared_sentence(sentence.client),
            row => Shared::Row(row),
        }
    }

    /// What is known of the sentence of `client`, in force or lifted.
    fn shared_sentence(&self, client: SentencedClient) -> Shared {
        Shared::Sentence(SharedSentence {
            client,
            lifted: self.pardons.of(client),
            given: self.sentences.get(client),
        })
    }

    /// A sentence that began before the client was last forgiven, wherever that was, is void. One that adds
    /// nothing to what is held changes nothing, and so is told to nobody again.
    fn absorb_sentence(&self, heard: SharedSentence, now: Timestamp) -> Absorbed {
        let client = heard.client;
        let lifted = heard.lifted;
        let pardon = Pardon { client, lifted }.heard_at(now);
        if self.pardons.hear(pardon) && now.since(pardon.lifted) < PARDON_IS_NEWS {
            // What else is known of it has a record with a life of its own.
            self.failures.forgive(&self.seed, client);
        }
        let known = self.pardons.of(client);
        let held = self.sentences.get(client);
        if held.is_some_and(|held| held.since <= known) {
            self.sentences.lift(client, now);
            self.tell(Effect::Forgive(client));
        }
        // By the clock of who gave it: a little ahead of this one is still after the pardon.
        let Some(given) = heard.given.filter(|it| it.since > known) else {
            return Absorbed::Void;
        };
        let since = given.since.min(now.after(CLOCKS_DIFFER));
        let given = Sentence {
            since,
            until: given.until.min(since.after(Sentence::LONGEST)),
            ..given
        };
        if given.has_ended(now) {
            return Absorbed::Void;
        }
        let held = self.sentences.of(client, now);
        if held.is_some_and(|held| held.merge(given) == held) {
            return Absorbed::Held;
        }
        match self.punish(given) {
            Some(_) => Absorbed::Held,
            None => Absorbed::NoRoom,
        }
    }

    fn knows_tuple(&self, policy: &Policy, key: &TupleKey, now: Timestamp) -> bool {
        let tuple = self.find_tuple(key, now);
        tuple.is_some_and(|it| it.standing(policy, now) != Standing::Lapsed)
    }

    /// Whether a record is held here.
    pub fn holds(&self, key: SharedKey) -> bool {
        match key {
            SharedKey::Client(key) => self.clients.by_address.contains(&key),
            SharedKey::Content(key) => self.contents.by_message.contains(&key),
            SharedKey::Helo(key) => self.hops.helos.contains(&key),
            SharedKey::Neighbours(key) => self.clients.by_network.contains(&key),
            SharedKey::Pair(key) => self.pairs.by_tag.contains(&key),
            SharedKey::Reputation(key) => self.reputations.by_network.contains(&key),
            SharedKey::Sentence(client) => self.sentences.holds(client),
            SharedKey::Trust(key) => self.trust.contains(&key),
            SharedKey::Tuple(key) => self.tuples.contains(&key),
        }
    }

    /// Whether a record is held that still says something.
    fn holds_alive(&self, key: SharedKey, policy: &Policy, now: Timestamp) -> bool {
        macro_rules! is_alive {
            ($table:expr, $key:expr) => {
                $table
                    .get(&$key)
                    .is_some_and(|it| !it.has_lapsed(policy, now))
            };
        }
        match key {
            SharedKey::Client(key) => is_alive!(self.clients.by_address, key),
            SharedKey::Content(key) => is_alive!(self.contents.by_message, key),
            SharedKey::Helo(key) => is_alive!(self.hops.helos, key),
            SharedKey::Neighbours(key) => is_alive!(self.clients.by_network, key),
            SharedKey::Pair(key) => is_alive!(self.pairs.by_tag, key),
            SharedKey::Reputation(key) => is_alive!(self.reputations.by_network, key),
            SharedKey::Sentence(client) => self.sentences.of(client, now).is_some(),
            SharedKey::Trust(key) => is_alive!(self.trust, key),
            SharedKey::Tuple(key) => is_alive!(self.tuples, key),
        }
    }
}

/// Hands the entries of a table to `take`, as rows: those that are `wanted`.
fn walk<K: Key, V: Clone>(
    table: &Table<K, V>,
    wanted: impl Fn(&V) -> bool,
    row: impl Fn(K, V) -> Row,
    take: &mut impl FnMut(Shared),
) {
    let mut copy = Vec::new();
    for aisle in 0..table.aisles() {
        table.copy_of_aisle(aisle, |_, value| wanted(value), &mut copy);
        for (key, value) in copy.drain(..) {
            take(Shared::Row(row(key, value)));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn absorbed(merged: Result<(), Full>) -> Absorbed {
    match merged {
        Ok(()) => Absorbed::Held,
        Err(Full) => Absorbed::NoRoom,
    }
}

/// What was refused to a client before is not held against it for as long after it was forgiven elsewhere.
const PARDON_IS_NEWS: Duration = Duration::from_hours(1);
/// Milliseconds that a delivery round lasts at most, and some.
const ROUND_LASTS: u64 = 15 * 60 * 1_000;
/// Forgiven records that wait to be told as such.
const MOST_FORGIVEN: usize = 65_536;
