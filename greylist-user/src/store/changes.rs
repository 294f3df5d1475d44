//! What has changed: the keys of changed entries, each once, and the rows that they stand for.
//!
//! The journal asks, and so does who tells other hosts. Each has lists of its own in every table, since
//! neither shall wait for the other.

mod marks;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash};
use std::io;
use std::sync::Arc;

use crate::policy::{
    ClientKey, Fingerprint, HeloKey, NetworkKey, PairTag, SentencedClient, TrustKey, TupleKey,
};
use crate::store::Store;
use crate::store::codec::{Gone, Row};
use crate::store::kept::KeptOf;
use crate::store::table::{Key, KeyIsHash, Table};

pub(super) use marks::{Bell, Marks};

/// Who asks for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ear {
    /// The journal.
    Journal,
    /// Who tells other hosts of the site.
    Others,
}

/// The lists of changed keys of one table, one for each who asks.
#[derive(Debug)]
pub(super) struct Ears<K> {
    journal: Option<Marks<K>>,
    others: Option<Marks<K>>,
}

impl<K: Copy + Eq> Ears<K> {
    /// Notes from now on for `ear`.
    pub(super) fn open(&mut self, ear: Ear, bell: &Arc<Bell>) {
        let marks = Some(Marks::new(Arc::clone(bell)));
        match ear {
            Ear::Journal => self.journal = marks,
            Ear::Others => self.others = marks,
        }
    }

    /// What was noted for `ear`, if it asks.
    pub(super) fn marks(&self, ear: Ear) -> Option<&Marks<K>> {
        match ear {
            Ear::Journal => self.journal.as_ref(),
            Ear::Others => self.others.as_ref(),
        }
    }

    /// Notes a change of `key`, of which `spread` gives 32 uniform bits.
    pub(super) fn note(&self, spread: impl Fn() -> u32, key: K) {
        for marks in [&self.journal, &self.others].into_iter().flatten() {
            marks.note(spread(), key);
        }
    }
}

/// Nobody asks.
impl<K> Default for Ears<K> {
    fn default() -> Self {
        Self {
            journal: None,
            others: None,
        }
    }
}

impl Store {
    /// Notes from now on for `ear` what changes.
    pub(super) fn note_changes(&mut self, ear: Ear, bell: &Arc<Bell>) {
        self.sentences.note_changes(ear, bell);
        self.pardons.note_changes(ear, bell);
        self.clients.by_address.note_changes(ear, bell);
        self.clients.by_network.note_changes(ear, bell);
        self.reputations.by_network.note_changes(ear, bell);
        self.hops.helos.note_changes(ear, bell);
        self.contents.by_message.note_changes(ear, bell);
        self.pairs.by_tag.note_changes(ear, bell);
        self.trust.note_changes(ear, bell);
        self.tuples.note_changes(ear, bell);
        // Addresses in clear stay on their host.
        if let Some(kept) = self.kept.as_mut().filter(|_| ear == Ear::Journal) {
            kept.clients.note_changes(ear, bell);
            kept.trust.note_changes(ear, bell);
            kept.tuples.note_changes(ear, bell);
        }
    }
}

/// Changed keys of every table that a snapshot holds.
#[derive(Debug, Default)]
pub(super) struct Changes {
    sentences: HashSet<SentencedClient>,
    pardons: HashSet<SentencedClient>,
    clients: Keys<ClientKey>,
    neighbours: Keys<ClientKey>,
    reputations: Keys<NetworkKey>,
    helos: Keys<HeloKey>,
    contents: Keys<Fingerprint>,
    pairs: Keys<PairTag>,
    trust: Keys<TrustKey>,
    tuples: Keys<TupleKey>,
    kept_clients: Keys<ClientKey>,
    kept_trust: Keys<TrustKey>,
    kept_tuples: Keys<TupleKey>,
}

/// Their bits are uniform already.
type Keys<K> = HashSet<K, BuildHasherDefault<KeyIsHash>>;

macro_rules! each_list {
    ($changes:expr, $list:ident => $of_each:expr) => {
        for_lists!($changes, $list => $of_each;
            sentences pardons clients neighbours reputations helos contents pairs trust tuples kept_clients
            kept_trust kept_tuples)
    };
}

macro_rules! for_lists {
    ($changes:expr, $list:ident => $of_each:expr; $($name:ident)*) => {
        $({
            let $list = &mut $changes.$name;
            $of_each;
        })*
    };
}

impl Changes {
    /// Adds what has changed since, and empties the store's lists: first those of addresses, which are noted
    /// after the records that they belong to, so that none is told of before its record.
    pub(super) fn add_changes(&mut self, store: &Store, ear: Ear) {
        if let Some(kept) = &store.kept {
            add(&mut self.kept_clients, kept.clients.marks(ear));
            add(&mut self.kept_trust, kept.trust.marks(ear));
            add(&mut self.kept_tuples, kept.tuples.marks(ear));
        }
        add(&mut self.sentences, store.sentences.marks(ear));
        add(&mut self.pardons, store.pardons.marks(ear));
        add(&mut self.clients, store.clients.by_address.marks(ear));
        add(&mut self.neighbours, store.clients.by_network.marks(ear));
        add(
            &mut self.reputations,
            store.reputations.by_network.marks(ear),
        );
        add(&mut self.helos, store.hops.helos.marks(ear));
        add(&mut self.contents, store.contents.by_message.marks(ear));
        add(&mut self.pairs, store.pairs.by_tag.marks(ear));
        add(&mut self.trust, store.trust.marks(ear));
        add(&mut self.tuples, store.tuples.marks(ear));
    }

