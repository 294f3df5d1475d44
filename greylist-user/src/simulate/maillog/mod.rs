//! What stands in a line of a mail log: when, which of Postfix's programs, and what it said.
//!
//! Pure, and made for any bytes: strangers choose what Postfix quotes. Knows syslog's two stamps and
//! Postfix's words; leaves files to `reader`, and what follows from several lines to `gather`.

mod event;
mod stamp;

pub use event::{Client, Event, Refusal, Stage};
pub use stamp::{Calendar, Stamp, parse_time, zone};

/// A line of syslog that one of Postfix's programs may have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When.
    pub stamp: Stamp,
    /// The host that wrote it, as it calls itself.
    pub host: &'a [u8],
    /// Who said it.
    pub program: Program<'a>,
    /// What it said.
    pub message: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line of a file that syslog wrote. [`None`] if there is no stamp, or no program's name.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = after_priority(line);
        let (stamp, rest) = stamp::read(line)?;
        let (host, rest) = word(rest)?;
        let (tag, message) = word(rest)?;
        let program = Program::parse(tag.strip_suffix(b":").unwrap_or(tag))?;
        Some(Self {
            stamp,
            host,
            program,
            message,
        })
    }
}

/// Who said it: an instance of Postfix, one of its services, a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// `syslog_name` without the service: `postfix`, or `postfix-in`.
    pub instance: &'a [u8],
    /// What stands between the two, such as `submission`; empty for most.
    pub service: &'a [u8],
    /// The daemon: `smtpd`, `cleanup`, `qmgr` and so on.
    pub daemon: &'a [u8],
    /// The process, or 0 if it is not told.
    pub pid: u32,
}

impl<'a> Program<'a> {
    /// Reads `postfix/smtpd[123]`. [`None`] if nothing divides instance from daemon.
    pub fn parse(tag: &'a [u8]) -> Option<Self> {
        let (name, pid) = match tag.iter().rposition(|&byte| byte == b'[') {
            Some(at) => {
                let digits = tag[at + 1..].strip_suffix(b"]")?;
                (&tag[..at], number(digits)?)
            }
            None => (tag, 0),
        };
        Self::named(name, u32::try_from(pid).ok()?)
    }

    /// The same of a name and a process that are told apart, as the journal does.
    pub fn named(name: &'a [u8], pid: u32) -> Option<Self> {
        let first = name.iter().position(|&byte| byte == b'/')?;
        let last = name.iter().rposition(|&byte| byte == b'/')?;
        let (instance, daemon) = (&name[..first], &name[last + 1..]);
        let service = if first < last {
            &name[first + 1..last]
        } else {
            b""
        };
        let is_named = !instance.is_empty() && !daemon.is_empty();
        is_named.then_some(Self {
            instance,
            service,
            daemon,
            pid,
        })
    }

    /// Whether it serves customers who log in, whom greygate does not see.
    pub fn is_submission(&self) -> bool {
        let is = |word: &[u8]| self.service.windows(word.len()).any(|it| it == word);
        is(b"submission") || is(b"smtps")
    }
}

/// `<22>` before the stamp, as some collectors leave it.
fn after_priority(line: &[u8]) -> &[u8] {
    match line {
        [b'<', rest @ ..] => match rest.iter().take(4).position(|&byte| byte == b'>') {
            Some(at) => &rest[at + 1..],
            None => line,
        },
        _ => line,
    }
}

/// The first word, and what comes after the blanks behind it.
pub(super) fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| byte == b' ')?;
    Some((&text[..end], text[end..].trim_ascii_start()))
}

/// A decimal number of at most eighteen digits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = matches!(digits.len(), 1..=18) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_instance_service_and_daemon_apart() {
        let program = |tag: &'static [u8]| Program::parse(tag).expect("it is one");
        let plain = program(b"postfix/smtpd[123]");
        assert_eq!(
            (plain.instance, plain.daemon),
            (&b"postfix"[..], &b"smtpd"[..])
        );
        assert_eq!((plain.service, plain.pid), (&b""[..], 123));
        let second = program(b"postfix-in/smtpd[9]");
        assert_eq!(second.instance, b"postfix-in");
        assert!(!second.is_submission());
        assert!(program(b"postfix/submission/smtpd[9]").is_submission());
        assert!(program(b"postfix/smtps/smtpd[9]").is_submission());
        assert_eq!(program(b"postfix/smtpd").pid, 0);
        for other in [
            &b"sshd[12]"[..],
            b"/smtpd[1]",
            b"postfix/[1]",
            b"postfix/smtpd[x]",
        ] {
            assert_eq!(Program::parse(other), None);
        }
    }

    #[test]
    fn reads_both_stamps_and_what_a_collector_puts_before_them() {
        for (line, host) in [
            (
                &b"Nov  2 06:25:01 mx1 postfix/smtpd[9]: connect from a[192.0.2.7]"[..],
                &b"mx1"[..],
            ),
            (
                b"<22>Nov 12 06:25:01 mx1 postfix/smtpd[9]: connect from a[192.0.2.7]",
                b"mx1",
            ),
            (
                b"2026-11-02T06:25:01.123456+01:00 mx2 postfix/smtpd[9]: connect from a[192.0.2.7]",
                b"mx2",
            ),
        ] {
            let line = Line::parse(line).expect("it is a line");
            assert_eq!(line.host, host);
            assert_eq!(line.message, b"connect from a[192.0.2.7]");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(line) = Line::parse(&bytes) {
                let _any = Event::parse(&line.program, line.message);
            }
            for daemon in [&b"smtpd"[..], b"cleanup", b"qmgr", b"lmtp", b"postscreen"] {
                let program = Program { instance: b"postfix", service: b"", daemon, pid: 1 };
                let _any = Event::parse(&program, &bytes);
            }
        }

        #[test]
        fn what_looks_like_a_refusal_never_panics(
            stage in "RCPT|DATA|CONNECT|MAIL|[A-Z-]{0,9}",
            text in "[ -~]{0,60}",
            addresses in "(; from=<| to=<|>|helo=|<|proto=| ){0,12}",
        ) {
            let line = format!("NOQUEUE: reject: {stage} from a[192.0.2.7]: 450 {text}{addresses}");
            let program = Program { instance: b"postfix", service: b"", daemon: b"smtpd", pid: 1 };
            let _any = Event::parse(&program, line.as_bytes());
        }
    }
}
