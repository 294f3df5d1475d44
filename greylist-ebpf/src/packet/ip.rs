//! IPv4 (RFC 791) and IPv6 (RFC 8200), to the TCP header.
//!
//! Each comes in two forms: behind a plain Ethernet header the packet lies at a constant offset and
//! is read in place; behind VLAN tags, IPv4 options or extension headers it is copied.
//!
//! Each fixed header is read whole, once: the verifier keeps no bound that a compiler inferred from
//! another one, as it does for a field in front of what was checked already.

use super::{
    Address, Frame, NewConnection, Part,
    frame::{copy, read},
    tcp,
};
use crate::abi::Counter;

/// IPv6 extension headers that are walked; a longer chain is not understood.
pub const EXTENSION_HEADERS: usize = 6;

/// The IPv4 packet at the constant `at`.
#[inline(always)]
pub(super) fn v4<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<NewConnection, Counter> {
    let header = read::<_, V4_HEADER>(frame, at)?;
    let length = v4_length(&header)?;
    let [client, destination] = v4_addresses(&header);
    if length == V4_HEADER {
        let segment = read::<_, { tcp::HEADER }>(frame, at + V4_HEADER)?;
        tcp::opened(&segment, client, destination)
    } else {
        let segment: [u8; tcp::HEADER] = copy(frame, at + length)?;
        tcp::opened(&segment, client, destination)
    }
}

/// The length of the header, when TCP follows it.
#[inline(always)]
fn v4_length<P: Part>(header: &P) -> Result<usize, Counter> {
    let first = header.u8::<0>();
    let length = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || length < V4_HEADER {
        return Err(Counter::Malformed);
    }
    if header.u8::<9>() != TCP {
        return Err(Counter::NotTcp);
    }
    if header.u16::<6>() & FRAGMENT_OFFSET_V4 != 0 {
        return Err(Counter::Fragment);
    }
    Ok(length)
}

/// Source and destination.
#[inline(always)]
fn v4_addresses<P: Part>(header: &P) -> [Address; 2] {
    [header.u32::<12>(), header.u32::<16>()].map(Address::v4)
}

/// The IPv6 packet at the constant `at`.
#[inline(always)]
pub(super) fn v6<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<NewConnection, Counter> {
    let header = read::<_, V6_HEADER>(frame, at)?;
    let next_header = v6_next(&header)?;
    let [client, destination] = v6_addresses(&header);
    if next_header == TCP {
        let segment = read::<_, { tcp::HEADER }>(frame, at + V6_HEADER)?;
        tcp::opened(&segment, client, destination)
    } else {
        let at = behind_extensions(frame, next_header, at + V6_HEADER)?;
        let segment: [u8; tcp::HEADER] = copy(frame, at)?;
        tcp::opened(&segment, client, destination)
    }
}

/// The kind of what follows the fixed header.
#[inline(always)]
fn v6_next<P: Part>(header: &P) -> Result<u8, Counter> {
    if header.u8::<0>() >> 4 != 6 {
        return Err(Counter::Malformed);
    }
    Ok(header.u8::<6>())
}

/// Source and destination.
#[inline(always)]
fn v6_addresses<P: Part>(header: &P) -> [Address; 2] {
    [
        Address::v6(header.u64::<8>(), header.u64::<16>()),
        Address::v6(header.u64::<24>(), header.u64::<32>()),
    ]
}

/// Walks the extension headers that begin at `at`, of which the first is of kind `next_header`, to
/// the offset of the TCP header.
///
/// Only headers whose length is known by their RFC are walked; guessing past an unknown one would
/// let a sender forge the ports we see.
#[inline(never)]
fn behind_extensions<F: Frame + ?Sized>(
    frame: &F,
    mut next_header: u8,
    mut at: usize,
) -> Result<usize, Counter> {
    for _ in 0..EXTENSION_HEADERS {
        match next_header {
            TCP => return Ok(at),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let [next, eights] = copy(frame, at)?;
                next_header = next;
                at += 8 + usize::from(eights) * 8;
            }
            AUTHENTICATION => {
                let [next, fours] = copy(frame, at)?;
                next_header = next;
                at += 8 + usize::from(fours) * 4;
            }
            FRAGMENT => {
                let [next, _, high, low] = copy(frame, at)?;
                if u16::from_be_bytes([high, low]) & FRAGMENT_OFFSET_V6 != 0 {
                    return Err(Counter::Fragment);
                }
                next_header = next;
                at += 8;
            }
            ENCRYPTED | MOBILITY | HOST_IDENTITY | SHIM6 => return Err(Counter::Extensions),
            _ => return Err(Counter::NotTcp),
        }
    }
    if next_header == TCP {
        Ok(at)
    } else {
        Err(Counter::Extensions)
    }
}

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

const FRAGMENT_OFFSET_V4: u16 = 0x1fff;
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

// Protocol numbers and IPv6 extension headers, as IANA assigns them.
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCRYPTED: u8 = 50;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
