//! The file of a live list: one entry a line, as in any list file, with a comment that says when it was
//! listed, by whom, until when and why. What was removed is kept behind `#-`, for hosts that have not heard
//! of it.
//!
//! Written beside and renamed, and on the disk before it counts. Of a file that cannot be read as it is, what
//! can be counts and the rest is set aside, so that mail flows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::config::parse_list;
use crate::policy::{Entry, Listed, LiveList, Order, Source, Timestamp};

/// What stands in the file of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Whom it names, in the order in which they were listed.
    pub(super) listed: Vec<Listed>,
    /// Whom it named, and when they were removed.
    pub(super) removed: BTreeMap<Entry, Timestamp>,
}

/// Where a list is kept.
pub(super) fn path(directory: &Path, list: LiveList) -> PathBuf {
    directory.join(format!("live-{list}.list"))
}

/// What the file holds. One that is damaged is set aside.
pub(super) fn read(file: &Path) -> Contents {
    let (contents, wrong, is_read) = match bytes_of(file) {
        Ok(bytes) => {
            let (contents, wrong) = parse(&bytes);
            (contents, wrong, true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Contents::default(),
        Err(error) => (Contents::default(), vec![error.to_string()], false),
    };
    if !wrong.is_empty() {
        let kept = file.with_extension("broken");
        // What can be read of it stays in force, and is written anew by the next change. What cannot be
        // read cannot be copied either, and would be lost by that.
        let result = if is_read {
            fs::copy(file, &kept).map(drop)
        } else {
            fs::rename(file, &kept)
        };
        tracing::warn!(
            file = %file.display(),
            kept = %kept.display(),
            is_kept = result.is_ok(),
            entries = contents.listed.len(),
            why = wrong.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; "),
            "lists-set-aside"
        );
    }
    contents
}

/// Writes the file beside, and renames it once it is on the disk.
pub(super) fn write(directory: &Path, list: LiveList, contents: &Contents) -> io::Result<()> {
    let file = path(directory, list);
    let new = file.with_extension("new");
    let mut text = format!(
        "# Listed by `greygate {list} add`. The daemon rewrites this file; take lines out with\n\
         # `greygate {list} remove`, or copy them to a file of [lists] {list}_files.\n"
    );
    let mut line = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .expect("writing to a String cannot fail");
    };
    for listed in &contents.listed {
        if let Source::Live(order) = &listed.source {
            line(format_args!("{}  # {}\n", listed.entry, comment(order)));
        }
    }
    for (entry, at) in &contents.removed {
        line(format_args!("{REMOVED}{entry}  # {}\n", written(*at)));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut written = options.open(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, &file)?;
    File::open(directory)?.sync_all()
}

fn parse(bytes: &[u8]) -> (Contents, Vec<String>) {
    // One bad byte is the fault of its line alone.
    let mut whole = bytes;
    if bytes.len() > LARGEST {
        // A line that is cut could mean something else.
        let end = bytes.iter().rposition(|it| *it == b'\n');
        whole = &bytes[..end.unwrap_or(0)];
    }
    let text = String::from_utf8_lossy(whole);
    let mut contents = Contents::default();
    let mut wrong = Vec::new();
    if bytes.len() > LARGEST {
        wrong.push(format!(
            "what follows the first {LARGEST} bytes is not read"
        ));
    }
    if let Cow::Owned(_) = text {
        wrong.push("not all of it is UTF-8 text".to_owned());
    }
    let (lines, faults) = parse_list(&text);
    let told = |(line, why)| format!("line {line}: {why}");
    wrong.extend(faults.into_iter().map(told));
    for line in lines {
        match order_of(&line.comment) {
            Some(order) => contents.listed.push(Listed {
                entry: line.entry,
                source: Source::Live(Arc::new(order)),
            }),
            None => wrong.push(format!("line {}: no date, uid and end", line.line)),
        }
    }
    let removed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(REMOVED))
        .collect();
    // What is none of ours is a comment like any other.
    let (removed, _comments) = parse_list(&removed.join("\n"));
    for line in removed {
        if let Some(at) = read_time(&line.comment) {
            contents.removed.insert(line.entry, at);
        }
    }
    (contents, wrong)
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = LARGEST as u64 + 1;
    File::open(file)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As it is written: `2026-11-22T07:20:00Z uid=0 until=2026-11-29T07:20:00Z note=ticket 4711`.
fn comment(order: &Order) -> String {
    let mut text = format!("{} uid={}", written(order.at), order.uid);
    if let Some(until) = order.until {
        write!(text, " until={}", written(until)).expect("writing to a String cannot fail");
    }
    if !order.note.is_empty() {
        write!(text, " note={}", order.note).expect("writing to a String cannot fail");
    }
    text
}

fn order_of(comment: &str) -> Option<Order> {
    let (facts, note) = match comment.split_once(" note=") {
        Some((facts, note)) => (facts, note),
        None => (comment, ""),
    };
    let mut facts = facts.split(' ');
    let at = read_time(facts.next()?)?;
    let uid = facts.next()?.strip_prefix("uid=")?.parse().ok()?;
    let until = match facts.next() {
        Some(until) => Some(read_time(until.strip_prefix("until=")?)?),
        None => None,
    };
    Some(Order {
        at,
        uid,
        until,
        note: note.to_owned(),
    })
}

/// A time as RFC 3339 has it, in UTC.
fn written(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn read_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let mut time = time.split(':');
    let year = date.next()?.parse().ok()?;
    let month = Month::try_from(date.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, date.next()?.parse().ok()?).ok()?;
    let mut part = || time.next()?.parse::<u8>().ok();
    let time = Time::from_hms(part()?, part()?, part()?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time)
        .assume_utc()
        .unix_timestamp();
    Some(Timestamp::from_millis(
        u64::try_from(seconds).ok()?.checked_mul(1_000)?,
    ))
}

/// What a line of somebody who was removed begins with: to any other reader it is a comment.
const REMOVED: &str = "#- ";
/// Faults of a file that are logged.
const TOLD: usize = 5;
/// Bytes of a hundred thousand entries with their notes, and of as many that were removed, all as long as they may
/// be.
const LARGEST: usize = 128 << 20;
