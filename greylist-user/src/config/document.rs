//! The parsed file, with the place of every value.
//!
//! Knows TOML, lines, and which keys were asked for; leaves what a key means to `model`.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::{Table, Visitor};
use super::overrides::Override;
use super::value::{Fault, Setting, Value, out_of_range};

/// A file that is being read: takes the value of each key it is asked for, and collects what is
/// wrong, so that one run tells the operator everything.
pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
    /// What the command line sets above it.
    overrides: Vec<Layer<'t>>,
    /// It is no TOML, and what follows a broken line may not stand where it was meant to.
    is_broken: bool,
    /// The section whose keys are being asked for.
    section: &'static str,
    /// Sections that may stand any number of times, `[[section]]`.
    repeated: Vec<&'static str>,
    /// Which of them is being asked.
    row: usize,
    /// Every key that was asked for: what is left in the file is unknown.
    known: Vec<(&'static str, &'static str)>,
    places: BTreeMap<(&'static str, &'static str), Place>,
    problems: Vec<Problem>,
}

/// One override, parsed.
struct Layer<'t> {
    given: &'t Override,
    table: DeTable<'t>,
}

/// Where a value was set.
#[derive(Clone, Copy)]
enum Place {
    /// On this line of the file, from 1.
    Line(usize),
    /// By the override of this index.
    Override(usize),
}

