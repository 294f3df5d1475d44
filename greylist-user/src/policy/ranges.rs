//! Addresses that nobody on the Internet has, and how far they are spared.
//!
//! A sentence is for strangers. Who has an address of these ranges is a neighbour, a proxy that
//! hides who is behind it, or this host; an offence of theirs is a matter of the site's own.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::sentence::SentencedClient;

/// Loopback (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3) and link-local (RFC 3927; RFC 4291, 2.5.6): no
/// setting exposes them, since a mail host that drops these loses itself or its gateway.
pub const UNTOUCHABLE: [IpNet; 4] = [
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v6(Ipv6Addr::LOCALHOST, 128),
    v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Private (RFC 1918), shared by a carrier's customers (RFC 6598), unique local (RFC 4193), and those
/// of translators, in one `/64` of which all of IPv4 lies (RFC 6052, 8215): spared unless
/// [`Punish::private`](super::Punish::private).
pub(super) const PRIVATE: [IpNet; 7] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    v6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];

/// Whether a loopback or link-local address falls under sentences of `client`.
pub fn is_untouchable(client: SentencedClient) -> bool {
    UNTOUCHABLE.iter().any(|range| client.overlaps(*range))
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(address: Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_private(client: SentencedClient) -> bool {
        PRIVATE.iter().any(|range| client.overlaps(*range))
    }

    fn client(address: &str) -> SentencedClient {
        SentencedClient::of(address.parse().expect("an address"))
    }

    #[test]
    fn ranges_end_where_they_should() {
        for (address, private) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("172.15.255.255", false),
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.255.255", true),
            ("192.169.0.0", false),
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("fbff::1", false),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe00::1", false),
            ("64:ff9b::192.0.2.7", true), // a client of a translator
            ("64:ff9b:0:1::1", false),
            ("64:ff9b:1:ffff::1", true),
            ("64:ff9b:2::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(is_private(client(address)), private, "{address}");
            assert!(!is_untouchable(client(address)), "{address}");
        }
    }

    #[test]
    fn loopback_and_link_local_are_untouchable() {
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "169.254.1.1",
            "::1",
            "::2", // shares its /64 with loopback
            "fe80::1",
            "febf::1",
        ] {
            assert!(is_untouchable(client(address)), "{address}");
        }
        for address in ["126.0.0.1", "128.0.0.1", "169.253.0.1", "fec0::1"] {
            assert!(!is_untouchable(client(address)), "{address}");
        }
    }
}
