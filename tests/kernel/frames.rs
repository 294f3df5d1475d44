//! Frames built field by field, and the table of what must become of each.

use greylist_ebpf::{
    abi::Counter,
    packet::EXTENSION_HEADERS,
    verdict::Action::{self, Drop, Pass},
};

/// A sentence that lasts.
pub(crate) const BLOCKED: [u8; 4] = [192, 0, 2, 7];
/// A sentence that is only observed.
pub(crate) const OBSERVED: [u8; 4] = [192, 0, 2, 8];
/// A sentence that has ended.
pub(crate) const ENDED: [u8; 4] = [192, 0, 2, 9];
/// An entry of a level that this build does not know.
pub(crate) const UNKNOWN: [u8; 4] = [192, 0, 2, 10];
/// No entry.
pub(crate) const CLEAN: [u8; 4] = [192, 0, 2, 11];
/// In a `/64` whose sentence lasts; the first eight bytes are the network.
pub(crate) const BLOCKED_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// In the `/64` next to it.
pub(crate) const CLEAN_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];

/// The ports that are protected while the table is judged.
pub(crate) const PROTECTED: [u16; 3] = [25, 587, 65_535];

/// One line of the table.
pub(crate) struct Case {
    /// What the frame is.
    pub(crate) name: &'static str,
    /// From the destination's hardware address on.
    pub(crate) frame: Vec<u8>,
    /// What must happen to it.
    pub(crate) action: Action,
    /// Why.
    pub(crate) counter: Counter,
}

