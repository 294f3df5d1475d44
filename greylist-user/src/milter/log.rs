//! What is written to the log: one fixed first word per event, fields as key=value.
//!
//! | word | level | meaning |
//! | --- | --- | --- |
//! | `deferred` | info | a recipient is pending |
//! | `passed` | info | a recipient passes; `held` if its message waits for another recipient all the same |
//! | `turned-away` | info | a client is refused, for what `reason` says |
//! | `read` | debug | the content of its message decides on a recipient; a verdict follows at its end |
//! | `rejected` | debug | the MTA itself refused a recipient for good |
//! | `content` | debug | headers and body of a message were read to the end |
//! | `held` | debug | a message was deferred whole, at DATA or end of message |
//! | `delayed` | debug | a message that waited was let through with its header |
//!
//! A verdict is one line. `[log] verdicts` says which are told at info; the others are at debug. With
//! `passed` those are passes of what had waited, and went through for all its recipients: what Postfix
//! logs of its own accord, each deferral above all, is not told twice. All of them are strangers'
//! doing, and under the limit of `[log] rate`.
//! The connections' words are in `worker` and `connection`.

use std::time::Duration;

pub(super) use crate::log::Addresses;
use crate::log::{STRANGERS, Verdicts, field};
use crate::policy::{Attempt, DeferReason, Judgement, PassReason, Verdict};

use super::metrics::Stage;

/// What of verdicts is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Telling {
    /// How much of a mail address.
    pub(super) addresses: Addresses,
    /// Which of them at info.
    pub(super) verdicts: Verdicts,
}

/// Grounds are told where there are any: `attempts` on the tuple, `extra` delay, and that the
/// HELO argument is remembered for relay hopping.
pub(super) fn judged(attempt: &Attempt<'_>, judgement: &Judgement, telling: Telling) {
    judged_as(attempt, judgement, telling, b"", true);
}

/// The verdict that follows from the content of a message, which `goes_through` or has to wait for
/// another recipient.
pub(super) fn judged_as(
    attempt: &Attempt<'_>,
    judgement: &Judgement,
    telling: Telling,
    queue_id: &[u8],
    goes_through: bool,
) {
    let Judgement {
        verdict, grounds, ..
    } = *judgement;
    let (left, waited) = times(verdict);
    let is_news = match telling.verdicts {
        Verdicts::All => !matches!(verdict, Verdict::Read(_)),
        Verdicts::None => matches!(verdict, Verdict::Refuse(_)),
        Verdicts::Passed => {
            matches!(verdict, Verdict::Refuse(_)) || waited.is_some() && goes_through
        }
    };
    let is_held = matches!(verdict, Verdict::Pass(_)) && !goes_through;
    macro_rules! tell {
        ($level:ident, $word:literal) => {
            tracing::$level!(
                name: $word,
                target: STRANGERS,
                queue_id = (!queue_id.is_empty()).then(|| display(field(queue_id))),
                client = %attempt.client,
                name = %field(attempt.client_name),
                helo = %field(attempt.helo),
                reverse_path = %telling.addresses.show(attempt.reverse_path),
                recipient = %telling.addresses.show(attempt.recipient),
                verdict = verdict.word(),
                reason = verdict.reason(),
                attempts = Some(grounds.attempts).filter(|attempts| *attempts > 0),
                extra = Some(grounds.extra.as_secs()).filter(|extra| *extra > 0),
                helo_hops = grounds.helo_hops.then_some(true),
                left = left.map(|left| left.as_secs()),
                waited = waited.map(|waited| waited.as_secs()),
                held = is_held.then_some(true),
                $word
            )
        };
        ($word:literal) => {
            if is_news {
                tell!(info, $word);
            } else {
                tell!(debug, $word);
            }
        };
    }
    match verdict {
        Verdict::Defer(_) => tell!("deferred"),
        Verdict::Pass(_) => tell!("passed"),
        Verdict::Read(_) => tell!(debug, "read"),
        Verdict::Refuse(_) => tell!("turned-away"),
    }
}

/// How long is left to wait, and how long was waited, where the verdict knows.
fn times(verdict: Verdict) -> (Option<Duration>, Option<Duration>) {
    match verdict {
        Verdict::Defer(DeferReason::ContentEarly { left } | DeferReason::Early { left }) => {
            (Some(left), None)
        }
        Verdict::Pass(
            PassReason::Content { waited }
            | PassReason::Persisted { waited }
            | PassReason::Waited { waited },
        ) => (None, Some(waited)),
        _ => (None, None),
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
