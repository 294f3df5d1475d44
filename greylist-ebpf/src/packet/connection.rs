//! What a frame that opens a connection says of it.

/// A TCP SYN without ACK: a client that asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)] // without padding, as for `Address`
pub struct NewConnection {
    /// The source address.
    pub client: Address,
    /// The destination address.
    pub destination: Address,
    /// The sequence number.
    pub sequence: u32,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub port: u16,
}

impl NewConnection {
    /// What tells it from other connections of the same client, in the upper 29 bits: its first SYN
    /// and all repetitions of it have the same, others hardly ever.
    #[inline(always)]
    pub const fn mark(&self) -> u32 {
        let ports = (self.source_port as u64) << 16 | self.port as u64;
        let destination = self.destination.high ^ self.destination.low;
        let mixed = (ports << 32 | self.sequence as u64) ^ destination.wrapping_mul(GOLDEN);
        (mixed.wrapping_mul(GOLDEN) >> 32) as u32
    }
}

/// An address of either family.
///
/// No enum of two arrays: the compiler may carry one through memory whole, and the verifier lets
/// nobody without `CAP_PERFMON` read the bytes that the smaller array leaves unwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Address {
    /// As IPv6 addresses ([`mapped`](crate::abi::mapped) where it is IPv4), in two numbers.
    high: u64,
    low: u64,
    family: Family,
}

impl Address {
    /// The IPv4 address that is this number.
    #[inline(always)]
    pub const fn v4(bits: u32) -> Self {
        Self {
            high: 0,
            low: 0xffff << 32 | bits as u64,
            family: Family::V4,
        }
    }

    /// The IPv6 address that is this number, in two halves.
    #[inline(always)]
    pub const fn v6(high: u64, low: u64) -> Self {
        Self {
            high,
            low,
            family: Family::V6,
        }
    }

    /// Its bytes, in network byte order.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an IPv4 address is the lower half"
    )]
    pub const fn octets(&self) -> Octets {
        match self.family {
            Family::V4 => Octets::V4((self.low as u32).to_be_bytes()),
            Family::V6 => Octets::V6(self.as_ipv6()),
        }
    }

    /// Its bytes as an IPv6 address, [`mapped`](crate::abi::mapped) where it is IPv4.
    #[inline(always)]
    pub const fn as_ipv6(&self) -> [u8; 16] {
        ((self.high as u128) << 64 | self.low as u128).to_be_bytes()
    }
}

impl From<[u8; 4]> for Address {
    fn from(octets: [u8; 4]) -> Self {
        Self::v4(u32::from_be_bytes(octets))
    }
}

impl From<[u8; 16]> for Address {
    #[expect(clippy::cast_possible_truncation, reason = "split in two halves")]
    fn from(octets: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(octets);
        Self::v6((bits >> 64) as u64, bits as u64)
    }
}

/// The bytes of an [`Address`], in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Octets {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
enum Family {
    V4,
    V6,
}

/// 2^64 divided by the golden ratio, for multiplicative hashing: Knuth, TAOCP 3, 6.4.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
