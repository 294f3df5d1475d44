//! The client network: the client address, cut where its neighbours begin to be other people's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attempt::Attempt;
use super::dynamic::looks_dynamic;
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
        Self::of_client(policy, attempt.client, attempt.client_name)
    }

    /// The network of the client at `address` whose verified reverse name is `name`, empty if it has
    /// none.
    pub fn of_client(policy: &Policy, address: IpAddr, name: &[u8]) -> Self {
        let ipv4_prefix = match address.to_canonical() {
            IpAddr::V4(address) if is_alone(name, address) => policy.ipv4_prefix_unnamed,
            _ => policy.ipv4_prefix,
        };
        Self::cut(address, ipv4_prefix, policy.ipv6_prefix)
    }

    /// The networks that the client at `address` may belong to, its reverse name not being known:
    /// twice the same if that makes no difference.
    pub fn possible(policy: &Policy, address: IpAddr) -> [Self; 2] {
        [policy.ipv4_prefix, policy.ipv4_prefix_unnamed]
            .map(|ipv4_prefix| Self::cut(address, ipv4_prefix, policy.ipv6_prefix))
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

    /// It as a network of addresses; [`None`] if its prefix is longer than an address.
    pub fn to_net(self) -> Option<IpNet> {
        let address = if self.family == 4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(self.bits).ok()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.bits))
        };
        IpNet::new(address, self.prefix).ok()
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
        let host = host ^ (host >> 64);
        let host = host ^ (host >> 32);
        let [.., high, low] = (host ^ (host >> 16)).to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

/// Whether the neighbours of a client with this verified reverse name are other people's.
fn is_alone(name: &[u8], address: Ipv4Addr) -> bool {
    name.is_empty() || looks_dynamic(name, address)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::ATTEMPT;
    use crate::policy::{Seed, TupleKey};

    fn attempt<'a>(client: &str, client_name: &'a str) -> Attempt<'a> {
        Attempt {
            client: client.parse().expect("an address"),
            client_name: client_name.as_bytes(),
            ..ATTEMPT
        }
    }

    fn network(client: &str, client_name: &str) -> ClientNetwork {
        ClientNetwork::of(&Policy::default(), &attempt(client, client_name))
    }

    fn tuple(client: &str, client_name: &str) -> TupleKey {
        let seed = Seed::from_bytes(std::array::from_fn(|at| at.to_le_bytes()[0]));
        seed.tuple_key(network(client, client_name), &attempt(client, client_name))
    }

    #[test]
    fn hosts_of_a_named_pool_share_a_tuple() {
        let pool = [
            ("209.85.218.41", "mail-ej1-f41.google.com"),
            ("209.85.218.52", "mail-ej1-f52.google.com"),
            ("209.85.218.180", "mail-ej1-f180.google.com"),
            ("::ffff:209.85.218.181", "mail-ej1-f181.google.com"),
        ];
        let first = tuple(pool[0].0, pool[0].1);
        for (client, name) in pool {
            assert_eq!(tuple(client, name), first, "{name}");
        }
        let farther = tuple("209.85.219.41", "mail-yb1-f41.google.com");
        assert_ne!(farther, first);
    }

    #[test]
    fn neighbours_on_dynamic_or_nameless_lines_share_nothing() {
        for (one, other) in [
            (
                "p5b0abcde.dip0.t-ipconnect.de",
                "p5b0abcdf.dip0.t-ipconnect.de",
            ),
            ("188-222.dsl.isp.example", "188-223.dsl.isp.example"),
            ("", ""),
        ] {
            let first = tuple("91.10.188.222", one);
            assert_ne!(first, tuple("91.10.188.223", other), "{one}");
            assert_eq!(first, tuple("91.10.188.222", one), "{one}");
        }
    }

    #[test]
    fn named_host_keeps_the_network_it_always_had() {
        let address = "192.0.2.7".parse().expect("an address");
        assert_eq!(
            network("192.0.2.7", "mail.sender.example"),
            ClientNetwork::cut(address, 24, 64)
        );
    }

    #[test]
    fn ipv6_network_does_not_depend_on_the_name() {
        for name in ["", "mail.sender.example", "dyn.pool.isp.example"] {
            let one = network("2001:db8:1:2::3", name);
            assert_eq!(one, network("2001:db8:1:2:ffff::4", "mail.sender.example"));
            assert_ne!(one, network("2001:db8:1:3::3", name));
        }
    }

    #[test]
    fn operator_widens_what_nameless_hosts_share() {
        let policy = Policy {
            ipv4_prefix_unnamed: 28,
            ..Policy::default()
        };
        let of = |client| ClientNetwork::of(&policy, &attempt(client, ""));
        assert_eq!(of("192.0.2.1"), of("192.0.2.14"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.17"));
    }

    #[test]
    fn address_may_belong_to_two_networks_or_one() {
        let policy = Policy::default();
        let of =
            |address: &str| ClientNetwork::possible(&policy, address.parse().expect("an address"));
        let [wide, exact] = of("192.0.2.7");
        assert_ne!(wide, exact);
        assert_eq!(wide, of("192.0.2.8")[0]);
        assert_ne!(exact, of("192.0.2.8")[1]);
        let [one, same] = of("2001:db8:1:2::3");
        assert_eq!(one, same);
    }
}
