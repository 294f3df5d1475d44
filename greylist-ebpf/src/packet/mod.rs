//! From a frame to the new TCP connection it opens, or to the reason it opens none.
//!
//! Knows Ethernet II with VLAN tags (IEEE 802.1Q), IPv4 (RFC 791), IPv6 with a bounded walk of its
//! extension headers (RFC 8200) and the flags of TCP (RFC 9293). Nothing of maps, ports or time.
//!
//! What is not understood is not an error but a [`Counter`], and passes: a filter that guesses
//! locks its owner out. So a sentenced client can hide a SYN in a fragment too short for the TCP
//! header, or behind a chain of extension headers that is too long; the stack behind decides then.
//!
//! - [`connection`]: what a frame that opens a connection says of it.
//! - [`frame`]: how a frame is read, in place or as a copy.
//! - [`ip`]: IPv4, IPv6 and the extension headers.
//! - [`tcp`]: the TCP header.

mod connection;
mod frame;
mod ip;
mod tcp;

pub use connection::{Address, NewConnection, Octets};
pub use frame::{Frame, Part};
pub use ip::EXTENSION_HEADERS;

use crate::abi::Counter;

/// VLAN tags that are walked; a deeper stack is not understood.
pub const VLAN_TAGS: usize = 4;

/// Reads `frame` as an Ethernet II frame.
///
/// # Errors
///
/// The reason why the frame opens no connection, as far as it was understood.
#[inline(always)]
pub fn new_connection<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    match untagged(frame) {
        Some(result) => result,
        None => tagged(frame),
    }
}

/// Reads `frame` unless its packet lies behind tags.
///
/// It is a half of [`new_connection`], for a caller that keeps the usual frame's way short.
#[inline(always)]
pub fn untagged<F: Frame + ?Sized>(frame: &F) -> Option<Result<NewConnection, Counter>> {
    packet(frame, ETHERNET_HEADER)
}

/// Reads `frame`, whose packet lies behind tags: the other half of [`new_connection`].
///
/// # Errors
///
/// The reason why the frame opens no connection, as far as it was understood.
#[inline(always)]
pub fn tagged<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    // Spelled out, so that each offset is a constant.
    packet(frame, ETHERNET_HEADER + TAG)
        .or_else(|| packet(frame, ETHERNET_HEADER + 2 * TAG))
        .or_else(|| packet(frame, ETHERNET_HEADER + 3 * TAG))
        .or_else(|| packet(frame, ETHERNET_HEADER + VLAN_TAGS * TAG))
        .unwrap_or(Err(Counter::VlanDepth))
}

/// The packet that begins at the constant `at`, behind its ethertype; `None` when that says that
/// one more tag begins there.
#[inline(always)]
fn packet<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Result<NewConnection, Counter>> {
    let Some(ethertype) = frame.part::<2>(at - 2) else {
        return Some(Err(Counter::Truncated));
    };
    match ethertype.u16::<0>() {
        IPV4 => Some(ip::v4(frame, at)),
        IPV6 => Some(ip::v6(frame, at)),
        CUSTOMER_TAG | SERVICE_TAG | OLD_SERVICE_TAG => None,
        _ => Some(Err(Counter::NotIp)),
    }
}

const ETHERNET_HEADER: usize = 14;
const TAG: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
// IEEE 802.1Q, and what service tags were before they had a number of their own.
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
const OLD_SERVICE_TAG: u16 = 0x9100;
