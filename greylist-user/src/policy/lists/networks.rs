//! Many networks, asked for the longest that holds an address: one table for each prefix length.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use super::names::Fixed;

/// Networks, each with the number of its entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Networks {
    ipv4: Vec<Length<u32>>,
    ipv6: Vec<Length<u128>>,
    /// By their first address, for what lies in a network.
    ordered: Vec<(IpAddr, usize)>,
}

/// All networks of one prefix length, by their bits.
#[derive(Clone, Debug)]
struct Length<B> {
    prefix: u8,
    by_bits: HashMap<B, usize, Fixed>,
}

impl Networks {
    /// Adds one; [`order`](Self::order) comes after the last.
    pub(super) fn insert(&mut self, network: IpNet, index: usize) {
        let prefix = network.prefix_len();
        match network.network() {
            IpAddr::V4(address) => insert(&mut self.ipv4, prefix, u32::from(address), index),
            IpAddr::V6(address) => insert(&mut self.ipv6, prefix, u128::from(address), index),
        }
        self.ordered.push((network.network(), index));
    }

    pub(super) fn order(&mut self) {
        self.ordered.sort_unstable();
    }

    /// The longest that holds `address`.
    pub(super) fn find(&self, address: IpAddr) -> Option<usize> {
        match address.to_canonical() {
            IpAddr::V4(address) => find_v4(&self.ipv4, address.into(), 32),
            IpAddr::V6(address) => find_v6(&self.ipv6, address.into(), 128),
        }
    }

    /// The longest that holds all of `network`, or else one that lies in it.
    pub(super) fn overlapping(&self, network: IpNet) -> Option<usize> {
        let prefix = network.prefix_len();
        let around = match network.network() {
            IpAddr::V4(address) => find_v4(&self.ipv4, address.into(), prefix),
            IpAddr::V6(address) => find_v6(&self.ipv6, address.into(), prefix),
        };
        around.or_else(|| {
            let first = network.network();
            let at = self.ordered.partition_point(|(begin, _)| *begin < first);
            let (begin, index) = self.ordered.get(at)?;
            (*begin <= network.broadcast()).then_some(*index)
        })
    }

    /// How many tables are asked for one address at most.
    #[cfg(test)]
    pub(super) fn probes(&self) -> usize {
        self.ipv4.len().max(self.ipv6.len())
    }
}

fn insert<B: Eq + Hash>(lengths: &mut Vec<Length<B>>, prefix: u8, bits: B, index: usize) {
    // The longest first.
    let at = lengths.partition_point(|it| it.prefix > prefix);
    if lengths.get(at).is_none_or(|it| it.prefix != prefix) {
        let by_bits = HashMap::default();
        lengths.insert(at, Length { prefix, by_bits });
    }
    if let Entry::Vacant(vacant) = lengths[at].by_bits.entry(bits) {
        vacant.insert(index);
    }
}

fn find_v4(lengths: &[Length<u32>], bits: u32, most: u8) -> Option<usize> {
    let wide = lengths.iter().skip_while(|it| it.prefix > most);
    wide.map(|it| {
        let mask = u32::MAX.checked_shl(32 - u32::from(it.prefix)).unwrap_or(0);
        it.by_bits.get(&(bits & mask))
    })
    .find_map(Option::<&usize>::copied)
}

fn find_v6(lengths: &[Length<u128>], bits: u128, most: u8) -> Option<usize> {
    let wide = lengths.iter().skip_while(|it| it.prefix > most);
    wide.map(|it| {
        let mask = u128::MAX
            .checked_shl(128 - u32::from(it.prefix))
            .unwrap_or(0);
        it.by_bits.get(&(bits & mask))
    })
    .find_map(Option::<&usize>::copied)
}
