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

    use core::mem::MaybeUninit;
    use core::ptr::{addr_of, addr_of_mut};

    use aya_ebpf::{
        bindings::{BPF_F_NO_PREALLOC, xdp_action},
        helpers::generated::{bpf_ktime_get_coarse_ns, bpf_xdp_load_bytes},
        macros::{map, xdp},
        maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
        programs::XdpContext,
    };
    use greylist_ebpf::{
        abi::{self, ClientEntry, Config, Counter, Ipv4Key, Ipv6Key, KernelTime, Level, Presence},
        packet::{Client, Frame},
        verdict::{self, Action, Entry, Tables},
    };

    // Preallocated, so that a full map is an honest error and an update allocates nothing. The
    // daemon sets the size at load time.
    #[map]
    static SENTENCES_V4: HashMap<Ipv4Key, ClientEntry> = HashMap::with_max_entries(1, 0);
    #[map]
    static SENTENCES_V6: HashMap<Ipv6Key, ClientEntry> = HashMap::with_max_entries(1, 0);
    #[map]
    static PRESENCE_V4: Array<Presence> = Array::with_max_entries(abi::PRESENCE_WORDS, 0);
    #[map]
    static PRESENCE_V6: Array<Presence> = Array::with_max_entries(abi::PRESENCE_WORDS, 0);
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
    static EVENT_CLOCK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

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
            // SAFETY: the map gave the pointer, and no other program runs on this CPU meanwhile.
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
        #[inline(always)]
        fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
            let start = self.0.data() + offset;
            // In this form, pointer plus length against the end, the verifier sees the bound.
            if start + N > self.0.data_end() {
                return None;
            }
            // SAFETY: `N` bytes from `start` lie in the frame, and bytes have no alignment.
            Some(unsafe { *(start as *const [u8; N]) })
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

    struct Maps;

    impl Tables for Maps {
        type Entry = MapEntry;

        #[inline(always)]
        fn is_protected(&self, port: u16) -> bool {
            let (index, mask) = abi::port_bit(port);
            PORTS.get(index).is_some_and(|word| word & mask != 0)
        }

        #[inline(always)]
        fn entry(&self, client: &Client) -> Option<MapEntry> {
            match *client {
                Client::V4(address) => SENTENCES_V4.get_ptr_mut(Ipv4Key::host(address)),
                Client::V6(address) => SENTENCES_V6.get_ptr_mut(Ipv6Key::network_of(address)),
            }
            .map(MapEntry)
        }

        #[inline(always)]
        fn now(&self) -> KernelTime {
            // The coarse clock is exact to a tick, a few milliseconds, at a third of the price.
            // SAFETY: the helper takes nothing and touches nothing.
            KernelTime::from_nanos(unsafe { bpf_ktime_get_coarse_ns() })
        }
    }

    /// An entry in place. Removed ones stay readable until the program returns; one that was
    /// removed and reused at this very moment shows another client's sentence to a single SYN.
    struct MapEntry(*mut ClientEntry);

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
        fn count(&self) {
            // `core`'s atomics do not exist for this target (no compare-exchange, says its
            // specification), the instruction does. Other CPUs may count the same client.
            // SAFETY: the map gave the pointer, and an aligned u64 lies at it.
            unsafe {
                core::arch::asm!(
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
