//! Many networks, asked about many clients: as sorted ranges of addresses.
//!
//! [`Policy::shields`](super::Policy::shields) asks one network after the other, which is all that
//! a single offence needs. A million sentences under a thousand networks need this.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::sentence::SentencedClient;

/// Networks, as disjoint ranges of addresses in ascending order: IPv4, then IPv6.
#[derive(Debug)]
pub(super) struct Shield(Vec<(IpAddr, IpAddr)>);

impl Shield {
    /// Before all in `networks`.
    pub(super) fn of<'n>(networks: impl Iterator<Item = &'n IpNet>) -> Self {
        let mut ranges: Vec<_> = networks.map(range).collect();
        // The widest first of those that begin together.
        ranges.sort_unstable_by_key(|(first, last)| (*first, Reverse(*last)));
        // Networks never overlap in part, so that one that begins in another lies in it.
        ranges.dedup_by(|next, prior| next.0 <= prior.1);
        Self(ranges)
    }

    /// Whether somebody in one of the networks falls under sentences of `client`.
    pub(super) fn overlaps(&self, client: SentencedClient) -> bool {
        let (first, last) = range(&client.network());
        let beyond = self.0.partition_point(|(begin, _)| *begin <= last);
        beyond > 0 && self.0[beyond - 1].1 >= first
    }
}

/// The first and the last address.
fn range(network: &IpNet) -> (IpAddr, IpAddr) {
    (network.network(), network.broadcast())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that networks meet.
    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (0..8_u32, 20..=32_u8).prop_map(|(address, prefix)| {
            let address = Ipv4Addr::from(0xc000_0200 + (address << 7));
            IpNet::V4(Ipv4Net::new_assert(address, prefix)).trunc()
        });
        let v6 = (0..8_u128, 60..=128_u8).prop_map(|(address, prefix)| {
            let address = Ipv6Addr::from((0x2001_0db8_u128 << 96) + (address << 63));
            IpNet::V6(Ipv6Net::new_assert(address, prefix)).trunc()
        });
        let all = prop::sample::select(vec!["0.0.0.0/0", "::1/128", "fc00::/7"]);
        let all = all.prop_map(|network| network.parse().expect("a network"));
        prop_oneof![8 => v4, 8 => v6, 1 => all]
    }

    fn client() -> impl Strategy<Value = SentencedClient> {
        let sizes = prop::sample::select(vec![(24, 64), (32, 128)]);
        (network(), sizes).prop_map(|(network, (v4, v6))| {
            let prefix = if network.addr().is_ipv4() { v4 } else { v6 };
            let network = IpNet::new(network.addr(), prefix).expect("a legal prefix");
            SentencedClient::try_from(network).expect("it can be sentenced")
        })
    }

    proptest! {
        #[test]
        fn says_the_same_as_asking_one_after_the_other(
            networks in proptest::collection::vec(network(), 0..6),
            client in client(),
        ) {
            let one_by_one = networks.iter().any(|network| client.overlaps(*network));
            prop_assert_eq!(Shield::of(networks.iter()).overlaps(client), one_by_one);
        }
    }
}
