//! Files of a log as entries: unpacked, cut into lines, each with its time and what was said.
//!
//! The form is told by content, never by a name: gzip, zstd or neither, and below that the lines of
//! syslog or either of the journal's own forms. A line has a bound, an unpacked file has none, so
//! nothing is held but one line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::maillog::{Calendar, Line, Program, Stamp};
use crate::policy::Timestamp;

/// What one of Postfix's programs said, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) time: Timestamp,
    pub(super) host: &'a [u8],
    pub(super) program: Program<'a>,
    pub(super) message: &'a [u8],
}

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cutting<'a> {
    /// Something that one of Postfix's programs, or one like it, said.
    Entry(Entry<'a>),
    /// A line without a stamp or a program like Postfix's.
    Other,
    /// A line beyond the bound, skipped.
    TooLong,
    /// There are no more.
    End,
}

/// How stamps without year and zone are to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The year of the first one; [`None`] guesses by when the file was written.
    pub(super) year: Option<i32>,
    /// Seconds before UTC.
    pub(super) ahead: i32,
    /// For what is read from standard input, which nobody says when it was written.
    pub(super) now: Timestamp,
}

/// A file that is being read.
pub(super) struct Reader {
    name: String,
    lines: Box<dyn BufRead>,
    form: Form,
    /// Bytes of the file itself, for the progress and for errors.
    taken: Arc<AtomicU64>,
    line: u64,
    buffer: Vec<u8>,
    message: Vec<u8>,
    identity: Vec<u8>,
    host: Vec<u8>,
    written: Timestamp,
    reading: Reading,
    calendar: Option<Calendar>,
    is_yearless: bool,
}

/// A log that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {} behind byte {offset} (line {line}); mend the file or leave it out",
    name
)]
pub struct ReadError {
    name: String,
    offset: u64,
    line: u64,
    source: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Syslog,
    Export,
    Json,
}

impl Reader {
    /// Opens `path`, or standard input for `-`. `taken` counts the bytes that were read of it.
    pub(super) fn open(
        path: &Path,
        reading: Reading,
        taken: Arc<AtomicU64>,
    ) -> Result<Self, ReadError> {
        let name = path.display().to_string();
        let failed = |source| ReadError {
            name: name.clone(),
            offset: 0,
            line: 0,
            source,
        };
        let counted = |inner: Box<dyn Read>| Counted {
            inner,
            taken: Arc::clone(&taken),
        };
        let (source, written) = if path == Path::new("-") {
            (counted(Box::new(io::stdin())), reading.now)
        } else {
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            if about.is_dir() {
                return Err(failed(io::Error::other("it is a directory")));
            }
            let written = about.modified().ok();
            let since = written.and_then(|it| it.duration_since(std::time::UNIX_EPOCH).ok());
            let written = since.map_or(reading.now, |it| Timestamp::NEVER.after(it));
            (counted(Box::new(file)), written)
        };
        let mut lines = unpacked(source).map_err(failed)?;
        let form = form_of(lines.fill_buf().map_err(failed)?);
        Ok(Self {
            name,
            lines,
            form,
            taken,
            line: 0,
            buffer: Vec::new(),
            message: Vec::new(),
            identity: Vec::new(),
            host: Vec::new(),
            written,
            reading,
            calendar: None,
            is_yearless: false,
        })
    }

