//! What lies in the maps, byte for byte: keys, values, names, counter indices, the ABI version.
//!
//! Both sides compile this file, so a layout cannot drift; [`VERSION`] tells a daemon and an object
//! of different builds apart. What a value means for mail is the daemon's business.
//!
//! Keys and values are `repr(C)`, padding is written out and always zero: a hash map compares
//! every byte of a key, and the verifier wants every byte of it initialised.

/// The version of everything in this file. Raise it with any change of a layout, a map's name or
/// type, or a counter's index; the daemon refuses an object that says another number, and keeps its
/// pins apart from those of other versions.
pub const VERSION: u32 = 2;

/// The ELF section of the object that holds [`VERSION`], as four bytes little-endian.
pub const VERSION_SECTION: &str = "greygate_abi";

/// The name of the XDP program in the object and, cut to 15 characters, in the kernel.
pub const PROGRAM: &str = "greygate";

/// The names of the maps, as the object and the kernel know them (15 characters at most).
pub mod map {
    /// Hash: [`Ipv4Key`](super::Ipv4Key) to [`ClientEntry`](super::ClientEntry).
    pub const IPV4: &str = "SENTENCES_V4";
    /// Hash: [`Ipv6Key`](super::Ipv6Key) to [`ClientEntry`](super::ClientEntry).
    pub const IPV6: &str = "SENTENCES_V6";
    /// Array of [`PRESENCE_WORDS`](super::PRESENCE_WORDS) times [`Presence`](super::Presence):
    /// where in [`IPV4`] a look-up is worth its price.
    pub const PRESENCE_V4: &str = "PRESENCE_V4";
    /// The same for [`IPV6`].
    pub const PRESENCE_V6: &str = "PRESENCE_V6";
    /// LPM trie of IPv4 networks (`[u8; 4]` to `u8`, of any value) that are never dropped.
    pub const ALLOWED_V4: &str = "ALLOWED_V4";
    /// LPM trie of IPv6 networks (`[u8; 16]` to `u8`, of any value) that are never dropped.
    pub const ALLOWED_V6: &str = "ALLOWED_V6";
    /// Hash: address of this host ([`mapped`](super::mapped) where it is IPv4) to `u8`, of any
    /// value. Looked at only with [`Config::ONLY_DESTINATIONS`](super::Config::ONLY_DESTINATIONS).
    pub const DESTINATIONS: &str = "DESTINATIONS";
    /// Array of [`PORT_WORDS`](super::PORT_WORDS) words of `u64`: one bit for each TCP port, set
    /// when the port is protected.
    pub const PORTS: &str = "PORTS";
    /// Array of one [`Config`](super::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Per-CPU array: [`Counter`](super::Counter) to frames counted, `u64`.
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](super::Event): a sample of what was dropped.
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of one `u64`: the kernel time before which no further event is told.
    pub const EVENT_CLOCK: &str = "EVENT_CLOCK";
    /// All of them.
    pub const ALL: [&str; 12] = [
        IPV4,
        IPV6,
        PRESENCE_V4,
        PRESENCE_V6,
        ALLOWED_V4,
        ALLOWED_V6,
        DESTINATIONS,
        PORTS,
        CONFIG,
        COUNTERS,
        EVENTS,
        EVENT_CLOCK,
    ];
}

/// Words of 64 ports each in the map [`map::PORTS`].
pub const PORT_WORDS: u32 = 1 << 10;

/// Where in [`map::PORTS`] the bit of `port` lies: index of the word, and mask in it.
pub const fn port_bit(port: u16) -> (u32, u64) {
    ((port / 64) as u32, 1 << (port % 64))
}

/// Networks that fit into each of the tries [`map::ALLOWED_V4`] and [`map::ALLOWED_V6`].
pub const ALLOWED_NETWORKS: u32 = 4_096;

/// Addresses that fit into [`map::DESTINATIONS`].
pub const DESTINATIONS: u32 = 1_024;

/// Bytes of the ring buffer [`map::EVENTS`]: a power of two and a multiple of the page size.
pub const EVENT_BYTES: u32 = 64 << 10;

