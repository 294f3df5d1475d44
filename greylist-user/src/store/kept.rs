//! Addresses in clear, kept beside the records whose keys are hashes, where `[store] keep_addresses`
//! asks for it.
//!
//! Kept as long as the record and no longer: they go when the sweep or an operator removes it, and
//! are neither shown nor written once it has lapsed. Bounded by records and by bytes, whatever
//! strangers send; a record that finds no room here is none the worse, and is counted.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;

use crate::policy::{Attempt, ClientKey, ClientNetwork, SentencedClient, TrustKey, TupleKey};

use super::Settings;
use super::table::{Key, Table};

/// Whose addresses they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptOf {
    /// A client's: its own.
    Client(ClientKey),
    /// Trust's: the client network and the folded sender.
    Trust(TrustKey),
    /// A tuple's: who tried first, the reverse-path and the recipient.
    Tuple(TupleKey),
}

/// Addresses as they are kept: one allocation, shared with whoever is looking at them.
///
/// ```text
/// prefix u8 | client 16, IPv4 mapped | sender length u16 | recipient length u16 | sender | recipient
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Arc<[u8]>);

impl Kept {
    /// The client, sender and recipient; [`None`] if a path is longer than SMTP has any, if the
    /// network's bits go beyond its prefix, or if it is IPv4 in the clothes of IPv6: what is kept is
    /// written, and must be read again.
    pub fn of(client: IpNet, sender: &[u8], recipient: &[u8]) -> Option<Self> {
        if sender.len() > LONGEST || recipient.len() > LONGEST {
            return None;
        }
        let is_written_plainly = client.addr().is_ipv4() || client.addr().to_canonical().is_ipv6();
        if !is_written_plainly || client.trunc() != client {
            return None;
        }
        let mapped = match client.addr() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let length = |path: &[u8]| u16::try_from(path.len()).ok();
        let mut bytes = Vec::with_capacity(FRONT + sender.len() + recipient.len());
        bytes.push(client.prefix_len());
        bytes.extend_from_slice(&mapped.octets());
        bytes.extend_from_slice(&length(sender)?.to_le_bytes());
        bytes.extend_from_slice(&length(recipient)?.to_le_bytes());
        bytes.extend_from_slice(sender);
        bytes.extend_from_slice(recipient);
        Some(Self(bytes.into()))
    }

    /// The address, or the network, of the client.
    pub fn client(&self) -> IpNet {
        let octets: [u8; 16] = self.0[1..17].try_into().unwrap_or_default();
        let address = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
        IpNet::new(address, self.0[0]).unwrap_or_else(|_| IpNet::from(address))
    }

    /// The reverse-path; of trust, what is left of it when folded.
    pub fn sender(&self) -> &[u8] {
        &self.0[FRONT..FRONT + self.length(17)]
    }

    /// The recipient; empty of what is not to one.
    pub fn recipient(&self) -> &[u8] {
        &self.0[FRONT + self.length(17)..]
    }

    /// As it is written to disk.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it was written; [`None`] if that makes no sense. What a newer greygate appended is left off.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let length = |at: usize| {
            let field = bytes.get(at..at + 2)?;
            Some(usize::from(u16::from_le_bytes(field.try_into().ok()?)))
        };
        let (sender, recipient) = (length(17)?, length(19)?);
        let end = FRONT + sender + recipient;
        if sender > LONGEST || recipient > LONGEST {
            return None;
        }
        let kept = Self(bytes.get(..end)?.into());
        let octets: [u8; 16] = kept.0[1..17].try_into().ok()?;
        IpNet::new(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(), kept.0[0]).ok()?;
        Some(kept)
    }

    fn length(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }

    /// Bytes that it takes from the heap: two counts of who holds it, and what malloc rounds up.
    fn cost(&self) -> u64 {
        (2 * size_of::<usize>() + self.0.len() + size_of::<usize>()).next_multiple_of(16) as u64
    }
}

/// The tables of what is kept.
#[derive(Debug)]
pub(super) struct KeptTables {
    pub(super) clients: Table<ClientKey, Kept>,
    pub(super) trust: Table<TrustKey, Kept>,
    pub(super) tuples: Table<TupleKey, Kept>,
    /// Bytes that all of them take from the heap.
    bytes: AtomicU64,
    /// Most of them.
    most_bytes: u64,
    /// Counts the records that found no room.
    unkept: Counter,
}

