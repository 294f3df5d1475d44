//! Replies: what greygate says to the MTA, as bytes.
//!
//! Knows the one strict form of an SMTP reply that every MTA takes, and the encoding of statuses
//! and added headers. Leaves when each may be said to `ledger`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::frame;

/// The status that answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<'a> {
    /// Nothing more of this message needs to be shown.
    Accept,
    /// Go on.
    Continue,
    /// Give the client this SMTP reply.
    Reply(&'a ReplyText),
}

impl Status<'_> {
    /// Appends the status to `out`.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Accept => frame::put(out, ACCEPT, |_| ()),
            Self::Continue => frame::put(out, CONTINUE, |_| ()),
            Self::Reply(reply) => out.extend_from_slice(&reply.frame),
        }
    }
}

/// An SMTP reply: a code, an enhanced status code of the same class, printable ASCII in at most 32
/// lines of at most 512 bytes.
///
/// Read from text it is one that defers: `451 4.7.1 text`, or a text alone, which gets
/// `451 4.7.1`. Its code is 4yz but not 421, on which MTAs hang up. Lines are divided by a line
/// feed.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyText {
    text: String,
    frame: Box<[u8]>,
}

impl ReplyText {
    /// A reply of `lines` behind codes of ours.
    pub(super) fn with_codes(codes: Codes, lines: &str) -> Result<Self, ReplyTextError> {
        let (code, status) = codes.as_strs();
        Self::build(code, status, lines)
    }

    /// The SMTP reply before encoding: code, enhanced status code and lines.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn build(code: &str, status: &str, lines: &str) -> Result<Self, ReplyTextError> {
        check_lines(lines)?;
        let mut frame = Vec::new();
        frame::put(&mut frame, REPLY_CODE, |out| {
            put_lines(out, code, status, lines);
        });
        Ok(Self {
            text: format!("{code} {status} {lines}"),
            frame: frame.into_boxed_slice(),
        })
    }
}

/// The codes of replies that refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// The MTA gives the reply and hangs up.
    Closing,
    /// The client must not come again with this message.
    RefusedForGood,
    /// The client may come again.
    RefusedForNow,
}

impl Codes {
    /// Code and enhanced status code (RFC 3463), which are of one class.
    const fn as_strs(self) -> (&'static str, &'static str) {
        match self {
            Self::Closing => ("421", "4.7.0"),
            Self::RefusedForGood => ("550", "5.7.1"),
            Self::RefusedForNow => ("451", "4.7.1"),
        }
    }
}

impl FromStr for ReplyText {
    type Err = ReplyTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (code, status, lines) = split_codes(text.trim())?;
        Self::build(code, status, lines)
    }
}

impl Default for ReplyText {
    fn default() -> Self {
        "451 4.7.1 Greylisted, please try again later"
            .parse()
            .expect("the default reply is a legal reply")
    }
}

impl fmt::Display for ReplyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ReplyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplyText({:?})", self.text)
    }
}

/// Why a text is no reply.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReplyTextError {
    /// A code where only words are the operator's.
    #[error("the codes of a refusal are set already; begin with the words, not with {code}")]
    CodeGiven {
        /// The code found.
        code: String,
    },
    /// A byte that an SMTP reply must not hold.
    #[error("a reply must be printable ASCII, {byte:?} is not")]
    NotPrintable {
        /// What was found.
        byte: char,
    },
    /// A code that does not defer.
    #[error("a reply that defers has a code 4yz other than 421, not {code}")]
    NotTransient {
        /// The code found.
        code: String,
    },
    /// No enhanced status code of class 4 after the code.
    #[error("after the code {code} an enhanced status code such as 4.7.1 must follow")]
    NoEnhancedStatus {
        /// The code found.
        code: String,
    },
    /// A line without text.
    #[error("a line of the reply is empty")]
    EmptyLine,
    /// A line beyond what SMTP allows.
    #[error("a line of the reply is longer than {LINE_LIMIT} bytes")]
    LongLine,
    /// More lines than an MTA takes.
    #[error("the reply has more than {LINES_LIMIT} lines")]
    TooManyLines,
}

/// The name of a header field (RFC 5322, 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name, without a colon.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = HeaderNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let is_legal = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if name.is_empty() || name.len() > NAME_LIMIT || !name.bytes().all(is_legal) {
            return Err(HeaderNameError {
                name: name.to_owned(),
            });
        }
        Ok(Self(name.to_owned()))
    }
}

