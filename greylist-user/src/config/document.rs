//! The parsed file, with the place of every value.
//!
//! Knows TOML, lines, and which keys were asked for; leaves what a key means to `model`.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::{Table, Visitor};
use super::value::{Fault, Setting, show_bounds};

/// A file that is being read: takes the value of each key it is asked for, and collects what is
/// wrong, so that one run tells the operator everything.
pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
    /// The section whose keys are being asked for.
    section: &'static str,
    /// Sections that may stand any number of times, `[[section]]`.
    repeated: Vec<&'static str>,
    /// Which of them is being asked.
    row: usize,
    /// Every key that was asked for: what is left in the file is unknown.
    known: Vec<(&'static str, &'static str)>,
    places: BTreeMap<(&'static str, &'static str), usize>,
    problems: Vec<Problem>,
}

impl<'t> Document<'t> {
    /// Parses the text as TOML.
    pub(super) fn parse(file: &'t Path, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file,
            text,
            root: root.into_inner(),
            section: "",
            repeated: Vec::new(),
            row: 0,
            known: Vec::new(),
            places: BTreeMap::new(),
            problems: Vec::new(),
        };
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            document.problem(at, error.message().trim().replace('\n', ", "));
        }
        if document.problems.is_empty() {
            Ok(document)
        } else {
            // What follows a broken line is guesswork: the first error is the one to mend.
            document.problems.truncate(1);
            Err(document.problems)
        }
    }

    /// The line on which `key` is set, from 1, if the file sets it.
    pub(super) fn line_of(&self, section: &'static str, key: &'static str) -> Option<usize> {
        self.places.get(&(section, key)).copied()
    }

    /// Says that what the file, or the default, has for `key` cannot be.
    pub(super) fn refuse(&mut self, section: &'static str, key: &'static str, what: &str) {
        let line = self.line_of(section, key).unwrap_or(0);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            text: format!("[{section}] {key}: {what}"),
        });
    }

    /// Says what is wrong with one of the values of `key`, which stands `at` this place in the file.
    pub(super) fn refuse_at(
        &mut self,
        section: &'static str,
        key: &'static str,
        at: usize,
        what: &str,
    ) {
        let line = self.line_at(at);
        self.refuse_line(section, key, line, what);
    }

    /// Says what is wrong with `key` on this line, 0 if it is none of the file.
    pub(super) fn refuse_line(
        &mut self,
        section: &'static str,
        key: &'static str,
        line: usize,
        what: &str,
    ) {
        let section = self.shown(section);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            text: format!("{section} {key}: {what}"),
        });
    }

    /// Takes note of what is wrong in another file, which this one names.
    pub(super) fn complain(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
    }

    /// The file, as it is named in errors.
    pub(super) fn file(&self) -> &Path {
        self.file
    }

    fn shown(&self, section: &str) -> String {
        if self.repeated.contains(&section) {
            format!("[[{section}]]")
        } else {
            format!("[{section}]")
        }
    }

    /// Everything that was wrong, in the order of the file, once all keys have been asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let root = std::mem::take(&mut self.root);
        for (name, value) in &root {
            match value.get_ref() {
                // What is not a table has been said.
                DeValue::Array(rows) if self.repeated.contains(&&**name.get_ref()) => {
                    let tables = rows.iter().filter_map(|row| row.get_ref().as_table());
                    for key in tables.flat_map(DeTable::keys) {
                        self.check_known(name.get_ref(), key);
                    }
                }
                _ if self.repeated.contains(&&**name.get_ref()) => {}
                DeValue::Table(table) if self.has_section(name.get_ref()) => {
                    for key in table.keys() {
                        self.check_known(name.get_ref(), key);
                    }
                }
                DeValue::Table(_) | DeValue::Array(_) if !self.has_key(name.get_ref()) => {
                    let sections = self.sections();
                    let near = nearest(name.get_ref(), sections.iter().copied());
                    let hint = if let Some(near) = near {
                        format!("did you mean {}?", self.shown(near))
                    } else {
                        let all: Vec<_> = sections.iter().map(|it| self.shown(it)).collect();
                        format!("the sections are {}", all.join(" "))
                    };
                    self.problem(name.span(), format!("unknown section [{name}]; {hint}"));
                }
                _ => {
                    let hint = match self.home_of(name.get_ref()) {
                        Some(section) => format!("it belongs below a line [{section}]"),
                        None => "write it below the line of its section".to_owned(),
                    };
                    self.problem(name.span(), format!("{name} stands in no section; {hint}"));
                }
            }
        }
        // Those of other files come behind.
        let own = self.file;
        self.problems
            .sort_by_key(|it| ((it.file != own).then(|| it.file.clone()), it.line));
        self.problems
    }

    fn check_known(&mut self, section: &str, key: &Spanned<std::borrow::Cow<'_, str>>) {
        let name: &str = key.get_ref();
        if self.known.contains(&(section, name)) {
            return;
        }
        let siblings = self
            .known
            .iter()
            .filter(|(home, _)| *home == section)
            .map(|(_, key)| *key);
        let hint = match (nearest(name, siblings.clone()), self.home_of(name)) {
            (_, Some(home)) => format!("it belongs in [{home}]"),
            (Some(near), None) => format!("did you mean {near}?"),
            (None, None) => {
                format!("its keys are {}", siblings.collect::<Vec<_>>().join(", "))
            }
        };
        self.problem(
            key.span(),
            format!("{} has no key {name:?}; {hint}", self.shown(section)),
        );
    }

    /// The first section that has a key of this name.
    fn home_of(&self, key: &str) -> Option<&'static str> {
        let found = self.known.iter().find(|(_, known)| *known == key);
        found.map(|(section, _)| *section)
    }

    fn has_key(&self, key: &str) -> bool {
        self.home_of(key).is_some()
    }

    fn has_section(&self, name: &str) -> bool {
        self.known.iter().any(|(section, _)| *section == name)
    }

    fn sections(&self) -> Vec<&'static str> {
        let mut sections: Vec<_> = self.known.iter().map(|(section, _)| *section).collect();
        sections.dedup();
        sections
    }

    fn problem(&mut self, at: Range<usize>, text: String) {
        let line = self.line_at(at.start);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            text,
        });
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }

    /// Takes the value of `key` in the present section, if the file sets it and it is legal.
    fn take<T>(&mut self, key: &'static str, judge: impl Fn(T) -> Result<T, String>) -> Option<T>
    where
        T: Setting,
    {
        let section = self.section;
        self.known.push((section, key));
        let table = match self.root.get(section)?.get_ref() {
            DeValue::Array(rows) => rows.get(self.row)?.get_ref().as_table()?,
            table => table.as_table()?,
        };
        let (name, value) = table.get_key_value(key)?;
        let (place, read) = (name.span().start, T::read(value));
        self.places.insert((section, key), self.line_at(place));
        let read =
            read.and_then(|value_read| judge(value_read).map_err(|what| Fault::new(value, what)));
        match read {
            Ok(value) => Some(value),
            Err(Fault { at, what }) => {
                let section = self.shown(section);
                self.problem(at, format!("{section} {key}: {what}"));
                None
            }
        }
    }
}

