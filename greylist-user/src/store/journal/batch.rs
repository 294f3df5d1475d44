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
use crate::store::table::KeyIsHash;

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
    /// Adds what has changed since, and empties the store's lists.
    pub(super) fn add_changes(&mut self, store: &Store) {
        add(&mut self.sentences, store.sentences.marks());
        add(&mut self.clients, store.clients.by_address.marks());
        add(&mut self.neighbours, store.clients.by_network.marks());
        add(&mut self.reputations, store.reputations.by_network.marks());
        add(&mut self.helos, store.hops.helos.marks());
        add(&mut self.contents, store.contents.by_message.marks());
        add(&mut self.pairs, store.pairs.by_tag.marks());
        add(&mut self.trust, store.trust.marks());
        add(&mut self.tuples, store.tuples.marks());
        if let Some(kept) = &store.kept {
            add(&mut self.kept_clients, kept.clients.marks());
            add(&mut self.kept_trust, kept.trust.marks());
            add(&mut self.kept_tuples, kept.tuples.marks());
        }
    }

    /// Hands the rows of all keys to `take`, as they are now, each read under the lock of its entry
    /// alone. Addresses come after the records that they belong to.
    pub(super) fn give_rows(
        &self,
        store: &Store,
        mut take: impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let take = &mut take;
        // Told last: rows of one kind are to follow each other.
        let mut gone = Vec::new();
        for client in &self.sentences {
            match store.sentences.get(*client) {
                Some(sentence) => take(Row::Sentence(sentence))?,
                None => gone.push(Gone::Sentence(*client)),
            }
        }
        macro_rules! give {
            ($keys:ident, $table:expr, $row:expr, $gone:expr) => {
                for key in &self.$keys {
                    match $table.get(key) {
                        Some(record) => take($row(*key, record))?,
                        None => gone.push($gone(*key)),
                    }
                }
            };
        }
        let clients = &store.clients;
        give!(clients, clients.by_address, Row::Client, Gone::Client);
        give!(
            neighbours,
            clients.by_network,
            Row::Neighbours,
            Gone::Neighbours
        );
        let reputations = &store.reputations.by_network;
        give!(reputations, reputations, Row::Reputation, Gone::Reputation);
        give!(helos, store.hops.helos, Row::Helo, Gone::Helo);
        give!(
            contents,
            store.contents.by_message,
            Row::Content,
            Gone::Content
        );
        give!(pairs, store.pairs.by_tag, Row::Pair, Gone::Pair);
        give!(trust, store.trust, Row::Trust, Gone::Trust);
        give!(tuples, store.tuples, Row::Tuple, Gone::Tuple);
        for gone in gone.drain(..) {
            take(Row::Gone(gone))?;
        }
        let Some(kept) = &store.kept else {
            return Ok(());
        };
        macro_rules! give_kept {
            ($keys:ident, $table:expr, $of:path) => {
                give!(
                    $keys,
                    $table,
                    |key, kept| Row::Kept($of(key), kept),
                    |key| Gone::Kept($of(key))
                )
            };
        }
        give_kept!(kept_clients, kept.clients, KeptOf::Client);
        give_kept!(kept_trust, kept.trust, KeptOf::Trust);
        give_kept!(kept_tuples, kept.tuples, KeptOf::Tuple);
        gone.into_iter().try_for_each(|gone| take(Row::Gone(gone)))
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
