//! Who judges frames: the library on the host, or the object in the kernel. Both are told of the
//! same entries in the same words.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use greygate::clock;
use greylist_ebpf::{
    abi::{
        self, Admitted, ClientEntry, Config, Counter, Dropped, Ipv4Key, Ipv6Key, KernelTime, Level,
        MOST_PRESENCE_WORDS, Presence, PresenceBit, mapped,
    },
    packet::{Address, NewConnection, Octets},
    verdict::{Action, Entry, Nearby, Outcome, Tables, decide},
};
use ipnet::IpNet;

use crate::cases::PROTECTED;

/// One that judges frames. A network is one of those that are looked up: a host, a `/24`, a `/64`.
pub(crate) trait Judge {
    /// Judges one frame.
    fn judge(&mut self, frame: &[u8]) -> Outcome;

    /// Writes an entry.
    fn put(&mut self, network: IpNet, entry: ClientEntry);

    /// Writes an entry of a level that no build knows.
    fn put_unknown(&mut self, network: IpNet);

    /// Writes what holds for all entries.
    fn configure(&mut self, config: Config);

    /// Adds an allowed network.
    fn allow(&mut self, network: IpNet);

    /// Adds an address of this host that is protected.
    fn destination(&mut self, address: IpAddr);

    /// The entry as it is now.
    fn entry(&self, network: IpNet) -> ClientEntry;
}

/// The library, with tables of its own.
#[derive(Default)]
pub(crate) struct Host {
    entries: HashMap<IpNet, HostEntry>,
    allowed: Vec<IpNet>,
    destinations: HashSet<IpAddr>,
    config: Config,
}

pub(crate) struct HostEntry {
    entry: Cell<ClientEntry>,
    known: bool,
}

impl Judge for Host {
    fn judge(&mut self, frame: &[u8]) -> Outcome {
        decide(frame, &&*self)
    }

    fn put(&mut self, network: IpNet, entry: ClientEntry) {
        let entry = HostEntry {
            entry: Cell::new(entry),
            known: true,
        };
        self.entries.insert(network, entry);
    }

    fn put_unknown(&mut self, network: IpNet) {
        self.put(network, unknown());
        self.entries.get_mut(&network).expect("just put").known = false;
    }

    fn configure(&mut self, config: Config) {
        self.config = config;
    }

    fn allow(&mut self, network: IpNet) {
        self.allowed.push(network);
    }

    fn destination(&mut self, address: IpAddr) {
        self.destinations.insert(address);
    }

    fn entry(&self, network: IpNet) -> ClientEntry {
        self.entries[&network].entry.get()
    }
}

impl<'a> Tables for &'a Host {
    type Entry = &'a HostEntry;

    fn is_protected(&self, port: u16) -> bool {
        PROTECTED.contains(&port)
    }

    fn presence(&self, client: &Address) -> Nearby {
        Nearby {
            host: self.host(client).is_some(),
            network: self.network(client).is_some(),
        }
    }

    fn host(&self, client: &Address) -> Option<&'a HostEntry> {
        self.entries.get(&ip(client).into())
    }

    fn network(&self, client: &Address) -> Option<&'a HostEntry> {
        let client = ip(client);
        let prefix = if client.is_ipv4() { 24 } else { 64 };
        self.entries.get(&IpNet::new_assert(client, prefix).trunc())
    }

    fn now(&self) -> KernelTime {
        clock::kernel_now()
    }

    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn is_destination(&self, address: &Address) -> bool {
        self.destinations.contains(&ip(address))
    }

    fn is_allowed(&self, client: &Address) -> bool {
        let client = ip(client);
        self.allowed.iter().any(|network| network.contains(&client))
    }

    fn tell(&self, _: &NewConnection, _: Counter, _: KernelTime, _: u64) {}
}

impl HostEntry {
    fn change(&self, change: impl FnOnce(&mut ClientEntry)) {
        let mut entry = self.entry.get();
        change(&mut entry);
        self.entry.set(entry);
    }
}

impl Entry for &HostEntry {
    fn until(&self) -> KernelTime {
        self.entry.get().until
    }

    fn level(&self) -> Option<Level> {
        self.entry.get().level().filter(|_| self.known)
    }

    fn generation(&self) -> u16 {
        self.entry.get().generation
    }

    fn arrival(&self) -> KernelTime {
        self.entry.get().arrival
    }

    fn swap_arrival(&self, _: KernelTime, next: KernelTime) -> bool {
        self.change(|entry| entry.arrival = next);
        true
    }

