//! The TCP header (RFC 9293): whether a segment asks for a connection, and which.

use super::{Address, NewConnection, Part};
use crate::abi::Counter;

/// The connection that the segment with this header opens.
#[inline(always)]
pub(super) fn opened<P: Part>(
    header: &P,
    client: Address,
    destination: Address,
) -> Result<NewConnection, Counter> {
    if header.u8::<12>() >> 4 < 5 {
        return Err(Counter::Malformed);
    }
    // ECE and CWR may be set: they ask for congestion notification (RFC 3168).
    if header.u8::<13>() & (FIN | SYN | RST | ACK) != SYN {
        return Err(Counter::NotSyn);
    }
    Ok(NewConnection {
        client,
        destination,
        port: header.u16::<2>(),
        source_port: header.u16::<0>(),
        sequence: header.u32::<4>(),
    })
}

/// Bytes of the header without options.
pub(super) const HEADER: usize = 20;

// Flags, section 3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
