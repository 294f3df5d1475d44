//! The program's maps, in the words of the policy: sentences, allowed networks, counters, events.
//!
//! - [`table`]: the sentences of one address family, and their presence map.
//! - [`presence`]: that map's image in user space.
//! - [`key`]: what the keys of both families have in common.
//! - [`allowed`]: the networks that always pass.
//! - [`rules`]: limits, flags, ports and addresses.
//! - [`events`]: the sample of what was dropped.
//! - [`batch`]: many entries in one system call.
//!
//! Leaves how the program came onto an interface, and where its maps are pinned, to others. All of
//! it works without any capability, on the maps' descriptors.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use greylist_ebpf::abi::{self, ClientEntry, Config, Counter, Ipv4Key, Ipv6Key, KernelTime, Level};
use ipnet::IpNet;

use self::{
    allowed::Allowed,
    events::Events,
    key::Key,
    rules::Rules,
    table::{Names, Table},
};
use super::{Change, Entry, FilterError, OnStatus, Settings, TimeBridge};
use crate::policy::{Sentence, SentenceLevel, SentencedClient, Timestamp};

mod allowed;
pub(super) mod batch;
mod events;
mod key;
mod presence;
mod rules;
mod table;

/// The maps of a loaded program.
pub(super) struct Maps {
    ipv4: Table<Ipv4Key>,
    ipv6: Table<Ipv6Key>,
    allowed: Allowed,
    rules: Rules,
    events: Events,
    counters: PerCpuArray<MapData, u64>,
    memory: u64,
}

impl Maps {
    /// Takes the maps out of `ebpf`, and writes into them what `settings` say. They may be adopted
    /// ones, with sentences in them and a program at work on them.
    pub(super) fn take(ebpf: &mut Ebpf, settings: &Settings) -> Result<Self, FilterError> {
        let memory = memory(ebpf);
        let allowed = Allowed::take(ebpf)?;
        let mut rules = Rules::take(ebpf)?;
        let generation = match rules.generation() {
            // Maps that nobody has used yet. Entries that were copied into them are in no generation.
            Config::NO_GENERATION => Config::NO_GENERATION + 1,
            generation => generation,
        };
        rules.follow(ebpf, settings, generation)?;
        // Presence bits last: what they make the program look at is judged by these rules.
        Ok(Self {
            ipv4: Table::take(ebpf, IPV4, settings.capacity)?,
            ipv6: Table::take(ebpf, IPV6, settings.capacity)?,
            allowed,
            rules,
            events: Events::take(ebpf)?,
            counters: take_map(ebpf, abi::map::COUNTERS)?,
            memory,
        })
    }

    /// See [`KernelFilter::apply`](super::KernelFilter::apply).
    pub(super) fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError> {
        let bridge = TimeBridge::at(now);
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for change in changes {
            let (client, entry) = match change {
                Change::Put(sentence) if !sentence.has_ended(now) => {
                    (sentence.client, Some(self.entry(sentence, bridge)))
                }
                Change::Put(Sentence { client, .. }) | Change::Remove(client) => (*client, None),
            };
            match Key::from(client) {
                Key::V4(key) => ipv4.push((key, entry)),
                Key::V6(key) => ipv6.push((key, entry)),
            }
        }
        let first = self.ipv4.apply(ipv4, bridge.kernel());
        first.and(self.ipv6.apply(ipv6, bridge.kernel()))
    }