    /// Hands the rows of all keys to `take`, as they are now, each read under the lock of its entry
    /// alone. What is gone comes first: in a full table it makes the room for what is new. Addresses come
    /// after the records that they belong to.
    pub(super) fn give_rows(
        &self,
        store: &Store,
        mut take: impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        self.give_gone(store, &mut take)?;
        // What goes from here on is noted anew.
        self.give_records(store, &mut take)?;
        self.give_addresses(store, &mut take)
    }

    fn give_gone(
        &self,
        store: &Store,
        take: &mut impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let clients = &store.clients;
        let reputations = &store.reputations.by_network;
        let contents = &store.contents.by_message;
        for client in &self.sentences {
            if !store.sentences.holds(*client) {
                take(Row::Gone(Gone::Sentence(*client)))?;
            }
        }
        give_gone(&self.clients, &clients.by_address, Gone::Client, take)?;
        give_gone(
            &self.neighbours,
            &clients.by_network,
            Gone::Neighbours,
            take,
        )?;
        give_gone(&self.reputations, reputations, Gone::Reputation, take)?;
        give_gone(&self.helos, &store.hops.helos, Gone::Helo, take)?;
        give_gone(&self.contents, contents, Gone::Content, take)?;
        give_gone(&self.pairs, &store.pairs.by_tag, Gone::Pair, take)?;
        give_gone(&self.trust, &store.trust, Gone::Trust, take)?;
        give_gone(&self.tuples, &store.tuples, Gone::Tuple, take)?;
        if let Some(kept) = &store.kept {
            let gone = |key| Gone::Kept(KeptOf::Client(key));
            give_gone(&self.kept_clients, &kept.clients, gone, take)?;
            let gone = |key| Gone::Kept(KeptOf::Trust(key));
            give_gone(&self.kept_trust, &kept.trust, gone, take)?;
            let gone = |key| Gone::Kept(KeptOf::Tuple(key));
            give_gone(&self.kept_tuples, &kept.tuples, gone, take)?;
        }
        Ok(())
    }

    /// The same of the records that are held, without their addresses.
    pub(super) fn give_records(
        &self,
        store: &Store,
        take: &mut impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let clients = &store.clients;
        let reputations = &store.reputations.by_network;
        let contents = &store.contents.by_message;
        for client in &self.sentences {
            if let Some(sentence) = store.sentences.get(*client) {
                take(Row::Sentence(sentence))?;
            }
        }
        for client in &self.pardons {
            if let Some(pardon) = store.pardons.get(*client) {
                take(Row::Pardon(pardon))?;
            }
        }
        give_held(&self.clients, &clients.by_address, Row::Client, take)?;
        give_held(&self.neighbours, &clients.by_network, Row::Neighbours, take)?;
        give_held(&self.reputations, reputations, Row::Reputation, take)?;
        give_held(&self.helos, &store.hops.helos, Row::Helo, take)?;
        give_held(&self.contents, contents, Row::Content, take)?;
        give_held(&self.pairs, &store.pairs.by_tag, Row::Pair, take)?;
        give_held(&self.trust, &store.trust, Row::Trust, take)?;
        give_held(&self.tuples, &store.tuples, Row::Tuple, take)
    }

    fn give_addresses(
        &self,
        store: &Store,
        take: &mut impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(kept) = &store.kept else {
            return Ok(());
        };
        let row = |key, kept| Row::Kept(KeptOf::Client(key), kept);
        give_held(&self.kept_clients, &kept.clients, row, take)?;
        let row = |key, kept| Row::Kept(KeptOf::Trust(key), kept);
        give_held(&self.kept_trust, &kept.trust, row, take)?;
        let row = |key, kept| Row::Kept(KeptOf::Tuple(key), kept);
        give_held(&self.kept_tuples, &kept.tuples, row, take)
    }

    /// Keys held.
    pub(super) fn len(&mut self) -> usize {
        let mut len = 0;
        each_list!(self, list => len += list.len());
        len
    }

    /// Forgets them, and gives back what a burst took.
    pub(super) fn clear(&mut self) {
        each_list!(self, list => {
            let used = list.len();
            list.clear();
            if list.capacity() > 4 * used.max(SMALL) {
                list.shrink_to(2 * used);
            }
        });
    }
}

/// Tells of those keys of which the table has nothing.
fn give_gone<K: Key, V: Clone>(
    keys: &Keys<K>,
    table: &Table<K, V>,
    gone: impl Fn(K) -> Gone,
    take: &mut impl FnMut(Row) -> io::Result<()>,
) -> io::Result<()> {
    let mut gone_keys = keys.iter().filter(|key| !table.contains(key));
    gone_keys.try_for_each(|key| take(Row::Gone(gone(*key))))
}

/// Tells of the others what the table has.
fn give_held<K: Key, V: Clone>(
    keys: &Keys<K>,
    table: &Table<K, V>,
    row: impl Fn(K, V) -> Row,
    take: &mut impl FnMut(Row) -> io::Result<()>,
) -> io::Result<()> {
    for key in keys {
        if let Some(held) = table.get(key) {
            take(row(*key, held))?;
        }
    }
    Ok(())
}

fn add<K: Copy + Eq + Hash, H: std::hash::BuildHasher>(
    keys: &mut HashSet<K, H>,
    marks: Option<&Marks<K>>,
) {
    if let Some(marks) = marks {
        marks.drain(|key| {
            keys.insert(key);
        });
    }
}

const SMALL: usize = 1_024;
