//! What is in a line beside plain numbers: strikes, neighbours, reputations, and keys as hexadecimal
//! digits.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::{HostMark, Neighbour, NetworkKey, Offence, Reputation, Second, Strike};
use crate::store::codec::Row;

/// A strike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrikeItem {
    /// When.
    pub at_s: u32,
    /// For what.
    pub offence: String,
}

/// A struck host of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourItem {
    /// When; 0 if there is none.
    pub struck_s: u32,
    /// Which host of the network.
    pub host: u16,
}

/// What is said of a client network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReputationItem {
    pub key: String,
    pub recipients: u64,
    pub recipients_today: u64,
    pub bad_today: u64,
    pub good: u32,
    pub bad: u32,
    pub updated_s: u32,
    pub since_s: u32,
    pub day: u16,
    pub good_days: u8,
    pub life: u8,
    pub ham: u32,
    pub spam: u32,
    #[serde(default)]
    pub struck_day: u16,
    #[serde(default)]
    pub refused_day: u16,
}

/// What is no record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no {what}: {text:?}")]
pub struct InvalidItem {
    what: &'static str,
    text: String,
}

impl StrikeItem {
    pub(super) fn of(strike: Strike) -> Self {
        Self {
            at_s: strike.at.as_seconds(),
            offence: strike.offence.as_str().to_owned(),
        }
    }

    pub(super) fn into_strike(self) -> Result<Strike, InvalidItem> {
        let mut all = Offence::ALL.into_iter();
        let offence = all.find(|it| it.as_str() == self.offence);
        Ok(Strike {
            at: Second::from_seconds(self.at_s),
            offence: offence.ok_or_else(|| invalid("offence", self.offence))?,
        })
    }
}

impl NeighbourItem {
    pub(super) const NONE: Self = Self {
        struck_s: 0,
        host: 0,
    };

    pub(super) fn of(neighbour: Neighbour) -> Self {
        Self {
            struck_s: neighbour.struck.as_seconds(),
            host: neighbour.host.to_bits(),
        }
    }

    pub(super) fn to_neighbour(&self) -> Neighbour {
        Neighbour {
            struck: Second::from_seconds(self.struck_s),
            host: HostMark::from_bits(self.host),
        }
    }
}

impl ReputationItem {
    pub(super) fn of(key: NetworkKey, it: &Reputation) -> Self {
        Self {
            key: hex(&key.to_bytes()),
            recipients: it.recipients,
            recipients_today: it.recipients_today,
            bad_today: it.bad_today,
            good: it.good,
            bad: it.bad,
            updated_s: it.updated.as_seconds(),
            since_s: it.since.as_seconds(),
            day: it.day,
            good_days: it.good_days,
            life: it.life,
            ham: it.ham,
            spam: it.spam,
            struck_day: it.struck_day,
            refused_day: it.refused_day,
        }
    }

    pub(super) fn into_row(self) -> Result<Row, InvalidItem> {
        let record = Reputation {
            recipients: self.recipients,
            recipients_today: self.recipients_today,
            bad_today: self.bad_today,
            good: self.good,
            bad: self.bad,
            updated: Second::from_seconds(self.updated_s),
            since: Second::from_seconds(self.since_s),
            day: self.day,
            good_days: self.good_days,
            life: self.life.max(1),
            ham: self.ham,
            spam: self.spam,
            struck_day: self.struck_day,
            refused_day: self.refused_day,
        };
        Ok(Row::Reputation(
            NetworkKey::from_bytes(bytes(&self.key)?),
            record,
        ))
    }
}

pub(super) fn invalid(what: &'static str, text: String) -> InvalidItem {
    InvalidItem { what, text }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.flatten().collect()
}

/// The bytes that hexadecimal digits are of.
pub(super) fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], InvalidItem> {
    let error = || invalid("key", digits.to_owned());
    if digits.len() != 2 * N || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Err(error());
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..digits.len()).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| error())?;
    }
    Ok(bytes)
}
