//! What a client tried: one recipient of one mail transaction, as the policy sees it.
//!
//! Knows parsed values; leaves wire bytes and session order to `milter`, and what is
//! remembered of an attempt to `tuple` and `record`.

use std::net::IpAddr;

use super::evidence::Evidence;
use super::time::Timestamp;

/// One recipient that a client named, with what was said before it in the session.
///
/// The texts are what the client sent, not necessarily UTF-8, without angle brackets.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The client address. An IPv4-mapped IPv6 address has been turned into IPv4.
    pub client: IpAddr,
    /// The client's verified reverse name, lower case is not guaranteed; empty when there is none.
    pub client_name: &'a [u8],
    /// The HELO argument, unverified; empty when the client sent none.
    pub helo: &'a [u8],
    /// The reverse-path of the transaction; empty is the null reverse-path `<>`.
    pub reverse_path: &'a [u8],
    /// The forward-path of this recipient.
    pub recipient: &'a [u8],
    /// `SIZE=` as announced at MAIL; 0 when none was announced.
    pub announced_size: u64,
    /// When the session began.
    pub connected: Timestamp,
    /// Which address of this site the client connected to.
    pub server: ServerMark,
    /// The client authenticated in this session.
    pub authenticated: bool,
    /// Where the attempt was reported from.
    pub origin: Origin,
    /// What was found elsewhere about the client, if it was asked.
    pub evidence: Evidence,
}

/// Who told us of an attempt: the ground for what may follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A milter peer on another host. Its mail is greylisted, but nobody is sentenced in *this*
    /// host's kernel on its word.
    AnotherHost,
    /// The MTA on this host: a completed SMTP session, evidence for a sentence.
    ThisHost,
}

/// Which of this site's addresses a client connected to, as far as they need be told apart: a
/// delivery round over all MX addresses is one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerMark(u8);

/// A client's verified reverse name, out of what Postfix and Sendmail tell: for a client without one
/// they say `unknown`, or its address in brackets.
pub fn verified_name(told: &[u8]) -> &[u8] {
    match told {
        b"unknown" | [b'[', ..] => b"",
        name => name,
    }
}

impl ServerMark {
    /// The MTA did not say.
    pub const UNKNOWN: Self = Self(0);
    /// The most that are told apart; all further ones are [`UNKNOWN`](Self::UNKNOWN).
    pub const MOST: u8 = 15;
    /// The bit of all addresses of the site's other hosts. No mark of this host has it.
    pub(super) const ELSEWHERE: u16 = 1 << 15;

    /// The address that was seen as the `number`th, from 1 on.
    pub const fn numbered(number: u8) -> Self {
        if number > Self::MOST {
            Self::UNKNOWN
        } else {
            Self(number)
        }
    }

    /// One bit for it; none for the unknown.
    pub const fn bit(self) -> u16 {
        match self.0 {
            0 => 0,
            number => 1 << (number - 1),
        }
    }
}
