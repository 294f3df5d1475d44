//! What is to be forgotten for an operator, and what was: one record of those that are listed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::list::hex;
use super::why::Envelope;
use crate::store::ForgottenKind;

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
    /// A recipient, if the sender's address carries it, as a mailing list's may.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recipient: String,
}

/// No whole fingerprint: the beginning of one may be that of others, too.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no fingerprint; write all 32 hexadecimal digits as `greygate list` shows them, or \
     --trust ADDRESS SENDER"
)]
pub struct InvalidFingerprint(String);

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
    /// The trust of a sender, its path with angle brackets or without.
    pub fn trust(address: IpAddr, sender: &str, recipient: &str) -> Self {
        let Envelope { sender, recipient } = Envelope::bare(sender, recipient);
        Self::Trust(TrustOf {
            address,
            sender,
            recipient,
        })
    }

    /// Whether it names one record.
    pub fn check(&self) -> Result<(), InvalidFingerprint> {
        match self {
            Self::Fingerprint(text) => bits_of(text).map(drop),
            Self::Trust(_) => Ok(()),
        }
    }

    /// Whom or what it is about, in a word for the log.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Fingerprint(fingerprint) => fingerprint.clone(),
            Self::Trust(of) => of.address.to_string(),
        }
    }
}

impl Removed {
    /// What was remembered by `bits`.
    pub fn of(kind: ForgottenKind, bits: [u8; 16]) -> Self {
        Self {
            what: kind.as_str().to_owned(),
            fingerprint: hex(bits),
        }
    }
}

/// The 128 bits of a fingerprint.
pub fn bits_of(text: &str) -> Result<[u8; 16], InvalidFingerprint> {
    let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_whole);
    bits.map(u128::to_be_bytes)
        .ok_or_else(|| InvalidFingerprint(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_written_as_it_is_shown() {
        let bits = std::array::from_fn(|at| 7 * at.to_le_bytes()[0]);
        assert_eq!(bits_of(&hex(bits)), Ok(bits));
        assert_eq!(bits_of(&hex(bits).to_uppercase()), Ok(bits));
        let short = &hex(bits)[..31];
        let signed = format!("+{short}");
        for wrong in ["", "00", short, &signed, "no hexadecimal digits in here .."] {
            let refused = Forget::Fingerprint(wrong.to_owned()).check();
            assert!(refused.is_err(), "{wrong:?}");
        }
    }
}
