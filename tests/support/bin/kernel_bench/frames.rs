//! The frames that are judged, byte by byte. Source and sequence number are placeholders: each
//! copy gets its own.

/// A SYN to port 25, as Linux makes it.
pub(crate) fn syn_v4() -> Vec<u8> {
    ipv4(TCP, &tcp(SYN, &SYN_OPTIONS))
}

/// The same over IPv6.
pub(crate) fn syn_v6() -> Vec<u8> {
    ipv6(TCP, &tcp(SYN, &SYN_OPTIONS))
}

/// A full segment of an established session with port 25: most of what an MX receives.
pub(crate) fn data_v4() -> Vec<u8> {
    ipv4(TCP, &tcp(ACK | PSH, &[0; 1_460]))
}

/// The same over IPv6.
pub(crate) fn data_v6() -> Vec<u8> {
    ipv6(TCP, &tcp(ACK | PSH, &[0; 1_440]))
}

/// A UDP datagram: an answer of the DNS.
pub(crate) fn udp_v4() -> Vec<u8> {
    let mut datagram = vec![0, 53, 0xc0, 0x01, 0, 128, 0, 0];
    datagram.resize(128, 0);
    ipv4(UDP, &datagram)
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len())
        .expect("a frame is short")
        .to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet.extend([0; 4]);
    packet.extend([192, 0, 2, 1]);
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len())
        .expect("a frame is short")
        .to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, next_header, 64];
    packet.extend([0; 16]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// A segment to port 25; `rest` is options for a SYN, and payload otherwise.
fn tcp(flags: u8, rest: &[u8]) -> Vec<u8> {
    let options = if flags & SYN == 0 { 0 } else { rest.len() };
    let words = u8::try_from(5 + options / 4).expect("options are short");
    let mut segment = vec![0xc0, 0x01, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0];
    segment.extend([words << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(rest);
    segment
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Maximum segment size, selective acknowledgements, timestamps, window scale.
const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];
