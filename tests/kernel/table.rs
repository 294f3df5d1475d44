//! The table of frames, judged twice: by the library on the host, and by the object in the kernel.

use std::collections::HashMap;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use greygate::clock;
use greylist_ebpf::{
    abi::{self, ClientEntry, Counter, Ipv4Key, Ipv6Key, KernelTime, Level},
    packet::{Address, NewConnection},
    verdict::{Action, Entry, Nearby, Outcome, Tables, decide},
};
use support::{needs, requirements};

use crate::frames::{
    BLOCKED, BLOCKED_V6, Case, ENDED, OBSERVED, PROTECTED, UNKNOWN, cases, plain_syns,
};

#[test]
fn library_judges_every_frame_of_the_table() {
    let host = Host::new();
    for Case {
        name,
        frame,
        action,
        counter,
    } in cases()
    {
        let outcome = decide(frame.as_slice(), &host);
        assert_eq!(outcome, Outcome { action, counter }, "{name}");
    }
}

#[test]
fn kernel_judges_every_frame_of_the_table() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let mut program = Program::load(&object);
    for Case {
        name,
        frame,
        action,
        counter,
    } in cases()
    {
        assert_eq!(program.run(&frame), Outcome { action, counter }, "{name}");
    }
}

#[test]
fn library_and_kernel_agree_on_every_truncation() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let host = Host::new();
    let mut program = Program::load(&object);
    for syn in plain_syns() {
        for length in 0..syn.len() {
            let cut = &syn[..length];
            let outcome = decide(cut, &host);
            assert_eq!(outcome.action, Action::Pass, "cut to {length} bytes");
            assert_eq!(outcome.counter, Counter::Truncated, "cut to {length} bytes");
            // The kernel itself takes no frame shorter than an Ethernet header.
            if length >= 14 {
                assert_eq!(program.run(cut), outcome, "cut to {length} bytes");
            }
        }
    }
}

/// Every byte of the headers, set to every value in turn: nothing that differs from a SYN of a
/// blocked client to a protected port may be dropped by the kernel, whatever it is.
#[test]
fn library_and_kernel_agree_on_every_changed_byte() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let host = Host::new();
    let mut program = Program::load(&object);
    for syn in plain_syns() {
        for offset in 12..syn.len() {
            for value in 0..=u8::MAX {
                let mut frame = syn.clone();
                frame[offset] = value;
                let expected = decide(frame.as_slice(), &host);
                assert_eq!(program.run(&frame), expected, "byte {offset} is {value}");
            }
        }
    }
}

#[test]
fn entry_counts_what_it_met() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let mut program = Program::load(&object);
    for _ in 0..3 {
        program.run(&plain_syns()[0]);
    }
    assert_eq!(program.drops(BLOCKED), 3);
    assert_eq!(program.drops(OBSERVED), 0);
}

#[test]
fn verifier_stays_within_its_budget() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let mut program = Program::load(&object);
    let info = program.xdp().info().expect("a loaded program");
    let verified = info
        .verified_instruction_count()
        .expect("kernels from 5.16 tell");
    let size = std::fs::metadata(&object)
        .expect("it was read before")
        .len();
    println!(
        "object {size} bytes, {} bytes of instructions, {} jited, {verified} instructions verified",
        info.size_translated().unwrap_or(0),
        info.size_jitted(),
    );
    assert!(
        verified < VERIFIER_BUDGET,
        "the verifier walked {verified} instructions; the budget is {VERIFIER_BUDGET}"
    );
}

/// A twentieth of what the kernel allows (one million), and many times what is needed: what it
/// guards against is a loop that the verifier walks path by path.
const HOUR: u64 = 3_600_000_000_000;
const CONFIG: abi::Config = abi::Config::new(abi::Limit::new(HOUR, 1), abi::Limit::new(HOUR, 1), 1);
const VERIFIER_BUDGET: u32 = 50_000;

/// A level that no build knows, as it lies in an entry.
const UNKNOWN_LEVEL: u8 = 77;

