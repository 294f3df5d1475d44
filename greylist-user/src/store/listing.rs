//! Walks through the tables for `greygate list`.
//!
//! No walk stalls who judges: it goes aisle by aisle as the sweep does, holds one shard's lock at a
//! time, for reading, while it copies what is wanted of it, and keeps no more than the best rows that
//! were asked for. Addresses are looked up one by one, with no lock of a record held. What is wanted,
//! and what makes a row better than another, is the asker's word.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::{
    ClientKey, ClientNetwork, ClientRecord, ContentRecord, Fingerprint, Record, Repute, Sentence,
    SentencedClient, Timestamp, TrustKey, TrustRecord, TupleKey,
};

use super::Store;
use super::kept::Kept;
use super::strikes::addresses;
use super::table::{Key, Table};

/// Which records of a table are wanted.
pub struct Pick<'a, K, V> {
    /// Whether it is wanted. Asked under a lock: it looks at nothing else.
    pub wanted: &'a dyn Fn(&K, &V) -> bool,
    /// Whether it is, by its addresses; [`None`] asks for none, and else a record without them is not.
    pub addresses: Option<&'a dyn Fn(&Kept) -> bool>,
    /// The larger, the better.
    pub rank: &'a dyn Fn(&V) -> u64,
    /// So many at most.
    pub limit: usize,
}

/// The best of the records that are wanted, the very best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<R> {
    /// Those that were asked for.
    pub rows: Vec<R>,
    /// How many there are.
    pub matched: u64,
}

/// One record, with its addresses if they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord<K, V> {
    /// What it is remembered by.
    pub key: K,
    /// It.
    pub record: V,
    /// Its addresses.
    pub kept: Option<Kept>,
}

/// One client, with what is known of it by its address, if that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedClient {
    /// What it is remembered by.
    pub key: ClientKey,
    /// Its strikes and AUTH.
    pub record: ClientRecord,
    /// Its address, or `/64`.
    pub client: Option<IpNet>,
    /// What its network is reputed to be.
    pub repute: Option<Repute>,
    /// Its own sentence, if one is in force.
    pub sentence: Option<Sentence>,
}

impl Store {
    /// Whether addresses are kept.
    pub fn keeps_addresses(&self) -> bool {
        self.kept.is_some()
    }

    /// The best of the tuples.
    pub fn list_tuples(
        &self,
        pick: &Pick<'_, TupleKey, Record>,
    ) -> Listed<ListedRecord<TupleKey, Record>> {
        let kept = self.kept.as_ref().map(|kept| &kept.tuples);
        list(&self.tuples, kept, pick)
    }

    /// The best of the records of trust.
    pub fn list_trust(
        &self,
        pick: &Pick<'_, TrustKey, TrustRecord>,
    ) -> Listed<ListedRecord<TrustKey, TrustRecord>> {
        let kept = self.kept.as_ref().map(|kept| &kept.trust);
        list(&self.trust, kept, pick)
    }

    /// The best of the messages that were read.
    pub fn list_contents(
        &self,
        pick: &Pick<'_, Fingerprint, ContentRecord>,
    ) -> Listed<ListedRecord<Fingerprint, ContentRecord>> {
        list(&self.contents.by_message, None, pick)
    }

    /// The best of the sentences in force at `now`, a larger `rank` being better.
    pub fn list_sentences(
        &self,
        wanted: impl Fn(&Sentence) -> bool,
        rank: impl Fn(&Sentence) -> u64,
        limit: usize,
        now: Timestamp,
    ) -> Listed<Sentence> {
        let mut best = Best::of(limit);
        self.sentences.for_each_in_force(now, |sentence| {
            if wanted(sentence) {
                best.offer(rank(sentence), sentence.client, *sentence);
            }
        });
        best.into_listed()
    }

