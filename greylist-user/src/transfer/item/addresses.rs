//! Addresses in clear as a line: whose they are, and a path in whatever bytes it came.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::parts::{InvalidItem, bytes, hex, invalid};
use crate::policy::{ClientKey, TrustKey, TupleKey};
use crate::store::codec::Row;
use crate::store::{Kept, KeptOf};

/// The addresses of one record, where `[store] keep_addresses` keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressesItem {
    /// Of which kind the record is.
    pub of: Owner,
    /// The key of the record, in hexadecimal digits.
    pub key: String,
    /// Its client, or its network.
    pub client: IpNet,
    /// The reverse-path; of trust, folded.
    pub sender: Path,
    /// The recipient; empty of what is not to one.
    pub recipient: Path,
}

/// The kind of record that addresses are kept of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Strikes and AUTH.
    Client,
    /// Earned trust.
    Trust,
    /// A tuple.
    Tuple,
}

/// A path: text where it is UTF-8 that can be shown, else its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Path {
    /// UTF-8 without control characters.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl AddressesItem {
    pub(super) fn of(owner: KeptOf, kept: &Kept) -> Self {
        let (of, key) = match owner {
            KeptOf::Client(key) => (Owner::Client, hex(&key.to_bytes())),
            KeptOf::Trust(key) => (Owner::Trust, hex(&key.to_bytes())),
            KeptOf::Tuple(key) => (Owner::Tuple, hex(&key.to_bytes())),
        };
        Self {
            of,
            key,
            client: kept.client(),
            sender: Path::of(kept.sender()),
            recipient: Path::of(kept.recipient()),
        }
    }

    pub(super) fn into_row(self) -> Result<Row, InvalidItem> {
        let key = bytes(&self.key)?;
        let of = match self.of {
            Owner::Client => KeptOf::Client(ClientKey::from_bytes(key)),
            Owner::Trust => KeptOf::Trust(TrustKey::from_bytes(key)),
            Owner::Tuple => KeptOf::Tuple(TupleKey::from_bytes(key)),
        };
        let (sender, recipient) = (self.sender.as_bytes(), self.recipient.as_bytes());
        let kept = Kept::of(self.client, sender, recipient).ok_or_else(|| {
            invalid(
                "network with paths as SMTP has them",
                self.client.to_string(),
            )
        })?;
        Ok(Row::Kept(of, kept))
    }
}

impl Path {
    fn of(path: &[u8]) -> Self {
        match str::from_utf8(path) {
            Ok(text) if !text.contains(char::is_control) => Self::Text(text.to_owned()),
            // JSON lets some of what steers a terminal stand as it is.
            _ => Self::Bytes(path.to_owned()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Arrival;
    use crate::transfer::Item;

    fn line(client: &str, sender: &str) -> String {
        let key = "07".repeat(16);
        format!(
            r#"{{"kind":"addresses","of":"tuple","key":"{key}","client":"{client}","sender":{sender},"recipient":"r@b.example"}}"#
        )
    }

    #[test]
    fn path_of_any_bytes_comes_back_as_it_was() {
        let key = TupleKey::from_bytes([7; 16]);
        let client = "192.0.2.7/32".parse().expect("a network");
        for sender in [
            &b""[..],
            b"s@a.example",
            b"\xff\xfe\x1b[31m@a.example",
            "\u{9b}31m\u{202e}@a.example".as_bytes(),
            &[0x80; 320],
        ] {
            let kept = Kept::of(client, sender, b"r@b.example").expect("it is short");
            let row = Row::Kept(KeptOf::Tuple(key), kept);
            let item = Item::of(&row).expect("it is known");
            let json = serde_json::to_string(&item).expect("plain data");
            assert!(!json.contains(char::is_control), "{json}");
            let read: Item = serde_json::from_str(&json).expect("what was written");
            let arrived = read.into_arrival().expect("it was a record");
            assert_eq!(arrived, Arrival::Kept(row));
        }
    }

    #[test]
    fn addresses_that_no_snapshot_could_give_back_are_refused() {
        let long = format!("{:?}", "x".repeat(321));
        for (client, sender) in [
            ("::ffff:192.0.2.7/128", r#""s@a.example""#),
            ("192.0.2.7/24", r#""s@a.example""#),
            ("192.0.2.7/32", long.as_str()),
        ] {
            let item: Item =
                serde_json::from_str(&line(client, sender)).expect("it is written well");
            assert!(item.into_arrival().is_err(), "{client} {sender}");
        }
        let good: Item = serde_json::from_str(&line("192.0.2.7/32", "[115,64,97]")).expect("bytes");
        assert!(good.into_arrival().is_ok());
    }
}