impl<'t> Document<'t> {
    /// Parses the text as TOML. Of one that is none, every error is found, and what values can be
    /// made out are judged.
    pub(super) fn parse(file: &'t Path, text: &'t str, overrides: &'t [Override]) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let layer = |given: &'t Override| Layer {
            given,
            table: DeTable::parse_recoverable(given.line()).0.into_inner(),
        };
        let mut document = Self {
            file,
            text,
            root: root.into_inner(),
            overrides: overrides.iter().map(layer).collect(),
            is_broken: !errors.is_empty(),
            section: "",
            repeated: Vec::new(),
            row: 0,
            known: Vec::new(),
            places: BTreeMap::new(),
            problems: Vec::new(),
        };
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            let line = document.line_at(at.start);
            // Of one line, the first error is the one to mend.
            if document.problems.iter().all(|it| it.line != line) {
                document.problem(at, error.message().trim().replace('\n', ", "));
            }
        }
        document
    }

    /// Whether it is no TOML, so that nothing can be said of what is not in it.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether the file, or an override, sets `key`.
    pub(super) fn is_set(&self, section: &'static str, key: &'static str) -> bool {
        self.places.contains_key(&(section, key))
    }

    /// Says that what the file, or the default, has for `key` cannot be.
    pub(super) fn refuse(&mut self, section: &'static str, key: &'static str, what: &str) {
        let (file, line) = match self.places.get(&(section, key)) {
            Some(Place::Line(line)) => (self.file.to_owned(), *line),
            Some(Place::Override(index)) => (self.option(*index), 0),
            None => (self.file.to_owned(), 0),
        };
        let text = format!("[{section}] {key}: {what}");
        self.problems.push(Problem { file, line, text });
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
        for index in 0..self.overrides.len() {
            let given = self.overrides[index].given;
            let unknown = if self.has_section(given.section()) {
                self.unknown_key(given.section(), given.key())
            } else {
                Some(self.unknown_section(given.section()))
            };
            if let Some(text) = unknown {
                let file = self.option(index);
                self.problems.push(Problem {
                    file,
                    line: 0,
                    text,
                });
            }
        }
        if !self.is_broken {
            self.check_all_known();
        }
        // Those of other files come behind.
        let own = self.file;
        self.problems
            .sort_by_key(|it| ((it.file != own).then(|| it.file.clone()), it.line));
        self.problems
    }

    fn check_all_known(&mut self) {
        let root = std::mem::take(&mut self.root);
        for (name, value) in &root {
            match value.get_ref() {
                // What is not a table has been said.
                DeValue::Array(rows) if self.repeated.contains(&&**name.get_ref()) => {
                    let tables = rows.iter().filter_map(|row| row.get_ref().as_table());
                    for key in tables.flat_map(DeTable::keys) {
                        if let Some(text) = self.unknown_key(name.get_ref(), key.get_ref()) {
                            self.problem(key.span(), text);
                        }
                    }
                }
                _ if self.repeated.contains(&&**name.get_ref()) => {}
                DeValue::Table(table) if self.has_section(name.get_ref()) => {
                    for key in table.keys() {
                        if let Some(text) = self.unknown_key(name.get_ref(), key.get_ref()) {
                            self.problem(key.span(), text);
                        }
                    }
                }
                DeValue::Table(_) | DeValue::Array(_) if !self.has_key(name.get_ref()) => {
                    let text = self.unknown_section(name.get_ref());
                    self.problem(name.span(), text);
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
    }

    fn unknown_section(&self, name: &str) -> String {
        let sections = self.sections();
        let hint = if let Some(near) = nearest(name, sections.iter().copied()) {
            format!("did you mean {}?", self.shown(near))
        } else {
            let all: Vec<_> = sections.iter().map(|it| self.shown(it)).collect();
            format!("the sections are {}", all.join(" "))
        };
        format!("unknown section [{name}]; {hint}")
    }

    /// What there is to say of a key that `section` does not have.
    fn unknown_key(&self, section: &str, name: &str) -> Option<String> {
        if self.known.contains(&(section, name)) {
            return None;
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
        Some(format!(
            "{} has no key {name:?}; {hint}",
            self.shown(section)
        ))
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
    fn take<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        let section = self.section;
        self.known.push((section, key));
        let of_file = self.root.get(section).and_then(|it| match it.get_ref() {
            DeValue::Array(rows) => rows.get(self.row)?.get_ref().as_table(),
            table => table.as_table(),
        });
        let of_file = of_file.and_then(|table| table.get_key_value(key));
        let of_file = of_file.map(|(name, value)| (name.span().start, read(value)));
        let is_meant = |it: &Layer<'_>| it.given.section() == section && it.given.key() == key;
        let overridden = self.overrides.iter().rposition(is_meant);
        let overriding = overridden.map(|index| {
            let table = &self.overrides[index].table;
            let value = table
                .iter()
                .find(|(name, _)| *name.get_ref() == Override::VALUE);
            (index, value.map(|(_, value)| read(value)))
        });
        let mut taken = None;
        if let Some((place, result)) = of_file {
            let line = self.line_at(place);
            self.places.insert((section, key), Place::Line(line));
            match result {
                Ok(value) => taken = Some(value),
                // Of a line that is no TOML, enough has been said.
                Err(_) if self.is_broken && self.problems.iter().any(|it| it.line == line) => {}
                Err(Fault { at, what, .. }) => {
                    let section = self.shown(section);
                    self.problem(at, format!("{section} {key}: {what}"));
                }
            }
        }
        if let Some((index, result)) = overriding {
            self.places.insert((section, key), Place::Override(index));
            match result {
                Some(Ok(value)) => taken = Some(value),
                Some(Err(Fault { what, .. })) => self.refuse(section, key, &what),
                None => {}
            }
        }
        taken
    }

    /// An override, in the place of a file's name.
    fn option(&self, index: usize) -> PathBuf {
        format!("--set {}", self.overrides[index].given).into()
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
            table.note_lines(&|key| match self.places.get(&(name, key)) {
                Some(Place::Line(line)) => *line,
                _ => header,
            });
            target.push(table);
        }
        self.row = 0;
    }

    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, _why: &str) {
        if let Some(value) = self.take(name, T::read) {
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
        let within = |value: &Value<'_>| match T::read(value) {
            Ok(read) if bounds.contains(&read) => Ok(read),
            Ok(read) => Err(Fault::new(value, out_of_range(&read.show(), &bounds))),
            // Of a number too large for its type, too, the bounds are those of the key.
            Err(fault) => Err(match &fault.beyond {
                Some(number) => Fault::new(value, out_of_range(number, &bounds)),
                None => fault,
            }),
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
