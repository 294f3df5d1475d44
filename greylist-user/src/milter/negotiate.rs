//! Option negotiation: what the MTA offers, what greygate needs, what both agree on.
//!
//! Knows every protocol bit and which command is owed a reply under the agreed terms; leaves
//! keeping that account to `ledger`. Each reply negotiated away saves a round trip, but a reply
//! sent where none is expected shifts every later answer by one, so nothing else decides it.

use thiserror::Error;

use super::{
    command::{self, Command},
    frame,
    macros::{AUTH_AUTHEN, DAEMON_ADDR, QUEUE_ID, RCPT_HOST, RCPT_MAILER},
};

/// What an MTA offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Highest protocol version it speaks.
    pub version: u32,
    /// Changes it lets a milter make to a message ([`action`]).
    pub actions: u32,
    /// Steps it can leave out or send without waiting for a reply ([`step`]).
    pub steps: u32,
}

impl Offer {
    /// Reads the payload; what follows the three numbers is of no concern.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let (version, rest) = payload.split_first_chunk()?;
        let (actions, rest) = rest.split_first_chunk()?;
        let (steps, _) = rest.split_first_chunk()?;
        Some(Self {
            version: u32::from_be_bytes(*version),
            actions: u32::from_be_bytes(*actions),
            steps: u32::from_be_bytes(*steps),
        })
    }
}

/// What a way of greylisting needs of the MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Actions to ask for.
    pub actions: u32,
    /// Steps to ask for, where they are offered.
    pub steps: u32,
    /// Macros to ask for, by stage.
    pub macros: &'static [(MacroStage, &'static [&'static [u8]])],
}

impl Needs {
    /// Everything up to the end of message, and an answer only where one decides: at RCPT, at DATA,
    /// at the end.
    ///
    /// Headers and body are sent unanswered, and only of messages that were not ended at DATA. DATA
    /// is answered, though a flag could save that: without the answer Postfix's next write on TCP
    /// waits for a delayed acknowledgement, 40 ms a message.
    pub const GREYLISTING: Self = Self {
        actions: action::ADD_HEADERS,
        steps: step::NO_END_OF_HEADERS
            | step::NO_UNKNOWN
            | step::NO_REPLY_CONNECT
            | step::NO_REPLY_HELO
            | step::NO_REPLY_MAIL
            | step::NO_REPLY_HEADER
            | step::NO_REPLY_BODY
            | step::REJECTED_RCPT
            | step::HEADER_LEADING_SPACE,
        macros: &[
            (MacroStage::Connect, &[DAEMON_ADDR]),
            (MacroStage::Helo, NO_MACRO),
            (MacroStage::Mail, &[AUTH_AUTHEN]),
            (MacroStage::Rcpt, &[RCPT_MAILER, RCPT_HOST]),
            (MacroStage::Data, &[QUEUE_ID]),
            (MacroStage::EndOfMessage, NO_MACRO),
            (MacroStage::EndOfHeaders, NO_MACRO),
        ],
    };
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    version: u32,
    actions: u32,
    steps: u32,
    macros: &'static [(MacroStage, &'static [&'static [u8]])],
}

impl Terms {
    /// Before negotiation: nothing is agreed.
    pub const NONE: Self = Self {
        version: 0,
        actions: 0,
        steps: 0,
        macros: &[],
    };

    /// Takes of `offer` what is needed. Nothing that was not offered is asked for: Postfix takes
    /// an action it did not offer for a broken milter.
    pub fn agree(needs: &Needs, offer: Offer) -> Result<Self, NegotiationError> {
        if offer.version < OLDEST_VERSION {
            return Err(NegotiationError::TooOld {
                version: offer.version,
            });
        }
        let may_choose_macros = offer.actions & action::CHOOSE_MACROS != 0;
        let actions = if may_choose_macros {
            needs.actions | action::CHOOSE_MACROS
        } else {
            needs.actions
        };
        Ok(Self {
            version: offer.version.min(NEWEST_VERSION),
            actions: actions & offer.actions,
            steps: needs.steps & offer.steps,
            macros: if may_choose_macros { needs.macros } else { &[] },
        })
    }

