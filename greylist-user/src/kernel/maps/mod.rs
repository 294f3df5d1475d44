//! The program's maps, in the words of the policy: sentences, allowed networks, counters, events.
//!
//! Knows keys and values; leaves how the program came onto an interface to `xdp`.

pub(super) mod batch;

use std::collections::HashSet;

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError, PerCpuArray},
};
use greylist_ebpf::abi::{self, ClientEntry, Counter, Ipv4Key, Ipv6Key, Level};
use ipnet::IpNet;

use super::{Change, Entry, FilterError, Settings, TimeBridge};
use crate::policy::{Sentence, SentenceLevel, SentencedClient, Timestamp};

/// The maps of a loaded program.
pub(super) struct Maps {
    ipv4: Table<Ipv4Key>,
    ipv6: Table<Ipv6Key>,
    counters: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Takes the maps out of `ebpf`, and writes into them what `settings` say.
    pub(super) fn take(ebpf: &mut Ebpf, settings: &Settings) -> Result<Self, FilterError> {
        Ok(Self {
            ipv4: Table::take(ebpf, abi::map::IPV4, "IPv4", settings.capacity)?,
            ipv6: Table::take(ebpf, abi::map::IPV6, "IPv6", settings.capacity)?,
            counters: take_counters(ebpf)?,
        })
    }

    /// See [`KernelFilter::apply`](super::KernelFilter::apply).
    pub(super) fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError> {
        let bridge = TimeBridge::at(now);
        let mut first_error = Ok(());
        for change in changes {
            if let Err(error) = self.change(change, bridge, now) {
                first_error = first_error.and(Err(error));
            }
        }
        first_error
    }

    /// See [`KernelFilter::entries`](super::KernelFilter::entries).
    pub(super) fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
        let bridge = TimeBridge::at(now);
        let mut entries = self
            .ipv4
            .read(bridge, |key| SentencedClient::of(key.network().into()))?;
        entries.append(
            &mut self
                .ipv6
                .read(bridge, |key| SentencedClient::of(key.network().into()))?,
        );
        Ok(entries)
    }

    /// See [`KernelFilter::allow`](super::KernelFilter::allow).
    pub(super) fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
        Ok(())
    }

    /// Tells the log what the kernel sampled since the last call.
    pub(super) fn tell_events(&mut self) {}

    /// Entries in the IPv4 map.
    pub(super) fn len_ipv4(&self) -> u64 {
        self.ipv4.len()
    }

    /// Entries in the IPv6 map.
    pub(super) fn len_ipv6(&self) -> u64 {
        self.ipv6.len()
    }

    /// Frames counted since the maps were made, by reason; all CPUs together.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.into_iter().map(|counter| {
            let frames = match self.counters.get(&counter.index(), 0) {
                Ok(frames) => frames.iter().sum(),
                Err(error) => {
                    tracing::warn!(counter = counter.name(), %error, "unreadable");
                    0
                }
            };
            (counter, frames)
        })
    }
    fn change(
        &mut self,
        change: &Change,
        bridge: TimeBridge,
        now: Timestamp,
    ) -> Result<(), FilterError> {
        match change {
            Change::Put(sentence) if sentence.has_ended(now) => self.remove(sentence.client),
            Change::Put(sentence) => self.put(sentence, bridge),
            Change::Remove(client) => self.remove(*client),
        }
    }

    fn put(&mut self, sentence: &Sentence, bridge: TimeBridge) -> Result<(), FilterError> {
        let level = match sentence.level {
            SentenceLevel::Observe => Level::Observe,
            SentenceLevel::Rate => Level::Rate,
            SentenceLevel::Block => Level::Block,
        };
        let until = bridge.to_kernel(sentence.until);
        match sentence.client.network() {
            IpNet::V4(network) => {
                let key = Ipv4Key::new(network.network().octets(), network.prefix_len());
                self.ipv4.put(key, sentence.client, level, until)
            }
            IpNet::V6(network) => {
                let key = Ipv6Key::new(network.network().octets(), network.prefix_len());
                self.ipv6.put(key, sentence.client, level, until)
            }
        }
    }

    fn remove(&mut self, client: SentencedClient) -> Result<(), FilterError> {
        match client.network() {
            IpNet::V4(network) => {
                let key = Ipv4Key::new(network.network().octets(), network.prefix_len());
                self.ipv4.remove(key, client)
            }
            IpNet::V6(network) => {
                let key = Ipv6Key::new(network.network().octets(), network.prefix_len());
                self.ipv6.remove(key, client)
            }
        }
    }
}

