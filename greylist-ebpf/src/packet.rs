//! From a frame to the new TCP connection it opens, or to the reason it opens none.
//!
//! Knows Ethernet II, IPv4 (RFC 791), IPv6 with a bounded walk of its extension headers (RFC 8200)
//! and the flags of TCP (RFC 9293). Nothing of maps, ports or time.
//!
//! What is not understood is not an error but a [`Counter`], and passes: a filter that guesses
//! locks its owner out. So a sentenced client can hide a SYN in a fragment too short for the TCP
//! header, or behind a chain of extension headers that is too long; the stack behind decides then.

use crate::abi::Counter;

/// Read access to one frame.
///
/// Two ways, for the kernel's sake: a pointer plus a number that is known when the program is
/// loaded is free, but to add a number that the packet states to it takes `CAP_PERFMON`.
pub trait Frame {
    /// The `N` bytes that begin at `offset`, which must be a constant; `None` when the frame ends
    /// before.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// The `N` bytes that begin at `offset`, which the frame itself states; `None` when the frame
    /// ends before.
    fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Frame for [u8] {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes(offset)
    }
}

/// A TCP SYN without ACK: a client that asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnection {
    /// The source address.
    pub client: Client,
    /// The destination port.
    pub port: u16,
}

/// The address of a client, in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

/// VLAN tags that are walked; a deeper stack is not understood.
pub const VLAN_TAGS: usize = 4;

/// IPv6 extension headers that are walked; a longer chain is not understood.
pub const EXTENSION_HEADERS: usize = 6;

/// Reads `frame` as an Ethernet II frame.
///
/// # Errors
///
/// The reason why the frame opens no connection, as far as it was understood.
#[inline(always)]
pub fn new_connection<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    match u16::from_be_bytes(read(frame, 12)?) {
        0x0800 => ipv4(frame),
        0x86dd => ipv6(frame),
        _ => Err(Counter::NotIp),
    }
}

// Each fixed header is read whole, once: the verifier keeps no bound that a compiler inferred from
// another one, as it does for a field in front of what was checked already.

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    let header: [u8; IPV4_HEADER] = read(frame, ETHERNET_HEADER)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < IPV4_HEADER {
        return Err(Counter::Malformed);
    }
    if header[9] != TCP {
        return Err(Counter::NotTcp);
    }
    if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET_V4 != 0 {
        return Err(Counter::Fragment);
    }
    let segment = if length == IPV4_HEADER {
        read(frame, ETHERNET_HEADER + IPV4_HEADER)?
    } else {
        copy(frame, ETHERNET_HEADER + length)?
    };
    let port = new_connection_port(segment)?;
    let client = Client::V4([header[12], header[13], header[14], header[15]]);
    Ok(NewConnection { client, port })
}

#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F) -> Result<NewConnection, Counter> {
    let header: [u8; IPV6_HEADER] = read(frame, ETHERNET_HEADER)?;
    if header[0] >> 4 != 6 {
        return Err(Counter::Malformed);
    }
    let segment = if header[6] == TCP {
        read(frame, ETHERNET_HEADER + IPV6_HEADER)?
    } else {
        copy(frame, behind_extensions(frame, header[6])?)?
    };
    let port = new_connection_port(segment)?;
    let mut address = [0; 16];
    address.copy_from_slice(&header[8..24]);
    let client = Client::V6(address);
    Ok(NewConnection { client, port })
}