    /// The best of the clients. Of those in `network`, if one is named, as far as they can be found:
    /// who is sentenced, whose address is kept, and of an IPv4 network no wider than a `/16`
    /// everybody, since each address of it is asked for.
    pub fn list_clients(
        &self,
        pick: &Pick<'_, ClientKey, ClientRecord>,
        network: Option<IpNet>,
        now: Timestamp,
    ) -> Listed<ListedClient> {
        let table = &self.clients.by_address;
        let Some(network) = network else {
            let found = list(table, None, pick);
            let keys = found.rows.iter().map(|row| row.key);
            let known = self.addresses_of(&keys.collect(), now);
            let rows = found.rows.into_iter().map(|row| {
                let client = known.get(&row.key).copied();
                self.listed_client(row.key, row.record, client, now)
            });
            return Listed {
                rows: rows.collect(),
                matched: found.matched,
            };
        };
        let mut best = Best::of(pick.limit);
        self.visit_clients_within(network.trunc(), now, |key, client| {
            if let Some(record) = table.get(&key)
                && (pick.wanted)(&key, &record)
            {
                best.offer((pick.rank)(&record), key, (record, client));
            }
        });
        let (found, matched) = best.into_keyed();
        let rows = found.into_iter().map(|row| {
            let (record, client) = row.record;
            self.listed_client(row.key, record, Some(client), now)
        });
        Listed {
            rows: rows.collect(),
            matched,
        }
    }

    /// What the network of trust whose addresses are kept is reputed to be.
    pub fn repute_of_network(&self, network: IpNet, now: Timestamp) -> Repute {
        let prefix = network.prefix_len();
        let network = ClientNetwork::cut(network.addr(), prefix, prefix);
        let key = self.seed.network_key(network);
        self.reputations.standing(&self.policy.load(), &key, now)
    }

    fn listed_client(
        &self,
        key: ClientKey,
        record: ClientRecord,
        client: Option<IpNet>,
        now: Timestamp,
    ) -> ListedClient {
        let sentenced = client.and_then(|client| SentencedClient::try_from(client).ok());
        ListedClient {
            key,
            record,
            client,
            repute: client.map(|client| self.repute(client.addr(), now)),
            sentence: sentenced.and_then(|client| self.sentences.of(client, now)),
        }
    }

    /// What the networks are reputed to be that an address may belong to: the one that was heard of
    /// last, where both are on record.
    fn repute(&self, address: IpAddr, now: Timestamp) -> Repute {
        let policy = self.policy.load();
        let possible = ClientNetwork::possible(&policy, address).into_iter();
        let known = possible.filter_map(|network| {
            let key = self.seed.network_key(network);
            self.reputations.by_network.get(&key)
        });
        let latest = known.max_by_key(|record| record.updated);
        latest.map_or(Repute::Unknown, |record| record.standing(&policy, now))
    }

    /// The addresses of the clients of these keys, as far as they are kept or a sentence tells them.
    fn addresses_of(
        &self,
        keys: &BTreeSet<ClientKey>,
        now: Timestamp,
    ) -> HashMap<ClientKey, IpNet> {
        let kept = self.kept.as_ref();
        let kept = keys.iter().filter_map(|key| {
            let kept = kept?.clients.get(key)?;
            Some((*key, kept.client()))
        });
        let mut known: HashMap<_, _> = kept.collect();
        if known.len() < keys.len() {
            self.sentences.for_each_in_force(now, |sentence| {
                let key = self.seed.client_key(sentence.client);
                if keys.contains(&key) {
                    known.insert(key, sentence.client.network());
                }
            });
        }
        known
    }

    /// Shows each client in `network` that can be found to `visit`, once, whether anything is
    /// remembered of it or not.
    fn visit_clients_within(
        &self,
        network: IpNet,
        now: Timestamp,
        mut visit: impl FnMut(ClientKey, IpNet),
    ) {
        let kept = self.kept.as_ref().map(|kept| &kept.clients);
        let mut copies = Vec::new();
        for aisle in 0..kept.map_or(0, Table::aisles) {
            let lies_in = |_: &ClientKey, kept: &Kept| network.contains(&kept.client());
            if let Some(kept) = kept {
                kept.copy_of_aisle(aisle, lies_in, &mut copies);
            }
            for (key, kept) in copies.drain(..) {
                visit(key, kept.client());
            }
        }
        let mut visit_unkept = |client: SentencedClient| {
            let key = self.seed.client_key(client);
            if !kept.is_some_and(|kept| kept.contains(&key)) {
                visit(key, client.network());
            }
        };
        let mut has_asked_for_all = false;
        for address in addresses(network) {
            has_asked_for_all = true;
            visit_unkept(SentencedClient::host(address));
        }
        if has_asked_for_all {
            return;
        }
        let itself = SentencedClient::try_from(network).ok();
        let mut sentenced = self.sentences.within(network);
        sentenced
            .retain(|client| Some(*client) != itself && self.sentences.of(*client, now).is_some());
        itself.into_iter().chain(sentenced).for_each(visit_unkept);
    }
}