impl Default for HeaderName {
    fn default() -> Self {
        Self("X-Greylist".to_owned())
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no header name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name:?} is no header name: 1 to {NAME_LIMIT} printable characters without a colon")]
pub struct HeaderNameError {
    /// The text.
    pub name: String,
}

/// Appends the request to add a header. `value` must be free of NUL and line ends; its leading
/// blank is ours to write when the MTA leaves values as they are.
pub(super) fn put_header(
    out: &mut Vec<u8>,
    name: &HeaderName,
    leading_space: bool,
    value: fmt::Arguments<'_>,
) {
    use std::io::Write as _;

    frame::put(out, ADD_HEADER, |out| {
        out.extend_from_slice(name.0.as_bytes());
        out.push(0);
        if leading_space {
            out.push(b' ');
        }
        out.write_fmt(value).expect("writing to memory cannot fail");
        out.push(0);
    });
}

/// Divides a configured text into code, enhanced status code and lines.
fn split_codes(text: &str) -> Result<(&str, &str, &str), ReplyTextError> {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(("451", "4.7.1", text));
    }
    if !code.starts_with('4') || code == "421" {
        let code = code.to_owned();
        return Err(ReplyTextError::NotTransient { code });
    }
    let (status, lines) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
    if !is_enhanced_status(status) {
        let code = code.to_owned();
        return Err(ReplyTextError::NoEnhancedStatus { code });
    }
    Ok((code, status, lines.trim_start()))
}

/// `4.subject.detail`, each of one to three digits (RFC 3463, 2).
fn is_enhanced_status(status: &str) -> bool {
    let mut parts = status.split('.');
    let is_number =
        |part: &str| matches!(part.len(), 1..=3) && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.next() == Some("4")
        && parts.next().is_some_and(is_number)
        && parts.next().is_some_and(is_number)
        && parts.next().is_none()
}

fn check_lines(lines: &str) -> Result<(), ReplyTextError> {
    if lines.split('\n').count() > LINES_LIMIT {
        return Err(ReplyTextError::TooManyLines);
    }
    for line in lines.split('\n') {
        if let Some(byte) = line.chars().find(|byte| !matches!(byte, ' '..='~')) {
            return Err(ReplyTextError::NotPrintable { byte });
        }
        if line.trim().is_empty() {
            return Err(ReplyTextError::EmptyLine);
        }
        if line.len() > TEXT_LIMIT {
            return Err(ReplyTextError::LongLine);
        }
    }
    Ok(())
}

/// `ddd-status text CRLF` for every line but the last, `ddd status text` for that, one NUL.
/// Percent signs are doubled: Sendmail takes the text for a format, and Postfix follows it.
fn put_lines(out: &mut Vec<u8>, code: &str, status: &str, lines: &str) {
    let mut lines = lines.split('\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        out.extend_from_slice(code.as_bytes());
        out.push(if is_last { b' ' } else { b'-' });
        out.extend_from_slice(status.as_bytes());
        out.push(b' ');
        for byte in line.bytes() {
            out.push(byte);
            if byte == b'%' {
                out.push(b'%');
            }
        }
        if !is_last {
            out.extend_from_slice(b"\r\n");
        }
    }
    out.push(0);
}

