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

use std::time::Duration;

use tracing::{debug, info};

pub(super) use crate::log::Addresses;
use crate::policy::{Attempt, DeferReason, PassReason, Verdict};

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