/// An IPv4 network that is sentenced: `/32` and `/24` are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Ipv4Key {
    network: [u8; 4],
    /// A whole word, so that there is no padding to zero.
    prefix: u32,
}

impl Ipv4Key {
    /// The network of `prefix` bits; host bits in `network` must be zero.
    #[inline(always)]
    pub const fn new(network: [u8; 4], prefix: u8) -> Self {
        Self {
            network,
            prefix: prefix as u32,
        }
    }

    /// The one address: `/32`.
    #[inline(always)]
    pub const fn host(address: [u8; 4]) -> Self {
        Self::new(address, 32)
    }

    /// The `/24` that `address` lies in.
    #[inline(always)]
    pub const fn network_of(address: [u8; 4]) -> Self {
        Self::new([address[0], address[1], address[2], 0], 24)
    }

    /// The network, host bits zero.
    pub const fn network(&self) -> [u8; 4] {
        self.network
    }

    /// Bits of the network.
    #[expect(clippy::cast_possible_truncation, reason = "it was made of a `u8`")]
    pub const fn prefix(&self) -> u8 {
        self.prefix as u8
    }

    /// The bit of all addresses of its `/24` in [`map::PRESENCE_V4`].
    #[inline(always)]
    pub const fn presence(&self) -> PresenceBit {
        PresenceBit(u32::from_be_bytes(self.network) >> 8)
    }
}

/// An IPv6 network that is sentenced: `/128` and `/64` are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Ipv6Key {
    network: [u8; 16],
    /// A whole word, so that there is no padding to zero.
    prefix: u64,
}

impl Ipv6Key {
    /// The network of `prefix` bits; host bits in `network` must be zero.
    #[inline(always)]
    pub const fn new(network: [u8; 16], prefix: u8) -> Self {
        Self {
            network,
            prefix: prefix as u64,
        }
    }

    /// The one address: `/128`.
    #[inline(always)]
    pub const fn host(address: [u8; 16]) -> Self {
        Self::new(address, 128)
    }

    /// The `/64` that `address` lies in.
    #[inline(always)]
    pub const fn network_of(address: [u8; 16]) -> Self {
        let network = u128::from_be_bytes(address) & (u128::MAX << 64);
        Self::new(network.to_be_bytes(), 64)
    }

    /// The network, host bits zero.
    pub const fn network(&self) -> [u8; 16] {
        self.network
    }

    /// Bits of the network.
    #[expect(clippy::cast_possible_truncation, reason = "it was made of a `u8`")]
    pub const fn prefix(&self) -> u8 {
        self.prefix as u8
    }

    /// The bit of all addresses of its `/64` in [`map::PRESENCE_V6`], which others may share:
    /// there are more networks than bits. Whoever seeks collisions gains a look-up that fails.
    #[inline(always)]
    pub const fn presence(&self) -> PresenceBit {
        let network = (u128::from_be_bytes(self.network) >> 64) as u64;
        // Multiplicative hashing with 2^64 divided by the golden ratio: Knuth, TAOCP 3, 6.4.
        PresenceBit((network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32)
    }
}

/// Which of 64 neighbouring bits have an entry in the map of sentences, in 16 bytes, so that one
/// read tells which look-ups are worth their price: most clients are in neither set.
///
/// A bit may be set without an entry, never the other way round: it is set before the entry is
/// written, and cleared after the last one was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Presence {
    /// Bits whose hosts (`/32`, `/128`) may be sentenced.
    pub hosts: u64,
    /// Bits whose whole network (`/24`, `/64`) may be sentenced.
    pub networks: u64,
}

/// Elements of [`map::PRESENCE_V4`] and [`map::PRESENCE_V6`]: 4 MiB each.
pub const PRESENCE_WORDS: u32 = 1 << 18;

/// One of the 2^24 bits of a presence map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresenceBit(u32);

impl PresenceBit {
    /// Which [`Presence`] of the map it lies in.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0 / 64
    }

    /// Where in each word of the [`Presence`] it lies.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// What the kernel holds on one sentenced network.