impl KeptTables {
    /// Empty tables for as many records as `settings` allow. Memory is taken as they fill.
    pub(super) fn growing(settings: &Settings, unkept: Counter) -> Self {
        Self {
            clients: Table::growing(settings.clients),
            trust: Table::growing(settings.capacity),
            tuples: Table::growing(settings.capacity),
            bytes: AtomicU64::new(0),
            most_bytes: most_bytes(settings),
            unkept,
        }
    }

    /// Records whose addresses are kept.
    pub(super) fn len(&self) -> usize {
        self.clients.len() + self.trust.len() + self.tuples.len()
    }

    /// Bytes that are taken from the heap.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps who sends what to whom beside the tuple. One whose life `begins` may have come from
    /// another address of its network than before.
    pub(super) fn note_tuple(&self, key: TupleKey, attempt: &Attempt<'_>, begins: bool) {
        if begins || !self.tuples.contains(&key) {
            let client = IpNet::from(attempt.client.to_canonical());
            let kept = Kept::of(client, attempt.reverse_path, attempt.recipient);
            self.keep(&self.tuples, key, kept);
        }
    }

    /// Keeps whose trust it is.
    pub(super) fn note_trust(
        &self,
        key: TrustKey,
        network: ClientNetwork,
        sender: impl FnOnce() -> Vec<u8>,
    ) {
        if !self.trust.contains(&key) {
            let network = network.to_net();
            let kept = network.and_then(|network| Kept::of(network, &sender(), b""));
            self.keep(&self.trust, key, kept);
        }
    }

    /// Keeps which client it is.
    pub(super) fn note_client(&self, key: ClientKey, client: SentencedClient) {
        if !self.clients.contains(&key) {
            self.keep(&self.clients, key, Kept::of(client.network(), b"", b""));
        }
    }

    /// Takes back what was on disk. Says whether there was room.
    pub(super) fn restore(&self, of: KeptOf, kept: Kept) -> bool {
        let kept = Some(kept);
        match of {
            KeptOf::Client(key) => self.keep(&self.clients, key, kept),
            KeptOf::Trust(key) => self.keep(&self.trust, key, kept),
            KeptOf::Tuple(key) => self.keep(&self.tuples, key, kept),
        }
    }