/// The map of one address family.
struct Table<K> {
    map: HashMap<MapData, K, ClientEntry>,
    /// Whose entries are in the map, so that the status need not walk it.
    clients: HashSet<SentencedClient>,
    name: &'static str,
    family: &'static str,
    capacity: u32,
}

impl<K: Pod> Table<K> {
    fn take(
        ebpf: &mut Ebpf,
        name: &'static str,
        family: &'static str,
        capacity: u32,
    ) -> Result<Self, FilterError> {
        let map = ebpf
            .take_map(name)
            .ok_or(MapError::ElementNotFound)
            .and_then(HashMap::try_from)
            .map_err(map_error(name, "used"))?;
        Ok(Self {
            map,
            clients: HashSet::new(),
            name,
            family,
            capacity,
        })
    }

    fn put(
        &mut self,
        key: K,
        client: SentencedClient,
        level: Level,
        until: abi::KernelTime,
    ) -> Result<(), FilterError> {
        // An update installs a new element, so what the kernel counted in the old one is carried
        // over. A connection it meets between these two calls is not counted; it is dropped all
        // the same.
        let entry = ClientEntry::new(level, until);
        let entry = match self.map.get(&key, 0) {
            Ok(prior) => entry.carrying_over(&prior),
            Err(MapError::KeyNotFound) => entry,
            Err(error) => return Err(map_error(self.name, "read")(error)),
        };
        self.map
            .insert(key, entry, 0)
            .map_err(|error| match os_error(&error) {
                Some(libc::E2BIG) => FilterError::Full {
                    family: self.family,
                    capacity: self.capacity,
                },
                _ => map_error(self.name, "written")(error),
            })?;
        self.clients.insert(client);
        Ok(())
    }

    fn remove(&mut self, key: K, client: SentencedClient) -> Result<(), FilterError> {
        match self.map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) if os_error(&error) == Some(libc::ENOENT) => {}
            Err(error) => return Err(map_error(self.name, "written")(error)),
        }
        self.clients.remove(&client);
        Ok(())
    }

    /// Reads every entry, and takes note of whose they are.
    fn read(
        &mut self,
        bridge: TimeBridge,
        client: impl Fn(&K) -> SentencedClient,
    ) -> Result<Vec<Entry>, FilterError> {
        let entries = self
            .map
            .iter()
            .map(|item| {
                let (key, entry) = item.map_err(map_error(self.name, "read"))?;
                Ok(Entry {
                    client: client(&key),
                    level: match entry.level() {
                        Some(Level::Block) => SentenceLevel::Block,
                        Some(Level::Rate) => SentenceLevel::Rate,
                        // A level from elsewhere passes in the kernel as an observed one does.
                        Some(Level::Observe) | None => SentenceLevel::Observe,
                    },
                    until: bridge.to_wall(entry.until),
                    drops: entry.drops,
                })
            })
            .collect::<Result<Vec<Entry>, FilterError>>()?;
        self.clients = entries.iter().map(|entry| entry.client).collect();
        Ok(entries)
    }

    fn len(&self) -> u64 {
        u64::try_from(self.clients.len()).unwrap_or(u64::MAX)
    }
}

fn take_counters(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, FilterError> {
    ebpf.take_map(abi::map::COUNTERS)
        .ok_or(MapError::ElementNotFound)
        .and_then(PerCpuArray::try_from)
        .map_err(map_error(abi::map::COUNTERS, "used"))
}

fn map_error(map: &'static str, done: &'static str) -> impl Fn(MapError) -> FilterError {
    move |error| FilterError::Map {
        map,
        done,
        source: error.into(),
    }
}

fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}
