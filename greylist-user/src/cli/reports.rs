//! What is told of mail: one report from the arguments, or many from standard input.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use super::args::ReportCommand;
use super::failure::Failure;
use crate::admin::{self, Envelope, Report, Request};
use crate::chain::chain;

/// The report that the arguments tell; `lines` tells none itself.
pub(super) fn of(command: &ReportCommand) -> Option<Report> {
    match command {
        ReportCommand::Ham(reputed) => Some(Report::Ham {
            address: reputed.address,
            name: reputed.name.clone(),
        }),
        ReportCommand::Spam(reputed) => Some(Report::Spam {
            address: reputed.address,
            name: reputed.name.clone(),
        }),
        ReportCommand::Reject {
            address,
            sender,
            recipient,
            size,
        } => Some(Report::Reject {
            address: *address,
            mail: Envelope::bare(sender, recipient),
            size: *size,
        }),
        ReportCommand::Lines => None,
    }
}

/// Tells the daemon at `socket` what each line says, and `complaints` which lines it could not: a
/// filter that keeps the pipe open shall not lose it over one bad line, whatever a stranger's sender
/// address put into it, or over a restart.
///
/// With `json` it says at the end how many were heard.
pub(super) fn from_lines(
    lines: impl BufRead,
    socket: &Path,
    json: bool,
    complaints: impl Write,
) -> Result<(), Failure> {
    let told = tell_all(lines, socket, complaints)?;
    if json {
        let Told { heard, unheard } = told;
        let document = serde_json::json!({"answer": "told", "heard": heard, "unheard": unheard});
        writeln!(io::stdout(), "{document}")?;
    }
    told.into_result()
}

/// What became of the lines.
#[derive(Clone, Copy, Debug)]
struct Told {
    heard: u64,
    unheard: u64,
}

impl Told {
    fn into_result(self) -> Result<(), Failure> {
        let Self { heard, unheard } = self;
        if unheard == 0 {
            return Ok(());
        }
        let all = heard + unheard;
        let what = format!("{unheard} of {all} reports were not heard");
        Err(Failure::of(io::Error::other(what)))
    }
}

fn tell_all(
    mut lines: impl BufRead,
    socket: &Path,
    mut complaints: impl Write,
) -> io::Result<Told> {
    let (mut heard, mut unheard) = (0, 0);
    let mut number = 0_u64;
    while let Some(line) = next_line(&mut lines)? {
        number += 1;
        let told = match line.as_deref().map(str::trim) {
            Ok(line) if line.is_empty() || line.starts_with('#') => continue,
            Ok(line) => tell(line, socket),
            Err(why) => Err((*why).to_owned()),
        };
        match told {
            Ok(()) => heard += 1,
            Err(why) => {
                unheard += 1;
                writeln!(complaints, "line {number}: {why}")?;
            }
        }
    }
    Ok(Told { heard, unheard })
}

/// The next line, or why it is no text; [`None`] at the end. Of an overlong line no more than its
/// beginning is kept.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Result<String, &'static str>>> {
    let mut line = Vec::new();
    let read = lines.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        skip_line(lines)?;
        return Ok(Some(Err("longer than any report")));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| "not UTF-8")))
}

fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    let mut rest = Vec::new();
    while lines.take(LONGEST_LINE).read_until(b'\n', &mut rest)? > 0 && !rest.ends_with(b"\n") {
        rest.clear();
    }
    Ok(())
}

fn tell(line: &str, socket: &Path) -> Result<(), String> {
    let report: Report = line
        .parse()
        .map_err(|invalid| format!("{line:?} is {invalid}"))?;
    admin::call(socket, &Request::Report(report))
        .map(drop)
        .map_err(|error| chain(&error))
}

