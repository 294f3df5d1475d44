//! What lies in the maps, byte for byte: keys, values, names, counter indices, the ABI version.
//!
//! Both sides compile this room, so a layout cannot drift; [`VERSION`] tells a daemon and an object
//! of different builds apart. What a value means for mail is the daemon's business.
//!
//! Keys and values are `repr(C)`, padding is written out and always zero: a hash map compares
//! every byte of a key, and the verifier wants every byte of it initialised.

mod config;
mod counter;
mod entry;
mod event;
mod key;
#[cfg(feature = "user")]
mod pod;
mod time;

pub use config::{Config, Limit};
pub use counter::Counter;
pub use entry::{Admitted, ClientEntry, Dropped, Level};
pub use event::{Event, mapped};
pub use key::{Ipv4Key, Ipv6Key, MOST_PRESENCE_WORDS, Presence, PresenceBit, presence_words};
pub use time::{KernelTime, Moment};

/// The version of everything in this room. Raise it with any change of a layout, a map's name or
/// type, or a counter's index; the daemon refuses an object that says another number, and keeps its
/// pins apart from those of other versions.
pub const VERSION: u32 = 2;

/// The ELF section of the object that holds [`VERSION`], as four bytes little-endian.
pub const VERSION_SECTION: &str = "greygate_abi";

/// The name of the XDP program in the object and, cut to 15 characters, in the kernel.
pub const PROGRAM: &str = "greygate";

/// What lies among the constants of every greygate's object, in the kernel too: a program has no name
/// there unless whoever loaded it had more rights than it needs.
pub const MARK: [u8; 16] = *b"greygate program";

/// The constant in the object that says how many elements the presence maps have, `u32`, so that
/// the program knows it without asking.
pub const PRESENCE_WORDS: &str = "PRESENCE_WORDS";

/// The names of the maps, as the object and the kernel know them (15 characters at most).
pub mod map {
    /// Hash: [`Ipv4Key`](super::Ipv4Key) to [`ClientEntry`](super::ClientEntry).
    pub const IPV4: &str = "SENTENCES_V4";
    /// Hash: [`Ipv6Key`](super::Ipv6Key) to [`ClientEntry`](super::ClientEntry).
    pub const IPV6: &str = "SENTENCES_V6";
    /// Array of [`presence_words`](super::presence_words) times [`Presence`](super::Presence): where
    /// in [`IPV4`] a look-up is worth its price.
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
    /// Per-CPU array of one [`Moment`](super::Moment).
    pub const CLOCK: &str = "CLOCK";
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
        CLOCK,
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
    assert!(core::mem::offset_of!(ClientEntry, dropped) == 29);
    assert!(core::mem::offset_of!(ClientEntry, generation) == 30);
    assert!(size_of::<Presence>() == 16 && size_of::<Limit>() == 16);
    assert!(size_of::<Config>() == 48 && align_of::<Config>() == 8);
    assert!(core::mem::offset_of!(Config, generation) == 40);
    assert!(size_of::<Event>() == 24 && size_of::<Moment>() == 24);
    assert!(MOST_PRESENCE_WORDS as usize * 64 == 1 << 24);
    assert!(PORT_WORDS as usize * 64 == u16::MAX as usize + 1);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_own_bit() {
        assert_eq!(port_bit(0), (0, 1));
        assert_eq!(port_bit(25), (0, 1 << 25));
        assert_eq!(port_bit(587), (9, 1 << 11));
        assert_eq!(port_bit(u16::MAX), (PORT_WORDS - 1, 1 << 63));
    }

    #[test]
    fn map_names_fit_the_kernel() {
        for name in map::ALL.into_iter().chain([PROGRAM]) {
            assert!(name.len() < 16, "{name}");
        }
    }
}
