//! The table of frames and what must become of each, and the entries they meet.
//!
//! Every row stands for itself: no entry that a row meets lets a connection through, and entries are
//! written anew where it matters which SYN they dropped before. What has a past is told in
//! [`stories`](crate::stories).

use std::net::IpAddr;

use greylist_ebpf::{
    abi::{ClientEntry, Config, Counter, KernelTime, Level, Limit, mapped},
    packet::{EXTENSION_HEADERS, VLAN_TAGS},
    verdict::Action::{self, Drop, Pass},
};
use ipnet::IpNet;

use crate::{frames::*, judge::Judge};

/// A sentence that lasts.
pub(crate) const BLOCKED: [u8; 4] = [192, 0, 2, 7];
/// A sentence that is only observed.
const OBSERVED: [u8; 4] = [192, 0, 2, 8];
/// A sentence that has ended.
const ENDED: [u8; 4] = [192, 0, 2, 9];
/// An entry of a level that this build does not know.
const UNKNOWN: [u8; 4] = [192, 0, 2, 10];
/// No entry, but neighbours that have one.
const CLEAN: [u8; 4] = [192, 0, 2, 11];
/// A limit that is used up.
const LIMITED: [u8; 4] = [192, 0, 2, 12];
/// No entry in the whole network.
const FAR: [u8; 4] = [192, 0, 3, 7];

/// In a `/24` that is blocked, and more: see [`populate`].
const BLOCKED_NETWORK: [u8; 4] = [198, 18, 1, 0];
/// In a `/24` that is observed.
const OBSERVED_NETWORK: [u8; 4] = [198, 18, 2, 0];
/// In a `/24` whose sentence has ended.
const ENDED_NETWORK: [u8; 4] = [198, 18, 3, 0];
/// In a `/24` that is allowed.
const ALLOWED_NETWORK: [u8; 4] = [203, 0, 113, 0];

/// In a `/64` whose sentence lasts; the first eight bytes are the network.
pub(crate) const BLOCKED_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// In the `/64` next to it.
const CLEAN_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
/// Blocked alone in its `/64`.
const BLOCKED_HOST_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
/// Its neighbour.
const CLEAN_HOST_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 2, 1, 2, 3, 4, 5, 6, 7, 9];
/// Blocked, and in a `/48` that is allowed.
const ALLOWED_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// The ports that are protected while the table is judged.
pub(crate) const PROTECTED: [u16; 3] = [25, 587, 65_535];

/// The generation of the allowed networks.
pub(crate) const GENERATION: u16 = 7;

/// One an hour at both levels: nothing comes back while a test runs.
pub(crate) const CONFIG: Config = Config::new(Limit::new(HOUR, 3), Limit::new(HOUR, 1), GENERATION);
/// In nanoseconds.
pub(crate) const HOUR: u64 = 3_600_000_000_000;

/// One line of the table.
pub(crate) struct Case {
    /// What the frame is.
    pub(crate) name: String,
    /// From the destination's hardware address on.
    pub(crate) frame: Vec<u8>,
    /// What must happen to it.
    pub(crate) action: Action,
    /// Why.
    pub(crate) counter: Counter,
}

/// Writes the entries that the table speaks of.
pub(crate) fn populate(judge: &mut dyn Judge) {
    use Level::{Block, Observe, Rate};
    judge.configure(CONFIG);
    for (address, level) in [(BLOCKED, Block), (OBSERVED, Observe), (LIMITED, Rate)] {
        judge.put(host(address), used_up(level));
    }
    judge.put(host(ENDED), ended());
    judge.put_unknown(host(UNKNOWN));

    judge.put(network(BLOCKED_NETWORK), used_up(Block));
    judge.put(host(in_network(BLOCKED_NETWORK, 1)), used_up(Observe));
    judge.put(host(in_network(BLOCKED_NETWORK, 2)), ended());
    judge.put(host(in_network(BLOCKED_NETWORK, 3)), used_up(Rate));
    judge.put_unknown(host(in_network(BLOCKED_NETWORK, 4)));
    judge.put(network(OBSERVED_NETWORK), used_up(Observe));
    judge.put(host(in_network(OBSERVED_NETWORK, 1)), used_up(Block));
    judge.put(host(in_network(OBSERVED_NETWORK, 2)), ended());
    judge.put(network(ENDED_NETWORK), ended());
    judge.put(host(in_network(ENDED_NETWORK, 1)), used_up(Block));
    judge.put(host(in_network(ENDED_NETWORK, 2)), ended());

    judge.allow(network(ALLOWED_NETWORK));
    for (host_part, generation) in [
        (1, Config::NO_GENERATION),
        (2, GENERATION - 1),
        (3, GENERATION),
    ] {
        let mut entry = used_up(Block);
        entry.generation = generation;
        judge.put(host(in_network(ALLOWED_NETWORK, host_part)), entry);
    }

    judge.put(network_v6(BLOCKED_V6), used_up(Block));
    judge.put(host(BLOCKED_HOST_V6), used_up(Block));
    judge.allow("2001:db8:8::/48".parse().expect("a network"));
    let mut entry = used_up(Block);
    entry.generation = Config::NO_GENERATION;
    judge.put(host(ALLOWED_V6), entry);
}

