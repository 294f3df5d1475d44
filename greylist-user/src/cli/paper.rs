//! Aligned text for people, coloured where it is shown on a terminal.

use std::fmt::{self, Display, Write};
use std::io::IsTerminal;

/// Whether text for `stream` may be coloured: it is a terminal, and `NO_COLOR` is not set.
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Paper {
    colour: bool,
    text: String,
}

impl Paper {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            text: String::new(),
        }
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: impl Display) {
        writeln!(self.text, "{text}").expect(CANNOT_FAIL);
    }

    /// A label with its value, in two columns.
    pub(super) fn row(&mut self, label: &str, value: impl Display) {
        let label = format!("{label:LABEL$}");
        let label = self.paint(DIM, &label);
        writeln!(self.text, "{label}  {value}").expect(CANNOT_FAIL);
    }

    /// A table, each column as wide as its widest cell.
    pub(super) fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) {
        let mut widths = head.map(str::len);
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let head = aligned(&head, &widths);
        self.line(self.paint(DIM, &head));
        for row in rows {
            self.line(aligned(row, &widths));
        }
    }

    /// Breaks what was written so far, where a line is longer than `columns`, at a blank; what follows
    /// stands under the values.
    pub(super) fn fold(&mut self, columns: usize) {
        let lines = self.text.lines().map(|line| folded(line, columns));
        self.text = lines.collect();
    }

    pub(super) fn good(&self, text: &str) -> Painted {
        self.paint(GREEN, text)
    }

    pub(super) fn bad(&self, text: &str) -> Painted {
        self.paint(RED, text)
    }

    pub(super) fn dim(&self, text: &str) -> Painted {
        self.paint(DIM, text)
    }

    pub(super) fn bold(&self, text: &str) -> Painted {
        self.paint(BOLD, text)
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn paint(&self, code: &'static str, text: &str) -> Painted {
        Painted {
            code: if self.colour { code } else { "" },
            text: text.to_owned(),
        }
    }
}

/// Text with its colour, or without.
#[derive(Debug)]
pub(super) struct Painted {
    code: &'static str,
    text: String,
}

impl Display for Painted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "\x1b[{}m{}\x1b[0m", self.code, self.text)
        }
    }
}

/// A text that strangers may have chosen, without what steers a terminal or turns its lines around.
pub(super) fn harmless(text: &str) -> String {
    without_harm(text, |letter, harmless| {
        harmless.extend(letter.escape_default());
    })
}

/// The same of JSON, in which such letters stand in strings alone.
pub(super) fn harmless_json(json: &str) -> String {
    without_harm(json, |letter, harmless| {
        write!(harmless, "\\u{:04x}", u32::from(letter)).expect(CANNOT_FAIL);
    })
}

fn without_harm(text: &str, escape: impl Fn(char, &mut String)) -> String {
    let is_harmful = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut harmless = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_harmful(letter) {
            escape(letter, &mut harmless);
        } else {
            harmless.push(letter);
        }
    }
    harmless
}

/// A number with its digits in groups.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The line, and its end, in as many lines as it needs.
fn folded(line: &str, columns: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (index, word) in line.split(' ').enumerate() {
        let width = visible(word);
        if index > 0 && used > LABEL + 2 && used + 1 + width > columns {
            text.truncate(text.trim_end().len());
            write!(text, "\n{:1$}", "", LABEL + 2).expect(CANNOT_FAIL);
            used = LABEL + 2;
        } else if index > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += width;
    }
    text.push('\n');
    text
}

/// How many columns a text takes, its colours being none.
fn visible(text: &str) -> usize {
    let mut parts = text.split('\x1b');
    let first = parts.next().map_or(0, |it| it.chars().count());
    let coloured = parts.map(|it| it.split_once('m').map_or(0, |(_, it)| it.chars().count()));
    first + coloured.sum::<usize>()
}

fn aligned(cells: &[impl AsRef<str>], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        write!(line, "{:width$}  ", cell.as_ref()).expect(CANNOT_FAIL);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Wide enough for every label.
const LABEL: usize = 12;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

const CANNOT_FAIL: &str = "writing to a String cannot fail";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut paper = Paper::new(false);
        let row = |one: &str, two: &str| [one.to_owned(), two.to_owned()];
        paper.table(
            ["client", "left"],
            &[row("192.0.2.7", "3m"), row("::/64", "1h")],
        );
        assert_eq!(
            paper.into_text(),
            "client     left\n192.0.2.7  3m\n::/64      1h\n"
        );
    }

    #[test]
    fn colours_only_when_asked() {
        assert_eq!(Paper::new(false).bad("full").to_string(), "full");
        assert_eq!(
            Paper::new(true).bad("full").to_string(),
            "\x1b[31mfull\x1b[0m"
        );
    }

    #[test]
    fn long_rows_are_folded_at_blanks_whatever_their_colour() {
        for colour in [false, true] {
            let mut paper = Paper::new(colour);
            let long = paper
                .bad("one two three four five six seven eight nine ten eleven twelve thirteen")
                .to_string();
            paper.row("health", long);
            paper.row("kernel", "short");
            paper.fold(40);
            let text = paper.into_text();
            assert!(text.lines().all(|line| visible(line) <= 40), "{text}");
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(
                visible(lines[0]),
                "health        one two three four five".len()
            );
            assert!(lines[1].starts_with("              six"), "{text}");
            assert!(text.ends_with("short\n"), "{text}");
        }
    }

    #[test]
    fn what_strangers_chose_steers_no_terminal() {
        let evil = "a\u{1b}[31m\u{9b}31m\u{202e}b\u{2066}\u{7f}\n\u{e4}";
        let told = harmless(evil);
        assert_eq!(
            told,
            r"a\u{1b}[31m\u{9b}31m\u{202e}b\u{2066}\u{7f}\n".to_owned() + "\u{e4}"
        );
        let json = harmless_json(&serde_json::to_string(evil).expect("plain data"));
        let harmful = ['\u{9b}', '\u{202e}', '\u{2066}', '\u{7f}'];
        assert!(
            !json.contains(char::is_control) && !json.contains(harmful),
            "{json}"
        );
        let read: String = serde_json::from_str(&json).expect("it is JSON still");
        assert_eq!(read, evil);
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(4_000_000), "4,000,000");
    }
}