    fn admitted(&self) -> Admitted {
        self.entry.get().admitted
    }

    fn admit(&self, admitted: Admitted) {
        self.change(|entry| entry.admitted = admitted);
    }

    fn swap_admitted(&self, _: Admitted, next: Admitted) -> bool {
        self.admit(next);
        true
    }

    fn dropped(&self) -> Dropped {
        self.entry.get().dropped
    }

    fn note_dropped(&self, dropped: Dropped) {
        self.change(|entry| entry.dropped = dropped);
    }

    fn count(&self) {
        self.change(|entry| entry.drops += 1);
    }
}

/// The object in the kernel, attached to nothing.
pub(crate) struct Program {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    before: Vec<u64>,
}

impl Program {
    /// Loads it; it meets nobody yet.
    pub(crate) fn load(object: &Path) -> Self {
        let bytes = std::fs::read(object).expect("the object is readable");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(abi::map::IPV4, 64)
            .map_max_entries(abi::map::IPV6, 64)
            .load(&bytes)
            .expect("the object fits this kernel");
        let program: &mut Xdp = ebpf
            .program_mut(abi::PROGRAM)
            .expect("the program")
            .try_into()
            .expect("it is an XDP program");
        program.load().expect("the verifier takes the program");
        let counters = ebpf.take_map(abi::map::COUNTERS).expect("a map");
        let mut program = Self {
            before: vec![0; Counter::ALL.len()],
            counters: counters.try_into().expect("its types are the ABI's"),
            ebpf,
        };
        for port in PROTECTED {
            let (index, mask) = abi::port_bit(port);
            program.change(abi::map::PORTS, index, |word: u64| word | mask);
        }
        program
    }

    /// The program itself.
    pub(crate) fn xdp(&self) -> &Xdp {
        self.ebpf
            .program(abi::PROGRAM)
            .expect("the program")
            .try_into()
            .expect("it is an XDP program")
    }

    /// The program itself, to attach it.
    pub(crate) fn xdp_mut(&mut self) -> &mut Xdp {
        self.ebpf
            .program_mut(abi::PROGRAM)
            .expect("the program")
            .try_into()
            .expect("it is an XDP program")
    }

    /// Runs the program on `frame`, so many `times`, and tells what it did the last time. Threads may
    /// do so at once.
    pub(crate) fn run(xdp: &Xdp, frame: &[u8], times: u32) -> Action {
        let mut after = vec![0; frame.len()];
        let result = xdp
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                repeat: times,
                ..TestRunOptions::new()
            })
            .expect("a test run");
        assert_eq!(after, frame, "the program changed the frame");
        match result.return_value {
            XDP_DROP => Action::Drop,
            XDP_PASS => Action::Pass,
            other => panic!("the program returned {other}"),
        }
    }

    /// Frames counted under this reason so far.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        let per_cpu = self.counters.get(&counter.index(), 0);
        per_cpu.expect("a counter for every reason").iter().sum()
    }

    /// What the program has told of single drops: client, port, and what it was counted as.
    pub(crate) fn told(&mut self) -> Vec<([u8; 16], u16, Counter)> {
        let map = self.ebpf.map_mut(abi::map::EVENTS).expect("a map");
        let mut events = RingBuf::try_from(map).expect("a ring buffer");
        let mut told = Vec::new();
        while let Some(event) = events.next() {
            let client = event[..16].try_into().expect("16 bytes");
            let port = u16::from_ne_bytes([event[16], event[17]]);
            told.push((client, port, Counter::ALL[usize::from(event[18])]));
        }
        told
    }

    fn change<V: Pod>(&mut self, map: &str, index: u32, change: impl FnOnce(V) -> V) {
        let map = self.ebpf.map_mut(map).expect("a map");
        let mut array: Array<_, V> = map.try_into().expect("the ABI's types");
        let value = array.get(&index, 0).expect("an element");
        array.set(index, change(value), 0).expect("a writable map");
    }

    fn mark_present(&mut self, map: &str, bit: PresenceBit, host: bool) {
        self.change(map, bit.index(MOST_PRESENCE_WORDS), |mut word: Presence| {
            if host {
                word.hosts |= bit.mask();
            } else {
                word.networks |= bit.mask();
            }
            word
        });
    }

    fn hash<K: Pod, V: Pod>(&mut self, map: &str) -> BpfHashMap<&mut MapData, K, V> {
        let map = self.ebpf.map_mut(map).expect("a map");
        map.try_into().expect("the ABI's types")
    }

    fn write<K: Pod>(&mut self, map: &str, key: K, entry: ClientEntry) {
        let mut hash = self.hash::<K, ClientEntry>(map);
        hash.insert(key, entry, 0).expect("a writable map");
    }
}