    /// The records of these keys are gone.
    pub(super) fn forget<K: Key>(&self, table: &Table<K, Kept>, keys: &[K]) {
        for key in keys {
            if let Some(gone) = table.discard(key) {
                self.bytes.fetch_sub(gone.cost(), Ordering::Relaxed);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.clients.clear();
        self.trust.clear();
        self.tuples.clear();
        self.bytes.store(0, Ordering::Relaxed);
    }

    fn keep<K: Key>(&self, table: &Table<K, Kept>, key: K, kept: Option<Kept>) -> bool {
        let is_kept = kept.is_some_and(|kept| self.enter(table, key, kept));
        if !is_kept {
            self.unkept.inc();
        }
        is_kept
    }

    fn enter<K: Key>(&self, table: &Table<K, Kept>, key: K, kept: Kept) -> bool {
        let cost = kept.cost();
        if self.bytes.fetch_add(cost, Ordering::Relaxed) + cost > self.most_bytes {
            self.bytes.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        let replaced = table.update(key, |prior| (kept, prior.map_or(0, Kept::cost)));
        let spare = *replaced.as_ref().unwrap_or(&cost);
        self.bytes.fetch_sub(spare, Ordering::Relaxed);
        replaced.is_ok()
    }
}

/// Bytes that the addresses may take from the heap: as many as all records of addresses of ordinary
/// length take, clients of none but their own.
pub(super) fn most_bytes(settings: &Settings) -> u64 {
    let records = (settings.capacity as u64).saturating_mul(2);
    let of_clients = (settings.clients as u64).saturating_mul(ORDINARY_CLIENT);
    records.saturating_mul(ORDINARY).saturating_add(of_clients)
}

/// Longest path that is kept: 64 characters, `@`, and 255 (RFC 5321).
const LONGEST: usize = 320;

/// Prefix, client and two lengths.
const FRONT: usize = 1 + 16 + 2 + 2;

/// Bytes of the heap for a sender and a recipient of some 33 characters each.
const ORDINARY: u64 = 112;

/// Bytes of the heap for a client without either.
const ORDINARY_CLIENT: u64 = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::ATTEMPT;
    use crate::policy::{Policy, Seed};

    fn tables(capacity: usize) -> KeptTables {
        let settings = Settings {
            capacity,
            clients: 0,
            ..Settings::default()
        };
        KeptTables::growing(&settings, Counter::default())
    }

    fn key(number: u8) -> TupleKey {
        TupleKey::from_bytes([number; 16])
    }

    #[test]
    fn gives_back_what_was_kept() {
        for client in ["192.0.2.7/32", "192.0.2.0/24", "2001:db8::/64"] {
            let client: IpNet = client.parse().expect("a network");
            let kept = Kept::of(client, b"", b"r@here.example").expect("it is short");
            assert_eq!(kept.client(), client);
            assert_eq!(
                (kept.sender(), kept.recipient()),
                (&b""[..], &b"r@here.example"[..])
            );
            let read = Kept::from_bytes(&[kept.as_bytes(), b"of the future"].concat());
            assert_eq!(read, Some(kept));
        }
    }

    #[test]
    fn what_is_kept_can_be_read_again() {
        for client in [
            "::ffff:192.0.2.7/128",
            "::ffff:192.0.2.0/120",
            "192.0.2.7/24",
        ] {
            let client: IpNet = client.parse().expect("a network");
            assert_eq!(Kept::of(client, b"s@a", b"r@b"), None, "{client}");
        }
        for client in ["0.0.0.0/0", "192.0.2.7/32", "::/0", "2001:db8::7/128"] {
            let client: IpNet = client.parse().expect("a network");
            let kept = Kept::of(client, b"s@a", b"r@b").expect("it is a network");
            assert_eq!(Kept::from_bytes(kept.as_bytes()), Some(kept), "{client}");
        }
    }

    #[test]
    fn path_that_no_smtp_has_is_not_kept_and_is_counted() {
        let tables = tables(10);
        let long = vec![b'x'; LONGEST + 1];
        for (number, reverse_path, recipient) in [(1, &long[..], &b"r@b"[..]), (2, b"s@a", &long)] {
            let attempt = Attempt {
                reverse_path,
                recipient,
                ..ATTEMPT
            };
            tables.note_tuple(key(number), &attempt, true);
        }
        assert_eq!((tables.tuples.len(), tables.unkept.get()), (0, 2));
        assert_eq!(tables.bytes(), 0);
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let tables = tables(4);
        let long = vec![b'x'; LONGEST];
        let attempt = Attempt {
            reverse_path: &long,
            recipient: &long,
            ..ATTEMPT
        };
        for number in 0..4 {
            tables.note_tuple(key(number), &attempt, true);
        }
        assert!(tables.bytes() <= tables.most_bytes);
        assert_eq!(
            (tables.tuples.len(), tables.unkept.get()),
            (1, 3),
            "896 bytes hold one"
        );
        tables.note_tuple(key(0), &ATTEMPT, true);
        assert!(tables.unkept.get() == 3, "a shorter one in its place");
        tables.forget(&tables.tuples, &[key(0), key(1)]);
        assert_eq!((tables.tuples.len(), tables.bytes()), (0, 0));
    }

    #[test]
    fn records_beyond_the_capacity_are_counted() {
        let tables = tables(1);
        let short = Attempt {
            reverse_path: b"s@a",
            recipient: b"r@b",
            ..ATTEMPT
        };
        for number in 0..3 {
            tables.note_tuple(key(number), &short, true);
        }
        assert_eq!((tables.tuples.len(), tables.unkept.get()), (1, 2));
    }

    #[test]
    fn trust_is_of_a_network_and_a_client_of_itself() {
        let tables = KeptTables::growing(&Settings::default(), Counter::default());
        let seed = Seed::from_bytes([7; Seed::LENGTH]);
        let network = ClientNetwork::of(&Policy::default(), &ATTEMPT);
        let key = seed.trust_key(network, &ATTEMPT);
        tables.note_trust(key, network, || b"list-#@sender.example".to_vec());
        let kept = tables.trust.get(&key).expect("there is room");
        assert_eq!(kept.client().to_string(), "192.0.2.0/24");
        assert_eq!(kept.sender(), b"list-#@sender.example");
        let client = SentencedClient::of(ATTEMPT.client);
        tables.note_client(seed.client_key(client), client);
        let kept = tables
            .clients
            .get(&seed.client_key(client))
            .expect("there is room");
        assert_eq!(kept.client().to_string(), "192.0.2.7/32");
    }

    #[test]
    fn nonsense_on_disk_is_no_address() {
        let kept = Kept::of("192.0.2.7/32".parse().expect("a network"), b"s@a", b"r@b");
        let bytes = kept.expect("it is short").as_bytes().to_vec();
        for length in 0..bytes.len() {
            assert_eq!(Kept::from_bytes(&bytes[..length]), None, "{length}");
        }
        for (at, byte) in [(0, 33), (17, 0xff), (18, 0xff), (20, 0xff)] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(Kept::from_bytes(&wrong), None, "byte {at}");
        }
    }
}