///
/// User space writes whole entries, since the kernel knows no other way, and carries over what the
/// program wrote; the program writes [`arrival`](Self::arrival), [`drops`](Self::drops) and
/// [`admitted`](Self::admitted) in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ClientEntry {
    /// When the sentence ends. The kernel checks it, so a dead daemon cannot punish for ever.
    pub until: KernelTime,
    /// The theoretical arrival time of the next connection, by the GCRA (ITU-T I.371, annex A): how
    /// far it lies ahead of the present is how much of the [`Limit`] is used up.
    pub arrival: KernelTime,
    /// New connections that were dropped, or would have been at [`Level::Observe`].
    pub drops: u64,
    /// The last connection that was let through, and how often its SYN has come again.
    pub admitted: Admitted,
    level: u8,
    padding: u8,
    /// The [`Config::generation`] under which user space found that the entry overlaps no allowed
    /// network; any other number makes the program ask the trie.
    pub generation: u16,
}

impl ClientEntry {
    /// An entry of `level` that lapses at `until`, that has met nobody, and whose overlap with
    /// allowed networks is not known.
    pub const fn new(level: Level, until: KernelTime) -> Self {
        Self {
            until,
            arrival: KernelTime::from_nanos(0),
            drops: 0,
            admitted: Admitted::NONE,
            level: level as u8,
            padding: 0,
            generation: Config::NO_GENERATION,
        }
    }

    /// The same with what the program wrote into `prior`, which it replaces: the drops, and how much
    /// of the limit is used up unless it is another limit now.
    #[must_use]
    pub const fn carrying_over(self, prior: &Self) -> Self {
        let same_limit = self.level == prior.level;
        Self {
            drops: prior.drops,
            arrival: if same_limit {
                prior.arrival
            } else {
                self.arrival
            },
            admitted: if same_limit {
                prior.admitted
            } else {
                self.admitted
            },
            ..self
        }
    }

    /// How hard the sentence is; `None` when a newer daemon wrote a level this build does not know.
    #[inline(always)]
    pub const fn level(&self) -> Option<Level> {
        Level::from_byte(self.level)
    }
}

/// The last connection that a limit let through, so that its SYN, sent again because the answer was
/// lost, is not charged again: 29 bits that tell it from others, and how often it came again.
///
/// Bounded, since SYNs can be forged: after [`Admitted::REPEATS`] a repetition is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Admitted(u32);

impl Admitted {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Repetitions that are free: `net.ipv4.tcp_syn_retries` of Linux is 6 (ip-sysctl).
    pub const REPEATS: u32 = 6;

    /// The connection with this mark, whose SYN has come once. Only the upper 29 bits of `mark` are
    /// kept.
    #[inline(always)]
    pub const fn first(mark: u32) -> Self {
        Self(mark & !Self::COUNT | 1)
    }

    /// Whether this is the connection with this `mark`, with a repetition left to it.
    #[inline(always)]
    pub const fn is_again(self, mark: u32) -> bool {
        (self.0 ^ mark) & !Self::COUNT == 0
            && self.0 & Self::COUNT != 0
            && self.0 & Self::COUNT <= Self::REPEATS
    }

    /// The same with one more repetition.
    #[inline(always)]
    #[must_use]
    pub const fn again(self) -> Self {
        Self(self.0 + 1)
    }

    /// As it lies in memory.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The bits that count: 1 at the first SYN, 7 when no repetition is left, 0 for nobody.
    const COUNT: u32 = 7;
}

/// How hard a sentence is, the hardest last. 0 is no level, so that a zeroed entry is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// New connections are counted and pass.
    Observe = 1,
    /// New connections beyond [`Config::rate`] are dropped.
    Rate = 2,
    /// New connections beyond [`Config::block`], a much smaller limit, are dropped.
    Block = 3,
}

impl Level {
    #[inline(always)]
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Observe),
            2 => Some(Self::Rate),
            3 => Some(Self::Block),
            _ => None,
        }
    }
}

/// How many new connections get through: one each `interval`, and after silence several at once.
/// The parameters of the GCRA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Nanoseconds from one connection to the next, in the long run.
    pub interval: u64,
    /// Nanoseconds that connections may come early.
    pub tolerance: u64,
}

impl Limit {
    /// One connection each `interval` nanoseconds, and up to `burst` at once after silence; 0 is
    /// taken for 1.
    pub const fn new(interval: u64, burst: u32) -> Self {
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_sub(1) as u64),
        }
    }
}

