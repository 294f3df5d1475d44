//! What is to be forgotten for an operator, and what was: one record of those that are listed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which record is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Forget {
    /// The one that is listed with this fingerprint: 32 hexadecimal digits.
    Fingerprint(String),
    /// The trust that a sender has earned at a client address.
    Trust(TrustOf),
}

/// Whose trust is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustOf {
    /// The client address.
    pub address: IpAddr,
    /// The sender, without angle brackets.
    pub sender: String,
    /// A recipient, if the sender's address carries it, as a mailing list's does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recipient: String,
}

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What was asked for.
    pub asked: String,
    /// What was removed: `pending`, `passed`, `trust`, `content-trust` or `fingerprint`, each with its
    /// fingerprint. Empty if there was nothing.
    pub removed: Vec<Removed>,
}

/// One record that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What it was.
    pub what: String,
    /// What it was remembered by.
    pub fingerprint: String,
}

impl Forget {
    /// Whom or what it is about, in a word for the log.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Fingerprint(fingerprint) => fingerprint.clone(),
            Self::Trust(of) => of.address.to_string(),
        }
    }
}
