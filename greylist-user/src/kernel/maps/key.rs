//! The keys of both families' tables, as one thing: whose sentence it is, and where its presence
//! bit lies.

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::Pod;
use greylist_ebpf::abi::{Ipv4Key, Ipv6Key, PresenceBit};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::SentencedClient;

/// A key of a table of sentences.
pub(super) trait SentenceKey: Pod + Ord {
    /// Where its presence bit lies.
    fn presence(&self) -> PresenceBit;

    /// Whether it is one address, and no network of several.
    fn is_host(&self) -> bool;

    /// Whose sentence lies under it; [`None`] for a key that greygate does not write.
    fn client(&self) -> Option<SentencedClient>;
}

impl SentenceKey for Ipv4Key {
    fn presence(&self) -> PresenceBit {
        self.presence()
    }

    fn is_host(&self) -> bool {
        self.prefix() == 32
    }

    fn client(&self) -> Option<SentencedClient> {
        let network = Ipv4Net::new(Ipv4Addr::from(self.network()), self.prefix()).ok()?;
        let client = SentencedClient::try_from(IpNet::V4(network)).ok()?;
        // Neither host bits nor a prefix beyond a byte: those would be other keys.
        (Self::new(network.trunc().addr().octets(), self.prefix()) == *self).then_some(client)
    }
}

impl SentenceKey for Ipv6Key {
    fn presence(&self) -> PresenceBit {
        self.presence()
    }

    fn is_host(&self) -> bool {
        self.prefix() == 128
    }

    fn client(&self) -> Option<SentencedClient> {
        let network = Ipv6Net::new(Ipv6Addr::from(self.network()), self.prefix()).ok()?;
        let client = SentencedClient::try_from(IpNet::V6(network)).ok()?;
        (Self::new(network.trunc().addr().octets(), self.prefix()) == *self).then_some(client)
    }
}

/// The key of one client's sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// In the IPv4 table.
    V4(Ipv4Key),
    /// In the IPv6 table.
    V6(Ipv6Key),
}

impl From<SentencedClient> for Key {
    fn from(client: SentencedClient) -> Self {
        match client.network() {
            IpNet::V4(network) => {
                Self::V4(Ipv4Key::new(network.addr().octets(), network.prefix_len()))
            }
            IpNet::V6(network) => {
                Self::V6(Ipv6Key::new(network.addr().octets(), network.prefix_len()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(network: &str) -> SentencedClient {
        let network: IpNet = network.parse().expect("a network");
        SentencedClient::try_from(network).expect("it can be sentenced")
    }

    #[test]
    fn key_gives_back_its_client() {
        for network in [
            "192.0.2.7/32",
            "192.0.2.0/24",
            "2001:db8:0:7::/64",
            "2001:db8::7/128",
        ] {
            let found = match Key::from(client(network)) {
                Key::V4(key) => key.client(),
                Key::V6(key) => key.client(),
            };
            assert_eq!(found, Some(client(network)));
        }
    }

    #[test]
    fn key_that_greygate_does_not_write_is_nobodys() {
        assert_eq!(Ipv4Key::new([192, 0, 2, 0], 16).client(), None);
        assert_eq!(Ipv4Key::new([192, 0, 2, 7], 24).client(), None);
        assert_eq!(Ipv4Key::new([192, 0, 2, 7], 77).client(), None);
        assert_eq!(Ipv6Key::new([0x20; 16], 64).client(), None);
        assert_eq!(Ipv6Key::new([0; 16], 48).client(), None);
    }
}
