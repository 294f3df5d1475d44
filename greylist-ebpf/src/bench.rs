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

    use aya_ebpf::{
        bindings::xdp_action,
        macros::{map, xdp},
        maps::{Array, PerCpuArray, ProgramArray},
        programs::XdpContext,
    };

    /// Addresses in each list: a power of two, so that the next one costs no division.
    const SOURCES: u32 = 1 << 20;

    /// The addresses that IPv4 frames get, in their turn.
    #[map]
    static SOURCES_V4: Array<[u8; 4]> = Array::with_max_entries(SOURCES, 0);
    /// The same for IPv6.
    #[map]
    static SOURCES_V6: Array<[u8; 16]> = Array::with_max_entries(SOURCES, 0);
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

    /// Only drops: how fast frames can be made and thrown away at all.
    #[xdp]
    fn discard(_: XdpContext) -> u32 {
        xdp_action::XDP_DROP
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
        // Reached only without a measured program, which the benchmark notices by this.
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
        match read(context, VERSION) {
            Some(0x45) => {
                if let Some(source) = SOURCES_V4.get(index) {
                    write(context, IPV4_SOURCE, *source);
                }
                write(context, IPV4_SEQUENCE, number.to_ne_bytes());
            }
            Some(0x60) => {
                if let Some(source) = SOURCES_V6.get(index) {
                    write(context, IPV6_SOURCE, *source);
                }
                write(context, IPV6_SEQUENCE, number.to_ne_bytes());
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn read(context: &XdpContext, offset: usize) -> Option<u8> {
        let at = context.data() + offset;
        if at + 1 > context.data_end() {
            return None;
        }
        // SAFETY: the byte lies in the frame.
        Some(unsafe { *(at as *const u8) })
    }

    #[inline(always)]
    fn write<const N: usize>(context: &XdpContext, offset: usize, bytes: [u8; N]) {
        let at = context.data() + offset;
        if at + N <= context.data_end() {
            // SAFETY: `N` bytes from `at` lie in the frame, and bytes have no alignment.
            unsafe { *(at as *mut [u8; N]) = bytes };
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
