//! The tries of allowed networks, and the generation that tells the program when to ask them.
//!
//! The generation is raised first: from then on the program asks the tries about every entry that is
//! there. Then new networks are written, and only then stale ones go. At no moment is a network that
//! stays allowed without its entry, and whoever dies on the way leaves none that nobody asks for.

use std::{cmp::Reverse, collections::BTreeSet};

use aya::{
    Ebpf,
    maps::{
        MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use greylist_ebpf::abi::{ALLOWED_NETWORKS, map};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{map_error, os_error, rules::Rules, take_map, unless_absent};
use crate::kernel::FilterError;

/// The networks whose connections always pass.
pub(super) struct Allowed {
    ipv4: LpmTrie<MapData, [u8; 4], u8>,
    ipv6: LpmTrie<MapData, [u8; 16], u8>,
    /// What is in the tries.
    present: BTreeSet<IpNet>,
    spans: Spans,
    crowded_out: u64,
}

impl Allowed {
    /// Takes the tries out of `ebpf`, with what they hold.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, FilterError> {
        let ipv4: LpmTrie<MapData, [u8; 4], u8> = take_map(ebpf, map::ALLOWED_V4)?;
        let ipv6: LpmTrie<MapData, [u8; 16], u8> = take_map(ebpf, map::ALLOWED_V6)?;
        let mut present = BTreeSet::new();
        for key in ipv4.keys() {
            let key = key.map_err(map_error(map::ALLOWED_V4, "read"))?;
            let length = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
            present.extend(Ipv4Net::new(key.data().into(), length).map(IpNet::V4));
        }
        for key in ipv6.keys() {
            let key = key.map_err(map_error(map::ALLOWED_V6, "read"))?;
            let length = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
            present.extend(Ipv6Net::new(key.data().into(), length).map(IpNet::V6));
        }
        Ok(Self {
            ipv4,
            ipv6,
            spans: Spans::of(&present),
            present,
            crowded_out: 0,
        })
    }

    /// Makes `networks` the allowed ones. Does nothing where they are.
    pub(super) fn allow(
        &mut self,
        networks: &[IpNet],
        rules: &mut Rules,
    ) -> Result<(), FilterError> {
        let (wanted, crowded_out) = fitting(networks, ALLOWED_NETWORKS as usize);
        self.note_crowding(crowded_out);
        if wanted == self.present {
            return Ok(());
        }
        let new: Vec<IpNet> = wanted.difference(&self.present).copied().collect();
        if !new.is_empty() {
            rules.raise_generation()?;
        }
        let mut outcome = Ok(());
        for network in new {
            outcome = outcome.and(self.insert(network, &wanted));
        }
        let stale: Vec<IpNet> = self.present.difference(&wanted).copied().collect();
        for network in stale {
            outcome = outcome.and(self.remove(network));
        }
        self.spans = Spans::of(&self.present);
        outcome
    }

    /// Whether somebody in `network` may be allowed.
    pub(super) fn overlaps(&self, network: IpNet) -> bool {
        self.spans.overlaps(network)
    }

    /// Networks in the tries.
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.present.len()).unwrap_or(u64::MAX)
    }

    /// Networks for which the tries have no room.
    pub(super) fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// Logs the edges only.
    fn note_crowding(&mut self, crowded_out: usize) {
        let before = self.crowded_out;
        self.crowded_out = u64::try_from(crowded_out).unwrap_or(u64::MAX);
        if before == 0 && crowded_out > 0 {
            tracing::warn!(
                crowded_out,
                capacity = ALLOWED_NETWORKS,
                "allowed-networks-full"
            );
        }
    }

    fn insert(&mut self, network: IpNet, wanted: &BTreeSet<IpNet>) -> Result<(), FilterError> {
        let mut written = self.write(network);
        if written
            .as_ref()
            .is_err_and(|error| os_error(error) == Some(libc::ENOSPC))
        {
            // Old and new together do not fit: the narrowest stale one makes room.
            let stale = self
                .present
                .difference(wanted)
                .filter(|stale| is_ipv4(stale) == is_ipv4(&network))
                .max_by_key(|stale| stale.prefix_len())
                .copied();
            if let Some(stale) = stale {
                self.remove(stale)?;
                written = self.write(network);
            }
        }
        written.map_err(map_error(trie(network), "written"))?;
        self.present.insert(network);
        Ok(())
    }

    fn write(&mut self, network: IpNet) -> Result<(), MapError> {
        match network {
            IpNet::V4(it) => self.ipv4.insert(&key_v4(it), 0, 0),
            IpNet::V6(it) => self.ipv6.insert(&key_v6(it), 0, 0),
        }
    }

    fn remove(&mut self, network: IpNet) -> Result<(), FilterError> {
        let removed = match network {
            IpNet::V4(it) => self.ipv4.remove(&key_v4(it)),
            IpNet::V6(it) => self.ipv6.remove(&key_v6(it)),
        };
        unless_absent(removed).map_err(map_error(trie(network), "written"))?;
        self.present.remove(&network);
        Ok(())
    }
}

