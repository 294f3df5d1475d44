//! What pinned maps look like: whether they are as this greygate makes them, and what sentences
//! others hold.
//!
//! Knows the layouts of every ABI version there has been. Sentences that cannot be read are no loss:
//! they stand in the store.

use std::{cmp::Reverse, os::fd::AsFd as _, path::Path};

use aya::{
    Ebpf, Pod,
    maps::{LpmTrie, Map, MapData, MapError, MapInfo, MapType, lpm_trie},
};
use greylist_ebpf::abi::{
    self, ClientEntry, Config, Ipv4Key, Ipv6Key, KernelTime, Level, Moment, Presence,
};
use ipnet::IpNet;

use super::{FilterError, maps::batch};

/// In what the maps in `directory` are not as this greygate makes them; `None` when they are the
/// same.
pub(super) fn difference(directory: &Path, capacity: u32) -> Option<String> {
    abi::map::ALL.into_iter().find_map(|name| {
        let expected = Shape::of(name, capacity);
        match Shape::pinned(&directory.join(name)) {
            Err(error) => Some(format!("{name} cannot be opened ({error})")),
            Ok(found) if found != expected => {
                Some(format!("{name} is {found} instead of {expected}"))
            }
            Ok(_) => None,
        }
    })
}

/// Makes sure that maps which a program was loaded on are those that were looked at: the library
/// takes what it finds.
pub(super) fn verify(
    maps: &[(&'static str, MapData)],
    directory: &Path,
    capacity: u32,
) -> Result<(), FilterError> {
    for (name, map) in maps {
        let found = map.info().and_then(|info| Shape::found(&info));
        if found.ok() != Some(Shape::of(name, capacity)) {
            return Err(FilterError::AlienPin(directory.join(name)));
        }
    }
    Ok(())
}

/// What maps of another layout hold that new ones should hold as well.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sentences {
    ipv4: Vec<(Ipv4Key, ClientEntry)>,
    ipv6: Vec<(Ipv6Key, ClientEntry)>,
    /// Prefix length and network.
    allowed_ipv4: Vec<(u32, [u8; 4])>,
    allowed_ipv6: Vec<(u32, [u8; 16])>,
}

impl Sentences {
    /// Those in maps of this ABI version, whatever their capacity.
    pub(super) fn read(directory: &Path) -> Self {
        Self {
            ipv4: read(&directory.join(abi::map::IPV4), Some),
            ipv6: read(&directory.join(abi::map::IPV6), Some),
            allowed_ipv4: read_allowed(&directory.join(abi::map::ALLOWED_V4)),
            allowed_ipv6: read_allowed(&directory.join(abi::map::ALLOWED_V6)),
        }
    }

    /// Those in maps of ABI version 1, which knew no allowed networks.
    pub(super) fn read_first(directory: &Path) -> Self {
        Self {
            ipv4: read(&directory.join(abi::map::IPV4), of_first),
            ipv6: read(&directory.join(abi::map::IPV6), of_first),
            ..Self::default()
        }
    }

    /// How many there are of IPv4 and of IPv6.
    pub(super) fn lens(&self) -> (u64, u64) {
        let len = |len| u64::try_from(len).unwrap_or(u64::MAX);
        (len(self.ipv4.len()), len(self.ipv6.len()))
    }

    /// How many networks always pass.
    pub(super) fn allowed(&self) -> u64 {
        u64::try_from(self.allowed_ipv4.len() + self.allowed_ipv6.len()).unwrap_or(u64::MAX)
    }

    /// Whose they are, and what the kernel knows of them.
    pub(super) fn entries(&self) -> impl Iterator<Item = (IpNet, &ClientEntry)> {
        let ipv4 = self.ipv4.iter().filter_map(|(key, entry)| {
            let network = IpNet::new(key.network().into(), key.prefix()).ok()?;
            Some((network, entry))
        });
        let ipv6 = self.ipv6.iter().filter_map(|(key, entry)| {
            let network = IpNet::new(key.network().into(), key.prefix()).ok()?;
            Some((network, entry))
        });
        ipv4.chain(ipv6)
    }

    /// Writes them into the maps of a program that is attached nowhere yet. Where they do not all
    /// fit, those with the least time left give way.
    pub(super) fn write(self, ebpf: &mut Ebpf, capacity: u32) -> Result<(), FilterError> {
        write(ebpf, abi::map::IPV4, longest(self.ipv4, capacity))?;
        write(ebpf, abi::map::IPV6, longest(self.ipv6, capacity))?;
        write_allowed(ebpf, abi::map::ALLOWED_V4, &self.allowed_ipv4)?;
        write_allowed(ebpf, abi::map::ALLOWED_V6, &self.allowed_ipv6)
    }
}

/// What makes two maps exchangeable.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    kind: MapType,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

impl Shape {
    fn of(name: &str, capacity: u32) -> Self {
        let hash = |key: usize, value: usize, entries| (MapType::Hash, key, value, entries, 0);
        let array = |value, entries| (MapType::Array, INDEX, value, entries, 0);
        let each_cpu = |value, entries| (MapType::PerCpuArray, INDEX, value, entries, 0);
        let trie = |bytes| {
            let key = PREFIX_LENGTH + bytes;
            let flags = BPF_F_NO_PREALLOC;
            (MapType::LpmTrie, key, 1, abi::ALLOWED_NETWORKS, flags)
        };
        let (kind, key, value, entries, flags) = match name {
            abi::map::IPV4 => hash(size_of::<Ipv4Key>(), size_of::<ClientEntry>(), capacity),
            abi::map::IPV6 => hash(size_of::<Ipv6Key>(), size_of::<ClientEntry>(), capacity),
            abi::map::PRESENCE_V4 | abi::map::PRESENCE_V6 => {
                array(size_of::<Presence>(), abi::presence_words(capacity))
            }
            abi::map::ALLOWED_V4 => trie(4),
            abi::map::ALLOWED_V6 => trie(16),
            abi::map::DESTINATIONS => hash(16, 1, abi::DESTINATIONS),
            abi::map::PORTS => array(size_of::<u64>(), abi::PORT_WORDS),
            abi::map::CONFIG => array(size_of::<Config>(), 1),
            abi::map::COUNTERS => each_cpu(size_of::<u64>(), abi::Counter::COUNT),
            abi::map::EVENTS => (MapType::RingBuf, 0, 0, abi::EVENT_BYTES, 0),
            _ => each_cpu(size_of::<Moment>(), 1),
        };
        let size = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            kind,
            key: size(key),
            value: size(value),
            entries,
            flags,
        }
    }

    fn pinned(path: &Path) -> Result<Self, MapError> {
        // What is no map has an error here, or the sizes of nothing.
        Self::found(&MapData::from_pin(path)?.info()?)
    }

    fn found(info: &MapInfo) -> Result<Self, MapError> {
        Ok(Self {
            kind: info.map_type()?,
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            key,
            value,
            entries,
            flags,
        } = self;
        write!(
            f,
            "a {kind:?} of {entries} entries, {key} and {value} bytes, flags {flags}"
        )
    }
}

/// What the map of sentences at `path` holds, whose values are `V`; nothing, and a line that says
/// why, when it is no such map.
fn read<K: Pod, V: Pod>(path: &Path, entry: fn(V) -> Option<ClientEntry>) -> Vec<(K, ClientEntry)> {
    let read = || -> Result<Vec<(K, ClientEntry)>, MapError> {
        let map = MapData::from_pin(path)?;
        let mut entries = Vec::new();
        batch::read(map.fd().as_fd(), |key, value| {
            entries.extend(entry(value).map(|entry| (key, in_no_generation(entry))));
        })
        .map_err(MapError::IoError)?;
        Ok(entries)
    };
    read().unwrap_or_else(|error| {
        tracing::warn!(map = %path.display(), %error, "unread");
        Vec::new()
    })
}

fn read_allowed<K: Pod>(path: &Path) -> Vec<(u32, K)> {
    let read = || -> Result<Vec<(u32, K)>, MapError> {
        let map = MapData::from_pin(path)?;
        let trie: LpmTrie<_, K, u8> = Map::from_map_data(map)?.try_into()?;
        let networks = trie.keys();
        networks
            .map(|network| network.map(|network| (network.prefix_len(), network.data())))
            .collect()
    };
    read().unwrap_or_else(|error| {
        tracing::warn!(map = %path.display(), %error, "unread");
        Vec::new()
    })
}

/// The new tries are others than those that an entry was compared with.
fn in_no_generation(mut entry: ClientEntry) -> ClientEntry {
    entry.generation = Config::NO_GENERATION;
    entry
}

/// A value of ABI version 1: end, drops, level, and seven bytes of padding. `None` for a level that
/// it did not know.
fn of_first(value: [u8; 24]) -> Option<ClientEntry> {
    let (words, _) = value.as_chunks::<8>();
    let [until, drops, level] = words else {
        return None;
    };
    let until = KernelTime::from_nanos(u64::from_ne_bytes(*until));
    let level = match level[0] {
        1 => Level::Observe,
        2 => Level::Block,
        _ => return None,
    };
    let mut entry = ClientEntry::new(level, until);
    entry.drops = u64::from_ne_bytes(*drops);
    // More than any limit, which the program takes for all of it: the first connection gets through
    // after a whole interval.
    entry.arrival = until;
    Some(entry)
}

/// Those that fit, by the time that is left to them.
fn longest<K: Ord>(mut entries: Vec<(K, ClientEntry)>, capacity: u32) -> Vec<(K, ClientEntry)> {
    let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    if entries.len() > capacity {
        entries.sort_unstable_by_key(|(_, entry)| Reverse(entry.until));
        entries.truncate(capacity);
    }
    entries
}

/// Writes no presence bits: whoever takes the maps finds the entries and sets theirs.
fn write<K: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    entries: Vec<(K, ClientEntry)>,
) -> Result<(), FilterError> {
    let failed = map_error(name);
    let Some(Map::HashMap(map)) = ebpf.map(name) else {
        return Err(failed(MapError::ElementNotFound));
    };
    let (keys, entries): (Vec<K>, Vec<ClientEntry>) = entries.into_iter().unzip();
    batch::update(map.fd().as_fd(), &keys, &entries)
        .map_err(|stopped| failed(MapError::IoError(stopped.error)))
}

