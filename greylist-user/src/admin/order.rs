//! Whom an operator may sentence.
//!
//! Pure: the rules are an argument, this host's own addresses among the local ones.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::request::PunishOrder;
use crate::policy::{
    Entry, Policy, Sentence, SentenceLevel, SentencedClient, UnknownLevel, UnsentenceableNetwork,
    ranges,
};

/// Who is meant: an address, or a network written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// One address. For IPv6, its `/64` is sentenced; one address of it is named as a `/128`.
    Address(IpAddr),
    /// A network.
    Network(IpNet),
}

impl PunishOrder {
    /// The client to sentence, unless the rules protect it.
    pub fn client(&self, policy: &Policy) -> Result<SentencedClient, Refusal> {
        let client = self.target.client()?;
        if is_nobody(self.target.address()) || client.covers(BROADCAST) {
            return Err(Refusal::Nobody(client));
        }
        if self
            .seconds
            .is_some_and(|seconds| seconds == 0 || Duration::from_secs(seconds) > Sentence::LONGEST)
        {
            return Err(Refusal::Duration);
        }
        if self.force {
            return Ok(client);
        }
        let lists = &policy.lists;
        if let Some(Entry::Client(allowed)) = lists.allow.overlapping(client).map(|it| &it.entry) {
            return Err(Refusal::Allowed(client, *allowed));
        }
        if ranges::is_untouchable(client) || lists.local.overlapping(client).is_some() {
            return Err(Refusal::Local(client));
        }
        if policy.shields(client) {
            return Err(Refusal::Private(client));
        }
        Ok(client)
    }
}

impl Target {
    fn address(self) -> IpAddr {
        match self {
            Self::Address(address) => address.to_canonical(),
            Self::Network(network) => network.network(),
        }
    }

    /// Whom a sentence of this target falls on.
    fn client(self) -> Result<SentencedClient, Refusal> {
        match self {
            Self::Address(address) => Ok(SentencedClient::of(address)),
            // A slip of the prefix length would sentence 256 addresses for one.
            Self::Network(network) if network.trunc() != network => {
                Err(Refusal::HostBits(network, network.trunc()))
            }
            Self::Network(network) => Ok(SentencedClient::try_from(network)?),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse().map(Self::Address);
        address
            .or_else(|_| text.parse().map(Self::Network))
            .ok()
            // Nobody is ever seen with a network of IPv4 that is written as IPv6.
            .filter(|it| !matches!(it, Self::Network(it) if it.addr().to_canonical() != it.addr()))
            .ok_or_else(|| InvalidTarget(text.to_owned()))
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// How hard a client is to be sentenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderedLevel(pub SentenceLevel);

impl OrderedLevel {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for OrderedLevel {
    fn default() -> Self {
        Self(SentenceLevel::Block)
    }
}

impl TryFrom<String> for OrderedLevel {
    type Error = UnknownLevel;

    fn try_from(word: String) -> Result<Self, UnknownLevel> {
        word.parse().map(Self)
    }
}

impl From<OrderedLevel> for String {
    fn from(level: OrderedLevel) -> Self {
        level.0.as_str().to_owned()
    }
}

/// A text that names nobody.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no address; write one such as \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::7\""
)]
pub struct InvalidTarget(String);

/// Why an operator's sentence is not given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The operator's allow list names the client.
    #[error("{0} is allow-listed by {1}; take it off [lists] allow, or insist with --force")]
    Allowed(SentencedClient, IpNet),
    /// No time, or longer than the longest.
    #[error("a sentence lasts from 1s to 28d")]
    Duration,
    /// A network with bits set beyond its prefix, and the one without them.
    #[error("{0} has bits set beyond its prefix; write {1}, or the one address alone")]
    HostBits(IpNet, IpNet),
    /// The client is this host or one of the site's.
    #[error("{0} is local: this host, its gateway, or named in [lists] local; insist with --force")]
    Local(SentencedClient),
    /// An address that no client has.
    #[error("{0} is no address that a client can have")]
    Nobody(SentencedClient),
    /// The client has an address of a private network.
    #[error("{0} is private: a neighbour or a proxy, not a stranger; insist with --force")]
    Private(SentencedClient),
    /// A size of network that no sentence falls on.
    #[error(transparent)]
    Unsentenceable(#[from] UnsentenceableNetwork),
}

fn is_nobody(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast()
}

const BROADCAST: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::Lists;
    use crate::policy::fixture::networks_of;

    #[test]
    fn sentences_an_address_or_the_network_around_it() {
        for (target, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::/64"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("2001:db8::7/128", "2001:db8::7/128"),
        ] {
            let given = order(target).client(&policy()).map(|c| c.to_string());
            assert_eq!(given.as_deref(), Ok(client), "{target}");
        }
    }

    #[test]
    fn refuses_whom_the_rules_protect_unless_forced() {
        for target in [
            "198.51.100.9",    // allow-listed
            "198.51.100.0/24", // one address of it is allow-listed
            "10.0.0.0/24",     // private
            "100.64.0.7",
            "fd00::7/128",
            "169.254.0.7",
            "2001:db8:a::1", // one address of its /64 is allow-listed
            "203.0.113.5",   // local by configuration
            "127.0.0.1",
            "::1",
            "::2", // shares its /64 with loopback
        ] {
            let mut order = order(target);
            assert!(order.client(&policy()).is_err(), "{target}");
            order.force = true;
            assert!(order.client(&policy()).is_ok(), "{target}");
        }
    }

    #[test]
    fn refuses_what_a_sentence_cannot_fall_on_even_if_forced() {
        for target in [
            "192.0.2.0/25",
            "192.0.0.0/16",
            "0.0.0.0/0",
            "2001:db8::/48",
            "2001:db8::/65",
            "192.0.2.7/24",
            "2001:db8::7/64",
            "0.0.0.0",
            "255.255.255.0/24",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            let mut order = order(target);
            order.force = true;
            assert!(order.client(&policy()).is_err(), "{target}");
        }
    }

    #[test]
    fn network_of_ipv4_written_as_ipv6_is_no_target() {
        assert!("::ffff:192.0.2.7/128".parse::<Target>().is_err());
        assert!("::ffff:192.0.2.7".parse::<Target>().is_ok());
    }

    #[test]
    fn private_clients_need_no_force_where_the_site_sentences_them() {
        let mut policy = policy();
        let order = order("10.0.0.7");
        let refused = order.client(&policy);
        assert!(matches!(refused, Err(Refusal::Private(_))), "{refused:?}");
        policy.punish.private = true;
        assert!(order.client(&policy).is_ok());
    }

    #[test]
    fn refuses_no_time_and_years() {
        for seconds in [0, 28 * 24 * 3_600 + 1, u64::MAX] {
            let mut order = order("192.0.2.7");
            order.seconds = Some(seconds);
            assert_eq!(order.client(&policy()), Err(Refusal::Duration));
        }
    }

    fn order(target: &str) -> PunishOrder {
        PunishOrder {
            target: target.parse().expect("the table holds targets"),
            seconds: None,
            level: OrderedLevel::default(),
            force: false,
        }
    }

    fn policy() -> Policy {
        Policy {
            lists: Arc::new(Lists {
                allow: networks_of(["198.51.100.9/32", "2001:db8:a::99/128"]),
                local: networks_of(["203.0.113.0/24"]),
                ..Lists::default()
            }),
            ..Policy::default()
        }
    }
}
