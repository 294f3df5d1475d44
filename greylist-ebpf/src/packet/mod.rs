//! From a frame to the new TCP connection it opens, or to the reason it opens none.
//!
//! Knows Ethernet II with VLAN tags (IEEE 802.1Q), IPv4 (RFC 791), IPv6 with a bounded walk of its
//! extension headers (RFC 8200) and the flags of TCP (RFC 9293). Nothing of maps, ports or time.
//!
//! What is not understood is not an error but a [`Counter`], and passes: a filter that guesses
//! locks its owner out. So a sentenced client can hide a SYN in a fragment too short for the TCP
//! header, or behind a chain of extension headers that is too long; the stack behind decides then.
//!
//! - `connection`: what a frame that opens a connection says of it.
//! - `frame`: how a frame is read, in place or as a copy.
//! - `ip`: IPv4, IPv6 and the extension headers.
//! - `tcp`: the TCP header.

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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{prelude::rust_2024::*, vec::Vec};

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
        assert_eq!(new_connection(SYN_V4.as_slice()), Ok(SYN_READ));
    }

    #[test]
    fn tags_are_walked_to_their_bound() {
        for tags in 0..=VLAN_TAGS + 2 {
            for ethertype in [CUSTOMER_TAG, SERVICE_TAG, OLD_SERVICE_TAG] {
                let result = new_connection(with_tags(&SYN_V4, ethertype, tags).as_slice());
                if tags <= VLAN_TAGS {
                    assert_eq!(result, Ok(SYN_READ), "{tags} tags");
                } else {
                    assert_eq!(result, Err(Counter::VlanDepth), "{tags} tags");
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_counted_as_one() {
        for tags in 0..=VLAN_TAGS {
            let frame = with_tags(&SYN_V4, CUSTOMER_TAG, tags);
            for length in 0..frame.len() {
                let cut = new_connection(&frame[..length]);
                assert_eq!(cut, Err(Counter::Truncated), "{tags} tags, {length} bytes");
            }
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

    #[test]
    fn reads_both_addresses_of_an_ipv6_syn() {
        let mut frame = ipv6_with_destination_options(0);
        let client = [7; 16];
        let destination = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        frame[22..38].copy_from_slice(&client);
        frame[38..54].copy_from_slice(&destination);
        let connection = new_connection(frame.as_slice()).expect("a SYN");
        assert_eq!(connection.client, Address::from(client));
        assert_eq!(connection.destination, Address::from(destination));
        assert_eq!(connection.destination.octets(), Octets::V6(destination));
    }

    #[test]
    fn ipv4_address_is_not_its_mapped_form_on_the_wire() {
        let mapped = crate::abi::mapped([192, 0, 2, 7]);
        let (ipv4, ipv6) = (Address::from([192, 0, 2, 7]), Address::from(mapped));
        assert_ne!(ipv4, ipv6);
        assert_eq!(ipv4.as_ipv6(), ipv6.as_ipv6());
        assert_eq!(ipv4.octets(), Octets::V4([192, 0, 2, 7]));
        assert_eq!(ipv6.octets(), Octets::V6(mapped));
    }

    #[test]
    fn mark_changes_with_each_number_of_a_connection() {
        let others = [
            NewConnection {
                source_port: 40_001,
                ..SYN_READ
            },
            NewConnection {
                port: 587,
                ..SYN_READ
            },
            NewConnection {
                sequence: 2,
                ..SYN_READ
            },
            NewConnection {
                destination: Address::v4(0xc633_6402),
                ..SYN_READ
            },
        ];
        for other in others {
            assert_ne!(other.mark() >> 3, SYN_READ.mark() >> 3, "{other:?}");
        }
    }

    /// A client that takes the next source port each time, as most do, must not look like one that
    /// repeats its SYN.
    #[test]
    fn neighbouring_connections_hardly_ever_share_a_mark() {
        let mut marks: Vec<u32> = (0..=u16::MAX)
            .map(|source_port| {
                let connection = NewConnection {
                    source_port,
                    sequence: u32::from(source_port).wrapping_mul(64_000),
                    ..SYN_READ
                };
                connection.mark() >> 3
            })
            .collect();
        marks.sort_unstable();
        marks.dedup();
        // Of 2^16 random ones out of 2^29 four pairs are to be expected.
        assert!(marks.len() > 65_536 - 40, "{} marks", marks.len());
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
            tags in 0..=VLAN_TAGS,
        ) {
            let mut frame = SYN_V4.to_vec();
            frame.truncate(34);
            frame[14] = 0x40 | ihl;
            frame.extend(bytes);
            let tcp = 14 + usize::from(ihl) * 4;
            let expected = if let Some(header) = frame.get_mut(tcp..tcp + 20) {
                header[12] |= 0x50;
                header[13] = flags;
                if flags & 0b0001_0111 == SYN {
                    Ok(NewConnection {
                        source_port: u16::from_be_bytes([header[0], header[1]]),
                        port: u16::from_be_bytes([header[2], header[3]]),
                        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                        ..SYN_READ
                    })
                } else {
                    Err(Counter::NotSyn)
                }
            } else {
                Err(Counter::Truncated)
            };
            let frame = with_tags(&frame, SERVICE_TAG, tags);
            prop_assert_eq!(new_connection(frame.as_slice()), expected);
        }

        /// Whatever comes after a prefix, cutting the frame never makes a connection out of what
        /// was none, nor another one out of what was one.
        #[test]
        fn cutting_a_frame_only_ever_loses_the_connection(
            bytes in vec(any::<u8>(), 60..140),
            first in prop_oneof![Just(6_u8), Just(0), Just(44), Just(51)],
            tags in 0..=VLAN_TAGS,
        ) {
            let mut frame = bytes;
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[20] = first;
            let frame = with_tags(&frame, CUSTOMER_TAG, tags);
            let whole = new_connection(frame.as_slice());
            for length in 0..frame.len() {
                let cut = new_connection(&frame[..length]);
                prop_assert!(cut == whole || cut == Err(Counter::Truncated), "{length}: {cut:?}");
            }
        }
    }

    /// The frame with `tags` tags in front of its packet.
    fn with_tags(frame: &[u8], ethertype: u16, tags: usize) -> Vec<u8> {
        let [high, low] = ethertype.to_be_bytes();
        let (addresses, packet) = frame.split_at(12);
        [addresses, &[high, low, 0, 5].repeat(tags), packet].concat()
    }

    fn ipv6_with_destination_options(headers: usize) -> [u8; 200] {
        let mut frame = [0; 200];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14] = 0x60;
        let kind = |index| if index < headers { 60 } else { 6 };
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

    const SYN_READ: NewConnection = NewConnection {
        client: Address::v4(0xc000_0207),
        destination: Address::v4(0xc633_6401),
        sequence: 1,
        source_port: 40_000,
        port: 25,
    };
    const SYN: u8 = 2;
}