/// What holds for all entries. Written by user space, read by the program at a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The limit at [`Level::Rate`].
    pub rate: Limit,
    /// The limit at [`Level::Block`].
    pub block: Limit,
    /// Least time in nanoseconds between two [`Event`]s of one CPU; 0 for none at all.
    pub event_interval: u64,
    /// Names the content of the tries of allowed networks: raised once it has grown, before it
    /// shrinks. Never [`NO_GENERATION`](Self::NO_GENERATION).
    pub generation: u16,
    /// [`OBSERVE`](Self::OBSERVE) and [`ONLY_DESTINATIONS`](Self::ONLY_DESTINATIONS).
    pub flags: u8,
    padding: [u8; 5],
}

impl Config {
    /// Flag: nothing is dropped, whatever the level; what would have been is counted.
    pub const OBSERVE: u8 = 1;
    /// Flag: only connections to addresses in [`map::DESTINATIONS`] are judged.
    pub const ONLY_DESTINATIONS: u8 = 2;
    /// The generation of an entry that must ask the trie.
    pub const NO_GENERATION: u16 = 0;

    /// Limits without flags and events, in `generation`.
    pub const fn new(rate: Limit, block: Limit, generation: u16) -> Self {
        Self {
            rate,
            block,
            event_interval: 0,
            generation,
            flags: 0,
            padding: [0; 5],
        }
    }
}

/// One dropped SYN, told to user space: a sample, of which any may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Who sent it: [`mapped`] where it is IPv4.
    pub client: [u8; 16],
    /// The port it was sent to.
    pub port: u16,
    /// What it was counted as: [`Counter::index`].
    pub counter: u8,
    padding: [u8; 5],
}

impl Event {
    /// A SYN from `client` to `port` that was counted under `counter`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "there are few counters")]
    pub const fn new(client: [u8; 16], port: u16, counter: Counter) -> Self {
        Self {
            client,
            port,
            counter: counter.index() as u8,
            padding: [0; 5],
        }
    }
}

/// An IPv4 address as an IPv6 address (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Kernel time: nanoseconds of `CLOCK_MONOTONIC`, which stands still while the machine sleeps and
/// knows no leap, step or time zone. Never mixed with wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct KernelTime(u64);

impl KernelTime {
    /// The time `nanos` nanoseconds after the clock's start.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[inline(always)]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// What became of a frame, one reason each: the index into the map [`map::COUNTERS`].
///
/// Only frames counted as [`RateLimited`](Self::RateLimited) and [`Blocked`](Self::Blocked) are
/// dropped; every other one passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Neither IPv4 nor IPv6: ARP, anything else.
    NotIp,
    /// More VLAN tags than [`packet::VLAN_TAGS`].
    ///
    /// [`packet::VLAN_TAGS`]: crate::packet::VLAN_TAGS
    VlanDepth,
    /// Another protocol than TCP, ICMP and neighbour discovery among them.
    NotTcp,
    /// A later fragment: it holds no ports.
    Fragment,
    /// The frame ends inside a header.
    Truncated,
    /// A header contradicts itself: version, header length, data offset.
    Malformed,
    /// A chain of IPv6 extension headers longer than [`packet::EXTENSION_HEADERS`], or a member of
    /// it that is not known.
    ///
    /// [`packet::EXTENSION_HEADERS`]: crate::packet::EXTENSION_HEADERS
    Extensions,
    /// TCP, but no new connection: anything but SYN without ACK, RST and FIN.
    NotSyn,
    /// A new connection to a port that is not protected.
    OtherPort,
    /// A new connection of a client that is not sentenced.
    Clean,
    /// A new connection of a client whose sentence has ended.
    Ended,
    /// A new connection of a client whose entry has a level this build does not know.
    UnknownLevel,
    /// A new connection of a sentenced client to an address of this host that is not protected.
    OtherDestination,
    /// A new connection of a sentenced client that is in an allowed network.
    Allowed,
    /// A new connection at [`Level::Observe`], or that would have been dropped but for
    /// [`Config::OBSERVE`].
    Observed,
    /// A new connection within [`Config::rate`].
    Admitted,
    /// A new connection within [`Config::block`].
    LetThrough,
    /// The repeated SYN of a connection that was admitted or let through.
    Repeated,
    /// A new connection beyond [`Config::rate`], dropped.
    RateLimited,
    /// A new connection beyond [`Config::block`], dropped.
    Blocked,
}

