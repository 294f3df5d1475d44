//! What is told of mail: one report from the arguments, or many from standard input.

use std::io::{self, BufRead, Write};
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
/// filter that keeps the pipe open shall not lose it over one bad line or a restart.
pub(super) fn from_lines(
    lines: impl BufRead,
    socket: &Path,
    mut complaints: impl Write,
) -> Result<(), Failure> {
    let (mut heard, mut unheard) = (0, 0);
    for (index, line) in lines.lines().enumerate() {
        let line = line?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match tell(line, socket) {
            Ok(()) => heard += 1,
            Err(why) => {
                unheard += 1;
                writeln!(complaints, "line {}: {why}", index + 1)?;
            }
        }
    }
    if unheard == 0 {
        Ok(())
    } else {
        let all = heard + unheard;
        let what = format!("{unheard} of {all} reports were not heard");
        Err(Failure::of(io::Error::other(what)))
    }
}

fn tell(line: &str, socket: &Path) -> Result<(), String> {
    let report: Report = line
        .parse()
        .map_err(|invalid| format!("{line:?} is {invalid}"))?;
    admin::call(socket, &Request::Report(report))
        .map(drop)
        .map_err(|error| chain(&error))
}