    /// The next line.
    pub(super) fn next(&mut self) -> Result<Cutting<'_>, ReadError> {
        let line = self.line + 1;
        let read = match self.form {
            Form::Syslog | Form::Json => self.read_line(),
            Form::Export => self.read_export(),
        };
        let read = read.map_err(|source| self.failed(line, source))?;
        match read {
            Cut::End => return Ok(Cutting::End),
            Cut::TooLong => return Ok(Cutting::TooLong),
            Cut::Whole => {}
        }
        let entry = match self.form {
            Form::Syslog => {
                let Some(line) = Line::parse(&self.buffer) else {
                    return Ok(Cutting::Other);
                };
                let time = time_of(&mut self.calendar, line.stamp, self.reading, self.written);
                self.is_yearless |= matches!(line.stamp, Stamp::Yearless { .. });
                time.map(|time| Entry {
                    time,
                    host: line.host,
                    program: line.program,
                    message: line.message,
                })
            }
            Form::Json => self.json_entry(),
            Form::Export => self.export_entry(),
        };
        Ok(entry.map_or(Cutting::Other, Cutting::Entry))
    }

    /// The name for errors and the report.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a year had to be found for a stamp.
    pub(super) fn is_yearless(&self) -> bool {
        self.is_yearless
    }

    fn failed(&self, line: u64, source: io::Error) -> ReadError {
        ReadError {
            name: self.name.clone(),
            offset: self.taken.load(Ordering::Relaxed),
            line,
            source,
        }
    }

    fn read_line(&mut self) -> io::Result<Cut> {
        self.line += 1;
        take_line(&mut self.lines, &mut self.buffer)
    }

    /// Reads the fields of one entry, which an empty line ends, and keeps those of concern.
    fn read_export(&mut self) -> io::Result<Cut> {
        self.message.clear();
        self.identity.clear();
        self.host.clear();
        self.buffer.clear();
        let mut fields = Export::default();
        let mut line = Vec::new();
        let mut has_any = false;
        let mut is_too_long = false;
        loop {
            self.line += 1;
            match take_line(&mut self.lines, &mut line)? {
                Cut::End if !has_any => return Ok(Cut::End),
                Cut::End => break,
                Cut::TooLong => {
                    is_too_long = true;
                    has_any = true;
                    continue;
                }
                Cut::Whole if line.is_empty() && has_any => break,
                Cut::Whole if line.is_empty() => continue,
                Cut::Whole => has_any = true,
            }
            if let Some(at) = line.iter().position(|&byte| byte == b'=') {
                let (name, value) = (&line[..at], &line[at + 1..]);
                self.take_field(name, value, &mut fields);
            } else {
                // Its name alone: eight bytes of length, the value, and a line's end.
                let mut length = [0; 8];
                self.lines.read_exact(&mut length)?;
                let length = u64::from_le_bytes(length);
                let kept = length.min(LONGEST_LINE as u64);
                let mut value = Vec::new();
                let read = self.lines.by_ref().take(kept).read_to_end(&mut value)?;
                let rest = length - kept;
                let skipped = io::copy(&mut self.lines.by_ref().take(rest), &mut io::sink())?;
                if (read as u64) < kept || skipped < rest {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                is_too_long |= rest > 0;
                let mut end = [0];
                self.lines.read_exact(&mut end)?;
                let name = std::mem::take(&mut line);
                self.take_field(&name, &value, &mut fields);
            }
        }
        if is_too_long {
            return Ok(Cut::TooLong);
        }
        self.buffer.extend(fields.micros.to_le_bytes());
        self.buffer.extend(fields.pid.to_le_bytes());
        Ok(Cut::Whole)
    }

    fn take_field(&mut self, name: &[u8], value: &[u8], fields: &mut Export) {
        let decimal = || super::maillog::number(value).unwrap_or(0);
        match name {
            b"__REALTIME_TIMESTAMP" => fields.micros = decimal(),
            b"MESSAGE" => self.message = value.to_vec(),
            b"SYSLOG_IDENTIFIER" => self.identity = value.to_vec(),
            b"SYSLOG_PID" | b"_PID" if fields.pid == 0 || name == b"SYSLOG_PID" => {
                fields.pid = u32::try_from(decimal()).unwrap_or(0);
            }
            b"_HOSTNAME" => self.host = value.to_vec(),
            _ => {}
        }
    }

    fn export_entry(&self) -> Option<Entry<'_>> {
        let (micros, pid) = self.buffer.split_at_checked(8)?;
        let micros = u64::from_le_bytes(micros.try_into().ok()?);
        let pid = u32::from_le_bytes(pid.try_into().ok()?);
        (micros > 0).then_some(())?;
        Some(Entry {
            time: Timestamp::from_millis(micros / 1_000),
            host: &self.host,
            program: Program::named(&self.identity, pid)?,
            message: &self.message,
        })
    }

    fn json_entry(&mut self) -> Option<Entry<'_>> {
        let row: Row = serde_json::from_slice(&self.buffer).ok()?;
        let micros: u64 = row.time?.parse().ok()?;
        self.identity = row.identity?.into_bytes();
        self.message = match row.message? {
            Text::Plain(text) => text.into_bytes(),
            Text::Bytes(bytes) => bytes,
        };
        self.host = row.host.unwrap_or_default().into_bytes();
        let pid = row.pid.or(row.unit_pid).and_then(|it| it.parse().ok());
        Some(Entry {
            time: Timestamp::from_millis(micros / 1_000),
            host: &self.host,
            program: Program::named(&self.identity, pid.unwrap_or(0))?,
            message: &self.message,
        })
    }
}

fn time_of(
    calendar: &mut Option<Calendar>,
    stamp: Stamp,
    reading: Reading,
    written: Timestamp,
) -> Option<Timestamp> {
    if let Stamp::Absolute(time) = stamp {
        return Some(time);
    }
    calendar
        .get_or_insert_with(|| match reading.year {
            Some(year) => Calendar::beginning(year, reading.ahead),
            None => Calendar::guessed(stamp, written, reading.ahead),
        })
        .follow(stamp)
}

#[derive(Default)]
struct Export {
    micros: u64,
    pid: u32,
}

/// An entry of `journalctl -o json`, as far as it is of concern.
#[derive(Deserialize)]
struct Row {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identity: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
    #[serde(rename = "_HOSTNAME")]
    host: Option<String>,
    #[serde(rename = "SYSLOG_PID")]
    pid: Option<String>,
    #[serde(rename = "_PID")]
    unit_pid: Option<String>,
}

