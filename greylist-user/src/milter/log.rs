//! What is written to the log: one fixed first word per event, fields as key=value.
//!
//! | word | level | meaning |
//! | --- | --- | --- |
//! | `deferred` | debug | a recipient is pending |
//! | `passed` | info | a recipient passes for the first time, after waiting |
//! | `passed` | debug | a recipient passes for another reason, or would have, were it alone |
//! | `read` | debug | the content of its message decides on a recipient; a verdict follows at its end |
//! | `turned-away` | info | a client is refused, for what `reason` says |
//! | `rejected` | debug | the MTA itself refused a recipient for good |
//! | `content` | debug | headers and body of a message were read to the end |
//! | `held` | debug | a message was deferred whole, at DATA or end of message |
//! | `delayed` | debug | a message that waited was let through with its header |
//!
//! A verdict by content names the message with `queue_id`. A `held` of the same name says that the
//! message waits for another recipient, whatever passed; then no pass is told at info, or a client could
//! have as many lines there as it sends messages that wait.
//!
//! What Postfix logs of its own accord, each deferral above all, is told at debug only.
//! The connections' words are in `worker` and `connection`.

use std::time::Duration;

pub(super) use crate::log::Addresses;
use crate::log::field;
use crate::policy::{Attempt, DeferReason, Judgement, PassReason, Verdict};

use super::metrics::Stage;

/// Grounds are told where there are any: `attempts` on the tuple, `extra` delay, and that the
/// HELO argument is remembered for relay hopping.
pub(super) fn judged(attempt: &Attempt<'_>, judgement: &Judgement, addresses: Addresses) {
    judged_as(attempt, judgement, addresses, b"", true);
}

/// The verdict that follows from the content of a message, which `goes_through` or has to wait for
/// another recipient.
pub(super) fn judged_as(
    attempt: &Attempt<'_>,
    judgement: &Judgement,
    addresses: Addresses,
    queue_id: &[u8],
    goes_through: bool,
) {
    let Judgement {
        verdict, grounds, ..
    } = *judgement;
    macro_rules! tell {
        ($level:ident, $word:literal $(, $extra:ident)?) => {
            tracing::$level!(
                queue_id = (!queue_id.is_empty()).then(|| display(field(queue_id))),
                client = %attempt.client,
                name = %field(attempt.client_name),
                helo = %field(attempt.helo),
                reverse_path = %addresses.show(attempt.reverse_path),
                recipient = %addresses.show(attempt.recipient),
                reason = verdict.reason(),
                attempts = Some(grounds.attempts).filter(|attempts| *attempts > 0),
                extra = Some(grounds.extra.as_secs()).filter(|extra| *extra > 0),
                helo_hops = grounds.helo_hops.then_some(true),
                $($extra = $extra.as_secs(),)?
                $word
            )
        };
    }
    match verdict {
        Verdict::Defer(DeferReason::ContentEarly { left } | DeferReason::Early { left }) => {
            tell!(debug, "deferred", left);
        }
        Verdict::Defer(_) => tell!(debug, "deferred"),
        Verdict::Refuse(_) => tell!(info, "turned-away"),
        Verdict::Pass(
            PassReason::Content { waited }
            | PassReason::Persisted { waited }
            | PassReason::Waited { waited },
        ) => {
            if goes_through {
                tell!(info, "passed", waited);
            } else {
                tell!(debug, "passed", waited);
            }
        }
        Verdict::Pass(_) => tell!(debug, "passed"),
        Verdict::Read(_) => tell!(debug, "read"),
    }
}

pub(super) fn rejected(attempt: &Attempt<'_>, addresses: Addresses) {
    tracing::debug!(
        client = %attempt.client,
        name = %field(attempt.client_name),
        helo = %field(attempt.helo),
        reverse_path = %addresses.show(attempt.reverse_path),
        recipient = %addresses.show(attempt.recipient),
        "rejected"
    );
}

pub(super) fn content(queue_id: &[u8]) {
    tracing::debug!(queue_id = %field(queue_id), "content");
}

pub(super) fn held(queue_id: &[u8], stage: Stage) {
    tracing::debug!(queue_id = %field(queue_id), stage = stage.word(), "held");
}

pub(super) fn delayed(queue_id: &[u8], waited: Duration) {
    tracing::debug!(queue_id = %field(queue_id), waited = waited.as_secs(), "delayed");
}