/// The table.
#[rustfmt::skip] // one case, one line
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name, frame, action, counter| {
        cases.push(Case {
            name,
            frame,
            action,
            counter,
        });
    };
    let syn = || tcp(25, SYN);

    case("ARP", ethernet(0x0806, &[0; 28]), Pass, Counter::NotIp);
    case("802.1Q tag", ethernet(0x8100, &[0, 5, 8, 0]), Pass, Counter::Truncated);
    case("LLDP", ethernet(0x88cc, &[0; 46]), Pass, Counter::NotIp);

    // Who.
    case("SYN of a clean client", v4(CLEAN, TCP, &syn()), Pass, Counter::Clean);
    case("SYN of a blocked client", v4(BLOCKED, TCP, &syn()), Drop, Counter::Blocked);
    case("SYN of an observed client", v4(OBSERVED, TCP, &syn()), Pass, Counter::Observed);
    case("SYN after the sentence", v4(ENDED, TCP, &syn()), Pass, Counter::Ended);
    case("SYN, unknown level", v4(UNKNOWN, TCP, &syn()), Pass, Counter::UnknownLevel);
    case("IPv6 SYN of a clean client", v6(CLEAN_V6, TCP, &syn()), Pass, Counter::Clean);
    case("IPv6 SYN of a blocked client", v6(BLOCKED_V6, TCP, &syn()), Drop, Counter::Blocked);

    // Where to.
    case("to port 587", v4(BLOCKED, TCP, &tcp(587, SYN)), Drop, Counter::Blocked);
    case("to port 65535", v4(BLOCKED, TCP, &tcp(65_535, SYN)), Drop, Counter::Blocked);
    case("to port 22", v4(BLOCKED, TCP, &tcp(22, SYN)), Pass, Counter::OtherPort);
    case("to port 24", v4(BLOCKED, TCP, &tcp(24, SYN)), Pass, Counter::OtherPort);
    case("to port 0", v4(BLOCKED, TCP, &tcp(0, SYN)), Pass, Counter::OtherPort);
    case("IPv6 to port 22", v6(BLOCKED_V6, TCP, &tcp(22, SYN)), Pass, Counter::OtherPort);

    // Which segments.
    case("SYN asking for ECN", v4(BLOCKED, TCP, &tcp(25, SYN | ECE | CWR)), Drop, Counter::Blocked);
    case("SYN, PSH, URG", v4(BLOCKED, TCP, &tcp(25, SYN | PSH | URG)), Drop, Counter::Blocked);
    case("SYN-ACK", v4(BLOCKED, TCP, &tcp(25, SYN | ACK)), Pass, Counter::NotSyn);
    case("ACK", v4(BLOCKED, TCP, &tcp(25, ACK)), Pass, Counter::NotSyn);
    case("data", v4(BLOCKED, TCP, &tcp(25, ACK | PSH)), Pass, Counter::NotSyn);
    case("FIN", v4(BLOCKED, TCP, &tcp(25, FIN | ACK)), Pass, Counter::NotSyn);
    case("RST", v4(BLOCKED, TCP, &tcp(25, RST)), Pass, Counter::NotSyn);
    case("SYN and FIN", v4(BLOCKED, TCP, &tcp(25, SYN | FIN)), Pass, Counter::NotSyn);
    case("SYN and RST", v4(BLOCKED, TCP, &tcp(25, SYN | RST)), Pass, Counter::NotSyn);
    case("no flag at all", v4(BLOCKED, TCP, &tcp(25, 0)), Pass, Counter::NotSyn);
    case("IPv6 ACK", v6(BLOCKED_V6, TCP, &tcp(25, ACK)), Pass, Counter::NotSyn);
    let mut with_options = tcp(25, SYN);
    with_options[12] = 0xa0;
    with_options.extend([1; 20]);
    case("TCP options", v4(BLOCKED, TCP, &with_options), Drop, Counter::Blocked);
    with_options.extend(b"EHLO fast.example\r\n");
    case("SYN with data", v4(BLOCKED, TCP, &with_options), Drop, Counter::Blocked);
    let mut short_header = syn();
    short_header[12] = 0x40;
    case("TCP data offset 4", v4(BLOCKED, TCP, &short_header), Pass, Counter::Malformed);

    // Other protocols.
    case("UDP to port 25", v4(BLOCKED, UDP, &syn()), Pass, Counter::NotTcp);
    case("ICMP", v4(BLOCKED, 1, &[8, 0, 0, 0, 0, 0, 0, 0]), Pass, Counter::NotTcp);
    case("GRE", v4(BLOCKED, 47, &[0; 24]), Pass, Counter::NotTcp);
    case("neighbour solicitation", v6(BLOCKED_V6, 58, &[135, 0, 0, 0]), Pass, Counter::NotTcp);
    case("unknown header 253", v6(BLOCKED_V6, 253, &syn()), Pass, Counter::NotTcp);

    // IPv4 headers.
    case("IPv4 options", ipv4(BLOCKED, TCP, 0, &[1; 40], &syn()), Drop, Counter::Blocked);
    case("IHL 4", patched(v4(BLOCKED, TCP, &syn()), 14, 0x44), Pass, Counter::Malformed);
    case("IHL 0", patched(v4(BLOCKED, TCP, &syn()), 14, 0x40), Pass, Counter::Malformed);
    case("version 5", patched(v4(BLOCKED, TCP, &syn()), 14, 0x55), Pass, Counter::Malformed);
    case("IHL past the end", patched(v4(BLOCKED, TCP, &syn()), 14, 0x4f), Pass, Counter::Truncated);
    case("don't fragment", ipv4(BLOCKED, TCP, 0x4000, &[], &syn()), Drop, Counter::Blocked);
    case("first fragment", ipv4(BLOCKED, TCP, 0x2000, &[], &syn()), Drop, Counter::Blocked);
    case("tiny first fragment", ipv4(BLOCKED, TCP, 0x2000, &[], &syn()[..8]), Pass, Counter::Truncated);
    case("middle fragment", ipv4(BLOCKED, TCP, 0x2001, &[], &syn()), Pass, Counter::Fragment);
    case("last fragment", ipv4(BLOCKED, TCP, 0x1fff, &[], &syn()), Pass, Counter::Fragment);
    let mut padded = v4(BLOCKED, TCP, &syn());
    padded.resize(60, 0);
    case("padded to 60 bytes", padded, Drop, Counter::Blocked);
    let mut jumbo = v4(BLOCKED, TCP, &syn());
    jumbo.resize(9_000, b'x');
    case("jumbo frame", jumbo, Drop, Counter::Blocked);

    // IPv6 headers.
    case("version 4 as IPv6", patched(v6(BLOCKED_V6, TCP, &syn()), 14, 0x45), Pass, Counter::Malformed);
    for (name, kind) in [
        ("hop-by-hop options", HOP_BY_HOP),
        ("routing header", ROUTING),
        ("destination options", DESTINATION_OPTIONS),
    ] {
        let chain = [extension(TCP, 0).as_slice(), &syn()].concat();
        case(name, v6(BLOCKED_V6, kind, &chain), Drop, Counter::Blocked);
    }
    let long = [extension(TCP, 255).as_slice(), &syn()].concat();
    case("2,048 bytes of options", v6(BLOCKED_V6, HOP_BY_HOP, &long), Drop, Counter::Blocked);
    let mut authentication = vec![TCP, 4, 0, 0];
    authentication.resize(24, 0);
    authentication.extend(syn());
    case("authentication header", v6(BLOCKED_V6, AUTHENTICATION, &authentication), Drop, Counter::Blocked);
    let fragment = |offset_and_more: u16| {
        let [high, low] = offset_and_more.to_be_bytes();
        [&[TCP, 0, high, low, 0, 0, 0, 1], syn().as_slice()].concat()
    };
    case("IPv6 atomic fragment", v6(BLOCKED_V6, FRAGMENT, &fragment(0)), Drop, Counter::Blocked);
    case("IPv6 first fragment", v6(BLOCKED_V6, FRAGMENT, &fragment(1)), Drop, Counter::Blocked);
    case("IPv6 later fragment", v6(BLOCKED_V6, FRAGMENT, &fragment(8)), Pass, Counter::Fragment);
    case("encrypted", v6(BLOCKED_V6, ENCRYPTED, &[0; 40]), Pass, Counter::Extensions);
    case("mobility header", v6(BLOCKED_V6, MOBILITY, &[0; 40]), Pass, Counter::Extensions);
    case("longest chain", v6_chain(EXTENSION_HEADERS), Drop, Counter::Blocked);
    case("too long a chain", v6_chain(EXTENSION_HEADERS + 1), Pass, Counter::Extensions);
    case("chain past the end", v6(BLOCKED_V6, HOP_BY_HOP, &extension(TCP, 9)[..8]), Pass, Counter::Truncated);
    case("options and no more", v6(BLOCKED_V6, HOP_BY_HOP, &extension(TCP, 0)), Pass, Counter::Truncated);

    cases
}

