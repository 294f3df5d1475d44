//! Commands: what the MTA says, from kind byte and payload to borrowed values.
//!
//! Knows each payload; leaves their order to `session`. Everything in here was written by a
//! stranger: texts are bytes, and what cannot be read is an error, never a panic.

use std::net::IpAddr;

use thiserror::Error;

use crate::policy::verified_name;

use super::{
    frame::Frame,
    macros::{Macros, take_text},
    negotiate::Offer,
};

/// One command of the MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The mail transaction is over, whatever came of it.
    Abort,
    /// A piece of the body.
    Body(&'a [u8]),
    /// A client has connected.
    Connect(Connect<'a>),
    /// The client has said DATA.
    Data,
    /// All headers have been sent.
    EndOfHeaders,
    /// The message is complete. Sendmail may put the last piece of the body in here.
    EndOfMessage(&'a [u8]),
    /// One header field.
    Header {
        /// Its name, without the colon.
        name: &'a [u8],
        /// What follows the colon.
        value: &'a [u8],
    },
    /// The client has said HELO or EHLO.
    Helo(&'a [u8]),
    /// Macros for a command to come.
    Macros(Macros<'a>),
    /// The client has said MAIL.
    Mail(Path<'a>),
    /// The MTA offers protocol options.
    Negotiate(Offer),
    /// The client is gone, and the MTA will close the connection.
    Quit,
    /// The client is gone, and the MTA will announce another over this connection.
    QuitNewClient,
    /// The client has said RCPT.
    Rcpt(Path<'a>),
    /// The client has said something the MTA does not know.
    Unknown(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Reads the command in a frame.
    pub fn parse(frame: Frame<'a>) -> Result<Self, CommandError> {
        let Frame { kind, mut payload } = frame;
        let malformed = CommandError::Malformed { kind };
        Ok(match kind {
            ABORT => Self::Abort,
            BODY => Self::Body(payload),
            CONNECT => Self::Connect(Connect::parse(payload).ok_or(malformed)?),
            DATA => Self::Data,
            END_OF_HEADERS => Self::EndOfHeaders,
            END_OF_MESSAGE => Self::EndOfMessage(payload),
            HEADER => Self::Header {
                name: take_text(&mut payload),
                value: take_text(&mut payload),
            },
            HELO => Self::Helo(take_text(&mut payload)),
            MACROS => Self::Macros(Macros::parse(payload)),
            MAIL => Self::Mail(Path::parse(payload)),
            NEGOTIATE => Self::Negotiate(Offer::parse(payload).ok_or(malformed)?),
            QUIT => Self::Quit,
            QUIT_NEW_CLIENT => Self::QuitNewClient,
            RCPT => Self::Rcpt(Path::parse(payload)),
            UNKNOWN => Self::Unknown(take_text(&mut payload)),
            kind => return Err(CommandError::UnknownKind { kind }),
        })
    }
}

/// The client as the MTA announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The client's verified name; empty when there is none.
    pub name: &'a [u8],
    /// The client address, IPv4 where it was IPv4-mapped; `None` for a client without one, such as
    /// a local submission.
    pub address: Option<IpAddr>,
}

impl<'a> Connect<'a> {
    /// Name, family byte, then port and address where the family has them.
    fn parse(mut payload: &'a [u8]) -> Option<Self> {
        let name = verified_name(take_text(&mut payload));
        let address = match payload.split_first() {
            None | Some((b'U' | b'L', _)) => None,
            Some((b'4' | b'6', rest)) => {
                let (_port, mut text) = rest.split_first_chunk::<2>()?;
                Some(parse_address(take_text(&mut text))?)
            }
            Some(_) => return None,
        };
        Some(Self { name, address })
    }
}

/// A reverse-path or forward-path with its ESMTP parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// The address without angle brackets; empty for the null reverse-path.
    pub address: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> Path<'a> {
    fn parse(mut payload: &'a [u8]) -> Self {
        let path = take_text(&mut payload);
        let path = path.strip_prefix(b"<").unwrap_or(path);
        Self {
            address: path.strip_suffix(b">").unwrap_or(path),
            parameters: payload,
        }
    }

    /// `SIZE=` in bytes (RFC 1870); 0 when it was not announced or is no number.
    pub fn announced_size(&self) -> u64 {
        let mut rest = self.parameters;
        while !rest.is_empty() {
            if let Some((keyword, value)) = take_text(&mut rest).split_at_checked(5)
                && keyword.eq_ignore_ascii_case(b"SIZE=")
            {
                return std::str::from_utf8(value)
                    .ok()
                    .and_then(|digits| digits.parse().ok())
                    .unwrap_or(0);
            }
        }
        0
    }
}

/// Why a frame is not a command. The connection cannot go on after either.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// The payload does not have the form its kind wants.
    #[error("malformed command '{}'", kind.escape_ascii())]
    Malformed {
        /// The kind byte.
        kind: u8,
    },
    /// No command has this kind byte.
    #[error("unknown command '{}'", kind.escape_ascii())]
    UnknownKind {
        /// The kind byte.
        kind: u8,
    },
}

/// An address as Postfix writes it, or Sendmail (`IPv6:` in front), or a link-local one with its
/// zone behind.
pub(super) fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.split_at_checked(5) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("IPv6:") => rest,
        _ => text,
    };
    let text = text
        .split_once('%')
        .map_or(text, |(address, _zone)| address);
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Kind bytes (Sendmail `libmilter/mfdef.h`).
pub(super) const ABORT: u8 = b'A';
pub(super) const BODY: u8 = b'B';
pub(super) const CONNECT: u8 = b'C';
pub(super) const DATA: u8 = b'T';
pub(super) const END_OF_HEADERS: u8 = b'N';
pub(super) const END_OF_MESSAGE: u8 = b'E';
pub(super) const HEADER: u8 = b'L';
pub(super) const HELO: u8 = b'H';
pub(super) const MACROS: u8 = b'D';
pub(super) const MAIL: u8 = b'M';
pub(super) const NEGOTIATE: u8 = b'O';
pub(super) const QUIT: u8 = b'Q';
pub(super) const QUIT_NEW_CLIENT: u8 = b'K';
pub(super) const RCPT: u8 = b'R';
pub(super) const UNKNOWN: u8 = b'U';

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: u8, payload: &[u8]) -> Result<Command<'_>, CommandError> {
        Command::parse(Frame { kind, payload })
    }

    fn client(payload: &[u8]) -> Connect<'_> {
        match parse(CONNECT, payload) {
            Ok(Command::Connect(connect)) => connect,
            other => panic!("not a client: {other:?}"),
        }
    }

    fn path(payload: &[u8]) -> Path<'_> {
        match parse(MAIL, payload) {
            Ok(Command::Mail(path)) => path,
            other => panic!("not a path: {other:?}"),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn client_has_address_and_verified_name() {
        let connect = client(b"mx.example\x004\x04\xd2192.0.2.7\0");
        assert_eq!(connect.name, b"mx.example");
        assert_eq!(connect.address, Some(address("192.0.2.7")));
    }

    #[test]
    fn client_without_verified_name_has_the_empty_name() {
        assert_eq!(client(b"[192.0.2.7]\x004\0\x19192.0.2.7\0").name, b"");
        assert_eq!(client(b"unknown\x004\0\x19192.0.2.7\0").name, b"");
    }

    #[test]
    fn addresses_of_all_dialects_are_read() {
        let cases: [(&[u8], &str); 5] = [
            (b"a\x006\0\x192001:db8::1\0", "2001:db8::1"),
            (b"a\x006\0\x19IPv6:2001:db8::1\0", "2001:db8::1"),
            (b"a\x006\0\x19::ffff:192.0.2.7\0", "192.0.2.7"),
            (b"a\x006\0\x19fe80::1%eth0\0", "fe80::1"),
            (b"a\x004\0\x19192.0.2.7", "192.0.2.7"),
        ];
        for (payload, expected) in cases {
            assert_eq!(client(payload).address, Some(address(expected)));
        }
    }

    #[test]
    fn client_without_address_is_legal() {
        assert_eq!(client(b"localhost\0U").address, None);
        assert_eq!(client(b"localhost\0L\0\0/dev/log\0").address, None);
        assert_eq!(client(b"localhost\0").address, None);
    }

    #[test]
    fn unreadable_client_is_malformed() {
        let malformed = Err(CommandError::Malformed { kind: CONNECT });
        for payload in [
            b"a\x004".as_slice(),
            b"a\x004\0",
            b"a\x004\0\x19",
            b"a\x004\0\x19999.0.2.7\0",
            b"a\0X\0\x19192.0.2.7\0",
        ] {
            assert_eq!(parse(CONNECT, payload), malformed, "{payload:?}");
        }
    }

    #[test]
    fn path_loses_its_angle_brackets() {
        assert_eq!(path(b"<a@b.example>\0").address, b"a@b.example");
        assert_eq!(path(b"<>\0").address, b"");
        assert_eq!(path(b"a@b.example\0").address, b"a@b.example");
        assert_eq!(path(b"").address, b"");
    }

    #[test]
    fn announced_size_is_found_among_parameters() {
        assert_eq!(
            path(b"<>\0BODY=8BITMIME\0size=4711\0").announced_size(),
            4711
        );
        assert_eq!(path(b"<>\0SIZE=much\0").announced_size(), 0);
        assert_eq!(
            path(b"<>\0SIZE=99999999999999999999999\0").announced_size(),
            0
        );
        assert_eq!(path(b"<>\0").announced_size(), 0);
    }

    #[test]
    fn unknown_kind_is_an_error_that_names_it() {
        let error = parse(b'\x01', b"").expect_err("no such command");
        assert_eq!(error.to_string(), r"unknown command '\x01'");
    }
}