/// Walks the extension headers behind the IPv6 header, of which the first is of kind `next_header`,
/// to the offset of the TCP header.
///
/// Only headers whose length is known by their RFC are walked; guessing past an unknown one would
/// let a sender forge the ports we see.
#[inline(always)]
fn behind_extensions<F: Frame + ?Sized>(frame: &F, mut next_header: u8) -> Result<usize, Counter> {
    let mut at = ETHERNET_HEADER + IPV6_HEADER;
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

/// The destination port of the TCP segment with this header, when it asks for a connection.
#[inline(always)]
fn new_connection_port(header: [u8; TCP_HEADER]) -> Result<u16, Counter> {
    if header[12] >> 4 < 5 {
        return Err(Counter::Malformed);
    }
    // ECE and CWR may be set: they ask for congestion notification (RFC 3168).
    if header[13] & (FIN | SYN | RST | ACK) != SYN {
        return Err(Counter::NotSyn);
    }
    Ok(u16::from_be_bytes([header[2], header[3]]))
}

#[inline(always)]
fn read<F: Frame + ?Sized, const N: usize>(frame: &F, offset: usize) -> Result<[u8; N], Counter> {
    frame.bytes(offset).ok_or(Counter::Truncated)
}

#[inline(always)]
fn copy<F: Frame + ?Sized, const N: usize>(frame: &F, offset: usize) -> Result<[u8; N], Counter> {
    frame.copied(offset).ok_or(Counter::Truncated)
}

const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

const FRAGMENT_OFFSET_V4: u16 = 0x1fff;
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

// Flags of TCP, RFC 9293 section 3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::prelude::rust_2024::*;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A SYN from 192.0.2.7 to port 25, field by field.
    const SYN_V4: [u8; 54] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, // IPv4: IHL 5, DF, TTL 64, TCP
        192, 0, 2, 7, 198, 51, 100, 1, // from, to
        0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xfa, 0xf0, 0, 0, 0, 0, // TCP
    ];

    #[test]
    fn reads_a_plain_syn() {
        let connection = new_connection(SYN_V4.as_slice()).expect("a SYN");
        assert_eq!(connection.client, Client::V4([192, 0, 2, 7]));
        assert_eq!(connection.port, 25);
    }

    #[test]
    fn every_truncation_is_counted_as_one() {
        for length in 0..SYN_V4.len() {
            assert_eq!(
                new_connection(&SYN_V4[..length]),
                Err(Counter::Truncated),
                "cut to {length} bytes"
            );
        }
    }

    #[test]
    fn only_a_syn_without_ack_rst_and_fin_opens_a_connection() {
        for flags in 0..=u8::MAX {
            let mut frame = SYN_V4;
            frame[47] = flags;
            let opens = new_connection(frame.as_slice()).is_ok();
            assert_eq!(opens, flags & 0b0001_0111 == SYN, "flags {flags:#010b}");
        }
    }

    #[test]
    fn chain_of_extension_headers_is_walked_to_its_bound() {
        for headers in 0..=EXTENSION_HEADERS + 2 {
            let result = new_connection(ipv6_with_destination_options(headers).as_slice());
            if headers <= EXTENSION_HEADERS {
                assert_eq!(result.map(|new| new.port), Ok(25), "{headers} headers");
            } else {
                assert_eq!(result, Err(Counter::Extensions), "{headers} headers");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = new_connection(bytes.as_slice());
        }

        /// Random bytes are seldom TCP: here the ethertype, version and protocol are right.
        #[test]
        fn what_is_read_stands_in_the_frame(
            bytes in vec(any::<u8>(), 0..120),
            ihl in 5_u8..=15,
            flags in any::<u8>(),
        ) {
            let mut frame = SYN_V4.to_vec();
            frame.truncate(34);
            frame[14] = 0x40 | ihl;
            frame.extend(bytes);
            let tcp = 14 + usize::from(ihl) * 4;
            if let Some(header) = frame.get_mut(tcp..tcp + TCP_HEADER) {
                header[12] |= 0x50;
                header[13] = flags;
                let port = u16::from_be_bytes([header[2], header[3]]);
                let expected = if flags & (FIN | SYN | RST | ACK) == SYN {
                    Ok(NewConnection { client: Client::V4([192, 0, 2, 7]), port })
                } else {
                    Err(Counter::NotSyn)
                };
                prop_assert_eq!(new_connection(frame.as_slice()), expected);
            } else {
                prop_assert_eq!(new_connection(frame.as_slice()), Err(Counter::Truncated));
            }
        }

        /// Whatever comes after a prefix, cutting the frame never makes a connection out of what
        /// was none, nor another one out of what was one.
        #[test]
        fn cutting_a_frame_only_ever_loses_the_connection(
            bytes in vec(any::<u8>(), 60..140),
            first in prop_oneof![Just(TCP), Just(HOP_BY_HOP), Just(FRAGMENT), Just(AUTHENTICATION)],
        ) {
            let mut frame = bytes;
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[20] = first;
            let whole = new_connection(frame.as_slice());
            for length in 0..frame.len() {
                let cut = new_connection(&frame[..length]);
                prop_assert!(cut == whole || cut == Err(Counter::Truncated), "{length}: {cut:?}");
            }
        }
    }

    fn ipv6_with_destination_options(headers: usize) -> [u8; 200] {
        let mut frame = [0; 200];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14] = 0x60;
        let kind = |index| {
            if index < headers {
                DESTINATION_OPTIONS
            } else {
                TCP
            }
        };
        frame[20] = kind(0);
        for index in 0..headers {
            frame[54 + index * 8] = kind(index + 1);
        }
        let tcp = &mut frame[54 + headers * 8..];
        tcp[3] = 25;
        tcp[12] = 0x50;
        tcp[13] = SYN;
        frame
    }
}
