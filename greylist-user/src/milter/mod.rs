//! The milter: greygate's ear at the MTA.
//!
//! From the wire inward: `frame` (where a message begins and ends), `command` and `macros` (what
//! it says), `negotiate` (what both sides agreed on), `session` (what follows from it), `ledger`
//! and `reply` (what is said back). These do no I/O.

mod command;
mod frame;
mod ledger;
mod macros;
mod negotiate;
mod reply;

pub use command::{Command, CommandError, Connect, Path};
pub use frame::{Frame, FrameError};
pub use ledger::LedgerError;
pub use macros::Macros;
pub use negotiate::{MacroStage, Needs, NegotiationError, Offer, Terms, action, step};
pub use reply::{HeaderName, HeaderNameError, ReplyText, ReplyTextError, Status};