/// Text, or the bytes of what is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes(Vec<u8>),
}

enum Cut {
    Whole,
    TooLong,
    End,
}

/// Reads a line without its end into `line`, or skips one that is longer than the bound.
fn take_line(lines: &mut Box<dyn BufRead>, line: &mut Vec<u8>) -> io::Result<Cut> {
    line.clear();
    let bound = LONGEST_LINE as u64 + 1;
    if lines.by_ref().take(bound).read_until(b'\n', line)? == 0 {
        return Ok(Cut::End);
    }
    if line.last() != Some(&b'\n') && line.len() > LONGEST_LINE {
        line.clear();
        lines.skip_until(b'\n')?;
        return Ok(Cut::TooLong);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Cut::Whole)
}

/// What is packed in `source`, by the first bytes of it.
fn unpacked(mut source: Counted) -> io::Result<Box<dyn BufRead>> {
    // A pipe may give its first bytes one by one.
    let mut begin = Vec::new();
    source.by_ref().take(4).read_to_end(&mut begin)?;
    let magic = begin.clone();
    let source = BufReader::with_capacity(BUFFER, io::Cursor::new(begin).chain(source));
    Ok(match *magic {
        [0x1f, 0x8b, ..] => {
            let unpacked = MultiGzDecoder::new(source);
            Box::new(BufReader::with_capacity(BUFFER, unpacked))
        }
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            let unpacked = Zstd {
                source,
                decoder: ruzstd::decoding::FrameDecoder::new(),
                is_within: false,
            };
            Box::new(BufReader::with_capacity(BUFFER, unpacked))
        }
        _ => Box::new(source),
    })
}

/// A file, of which the first bytes were looked at.
type Source = BufReader<io::Chain<io::Cursor<Vec<u8>>, Counted>>;

/// The frames of a zstd archive, one after the other.
struct Zstd {
    source: Source,
    decoder: ruzstd::decoding::FrameDecoder,
    is_within: bool,
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy;
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        loop {
            if !self.is_within {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.reset(&mut self.source) {
                    Ok(()) => self.is_within = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        let length = u64::from(length);
                        let mut rest = self.source.by_ref().take(length);
                        if io::copy(&mut rest, &mut io::sink())? < length {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            let wanted = into.len().max(1);
            if self.decoder.can_collect() < wanted && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(wanted))
                    .map_err(io::Error::other)?;
            }
            let read = self.decoder.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                check_sum(&self.decoder)?;
                self.is_within = false;
            }
        }
    }
}

/// A frame may end with a checksum of what was in it.
fn check_sum(decoder: &ruzstd::decoding::FrameDecoder) -> io::Result<()> {
    let told = decoder.get_checksum_from_data();
    let found = decoder.get_calculated_checksum();
    match (told, found) {
        (Some(told), Some(found)) if told != found => {
            Err(io::Error::other("the checksum of a zstd frame is wrong"))
        }
        _ => Ok(()),
    }
}

/// Tells the journal's two forms from lines of syslog by what comes first.
fn form_of(begin: &[u8]) -> Form {
    match begin {
        [b'{', ..] => Form::Json,
        [b'_', b'_', ..] => Form::Export,
        _ => Form::Syslog,
    }
}

struct Counted {
    inner: Box<dyn Read>,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Puts files in the order of the first times in them; what has none comes last, as standard input
/// does, of which nothing can be read twice.
pub(super) fn in_order(paths: &[PathBuf], reading: Reading) -> Result<Vec<PathBuf>, ReadError> {
    let mut timed = Vec::new();
    for path in paths {
        timed.push((first_time(path, reading)?.unwrap_or(LAST), path.clone()));
    }
    timed.sort_by_key(|(time, _)| *time);
    Ok(timed.into_iter().map(|(_, path)| path).collect())
}

fn first_time(path: &Path, reading: Reading) -> Result<Option<Timestamp>, ReadError> {
    // Nor can a pipe.
    let is_read_once =
        path == Path::new("-") || std::fs::metadata(path).is_ok_and(|it| !it.is_file());
    if is_read_once && !path.is_dir() {
        return Ok(None);
    }
    let mut reader = Reader::open(path, reading, Arc::default())?;
    for _ in 0..LINES_TO_A_STAMP {
        match reader.next()? {
            Cutting::Entry(entry) => return Ok(Some(entry.time)),
            Cutting::End => break,
            Cutting::Other | Cutting::TooLong => {}
        }
    }
    Ok(None)
}

const LAST: Timestamp = Timestamp::from_millis(u64::MAX);
/// Lines that are looked through for the first time in a file.
const LINES_TO_A_STAMP: usize = 100_000;
/// Postfix cuts its lines at 2,000 bytes, and the journal adds a few kilobytes of fields.
const LONGEST_LINE: usize = 64 << 10;
const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod tests;
