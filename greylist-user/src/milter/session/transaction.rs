//! One mail transaction between its commands, and what a verdict does to it. Its texts are in
//! `envelope`.

use crate::milter::funnel::Fate;
use crate::milter::macros::{Macros, RCPT_HOST, RCPT_MAILER};
use crate::milter::passed::Passed;
use crate::policy::{Evidence, Judgement, PassReason, ReadReason, RefuseReason, Verdict, Wanted};

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
    /// A list allows the message for at least one recipient.
    pub(super) is_allowed: bool,
    /// At least one recipient waits, or waited, to be judged.
    pub(super) has_kept: bool,
    /// All recipients named so far have been judged.
    pub(super) is_decided: bool,
    /// A pending recipient was not deferred at RCPT, so the message is.
    pub(super) is_held: bool,
    /// A recipient was named before, and its time has come.
    pub(super) comes_again: bool,
    /// The content of the message decides on a recipient.
    pub(super) content_decides: bool,
    /// The content of the message may prove something of a recipient.
    pub(super) has_evidence: bool,
    /// The whole message is refused.
    pub(super) refusal: Option<RefuseReason>,
    /// What becomes of the message if it passes; [`None`] while no recipient does.
    pub(super) passes_by: Option<Fate>,
    /// What was found elsewhere about the client and this sender.
    pub(super) evidence: Evidence,
    /// What of it was wanted.
    pub(super) wanted: Wanted,
    /// Whether it was asked.
    pub(super) has_asked: bool,
    /// How the recipient passed that waited longest.
    pub(super) passed: Option<Passed>,
}

impl Transaction {
    /// What the word on a recipient means for the whole message, if it is not told at RCPT.
    pub(super) fn take(&mut self, judgement: &Judgement) {
        match judgement.verdict {
            Verdict::Defer(_) => self.is_held = true,
            Verdict::Pass(reason) => {
                self.passes_by = self.passes_by.max(Some(Fate::of(reason)));
                self.is_allowed |= reason == PassReason::Allowed;
                self.comes_again |= matches!(reason, PassReason::Waited { .. });
                self.passed = Passed::longest(self.passed, Passed::of(reason));
            }
            Verdict::Read(reason) => {
                self.content_decides = true;
                self.comes_again |= reason == ReadReason::Roaming || judgement.grounds.attempts > 1;
            }
            Verdict::Refuse(reason) => self.refusal = Some(reason),
        }
    }

    /// Whether headers and body are to be read for at least one recipient.
    pub(super) fn is_to_be_read(&self) -> bool {
        self.content_decides || self.has_evidence
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
