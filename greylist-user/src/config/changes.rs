//! Which keys differ between two configurations, and which of them want a restart.
//!
//! Walks the declaration of all keys twice and compares what each would be written as, so that a key
//! that is added tomorrow is compared, too.

use std::fmt;
use std::ops::RangeBounds;

use super::model::{Config, Table, Visitor};
use super::value::Setting;
use crate::policy::Source;

/// A key of the file, shown as `[section] key`; of all tables of one kind together, `[[section]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    section: &'static str,
    key: &'static str,
}

impl KeyName {
    /// Whether a running daemon obeys a new value at the next reload.
    pub fn is_live(self) -> bool {
        LIVE_SECTIONS.contains(&self.section) || LIVE_KEYS.contains(&(self.section, self.key))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            ALL_TABLES => write!(f, "[[{}]]", self.section),
            key => write!(f, "[{}] {key}", self.section),
        }
    }
}

impl Config {
    /// The keys whose values are not those of `other`, in the order of the file.
    pub fn differences(&self, other: &Self) -> Vec<KeyName> {
        let (ours, theirs) = (shown(self), shown(other));
        let pairs = ours.into_iter().zip(theirs);
        pairs
            .filter(|((name, ours), (_, theirs))| {
                let is_changed = ours != theirs || self.reads_otherwise(*name, other);
                is_changed && !(is_seed_file(*name) && self.seeds_by_default(other))
            })
            .map(|((name, _), _)| name)
            .collect()
    }

    /// Whether the files that an unchanged key names say something else than they did.
    fn reads_otherwise(&self, name: KeyName, other: &Self) -> bool {
        let from_files = |config: &Self| {
            let (lists, named) = (&config.policy.lists, &config.lists);
            let (list, files) = match (name.section, name.key) {
                ("lists", "allow_files") => (&lists.allow, &named.allow_files),
                ("lists", "deny_files") => (&lists.deny, &named.deny_files),
                ("lists", "never_trust_files") => (&lists.never_trust, &named.never_trust_files),
                ("lists", "no_retry_files") => (&lists.no_retry, &named.no_retry_files),
                _ => return None,
            };
            let is_of_them = |source: &Source| match source {
                Source::File { file, .. } => files.items.iter().any(|(_, it)| **it == **file),
                _ => false,
            };
            let listed = list.entries().iter();
            let of_files = listed.filter(|it| is_of_them(&it.source));
            Some(of_files.map(|it| it.entry.clone()).collect::<Vec<_>>())
        };
        from_files(self) != from_files(other)
    }

    /// Whether the seed is where it is in both because the directory is where it is.
    fn seeds_by_default(&self, other: &Self) -> bool {
        [self, other]
            .iter()
            .all(|it| it.store.seed_file == it.store.directory.join("seed"))
    }
}

fn is_seed_file(name: KeyName) -> bool {
    (name.section, name.key) == ("store", "seed_file")
}

/// Every key with what its value is written as.
fn shown(config: &Config) -> Vec<(KeyName, String)> {
    let mut shown = Shown {
        section: "",
        values: Vec::new(),
    };
    config.clone().visit(&mut shown);
    shown.values
}

struct Shown {
    section: &'static str,
    values: Vec<(KeyName, String)>,
}

impl Visitor for Shown {
    fn section(&mut self, name: &'static str, _about: &str) {
        self.section = name;
    }

    /// One value of all its tables: which of two lists of tables goes with which is nobody's to say.
    fn repeated<T: Table>(
        &mut self,
        name: &'static str,
        _about: &str,
        _template: &T,
        target: &mut Vec<T>,
    ) {
        let mut tables = String::new();
        for table in target {
            let mut shown = Self {
                section: name,
                values: Vec::new(),
            };
            table.visit(&mut shown);
            let keys = shown.values.iter().map(|(key, value)| (key.key, value));
            tables.extend(keys.map(|(key, value)| format!("{key} = {value}\n")));
            tables.push('\n');
        }
        let name = KeyName {
            section: name,
            key: ALL_TABLES,
        };
        self.values.push((name, tables));
    }

    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, _why: &str) {
        let name = KeyName {
            section: self.section,
            key: name,
        };
        self.values.push((name, target.show()));
    }

    fn bounded<T: Setting + PartialOrd>(
        &mut self,
        name: &'static str,
        target: &mut T,
        _bounds: impl RangeBounds<T>,
        why: &str,
    ) {
        self.key(name, target, why);
    }
}