/// A sentence that lasts, of a client that has nothing left of its limit.
pub(crate) fn used_up(level: Level) -> ClientEntry {
    let mut entry = fresh(level);
    entry.arrival = KernelTime::from_nanos(u64::MAX);
    entry
}

/// A sentence that lasts, of a client that has all of its limit.
pub(crate) fn fresh(level: Level) -> ClientEntry {
    let mut entry = ClientEntry::new(level, KernelTime::from_nanos(u64::MAX));
    entry.generation = GENERATION;
    entry
}

fn ended() -> ClientEntry {
    let mut entry = used_up(Level::Block);
    entry.until = KernelTime::from_nanos(1);
    entry
}

/// The network of this one address.
pub(crate) fn host(address: impl Into<IpAddr>) -> IpNet {
    address.into().into()
}

fn network(address: [u8; 4]) -> IpNet {
    IpNet::new_assert(address.into(), 24)
}

/// The `/64` that an address lies in.
pub(crate) fn network_v6(address: [u8; 16]) -> IpNet {
    IpNet::new_assert(address.into(), 64).trunc()
}

fn in_network([a, b, c, _]: [u8; 4], host: u8) -> [u8; 4] {
    [a, b, c, host]
}

/// The table.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name: &str, frame, action, counter| {
        cases.push(Case {
            name: name.to_owned(),
            frame,
            action,
            counter,
        });
    };
    links(&mut case);
    clients(&mut case);
    segments(&mut case);
    ipv4_headers(&mut case);
    ipv6_headers(&mut case);
    tags(&mut case);
    cases
}

type Row<'a> = dyn FnMut(&str, Vec<u8>, Action, Counter) + 'a;

#[rustfmt::skip] // one case, one line
fn links(case: &mut Row<'_>) {
    case("ARP", ethernet(0x0806, &[0; 28]), Pass, Counter::NotIp);
    case("LLDP", ethernet(0x88cc, &[0; 46]), Pass, Counter::NotIp);
    case("MPLS", ethernet(0x8847, &[0; 46]), Pass, Counter::NotIp);
    case("PPPoE discovery", ethernet(0x8863, &[0; 46]), Pass, Counter::NotIp);
    case("PPPoE session", ethernet(0x8864, &[0; 46]), Pass, Counter::NotIp);
    case("802.3 length", ethernet(46, &[0; 46]), Pass, Counter::NotIp);
}

#[rustfmt::skip] // one case, one line
fn clients(case: &mut Row<'_>) {
    let mut syn = |name: &str, source: [u8; 4], action, counter| {
        case(name, v4(source, TCP, &tcp(25, SYN)), action, counter);
    };
    syn("SYN of a clean client", CLEAN, Pass, Counter::Clean);
    syn("SYN from far away", FAR, Pass, Counter::Clean);
    syn("SYN of a blocked client", BLOCKED, Drop, Counter::Blocked);
    syn("SYN of a client beyond its rate", LIMITED, Drop, Counter::RateLimited);
    syn("SYN of an observed client", OBSERVED, Pass, Counter::Observed);
    syn("SYN after the sentence", ENDED, Pass, Counter::Ended);
    syn("SYN, unknown level", UNKNOWN, Pass, Counter::UnknownLevel);

    for host_part in [0, 9, 255] {
        syn("SYN from a blocked /24", in_network(BLOCKED_NETWORK, host_part), Drop, Counter::Blocked);
    }
    syn("observed in a blocked /24", in_network(BLOCKED_NETWORK, 1), Drop, Counter::Blocked);
    syn("ended in a blocked /24", in_network(BLOCKED_NETWORK, 2), Drop, Counter::Blocked);
    syn("rate in a blocked /24", in_network(BLOCKED_NETWORK, 3), Drop, Counter::Blocked);
    syn("unknown level in a blocked /24", in_network(BLOCKED_NETWORK, 4), Drop, Counter::Blocked);
    syn("SYN from an observed /24", in_network(OBSERVED_NETWORK, 9), Pass, Counter::Observed);
    syn("blocked in an observed /24", in_network(OBSERVED_NETWORK, 1), Drop, Counter::Blocked);
    syn("ended in an observed /24", in_network(OBSERVED_NETWORK, 2), Pass, Counter::Observed);
    syn("SYN from an ended /24", in_network(ENDED_NETWORK, 9), Pass, Counter::Ended);
    syn("blocked in an ended /24", in_network(ENDED_NETWORK, 1), Drop, Counter::Blocked);
    syn("both ended", in_network(ENDED_NETWORK, 2), Pass, Counter::Ended);

    syn("allowed, no generation", in_network(ALLOWED_NETWORK, 1), Pass, Counter::Allowed);
    syn("allowed, stale generation", in_network(ALLOWED_NETWORK, 2), Pass, Counter::Allowed);
    syn("generation that rules it out", in_network(ALLOWED_NETWORK, 3), Drop, Counter::Blocked);
    syn("allowed without a sentence", in_network(ALLOWED_NETWORK, 9), Pass, Counter::Clean);

    let mut syn = |name: &str, source: [u8; 16], action, counter| {
        case(name, v6(source, TCP, &tcp(25, SYN)), action, counter);
    };
    syn("IPv6 SYN from a clean /64", CLEAN_V6, Pass, Counter::Clean);
    syn("IPv6 SYN from a blocked /64", BLOCKED_V6, Drop, Counter::Blocked);
    syn("IPv6 SYN of a blocked host", BLOCKED_HOST_V6, Drop, Counter::Blocked);
    syn("IPv6 SYN of its neighbour", CLEAN_HOST_V6, Pass, Counter::Clean);
    syn("IPv6 SYN of an allowed host", ALLOWED_V6, Pass, Counter::Allowed);
    syn("mapped address of a blocked client", mapped(BLOCKED), Pass, Counter::Clean);
}