/// The same entries as [`Program`] holds, on the host.
struct Host {
    sentences: HashMap<Address, HostEntry>,
}

#[derive(Clone, Copy)]
struct HostEntry {
    until: KernelTime,
    level: Option<Level>,
}

impl Host {
    fn new() -> Self {
        let lasting = KernelTime::from_nanos(u64::MAX);
        let entry = |until, level| HostEntry { until, level };
        Self {
            sentences: HashMap::from([
                (Address::V4(BLOCKED), entry(lasting, Some(Level::Block))),
                (Address::V4(OBSERVED), entry(lasting, Some(Level::Observe))),
                (
                    Address::V4(ENDED),
                    entry(KernelTime::from_nanos(1), Some(Level::Block)),
                ),
                (Address::V4(UNKNOWN), entry(lasting, None)),
                (
                    Address::V6(Ipv6Key::network_of(BLOCKED_V6).network()),
                    entry(lasting, Some(Level::Block)),
                ),
            ]),
        }
    }
}

impl Tables for Host {
    type Entry = HostEntry;

    fn is_protected(&self, port: u16) -> bool {
        PROTECTED.contains(&port)
    }

    fn presence(&self, _: &Address) -> Nearby {
        Nearby {
            host: true,
            network: true,
        }
    }

    fn host(&self, client: &Address) -> Option<HostEntry> {
        self.sentences.get(client).copied()
    }

    fn network(&self, client: &Address) -> Option<HostEntry> {
        let Address::V6(address) = *client else {
            return None;
        };
        self.sentences
            .get(&Address::V6(Ipv6Key::network_of(address).network()))
            .copied()
    }

    fn config(&self) -> Option<&abi::Config> {
        Some(&CONFIG)
    }

    fn is_destination(&self, _: &Address) -> bool {
        true
    }
    fn is_allowed(&self, _: &Address) -> bool {
        false
    }
    fn tell(&self, _: &NewConnection, _: Counter, _: KernelTime, _: u64) {}

    fn now(&self) -> KernelTime {
        clock::kernel_now()
    }
}

impl Entry for HostEntry {
    fn until(&self) -> KernelTime {
        self.until
    }

    fn level(&self) -> Option<Level> {
        self.level
    }

    fn count(&self) {}
    fn generation(&self) -> u16 {
        0
    }
    fn arrival(&self) -> KernelTime {
        KernelTime::from_nanos(u64::MAX)
    }
    fn swap_arrival(&self, _: KernelTime, _: KernelTime) -> bool {
        true
    }
    fn admitted(&self) -> abi::Admitted {
        abi::Admitted::NONE
    }
    fn admit(&self, _: abi::Admitted) {}
    fn swap_admitted(&self, _: abi::Admitted, _: abi::Admitted) -> bool {
        true
    }
}

/// The object in the kernel, attached to nothing.
struct Program {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    before: Vec<u64>,
}

impl Program {
    fn load(object: &std::path::Path) -> Self {
        let bytes = std::fs::read(object).expect("the object is readable");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(abi::map::IPV4, 16)
            .map_max_entries(abi::map::IPV6, 16)
            .load(&bytes)
            .expect("the object fits this kernel");
        protect(&mut ebpf);
        sentence(&mut ebpf);
        let map = ebpf.map_mut(abi::map::CONFIG).expect("a map");
        let mut config: Array<_, abi::Config> = map.try_into().expect("the ABI's types");
        config.set(0, CONFIG, 0).expect("a writable map");
        for (name, bit) in [
            (abi::map::PRESENCE_V4, Ipv4Key::host(BLOCKED).presence()),
            (abi::map::PRESENCE_V6, Ipv6Key::host(BLOCKED_V6).presence()),
        ] {
            let map = ebpf.map_mut(name).expect("a map");
            let mut config: Array<_, abi::Presence> = map.try_into().expect("the ABI's types");
            config
                .set(
                    bit.index(),
                    abi::Presence {
                        hosts: bit.mask(),
                        networks: bit.mask(),
                    },
                    0,
                )
                .expect("a writable map");
        }
        let counters = ebpf.take_map(abi::map::COUNTERS).expect("a map");
        let counters = PerCpuArray::try_from(counters).expect("its types are the ABI's");
        let mut program = Self {
            before: vec![0; Counter::ALL.len()],
            counters,
            ebpf,
        };
        program
            .xdp()
            .load()
            .expect("the verifier takes the program");
        program
    }