/// A blocked client's plain SYN, for truncation: none of the shorter frames is a SYN.
pub(crate) fn plain_syns() -> [Vec<u8>; 2] {
    [
        v4(BLOCKED, TCP, &tcp(25, SYN)),
        v6(BLOCKED_V6, TCP, &tcp(25, SYN)),
    ]
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let to = [2, 0, 0, 0, 0, 1];
    let from = [2, 0, 0, 0, 0, 2];
    [&to, &from, ethertype.to_be_bytes().as_slice(), payload].concat()
}

fn v4(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(source, protocol, 0, &[], payload)
}

fn ipv4(
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
    header.extend([198, 51, 100, 1]); // destination
    ethernet(0x0800, &[&header, options, payload].concat())
}

fn v6(source: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small packet");
    let mut header = vec![0x60, 0, 0, 0]; // version, class, flow label
    header.extend(length.to_be_bytes());
    header.extend([next_header, 64]); // and hop limit
    header.extend(source);
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]); // destination
    ethernet(0x86dd, &[&header, payload].concat())
}

fn v6_chain(headers: usize) -> Vec<u8> {
    let mut chain = Vec::new();
    for left in (0..headers).rev() {
        chain.extend(extension(
            if left == 0 { TCP } else { DESTINATION_OPTIONS },
            0,
        ));
    }
    chain.extend(tcp(25, SYN));
    v6(BLOCKED_V6, DESTINATION_OPTIONS, &chain)
}

/// An options or routing header of `8 + 8 * eights` bytes.
fn extension(next_header: u8, eights: u8) -> Vec<u8> {
    let mut header = vec![next_header, eights];
    header.resize(8 + 8 * usize::from(eights), 0);
    header
}

fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40]; // from port 40000
    header.extend(port.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0]); // sequence, acknowledgement
    header.extend([0x50, flags, 0xfa, 0xf0]); // data offset; flags; window
    header.extend([0; 4]); // checksum, urgent pointer
    header
}

fn patched(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[offset] = byte;
    frame
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCRYPTED: u8 = 50;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