impl Counter {
    /// All of them, by index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::NotIp,
        Self::VlanDepth,
        Self::NotTcp,
        Self::Fragment,
        Self::Truncated,
        Self::Malformed,
        Self::Extensions,
        Self::NotSyn,
        Self::OtherPort,
        Self::Clean,
        Self::Ended,
        Self::UnknownLevel,
        Self::OtherDestination,
        Self::Allowed,
        Self::Observed,
        Self::Admitted,
        Self::LetThrough,
        Self::Repeated,
        Self::RateLimited,
        Self::Blocked,
    ];

    /// How many there are.
    pub const COUNT: u32 = Self::Blocked as u32 + 1;

    /// Its index in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Whether frames counted under it are dropped.
    pub const fn is_dropped(self) -> bool {
        matches!(self, Self::RateLimited | Self::Blocked)
    }

    /// Its name in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::VlanDepth => "vlan_depth",
            Self::NotTcp => "not_tcp",
            Self::Fragment => "fragment",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Extensions => "extensions",
            Self::NotSyn => "not_syn",
            Self::OtherPort => "other_port",
            Self::Clean => "clean",
            Self::Ended => "ended",
            Self::UnknownLevel => "unknown_level",
            Self::OtherDestination => "other_destination",
            Self::Allowed => "allowed",
            Self::Observed => "observed",
            Self::Admitted => "admitted",
            Self::LetThrough => "let_through",
            Self::Repeated => "repeated",
            Self::RateLimited => "rate_limited",
            Self::Blocked => "blocked",
        }
    }

    /// What it counts, for an operator.
    pub const fn about(self) -> &'static str {
        match self {
            Self::NotIp => "neither IPv4 nor IPv6, such as ARP: passed",
            Self::VlanDepth => "more VLAN tags than understood: passed",
            Self::NotTcp => "another protocol than TCP: passed",
            Self::Fragment => "later fragments: passed",
            Self::Truncated => "ended inside a header: passed",
            Self::Malformed => "a header contradicts itself: passed",
            Self::Extensions => "IPv6 extension headers not understood: passed",
            Self::NotSyn => "TCP, but no new connection: passed",
            Self::OtherPort => "new connections to other ports: passed",
            Self::Clean => "new connections of clients without a sentence: passed",
            Self::Ended => "new connections of clients whose sentence has ended: passed",
            Self::UnknownLevel => "new connections at a level of another version: passed",
            Self::OtherDestination => {
                "new connections of sentenced clients to other addresses: passed"
            }
            Self::Allowed => "new connections of sentenced clients in allowed networks: passed",
            Self::Observed => "new connections that would have been dropped: passed",
            Self::Admitted => "new connections of rate-limited clients, within the rate: passed",
            Self::LetThrough => "the few new connections that blocked clients are left: passed",
            Self::Repeated => "repeated SYNs of connections that had passed: passed",
            Self::RateLimited => {
                "new connections of rate-limited clients, beyond the rate: DROPPED"
            }
            Self::Blocked => "new connections of blocked clients: DROPPED",
        }
    }
}

// A change of any of these is a change of the ABI: raise `VERSION`.
const _: () = {
    assert!(size_of::<Ipv4Key>() == 8 && align_of::<Ipv4Key>() == 4);
    assert!(size_of::<Ipv6Key>() == 24 && align_of::<Ipv6Key>() == 8);
    assert!(size_of::<ClientEntry>() == 32 && align_of::<ClientEntry>() == 8);
    assert!(core::mem::offset_of!(ClientEntry, until) == 0);
    assert!(core::mem::offset_of!(ClientEntry, arrival) == 8);
    assert!(core::mem::offset_of!(ClientEntry, drops) == 16);
    assert!(core::mem::offset_of!(ClientEntry, admitted) == 24);
    assert!(core::mem::offset_of!(ClientEntry, level) == 28);
    assert!(core::mem::offset_of!(ClientEntry, generation) == 30);
    assert!(size_of::<Presence>() == 16 && size_of::<Limit>() == 16);
    assert!(size_of::<Config>() == 48 && align_of::<Config>() == 8);
    assert!(core::mem::offset_of!(Config, generation) == 40);
    assert!(size_of::<Event>() == 24);
    assert!(PRESENCE_WORDS as usize * 64 == 1 << 24);
    assert!(PORT_WORDS as usize * 64 == u16::MAX as usize + 1);
};

