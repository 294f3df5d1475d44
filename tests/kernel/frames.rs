//! Frames built field by field.

/// An Ethernet II frame.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let to = [2, 0, 0, 0, 0, 1];
    let from = [2, 0, 0, 0, 0, 2];
    [&to, &from, ethertype.to_be_bytes().as_slice(), payload].concat()
}

/// IPv4 without options.
pub(crate) fn v4(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(source, protocol, 0, &[], payload)
}

/// IPv4 with everything that may vary.
pub(crate) fn ipv4(
    source: [u8; 4],
    protocol: u8,
    flags_and_offset: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes of options");
    let length = u16::try_from(20 + options.len() + payload.len()).expect("a small packet");
    let [length_high, length_low] = length.to_be_bytes();
    let [fragment_high, fragment_low] = flags_and_offset.to_be_bytes();
    let mut header = vec![0x40 | words, 0, length_high, length_low]; // version, IHL; TOS; length
    header.extend([0, 1, fragment_high, fragment_low]); // identification; flags, offset
    header.extend([64, protocol, 0, 0]); // TTL; protocol; checksum, which the stack checks, not we
    header.extend(source);
    header.extend(DESTINATION);
    ethernet(0x0800, &[&header, options, payload].concat())
}

/// IPv6; `next_header` says what the payload begins with.
pub(crate) fn v6(source: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small packet");
    let mut header = vec![0x60, 0, 0, 0]; // version, class, flow label
    header.extend(length.to_be_bytes());
    header.extend([next_header, 64]); // and hop limit
    header.extend(source);
    header.extend(DESTINATION_V6);
    ethernet(0x86dd, &[&header, payload].concat())
}

/// A SYN behind this many headers of destination options, at least one.
pub(crate) fn v6_chain(source: [u8; 16], headers: usize) -> Vec<u8> {
    let mut chain = Vec::new();
    for left in (0..headers).rev() {
        chain.extend(extension(
            if left == 0 { TCP } else { DESTINATION_OPTIONS },
            0,
        ));
    }
    chain.extend(tcp(25, SYN));
    v6(source, DESTINATION_OPTIONS, &chain)
}

/// An options or routing header of `8 + 8 * eights` bytes.
pub(crate) fn extension(next_header: u8, eights: u8) -> Vec<u8> {
    let mut header = vec![next_header, eights];
    header.resize(8 + 8 * usize::from(eights), 0);
    header
}

/// A TCP header: from port 40000, sequence number 1.
pub(crate) fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40]; // from port 40000
    header.extend(port.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0]); // sequence, acknowledgement
    header.extend([0x50, flags, 0xfa, 0xf0]); // data offset; flags; window
    header.extend([0; 4]); // checksum, urgent pointer
    header
}

/// The same frame with one byte changed.
pub(crate) fn patched(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[offset] = byte;
    frame
}

/// The same frame with VLAN tags of these ethertypes, the outermost first.
pub(crate) fn tagged(frame: &[u8], ethertypes: &[u16]) -> Vec<u8> {
    let (addresses, packet) = frame.split_at(12);
    let tags = ethertypes.iter().flat_map(|ethertype| {
        let [high, low] = ethertype.to_be_bytes();
        [high, low, 0, 5]
    });
    addresses
        .iter()
        .copied()
        .chain(tags)
        .chain(packet.iter().copied())
        .collect()
}

/// The SYN of a connection of its own: each `sequence` is another one.
pub(crate) fn syn(sequence: u32) -> Vec<u8> {
    let mut header = tcp(25, SYN);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ENCRYPTED: u8 = 50;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
pub(crate) const MOBILITY: u8 = 135;

/// Where all of them go.
pub(crate) const DESTINATION: [u8; 4] = [198, 51, 100, 1];
/// The same for IPv6.
pub(crate) const DESTINATION_V6: [u8; 16] =
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The ethertypes of a VLAN tag: customer, service, and service as it was once.
pub(crate) const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
