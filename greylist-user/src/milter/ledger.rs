//! The ledger: for each command exactly one of *a status is owed* and *nothing is owed*.
//!
//! Every status passes through here and nowhere else. A status too many would be taken by the MTA
//! for the answer to a later command, a missing one would make it wait for its time-out, and an
//! action outside the end of message would end the connection; so what is not owed is refused.

use thiserror::Error;

use super::{
    command::Command,
    negotiate::Terms,
    passed::Passed,
    reply::{HeaderName, Status, put_header},
};

/// What greygate has to say to one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: Status<'a>,
    /// A header to add, at end of message only.
    pub(super) header: Option<AddedHeader<'a>>,
}

impl<'a> Answer<'a> {
    /// Going on without a word.
    pub(super) const CONTINUE: Self = Self::of(Status::Continue);

    pub(super) const fn of(status: Status<'a>) -> Self {
        Self {
            status,
            header: None,
        }
    }
}

/// The header that says how long a message was delayed, and by what it passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedHeader<'a> {
    pub(super) name: &'a HeaderName,
    pub(super) passed: Passed,
    /// Printable and without parentheses; see `Context`.
    pub(super) host: &'a str,
}

/// What is owed for one command; paid once.
#[derive(Debug)]
#[must_use = "an MTA that is owed a status waits for it"]
pub(super) struct Debt {
    status: bool,
    header: bool,
    leading_space: bool,
}

impl Debt {
    /// What `command` is owed under `terms`.
    pub(super) fn of(command: &Command<'_>, terms: &Terms) -> Self {
        let ends_message = matches!(command, Command::EndOfMessage(_));
        Self {
            status: terms.owe_status(command),
            header: ends_message && terms.may_add_headers(),
            leading_space: terms.leading_space_is_ours(),
        }
    }

    /// Whether the MTA waits for a status.
    pub(super) fn owes_status(&self) -> bool {
        self.status
    }

    /// Appends what is owed to `out`. An answer that says nothing but *go on* is silent where
    /// nothing is owed.
    pub(super) fn pay(self, answer: Answer<'_>, out: &mut Vec<u8>) -> Result<(), LedgerError> {
        if !self.status {
            return match answer.status {
                Status::Continue if answer.header.is_none() => Ok(()),
                _ => Err(LedgerError::StatusNotOwed),
            };
        }
        if let Some(AddedHeader { name, passed, host }) = answer.header {
            if !self.header {
                return Err(LedgerError::HeaderNotAllowed);
            }
            let value = passed.told_by(host);
            put_header(out, name, self.leading_space, format_args!("{value}"));
        }
        answer.status.encode(out);
        Ok(())
    }
}

/// An answer that the MTA does not expect. It has not been sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LedgerError {
    /// A header before the end of message, or without leave.
    #[error("a header where none may be added")]
    HeaderNotAllowed,
    /// A status for a command that is owed none.
    #[error("a status where none is owed")]
    StatusNotOwed,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::milter::{
        negotiate::{Needs, Offer},
        reply::ReplyText,
    };
    use crate::policy::PassReason;

    fn terms(actions: u32, steps: u32) -> Terms {
        let offer = Offer {
            version: 6,
            actions,
            steps,
        };
        Terms::agree(&Needs::GREYLISTING, offer).expect("terms")
    }

    #[test]
    fn waived_command_is_answered_with_silence() {
        let mut out = Vec::new();
        let debt = Debt::of(&Command::Helo(b""), &terms(0x1ff, 0x1f_ffff));
        assert_eq!(debt.pay(Answer::CONTINUE, &mut out), Ok(()));
        assert!(out.is_empty());
    }

    #[test]
    fn command_without_waiver_is_answered_once() {
        let mut out = Vec::new();
        let debt = Debt::of(&Command::Helo(b""), &terms(0, 0));
        assert_eq!(debt.pay(Answer::CONTINUE, &mut out), Ok(()));
        assert_eq!(out, b"\0\0\0\x01c");
    }

    #[test]
    fn status_that_is_not_owed_is_refused() {
        let mut out = Vec::new();
        let reply = ReplyText::default();
        for status in [Status::Accept, Status::Reply(&reply)] {
            let debt = Debt::of(&Command::Helo(b""), &terms(0x1ff, 0x1f_ffff));
            let refused = debt.pay(Answer::of(status), &mut out);
            assert_eq!(refused, Err(LedgerError::StatusNotOwed));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn header_is_added_at_end_of_message_only_and_with_leave() {
        let mut out = Vec::new();
        let name = HeaderName::default();
        let waited = Duration::from_millis(187_900);
        let passed = Passed::of(PassReason::Waited { waited });
        let answer = Answer {
            status: Status::Continue,
            header: Some(AddedHeader {
                name: &name,
                passed: passed.expect("a key"),
                host: "mx.example",
            }),
        };
        let end = Command::EndOfMessage(b"");
        let refused = Err(LedgerError::HeaderNotAllowed);
        assert_eq!(Debt::of(&end, &terms(0, 0)).pay(answer, &mut out), refused);
        let debt = Debt::of(&Command::Data, &terms(0x1ff, 0x1f_ffff));
        assert_eq!(debt.pay(answer, &mut out), refused);
        assert!(out.is_empty());
        let debt = Debt::of(&end, &terms(0x1ff, 0x1f_ffff));
        assert_eq!(debt.pay(answer, &mut out), Ok(()));
        let expected =
            b"hX-Greylist\0 delayed 187 seconds by mx.example (greygate), passed by tuple\0";
        assert_eq!(&out[4..4 + expected.len()], expected);
        assert!(out.ends_with(b"\0\0\0\x01c"));
    }
}
