//! What operators list while the daemon runs, and the rules that come of it and of the configuration.
//!
//! Kept in a file for each list, in the directory of the store (`file`), and told to the other hosts of a site
//! (`shared`). A change counts once it is on the disk.
//!
//! An entry that has ended is taken out within a second, by a thread of its own (`round`).
//!
//! Log words: `listed-no-more` (info, an entry has ended), `lists-heard` (info, another host's orders),
//! `lists-set-aside` and `lists-unwritten` (warn).

mod file;
mod metrics;
mod round;
mod shared;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::file::Contents;
pub(super) use self::metrics::Metrics;
pub(super) use self::round::Round;
use self::shared::{Inbox, Outbox};
use super::sentences::{Ordered, in_force};
use crate::admin::{LiveChange, LiveEntries, LiveEntry};
use crate::config::Config;
use crate::policy::{Entry, ListOrder, Listed, LiveList, Order, Policy, Source, Timestamp, Word};

/// The lists that orders change, and the rules in force that they are part of.
#[derive(Debug)]
pub(super) struct LiveLists {
    directory: PathBuf,
    policy: Arc<ArcSwap<Policy>>,
    /// The same without any list, for whoever keeps it for long.
    sessions: Arc<ArcSwap<Policy>>,
    metrics: Arc<Metrics>,
    inbox: Inbox,
    outbox: Outbox,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As the configuration has it.
    configured: Policy,
    limit: usize,
    allow: Contents,
    deny: Contents,
    /// There was no room for an order of another host.
    has_refused: bool,
}

