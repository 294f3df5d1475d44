//! The filter that works: greygate's XDP program on one or several interfaces.
//!
//! Minimum kernel 6.1. The attachments live as long as this filter, or its process; the sentences in
//! the maps end by the kernel's clock even when nobody is left to remove them.

use std::collections::HashSet;
use std::path::PathBuf;

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError, PerCpuArray},
};
use greylist_ebpf::abi::{self, ClientEntry, Counter, Ipv4Key, Ipv6Key, Level};
use ipnet::IpNet;

use super::{
    Change, Entry, FilterError, FilterStatus, InterfaceStatus, KernelFilter, ObtainedMode,
    OnStatus, Settings, TimeBridge,
    attach::{Attachment, attach},
    netlink::Netlink,
    object,
};
use crate::policy::{Sentence, SentenceLevel, SentencedClient, Timestamp};

/// The attached program and its maps.
pub struct XdpFilter {
    ipv4: Table<Ipv4Key>,
    ipv6: Table<Ipv6Key>,
    counters: PerCpuArray<MapData, u64>,
    interfaces: Vec<Interface>,
    program: u32,
    ports: Vec<u16>,
    capacity: u32,
    netlink: Netlink,
    /// The flag of `panic`, which tells who took the program off.
    panic_file: PathBuf,
    #[cfg(feature = "debug-log")]
    _log: Option<super::debug_log::LogReader>,
}

/// One interface of the configuration, and how attaching went.
#[derive(Debug)]
struct Interface {
    name: String,
    attached: Result<Attachment, FilterError>,
}

impl XdpFilter {
    /// Loads the program and attaches it to the interfaces of `settings`, in the calling thread's
    /// network namespace.
    ///
    /// One interface that cannot be had does not leave the others unguarded: it is logged, and
    /// the status says why.
    ///
    /// # Errors
    ///
    /// When the program cannot be loaded, or attached to none of the interfaces; then the reason
    /// of the first one.
    pub fn open(settings: &Settings) -> Result<Self, FilterError> {
        let netlink = Netlink::open().map_err(FilterError::io("opening a netlink socket"))?;
        let mut ebpf = object::load(settings)?;
        let interfaces = attach_all(&mut ebpf, settings, &netlink)?;
        object::obey_panic(settings)?;
        let filter = Self {
            #[cfg(feature = "debug-log")]
            _log: super::debug_log::LogReader::start(&mut ebpf),
            ipv4: Table::take(&mut ebpf, abi::map::IPV4, "IPv4", settings.capacity)?,
            ipv6: Table::take(&mut ebpf, abi::map::IPV6, "IPv6", settings.capacity)?,
            counters: take_counters(&mut ebpf)?,
            interfaces,
            program: object::program(&mut ebpf)
                .and_then(|program| program.info())
                .map_err(|error| FilterError::Map {
                    map: abi::PROGRAM,
                    done: "asked for its number",
                    source: error.into(),
                })?
                .id(),
            ports: settings.ports.clone(),
            capacity: settings.capacity,
            netlink,
            panic_file: settings.panic_file.clone(),
        };
        filter.log_interfaces();
        Ok(filter)
    }

    fn log_interfaces(&self) {
        for interface in &self.interfaces {
            let InterfaceStatus { name, mode, why } = self.interface_status(interface);
            match why {
                None => tracing::info!(interface = name, %mode, "attached"),
                Some(why) if interface.attached.is_ok() => {
                    tracing::warn!(interface = name, %mode, why, "attached");
                }
                Some(why) => tracing::warn!(interface = name, why, "unfiltered"),
            }
        }
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

    fn interface_status(&self, interface: &Interface) -> InterfaceStatus {
        let name = interface.name.clone();
        let (mode, why) = match &interface.attached {
            Err(error) => (ObtainedMode::Detached, Some(error.chain())),
            Ok(attachment) => match self.netlink.attached(attachment.index) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    (ObtainedMode::Detached, Some(GONE.to_owned()))
                }
                Err(error) => (
                    ObtainedMode::Detached,
                    Some(format!("not to be told: {error}")),
                ),
                Ok(programs) => programs
                    .iter()
                    .find(|attached| attached.program == self.program)
                    .map_or_else(
                        || (ObtainedMode::Detached, Some(self.taken_off())),
                        |attached| (attached.mode, attachment.why.clone()),
                    ),
            },
        };
        InterfaceStatus { name, mode, why }
    }

    /// Why the program is not where it was attached.
    fn taken_off(&self) -> String {
        if self.panic_file.exists() {
            FilterError::Panicked(self.panic_file.clone()).chain()
        } else {
            TAKEN_OFF.to_owned()
        }
    }

    fn frames(&self) -> impl Iterator<Item = (Counter, u64)> {
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
}

impl KernelFilter for XdpFilter {
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError> {
        let bridge = TimeBridge::at(now);
        let mut first_error = Ok(());
        for change in changes {
            if let Err(error) = self.change(change, bridge, now) {
                first_error = first_error.and(Err(error));
            }
        }
        first_error
    }

    fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
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

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn status(&self) -> FilterStatus {
        let frames: Vec<(Counter, u64)> = self.frames().collect();
        FilterStatus::On(OnStatus {
            interfaces: self
                .interfaces
                .iter()
                .map(|interface| self.interface_status(interface))
                .collect(),
            ports: self.ports.clone(),
            entries_ipv4: self.ipv4.len(),
            entries_ipv6: self.ipv6.len(),
            capacity: self.capacity,
            drops: frames
                .iter()
                .find(|(counter, _)| *counter == Counter::Blocked)
                .map_or(0, |(_, frames)| *frames),
            frames: frames
                .into_iter()
                .map(|(counter, frames)| (counter.name().to_owned(), frames))
                .collect(),
        })
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
        let drops = match self.map.get(&key, 0) {
            Ok(entry) => entry.drops,
            Err(MapError::KeyNotFound) => 0,
            Err(error) => return Err(map_error(self.name, "read")(error)),
        };
        self.map
            .insert(key, ClientEntry::new(level, until, drops), 0)
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

fn attach_all(
    ebpf: &mut Ebpf,
    settings: &Settings,
    netlink: &Netlink,
) -> Result<Vec<Interface>, FilterError> {
    let program = object::program(ebpf).map_err(|error| FilterError::NotOurObject {
        path: settings.object.clone(),
        detail: error.to_string(),
    })?;
    let mut interfaces: Vec<Interface> = settings
        .interfaces
        .iter()
        .map(|name| Interface {
            name: name.clone(),
            attached: attach(program, name, settings.mode, netlink),
        })
        .collect();
    if interfaces
        .iter()
        .all(|interface| interface.attached.is_err())
    {
        let first = interfaces.swap_remove(0);
        first.attached?;
    }
    Ok(interfaces)
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

const GONE: &str = "the interface has gone; restart greygate when it is back";
const TAKEN_OFF: &str = "detached by somebody else; a restart of greygate attaches it again";