/// The best of `table`, with what is `kept` of them.
fn list<K: Key + Ord, V: Copy>(
    table: &Table<K, V>,
    kept: Option<&Table<K, Kept>>,
    pick: &Pick<'_, K, V>,
) -> Listed<ListedRecord<K, V>> {
    let mut best = Best::of(pick.limit);
    let mut copies = Vec::new();
    for aisle in 0..table.aisles() {
        table.copy_of_aisle(aisle, pick.wanted, &mut copies);
        for (key, record) in copies.drain(..) {
            let is_wanted = pick.addresses.is_none_or(|wanted| {
                let kept = kept.and_then(|kept| kept.get(&key));
                kept.is_some_and(|kept| wanted(&kept))
            });
            if is_wanted {
                best.offer((pick.rank)(&record), key, record);
            }
        }
    }
    let (mut rows, matched) = best.into_keyed();
    for row in &mut rows {
        row.kept = kept.and_then(|kept| kept.get(&row.key));
    }
    Listed { rows, matched }
}

/// The best so far: no more than are asked for, however many are offered.
struct Best<K, V> {
    /// The worst of them on top.
    heap: BinaryHeap<Reverse<Ranked<K, V>>>,
    limit: usize,
    offered: u64,
}

/// What is compared by its rank; by its key where ranks are equal, so that a list is the same twice.
struct Ranked<K, V> {
    rank: (u64, Reverse<K>),
    value: V,
}

impl<K: Ord + Copy, V> Best<K, V> {
    fn of(limit: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            limit,
            offered: 0,
        }
    }

    fn offer(&mut self, rank: u64, key: K, value: V) {
        self.offered += 1;
        let ranked = Ranked {
            rank: (rank, Reverse(key)),
            value,
        };
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(ranked));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && worst.0.rank < ranked.rank
        {
            *worst = Reverse(ranked);
        }
    }

    fn into_listed(self) -> Listed<V> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        Listed {
            rows: sorted.map(|Reverse(ranked)| ranked.value).collect(),
            matched: self.offered,
        }
    }

    fn into_keyed(self) -> (Vec<ListedRecord<K, V>>, u64) {
        let sorted = self.heap.into_sorted_vec().into_iter();
        let rows = sorted.map(|Reverse(ranked)| ListedRecord {
            key: ranked.rank.1.0,
            record: ranked.value,
            kept: None,
        });
        (rows.collect(), self.offered)
    }
}

impl<K: Ord, V> Ord for Ranked<K, V> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<K: Ord, V> PartialOrd for Ranked<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, V> PartialEq for Ranked<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<K: Ord, V> Eq for Ranked<K, V> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_are_kept_in_order_and_all_are_counted() {
        let mut best = Best::of(3);
        for (key, rank) in [5, 1, 9, 7, 9, 0, 3].into_iter().enumerate() {
            best.offer(rank, key, rank);
            assert!(best.heap.len() <= 3);
        }
        let listed = best.into_listed();
        assert_eq!((listed.rows, listed.matched), (vec![9, 9, 7], 7));
    }

    #[test]
    fn equal_rows_are_in_the_order_of_their_keys_whatever_comes_first() {
        for keys in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
            let mut best = Best::of(2);
            for key in keys {
                best.offer(7, key, ());
            }
            let (rows, _) = best.into_keyed();
            let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
            assert_eq!(keys, [1, 2]);
        }
    }
}
