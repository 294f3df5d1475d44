//! `greygate import`: records of another greygate, or of another greylister, into a running daemon.
//!
//! Every file is read twice: once whole, to find all that is wrong before anything is sent, and once to
//! send it, in batches that are bounded. So no file has to fit into memory, and a bad one changes
//! nothing. What is in already is merged, so that an import which was cut off is repeated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde::Serialize;
use thiserror::Error;

use super::answer;
use super::failure::Failure;
use super::paper::{Paper, harmless, number, wants_colour};
use super::progress;
use crate::admin::{self, Answer, CallError, ImportBatch, ImportCounts, Request};
use crate::transfer::{Finding, Format, Header, Item, Kind, Lines, Options, Parsed};

/// What is to be taken in, and how.
#[derive(Debug)]
pub(super) struct Import<'i> {
    /// The files.
    pub(super) files: &'i [PathBuf],
    /// What they are; [`None`] to look.
    pub(super) format: Option<Format>,
    /// What the files do not say.
    pub(super) options: &'i Options,
    /// Only say what would come of it.
    pub(super) dry_run: bool,
    /// Leave out lines that are no records.
    pub(super) skip_bad: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Whether nothing was changed.
    pub(super) dry_run: bool,
    /// Whether a daemon was asked; otherwise the files were only read.
    pub(super) asked: bool,
    /// Records in the files.
    pub(super) records: u64,
    /// Lines that are none, and were left out.
    pub(super) bad_lines: u64,
    /// What was taken in, or would be.
    #[serde(flatten)]
    pub(super) counts: ImportCounts,
}

impl Import<'_> {
    /// Reads the files, and sends what they hold to the daemon at `socket`. What is wrong with them goes
    /// to `findings`, a line each.
    pub(super) fn run(&self, socket: &Path, mut findings: impl Write) -> Result<Report, Failure> {
        let mut report = Report {
            dry_run: self.dry_run,
            ..Report::default()
        };
        let mut checked = Vec::new();
        for path in self.files {
            checked.push(self.check(path, &mut report, &mut findings)?);
        }
        if report.bad_lines > 0 && !self.skip_bad {
            return Err(Failure::of(ImportError::Bad(report.bad_lines)));
        }
        // Before anything is sent, every file is known to be welcome.
        for file in &checked {
            match send(socket, file.batch(true)) {
                Ok(_) => report.asked = true,
                Err(CallError::NoDaemon(_)) if self.dry_run => {
                    for (kind, count) in &file.kinds {
                        count_parsed(*kind, *count, &mut report.counts);
                    }
                }
                Err(error @ CallError::NoDaemon(_)) => {
                    return Err(Failure::of(ImportError::NoDaemon(error)));
                }
                Err(error) => {
                    let path = file.path.to_owned();
                    return Err(Failure::of(ImportError::Unwelcome(path, error)));
                }
            }
        }
        if report.asked {
            for file in &checked {
                self.send(file, socket, &mut report)?;
            }
        }
        Ok(report)
    }

    /// Reads a file whole, and notes what is wrong with it.
    fn check<'f>(
        &self,
        path: &'f Path,
        report: &mut Report,
        findings: &mut impl Write,
    ) -> Result<Checked<'f>, Failure> {
        let format = self.format_of(path)?;
        let mut header = None;
        let mut kinds = BTreeMap::new();
        let mut named = 0;
        self.each(path, format, |said| {
            match said {
                Ok(Parsed::Header(found)) => header = Some(found),
                Ok(Parsed::NoCounterpart(what)) => report.counts.add_no_counterpart(what, 1),
                Ok(parsed) => {
                    if let Some(kind) = parsed.kind() {
                        report.records += 1;
                        *kinds.entry(kind).or_default() += 1;
                    }
                }
                Err(Finding { line, text }) => {
                    report.bad_lines += 1;
                    named += 1;
                    if named <= FINDINGS {
                        let text = harmless(&text);
                        writeln!(findings, "{}:{line}: {text}", path.display())?;
                    } else if named == FINDINGS + 1 {
                        writeln!(findings, "{}: and more that are like these", path.display())?;
                    }
                }
            }
            Ok(())
        })?;
        Ok(Checked {
            path,
            format,
            header,
            kinds,
        })
    }

    fn send(&self, file: &Checked<'_>, socket: &Path, report: &mut Report) -> Result<(), Failure> {
        let mut batch = file.batch(self.dry_run);
        let mut bytes = 0;
        let mut deliver = |batch: ImportBatch| {
            let records = batch.items.len() as u64;
            let counts = send(socket, batch).map_err(|error| {
                let sent = report.counts.kinds().iter().map(|(_, count)| count).sum();
                Failure::of(ImportError::Cut(sent, error))
            })?;
            report.counts.add(&counts);
            Ok::<u64, Failure>(records)
        };
        // Empty: the order as it is logged, and the length of the history.
        deliver(file.batch(self.dry_run))?;
        self.each(file.path, file.format, |said| {
            let Ok(Parsed::Item(item)) = said else {
                return Ok(());
            };
            bytes += serde_json::to_vec(&item).map_or(0, |it| it.len() + 1);
            batch.items.push(item);
            if bytes >= BATCH {
                let full = std::mem::replace(&mut batch, file.batch(self.dry_run));
                deliver(full)?;
                bytes = 0;
            }
            Ok(())
        })?;
        if !batch.items.is_empty() {
            deliver(batch)?;
        }
        Ok(())
    }

    /// Hands what each line says to `take`.
    fn each(
        &self,
        path: &Path,
        format: Format,
        mut take: impl FnMut(Result<Parsed, Finding>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let unreadable = |source| ImportError::Unreadable(path.to_owned(), source);
        let (reader, bar) = opened(path).map_err(|it| Failure::of(unreadable(it)))?;
        let mut lines = Lines::new(reader, format, self.options);
        while let Some(said) = lines
            .next_line()
            .map_err(|it| Failure::of(unreadable(it)))?
        {
            take(said)?;
            if lines.number().is_multiple_of(DRAWN) {
                bar.set_position(lines.bytes());
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn format_of(&self, path: &Path) -> Result<Format, Failure> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let unreadable = |source| ImportError::Unreadable(path.to_owned(), source);
        let (mut reader, bar) = opened(path).map_err(|it| Failure::of(unreadable(it)))?;
        bar.finish_and_clear();
        let head = reader
            .fill_buf()
            .map_err(|it| Failure::of(unreadable(it)))?;
        Format::of(head).ok_or_else(|| Failure::of(ImportError::NoFormat(path.to_owned())))
    }
}

impl Report {
    /// Shows it, to people or as JSON.
    pub(super) fn show(&self, json: bool) -> Result<(), Failure> {
        if json {
            let json = serde_json::to_string(self).expect("reports are plain data");
            return Ok(writeln!(io::stdout(), "{json}")?);
        }
        let mut paper = Paper::new(wants_colour(&io::stdout()));
        self.on(&mut paper);
        Ok(write!(io::stdout(), "{}", paper.into_text())?)
    }

    fn on(&self, paper: &mut Paper) {
        let records = number(self.records);
        paper.line(match (self.dry_run, self.asked) {
            (false, _) => format!("{records} records were read"),
            (true, true) => format!("{records} records were read; nothing is changed, but would be:"),
            (true, false) => format!(
                "{records} records were read; no daemon runs that would know which of them have lapsed:"
            ),
        });
        answer::imported(&self.counts, paper);
        if self.bad_lines > 0 {
            let bad = format!(
                "{} lines are no records and are left out",
                number(self.bad_lines)
            );
            paper.row("bad", paper.bad(&bad));
        }
    }
}

/// A file that was read whole.
struct Checked<'f> {
    path: &'f Path,
    format: Format,
    header: Option<Header>,
    /// How many of each kind it has.
    kinds: BTreeMap<Kind, u64>,
}

impl Checked<'_> {
    /// A batch of it, empty.
    fn batch(&self, dry_run: bool) -> ImportBatch {
        let header = self.header.as_ref();
        ImportBatch {
            seed_check: header.and_then(|it| it.seed_check.clone()),
            history_begun: header.and_then(|it| it.history_begun),
            dry_run,
            items: Vec::<Item>::new(),
        }
    }
}

