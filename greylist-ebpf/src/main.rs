//! The XDP program: maps, the frame as the kernel shows it, the entry point. It holds no rule;
//! those are in the library, where the host can test them.
//!
//! Minimum kernel 6.1. `cargo xtask build` compiles it for the BPF target; for any other it is an
//! empty `main`, so that linting with all features passes.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// Compiler support for BPF assembly is still a feature; the aya-ebpf crate needs it as well.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program {
    #![expect(
        unsafe_code,
        reason = "map values and frames are raw memory that the verifier checks, and sections need names"
    )]

    use core::{
        arch::asm,
        mem::MaybeUninit,
        ptr::{addr_of, addr_of_mut},
    };

    use aya_ebpf::{
        bindings::{BPF_F_NO_PREALLOC, xdp_action},
        helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_xdp_load_bytes},
        macros::{map, xdp},
        maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
        programs::XdpContext,
    };
    use greylist_ebpf::{
        abi::{
            self, Admitted, ClientEntry, Config, Counter, Dropped, Event, Ipv4Key, Ipv6Key,
            KernelTime, Level, Moment, Presence,
        },
        packet::{Address, Frame, NewConnection, Octets, Part},
        verdict::{self, Action, Entry, Nearby, Tables},
    };

    // Preallocated, so that a full map is an honest error and an update allocates nothing. The
    // daemon sets the size at load time.
    #[map]
    static SENTENCES_V4: HashMap<Ipv4Key, ClientEntry> = HashMap::with_max_entries(1, 0);
    #[map]
    static SENTENCES_V6: HashMap<Ipv6Key, ClientEntry> = HashMap::with_max_entries(1, 0);
    #[map]
    static PRESENCE_V4: Array<Presence> = Array::with_max_entries(abi::MOST_PRESENCE_WORDS, 0);
    #[map]
    static PRESENCE_V6: Array<Presence> = Array::with_max_entries(abi::MOST_PRESENCE_WORDS, 0);
    // A trie cannot be preallocated.
    #[map]
    static ALLOWED_V4: LpmTrie<[u8; 4], u8> =
        LpmTrie::with_max_entries(abi::ALLOWED_NETWORKS, BPF_F_NO_PREALLOC);
    #[map]
    static ALLOWED_V6: LpmTrie<[u8; 16], u8> =
        LpmTrie::with_max_entries(abi::ALLOWED_NETWORKS, BPF_F_NO_PREALLOC);
    #[map]
    static DESTINATIONS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(abi::DESTINATIONS, 0);
    #[map]
    static PORTS: Array<u64> = Array::with_max_entries(abi::PORT_WORDS, 0);
    #[map]
    static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
    #[map]
    static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);
    #[map]
    static EVENTS: RingBuf = RingBuf::with_byte_size(abi::EVENT_BYTES, 0);
    #[map]
    static CLOCK: PerCpuArray<Moment> = PerCpuArray::with_max_entries(1, 0);

    /// The size of the presence maps: the daemon sets both when it loads the object.
    #[unsafe(no_mangle)]
    static PRESENCE_WORDS: u32 = abi::MOST_PRESENCE_WORDS;

    /// For whoever wants to know whose program this is.
    #[unsafe(no_mangle)]
    static GREYGATE_MARK: [u8; 16] = abi::MARK;

    #[unsafe(link_section = "greygate_abi")]
    #[unsafe(no_mangle)]
    static GREYGATE_ABI: [u8; 4] = abi::VERSION.to_le_bytes();

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    /// Runs on each frame that arrives. `frags`: jumbo frames are no reason to refuse the program,
    /// since every header lies in the linear part.
    #[xdp(frags)]
    fn greygate(context: XdpContext) -> u32 {
        let outcome = verdict::decide(&XdpFrame(&context), &Maps);
        if let Some(frames) = COUNTERS.get_ptr_mut(outcome.counter.index()) {
            // SAFETY: the map gave the pointer. Programs on one CPU take turns, since they run with
            // bottom halves off; where a kernel lets one into another, a count may be lost.
            unsafe { *frames += 1 };
        }
        match outcome.action {
            Action::Drop => {
                #[cfg(feature = "debug-log")]
                aya_log_ebpf::info!(&context, "{}", outcome.counter.name());
                xdp_action::XDP_DROP
            }
            Action::Pass => {
                #[cfg(feature = "debug-log")]
                aya_log_ebpf::trace!(&context, "{}", outcome.counter.name());
                xdp_action::XDP_PASS
            }
        }
    }

    /// A frame; read in place it shows its linear part, where all headers are.
    struct XdpFrame<'a>(&'a XdpContext);

    impl Frame for XdpFrame<'_> {
        type Part<'a>
            = InPlace
        where
            Self: 'a;

        #[inline(always)]
        fn part<const N: usize>(&self, offset: usize) -> Option<InPlace> {
            let start = self.0.data() + offset;
            // In this form, pointer plus length against the end, the verifier sees the bound.
            (start + N <= self.0.data_end()).then_some(InPlace(start))
        }

        #[inline(always)]
        fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
            // Not zeroed: that loop of pointer arithmetic is what needs the right we do without.
            let mut bytes = MaybeUninit::<[u8; N]>::uninit();
            // SAFETY: the helper checks the frame's bounds itself, and writes `N` bytes to `bytes`.
            let error = unsafe {
                bpf_xdp_load_bytes(
                    self.0.ctx,
                    offset as u32,
                    bytes.as_mut_ptr().cast(),
                    N as u32,
                )
            };
            // SAFETY: without an error all `N` bytes were written.
            (error == 0).then(|| unsafe { bytes.assume_init() })
        }
    }

    /// A part of the frame's memory whose bounds were checked.
    struct InPlace(usize);

    /// Loads a number of the type `$type`, `$size` to the assembler, from `AT` bytes behind `$part`.
    ///
    /// A frame has no alignment that Rust knows of, and for memory without one the compiler reads
    /// byte after byte. The machines that BPF programs are compiled for read it whole, or the
    /// kernel aligns the IP header for them (`NET_IP_ALIGN`).
    macro_rules! load {
        ($part:expr, $type:ty, $size:literal) => {{
            let number: $type;
            // SAFETY: `part` has checked the bounds, and so does the verifier.
            unsafe {
                asm!(
                    concat!("{number} = *(", $size, " *)({part} + {at})"),
                    number = out(reg) number,
                    part = in(reg) $part.0,
                    at = const AT,
                    options(pure, readonly, nostack),
                );
            }
            <$type>::from_be(number)
        }};
    }

    impl Part for InPlace {
        #[inline(always)]
        fn u8<const AT: usize>(&self) -> u8 {
            load!(self, u8, "u8")
        }

        #[inline(always)]
        fn u16<const AT: usize>(&self) -> u16 {
            load!(self, u16, "u16")
        }

        #[inline(always)]
        fn u32<const AT: usize>(&self) -> u32 {
            load!(self, u32, "u32")
        }

        #[inline(always)]
        fn u64<const AT: usize>(&self) -> u64 {
            load!(self, u64, "u64")
        }
    }

    struct Maps;

    impl Tables for Maps {
        type Entry = MapEntry;

        #[inline(always)]
        fn is_protected(&self, port: u16) -> bool {
            let (index, mask) = abi::port_bit(port);
            PORTS.get(index).is_some_and(|word| word & mask != 0)
        }

        #[inline(always)]
        fn presence(&self, client: &Address) -> Nearby {
            // SAFETY: a constant of this object. Volatile, since it is changed before it is loaded;
            // the verifier then takes it for the constant it is.
            let words = unsafe { addr_of!(PRESENCE_WORDS).read_volatile() };
            let (word, mask) = match client.octets() {
                Octets::V4(address) => {
                    let bit = Ipv4Key::host(address).presence();
                    (PRESENCE_V4.get(bit.index(words)), bit.mask())
                }
                Octets::V6(address) => {
                    let bit = Ipv6Key::host(address).presence();
                    (PRESENCE_V6.get(bit.index(words)), bit.mask())
                }
            };
            word.map_or_else(Nearby::default, |word| Nearby {
                host: word.hosts & mask != 0,
                network: word.networks & mask != 0,
            })
        }

        #[inline(always)]
        fn host(&self, client: &Address) -> Option<MapEntry> {
            match client.octets() {
                Octets::V4(address) => SENTENCES_V4.get_ptr_mut(Ipv4Key::host(address)),
                Octets::V6(address) => SENTENCES_V6.get_ptr_mut(Ipv6Key::host(address)),
            }
            .map(MapEntry)
        }

        #[inline(always)]
        fn network(&self, client: &Address) -> Option<MapEntry> {
            match client.octets() {
                Octets::V4(address) => SENTENCES_V4.get_ptr_mut(Ipv4Key::network_of(address)),
                Octets::V6(address) => SENTENCES_V6.get_ptr_mut(Ipv6Key::network_of(address)),
            }
            .map(MapEntry)
        }

        #[inline(always)]
        fn now(&self) -> KernelTime {
            // The coarse clock, exact to a tick or two, goes on with the tick only. To ask for the
            // tick costs nothing, since the JIT puts the load in place (from 5.6); to ask for the time
            // is a call.
            let Some(moment) = CLOCK.get_ptr_mut(0) else {
                // SAFETY: the helper takes nothing and touches nothing.
                return KernelTime::from_nanos(unsafe { bpf_ktime_get_coarse_ns() });
            };
            // SAFETY: the map gave the pointer; the helpers take nothing and touch nothing. Should a
            // kernel let one program into another on this CPU, the time is wrong for a tick at most:
            // the tick is written last.
            unsafe {
                let tick = bpf_jiffies64();
                if (*moment).tick != tick {
                    (*moment).now = bpf_ktime_get_coarse_ns();
                    (*moment).tick = tick;
                }
                KernelTime::from_nanos((*moment).now)
            }
        }

        #[inline(always)]
        fn config(&self) -> Option<&Config> {
            CONFIG.get(0)
        }

        #[inline(always)]
        fn is_destination(&self, address: &Address) -> bool {
            DESTINATIONS.get_ptr(address.as_ipv6()).is_some()
        }

        #[inline(always)]
        fn is_allowed(&self, client: &Address) -> bool {
            match client.octets() {
                Octets::V4(address) => ALLOWED_V4.get(Key::new(32, address)).is_some(),
                Octets::V6(address) => ALLOWED_V6.get(Key::new(128, address)).is_some(),
            }
        }

        #[inline(always)]
        fn tell(
            &self,
            connection: &NewConnection,
            counter: Counter,
            now: KernelTime,
            interval: u64,
        ) {
            let Some(moment) = CLOCK.get_ptr_mut(0) else {
                return;
            };
            // SAFETY: the map gave the pointer; programs on one CPU take turns, and a sample may be
            // one too many.
            unsafe {
                if now.as_nanos() < (*moment).next_event {
                    return;
                }
                (*moment).next_event = now.as_nanos().saturating_add(interval);
            }
            let event = Event::new(connection.client.as_ipv6(), connection.port, counter);
            // A full buffer loses the event, which is a sample.
            let _ = EVENTS.output::<Event>(&event, 0);
        }
    }

    /// An entry in place. Removed ones stay readable until the program returns; one that was
    /// removed and reused at this very moment shows another client's sentence to a single SYN.
    struct MapEntry(*mut ClientEntry);

    // `core`'s atomics do not exist for this target (no compare-exchange, says its specification),
    // the instructions do. Plain reads and writes of aligned words are whole.
    impl Entry for MapEntry {
        #[inline(always)]
        fn until(&self) -> KernelTime {
            // SAFETY: the map gave the pointer; user space replaces entries, it never writes in one.
            unsafe { addr_of!((*self.0).until).read() }
        }

        #[inline(always)]
        fn level(&self) -> Option<Level> {
            // SAFETY: as for `until`.
            unsafe { (*self.0).level() }
        }

        #[inline(always)]
        fn generation(&self) -> u16 {
            // SAFETY: as for `until`.
            unsafe { addr_of!((*self.0).generation).read() }
        }

        #[inline(always)]
        fn arrival(&self) -> KernelTime {
            // SAFETY: as for `until`; other CPUs write it whole.
            unsafe { addr_of!((*self.0).arrival).read_volatile() }
        }

        #[inline(always)]
        fn swap_arrival(&self, seen: KernelTime, next: KernelTime) -> bool {
            let found: u64;
            // SAFETY: the map gave the pointer, and an aligned u64 lies at it.
            unsafe {
                asm!(
                    "r0 = cmpxchg_64({arrival} + 0, r0, {next})",
                    arrival = in(reg) addr_of_mut!((*self.0).arrival),
                    next = in(reg) next.as_nanos(),
                    inlateout("r0") seen.as_nanos() => found,
                    options(nostack),
                );
            }
            found == seen.as_nanos()
        }

        #[inline(always)]
        fn admitted(&self) -> Admitted {
            // SAFETY: as for `arrival`.
            unsafe { addr_of!((*self.0).admitted).read_volatile() }
        }

        #[inline(always)]
        fn admit(&self, admitted: Admitted) {
            // SAFETY: as for `arrival`.
            unsafe { addr_of_mut!((*self.0).admitted).write_volatile(admitted) }
        }

        #[inline(always)]
        fn swap_admitted(&self, seen: Admitted, next: Admitted) -> bool {
            let found: u64;
            // SAFETY: the map gave the pointer, and an aligned u32 lies at it.
            unsafe {
                asm!(
                    "w0 = cmpxchg32_32({admitted} + 0, w0, w2)",
                    admitted = in(reg) addr_of_mut!((*self.0).admitted),
                    in("r2") u64::from(next.bits()),
                    inlateout("r0") u64::from(seen.bits()) => found,
                    options(nostack),
                );
            }
            found == u64::from(seen.bits())
        }

        #[inline(always)]
        fn dropped(&self) -> Dropped {
            // SAFETY: as for `arrival`.
            unsafe { addr_of!((*self.0).dropped).read_volatile() }
        }

        #[inline(always)]
        fn note_dropped(&self, dropped: Dropped) {
            // SAFETY: as for `arrival`.
            unsafe { addr_of_mut!((*self.0).dropped).write_volatile(dropped) }
        }

        #[inline(always)]
        fn count(&self) {
            // SAFETY: the map gave the pointer, and an aligned u64 lies at it. Other CPUs may count
            // the same client.
            unsafe {
                asm!(
                    "lock *(u64 *)({drops} + 0) += {one}",
                    drops = in(reg) addr_of_mut!((*self.0).drops),
                    one = in(reg) 1_u64,
                    options(nostack),
                );
            }
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // Cannot be reached: the linker drops it, and the verifier would refuse an endless loop.
        loop {}
    }
}
