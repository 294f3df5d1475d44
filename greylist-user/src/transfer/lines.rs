//! A file as its parser sees it: line by line, none longer than a bound.

use std::io::{self, BufRead, Read};

use super::format::{Format, Options, Parsed, Parser};

/// The lines of one file, each with its number and what it says.
pub struct Lines<R> {
    from: R,
    parser: Box<dyn Parser>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    has_ended: bool,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its number, from 1.
    pub line: u64,
    /// What, and what to do.
    pub text: String,
}

impl<R: BufRead> Lines<R> {
    /// Reads `from` as a file of `format`.
    pub fn new(from: R, format: Format, options: &Options) -> Self {
        Self {
            from,
            parser: format.parser(options),
            line: Vec::new(),
            number: 0,
            bytes: 0,
            has_ended: false,
        }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of the line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What the next line says; [`None`] at the end of the file.
    pub fn next_line(&mut self) -> io::Result<Option<Result<Parsed, Finding>>> {
        if self.has_ended {
            return Ok(None);
        }
        self.line.clear();
        let mut bounded = (&mut self.from).take(LONGEST_LINE);
        let read = bounded.read_until(b'\n', &mut self.line)? as u64;
        self.bytes += read;
        if read == 0 {
            self.has_ended = true;
            let end = self.parser.end();
            return Ok(end.err().map(|text| Err(self.finding(text))));
        }
        self.number += 1;
        if read == LONGEST_LINE && self.line.last() != Some(&b'\n') {
            self.skip_line()?;
            return Ok(Some(Err(
                self.finding("the line is longer than any record".to_owned())
            )));
        }
        while matches!(self.line.last(), Some(b'\n' | b'\r')) {
            self.line.pop();
        }
        let parsed = match std::str::from_utf8(&self.line) {
            Ok(line) => self.parser.line(line),
            Err(_) => Err("the line is not UTF-8".to_owned()),
        };
        Ok(Some(parsed.map_err(|text| self.finding(text))))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let available = self.from.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            self.from.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                return Ok(());
            }
        }
    }

    fn finding(&self, text: String) -> Finding {
        Finding {
            line: self.number,
            text,
        }
    }
}

/// Addresses have at most 320 bytes, written as hexadecimal digits 640, and a line a few of them.
const LONGEST_LINE: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], format: Format) -> Vec<Result<Parsed, Finding>> {
        let mut lines = Lines::new(bytes, format, &Options::default());
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().expect("memory is readable") {
            read.push(line);
        }
        assert_eq!(lines.bytes(), bytes.len() as u64);
        read
    }

    #[test]
    fn line_that_is_too_long_is_one_finding() {
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\n# a comment\n");
        let read = read(&text, Format::MilterGreylist);
        assert_eq!(read.len(), 2);
        let finding = read[0].as_ref().expect_err("no record is as long");
        assert_eq!(finding.line, 1);
        assert_eq!(read[1], Ok(Parsed::Nothing));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_to_their_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            for format in Format::ALL {
                read(&bytes, format);
            }
            let _format_or_none = Format::of(&bytes);
        }

        #[test]
        fn likely_text_is_read_to_its_end(
            text in "([0-9]{1,3}[./,\t ]|<>|[a-z@:#=\"\\\\{}|-]|AUTO|TARPIT|,|\t|\n|VERSION=3\n|format=print\n|HEADER=END\n|DATA=END\n){0,80}",
        ) {
            for format in Format::ALL {
                read(text.as_bytes(), format);
            }
        }
    }
}
