//! milter-greylist's `greylist.db`, a text that it writes itself (`pending_textdump` in its `pending.c`,
//! read again by `dump_yacc.y`):
//!
//! ```text
//! # Sender IP  Sender e-mail  Recipient e-mail  Time accepted
//! 192.0.2.7  <a@b.example>  <c@d.example>  1795248900 # 2026-11-21 08:15:00
//! 192.0.2.7  <a@b.example>  <c@d.example>  1795335300 AUTO # 2026-11-22 08:15:00
//! 192.0.2.7  <a@b.example>  <c@d.example>  1795248900  60 TARPIT # …
//! ```
//!
//! The time of a greylisted tuple is when it will be accepted, that of a whitelisted one (`AUTO`) when
//! that ends. So when it was first seen, or last used, follows from how long that program deferred, or
//! trusted, which only its configuration says.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::format::{Options, Parsed, Parser};
use super::item::Item;
use crate::policy::Timestamp;

/// Reads a `greylist.db`.
pub(super) struct MilterGreylist {
    delay: Duration,
    trust: Duration,
    now: Timestamp,
}

impl MilterGreylist {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            delay: options.delay.unwrap_or(DELAY),
            trust: options.trust.unwrap_or(AUTOWHITE),
            now: options.now,
        }
    }
}

impl Parser for MilterGreylist {
    fn line(&mut self, line: &str) -> Result<Parsed, String> {
        let words: Vec<&str> = line
            .split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .take(MOST_WORDS)
            .collect();
        let (client, sender, recipient, time, rest) = match words[..] {
            [] => return Ok(Parsed::Nothing),
            [client, sender, recipient, time, ref rest @ ..] => {
                (client, sender, recipient, time, rest)
            }
            _ => return Err(EXPECTED.to_owned()),
        };
        let (client, time) = (address(client)?, seconds(time)?);
        let is_passed = match *rest {
            [] => false,
            [auto] if auto.eq_ignore_ascii_case("AUTO") => true,
            [_, tarpit] if tarpit.eq_ignore_ascii_case("TARPIT") => {
                return Ok(Parsed::NoCounterpart("tarpitted tuples"));
            }
            _ => return Err(EXPECTED.to_owned()),
        };
        // When the tuple was first seen, or last used.
        let ago = if is_passed { self.trust } else { self.delay };
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let at = time.as_millis().saturating_sub(ago);
        let at = at.min(self.now.as_millis());
        Ok(Parsed::Item(Item::ForeignTuple {
            client,
            sender: bare(sender).to_owned(),
            recipient: bare(recipient).to_owned(),
            first_seen: at,
            last_seen: at,
            passed: is_passed,
        }))
    }
}

fn address(text: &str) -> Result<IpNet, String> {
    // A scope, as of a link-local address, is no part of it.
    let (bare, _) = text.split_once('%').unwrap_or((text, ""));
    let address: IpAddr = bare
        .parse()
        .map_err(|_| format!("{text:?} is no address of a client; {EXPECTED}"))?;
    Ok(address.to_canonical().into())
}

fn seconds(text: &str) -> Result<Timestamp, String> {
    let millis = text
        .parse::<u64>()
        .ok()
        .and_then(|it| it.checked_mul(1_000));
    millis
        .map(Timestamp::from_millis)
        .ok_or_else(|| format!("{text:?} is no time in seconds; {EXPECTED}"))
}

/// A path without the brackets around it.
fn bare(path: &str) -> &str {
    let inner = path.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
    inner.unwrap_or(path)
}

const EXPECTED: &str = "a line is CLIENT SENDER RECIPIENT TIME, and AUTO or a number and TARPIT";

/// `GLDELAY` in its `pending.h`.
const DELAY: Duration = Duration::from_mins(30);
/// `AUTOWHITE_VALIDITY` there.
const AUTOWHITE: Duration = Duration::from_hours(24);

/// One more than a line has.
const MOST_WORDS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn parser() -> MilterGreylist {
        MilterGreylist::new(&Options {
            now: Timestamp::from_millis(1_795_300_000_000),
            ..Options::default()
        })
    }

    fn tuple(client: &str, sender: &str, at: u64, passed: bool) -> Parsed {
        Parsed::Item(Item::ForeignTuple {
            client: client.parse().expect("a network"),
            sender: sender.to_owned(),
            recipient: "c@d.example".to_owned(),
            first_seen: at,
            last_seen: at,
            passed,
        })
    }

    #[test]
    fn tuples_are_dated_back_by_what_that_program_waits() {
        let mut parser = parser();
        for (line, expected) in [
            (
                "192.0.2.7\t<a@b.example>\t<c@d.example>\t1795248900 # 2026-11-21 08:15:00",
                tuple("192.0.2.7/32", "a@b.example", 1_795_247_100_000, false),
            ),
            (
                "192.0.2.7\t<a@b.example>\t<c@d.example>\t1795335300 AUTO # 2026-11-22 08:15:00",
                tuple("192.0.2.7/32", "a@b.example", 1_795_248_900_000, true),
            ),
            (
                "2001:db8::7%eth0 <> c@d.example 1795248900 auto",
                tuple("2001:db8::7/128", "", 1_795_162_500_000, true),
            ),
            (
                "::ffff:192.0.2.7 <> c@d.example 1895248900",
                tuple("192.0.2.7/32", "", 1_795_300_000_000, false),
            ),
            ("# Summary: 2 records, 1 greylisted", Parsed::Nothing),
            ("", Parsed::Nothing),
            (
                "192.0.2.7 <a@b.example> <c@d.example> 1795248900 60 TARPIT # x",
                Parsed::NoCounterpart("tarpitted tuples"),
            ),
        ] {
            assert_eq!(parser.line(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_record_is_said() {
        let mut parser = parser();
        for (line, expected) in [
            ("192.0.2.7 <a@b.example>", "a line is CLIENT"),
            (
                "mail.example <a@b.example> <c@d.example> 1",
                "\"mail.example\" is no address",
            ),
            (
                "192.0.2.7 <a@b.example> <c@d.example> soon",
                "\"soon\" is no time",
            ),
            (
                "192.0.2.7 <a@b.example> <c@d.example> 1 WHITE",
                "a line is CLIENT",
            ),
            (
                "192.0.2.7 <a@b.example> <c@d.example> 99999999999999999999",
                "is no time",
            ),
        ] {
            let error = parser.line(line).expect_err("it is none");
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