/// `networks` without those that lie in another one, at most `capacity` of each family, the widest
/// first; and how many have no room.
fn fitting(networks: &[IpNet], capacity: usize) -> (BTreeSet<IpNet>, usize) {
    let (mut ipv4, mut ipv6): (Vec<IpNet>, Vec<IpNet>) = IpNet::aggregate(&networks.to_vec())
        .into_iter()
        .partition(is_ipv4);
    let mut crowded_out = 0;
    for family in [&mut ipv4, &mut ipv6] {
        // Stable, and the aggregate is sorted: the same networks give way each time.
        family.sort_by_key(IpNet::prefix_len);
        crowded_out += family.len().saturating_sub(capacity);
        family.truncate(capacity);
    }
    (ipv4.into_iter().chain(ipv6).collect(), crowded_out)
}

/// Networks as spans of addresses that do not overlap, in order: thousands of them are searched a
/// million times when sentences are restored.
#[derive(Debug, Default)]
struct Spans {
    ipv4: Vec<(u128, u128)>,
    ipv6: Vec<(u128, u128)>,
}

impl Spans {
    fn of(networks: &BTreeSet<IpNet>) -> Self {
        let mut spans = Self::default();
        let mut sorted: Vec<&IpNet> = networks.iter().collect();
        sorted.sort_unstable_by_key(|network| (span(network).0, Reverse(span(network).1)));
        for network in sorted {
            let family = if is_ipv4(network) {
                &mut spans.ipv4
            } else {
                &mut spans.ipv6
            };
            let (first, last) = span(network);
            // Two networks are apart, or one lies in the other, which came before.
            if family.last().is_none_or(|(_, end)| *end < first) {
                family.push((first, last));
            }
        }
        spans
    }

    fn overlaps(&self, network: IpNet) -> bool {
        let family = if is_ipv4(&network) {
            &self.ipv4
        } else {
            &self.ipv6
        };
        let (first, last) = span(&network);
        let next = family.partition_point(|(_, end)| *end < first);
        family.get(next).is_some_and(|(begin, _)| *begin <= last)
    }
}

fn span(network: &IpNet) -> (u128, u128) {
    match network {
        IpNet::V4(it) => (
            u32::from(it.network()).into(),
            u32::from(it.broadcast()).into(),
        ),
        IpNet::V6(it) => (it.network().into(), it.broadcast().into()),
    }
}

fn is_ipv4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

fn trie(network: IpNet) -> &'static str {
    match network {
        IpNet::V4(_) => map::ALLOWED_V4,
        IpNet::V6(_) => map::ALLOWED_V6,
    }
}

fn key_v4(network: Ipv4Net) -> Key<[u8; 4]> {
    Key::new(network.prefix_len().into(), network.network().octets())
}

fn key_v6(network: Ipv6Net) -> Key<[u8; 16]> {
    Key::new(network.prefix_len().into(), network.network().octets())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    #[test]
    fn network_within_another_needs_no_place() {
        let given = networks(&[
            "10.1.0.0/16",
            "10.0.0.0/8",
            "192.0.2.0/25",
            "192.0.2.128/25",
        ]);
        let (fitting, crowded_out) = fitting(&given, 2);
        let expected = networks(&["10.0.0.0/8", "192.0.2.0/24"]);
        assert_eq!(fitting, expected.into_iter().collect());
        assert_eq!(crowded_out, 0);
    }

    #[test]
    fn widest_networks_are_kept_where_not_all_fit() {
        let given = networks(&[
            "192.0.2.1/32",
            "10.0.0.0/8",
            "198.51.100.0/24",
            "2001:db8::/32",
        ]);
        let (fitting, crowded_out) = fitting(&given, 2);
        let expected = networks(&["10.0.0.0/8", "198.51.100.0/24", "2001:db8::/32"]);
        assert_eq!(fitting, expected.into_iter().collect());
        assert_eq!(crowded_out, 1);
    }

    proptest! {
        /// The search finds what asking each network finds.
        #[test]
        fn spans_overlap_where_networks_do(
            allowed in proptest::collection::vec((0_u32..1 << 12, 20_u8..=32), 0..20),
            address in 0_u32..1 << 12,
            length in 20_u8..=32,
        ) {
            let network = |address: u32, length| {
                IpNet::V4(Ipv4Net::new((address | 10 << 24).into(), length).expect("a prefix")).trunc()
            };
            let allowed: BTreeSet<IpNet> =
                allowed.into_iter().map(|(address, length)| network(address, length)).collect();
            let asked = network(address, length);
            let expected = allowed.iter().any(|it| it.contains(&asked) || asked.contains(it));
            prop_assert_eq!(Spans::of(&allowed).overlaps(asked), expected);
        }
    }
}
