//! From what `[lists]` and `[[recipients]]` say to the policy's lists and policies.
//!
//! The one place of the configuration that reads further files. Every entry keeps the line that named
//! it. A file is read whole or not at all: a list with holes would punish, or let in, whom nobody meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::duration::format;
use super::list_file::{self, Broken, ListLine};
use super::model::{Config, Each, Greylisted, ListSettings, NoRetry, RecipientRules, Switch};
use crate::policy::{Entry, List, Listed, Lists, Policy, RecipientPolicy, Recipients, Source};

/// Makes the policy's lists and the policies of recipients. The files that are named are read only if
/// the process `may_read` what the daemon does.
pub(super) fn compile(config: &mut Config, document: &mut Document<'_>, may_read: bool) {
    let settings = config.lists.clone();
    let file: Arc<Path> = document.file().into();
    let mut reader = Reader {
        document,
        file,
        may_read,
    };
    let s = &settings;
    let mut lists = shipped(s);
    lists.allow = reader.list("allow", &s.allow, "allow_files", &s.allow_files);
    lists.deny = reader.list("deny", &s.deny, "deny_files", &s.deny_files);
    let (never, files) = (&s.never_trust, &s.never_trust_files);
    lists.never_trust = reader.list("never_trust", never, "never_trust_files", files);
    let own = reader.files("no_retry_files", &s.no_retry_files);
    lists.no_retry = lists.no_retry.with(own);
    let local = reader.values("local", &s.local);
    let local = local.into_iter().map(|(network, source)| Listed {
        entry: Entry::Client(network),
        source,
    });
    lists.local = List::of(local);

    config.policy.greylists = config.greylisted == Greylisted::All;
    let rows = std::mem::take(&mut config.recipients);
    config.policy.recipients = recipients(&config.policy, &rows, document);
    config.recipients = rows;
    config.policy = config.policy.with_lists(&Arc::new(lists));
}

/// The lists of a configuration that names nobody: what greygate comes with.
pub(super) fn shipped(settings: &ListSettings) -> Lists {
    let listed = |line: ListLine| Listed {
        entry: line.entry,
        source: Source::Shipped(line.comment.into()),
    };
    let lines = match settings.no_retry {
        NoRetry::Shipped => list_file::parse(NO_RETRY).0,
        NoRetry::Off => Vec::new(),
    };
    Lists {
        no_retry: List::of(lines.into_iter().map(listed)),
        ..Lists::default()
    }
}

struct Reader<'d, 't> {
    document: &'d mut Document<'t>,
    file: Arc<Path>,
    may_read: bool,
}

impl Reader<'_, '_> {
    /// A list of values of the file itself and of further files.
    fn list(
        &mut self,
        key: &'static str,
        values: &Each<Entry>,
        files_key: &'static str,
        files: &Each<PathBuf>,
    ) -> List {
        let values = self.values(key, values);
        let files = self.files(files_key, files);
        let values = values
            .into_iter()
            .map(|(entry, source)| Listed { entry, source });
        List::of(values.chain(files))
    }

    /// The values of a key, each with its line.
    fn values<T: Clone>(&mut self, key: &'static str, values: &Each<T>) -> Vec<(T, Source)> {
        for (at, what) in &values.faults {
            self.document.refuse_at("lists", key, *at, what);
        }
        let source = |at| Source::File {
            file: Arc::clone(&self.file),
            line: self.document.line_at(at),
        };
        let placed = values.items.iter();
        placed
            .map(|(at, value)| (value.clone(), source(*at)))
            .collect()
    }

    /// The entries of all files of a key.
    fn files(&mut self, key: &'static str, files: &Each<PathBuf>) -> Vec<Listed> {
        for (at, what) in &files.faults {
            self.document.refuse_at("lists", key, *at, what);
        }
        let mut all = Vec::new();
        for (at, path) in files.items.iter().filter(|_| self.may_read) {
            match list_file::read(path) {
                Ok(lines) => {
                    let file: Arc<Path> = path.as_path().into();
                    all.extend(lines.into_iter().map(|line| Listed {
                        entry: line.entry,
                        source: Source::File {
                            file: Arc::clone(&file),
                            line: line.line,
                        },
                    }));
                }
                Err(Broken::Unread(what)) => self.document.refuse_at("lists", key, *at, &what),
                Err(Broken::Lines(problems)) => self.document.complain(problems),
            }
        }
        all
    }
}

/// The policies that these tables make of `base`.
fn recipients(
    base: &Policy,
    tables: &[RecipientRules],
    document: &mut Document<'_>,
) -> Arc<Recipients> {
    let mut seen = BTreeMap::new();
    let mut policies = Vec::new();
    let is_set = document.is_set("punish", "extra_delay_limit");
    for table in tables {
        let [match_line, delay_line] = table.lines;
        for (at, what) in &table.recipients.faults {
            document.refuse_at("recipients", "match", *at, what);
        }
        if table.recipients.items.is_empty() && table.recipients.faults.is_empty() {
            let what = "nobody is named; write one such as [\"example.org\"]";
            document.refuse_line("recipients", "match", match_line, what);
        }
        for (at, pattern) in &table.recipients.items {
            let line = document.line_at(*at);
            if let Some(before) = seen.insert(pattern.clone(), line) {
                let what = format!("{pattern} is named on line {before} already; remove one");
                document.refuse_line("recipients", "match", line, &what);
            }
        }
        let mut policy = Policy {
            greylists: table.greylist == Switch::On,
            mode: table.mode,
            delay: table.delay,
            recipients: Arc::default(),
            ..base.clone()
        };
        let room = policy.retry_window.saturating_sub(policy.delay);
        if !is_set {
            let punish = &mut policy.punish;
            punish.extra_delay_limit = punish.extra_delay_limit.min(room / 2);
            punish.hopping_delay = punish.hopping_delay.min(punish.extra_delay_limit);
        }
        let longest = policy
            .punish
            .extra_delay_limit
            .max(policy.punish.hopping_delay);
        // What is wrong with the site's own delay is said there.
        if policy.delay != base.delay && policy.greylists && longest >= room {
            let window = format(policy.retry_window);
            let what = format!(
                "{}, with up to {} more for early retries, is not less than the retry_window of {window}, \
                 so that some mail would never pass; write less, or raise retry_window",
                format(policy.delay),
                format(longest)
            );
            document.refuse_line("recipients", "delay", delay_line, &what);
        }
        policies.push(RecipientPolicy {
            recipients: table
                .recipients
                .items
                .iter()
                .map(|it| it.1.clone())
                .collect(),
            source: Source::File {
                file: document.file().into(),
                line: match_line,
            },
            policy,
        });
    }
    Arc::new(Recipients::of(policies))
}

/// Senders that are known not to try again. Data, not code: refreshed by itself.
const NO_RETRY: &str = include_str!("../../dist/no-retry.list");

#[cfg(test)]
mod tests;
