//! Punishments with an end: who, how hard, until when.
//!
//! A sentence is a fact of the store; the kernel's table is a projection of it.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::offence::Offence;
use super::persistence::Persistence;
use super::time::Timestamp;

/// A punishment of one client network, with an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Who is sentenced.
    pub client: SentencedClient,
    /// How hard.
    pub level: SentenceLevel,
    /// What it was given for.
    pub reason: SentenceReason,
    /// When it was given.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// How it was borne.
    pub persistence: Persistence,
}

impl Sentence {
    /// Nobody is sentenced for longer at once, not even by an operator.
    pub const LONGEST: Duration = Duration::from_hours(28 * 24);

    /// Whether the sentence is void at `now`: it has ended, or it lies in the future.
    ///
    /// A clock that was wrong and then set back leaves sentences from the future. Nobody shall be
    /// blocked until the future is reached again, but at most for twice the length.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        let length = self.until.since(self.since);
        now >= self.until || self.since > now.after(length)
    }

    /// One sentence out of two of the same client: the harder level and its reason, an operator's
    /// before any other, the earlier beginning and the later end. So a repeat never shortens a
    /// sentence, and an operator's order stands whatever was there before.
    ///
    /// But an offence does not harden an order that ends later: half an hour earned would make a
    /// block of weeks out of weeks that were to be observed. Where it does harden one, the reason is
    /// the offence, so that the rules for what is earned hold for it.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (level, reason) = if self.overrules(&other) {
            (self.level, self.reason)
        } else if other.overrules(&self) {
            (other.level, other.reason)
        } else {
            match self.level.cmp(&other.level) {
                Ordering::Less => (other.level, other.reason),
                Ordering::Equal => (self.level, self.reason.min(other.reason)),
                Ordering::Greater => (self.level, self.reason),
            }
        };
        Self {
            client: self.client,
            level,
            reason,
            since: self.since.min(other.since),
            until: self.until.max(other.until),
            persistence: self.persistence.merge(other.persistence),
        }
    }

    /// Whether this is an operator's order, `other` was earned, and this ends later.
    fn overrules(&self, other: &Self) -> bool {
        let by_operator = |it: &Self| it.reason == SentenceReason::Operator;
        by_operator(self) && !by_operator(other) && self.until > other.until
    }
}

/// How hard a sentence is. The kernel's counters tell the levels apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SentenceLevel {
    /// Counted only: what would have been dropped.
    Observe,
    /// New connections beyond a rate are dropped.
    Rate,
    /// New connections are dropped, but for one now and then.
    Block,
}

impl SentenceLevel {
    /// The word for logs and answers: `observe`, `rate` or `block`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Rate => "rate",
            Self::Block => "block",
        }
    }
}

impl FromStr for SentenceLevel {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        [Self::Observe, Self::Rate, Self::Block]
            .into_iter()
            .find(|level| level.as_str() == word)
            .ok_or_else(|| UnknownLevel(word.to_owned()))
    }
}

/// A word that names no [`SentenceLevel`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level; write observe, rate or block")]
pub struct UnknownLevel(String);

/// What a sentence was given for, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SentenceReason {
    /// An operator's `greygate punish`.
    Operator,
    /// Several hosts of the network hold strikes.
    Neighbours,
    /// The client's own offence.
    Offence(Offence),
}

impl SentenceReason {
    /// The word for logs and answers, such as `operator` or `rapid-retries`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Neighbours => "neighbours",
            Self::Offence(Offence::RapidRetries) => "rapid-retries",
            Self::Offence(Offence::RelayHopping) => "relay-hopping",
            Self::Offence(Offence::RejectedRetries) => "rejected-retries",
            Self::Offence(Offence::RejectedRecipients) => "rejected-recipients",
        }
    }
}

/// The network a sentence falls on: one IPv4 address or its `/24`, one IPv6 address or its `/64`.
///
/// Ordered and hashed as the network it is, so it is the key of every table of sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentencedClient(IpNet);