/// How many entries of a list there may be.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    listed: usize,
    /// Of those that were removed: none where nobody has to hear of it.
    removed: usize,
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
        let outbox = Outbox::new(config.cluster.shares());
        let limit = config.lists.live;
        let bounds = Bounds::of(limit, &outbox);
        let [allow, deny] = LiveList::ALL.map(|list| {
            file::read(&file::path(&directory, list)).without_ended(bounds.removed, now)
        });
        let state = State {
            configured: config.policy.clone(),
            limit,
            allow,
            deny,
            has_refused: false,
        };
        let lists = Self {
            directory,
            policy,
            sessions: Arc::new(ArcSwap::from_pointee(without_lists(&state.configured))),
            metrics,
            inbox: Inbox::default(),
            outbox,
            state: Mutex::new(state),
        };
        lists.put_in_force(&mut lists.state());
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
        self.put_in_force(&mut state);
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
        let bounds = self.bounds(&state);
        let mut contents = state.of(list).without_ended(bounds.removed, order.at);
        let at = contents.after_the_latest_word(entry, order.at);
        contents.listed.retain(|it| it.entry != *entry);
        contents.removed.remove(entry);
        if contents.listed.len() >= state.limit {
            self.metrics.refused.inc();
            return Err(Unlisted::Full(state.limit));
        }
        let order = Arc::new(Order {
            at,
            until: order.until.map(whole),
            ..order
        });
        contents.listed.push(Listed {
            entry: entry.clone(),
            source: Source::Live(Arc::clone(&order)),
        });
        let until = order.until.map(seconds);
        self.change(&mut state, list, contents, entry, Word::Listed(order))?;
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
        let bounds = self.bounds(&state);
        let mut contents = state.of(list).without_ended(bounds.removed, now);
        let also = configured(&state, list, entry);
        let at = contents.after_the_latest_word(entry, now);
        let before = contents.listed.len();
        contents.listed.retain(|it| it.entry != *entry);
        if contents.listed.len() == before {
            let hint = match also {
                Some(source) => format!("; it stands at {source}: take it out there, and reload"),
                None => format!("; `greygate {list} list` shows what was"),
            };
            return Err(Unlisted::Unknown(entry.clone(), hint));
        }
        contents.removed.insert(entry.clone(), at);
        contents.forget_removed(bounds.removed, now);
        self.change(&mut state, list, contents, entry, Word::Removed(at))?;
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
        let mut entries: Vec<_> = alive(&state.of(list).listed, now)
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
            file: file::path(&self.directory, list).display().to_string(),
        }
    }

    /// Takes out what has ended at `now`. Says whether anything had.
    pub(super) fn end(&self, now: Timestamp) -> bool {
        let mut state = self.state();
        let mut has_ended = false;
        for list in LiveList::ALL {
            let all = &state.of(list).listed;
            // Each second, of what may be a hundred thousand: nothing is copied unless one has ended.
            if !all.iter().any(|it| has_ended_at(it, now)) {
                continue;
            }
            has_ended = true;
            for ended in all.iter().filter(|it| has_ended_at(it, now)) {
                tracing::info!(list = list.as_str(), entry = %ended.entry, "listed-no-more");
            }
            let bounds = self.bounds(&state);
            let contents = state.of(list).without_ended(bounds.removed, now);
            // It has ended, whether or not the disk hears of it: at the next start it is left out.
            self.write_or_say(list, &contents);
            *state.of_mut(list) = contents;
        }
        if has_ended {
            self.put_in_force(&mut state);
        }
        has_ended
    }

    /// Makes a change, whose last word on `entry` others are to hear.
    fn change(
        &self,
        state: &mut State,
        list: LiveList,
        contents: Contents,
        entry: &Entry,
        word: Word,
    ) -> Result<(), Unlisted> {
        file::write(&self.directory, list, &contents).map_err(|source| Unlisted::Unwritten {
            file: file::path(&self.directory, list),
            source,
        })?;
        *state.of_mut(list) = contents;
        self.put_in_force(state);
        let entry = entry.clone();
        self.outbox.put(ListOrder { list, entry, word });
        Ok(())
    }

    /// Writes what counts all the same if that fails.
    fn write_or_say(&self, list: LiveList, contents: &Contents) {
        if let Err(error) = file::write(&self.directory, list, contents) {
            tracing::warn!(%error, list = list.as_str(), "lists-unwritten");
        }
    }

    fn put_in_force(&self, state: &mut State) {
        let ordered = Ordered {
            allow: &state.allow.listed,
            deny: &state.deny.listed,
        };
        let policy = in_force(&state.configured, ordered);
        let live = |list| state.of(list).listed.len();
        self.metrics.show(&policy, live, state.limit);
        let has_room = LiveList::ALL.into_iter().any(|it| live(it) < state.limit);
        if state.has_refused && has_room {
            state.has_refused = false;
            self.inbox.lack();
        }
        self.policy.store(Arc::new(policy));
    }

    fn bounds(&self, state: &State) -> Bounds {
        Bounds::of(state.limit, &self.outbox)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn of(&self, list: LiveList) -> &Contents {
        match list {
            LiveList::Allow => &self.allow,
            LiveList::Deny => &self.deny,
        }
    }

    const fn of_mut(&mut self, list: LiveList) -> &mut Contents {
        match list {
            LiveList::Allow => &mut self.allow,
            LiveList::Deny => &mut self.deny,
        }
    }
}

impl Bounds {
    fn of(limit: usize, outbox: &Outbox) -> Self {
        Self {
            listed: limit,
            removed: if outbox.is_open() { limit } else { 0 },
        }
    }
}

impl Contents {
    /// The time of an order that is given now, in whole seconds, as everybody keeps it: what was said of `entry`
    /// last counts, were it by the clock of a host that is ahead.
    fn after_the_latest_word(&self, entry: &Entry, now: Timestamp) -> Timestamp {
        let listed = self.listed.iter().find(|it| it.entry == *entry);
        let listed = listed.and_then(|it| match &it.source {
            Source::Live(order) => Some(order.at),
            _ => None,
        });
        let latest = listed.max(self.removed.get(entry).copied());
        let next = latest.map_or(Timestamp::NEVER, |it| it.after(SECOND));
        whole(now).max(next)
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
        Source::Live(order) => order.has_ended(now),
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

fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(seconds(at) * 1_000)
}

const SECOND: Duration = Duration::from_secs(1);
/// Entries in one answer: more than anybody reads.
const SHOWN: usize = 1_000;

#[cfg(test)]
mod tests;
