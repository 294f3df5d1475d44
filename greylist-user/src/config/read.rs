//! One file, read and judged whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::document::{Document, line_at};
use super::error::{ConfigError, Problem};
use super::model::Config;
use super::overrides::Override;
use super::{check, lists, usable};

/// Reads the file, and looks whether the paths it names can be used by this process.
///
/// Changes nothing on disk.
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    read_under(path, &[])
}

/// Reads the file as [`read`] does, under what the command line sets.
pub fn read_under(path: &Path, overrides: &[Override]) -> Result<Config, ConfigError> {
    settings(path, &bytes_of(path)?, overrides, Around::Paths)
}

/// Reads the file for a process that is not the daemon, and need not be able to use its paths.
pub fn read_anywhere(path: &Path) -> Result<Config, ConfigError> {
    parse(path, &bytes_of(path)?)
}

/// Reads the file and its lists, for a process that judges as the daemon would without being one:
/// it need not be able to use the daemon's paths.
pub fn read_rules_under(path: &Path, overrides: &[Override]) -> Result<Config, ConfigError> {
    settings(path, &bytes_of(path)?, overrides, Around::Lists)
}

/// The defaults, under what the command line sets: rules without a file.
pub fn defaults_under(overrides: &[Override]) -> Result<Config, ConfigError> {
    settings(Path::new("(defaults)"), b"", overrides, Around::Lists)
}

/// Reads the bytes of a file that is called `path` in errors, and looks at nothing outside them.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Config, ConfigError> {
    settings(path, bytes, &[], Around::Blind)
}

/// Whether more is looked at than the file itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing more.
    Blind,
    /// The lists that it names are read.
    Lists,
    /// They are, and its paths are looked at.
    Paths,
}

/// Where the control socket is according to a file that may hold anything else that is wrong;
/// [`None`] if the file does not say, or cannot be read.
pub fn socket_of(path: &Path) -> Option<PathBuf> {
    let bytes = bytes_of(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut config = Config::default();
    let mut document = Document::parse(path, &text, &[]);
    config.visit(&mut document);
    document
        .is_set("admin", "socket")
        .then_some(config.admin.socket)
}

fn settings(
    path: &Path,
    bytes: &[u8],
    overrides: &[Override],
    around: Around,
) -> Result<Config, ConfigError> {
    let text = text_of(path, bytes).map_err(|problem| ConfigError::Illegal(vec![problem]))?;
    let mut document = Document::parse(path, text, overrides);
    let mut config = Config::default();
    config.visit(&mut document);
    if !document.is_set("store", "seed_file") {
        config.store.seed_file = config.store.directory.join("seed");
    }
    config.milter.addresses = config.log.addresses;
    config.milter.verdicts = config.log.verdicts;
    follow_window(&mut config, &document);
    lists::compile(&mut config, &mut document, around != Around::Blind);
    // Of a broken file, keys may be missing that the operator has set.
    if !document.is_broken() {
        check::across_keys(&config, &mut document);
        if around == Around::Paths {
            usable::check(&config, &mut document);
        }
    }
    let problems = document.finish();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Illegal(problems))
    }
}

/// Where the file does not set them, what is added to a delay leaves room for a retry, and so do the
/// times of content: who has a short window set before these keys were there shall not have to learn
/// of them.
fn follow_window(config: &mut Config, document: &Document<'_>) {
    let policy = &mut config.policy;
    let contacts_window = policy.contacts_window(policy.content.contacts);
    let content = &mut policy.content;
    let is_set = |key| document.is_set("content", key);
    if !is_set("delay") {
        content.delay = content.delay.min(policy.retry_window / 2);
    }
    if !is_set("contacts_after") {
        content.contacts_after = content.contacts_after.min(contacts_window / 2);
    }
    let punish = &mut policy.punish;
    let is_set = |key| document.is_set("punish", key);
    if !is_set("extra_delay_limit") {
        let room = policy.retry_window.saturating_sub(policy.delay) / 2;
        punish.extra_delay_limit = punish.extra_delay_limit.min(room);
    }
    if !is_set("hopping_delay") {
        punish.hopping_delay = punish.hopping_delay.min(punish.extra_delay_limit);
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .and_then(|length| match length as u64 {
            0..=LARGEST_FILE => Ok(bytes),
            _ => Err(io::Error::other(
                "it is larger than 4 MiB, which no configuration is",
            )),
        })
        .map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })
}

fn text_of<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| Problem {
        file: path.to_owned(),
        line: line_at(bytes, error.valid_up_to()),
        text: "not UTF-8; save the file as UTF-8 text".to_owned(),
    })
}

/// Room for a hundred thousand allowed networks.
const LARGEST_FILE: u64 = 4 << 20;

#[cfg(test)]
mod tests;
