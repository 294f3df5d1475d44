//! What the program tells user space of single connections that it dropped or observed.

use super::Counter;

/// One SYN that was dropped, or was counted as observed, told to user space: a sample, of which any
/// may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Who sent it: [`mapped`] where it is IPv4.
    pub client: [u8; 16],
    /// The port it was sent to.
    pub port: u16,
    /// What it was counted as: [`Counter::index`].
    pub counter: u8,
    // Two numbers and no array, for the reason that `mapped` gives.
    padding: u8,
    more_padding: u32,
}

impl Event {
    /// A SYN from `client` to `port` that was counted under `counter`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "there are few counters")]
    pub const fn new(client: [u8; 16], port: u16, counter: Counter) -> Self {
        Self {
            client,
            port,
            counter: counter.index() as u8,
            padding: 0,
            more_padding: 0,
        }
    }
}

/// An IPv4 address as an IPv6 address (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    // As one number: of ten zeros side by side the compiler makes a loop over the stack, which takes
    // a right that the daemon does without.
    (0xffff << 32 | u32::from_be_bytes(address) as u128).to_be_bytes()
}
