//! Who is sentenced and who is not: addresses drawn at random, the same in every run.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use greygate::policy::{
    Offence, Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient, Timestamp,
};
use ipnet::IpNet;

/// Sentences of each kind in the big tables.
pub(crate) const MANY: usize = 1_000_000;
/// Sentences in the small ones: as many as xdp-filter can hold.
pub(crate) const FEW: usize = 10_000;
/// Whole IPv4 networks and single IPv6 hosts in the big tables, beside what is sentenced mostly.
const SOME: usize = 40_000;

/// All addresses of a run; no two of the same list are equal.
pub(crate) struct People {
    /// Sentenced IPv4 addresses.
    pub(crate) hosts_v4: Vec<Ipv4Addr>,
    /// One address in each of the sentenced `/24`.
    pub(crate) in_networks_v4: Vec<Ipv4Addr>,
    /// One address in each of the sentenced `/64`.
    pub(crate) in_networks_v6: Vec<Ipv6Addr>,
    /// Sentenced IPv6 addresses.
    pub(crate) hosts_v6: Vec<Ipv6Addr>,
    /// IPv4 addresses under no sentence.
    pub(crate) clean_v4: Vec<Ipv4Addr>,
    /// IPv6 addresses under no sentence.
    pub(crate) clean_v6: Vec<Ipv6Addr>,
}

impl People {
    pub(crate) fn new() -> Self {
        let mut dice = Dice(0x6772_6579_6761_7465);
        let mut hosts = HashSet::new();
        let hosts_v4 = draw(MANY, || {
            Some(dice.ipv4()).filter(|host| hosts.insert(*host))
        });
        let mut networks = HashSet::new();
        let in_networks_v4 = draw(SOME, || {
            // A host under both sentences would be found by the first look-up.
            Some(dice.ipv4())
                .filter(|host| !hosts.contains(host) && networks.insert(ipv4_24(*host)))
        });
        let mut networks_v6 = HashSet::new();
        let in_networks_v6 = draw(MANY, || {
            Some(dice.ipv6()).filter(|host| networks_v6.insert(ipv6_64(*host)))
        });
        let mut others = HashSet::new();
        let mut v6 = |count| {
            draw(count, || {
                Some(dice.ipv6()).filter(|host| {
                    let network = ipv6_64(*host);
                    !networks_v6.contains(&network) && others.insert(network)
                })
            })
        };
        let (hosts_v6, clean_v6) = (v6(SOME), v6(MANY));
        let clean_v4 = draw(MANY, || {
            Some(dice.ipv4())
                .filter(|host| !hosts.contains(host) && !networks.contains(&ipv4_24(*host)))
        });
        Self {
            hosts_v4,
            in_networks_v4,
            in_networks_v6,
            hosts_v6,
            clean_v4,
            clean_v6,
        }
    }
}

/// The sentence of one address.
pub(crate) fn host(address: impl Into<IpAddr>, level: SentenceLevel, now: Timestamp) -> Sentence {
    sentence(IpNet::from(address.into()), level, now)
}

/// The sentence of the `/24` or `/64` that `address` lies in.
pub(crate) fn network(
    address: impl Into<IpAddr>,
    level: SentenceLevel,
    now: Timestamp,
) -> Sentence {
    let address = address.into();
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    sentence(IpNet::new_assert(address, prefix), level, now)
}

fn sentence(network: IpNet, level: SentenceLevel, now: Timestamp) -> Sentence {
    Sentence {
        client: SentencedClient::try_from(network).expect("all four prefixes can be sentenced"),
        level,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since: now,
        until: now.after(Duration::from_hours(6)),
        persistence: Persistence::default(),
    }
}

fn ipv4_24(address: Ipv4Addr) -> u32 {
    address.to_bits() >> 8
}

fn ipv6_64(address: Ipv6Addr) -> u128 {
    address.to_bits() >> 64
}

fn draw<T>(count: usize, mut next: impl FnMut() -> Option<T>) -> Vec<T> {
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(count)
        .collect()
}

/// The generator `SplitMix64` (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut roll = self.0;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        roll ^ (roll >> 31)
    }

    /// A public address.
    fn ipv4(&mut self) -> Ipv4Addr {
        loop {
            let [first, second, third, fourth, ..] = self.roll().to_ne_bytes();
            let address = Ipv4Addr::new(first, second, third, fourth);
            let special = first == 0 || address.is_loopback() || address.is_link_local();
            if !special && !address.is_private() && first < 224 {
                return address;
            }
        }
    }

    /// A global unicast address (`2000::/3`).
    fn ipv6(&mut self) -> Ipv6Addr {
        let network = self.roll() >> 3 | 1 << 61;
        Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(self.roll()))
    }
}