    /// Whether the MTA waits for a status after `command`.
    pub fn owe_status(&self, command: &Command<'_>) -> bool {
        let waived_by = match command {
            Command::Abort
            | Command::Macros(_)
            | Command::Negotiate(_)
            | Command::Quit
            | Command::QuitNewClient => return false,
            Command::EndOfMessage(_) => return true,
            Command::Body(_) => step::NO_REPLY_BODY,
            Command::Connect(_) => step::NO_REPLY_CONNECT,
            Command::Data => step::NO_REPLY_DATA,
            Command::EndOfHeaders => step::NO_REPLY_END_OF_HEADERS,
            Command::Header { .. } => step::NO_REPLY_HEADER,
            Command::Helo(_) => step::NO_REPLY_HELO,
            Command::Mail(_) => step::NO_REPLY_MAIL,
            Command::Rcpt(_) => step::NO_REPLY_RCPT,
            Command::Unknown(_) => step::NO_REPLY_UNKNOWN,
        };
        self.steps & waived_by == 0
    }

    /// Whether a header may be added at end of message.
    pub fn may_add_headers(&self) -> bool {
        self.actions & action::ADD_HEADERS != 0
    }

    /// Whether the blank after a header's colon is the milter's to write.
    pub fn leading_space_is_ours(&self) -> bool {
        self.steps & step::HEADER_LEADING_SPACE != 0
    }

    /// Appends the answer to the offer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        frame::put(out, command::NEGOTIATE, |out| {
            for word in [self.version, self.actions, self.steps] {
                out.extend_from_slice(&word.to_be_bytes());
            }
            for (stage, names) in self.macros {
                out.extend_from_slice(&(*stage as u32).to_be_bytes());
                for (index, name) in names.iter().enumerate() {
                    if index > 0 {
                        out.push(b' ');
                    }
                    put_name(out, name);
                }
                out.push(0);
            }
        });
    }
}

/// Stages for which macros can be chosen (Sendmail `libmilter/mfapi.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacroStage {
    /// At connect.
    Connect = 0,
    /// At HELO.
    Helo = 1,
    /// At MAIL.
    Mail = 2,
    /// At RCPT.
    Rcpt = 3,
    /// At DATA.
    Data = 4,
    /// At end of message.
    EndOfMessage = 5,
    /// At end of headers.
    EndOfHeaders = 6,
}

/// Why no terms were found.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NegotiationError {
    /// The MTA speaks a version from before 2001.
    #[error("milter protocol version {version} is too old, {OLDEST_VERSION} is the oldest spoken")]
    TooOld {
        /// The version offered.
        version: u32,
    },
}

/// Changes to a message that a milter may ask leave for.
pub mod action {
    /// Adding headers.
    pub const ADD_HEADERS: u32 = 0x0001;
    /// Choosing the macros of each stage.
    pub const CHOOSE_MACROS: u32 = 0x0100;
}

/// Steps of the protocol that can be left out, sent without waiting for a reply, or added.
pub mod step {
    /// The end of headers is not sent.
    pub const NO_END_OF_HEADERS: u32 = 0x0040;
    /// A header is not answered.
    pub const NO_REPLY_HEADER: u32 = 0x0080;
    /// Unknown SMTP commands are not sent.
    pub const NO_UNKNOWN: u32 = 0x0100;
    /// Recipients that the MTA refuses are sent too.
    pub const REJECTED_RCPT: u32 = 0x0800;
    /// A client's connect is not answered.
    pub const NO_REPLY_CONNECT: u32 = 0x1000;
    /// HELO is not answered.
    pub const NO_REPLY_HELO: u32 = 0x2000;
    /// MAIL is not answered.
    pub const NO_REPLY_MAIL: u32 = 0x4000;
    /// RCPT is not answered.
    pub const NO_REPLY_RCPT: u32 = 0x8000;
    /// DATA is not answered.
    pub const NO_REPLY_DATA: u32 = 0x1_0000;
    /// An unknown SMTP command is not answered.
    pub const NO_REPLY_UNKNOWN: u32 = 0x2_0000;
    /// The end of headers is not answered.
    pub const NO_REPLY_END_OF_HEADERS: u32 = 0x4_0000;
    /// A body piece is not answered.
    pub const NO_REPLY_BODY: u32 = 0x8_0000;
    /// Header values keep the blank after the colon, both ways.
    pub const HEADER_LEADING_SPACE: u32 = 0x10_0000;
}

