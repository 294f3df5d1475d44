//! Keys of the maps of sentences, and of the bits that say which of them are worth a look.

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

    /// The bit of all addresses of its `/24` in [`map::PRESENCE_V4`](super::map::PRESENCE_V4).
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

    /// The bit of all addresses of its `/64` in [`map::PRESENCE_V6`](super::map::PRESENCE_V6), which others may share:
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

/// The most elements of [`map::PRESENCE_V4`](super::map::PRESENCE_V4) and
/// [`map::PRESENCE_V6`](super::map::PRESENCE_V6), 4 MiB each: one bit for every IPv4 `/24`.
pub const MOST_PRESENCE_WORDS: u32 = 1 << 18;

/// Elements of a presence map beside a map of `capacity` sentences: a power of two.
///
/// 16 bits a sentence, so that of the clients without one, at most 1 in 16 is looked up for nothing
/// when the map is full; and no more, since what is small stays in the processor's cache.
pub const fn presence_words(capacity: u32) -> u32 {
    let words = capacity.div_ceil(64 / 16);
    if words < MOST_PRESENCE_WORDS {
        words.next_power_of_two()
    } else {
        MOST_PRESENCE_WORDS
    }
}

/// One of the 2^24 bits of the largest presence map. In a smaller one several fall together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresenceBit(u32);

impl PresenceBit {
    /// Which [`Presence`] it lies in, in a map of `words`, which must be a power of two.
    #[inline(always)]
    pub const fn index(self, words: u32) -> u32 {
        (self.0 / 64) & words.wrapping_sub(1)
    }

    /// Where in each word of the [`Presence`] it lies.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for words in [1, 4, MOST_PRESENCE_WORDS] {
            assert_eq!((bit.index(words), bit.mask()), (words - 1, 1 << 63));
            assert!(Ipv6Key::host([255; 16]).presence().index(words) < words);
        }
    }

    #[test]
    fn presence_map_grows_with_the_capacity_up_to_a_bit_for_every_network() {
        let words = [1, 4, 5, 131_072, 1 << 20, u32::MAX].map(presence_words);
        let most = MOST_PRESENCE_WORDS;
        assert_eq!(words, [1, 1, 2, 32_768, most, most]);
    }
}
