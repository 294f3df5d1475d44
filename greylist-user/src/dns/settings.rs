//! What an operator may set of the DNS, with every default and its reason.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// What `[dns]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whom to ask. Default nobody in particular: those of `/etc/resolv.conf`.
    pub servers: Vec<Server>,
    /// Lists of who is suspicious. Default none: which to trust, and on whose terms, is the operator's.
    pub blocklists: Vec<Zone>,
    /// Lists of who is vouched for, with dnswl.org's codes. Default none.
    pub allowlists: Vec<Zone>,
    /// How long a session may wait for all that is asked about it. Default 500 ms: a resolver nearby
    /// answers most in 50, and Postfix waits 30 s.
    pub budget: Duration,
    /// When a question is given up, the answer to which would have been kept for the next time.
    /// Default 3 s.
    pub timeout: Duration,
    /// How long who does not answer is left alone at first. Default 30 s.
    pub pause: Duration,
    /// Answers kept at most. Default 100,000, some 10 MB.
    pub cache: usize,
    /// Questions under way at once, of which SPF has half at most. Default 256, each of which may hold a
    /// socket.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            blocklists: Vec::new(),
            allowlists: Vec::new(),
            budget: Duration::from_millis(500),
            timeout: Duration::from_secs(3),
            pause: Duration::from_secs(30),
            cache: 100_000,
            in_flight: 256,
        }
    }
}

/// A DNS server: an address, with a port where it is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub SocketAddr);

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        let alone = text.parse::<IpAddr>().map(|it| SocketAddr::new(it, PORT));
        alone
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| InvalidServer(text.to_owned()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port() {
            PORT => self.0.ip().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

/// No address of a server.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no address of a DNS server")]
pub struct InvalidServer(String);

/// The zone of a list, in lower case and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(String);

impl Zone {
    /// The zone as it is asked.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The zone as it may be shown: who subscribed to a list may have a key in its first label, which
    /// is a secret.
    pub fn shown(&self) -> String {
        match self.0.split_once('.') {
            Some((key, list)) if key.len() >= SHORTEST_KEY => format!("….{list}"),
            _ => self.0.clone(),
        }
    }
}

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
        };
        if name.len() <= LONGEST_ZONE && name.contains('.') && name.split('.').all(is_label) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(InvalidZone(text.to_owned()))
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// No name of a zone.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no zone of a list")]
pub struct InvalidZone(String);

/// Where a DNS server listens.
const PORT: u16 = 53;

/// What leaves room for an IPv6 address, two bytes for each half of a byte, in a name.
const LONGEST_ZONE: usize = 253 - 64;

/// Spamhaus' keys have 26 letters.
const SHORTEST_KEY: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_a_name_that_leaves_room_for_an_address() {
        for (text, zone) in [
            ("zen.spamhaus.org", Some("zen.spamhaus.org")),
            ("List.DNSWL.org.", Some("list.dnswl.org")),
            ("org", None),
            ("", None),
            ("a..b", None),
            ("a b.org", None),
        ] {
            let read = text.parse::<Zone>().ok();
            assert_eq!(read.as_ref().map(Zone::as_str), zone, "{text}");
        }
        let long = format!("{}example", "a.".repeat(100));
        assert!(long.parse::<Zone>().is_err());
    }

    #[test]
    fn key_of_a_subscriber_is_not_shown() {
        let zone: Zone = "abcdefghijklmnopqrstuvwxyz.zen.dq.example"
            .parse()
            .expect("a zone");
        assert_eq!(zone.shown(), "….zen.dq.example");
        assert!(zone.as_str().starts_with("abc"));
    }

    #[test]
    fn server_has_a_port_where_it_is_not_53() {
        for (text, shown) in [
            ("192.0.2.53", Some("192.0.2.53")),
            ("192.0.2.53:53", Some("192.0.2.53")),
            ("127.0.0.1:5353", Some("127.0.0.1:5353")),
            ("2001:db8::53", Some("2001:db8::53")),
            ("[2001:db8::53]:5353", Some("[2001:db8::53]:5353")),
            ("dns.example", None),
        ] {
            let read = text.parse::<Server>().ok().map(|it| it.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }
}
