//! Why a session cannot go on.

use thiserror::Error;

use crate::milter::command::CommandError;
use crate::milter::ledger::LedgerError;
use crate::milter::negotiate::NegotiationError;

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The frame is no command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An answer was refused by the ledger: a bug of ours, kept from doing harm.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No terms were found.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// A command that cannot come here.
    #[error("command '{}' out of order", kind.escape_ascii())]
    OutOfOrder {
        /// The kind byte.
        kind: u8,
    },
}

impl SessionError {
    /// One word for the metric.
    pub(in crate::milter) fn reason(self) -> &'static str {
        match self {
            Self::Command(CommandError::Malformed { .. }) => "malformed",
            Self::Command(CommandError::UnknownKind { .. }) => "unknown_command",
            Self::Ledger(_) => "ledger",
            Self::Negotiation(_) => "version",
            Self::OutOfOrder { .. } => "order",
        }
    }
}
