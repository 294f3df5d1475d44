//! The programs of `cargo xtask bench kernel`: they give each frame another source address, and
//! hand it to the program that is measured. Never shipped.
//!
//! `BPF_PROG_TEST_RUN` repeats one frame, which measures a map whose one entry lies in the nearest
//! cache. So [`program::vary`] writes the next address of a list into the frame and calls the
//! measured program by a tail call. What that costs is the same for all that are compared.
//!
//! Knows Ethernet, IP without options and TCP, and believes the frames that the benchmark builds.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program {
    #![expect(
        unsafe_code,
        reason = "map values and frames are raw memory that the verifier checks, and sections need names"
    )]

    use core::arch::asm;

    use aya_ebpf::{
        bindings::xdp_action,
        macros::{map, xdp},
        maps::{Array, PerCpuArray, ProgramArray},
        programs::XdpContext,
    };

    /// Writes a number of `$size` whole, in the byte order it has, `$at` bytes behind `$start`.
    ///
    /// A frame has no alignment that Rust knows of, and byte after byte is not what a network card
    /// does: the measured program's reads would wait for all of them.
    macro_rules! store {
        ($start:expr, $at:expr, $size:literal, $number:expr) => {
            // SAFETY: the bounds were checked, and so does the verifier.
            unsafe {
                asm!(
                    concat!("*(", $size, " *)({start} + {at}) = {number}"),
                    start = in(reg) $start,
                    at = const $at,
                    number = in(reg) $number,
                    options(nostack),
                );
            }
        };
    }

    /// Addresses in each list: a power of two, so that the next one costs no division.
    const SOURCES: u32 = 1 << 20;

    /// The addresses that IPv4 frames get, in their turn.
    #[map]
    static SOURCES_V4: Array<u32> = Array::with_max_entries(SOURCES, 0);
    /// The same for IPv6.
    #[map]
    static SOURCES_V6: Array<[u64; 2]> = Array::with_max_entries(SOURCES, 0);
    /// Frames seen by each CPU: whose turn it is.
    #[map]
    static TURN: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
    /// The measured program, in slot 0. The kernel keeps programs that know fragmented frames
    /// apart from those that do not: one array for each.
    #[map]
    static MEASURED: ProgramArray = ProgramArray::with_max_entries(1, 0);
    #[map]
    static MEASURED_FRAGS: ProgramArray = ProgramArray::with_max_entries(1, 0);

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    /// Only passes: what is subtracted from all that is measured.
    #[xdp]
    fn pass(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[xdp(frags)]
    fn pass_frags(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Gives the frame another source and sends it out where it came in.
    #[xdp]
    fn send(context: XdpContext) -> u32 {
        next_source(&context);
        xdp_action::XDP_TX
    }

    /// Gives the frame another source and hands it to the measured program.
    #[xdp]
    fn vary(context: XdpContext) -> u32 {
        next_source(&context);
        // SAFETY: nothing here waits to be dropped.
        unsafe { MEASURED.tail_call(&context, 0) };
        // Reached only without a measured program; the benchmark notices, since nothing is counted.
        xdp_action::XDP_ABORTED
    }

    #[xdp(frags)]
    fn vary_frags(context: XdpContext) -> u32 {
        next_source(&context);
        // SAFETY: as above.
        unsafe { MEASURED_FRAGS.tail_call(&context, 0) };
        xdp_action::XDP_ABORTED
    }

    /// Writes the next source address, and another sequence number, so that no SYN looks like the
    /// repetition of one before.
    #[inline(always)]
    fn next_source(context: &XdpContext) {
        let Some(turn) = TURN.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: the map gave the pointer, and no other program runs on this CPU meanwhile.
        let number = unsafe {
            *turn = (*turn).wrapping_add(1);
            *turn
        };
        let index = number & (SOURCES - 1);
        let (start, end) = (context.data(), context.data_end());
        // Pointer plus length against the end: in this form the verifier sees the bound.
        if start + IPV4_SEQUENCE + 4 > end {
            return;
        }
        // SAFETY: the byte lies in the frame.
        match unsafe { *((start + VERSION) as *const u8) } {
            0x45 => {
                if let Some(source) = SOURCES_V4.get(index) {
                    store!(start, IPV4_SOURCE, "u32", *source);
                }
                store!(start, IPV4_SEQUENCE, "u32", number);
            }
            0x60 if start + IPV6_SEQUENCE + 4 <= end => {
                if let Some([network, host]) = SOURCES_V6.get(index) {
                    store!(start, IPV6_SOURCE, "u64", *network);
                    store!(start, IPV6_SOURCE + 8, "u64", *host);
                }
                store!(start, IPV6_SEQUENCE, "u32", number);
            }
            _ => {}
        }
    }

    /// Version and, on IPv4, length of the header.
    const VERSION: usize = 14;
    const IPV4_SOURCE: usize = 14 + 12;
    const IPV4_SEQUENCE: usize = 14 + 20 + 4;
    const IPV6_SOURCE: usize = 14 + 8;
    const IPV6_SEQUENCE: usize = 14 + 40 + 4;

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}
