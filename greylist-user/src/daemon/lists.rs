//! What operators list while the daemon runs, and the rules that come of it and of the configuration.
//!
//! Kept in a file for each list, in the directory of the store: one entry a line, as in any list file, with
//! a comment that says when it was listed, by whom, until when and why. Written beside and renamed, and on
//! the disk before it counts. Of a file that cannot be read as it is, what can be counts and the rest is
//! set aside, so that mail flows.
//!
//! An entry that has ended is taken out within a second, by a thread of its own.
//!
//! Log words: `listed-no-more` (info, an entry has ended), `lists-set-aside` and
//! `lists-unwritten` (warn).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::sentences::{Ordered, in_force};
use crate::admin::{LiveChange, LiveEntries, LiveEntry, LiveList};
use crate::clock::Clock;
use crate::config::{Config, parse_list};
use crate::policy::{Entry, List, Listed, Order, Policy, Source, Timestamp};
use crate::store::ListName;

/// The lists that orders change, and the rules in force that they are part of.
#[derive(Debug)]
pub(super) struct LiveLists {
    directory: PathBuf,
    policy: Arc<ArcSwap<Policy>>,
    /// The same without any list, for whoever keeps it for long.
    sessions: Arc<ArcSwap<Policy>>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As the configuration has it.
    configured: Policy,
    limit: usize,
    ordered: Ordered,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unlisted {
    /// As many as there may be.
    #[error(
        "{0} entries are as many as [lists] live allows; remove some, or write them into a file"
    )]
    Full(usize),
    /// Nobody ordered it.
    #[error("{0} was not listed by a command{1}")]
    Unknown(Entry, String),
    /// The file could not be written.
    #[error("cannot write {}: {source}; nothing was changed", file.display())]
    Unwritten {
        /// It.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LiveLists {
    /// Reads what was ordered before, and puts it in force.
    pub(super) fn open(
        config: &Config,
        policy: Arc<ArcSwap<Policy>>,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Self {
        let directory = config.store.directory.clone();
        let [allow, deny] = LiveList::ALL.map(|list| found(&file_of(&directory, list), now));
        let state = State {
            configured: config.policy.clone(),
            limit: config.lists.live,
            ordered: Ordered { allow, deny },
        };
        let lists = Self {
            directory,
            policy,
            sessions: Arc::new(ArcSwap::from_pointee(without_lists(&state.configured))),
            metrics,
            state: Mutex::new(state),
        };
        lists.put_in_force(&lists.state());
        lists
    }

    /// The rules that a session keeps from its beginning to its end. They have no lists, which only the
    /// judge asks: each order makes all of these anew, and sessions last for hours.
    pub(super) fn for_sessions(&self) -> Arc<ArcSwap<Policy>> {
        Arc::clone(&self.sessions)
    }

    /// Takes the rules of another configuration. What was ordered stays.
    pub(super) fn reload(&self, config: &Config) {
        let mut state = self.state();
        state.configured = config.policy.clone();
        state.limit = config.lists.live;
        self.put_in_force(&state);
        let for_sessions = without_lists(&state.configured);
        self.sessions.store(Arc::new(for_sessions));
    }

    /// Lists `entry`. One that is listed already is listed anew, with what is said of it now.
    pub(super) fn add(
        &self,
        list: LiveList,
        entry: &Entry,
        order: Order,
    ) -> Result<LiveChange, Unlisted> {
        let mut state = self.state();
        let mut entries = alive(state.of(list), order.at);
        entries.retain(|it| it.entry != *entry);
        if entries.len() >= state.limit {
            self.metrics.refused.inc();
            return Err(Unlisted::Full(state.limit));
        }
        let until = order.until.map(seconds);
        entries.push(Listed {
            entry: entry.clone(),
            source: Source::Live(Arc::new(order)),
        });
        self.change(&mut state, list, entries)?;
        Ok(LiveChange {
            list,
            entry: entry.to_string(),
            added: true,
            until,
            also: configured(&state, list, entry),
        })
    }

    /// Undoes what was ordered for `entry`.
    pub(super) fn remove(
        &self,
        list: LiveList,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<LiveChange, Unlisted> {
        let mut state = self.state();
        let mut entries = alive(state.of(list), now);
        let also = configured(&state, list, entry);
        let before = entries.len();
        entries.retain(|it| it.entry != *entry);
        if entries.len() == before {
            let hint = match also {
                Some(source) => format!("; it stands at {source}: take it out there, and reload"),
                None => format!("; `greygate {list} list` shows what was"),
            };
            return Err(Unlisted::Unknown(entry.clone(), hint));
        }
        self.change(&mut state, list, entries)?;
        Ok(LiveChange {
            list,
            entry: entry.to_string(),
            added: false,
            until: None,
            also,
        })
    }

    /// What is listed, the newest first.
    pub(super) fn show(&self, list: LiveList, now: Timestamp) -> LiveEntries {
        let state = self.state();
        let mut entries: Vec<_> = alive(state.of(list), now)
            .iter()
            .filter_map(shown)
            .collect();
        entries.reverse();
        let left_off = entries.len().saturating_sub(SHOWN);
        entries.truncate(SHOWN);
        LiveEntries {
            list,
            now: seconds(now),
            entries,
            left_off: left_off as u64,
            limit: state.limit as u64,
            configured: list.of(&state.configured).entries().len() as u64,
            file: file_of(&self.directory, list).display().to_string(),
        }
    }

    /// Takes out what has ended at `now`. Says whether anything had.
    pub(super) fn end(&self, now: Timestamp) -> bool {
        let mut state = self.state();
        let mut has_ended = false;
        for list in LiveList::ALL {
            let all = state.of(list);
            // Each second, of what may be a hundred thousand: nothing is copied unless one has ended.
            if !all.iter().any(|it| has_ended_at(it, now)) {
                continue;
            }
            let entries = alive(all, now);
            has_ended = true;
            for ended in all.iter().filter(|it| has_ended_at(it, now)) {
                tracing::info!(list = list.as_str(), entry = %ended.entry, "listed-no-more");
            }
            // It has ended, whether or not the disk hears of it: at the next start it is left out.
            if let Err(error) = self.write(list, &entries) {
                tracing::warn!(%error, list = list.as_str(), "lists-unwritten");
            }
            *state.of_mut(list) = entries;
        }
        if has_ended {
            self.put_in_force(&state);
        }
        has_ended
    }

    fn change(
        &self,
        state: &mut State,
        list: LiveList,
        entries: Vec<Listed>,
    ) -> Result<(), Unlisted> {
        self.write(list, &entries)
            .map_err(|source| Unlisted::Unwritten {
                file: file_of(&self.directory, list),
                source,
            })?;
        *state.of_mut(list) = entries;
        self.put_in_force(state);
        Ok(())
    }

    fn put_in_force(&self, state: &State) {
        let policy = in_force(&state.configured, &state.ordered);
        self.metrics.show(&policy, state);
        self.policy.store(Arc::new(policy));
    }

    /// Writes the file beside, and renames it once it is on the disk.
    fn write(&self, list: LiveList, entries: &[Listed]) -> io::Result<()> {
        let file = file_of(&self.directory, list);
        let new = file.with_extension("new");
        let mut text = format!(
            "# Listed by `greygate {list} add`. The daemon rewrites this file; take lines out with\n\
             # `greygate {list} remove`, or copy them to a file of [lists] {list}_files.\n"
        );
        for listed in entries {
            if let Source::Live(order) = &listed.source {
                writeln!(text, "{}  # {}", listed.entry, comment(order))
                    .expect("writing to a String cannot fail");
            }
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut written = options.open(&new)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(&self.directory)?.sync_all()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, list: LiveList) -> &[Listed] {
        match list {
            LiveList::Allow => &self.ordered.allow,
            LiveList::Deny => &self.ordered.deny,
        }
    }

    fn of_mut(&mut self, list: LiveList) -> &mut Vec<Listed> {
        match list {
            LiveList::Allow => &mut self.ordered.allow,
            LiveList::Deny => &mut self.ordered.deny,
        }
    }
}

/// The thread that takes out what has ended.
#[derive(Debug)]
pub(super) struct Ender {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ender {
    /// Starts it; `ended` is called after it took out some.
    pub(super) fn start(
        lists: Arc<LiveLists>,
        clock: Arc<dyn Clock>,
        ended: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("lists".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                    if lists.end(clock.now()) {
                        ended();
                    }
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// How many entries there are.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    entries: Family<ListLabels, Gauge>,
    live: Family<ListLabels, Gauge>,
    limit: Gauge,
    refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    list: &'static str,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("lists");
        let entries = self.entries.clone();
        registry.register("entries", "Entries of each list that are in force", entries);
        let live = self.live.clone();
        registry.register("live", "Those of them that were ordered by a command", live);
        let limit = self.limit.clone();
        registry.register("live_limit", "Most that may be, in each list", limit);
        let refused = self.refused.clone();
        let help = "Orders to list somebody for which there was no room";
        registry.register("live_refused", help, refused);
    }

    fn show(&self, policy: &Policy, state: &State) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let lists = &policy.lists;
        for (name, list) in [
            (ListName::Allow, &lists.allow),
            (ListName::Deny, &lists.deny),
            (ListName::Local, &lists.local),
            (ListName::NeverTrust, &lists.never_trust),
            (ListName::NoRetry, &lists.no_retry),
        ] {
            let list: &List = list;
            let labels = ListLabels {
                list: name.as_str(),
            };
            let entries = self.entries.get_or_create_owned(&labels);
            entries.set(count(list.entries().len()));
        }
        for list in LiveList::ALL {
            let labels = ListLabels {
                list: list.as_str(),
            };
            let live = self.live.get_or_create_owned(&labels);
            live.set(count(state.of(list).len()));
        }
        self.limit.set(count(state.limit));
    }
}

fn without_lists(policy: &Policy) -> Policy {
    policy.with_lists(&Arc::default())
}

/// Where else `entry` stands.
fn configured(state: &State, list: LiveList, entry: &Entry) -> Option<String> {
    let listed = list.of(&state.configured).entries();
    let same = listed.iter().find(|it| it.entry == *entry)?;
    Some(same.source.to_string())
}

fn alive(entries: &[Listed], now: Timestamp) -> Vec<Listed> {
    let alive = entries.iter().filter(|it| !has_ended_at(it, now));
    alive.cloned().collect()
}

fn has_ended_at(listed: &Listed, now: Timestamp) -> bool {
    match &listed.source {
        Source::Live(order) => order.until.is_some_and(|until| until <= now),
        _ => false,
    }
}

fn shown(listed: &Listed) -> Option<LiveEntry> {
    let Source::Live(order) = &listed.source else {
        return None;
    };
    Some(LiveEntry {
        entry: listed.entry.to_string(),
        at: seconds(order.at),
        uid: order.uid,
        until: order.until.map(seconds),
        note: order.note.clone(),
    })
}

fn file_of(directory: &Path, list: LiveList) -> PathBuf {
    directory.join(format!("live-{list}.list"))
}

/// What the file holds that has not ended. One that is damaged is set aside.
fn found(file: &Path, now: Timestamp) -> Vec<Listed> {
    let mut is_read = true;
    let (entries, wrong) = match bytes_of(file) {
        Ok(bytes) => {
            // One bad byte is the fault of its line alone.
            let text = String::from_utf8_lossy(&bytes);
            let (lines, faults) = parse_list(&text);
            let mut wrong = Vec::new();
            if let Cow::Owned(_) = text {
                wrong.push("not all of it is UTF-8 text".to_owned());
            }
            let told = |(line, why)| format!("line {line}: {why}");
            wrong.extend(faults.into_iter().map(told));
            let mut entries = Vec::new();
            for line in lines {
                match order_of(&line.comment) {
                    Some(order) => entries.push(Listed {
                        entry: line.entry,
                        source: Source::Live(Arc::new(order)),
                    }),
                    None => wrong.push(format!("line {}: no date, uid and end", line.line)),
                }
            }
            (entries, wrong)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            is_read = false;
            (Vec::new(), vec![error.to_string()])
        }
    };
    if !wrong.is_empty() {
        let kept = file.with_extension("broken");
        // What can be read of it stays in force, and is written anew by the next change. What cannot be
        // read cannot be copied either, and would be lost by that.
        let result = if is_read {
            fs::copy(file, &kept).map(drop)
        } else {
            fs::rename(file, &kept)
        };
        tracing::warn!(
            file = %file.display(),
            kept = %kept.display(),
            is_kept = result.is_ok(),
            entries = entries.len(),
            why = wrong.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; "),
            "lists-set-aside"
        );
    }
    alive(&entries, now)
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As it is written: `2026-11-22T07:20:00Z uid=0 until=2026-11-29T07:20:00Z note=ticket 4711`.
fn comment(order: &Order) -> String {
    let mut text = format!("{} uid={}", written(order.at), order.uid);
    if let Some(until) = order.until {
        write!(text, " until={}", written(until)).expect("writing to a String cannot fail");
    }
    if !order.note.is_empty() {
        write!(text, " note={}", order.note).expect("writing to a String cannot fail");
    }
    text
}

fn order_of(comment: &str) -> Option<Order> {
    let (facts, note) = match comment.split_once(" note=") {
        Some((facts, note)) => (facts, note),
        None => (comment, ""),
    };
    let mut facts = facts.split(' ');
    let at = read(facts.next()?)?;
    let uid = facts.next()?.strip_prefix("uid=")?.parse().ok()?;
    let until = match facts.next() {
        Some(until) => Some(read(until.strip_prefix("until=")?)?),
        None => None,
    };
    Some(Order {
        at,
        uid,
        until,
        note: note.to_owned(),
    })
}

/// A time as RFC 3339 has it, in UTC.
fn written(at: Timestamp) -> String {
    let time = i64::try_from(seconds(at)).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn read(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let mut time = time.split(':');
    let year = date.next()?.parse().ok()?;
    let month = Month::try_from(date.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, date.next()?.parse().ok()?).ok()?;
    let mut part = || time.next()?.parse::<u8>().ok();
    let time = Time::from_hms(part()?, part()?, part()?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time)
        .assume_utc()
        .unix_timestamp();
    Some(Timestamp::from_millis(
        u64::try_from(seconds).ok()?.checked_mul(1_000)?,
    ))
}

fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

/// How soon an entry that has ended counts no more.
const ROUND: Duration = Duration::from_secs(1);
/// Entries in one answer: more than anybody reads.
const SHOWN: usize = 1_000;
/// Faults of a file that are logged.
const TOLD: usize = 5;
/// A hundred thousand entries with their notes.
const LARGEST: u64 = 64 << 20;

#[cfg(test)]
mod tests;
