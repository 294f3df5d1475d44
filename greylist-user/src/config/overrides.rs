//! What the command line sets above the file: `--set SECTION.KEY=VALUE`.
//!
//! Knows how an override is written; leaves what its key means to `model`, which judges it as it
//! judges a value of the file.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use toml::de::DeTable;

/// One setting of the command line, which wins over the file's.
///
/// The value is written as in the file; a text needs no quotes where it is nothing else in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    section: String,
    key: String,
    /// A line of TOML that sets [`Override::VALUE`].
    line: String,
    given: String,
}

impl Override {
    /// What its line sets.
    pub(super) const VALUE: &'static str = "value";

    /// Everything that a consequence follows from, set to only observe: `serve --observe`.
    pub fn observing() -> Vec<Self> {
        let all = OBSERVED.iter();
        all.map(|(section, key)| Self::new(section, key, "observe"))
            .collect()
    }

    fn new(section: &str, key: &str, value: &str) -> Self {
        let as_it_is = format!("{} = {value}", Self::VALUE);
        let (_, errors) = DeTable::parse_recoverable(&as_it_is);
        let line = if errors.is_empty() && !value.contains('\n') {
            as_it_is
        } else {
            let text = toml::Value::String(value.to_owned());
            format!("{} = {text}", Self::VALUE)
        };
        Self {
            section: section.to_owned(),
            key: key.to_owned(),
            line,
            given: format!("{section}.{key}={value}"),
        }
    }

    /// The section of its key.
    pub(super) fn section(&self) -> &str {
        &self.section
    }

    /// Its key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// TOML with its value.
    pub(super) fn line(&self) -> &str {
        &self.line
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl FromStr for Override {
    type Err = InvalidOverride;

    fn from_str(text: &str) -> Result<Self, InvalidOverride> {
        let (name, value) = text.split_once('=').ok_or(InvalidOverride)?;
        let (section, key) = name.trim().split_once('.').ok_or(InvalidOverride)?;
        let is_name = |name: &str| {
            let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            !name.is_empty() && name.chars().all(is_of_a_name)
        };
        if is_name(section) && is_name(key) {
            Ok(Self::new(section, key, value.trim()))
        } else {
            Err(InvalidOverride)
        }
    }
}

/// It does not name a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write SECTION.KEY=VALUE, such as greylist.delay=5m")]
pub struct InvalidOverride;

/// Every key that says whether a consequence is only observed.
const OBSERVED: [(&str, &str); 8] = [
    ("greylist", "action"),
    ("punish", "action"),
    ("punish", "strike_action"),
    ("punish", "extra_delay_action"),
    ("punish", "hopping_action"),
    ("reputation", "action"),
    ("lists", "deny_action"),
    ("xdp", "action"),
];

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use proptest::prelude::*;

    use super::super::model::{Config, Table, Visitor};
    use super::super::value::Setting;
    use super::*;

    #[test]
    fn text_needs_no_quotes_and_anything_else_is_toml() {
        for (given, line) in [
            ("greylist.delay=5m", "value = \"5m\""),
            ("greylist.delay = \"5m\"", "value = \"5m\""),
            ("xdp.rate=10", "value = 10"),
            ("xdp.pin=false", "value = false"),
            (
                "lists.allow=[\"192.0.2.0/24\"]",
                "value = [\"192.0.2.0/24\"]",
            ),
            ("punish.contact=a=b \"c\"", "value = 'a=b \"c\"'"),
            ("admin.group=", "value = \"\""),
        ] {
            let parsed: Override = given.parse().expect("legal");
            assert_eq!(parsed.line(), line, "{given}");
        }
        for wrong in [
            "",
            "delay=5m",
            "greylist.delay",
            ".delay=1",
            "a b.c=1",
            "a.b.c=1",
        ] {
            assert!(wrong.parse::<Override>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn to_observe_is_to_observe_every_consequence_there_is() {
        struct Actions(&'static str, Vec<(&'static str, &'static str)>);
        impl Visitor for Actions {
            fn section(&mut self, name: &'static str, _about: &str) {
                self.0 = name;
            }
            fn repeated<T: Table>(
                &mut self,
                name: &'static str,
                _about: &str,
                template: &T,
                _target: &mut Vec<T>,
            ) {
                self.0 = name;
                template.clone().visit(self);
            }
            fn key<T: Setting>(&mut self, name: &'static str, _target: &mut T, _why: &str) {
                if name.ends_with("action") {
                    self.1.push((self.0, name));
                }
            }
            fn bounded<T: Setting + PartialOrd>(
                &mut self,
                _name: &'static str,
                _target: &mut T,
                _bounds: impl RangeBounds<T>,
                _why: &str,
            ) {
            }
        }
        let mut actions = Actions("", Vec::new());
        Config::default().visit(&mut actions);
        assert_eq!(actions.1, OBSERVED);
    }

    proptest! {
        #[test]
        fn any_value_is_one_line_of_toml(value in "\\PC{0,40}|[ -~\n\t]{0,40}") {
            let given = format!("greylist.delay={value}");
            let parsed: Override = given.parse().expect("it names a key");
            let (table, errors) = DeTable::parse_recoverable(parsed.line());
            prop_assert!(errors.is_empty(), "{}", parsed.line());
            prop_assert_eq!(table.get_ref().len(), 1);
        }
    }
}
