//! The configuration that a fresh installation starts from: every key, commented out, with its
//! default and the reason.

use std::fmt::Write;
use std::ops::RangeBounds;

use super::model::{Config, Table, Visitor};
use super::value::{Setting, show_bounds};

/// Every setting, commented, with its default and its reason; a legal file as it is printed.
pub fn default_config() -> String {
    let mut printer = Printer {
        text: HEAD.to_owned(),
    };
    Config::default().visit(&mut printer);
    printer.text
}

struct Printer {
    text: String,
}

impl Printer {
    fn comment(&mut self, text: &str) {
        let mut width = 0;
        for word in text.split_whitespace() {
            if width == 0 || width + 1 + word.len() > COLUMNS {
                let start = if width == 0 { "# " } else { "\n# " };
                self.text.push_str(start);
                width = 1;
            } else {
                self.text.push(' ');
            }
            self.text.push_str(word);
            width += 1 + word.len();
        }
        self.text.push('\n');
    }

    fn setting(&mut self, name: &str, value: &impl Setting) {
        writeln!(self.text, "#{name} = {}\n", value.show())
            .expect("writing to a String cannot fail");
    }
}

impl Visitor for Printer {
    fn section(&mut self, name: &'static str, about: &str) {
        self.comment(about);
        writeln!(self.text, "[{name}]\n").expect("writing to a String cannot fail");
    }

    /// Such a table says something by being there: an example is shown, which stays a comment when the
    /// settings are uncommented.
    fn repeated<T: Table>(
        &mut self,
        name: &'static str,
        about: &str,
        template: &T,
        _target: &mut Vec<T>,
    ) {
        self.comment(about);
        writeln!(self.text, "#\n# [[{name}]]").expect("writing to a String cannot fail");
        template.example().visit(&mut Example(self));
        self.text.push('\n');
    }

    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, why: &str) {
        self.comment(why);
        self.setting(name, target);
    }

    fn bounded<T: Setting + PartialOrd>(
        &mut self,
        name: &'static str,
        target: &mut T,
        bounds: impl RangeBounds<T>,
        why: &str,
    ) {
        self.comment(&format!("{why} ({}.)", capitalised(&show_bounds(&bounds))));
        self.setting(name, target);
    }
}

/// Prints the keys of a table that is an example.
struct Example<'p>(&'p mut Printer);

impl Visitor for Example<'_> {
    fn section(&mut self, _name: &'static str, _about: &str) {}

    fn repeated<T: Table>(
        &mut self,
        _name: &'static str,
        _about: &str,
        _template: &T,
        _target: &mut Vec<T>,
    ) {
    }

    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, why: &str) {
        writeln!(self.0.text, "#").expect("writing to a String cannot fail");
        self.0.comment(why);
        writeln!(self.0.text, "# {name} = {}", target.show())
            .expect("writing to a String cannot fail");
    }

    fn bounded<T: Setting + PartialOrd>(
        &mut self,
        name: &'static str,
        target: &mut T,
        bounds: impl RangeBounds<T>,
        why: &str,
    ) {
        let why = format!("{why} ({}.)", capitalised(&show_bounds(&bounds)));
        self.key(name, target, &why);
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

const HEAD: &str = "\
# The configuration of greygate. Every key is shown with its default: what you do not set
# stays as it is here. Remove the \"#\" before a key to set it, then try the file with
#     greygate check-config /etc/greygate/greygate.toml
# Durations are written with their unit: 250ms, 90s, 3m, 24h, 36d, 1h30m.

";

/// Comments are wrapped at this width, to be read in a terminal beside the manual.
const COLUMNS: usize = 90;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    #[test]
    fn printed_text_is_legal_as_it_is() {
        let config = parse(Path::new("default"), default_config().as_bytes());
        assert_eq!(config.expect("the text is legal"), Config::default());
    }

    #[test]
    fn printed_text_uncommented_is_the_defaults() {
        let config = parse(Path::new("default"), uncommented().as_bytes());
        assert_eq!(config.expect("the text is legal"), Config::default());
    }

    #[test]
    fn printed_text_sets_every_key_of_the_model() {
        let table: toml::Table = uncommented().parse().expect("the text is TOML");
        assert!(keys().len() > 40);
        let single = keys().into_iter().filter(|it| !it.0.starts_with('['));
        for (section, key, _) in single {
            assert!(table[section].get(key).is_some(), "[{section}] {key}");
        }
    }

    #[test]
    fn manual_has_every_key_with_its_default() {
        let manual = include_str!("../../../docs/man/greygate.toml.5");
        for (section, key, default) in keys() {
            let (_, rest) = manual
                .split_once(&format!(".Ss [{section}]\n"))
                .unwrap_or_else(|| panic!("the manual has no [{section}]"));
            let item = rest
                .split(".Ss [")
                .next()
                .into_iter()
                .flat_map(str::lines)
                .find_map(|line| line.strip_prefix(&format!(".It Cm {key} No = ")))
                .unwrap_or_else(|| panic!("the manual has no [{section}] {key}"));
            let shown = item
                .split(' ')
                .filter(|word| !matches!(*word, "Bq" | "Qq" | "Qo" | "Qc" | "\\&"));
            assert_eq!(bare(&shown.collect::<String>()), bare(&default), "{key}");
        }
    }

    /// A value without the marks that TOML and the manual write differently.
    fn bare(value: &str) -> String {
        value.replace(['[', ']', '"', ',', '_', ' '], "")
    }

    fn keys() -> Vec<(&'static str, &'static str, String)> {
        let mut keys = Keys::default();
        Config::default().visit(&mut keys);
        keys.found
    }

    fn uncommented() -> String {
        default_config()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => setting,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[derive(Default)]
    struct Keys {
        section: &'static str,
        found: Vec<(&'static str, &'static str, String)>,
    }

    impl Visitor for Keys {
        fn section(&mut self, name: &'static str, _about: &str) {
            self.section = name;
        }

        fn repeated<T: Table>(
            &mut self,
            name: &'static str,
            _about: &str,
            template: &T,
            _target: &mut Vec<T>,
        ) {
            assert_eq!(name, "recipients");
            self.section = "[recipients]";
            template.clone().visit(self);
        }

        fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, _why: &str) {
            self.found.push((self.section, name, target.show()));
        }

        fn bounded<T: Setting + PartialOrd>(
            &mut self,
            name: &'static str,
            target: &mut T,
            _bounds: impl RangeBounds<T>,
            _why: &str,
        ) {
            self.found.push((self.section, name, target.show()));
        }
    }
}