fn opened(path: &Path) -> io::Result<(impl BufRead, ProgressBar)> {
    let file = File::open(path)?;
    let bar = progress::bytes(file.metadata()?.len());
    Ok((BufReader::with_capacity(BUFFER, file), bar))
}

fn send(socket: &Path, batch: ImportBatch) -> Result<ImportCounts, CallError> {
    match admin::call(socket, &Request::Import(batch))? {
        Answer::Imported(counts) => Ok(counts),
        other => Err(CallError::Refused(format!(
            "the daemon answered strangely: {other:?}"
        ))),
    }
}

/// Where no daemon says what would become of them.
fn count_parsed(kind: Kind, count: u64, counts: &mut ImportCounts) {
    let sum = match kind {
        Kind::Addresses => &mut counts.addresses,
        Kind::Client | Kind::Neighbours => &mut counts.clients,
        Kind::Content => &mut counts.contents,
        Kind::Helo => &mut counts.helos,
        Kind::Pair => &mut counts.pairs,
        Kind::Reputation => &mut counts.reputations,
        Kind::Sentence => &mut counts.sentences,
        Kind::Trust => &mut counts.trusted,
        Kind::Tuple => &mut counts.tuples,
    };
    *sum += count;
}

/// Why nothing, or not everything, was taken in.
#[derive(Debug, Error)]
enum ImportError {
    #[error("{} lines are no records; nothing was taken in: mend them, or leave them out with --skip-bad", number(*.0))]
    Bad(u64),
    #[error("{} records are in, the rest is not; import again, which merges what is in already", number(*.0))]
    Cut(u64, #[source] CallError),
    #[error("{} is nothing that can be told; name its --format", .0.display())]
    NoFormat(PathBuf),
    #[error("an import goes into a running daemon; nothing was taken in")]
    NoDaemon(#[source] CallError),
    #[error("{} cannot be taken in; nothing was", .0.display())]
    Unwelcome(PathBuf, #[source] CallError),
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
}

/// Findings of one file that are named.
const FINDINGS: u64 = 100;
/// Bytes from which a batch is sent. With one more record it is still below what a daemon takes.
const BATCH: usize = ImportBatch::LONGEST / 2;
/// Lines from one look at the progress to the next.
const DRAWN: u64 = 1_000;
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests;
