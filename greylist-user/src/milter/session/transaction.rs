//! What is known of one mail transaction, beside its texts, and what a verdict does to it.

use std::time::Duration;

use crate::milter::macros::{Macros, RCPT_HOST, RCPT_MAILER};
use crate::policy::{PassReason, RefuseReason, Verdict};

/// What is known of the mail transaction under way, beside its texts.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state: every combination is legal"
)]
pub(super) struct Transaction {
    pub(super) announced_size: u64,
    pub(super) authenticated: bool,
    /// Its recipients are judged at DATA.
    pub(super) from_probe: bool,
    /// At least one recipient waits, or waited, to be judged.
    pub(super) has_kept: bool,
    /// All recipients named so far have been judged.
    pub(super) is_decided: bool,
    /// A pending recipient was not deferred at RCPT, so the message is.
    pub(super) is_held: bool,
    /// The message is to be read for at least one recipient.
    pub(super) wants_content: bool,
    /// The whole message is refused.
    pub(super) refusal: Option<RefuseReason>,
    /// How long the longest wait of a recipient was that passes after waiting.
    pub(super) waited: Option<Duration>,
}

impl Transaction {
    /// What the verdict on a recipient means for the whole message, if that is not refused at RCPT.
    pub(super) fn take(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Defer(_) | Verdict::Read(_) => self.is_held = true,
            Verdict::Pass(PassReason::Waited { waited }) => {
                self.waited = self.waited.max(Some(waited));
            }
            Verdict::Pass(_) => {}
            Verdict::Refuse(reason) => self.refusal = Some(reason),
        }
    }
}

/// Whether the MTA itself refuses a recipient, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It does not.
    #[default]
    None,
    /// With 4yz.
    ForNow,
    /// With 5yz and an enhanced status code of class 5.
    ForGood,
}

impl Rejection {
    pub(super) fn of(macros: &Macros<'_>) -> Self {
        let is_for_good = || {
            let status = macros.value(RCPT_HOST);
            status.is_some_and(|status| status.starts_with(b"5."))
        };
        match macros.value(RCPT_MAILER) {
            Some(b"error") if is_for_good() => Self::ForGood,
            Some(b"error") => Self::ForNow,
            _ => Self::None,
        }
    }
}