#[rustfmt::skip] // one case, one line
fn segments(case: &mut Row<'_>) {
    let syn = || tcp(25, SYN);

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
}

#[rustfmt::skip] // one case, one line
fn ipv4_headers(case: &mut Row<'_>) {
    let syn = || tcp(25, SYN);
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
}

#[rustfmt::skip] // one case, one line
fn ipv6_headers(case: &mut Row<'_>) {
    let syn = || tcp(25, SYN);
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
    case("longest chain", v6_chain(BLOCKED_V6, EXTENSION_HEADERS), Drop, Counter::Blocked);
    case("too long a chain", v6_chain(BLOCKED_V6, EXTENSION_HEADERS + 1), Pass, Counter::Extensions);
    case("chain past the end", v6(BLOCKED_V6, HOP_BY_HOP, &extension(TCP, 9)[..8]), Pass, Counter::Truncated);
    case("options and no more", v6(BLOCKED_V6, HOP_BY_HOP, &extension(TCP, 0)), Pass, Counter::Truncated);
}

/// Every packet at every depth behind every tag.
fn tags(case: &mut Row<'_>) {
    let mut options = ipv4(BLOCKED, TCP, 0, &[1; 12], &tcp(25, SYN));
    options.extend(b"EHLO");
    let ack = v6(BLOCKED_V6, TCP, &tcp(25, ACK));
    let packets = [
        (
            "IPv4",
            v4(BLOCKED, TCP, &tcp(25, SYN)),
            Drop,
            Counter::Blocked,
        ),
        ("IPv4 options", options, Drop, Counter::Blocked),
        (
            "clean IPv4",
            v4(FAR, TCP, &tcp(25, SYN)),
            Pass,
            Counter::Clean,
        ),
        (
            "IPv4 to port 22",
            v4(BLOCKED, TCP, &tcp(22, SYN)),
            Pass,
            Counter::OtherPort,
        ),
        (
            "IPv6",
            v6(BLOCKED_V6, TCP, &tcp(25, SYN)),
            Drop,
            Counter::Blocked,
        ),
        (
            "IPv6 extensions",
            v6_chain(BLOCKED_V6, 3),
            Drop,
            Counter::Blocked,
        ),
        (
            "longest chain",
            v6_chain(BLOCKED_V6, EXTENSION_HEADERS),
            Drop,
            Counter::Blocked,
        ),
        (
            "clean IPv6",
            v6(CLEAN_V6, TCP, &tcp(25, SYN)),
            Pass,
            Counter::Clean,
        ),
        ("IPv6 ACK", ack, Pass, Counter::NotSyn),
        ("ARP", ethernet(0x0806, &[0; 28]), Pass, Counter::NotIp),
        ("PPPoE", ethernet(0x8864, &[0; 46]), Pass, Counter::NotIp),
        ("nothing", ethernet(0x0800, &[]), Pass, Counter::Truncated),
    ];
    for (what, frame, action, counter) in &packets {
        for ethertype in TAGS {
            for depth in 0..=VLAN_TAGS + 2 {
                let name = format!("{what} behind {depth} tags {ethertype:#06x}");
                let frame = tagged(frame, &[ethertype].repeat(depth));
                if depth <= VLAN_TAGS {
                    case(&name, frame, *action, *counter);
                } else {
                    case(&name, frame, Pass, Counter::VlanDepth);
                }
            }
        }
        let frame = tagged(frame, &[0x88a8, 0x8100]);
        case(&format!("{what} behind QinQ"), frame, *action, *counter);
    }
}

/// SYNs of blocked clients in every form whose header may be cut: none of the shorter frames is one.
pub(crate) fn whole_syns() -> Vec<Vec<u8>> {
    let plain = [
        v4(BLOCKED, TCP, &tcp(25, SYN)),
        v6(BLOCKED_V6, TCP, &tcp(25, SYN)),
        ipv4(BLOCKED, TCP, 0, &[1; 8], &tcp(25, SYN)),
        v6_chain(BLOCKED_V6, 2),
    ];
    let behind = |depth| {
        plain
            .each_ref()
            .map(|frame| tagged(frame, &[0x8100].repeat(depth)))
    };
    (0..=VLAN_TAGS).flat_map(behind).collect()
}