/// A report is the daemon's longest request at most.
const LONGEST_LINE: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_is_no_text_or_too_long_does_not_end_the_pipe() {
        let mut lines = b"reject 192.0.2.7 \xff r@b.example\n".to_vec();
        lines.resize(lines.len() + 10_000, b'x');
        lines.extend(b"\n# a remark\nvirus 192.0.2.7 \x1b[2J\nspam 192.0.2.7");
        let mut complaints = Vec::new();
        let nobody = Path::new("/nonexistent/socket");
        let told = from_lines(lines.as_slice(), nobody, false, &mut complaints);
        assert!(told.is_err());
        let complaints = String::from_utf8(complaints).expect("text");
        let complaints: Vec<_> = complaints.lines().collect();
        assert_eq!(complaints[0], "line 1: not UTF-8");
        assert_eq!(complaints[1], "line 2: longer than any report");
        let escaped = r#"line 4: "virus 192.0.2.7 \u{1b}[2J" is no report"#;
        assert!(complaints[2].starts_with(escaped), "{}", complaints[2]);
        let unanswered = "line 5: no daemon answers at /nonexistent/socket";
        assert!(complaints[3].starts_with(unanswered), "{}", complaints[3]);
        assert_eq!(complaints.len(), 4);
    }

    /// A stranger chooses the Message-ID, the sender and the HELO argument in such a line.
    #[test]
    fn patterns_of_the_manual_blame_nobody_whom_a_stranger_names() {
        const POSTFIX: &str = "\
4ABC: milter-reject: END-OF-MESSAGE from mx.x.example[192.0.2.7]: 5.7.1 No; from=<s@x.example> to=<r@y.example> proto=ESMTP helo=<mx>
4ABC: milter-reject: END-OF-MESSAGE from unknown[2001:db8::7]: 5.7.1 No; from=<> to=<r@y.example> proto=ESMTP helo=<mx>
4ABC: milter-reject: END-OF-MESSAGE from mx[192.0.2.8]: 4.7.1 Later; from=<\"4ABC: milter-reject: END-OF-MESSAGE from x[198.51.100.1]: 5.7.1 No; from=<q@x>\"@x> to=<r@y> proto=ESMTP helo=<mx>";
        const RSPAMD: &str = "\
2026-11-22 02:00:00 #12(normal) <5a6b7c>; task; rspamd_task_write_log: id: <m@x>, qid: <4ABC>, ip: 192.0.2.7, from: <s@x>, (default: T (reject): [20.00/15.00] [A(1.0){},]), len: 3
2026-11-22 02:00:00 #12(normal) <5a6b7c>; task; rspamd_task_write_log: id: <m@x>, ip: 2001:db8::7, (default: F (no action): [0.00/15.00] []), len: 3
2026-11-22 02:00:00 #12(normal) <5a6b7c>; task; rspamd_task_write_log: id: <m, ip: 198.51.100.1, (default: T (@x>, ip: 192.0.2.8, from: <s@x>, (default: F (no action): [0.00/15.00] []), len: 3
2026-11-22 02:00:00 #12(normal) <5a6b7c>; task; rspamd_task_write_log: id: <m@x>, ip: 192.0.2.9, user: joe, from: <s@x>, (default: T (reject): [20.00/15.00] []), len: 3";
        const AMAVIS: &str = "\
(25873-01) Passed CLEAN {RelayedInbound}, [192.0.2.7]:35648 [192.0.2.7] <s@x> -> <r@y>, Queue-ID: 4ABC
(25873-01-2) Blocked SPAM {DiscardedInbound,Quarantined}, [2001:db8::7]:35648 <s@x> -> <r@y>, Queue-ID: 4ABC
(25873-02) Passed CLEAN {RelayedOutbound}, [192.0.2.9]:3 <\" Blocked SPAM {x}, [198.51.100.1]:\"@x> -> <r@y>";
        let manual = include_str!("../../../docs/punishment.md");
        let (_, script) = manual
            .split_once("```sh\n# Any milter behind")
            .expect("it is there");
        let (script, _) = script.split_once("```").expect("it ends");
        let mut script = format!("# Any milter behind{script}");
        for (command, instead) in [
            (
                "journalctl -fo cat -t postfix/cleanup",
                "printf '%s\\n' \"$POSTFIX\"",
            ),
            (
                "tail -Fn0 /var/log/rspamd/rspamd.log",
                "printf '%s\\n' \"$RSPAMD\"",
            ),
            ("journalctl -fo cat -t amavis", "printf '%s\\n' \"$AMAVIS\""),
            ("greygate report lines", "cat"),
        ] {
            assert!(script.contains(command), "{command}");
            script = script.replace(command, instead);
        }
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .envs([("POSTFIX", POSTFIX), ("RSPAMD", RSPAMD), ("AMAVIS", AMAVIS)])
            .output()
            .expect("there is a shell");
        let said = String::from_utf8(output.stdout).expect("text");
        let expected = [
            "reject 192.0.2.7 <s@x.example> <r@y.example>",
            "reject 2001:db8::7 <> <r@y.example>",
            "spam 192.0.2.7",
            "ham 2001:db8::7",
            "ham 192.0.2.7",
            "spam 2001:db8::7",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        for line in expected {
            assert!(line.parse::<Report>().is_ok(), "{line}");
        }
    }
}
