//! What other hosts of the site know: what is asked of them, what is heard of them, and what they are told.
//!
//! Knows which records an attempt hangs on, and how a record that is heard of becomes one with what is
//! held. Leaves to `cluster` where the others are and how they are reached. Whoever hears never waits for
//! anybody: a row is merged in the lock of its entry, like an attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;

use crate::policy::{
    self, Attempt, ClientNetwork, Effect, Policy, Second, Sentence, SentencedClient, SharedKey,
    Standing, Timestamp, TupleKey,
};

use super::Store;
use super::changes::{Bell, Changes, Ear};
use super::codec::Row;
use super::import::heard_by;
use super::judge::Keyed;
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
    /// When clients were forgiven.
    pardons: Mutex<HashMap<SentencedClient, Timestamp>>,
}

impl Outbox {
    fn new(overflows: Counter) -> Self {
        Self {
            bell: Arc::new(Bell::new(false, overflows)),
            changes: Mutex::default(),
            pardons: Mutex::default(),
        }
    }

    /// Where lists say that something was noted.
    fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Notes that `client` was forgiven.
    pub(super) fn note_pardon(&self, client: SentencedClient, now: Timestamp) {
        let mut pardons = locked(&self.pardons);
        if pardons.len() < MOST_PARDONS || pardons.contains_key(&client) {
            pardons.insert(client, now);
        } else {
            self.bell.overflow();
        }
    }
}

impl Shared {
    fn of(row: Row) -> Self {
        match row {
            Row::Sentence(given) => Self::Sentence(SharedSentence {
                client: given.client,
                lifted: Timestamp::NEVER,
                given: Some(given),
            }),
            row => Self::Row(row),
        }
    }

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
            Self::Row(Row::Gone(_) | Row::Kept(..) | Row::Sentence(_) | Row::Unknown) => {
                return None;
            }
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
    /// nothing where it is exempt, refused or spared the wait, where its tuple is known, and where its
    /// sender is trusted. Changes nothing.
    pub fn missing(&self, attempt: &Attempt<'_>, now: Timestamp) -> Vec<SharedKey> {
        let policy = self.policy.load();
        if policy::exempt(&policy, attempt).is_some()
            || policy::denial(&policy, attempt).is_some_and(|(_, refusal)| refusal.is_some())
        {
            return Vec::new();
        }
        let policy = policy.for_recipient(attempt.recipient);
        if policy::spares_the_wait(policy, attempt).is_some()
            || self.is_turned_away(policy, attempt, now)
        {
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

    /// Takes in what is heard: it becomes one with what is held, whatever comes first.
    pub fn absorb(&self, heard: Shared, now: Timestamp) -> Absorbed {
        let row = match heard {
            Shared::Row(row) => heard_by(row, now),
            Shared::Sentence(sentence) => return self.absorb_sentence(sentence, now),
        };
        let policy = self.policy.load();
        let policy = &**policy;
        macro_rules! absorbed {
            ($table:expr, $key:expr, $record:expr) => {
                absorbed!($table, $key, $record, |prior, it| prior.merge(it))
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
                absorbed!(self.tuples, key, record.elsewhere(), |prior, it| prior
                    .heard(it))
            }
            Row::Trust(key, record) => absorbed!(self.trust, key, record),
            Row::Client(key, record) => absorbed!(self.clients.by_address, key, record),
            Row::Neighbours(key, record) => absorbed!(self.clients.by_network, key, record),
            Row::Helo(key, record) => absorbed!(self.hops.helos, key, record),
            Row::Pair(key, record) => absorbed!(self.pairs.by_tag, key, record),
            Row::Reputation(key, record) => {
                absorbed!(self.reputations.by_network, key, record, |prior, it| prior
                    .merge(it, policy))
            }
            Row::Content(key, record) => {
                if record.has_lapsed(policy, now) && !self.contents.by_message.contains(&key) {
                    Absorbed::Void
                } else if self.contents.restore(key, record) {
                    Absorbed::Held
                } else {
                    Absorbed::NoRoom
                }
            }
            Row::Gone(_) | Row::Kept(..) | Row::Sentence(_) | Row::Unknown => Absorbed::Void,
        }
    }

    /// Hands what the other hosts are to hear of to `take`: what has changed since this was called last.
    /// Returns whether more has than was noted, so that all would have to be told.
    pub fn take_changes(&self, mut take: impl FnMut(Shared)) -> bool {
        let Some(outbox) = &self.outbox else {
            return false;
        };
        if !outbox.bell.has_noted() && locked(&outbox.pardons).is_empty() {
            return outbox.bell.take_overflow();
        }
        outbox.bell.answer();
        let mut changes = locked(&outbox.changes);
        changes.add_changes(self, Ear::Others);
        for (client, lifted) in std::mem::take(&mut *locked(&outbox.pardons)) {
            take(Shared::Sentence(SharedSentence {
                client,
                lifted,
                given: None,
            }));
        }
        let given = changes.give_records(self, &mut |row| {
            take(Shared::of(row));
            Ok(())
        });
        debug_assert!(given.is_ok(), "taking cannot fail");
        changes.clear();
        outbox.bell.take_overflow()
    }

    /// Hands what every host is told of to `take`: sentences, strikes, HELO arguments.
    pub fn for_each_told(&self, mut take: impl FnMut(Shared)) {
        for sentence in self.sentences.all() {
            take(Shared::of(Row::Sentence(sentence)));
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

    /// The same of what other hosts ask for, as far as it was used since `since`. `take` may wait: nothing is
    /// held meanwhile.
    pub fn for_each_asked(&self, since: Timestamp, mut take: impl FnMut(Shared)) {
        let second = Second::from(since);
        let take = &mut take;
        walk(&self.tuples, |it| it.last_seen >= since, Row::Tuple, take);
        walk(&self.trust, |it| it.last_used >= since, Row::Trust, take);
        let contents = &self.contents.by_message;
        walk(contents, |it| it.last_seen >= second, Row::Content, take);
        let reputations = &self.reputations.by_network;
        walk(
            reputations,
            |it| it.updated >= second,
            Row::Reputation,
            take,
        );
        walk(
            &self.pairs.by_tag,
            |it| it.first_seen >= second,
            Row::Pair,
            take,
        );
    }

    fn absorb_sentence(&self, heard: SharedSentence, now: Timestamp) -> Absorbed {
        // A clock that is ahead must not forgive what is still to come, nor punish for years.
        let lifted = heard.lifted.min(now);
        let held = self.sentences.get(heard.client);
        if held.is_some_and(|held| held.since <= lifted) {
            self.sentences.lift(heard.client, now);
            self.tell(Effect::Forgive(heard.client));
        }
        let Some(given) = heard.given else {
            return Absorbed::Void;
        };
        let since = given.since.min(now);
        let given = Sentence {
            since,
            until: given.until.min(since.after(Sentence::LONGEST)),
            ..given
        };
        if given.since <= lifted || given.has_ended(now) {
            return Absorbed::Void;
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
            take(Shared::of(row(key, value)));
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

/// Clients whose pardon may wait to be told.
const MOST_PARDONS: usize = 65_536;