    /// See [`KernelFilter::entries`](super::KernelFilter::entries). The presence maps follow what
    /// is found.
    pub(super) fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
        let bridge = TimeBridge::at(now);
        let expected = self.ipv4.len().saturating_add(self.ipv6.len());
        let mut entries = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
        self.ipv4
            .read(|client, entry| entries.push(told(client, entry, bridge)))?;
        self.ipv6
            .read(|client, entry| entries.push(told(client, entry, bridge)))?;
        Ok(entries)
    }

    /// See [`KernelFilter::entry`](super::KernelFilter::entry).
    pub(super) fn look_up(
        &self,
        client: SentencedClient,
        now: Timestamp,
    ) -> Result<Option<Entry>, FilterError> {
        let found = match Key::from(client) {
            Key::V4(key) => self.ipv4.look_up(key)?,
            Key::V6(key) => self.ipv6.look_up(key)?,
        };
        Ok(found.map(|entry| told(client, &entry, TimeBridge::at(now))))
    }

    /// See [`KernelFilter::allow`](super::KernelFilter::allow).
    pub(super) fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError> {
        self.allowed.allow(networks, &mut self.rules)
    }

    /// Tells the log what the kernel sampled since the last call.
    pub(super) fn tell_events(&mut self) {
        self.events.tell();
    }

    /// `status` with all that the maps know: entries, frames, allowed networks, memory.
    pub(super) fn told(&self, status: OnStatus) -> OnStatus {
        let frames: Vec<(Counter, u64)> = self.frames().collect();
        OnStatus {
            observes: self.rules.observes(),
            entries_ipv4: self.ipv4.len(),
            entries_ipv6: self.ipv6.len(),
            allowed_networks: self.allowed.len(),
            allowed_crowded_out: self.allowed.crowded_out(),
            memory: self.memory,
            drops: frames
                .iter()
                .filter(|(counter, _)| counter.is_dropped())
                .map(|(_, frames)| frames)
                .sum(),
            frames: frames
                .into_iter()
                .map(|(counter, frames)| (counter.name().to_owned(), frames))
                .collect(),
            ..status
        }
    }

    /// Frames counted since the maps were made, by reason; all CPUs together. An object of an earlier
    /// build may know fewer reasons.
    fn frames(&self) -> impl Iterator<Item = (Counter, u64)> {
        let known = self.counters.len();
        let counters = Counter::ALL.into_iter();
        let counters = counters.filter(move |counter| counter.index() < known);
        counters.map(|counter| {
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

    fn entry(&self, sentence: &Sentence, bridge: TimeBridge) -> ClientEntry {
        let level = match sentence.level {
            SentenceLevel::Observe => Level::Observe,
            SentenceLevel::Rate => Level::Rate,
            SentenceLevel::Block => Level::Block,
        };
        let mut entry = ClientEntry::new(level, bridge.to_kernel(sentence.until));
        if level == Level::Block {
            // Its limit is used up, so that the first connection does not pass at once; counted
            // from now, or every blocked client would pass when sentences are restored.
            let first = bridge.kernel().as_nanos();
            entry.arrival =
                KernelTime::from_nanos(first.saturating_add(self.rules.block_interval()));
        }
        if !self.allowed.overlaps(sentence.client.network()) {
            entry.generation = self.rules.generation();
        }
        entry
    }
}

/// What an entry says, in the words of the policy.
fn told(client: SentencedClient, entry: &ClientEntry, bridge: TimeBridge) -> Entry {
    Entry {
        client,
        level: match entry.level() {
            Some(Level::Block) => SentenceLevel::Block,
            Some(Level::Rate) => SentenceLevel::Rate,
            // A level from elsewhere passes in the kernel as an observed one does.
            Some(Level::Observe) | None => SentenceLevel::Observe,
        },
        until: bridge.to_wall(entry.until),
        drops: entry.drops,
    }
}

/// Bytes of kernel memory that the maps take, as the kernel charges them. Kernels before 6.4 charge
/// too little: the nodes and buckets of a hash map are left out.
fn memory(ebpf: &Ebpf) -> u64 {
    ebpf.maps()
        .filter(|(name, _)| abi::map::ALL.contains(name))
        .filter_map(|(_, map)| {
            let (Map::HashMap(data)
            | Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::LpmTrie(data)
            | Map::RingBuf(data)) = map
            else {
                return None;
            };
            let fd = data.fd().as_fd().as_raw_fd();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            let bytes = info
                .lines()
                .find_map(|line| line.strip_prefix("memlock:"))?;
            bytes.trim().parse::<u64>().ok()
        })
        .sum()
}

fn take_map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, FilterError>
where
    M: TryFrom<Map, Error = MapError>,
{
    ebpf.take_map(name)
        .ok_or(MapError::ElementNotFound)
        .and_then(M::try_from)
        .map_err(map_error(name, "used"))
}

fn map_error(map: &'static str, done: &'static str) -> impl Fn(MapError) -> FilterError {
    move |error| FilterError::Map {
        map,
        done,
        source: error.into(),
    }
}

/// [`None`] where there is no such key, which aya says in two ways.
fn unless_absent<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

const IPV4: Names = Names {
    entries: abi::map::IPV4,
    presence: abi::map::PRESENCE_V4,
    family: "IPv4",
};
const IPV6: Names = Names {
    entries: abi::map::IPV6,
    presence: abi::map::PRESENCE_V6,
    family: "IPv6",
};
