//! What is written to the log: one fixed first word per event, fields as key=value.
//!
//! | word | level | meaning |
//! | --- | --- | --- |
//! | `deferred` | info | a recipient is new, or was last tried too long ago |
//! | `deferred` | debug | a recipient was tried again early |
//! | `passed` | info | a recipient passes for the first time, after waiting |
//! | `passed` | debug | a recipient passes for another reason |
//! | `held` | info | a message was deferred whole, at DATA or end of message |
//! | `delayed` | info | a message that waited was let through with its header |
//!
//! The connections' words are in `worker` and `connection`.

use std::{fmt, time::Duration};

use tracing::{debug, info};
use xxhash_rust::xxh3::xxh3_64;

use crate::policy::{Attempt, DeferReason, PassReason, Verdict};

/// How much of a mail address the log shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All of it.
    #[default]
    Full,
    /// The domain only.
    Domain,
    /// A number that is the same for the same address. Whoever can guess the address can check it.
    Hash,
}

impl Addresses {
    /// `address` as the log shows it.
    pub fn show(self, address: &[u8]) -> impl fmt::Display {
        Shown {
            form: self,
            address,
        }
    }
}

/// Verdict and reason as they stand in log and metric.
pub(super) fn words(verdict: &Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Defer(reason) => (
            "defer",
            match reason {
                DeferReason::Early { .. } => "early",
                DeferReason::Late => "late",
                DeferReason::New => "new",
            },
        ),
        Verdict::Pass(reason) => (
            "pass",
            match reason {
                PassReason::Allowed => "allowed",
                PassReason::Authenticated => "authenticated",
                PassReason::Local => "local",
                PassReason::Observed => "observed",
                PassReason::Passed => "passed",
                PassReason::Trusted => "trusted",
                PassReason::Unrecorded => "unrecorded",
                PassReason::Waited { .. } => "waited",
            },
        ),
    }
}

pub(super) fn judged(attempt: &Attempt<'_>, verdict: &Verdict, addresses: Addresses) {
    let (_, reason) = words(verdict);
    let client = attempt.client;
    let name = attempt.client_name.escape_ascii();
    let helo = attempt.helo.escape_ascii();
    let from = addresses.show(attempt.reverse_path);
    let to = addresses.show(attempt.recipient);
    match verdict {
        Verdict::Defer(DeferReason::Early { left }) => {
            let left = left.as_secs();
            debug!(%client, %name, %helo, %from, %to, reason, left, "deferred");
        }
        Verdict::Defer(_) => info!(%client, %name, %helo, %from, %to, reason, "deferred"),
        Verdict::Pass(PassReason::Waited { waited }) => {
            let waited = waited.as_secs();
            info!(%client, %name, %helo, %from, %to, reason, waited, "passed");
        }
        Verdict::Pass(_) => debug!(%client, %name, %helo, %from, %to, reason, "passed"),
    }
}

pub(super) fn held(queue_id: &[u8], stage: &'static str) {
    info!(queue_id = %queue_id.escape_ascii(), stage, "held");
}

pub(super) fn delayed(queue_id: &[u8], waited: Duration) {
    info!(queue_id = %queue_id.escape_ascii(), waited = waited.as_secs(), "delayed");
}

struct Shown<'a> {
    form: Addresses,
    address: &'a [u8],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.is_empty() {
            return f.write_str("<>");
        }
        match self.form {
            Addresses::Full => self.address.escape_ascii().fmt(f),
            Addresses::Domain => {
                let at = self.address.iter().rposition(|&byte| byte == b'@');
                let domain = at.map_or(b"".as_slice(), |at| &self.address[at + 1..]);
                write!(f, "*@{}", domain.escape_ascii())
            }
            Addresses::Hash => write!(f, "{:016x}", xxh3_64(self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_as_much_as_was_asked_for() {
        let show = |form: Addresses| form.show(b"joe@example.org").to_string();
        assert_eq!(show(Addresses::Full), "joe@example.org");
        assert_eq!(show(Addresses::Domain), "*@example.org");
        let hash = show(Addresses::Hash);
        assert_eq!(hash.len(), 16);
        assert!(!hash.contains("joe"));
    }

    #[test]
    fn hostile_bytes_cannot_begin_a_line() {
        let shown = Addresses::Full.show(b"a\r\nb\x1b[2J@c").to_string();
        assert_eq!(shown, r"a\r\nb\x1b[2J@c");
        assert_eq!(Addresses::Domain.show(b"no-at").to_string(), "*@");
        assert_eq!(Addresses::Full.show(b"").to_string(), "<>");
    }
}