    fn xdp(&mut self) -> &mut Xdp {
        self.ebpf
            .program_mut(abi::PROGRAM)
            .expect("the program")
            .try_into()
            .expect("it is an XDP program")
    }

    /// Runs the program once on `frame`: its action, and the one counter that it raised.
    fn run(&mut self, frame: &[u8]) -> Outcome {
        let mut after = vec![0; frame.len()];
        let result = self
            .xdp()
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ..TestRunOptions::new()
            })
            .expect("a test run");
        assert_eq!(after, frame, "the program changed the frame");
        let action = match result.return_value {
            XDP_DROP => Action::Drop,
            XDP_PASS => Action::Pass,
            other => panic!("the program returned {other}"),
        };
        let now: Vec<u64> = Counter::ALL
            .iter()
            .map(|counter| self.count(*counter))
            .collect();
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

    fn count(&self, counter: Counter) -> u64 {
        let per_cpu = self.counters.get(&counter.index(), 0);
        per_cpu.expect("a counter for every reason").iter().sum()
    }

    fn drops(&self, address: [u8; 4]) -> u64 {
        let map = self.ebpf.map(abi::map::IPV4).expect("a map");
        let map: BpfHashMap<_, Ipv4Key, ClientEntry> = map.try_into().expect("the ABI's types");
        map.get(&Ipv4Key::host(address), 0).expect("an entry").drops
    }
}

fn protect(ebpf: &mut Ebpf) {
    let map = ebpf.map_mut(abi::map::PORTS).expect("a map");
    let mut words: Array<_, u64> = map.try_into().expect("the ABI's types");
    for port in PROTECTED {
        let (index, mask) = abi::port_bit(port);
        let word = words.get(&index, 0).expect("a word for every port");
        words.set(index, word | mask, 0).expect("a writable map");
    }
}

fn sentence(ebpf: &mut Ebpf) {
    let lasting = KernelTime::from_nanos(u64::MAX);
    let map = ebpf.map_mut(abi::map::IPV4).expect("a map");
    let mut ipv4: BpfHashMap<_, Ipv4Key, ClientEntry> = map.try_into().expect("the ABI's types");
    for (address, entry) in [
        (BLOCKED, owing(lasting)),
        (OBSERVED, ClientEntry::new(Level::Observe, lasting)),
        (
            ENDED,
            ClientEntry::new(Level::Block, KernelTime::from_nanos(1)),
        ),
    ] {
        let key = Ipv4Key::host(address);
        ipv4.insert(key, entry, 0).expect("a writable map");
    }
    let map = ebpf.map_mut(abi::map::IPV4).expect("a map");
    let mut raw: BpfHashMap<_, Ipv4Key, [u8; 32]> = map.try_into().expect("the ABI's sizes");
    let mut unknown = [0; 32];
    unknown[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    unknown[28] = UNKNOWN_LEVEL;
    let key = Ipv4Key::host(UNKNOWN);
    raw.insert(key, unknown, 0).expect("a writable map");
    let map = ebpf.map_mut(abi::map::IPV6).expect("a map");
    let mut ipv6: BpfHashMap<_, Ipv6Key, ClientEntry> = map.try_into().expect("the ABI's types");
    let entry = owing(lasting);
    let key = Ipv6Key::network_of(BLOCKED_V6);
    ipv6.insert(key, entry, 0).expect("a writable map");
}

// include/uapi/linux/bpf.h, enum xdp_action
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn owing(lasting: KernelTime) -> ClientEntry {
    let mut entry = ClientEntry::new(Level::Block, lasting);
    entry.arrival = lasting;
    entry
}
