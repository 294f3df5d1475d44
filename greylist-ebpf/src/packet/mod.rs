//! From a frame to the new TCP connection it opens, or to the reason it opens none.
//!
//! Knows Ethernet II with VLAN tags (IEEE 802.1Q), IPv4 (RFC 791), IPv6 with a bounded walk of its
//! extension headers (RFC 8200) and the flags of TCP (RFC 9293). Nothing of maps, ports or time.
//!
//! What is not understood is not an error but a [`Counter`], and passes: a filter that guesses
//! locks its owner out. So a sentenced client can hide a SYN in a fragment too short for the TCP
//! header, or behind a chain of extension headers that is too long; the stack behind decides then.
//!
//! - [`frame`]: how a frame is read, in place or as a copy.
//! - [`ip`]: IPv4, IPv6 and the extension headers.
//! - [`tcp`]: the TCP header.

mod frame;
mod ip;
mod tcp;

pub use frame::{Frame, Part};
pub use ip::EXTENSION_HEADERS;

use crate::abi::Counter;

/// A TCP SYN without ACK: a client that asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnection {
    /// The source address.
    pub client: Address,
    /// The destination address.
    pub destination: Address,
    /// The destination port.
    pub port: u16,
    /// The source port.
    pub source_port: u16,
    /// The sequence number.
    pub sequence: u32,
}

impl NewConnection {
    /// What tells it from other connections of the same client, in the upper 29 bits: its first SYN
    /// and all repetitions of it have the same, others hardly ever.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is kept")]
    pub const fn mark(&self) -> u32 {
        let ports = (self.source_port as u64) << 16 | self.port as u64;
        let destination = match self.destination {
            Address::V4(address) => u32::from_be_bytes(address) as u64,
            Address::V6(address) => {
                let address = u128::from_be_bytes(address);
                (address >> 64) as u64 ^ address as u64
            }
        };
        let mixed = (ports << 32 | self.sequence as u64) ^ destination.wrapping_mul(GOLDEN);
        (mixed.wrapping_mul(GOLDEN) >> 32) as u32
    }
}

/// An address, in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

/// VLAN tags that are walked; a deeper stack is not understood.
pub const VLAN_TAGS: usize = 4;

/// Reads `frame` as an Ethernet II frame.
///
/// # Errors
///
/// The reason why the frame opens no connection, as far as it was understood.
#[inline(always)]
pub fn new_connection<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    let header = frame::read::<_, ETHERNET_HEADER>(frame, 0)?;
    match header.u16::<12>() {
        IPV4 => ip::v4(frame),
        IPV6 => ip::v6(frame),
        ethertype if is_tag(ethertype) => tagged(frame),
        _ => Err(Counter::NotIp),
    }
}

/// A frame with at least one tag. Where its packet begins is what the frame says: all is copied.
#[inline(always)]
fn tagged<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    let mut at = ETHERNET_HEADER;
    for _ in 0..VLAN_TAGS {
        let [_, _, high, low] = frame::copy(frame, at)?;
        at += TAG;
        match u16::from_be_bytes([high, low]) {
            IPV4 => return ip::v4_at(frame, at),
            IPV6 => return ip::v6_at(frame, at),
            ethertype if is_tag(ethertype) => {}
            _ => return Err(Counter::NotIp),
        }
    }
    Err(Counter::VlanDepth)
}

/// Customer and service tags (IEEE 802.1Q), and what service tags were before they had a number.
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

const ETHERNET_HEADER: usize = 14;
const TAG: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// 2^64 divided by the golden ratio, for multiplicative hashing: Knuth, TAOCP 3, 6.4.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