impl Judge for Program {
    /// Its action, and the one counter that it raised.
    fn judge(&mut self, frame: &[u8]) -> Outcome {
        let action = Self::run(self.xdp(), frame, 1);
        let now = Counter::ALL.map(|counter| self.count(counter)).to_vec();
        let raised: Vec<Counter> = Counter::ALL
            .into_iter()
            .filter(|counter| {
                let index = counter.index() as usize;
                now[index] != self.before[index]
            })
            .collect();
        self.before = now;
        let [counter] = raised[..] else {
            panic!("one frame raised {raised:?}");
        };
        Outcome { action, counter }
    }

    fn put(&mut self, network: IpNet, entry: ClientEntry) {
        match network {
            IpNet::V4(network) => {
                let key = Ipv4Key::new(network.addr().octets(), network.prefix_len());
                let host = network.prefix_len() == 32;
                self.mark_present(abi::map::PRESENCE_V4, key.presence(), host);
                self.write(abi::map::IPV4, key, entry);
            }
            IpNet::V6(network) => {
                let key = Ipv6Key::new(network.addr().octets(), network.prefix_len());
                let host = network.prefix_len() == 128;
                self.mark_present(abi::map::PRESENCE_V6, key.presence(), host);
                self.write(abi::map::IPV6, key, entry);
            }
        }
    }

    fn put_unknown(&mut self, network: IpNet) {
        let IpNet::V4(address) = network else {
            panic!("no row needs one of IPv6");
        };
        self.put(network, unknown());
        let key = Ipv4Key::host(address.addr().octets());
        let mut raw = self.hash::<Ipv4Key, [u8; 32]>(abi::map::IPV4);
        let mut entry = raw.get(&key, 0).expect("just put");
        entry[LEVEL] = 77;
        raw.insert(key, entry, 0).expect("a writable map");
    }

    fn configure(&mut self, config: Config) {
        self.change(abi::map::CONFIG, 0, |_: Config| config);
    }

    fn allow(&mut self, network: IpNet) {
        let prefix = u32::from(network.prefix_len());
        match network.addr() {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(abi::map::ALLOWED_V4).expect("a map");
                let mut trie: LpmTrie<_, [u8; 4], u8> = map.try_into().expect("the ABI's types");
                trie.insert(&Key::new(prefix, address.octets()), 1, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(abi::map::ALLOWED_V6).expect("a map");
                let mut trie: LpmTrie<_, [u8; 16], u8> = map.try_into().expect("the ABI's types");
                trie.insert(&Key::new(prefix, address.octets()), 1, 0)
            }
        }
        .expect("a writable map");
    }

    fn destination(&mut self, address: IpAddr) {
        let octets = match address {
            IpAddr::V4(address) => mapped(address.octets()),
            IpAddr::V6(address) => address.octets(),
        };
        self.hash::<[u8; 16], u8>(abi::map::DESTINATIONS)
            .insert(octets, 1, 0)
            .expect("a writable map");
    }

    fn entry(&self, network: IpNet) -> ClientEntry {
        match network {
            IpNet::V4(network) => {
                let key = Ipv4Key::new(network.addr().octets(), network.prefix_len());
                let map = self.ebpf.map(abi::map::IPV4).expect("a map");
                let map: BpfHashMap<_, Ipv4Key, ClientEntry> =
                    map.try_into().expect("the ABI's types");
                map.get(&key, 0)
            }
            IpNet::V6(network) => {
                let key = Ipv6Key::new(network.addr().octets(), network.prefix_len());
                let map = self.ebpf.map(abi::map::IPV6).expect("a map");
                let map: BpfHashMap<_, Ipv6Key, ClientEntry> =
                    map.try_into().expect("the ABI's types");
                map.get(&key, 0)
            }
        }
        .expect("an entry")
    }
}

/// An entry whose level somebody will spoil.
fn unknown() -> ClientEntry {
    ClientEntry::new(Level::Block, KernelTime::from_nanos(u64::MAX))
}

fn ip(address: &Address) -> IpAddr {
    match address.octets() {
        Octets::V4(octets) => octets.into(),
        Octets::V6(octets) => octets.into(),
    }
}

/// Where in an entry the level lies.
const LEVEL: usize = 28;

// include/uapi/linux/bpf.h, enum xdp_action
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
