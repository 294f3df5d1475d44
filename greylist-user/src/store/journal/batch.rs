//! What is to be written next: the keys of changed entries, each once, and the rows that they stand for.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash};
use std::io;

use crate::policy::{
    ClientKey, Fingerprint, HeloKey, NetworkKey, PairTag, SentencedClient, TrustKey, TupleKey,
};
use crate::store::Store;
use crate::store::codec::{Gone, Row};
use crate::store::kept::KeptOf;
use crate::store::table::{Key, KeyIsHash, Table};

use super::marks::Marks;

/// Changed keys of every table that a snapshot holds.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sentences: HashSet<SentencedClient>,
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
    ($batch:expr, $list:ident => $of_each:expr) => {
        for_lists!($batch, $list => $of_each;
            sentences clients neighbours reputations helos contents pairs trust tuples kept_clients
            kept_trust kept_tuples)
    };
}

macro_rules! for_lists {
    ($batch:expr, $list:ident => $of_each:expr; $($name:ident)*) => {
        $({
            let $list = &mut $batch.$name;
            $of_each;
        })*
    };
}

impl Batch {
    /// Adds what has changed since, and empties the store's lists: first those of addresses, which are noted
    /// after the records that they belong to, so that none is told of before its record.
    pub(super) fn add_changes(&mut self, store: &Store) {
        if let Some(kept) = &store.kept {
            add(&mut self.kept_clients, kept.clients.marks());
            add(&mut self.kept_trust, kept.trust.marks());
            add(&mut self.kept_tuples, kept.tuples.marks());
        }
        add(&mut self.sentences, store.sentences.marks());
        add(&mut self.clients, store.clients.by_address.marks());
        add(&mut self.neighbours, store.clients.by_network.marks());
        add(&mut self.reputations, store.reputations.by_network.marks());
        add(&mut self.helos, store.hops.helos.marks());
        add(&mut self.contents, store.contents.by_message.marks());
        add(&mut self.pairs, store.pairs.by_tag.marks());
        add(&mut self.trust, store.trust.marks());
        add(&mut self.tuples, store.tuples.marks());
    }

    /// Hands the rows of all keys to `take`, as they are now, each read under the lock of its entry
    /// alone. What is gone comes first: in a full table it makes the room for what is new. Addresses come
    /// after the records that they belong to.
    pub(super) fn give_rows(
        &self,
        store: &Store,
        mut take: impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let take = &mut take;
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
        // What goes from here on is noted anew.
        for client in &self.sentences {
            if let Some(sentence) = store.sentences.get(*client) {
                take(Row::Sentence(sentence))?;
            }
        }
        give_held(&self.clients, &clients.by_address, Row::Client, take)?;
        give_held(&self.neighbours, &clients.by_network, Row::Neighbours, take)?;
        give_held(&self.reputations, reputations, Row::Reputation, take)?;
        give_held(&self.helos, &store.hops.helos, Row::Helo, take)?;
        give_held(&self.contents, contents, Row::Content, take)?;
        give_held(&self.pairs, &store.pairs.by_tag, Row::Pair, take)?;
        give_held(&self.trust, &store.trust, Row::Trust, take)?;
        give_held(&self.tuples, &store.tuples, Row::Tuple, take)?;
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
