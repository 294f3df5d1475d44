//! Which formats there are, what they have in common, and how one is told from another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::civil;
use super::item::{Item, Kind};
use super::jsonl::{End, Header, JsonLines};
use super::milter_greylist::MilterGreylist;
use super::postgrey::Postgrey;
use super::sqlgrey::SqlGrey;
use crate::policy::Timestamp;

/// Who wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `greygate export`.
    JsonLines,
    /// milter-greylist: its `greylist.db`.
    MilterGreylist,
    /// Postgrey: `postgrey.db` or `postgrey_clients.db` through `db_dump`, with or without `-p`.
    Postgrey,
    /// SQLgrey: the tables `connect`, `from_awl` and `domain_awl` as CSV.
    SqlGrey,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::JsonLines,
        Self::MilterGreylist,
        Self::Postgrey,
        Self::SqlGrey,
    ];

    /// The word for it on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::MilterGreylist => "milter-greylist",
            Self::Postgrey => "postgrey",
            Self::SqlGrey => "sqlgrey",
        }
    }

    /// What a file that begins with `head` is, as far as its first lines tell.
    pub fn of(head: &[u8]) -> Option<Self> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines().map(str::trim);
        let first = lines.clone().find(|line| !line.is_empty())?;
        if first.starts_with('{') {
            return Some(Self::JsonLines);
        }
        if first.starts_with("VERSION=") {
            return Some(Self::Postgrey);
        }
        if first.starts_with('#') {
            let says = |line: &str| line.starts_with('#') && line.contains("milter-greylist");
            return lines.any(says).then_some(Self::MilterGreylist);
        }
        let options = Options::default();
        [Self::SqlGrey, Self::MilterGreylist]
            .into_iter()
            .find(|format| {
                let mut parser = format.parser(&options);
                let parsed = parser.line(first);
                parsed.is_ok()
            })
    }

    /// What reads it.
    pub fn parser(self, options: &Options) -> Box<dyn Parser> {
        match self {
            Self::JsonLines => Box::<JsonLines>::default(),
            Self::MilterGreylist => Box::new(MilterGreylist::new(options)),
            Self::Postgrey => Box::new(Postgrey::new(options)),
            Self::SqlGrey => Box::new(SqlGrey::new(options)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = Self::ALL.into_iter();
        all.clone()
            .find(|format| format.as_str() == word)
            .ok_or_else(|| {
                let words: Vec<_> = all.map(Self::as_str).collect();
                format!("{word:?} is no format; write {} or auto", words.join(", "))
            })
    }
}

/// What the files of other greylisters do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How long the other one deferred; [`None`] is that program's own default.
    pub delay: Option<Duration>,
    /// How long it trusted after the last use; [`None`] is that program's own default.
    pub trust: Option<Duration>,
    /// Seconds east of UTC of times that name no zone.
    pub offset: i32,
    /// The present, after which nothing was.
    pub now: Timestamp,
}

impl Options {
    /// Reads a zone such as `+01:00`.
    pub fn parse_offset(text: &str) -> Result<i32, String> {
        civil::parse_offset(text)
            .ok_or_else(|| format!("{text:?} is no zone; write +HH:MM or -HH:MM"))
    }
}

/// What one line said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// What the file says of itself.
    Header(Header),
    /// The end that a whole file has.
    End(End),
    /// Something to take in.
    Item(Item),
    /// Something there is no counterpart of, and what it is.
    NoCounterpart(&'static str),
    /// Nothing: a comment, an empty line, a part of something.
    Nothing,
}

impl Parsed {
    /// The kind of what is to be taken in.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Item(item) => Some(item.kind()),
            _ => None,
        }
    }
}

/// Reads one file, line by line.
pub trait Parser {
    /// What a line says, without its line feed; or what is wrong with it.
    fn line(&mut self, line: &str) -> Result<Parsed, String>;

    /// What is wrong with a file that ends here.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_lines() {
        for (head, format) in [
            (
                "{\"greygate\":\"export\",\"format\":1}\n",
                Some(Format::JsonLines),
            ),
            ("VERSION=3\nformat=bytevalue\n", Some(Format::Postgrey)),
            (
                "#\n# milter-greylist databases, dumped by milter-greylist-4.6.2 on x.\n",
                Some(Format::MilterGreylist),
            ),
            (
                "192.0.2.7\t<a@b.example>\t<c@d.example>\t1800000000 AUTO\n",
                Some(Format::MilterGreylist),
            ),
            (
                "src,sender_domain,first_seen,last_seen\n",
                Some(Format::SqlGrey),
            ),
            (
                "a,b.example,192.0.2,c@d.example,2026-11-21 08:15:00\n",
                Some(Format::SqlGrey),
            ),
            ("# a list of mine\n192.0.2.7\n", None),
            ("", None),
            ("\0\u{1}\u{2}", None),
        ] {
            assert_eq!(Format::of(head.as_bytes()), format, "{head}");
        }
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
    }
}