/// The sections of which every key is a rule: rules are replaced whole by a reload.
const LIVE_SECTIONS: [&str; 6] = [
    "greylist",
    "content",
    "punish",
    "reputation",
    "lists",
    "recipients",
];
/// Stands for the keys of tables that may be any number.
const ALL_TABLES: &str = "";
/// Single keys elsewhere: rules, and one that no room reads, since it only says what a file may name.
const LIVE_KEYS: [(&str, &str); 3] = [
    ("dns", "allowlist_score"),
    ("dns", "spf_trusted"),
    ("xdp", "submission"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{parse, read_under};

    fn changed(before: &str, after: &str) -> Vec<(String, bool)> {
        let config = |text: &str| parse(Path::new("f"), text.as_bytes()).expect("legal");
        let differences = config(before).differences(&config(after));
        let named = differences.iter();
        named.map(|it| (it.to_string(), it.is_live())).collect()
    }

    #[test]
    fn rules_need_no_restart_and_each_key_that_does_is_named() {
        for (text, expected) in [
            (
                "[greylist]\ndelay = \"5m\"\n",
                &[("[greylist] delay", true)][..],
            ),
            (
                "[punish]\nsentence = \"1h\"\ncontact = \"abuse\"\n",
                &[("[punish] sentence", true), ("[punish] contact", true)],
            ),
            (
                "[reputation]\naction = \"defer\"\n",
                &[("[reputation] action", true)],
            ),
            (
                "[lists]\nallow = [\"192.0.2.0/24\"]\n",
                &[("[lists] allow", true)],
            ),
            ("[xdp]\nsubmission = true\n", &[("[xdp] submission", true)]),
            (
                "[milter]\nlisten = [\"inet:127.0.0.1:9999\"]\nreply_sentenced = \"No\"\n",
                &[
                    ("[milter] listen", false),
                    ("[milter] reply_sentenced", false),
                ],
            ),
            (
                "[log]\naddresses = \"hash\"\n[xdp]\nrate = 5\n",
                &[("[xdp] rate", false), ("[log] addresses", false)],
            ),
            (
                "[store]\nclients = 2_000\ndirectory = \"/srv/greygate\"\n",
                &[("[store] directory", false), ("[store] clients", false)],
            ),
            (
                "[store]\nseed_file = \"/etc/seed\"\n",
                &[("[store] seed_file", false)],
            ),
            (
                "[metrics]\nlisten = \"off\"\n",
                &[("[metrics] listen", false)],
            ),
            ("# nothing\n", &[]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, live)| ((*name).to_owned(), *live))
                .collect();
            assert_eq!(changed("", text), expected, "{text}");
        }
    }

    #[test]
    fn list_file_that_says_something_else_is_a_change_of_the_key_that_names_it() {
        let place = tempfile::TempDir::new().expect("there is room for a directory");
        let file = place.path().join("allow.list");
        let text = format!("[lists]\nallow = [\"192.0.2.7\"]\nallow_files = [{file:?}]\n");
        let configuration = place.path().join("greygate.toml");
        std::fs::write(&configuration, text).expect("the directory is ours");
        let config = |listed: &str| {
            std::fs::write(&file, listed).expect("the directory is ours");
            read_under(&configuration, &[]).expect("legal")
        };
        let before = config("198.51.100.0/24\n");
        let names = |after| {
            let differences = before.differences(&config(after));
            differences
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names("198.51.100.0/24\n203.0.113.7\n"),
            ["[lists] allow_files"]
        );
        assert_eq!(names(""), ["[lists] allow_files"]);
        let commented = names("# a comment moves lines, and changes nothing\n198.51.100.0/24\n");
        assert_eq!(commented, Vec::<String>::new());
    }

    #[test]
    fn value_that_follows_another_is_changed_with_it() {
        let changed = changed("", "[greylist]\nretry_window = \"10m\"\n");
        let names: Vec<_> = changed.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"[punish] extra_delay_limit"), "{names:?}");
    }
}
