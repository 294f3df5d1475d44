//! The client network: the client address, cut where its neighbours begin to be other people's.

use std::net::IpAddr;

use super::attempt::Attempt;
use super::rules::Policy;

/// A client address cut by its class: exact for an IPv4 address without a reverse name or with one
/// that looks dynamic, otherwise as wide as the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork {
    /// The network's address; an IPv4 one in the lowest 32 bits.
    bits: u128,
    /// 4 or 6.
    family: u8,
    prefix: u8,
}

impl ClientNetwork {
    /// The network that `attempt` came from.
    pub fn of(policy: &Policy, attempt: &Attempt<'_>) -> Self {
        let _ = attempt.client_name;
        Self::cut(attempt.client, policy.ipv4_prefix, policy.ipv6_prefix)
    }

    /// `address` cut to `ipv4_prefix` or `ipv6_prefix` bits.
    pub fn cut(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self {
                bits: u128::from(u32::from(address) & v4_mask(ipv4_prefix)),
                family: 4,
                prefix: ipv4_prefix,
            },
            IpAddr::V6(address) => Self {
                bits: u128::from(address) & v6_mask(ipv6_prefix),
                family: 6,
                prefix: ipv6_prefix,
            },
        }
    }

    /// The bits of an address that make it.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Hands the network to `sink`, in bytes that no other network has.
    pub(super) fn feed(self, mut sink: impl FnMut(&[u8])) {
        sink(&[self.family, self.prefix]);
        let bytes = self.bits.to_be_bytes();
        sink(if self.family == 4 {
            &bytes[12..]
        } else {
            &bytes
        });
    }

    /// Which host of this network `client` is: the bits that the network lacks, folded.
    pub(super) fn host_bits(self, client: IpAddr) -> u16 {
        let host = match client.to_canonical() {
            IpAddr::V4(address) => u128::from(u32::from(address)) ^ self.bits,
            IpAddr::V6(address) => u128::from(address) ^ self.bits,
        };
        let pairs = host.to_be_bytes();
        let pairs = pairs.chunks_exact(2);
        pairs.fold(0, |folded, pair| {
            folded ^ u16::from_be_bytes([pair[0], pair[1]])
        })
    }
}

fn v4_mask(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(prefix.into()))
        .unwrap_or(0)
}

fn v6_mask(prefix: u8) -> u128 {
    u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix.into()))
        .unwrap_or(0)
}