impl SentencedClient {
    /// `address` alone: its `/32` or `/128`.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address.to_canonical()))
    }

    /// Who is meant when an operator names `address` and no network: the IPv4 address, or the
    /// `/64`, which is the least that one host is given.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpNet::V4(Ipv4Net::from(address))),
            IpAddr::V6(address) => {
                let prefix = u128::from(address) & (u128::MAX << 64);
                Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(prefix), 64)))
            }
        }
    }

    /// All that can be sentenced so that `address` is hit: the address itself, then the network
    /// around it.
    pub fn covering(address: IpAddr) -> [Self; 2] {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let network = Ipv4Net::new_assert(address, 24).trunc();
                [Self::from(address), Self(IpNet::V4(network))]
            }
            IpAddr::V6(address) => [
                Self::host(IpAddr::V6(address)),
                Self::of(IpAddr::V6(address)),
            ],
        }
    }

    /// The network.
    pub fn network(self) -> IpNet {
        self.0
    }

    /// Whether somebody in `network` falls under this sentence.
    pub fn overlaps(self, network: IpNet) -> bool {
        self.0.contains(&network) || network.contains(&self.0)
    }

    /// Whether `address` falls under this sentence.
    pub fn covers(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<IpNet> for SentencedClient {
    type Error = UnsentenceableNetwork;

    /// The network, cut to its prefix; only those of 32 or 24, 128 or 64 bits can be sentenced.
    fn try_from(network: IpNet) -> Result<Self, UnsentenceableNetwork> {
        match (network, network.prefix_len()) {
            (IpNet::V4(_), 24 | 32) | (IpNet::V6(_), 64 | 128) => Ok(Self(network.trunc())),
            _ => Err(UnsentenceableNetwork(network)),
        }
    }
}

/// A network of a size that no sentence falls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be sentenced: IPv4 addresses (/32) and /24, IPv6 addresses (/128) and /64 can")]
pub struct UnsentenceableNetwork(pub IpNet);

impl From<Ipv4Addr> for SentencedClient {
    fn from(address: Ipv4Addr) -> Self {
        Self::of(IpAddr::V4(address))
    }
}

impl std::fmt::Display for SentencedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpNet::V4(network) if network.prefix_len() == 32 => network.addr().fmt(f),
            // A bare IPv6 address would be read as its /64.
            network => network.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_an_ipv4_address_and_an_ipv6_network() {
        let v4 = SentencedClient::of("192.0.2.7".parse().expect("an address"));
        assert_eq!(v4.to_string(), "192.0.2.7");
        let v6 = SentencedClient::of("2001:db8:1:2:3::4".parse().expect("an address"));
        assert_eq!(v6.to_string(), "2001:db8:1:2::/64");
        assert!(v6.covers("2001:db8:1:2::9".parse().expect("an address")));
    }

    #[test]
    fn address_is_covered_by_itself_and_the_network_around_it() {
        for (address, covering) in [
            ("192.0.2.7", ["192.0.2.7", "192.0.2.0/24"]),
            ("::ffff:192.0.2.7", ["192.0.2.7", "192.0.2.0/24"]),
            ("2001:db8::7", ["2001:db8::7/128", "2001:db8::/64"]),
        ] {
            let address = address.parse().expect("an address");
            let found = SentencedClient::covering(address);
            assert_eq!(found.map(|client| client.to_string()), covering);
            assert!(found.iter().all(|client| client.covers(address)));
        }
    }

    #[test]
    fn only_networks_of_four_sizes_are_sentenced() {
        let client =
            |network: &str| SentencedClient::try_from(network.parse::<IpNet>().expect("a network"));
        for network in [
            "192.0.2.0/24",
            "192.0.2.7/32",
            "2001:db8::/64",
            "2001:db8::7/128",
        ] {
            let network = client(network).expect("it can be sentenced").network();
            assert_eq!(
                client(&network.to_string()).map(SentencedClient::network),
                Ok(network)
            );
        }
        for network in [
            "192.0.2.0/25",
            "192.0.0.0/16",
            "0.0.0.0/0",
            "2001:db8::/48",
            "::/0",
        ] {
            assert!(client(network).is_err(), "{network}");
        }
    }

    #[test]
    fn level_is_read_as_it_is_written() {
        for level in [
            SentenceLevel::Observe,
            SentenceLevel::Rate,
            SentenceLevel::Block,
        ] {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("Block".parse::<SentenceLevel>().is_err());
    }

    #[test]
    fn repeat_never_shortens_nor_softens() {
        let at = Timestamp::from_millis;
        let long = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Observe,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: at(1),
            until: at(100),
            persistence: Persistence::default(),
        };
        let hard = Sentence {
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: at(2),
            until: at(50),
            ..long
        };
        let both = Sentence {
            level: SentenceLevel::Block,
            ..long
        };
        assert_eq!(long.merge(hard), both);
        assert_eq!(hard.merge(long), both);
        assert_eq!(both.merge(both), both);
    }

    #[test]
    fn offence_does_not_harden_an_order_that_ends_later() {
        let at = Timestamp::from_millis;
        let ordered = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Rate,
            reason: SentenceReason::Operator,
            since: at(1),
            until: at(1_000),
            persistence: Persistence::default(),
        };
        let earned = |until| Sentence {
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: at(2),
            until: at(until),
            ..ordered
        };
        assert_eq!(ordered.merge(earned(999)), ordered);
        assert_eq!(earned(999).merge(ordered), ordered);
        let blocked = ordered.merge(earned(1_000));
        assert_eq!(blocked.level, SentenceLevel::Block);
        let by_order = Sentence {
            reason: SentenceReason::Operator,
            ..earned(10)
        };
        assert_eq!(ordered.merge(by_order).level, SentenceLevel::Block);
    }

    #[test]
    fn offence_that_hardens_an_order_is_the_reason_of_what_it_comes_to() {
        let at = Timestamp::from_millis;
        let ordered = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Rate,
            reason: SentenceReason::Operator,
            since: at(1),
            until: at(100),
            persistence: Persistence::default(),
        };
        let earned = Sentence {
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: at(2),
            until: at(1_000),
            ..ordered
        };
        let both = Sentence {
            since: at(1),
            ..earned
        };
        assert_eq!(ordered.merge(earned), both);
        assert_eq!(earned.merge(ordered), both);
    }

    #[test]
    fn block_of_a_day_takes_the_place_of_half_an_hour_at_rate_and_is_not_softened_by_it() {
        let hours = |hours: u64| Timestamp::from_millis(hours * 3_600_000);
        let sentence = |level, since, until| Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since,
            until,
            persistence: Persistence::default(),
        };
        let rate = sentence(SentenceLevel::Rate, hours(1), hours(2));
        let block = sentence(SentenceLevel::Block, hours(1), hours(25));
        assert_eq!(rate.merge(block), block);
        let rate_again = sentence(SentenceLevel::Rate, hours(3), hours(4));
        assert_eq!(block.merge(rate_again), block);
    }

    #[test]
    fn operators_order_stands_whatever_was_there_before() {
        let observed = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Observe,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: Timestamp::from_millis(1),
            until: Timestamp::from_millis(100),
            persistence: Persistence::default(),
        };
        let ordered = Sentence {
            level: SentenceLevel::Block,
            reason: SentenceReason::Operator,
            since: Timestamp::from_millis(2),
            ..observed
        };
        let merged = observed.merge(ordered);
        assert_eq!(merged.reason, SentenceReason::Operator);
        assert_eq!(merged.level, SentenceLevel::Block);
    }

    #[test]
    fn sentence_from_the_future_is_void() {
        let minutes = |minutes: u64| Timestamp::from_millis(minutes * 60_000);
        let sentence = Sentence {
            client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: minutes(1_000),
            until: minutes(1_030),
            persistence: Persistence::default(),
        };
        assert!(sentence.has_ended(minutes(1_030)));
        assert!(!sentence.has_ended(minutes(1_029)));
        assert!(!sentence.has_ended(minutes(970)), "a small step back");
        assert!(sentence.has_ended(minutes(969)), "twice its length is left");
    }

    #[test]
    fn mapped_address_is_sentenced_as_ipv4() {
        let mapped = SentencedClient::of("::ffff:192.0.2.7".parse().expect("an address"));
        assert_eq!(mapped, SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)));
    }
}
