//! The text that Berkeley DB's `db_dump` writes: a header, then keys and values, one a line, each
//! behind a space; printable (`-p`, with `\` before two hexadecimal digits) or all hexadecimal.

/// What a line of it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dumped {
    /// A part of the header, the end, or a key of which the value follows.
    Part,
    /// A key with its value.
    Entry(Vec<u8>, Vec<u8>),
}

/// Reads the text line by line.
#[derive(Debug, Default)]
pub(super) struct DbDump {
    is_data: bool,
    is_printable: bool,
    key: Option<Vec<u8>>,
    has_ended: bool,
}

impl DbDump {
    pub(super) fn line(&mut self, line: &str) -> Result<Dumped, String> {
        if !self.is_data {
            return self.header(line);
        }
        if line == "DATA=END" {
            self.is_data = false;
            self.has_ended = true;
            return match self.key.take() {
                None => Ok(Dumped::Part),
                Some(_) => Err("the last key has no value".to_owned()),
            };
        }
        let text = line
            .strip_prefix(' ')
            .ok_or("a line of data begins with a space; make the file with db_dump")?;
        let bytes = if self.is_printable {
            printable(text)
        } else {
            hexadecimal(text)
        };
        let bytes = bytes.ok_or("the line is not as its header says that lines are")?;
        match self.key.take() {
            None => {
                self.key = Some(bytes);
                Ok(Dumped::Part)
            }
            Some(key) => Ok(Dumped::Entry(key, bytes)),
        }
    }

    pub(super) fn end(&self) -> Result<(), String> {
        if self.has_ended && !self.is_data {
            Ok(())
        } else {
            Err("the file ends before DATA=END: it is not whole".to_owned())
        }
    }

    fn header(&mut self, line: &str) -> Result<Dumped, String> {
        match line.split_once('=') {
            Some(("format", "print")) => self.is_printable = true,
            Some(("format", "bytevalue")) => self.is_printable = false,
            Some(("HEADER", "END")) => {
                self.is_data = true;
                self.has_ended = false;
            }
            // More than one database may follow each other.
            Some(("keys", "0")) => return Err("the file was made without keys".to_owned()),
            Some(_) => {}
            None => return Err("no line of a header; make the file with db_dump".to_owned()),
        }
        Ok(Dumped::Part)
    }
}

fn printable(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        rest = match rest {
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                tail
            }
            [high, low, tail @ ..] => {
                bytes.push(octet(*high, *low)?);
                tail
            }
            _ => return None,
        };
    }
    Some(bytes)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => octet(*high, *low),
            _ => None,
        })
        .collect()
}

fn octet(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let value = digit(high)? * 16 + digit(low)?;
    u8::try_from(value).ok()
}
