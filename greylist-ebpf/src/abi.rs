//! What lies in the maps, byte for byte: keys, values, names, counter indices, the ABI version.
//!
//! Both sides compile this file, so a layout cannot drift; [`VERSION`] tells a daemon and an object
//! of different builds apart. What a value means for mail is the daemon's business.
//!
//! Keys and values are `repr(C)`, padding is written out and always zero: a hash map compares
//! every byte of a key, and the verifier wants every byte of it initialised.

/// The version of everything in this file. Raise it with any change of a layout, a map's name or
/// type, or a counter's index; the daemon refuses an object that says another number.
pub const VERSION: u32 = 1;

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
    /// Per-CPU array: [`Counter`](super::Counter) to frames counted, `u64`.
    pub const COUNTERS: &str = "COUNTERS";
    /// Array of [`PORT_WORDS`](super::PORT_WORDS) words of `u64`: one bit for each TCP port, set
    /// when the port is protected.
    pub const PORTS: &str = "PORTS";
    /// All of them.
    pub const ALL: [&str; 4] = [IPV4, IPV6, COUNTERS, PORTS];
}

/// Words of 64 ports each in the map [`map::PORTS`].
pub const PORT_WORDS: u32 = 1 << 10;

/// Where in [`map::PORTS`] the bit of `port` lies: index of the word, and mask in it.
pub const fn port_bit(port: u16) -> (u32, u64) {
    ((port / 64) as u32, 1 << (port % 64))
}

/// An IPv4 network that is sentenced. Only `/32` is looked up in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Ipv4Key {
    network: [u8; 4],
    /// A whole word, so that there is no padding to zero.
    prefix: u32,
}

impl Ipv4Key {
    /// The network of `prefix` bits; host bits in `network` must be zero.
    pub const fn new(network: [u8; 4], prefix: u8) -> Self {
        Self {
            network,
            prefix: prefix as u32,
        }
    }

    /// The one address.
    #[inline(always)]
    pub const fn exact(address: [u8; 4]) -> Self {
        Self::new(address, 32)
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
}

/// An IPv6 network that is sentenced. Only `/64` is looked up in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Ipv6Key {
    network: [u8; 16],
    /// A whole word, so that there is no padding to zero.
    prefix: u64,
}

impl Ipv6Key {
    /// The network of `prefix` bits; host bits in `network` must be zero.
    pub const fn new(network: [u8; 16], prefix: u8) -> Self {
        Self {
            network,
            prefix: prefix as u64,
        }
    }

    /// The `/64` that `address` lies in.
    #[inline(always)]
    pub const fn subnet(address: [u8; 16]) -> Self {
        let mut network = [0; 16];
        let mut byte = 0;
        while byte < 8 {
            network[byte] = address[byte];
            byte += 1;
        }
        Self::new(network, 64)
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
}

/// What the kernel holds on one sentenced network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ClientEntry {
    /// When the sentence ends. The kernel checks it, so a dead daemon cannot punish for ever.
    pub until: KernelTime,
    /// New connections this entry has met, dropped at [`Level::Block`], passed at
    /// [`Level::Observe`]. Written by the kernel; whoever replaces an entry carries it over.
    pub drops: u64,
    level: u8,
    padding: [u8; 7],
}

impl ClientEntry {
    /// An entry of `level` that lapses at `until` and has met `drops` connections.
    pub const fn new(level: Level, until: KernelTime, drops: u64) -> Self {
        Self {
            until,
            drops,
            level: level as u8,
            padding: [0; 7],
        }
    }

    /// How hard the sentence is; `None` when a newer daemon wrote a level this build does not know.
    #[inline(always)]
    pub const fn level(&self) -> Option<Level> {
        Level::from_byte(self.level)
    }
}

/// How hard a sentence is. 0 is no level, so that a zeroed entry is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// New connections are counted and pass.
    Observe = 1,
    /// New connections are dropped.
    Block = 2,
}

impl Level {
    #[inline(always)]
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Observe),
            2 => Some(Self::Block),
            _ => None,
        }
    }
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
/// Only [`Blocked`](Self::Blocked) frames are dropped; every other one passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Neither IPv4 nor IPv6 directly in Ethernet: ARP, VLAN tags, anything else.
    NotIp,
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
    /// A new connection that [`Level::Block`] would have dropped.
    Observed,
    /// A new connection that was dropped.
    Blocked,
}

impl Counter {
    /// All of them, by index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::NotIp,
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
        Self::Observed,
        Self::Blocked,
    ];

    /// How many there are.
    pub const COUNT: u32 = Self::Blocked as u32 + 1;

    /// Its index in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Its name in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
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
            Self::Observed => "observed",
            Self::Blocked => "blocked",
        }
    }

    /// What it counts, for an operator.
    pub const fn about(self) -> &'static str {
        match self {
            Self::NotIp => "neither IPv4 nor IPv6, such as ARP, or behind a VLAN tag: passed",
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
            Self::Observed => "new connections that would have been dropped: passed",
            Self::Blocked => "new connections of blocked clients: DROPPED",
        }
    }
}

// A change of any of these is a change of the ABI: raise `VERSION`.
const _: () = {
    assert!(size_of::<Ipv4Key>() == 8 && align_of::<Ipv4Key>() == 4);
    assert!(size_of::<Ipv6Key>() == 24 && align_of::<Ipv6Key>() == 8);
    assert!(size_of::<ClientEntry>() == 24 && align_of::<ClientEntry>() == 8);
    assert!(core::mem::offset_of!(ClientEntry, until) == 0);
    assert!(core::mem::offset_of!(ClientEntry, drops) == 8);
    assert!(core::mem::offset_of!(ClientEntry, level) == 16);
    assert!(PORT_WORDS as usize * 64 == u16::MAX as usize + 1);
};

#[cfg(feature = "user")]
mod pod {
    #![expect(
        unsafe_code,
        reason = "`Pod` is aya's unsafe marker; the orphan rule puts its implementations here"
    )]

    use super::{ClientEntry, Ipv4Key, Ipv6Key};

    // SAFETY: `repr(C)`, `Copy`, every byte is of a field and initialised, no pointer inside,
    // and any bit pattern is a value: `level` is a byte that `Level::from_byte` parses.
    unsafe impl aya::Pod for Ipv4Key {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Ipv6Key {}
    // SAFETY: as above; `KernelTime` is a transparent `u64`.
    unsafe impl aya::Pod for ClientEntry {}
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
    fn addresses_of_one_subnet_share_a_key() {
        let mut first = [0x20; 16];
        let mut second = first;
        first[15] = 1;
        second[8] = 2;
        assert_eq!(Ipv6Key::subnet(first), Ipv6Key::subnet(second));
        second[7] = 0;
        assert_ne!(Ipv6Key::subnet(first), Ipv6Key::subnet(second));
    }

    #[test]
    fn unknown_level_is_none() {
        let mut entry = ClientEntry::new(Level::Block, KernelTime::from_nanos(1), 0);
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
