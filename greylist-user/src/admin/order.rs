//! Whom an operator may sentence.
//!
//! Pure: the rules are an argument, this host's own addresses among the local ones.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::request::PunishOrder;
use crate::policy::{Policy, SentencedClient};

/// Who is meant: an address, or a network written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// One address. For IPv6, its `/64` is sentenced.
    Address(IpAddr),
    /// A network.
    Network(IpNet),
}

impl PunishOrder {
    /// The client to sentence, unless the rules protect it.
    pub fn client(&self, policy: &Policy) -> Result<SentencedClient, Refusal> {
        let client = self.target.client()?;
        if is_nobody(self.target.address()) {
            return Err(Refusal::Nobody(client));
        }
        if self
            .seconds
            .is_some_and(|seconds| seconds == 0 || Duration::from_secs(seconds) > LONGEST_SENTENCE)
        {
            return Err(Refusal::Duration);
        }
        if self.force {
            return Ok(client);
        }
        if let Some(allowed) = policy.allow.iter().find(|allow| client.overlaps(**allow)) {
            return Err(Refusal::Allowed(client, *allowed));
        }
        let local = policy.shields(client)
            || self.target.address().is_loopback()
            || client.covers(IpAddr::V6(Ipv6Addr::LOCALHOST));
        if local {
            return Err(Refusal::Local(client));
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
    pub(super) fn client(self) -> Result<SentencedClient, Refusal> {
        let network = match self {
            Self::Address(address) => return Ok(SentencedClient::of(address)),
            Self::Network(network) => network.trunc(),
        };
        let whole = match network {
            IpNet::V4(_) => 32,
            IpNet::V6(_) => 64,
        };
        match network.prefix_len() {
            length if length == whole => Ok(SentencedClient::of(network.addr())),
            length if length > whole => Err(Refusal::Narrower(network)),
            _ => Err(Refusal::Wider(network)),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse().map(Self::Address);
        address
            .or_else(|_| text.parse().map(Self::Network))
            .map_err(|_| InvalidTarget(text.to_owned()))
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

/// A text that names nobody.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no address; write one such as \"192.0.2.7\" or \"2001:db8::7\"")]
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
    /// The client is this host or one of the site's.
    #[error("{0} is local: this host, or named in [lists] local; insist with --force")]
    Local(SentencedClient),
    /// Less than an IPv6 `/64`.
    #[error("{0} is less than a /64, and an IPv6 sentence falls on a whole /64; name the /64")]
    Narrower(IpNet),
    /// An address that no client has.
    #[error("{0} is no address that a client can have")]
    Nobody(SentencedClient),
    /// More than one sentence covers.
    #[error("{0} is too wide: a sentence falls on one IPv4 address or one IPv6 /64")]
    Wider(IpNet),
}

/// The last rung of the ladder: nobody is sentenced for longer, not even by an operator.
const LONGEST_SENTENCE: Duration = Duration::from_hours(28 * 24);

fn is_nobody(address: IpAddr) -> bool {
    address.is_unspecified()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_an_address_or_a_whole_64() {
        for (target, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::/64"),
            ("2001:db8::/64", "2001:db8::/64"),
        ] {
            let given = order(target).client(&policy()).map(|c| c.to_string());
            assert_eq!(given.as_deref(), Ok(client), "{target}");
        }
    }

    #[test]
    fn refuses_whom_the_rules_protect_unless_forced() {
        for target in [
            "198.51.100.9",  // allow-listed
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
            "192.0.2.0/24",
            "0.0.0.0/0",
            "2001:db8::/48",
            "2001:db8::7/128",
            "0.0.0.0",
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
            force: false,
        }
    }

    fn policy() -> Policy {
        let networks = |list: &[&str]| {
            list.iter()
                .map(|network| network.parse().expect("the table holds networks"))
                .collect()
        };
        Policy {
            allow: networks(&["198.51.100.0/24", "2001:db8:a::99/128"]),
            local: networks(&["203.0.113.0/24"]),
            ..Policy::default()
        }
    }
}