fn write_allowed<K: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    networks: &[(u32, K)],
) -> Result<(), FilterError> {
    let failed = map_error(name);
    let map = ebpf.map_mut(name).ok_or(MapError::ElementNotFound);
    let mut trie: LpmTrie<_, K, u8> = map.and_then(LpmTrie::try_from).map_err(&failed)?;
    for &(prefix, network) in networks {
        let network = lpm_trie::Key::new(prefix, network);
        trie.insert(&network, 1, 0).map_err(&failed)?;
    }
    Ok(())
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> FilterError {
    move |error| FilterError::Map {
        map,
        done: "written",
        source: error.into(),
    }
}

/// Bytes of an array's index.
const INDEX: usize = size_of::<u32>();
/// Bytes in front of a trie's key.
const PREFIX_LENGTH: usize = size_of::<u32>();
/// `include/uapi/linux/bpf.h`: a trie is always so.
const BPF_F_NO_PREALLOC: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn of_abi_1(until: u64, drops: u64, level: u8) -> [u8; 24] {
        let mut value = [0; 24];
        value[..8].copy_from_slice(&until.to_ne_bytes());
        value[8..16].copy_from_slice(&drops.to_ne_bytes());
        value[16] = level;
        value
    }

    fn lasting(until: u64) -> (Ipv4Key, ClientEntry) {
        let [_, _, _, _, a, b, c, d] = until.to_be_bytes();
        let key = Ipv4Key::host([a, b, c, d]);
        let until = KernelTime::from_nanos(until);
        (key, ClientEntry::new(Level::Block, until))
    }

    #[test]
    fn entry_of_the_first_version_keeps_end_level_and_drops() {
        let entry = of_first(of_abi_1(77, 5, 2)).expect("a block");
        assert_eq!(entry.until, KernelTime::from_nanos(77));
        assert_eq!((entry.drops, entry.level()), (5, Some(Level::Block)));
        assert_eq!(entry.arrival, entry.until, "nobody gets through at once");
        assert_eq!(entry.generation, Config::NO_GENERATION);
        let entry = of_first(of_abi_1(77, 0, 1)).expect("an observed one");
        assert_eq!(entry.level(), Some(Level::Observe));
        assert_eq!(of_first(of_abi_1(77, 0, 3)), None);
    }

    #[test]
    fn entries_with_the_least_time_left_give_way() {
        let entries = [5, 1, 9, 7].map(lasting).to_vec();
        let kept = longest(entries.clone(), 2);
        assert_eq!(kept, [9, 7].map(lasting));
        assert_eq!(longest(entries.clone(), 4), entries);
    }

    #[test]
    fn what_is_no_map_is_a_difference_and_holds_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let difference = difference(directory.path(), 16).expect("nothing is there");
        assert!(difference.contains(abi::map::IPV4), "{difference}");
        assert_eq!(Sentences::read(directory.path()), Sentences::default());
    }
}