#[cfg(feature = "user")]
mod pod {
    #![expect(
        unsafe_code,
        reason = "`Pod` is aya's unsafe marker; the orphan rule puts its implementations here"
    )]

    use super::{ClientEntry, Config, Event, Ipv4Key, Ipv6Key, Presence};

    // SAFETY: `repr(C)`, `Copy`, every byte is of a field and initialised, no pointer inside,
    // and any bit pattern is a value: `level` is a byte that `Level::from_byte` parses.
    unsafe impl aya::Pod for Ipv4Key {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Ipv6Key {}
    // SAFETY: as above; `KernelTime` and `Admitted` are transparent integers.
    unsafe impl aya::Pod for ClientEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Presence {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above; `counter` is a byte whose index the reader checks.
    unsafe impl aya::Pod for Event {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_by_index() {
        for (index, counter) in (0..).zip(Counter::ALL) {
            assert_eq!(counter.index(), index, "{}", counter.name());
        }
    }

    #[test]
    fn every_port_has_its_own_bit() {
        assert_eq!(port_bit(0), (0, 1));
        assert_eq!(port_bit(25), (0, 1 << 25));
        assert_eq!(port_bit(587), (9, 1 << 11));
        assert_eq!(port_bit(u16::MAX), (PORT_WORDS - 1, 1 << 63));
    }

    #[test]
    fn addresses_of_one_network_share_its_key_and_presence_bit() {
        let mut first = [0x20; 16];
        let mut second = first;
        first[15] = 1;
        second[8] = 2;
        let network = Ipv6Key::network_of(first);
        assert_eq!(network, Ipv6Key::network_of(second));
        assert_eq!(network.presence(), Ipv6Key::host(second).presence());
        second[7] = 0;
        assert_ne!(network, Ipv6Key::network_of(second));
        let network = Ipv4Key::network_of([192, 0, 2, 7]);
        assert_eq!(network, Ipv4Key::new([192, 0, 2, 0], 24));
        assert_eq!(network.presence(), Ipv4Key::host([192, 0, 2, 8]).presence());
        assert_ne!(network.presence(), Ipv4Key::host([192, 0, 3, 7]).presence());
    }

    #[test]
    fn last_presence_bits_lie_in_the_map() {
        let bit = Ipv4Key::host([255; 4]).presence();
        assert_eq!((bit.index(), bit.mask()), (PRESENCE_WORDS - 1, 1 << 63));
        assert!(Ipv6Key::host([255; 16]).presence().index() < PRESENCE_WORDS);
    }

    #[test]
    fn connection_has_six_free_repetitions() {
        let mark = 0xdead_beef;
        assert!(!Admitted::NONE.is_again(mark));
        assert!(!Admitted::NONE.is_again(0), "nobody is no connection");
        let mut admitted = Admitted::first(mark);
        for repetition in 0..Admitted::REPEATS {
            assert!(admitted.is_again(mark), "{repetition}");
            assert!(!admitted.is_again(mark ^ 8), "another connection");
            admitted = admitted.again();
        }
        assert!(!admitted.is_again(mark));
    }

    #[test]
    fn unknown_level_is_none() {
        let mut entry = ClientEntry::new(Level::Block, KernelTime::from_nanos(1));
        assert_eq!(entry.level(), Some(Level::Block));
        entry.level = 77;
        assert_eq!(entry.level(), None);
        entry.level = 0;
        assert_eq!(entry.level(), None);
    }

    #[test]
    fn map_names_fit_the_kernel() {
        for name in map::ALL.into_iter().chain([PROGRAM]) {
            assert!(name.len() < 16, "{name}");
        }
    }
}
