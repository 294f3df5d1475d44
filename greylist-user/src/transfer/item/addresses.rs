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

/// A path: text where it is UTF-8, else its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Path {
    /// UTF-8.
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
        let kept = Kept::of(self.client, sender, recipient)
            .ok_or_else(|| invalid("path as short as SMTP has them", self.key))?;
        Ok(Row::Kept(of, kept))
    }
}

impl Path {
    fn of(path: &[u8]) -> Self {
        match str::from_utf8(path) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(path.to_owned()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}
