//! A list file: one entry a line, with comments.
//!
//! Knows lines and how large such a file may be; leaves what an entry is to `policy`. Everything that is
//! wrong is told, so that one look at the file mends it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::error::Problem;
use crate::policy::{Entry, InvalidEntry};

/// One line of a list that names somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListLine {
    /// Its number, from 1.
    pub line: usize,
    /// Whom it names.
    pub entry: Entry,
    /// What stands behind the `#` on the same line.
    pub comment: String,
}

/// The lines of `text`, and what is wrong with others.
pub fn parse(text: &str) -> (Vec<ListLine>, Vec<(usize, InvalidEntry)>) {
    let mut lines = Vec::new();
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (entry, comment) = without_comment(line);
        if entry.is_empty() {
            continue;
        }
        match entry.parse() {
            Ok(entry) => lines.push(ListLine {
                line: index + 1,
                entry,
                comment: comment.to_owned(),
            }),
            Err(error) => wrong.push((index + 1, error)),
        }
    }
    (lines, wrong)
}

/// Why a list file gives no entries.
#[derive(Debug)]
pub(super) enum Broken {
    /// It could not be read whole: what is wrong, and what to do.
    Unread(String),
    /// Lines of it are wrong.
    Lines(Vec<Problem>),
}

/// Reads the list file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<ListLine>, Broken> {
    let bytes = bytes_of(path).map_err(|what| {
        let path = path.display();
        Broken::Unread(format!("{path} {what}"))
    })?;
    let problem = |line, text: String| Problem {
        file: path.to_owned(),
        line,
        text,
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = super::document::line_at(&bytes, error.valid_up_to());
        let what = "not UTF-8; save the file as UTF-8 text".to_owned();
        Broken::Lines(vec![problem(line, what)])
    })?;
    let lines = text.lines().count();
    if lines > MOST_LINES {
        let what = format!(
            "{lines} lines are more than a list may have; write at most {MOST_LINES}, or divide it"
        );
        return Err(Broken::Lines(vec![problem(MOST_LINES + 1, what)]));
    }
    let (entries, wrong) = parse(text);
    if wrong.is_empty() {
        return Ok(entries);
    }
    let more = wrong.len().saturating_sub(TOLD);
    let mut problems: Vec<_> = wrong
        .into_iter()
        .take(TOLD)
        .map(|(line, error)| problem(line, error.to_string()))
        .collect();
    if let Some(last) = problems.last_mut().filter(|_| more > 0) {
        last.text = format!("{} (and {more} more lines of this file)", last.text);
    }
    Err(Broken::Lines(problems))
}

/// A comment begins the line, or stands behind a space: a local part may hold a `#`.
fn without_comment(line: &str) -> (&str, &str) {
    let begins = |(at, _): &(usize, &str)| {
        line[..*at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace)
    };
    match line.match_indices('#').find(begins) {
        Some((at, _)) => (line[..at].trim(), line[at + 1..].trim()),
        None => (line.trim(), ""),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| {
        let why = error.to_string();
        match error.kind() {
            io::ErrorKind::NotFound => {
                "does not exist; make it, an empty one will do, or take it out".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "may not be read; give the daemon's user the right to".to_owned()
            }
            _ => format!("cannot be read: {why}; mend that, or take it out"),
        }
    };
    // A pipe would keep the daemon waiting, and opening it does so already.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no plain file; name another".to_owned());
    }
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err("is larger than 16 MiB, which no list is; divide it".to_owned());
    }
    Ok(bytes)
}

/// Room for four times as many addresses as the largest list that was measured.
const MOST_LINES: usize = 400_000;
const LARGEST_FILE: u64 = 16 << 20;

/// Wrong lines of one file that are told: more are one mistake made again and again.
const TOLD: usize = 20;