/// Kind bytes (Sendmail `libmilter/mfdef.h`). There are others; '4' (shutdown) is among those that
/// must never be sent: Postfix up to 3.10 then loses the message.
const ACCEPT: u8 = b'a';
const ADD_HEADER: u8 = b'h';
const CONTINUE: u8 = b'c';
const REPLY_CODE: u8 = b'y';
/// Lines libmilter takes.
const LINES_LIMIT: usize = 32;
/// A reply line with code and line end (RFC 5321, 4.5.3.1.5).
const LINE_LIMIT: usize = 512;
/// What is left of it: `ddd-4.ddd.ddd ` and the line end take 16.
const TEXT_LIMIT: usize = LINE_LIMIT - 16;
/// Far beyond any name in use, far below a header line.
const NAME_LIMIT: usize = 76;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payload of the reply's frame.
    fn payload(reply: &ReplyText) -> &[u8] {
        let frame = frame::Frame::first_of(&reply.frame)
            .expect("legal")
            .expect("whole");
        assert_eq!(frame.kind, b'y');
        frame.payload
    }

    /// The rules of Postfix 3.12, stricter than every release before it.
    fn satisfies_postfix(payload: &[u8]) -> Result<(), &'static str> {
        let text = payload.strip_suffix(b"\0").ok_or("no NUL at the end")?;
        if text.contains(&0) {
            return Err("a NUL within");
        }
        let text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?;
        let lines: Vec<&str> = text.split("\r\n").collect();
        let code = text.get(..3).ok_or("no code")?;
        if !code.starts_with(['4', '5']) || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the code is neither 4yz nor 5yz");
        }
        let class = &code[..1];
        for (index, line) in lines.iter().enumerate() {
            let divider = if index + 1 == lines.len() { ' ' } else { '-' };
            if !line.starts_with(code) || line.chars().nth(3) != Some(divider) {
                return Err("code or divider differ");
            }
            if !line[4..].starts_with(&format!("{class}.")) {
                return Err("the enhanced class differs");
            }
            if line.bytes().any(|byte| byte.is_ascii_control()) {
                return Err("a control byte");
            }
            if line.replace("%%", "").contains('%') {
                return Err("a single percent sign");
            }
        }
        Ok(())
    }

    #[test]
    fn default_defers_with_451_and_4_7_1() {
        let reply = ReplyText::default();
        assert_eq!(
            payload(&reply),
            b"451 4.7.1 Greylisted, please try again later\0"
        );
    }

    #[test]
    fn text_alone_gets_the_usual_codes() {
        let reply: ReplyText = "Come again".parse().expect("a reply");
        assert_eq!(reply.as_str(), "451 4.7.1 Come again");
    }

    #[test]
    fn lines_and_percent_signs_take_the_strict_form() {
        let reply: ReplyText = "450 4.2.0 100% grey\nsee manual".parse().expect("a reply");
        assert_eq!(
            payload(&reply),
            b"450-4.2.0 100%% grey\r\n450 4.2.0 see manual\0"
        );
    }

    #[test]
    fn reply_that_would_not_defer_is_refused() {
        let long = "x".repeat(TEXT_LIMIT + 1);
        let cases: [(&str, &str); 9] = [
            ("550 5.7.1 No", "4yz"),
            ("421 4.7.0 Bye", "421"),
            ("451 5.7.1 No", "enhanced"),
            ("451", "enhanced"),
            ("451 4.7.1", "empty"),
            ("", "empty"),
            ("caf\u{e9}", "printable"),
            ("a\rb", "printable"),
            (&long, "longer"),
        ];
        for (text, complaint) in cases {
            let error = text.parse::<ReplyText>().expect_err(text).to_string();
            assert!(error.contains(complaint), "{text:?}: {error}");
        }
        let lines = ["x"; 33].join("\n");
        assert_eq!(
            lines.parse::<ReplyText>(),
            Err(ReplyTextError::TooManyLines)
        );
    }

    #[test]
    fn header_name_is_checked() {
        assert!("X-Greylist".parse::<HeaderName>().is_ok());
        for name in ["", "X Grey", "X-Grey:", "X\r\nY", "\u{e9}"] {
            assert!(name.parse::<HeaderName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn header_has_its_blank_when_it_is_ours() {
        let mut out = Vec::new();
        put_header(&mut out, &HeaderName::default(), true, format_args!("v"));
        assert_eq!(out, b"\0\0\0\x0fhX-Greylist\0 v\0");
    }

    proptest! {
        #[test]
        fn every_reply_that_is_taken_satisfies_postfix(text in "([45][0-9]{2} )?([45]\\.[0-9]{1,3}\\.[0-9] )?[ -~\n]{0,80}|\\PC{0,40}|[\0-\u{ff}]{0,40}") {
            if let Ok(reply) = text.parse::<ReplyText>() {
                prop_assert_eq!(satisfies_postfix(payload(&reply)), Ok(()));
                prop_assert!(reply.as_str().starts_with('4') && !reply.as_str().starts_with("421"));
                prop_assert_eq!(reply.to_string().parse::<ReplyText>(), Ok(reply));
            }
        }

        #[test]
        fn every_refusal_that_is_taken_satisfies_postfix(lines in "[ -~\n]{0,80}|\\PC{0,40}") {
            for codes in [Codes::Closing, Codes::RefusedForGood, Codes::RefusedForNow] {
                if let Ok(reply) = ReplyText::with_codes(codes, &lines) {
                    prop_assert_eq!(satisfies_postfix(payload(&reply)), Ok(()));
                }
            }
        }
    }
}