impl Visitor for Document<'_> {
    fn section(&mut self, name: &'static str, _about: &str) {
        self.section = name;
    }

    fn repeated<T: Table>(
        &mut self,
        name: &'static str,
        _about: &str,
        template: &T,
        target: &mut Vec<T>,
    ) {
        self.section = name;
        self.repeated.push(name);
        let rows = match self.root.get(name) {
            None => Vec::new(),
            Some(value) => match value.get_ref() {
                DeValue::Array(rows) => rows
                    .iter()
                    .map(|row| (row.span(), row.get_ref().as_table().is_some()))
                    .collect(),
                _ => vec![(value.span(), false)],
            },
        };
        if rows.is_empty() {
            // Its keys are known all the same.
            template.clone().visit(self);
        }
        for (row, (at, is_table)) in rows.into_iter().enumerate() {
            self.row = row;
            self.places.retain(|(section, _), _| *section != name);
            if !is_table {
                let what =
                    format!("each is a section of its own; write it below a line [[{name}]]");
                self.problem(at, format!("{name}: {what}"));
                continue;
            }
            let mut table = template.clone();
            table.visit(self);
            let header = self.line_at(at.start);
            table.note_lines(&|key| self.line_of(name, key).unwrap_or(header));
            target.push(table);
        }
        self.row = 0;
    }

    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, _why: &str) {
        if let Some(value) = self.take(name, Ok) {
            *target = value;
        }
    }

    fn bounded<T: Setting + PartialOrd>(
        &mut self,
        name: &'static str,
        target: &mut T,
        bounds: impl RangeBounds<T>,
        _why: &str,
    ) {
        let within = |value: T| {
            if bounds.contains(&value) {
                Ok(value)
            } else {
                let bounds = show_bounds(&bounds);
                Err(format!(
                    "{} is out of range; write one {bounds}",
                    value.show()
                ))
            }
        };
        if let Some(value) = self.take(name, within) {
            *target = value;
        }
    }
}

/// The line, from 1, of the byte at `offset`.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    before.split(|byte| *byte == b'\n').count()
}

/// What was probably meant by a misspelt name.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3 || *distance == 1)
        .min()
        .map(|(_, candidate)| candidate)
}