/// Names in the list are written with braces, except those of one letter.
fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    if let [letter] = name {
        out.push(*letter);
    } else {
        out.push(b'{');
        out.extend_from_slice(name);
        out.push(b'}');
    }
}

/// Sendmail 8.10 to 8.11 and Postfix's `milter_protocol = 2`.
const OLDEST_VERSION: u32 = 2;
/// Sendmail 8.14 and Postfix 2.6 onward.
const NEWEST_VERSION: u32 = 6;
/// An empty list means the MTA's default list; asking for a name that nobody has means none.
const NO_MACRO: &[&[u8]] = &[b"greygate_none"];

#[cfg(test)]
mod tests {
    use super::*;

    const POSTFIX: Offer = Offer {
        version: 6,
        actions: 0x1ff,
        steps: 0x1f_ffff,
    };

    #[test]
    fn takes_of_postfix_what_it_needs() {
        let terms = Terms::agree(&Needs::GREYLISTING, POSTFIX).expect("terms");
        assert_eq!(terms.version, 6);
        assert_eq!(terms.actions, 0x101);
        assert_eq!(terms.steps, 0x18_79c0);
        assert!(!terms.owe_status(&Command::Helo(b"")));
        assert!(!terms.owe_status(&Command::Body(b"")));
        assert!(terms.owe_status(&Command::Data));
        assert!(terms.owe_status(&Command::EndOfMessage(b"")));
        assert!(!terms.owe_status(&Command::Abort));
    }

    #[test]
    fn asks_for_nothing_that_is_not_offered() {
        let offer = Offer {
            version: 2,
            actions: 0,
            steps: 0,
        };
        let terms = Terms::agree(&Needs::GREYLISTING, offer).expect("terms");
        assert_eq!((terms.version, terms.actions, terms.steps), (2, 0, 0));
        assert!(terms.macros.is_empty());
        assert!(terms.owe_status(&Command::Helo(b"")));
        assert!(!terms.may_add_headers());
    }

    #[test]
    fn newer_mta_is_answered_with_the_newest_version_spoken() {
        let offer = Offer {
            version: 7,
            ..POSTFIX
        };
        let terms = Terms::agree(&Needs::GREYLISTING, offer).expect("terms");
        assert_eq!(terms.version, 6);
    }

    #[test]
    fn version_1_is_refused() {
        let offer = Offer {
            version: 1,
            ..POSTFIX
        };
        let error = Terms::agree(&Needs::GREYLISTING, offer).expect_err("too old");
        assert_eq!(error, NegotiationError::TooOld { version: 1 });
    }

    #[test]
    fn answer_carries_the_macro_lists() {
        let mut out = Vec::new();
        let terms = Terms::agree(&Needs::GREYLISTING, POSTFIX).expect("terms");
        terms.encode(&mut out);
        let payload = &out[5..];
        assert_eq!(&payload[..12], b"\0\0\0\x06\0\0\x01\x01\0\x18\x79\xc0");
        let lists = payload[12..].escape_ascii().to_string();
        assert!(
            lists.contains(r"\x00\x00\x00\x02{auth_authen}\x00"),
            "{lists}"
        );
        assert!(lists.contains(r"\x00\x00\x00\x04i\x00"), "{lists}");
    }

    #[test]
    fn short_offer_is_no_offer() {
        assert_eq!(Offer::parse(&[0; 11]), None);
        assert!(Offer::parse(&[0; 12]).is_some());
    }
}
