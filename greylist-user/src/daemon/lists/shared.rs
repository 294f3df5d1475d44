//! The lists that orders change, as other hosts of the site hear of them: what was ordered here, and what is
//! heard.
//!
//! Whoever hears does not wait for the disk: what came is taken in by the thread of the lists, all at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use super::file::Contents;
use super::{Bounds, LiveLists, has_ended_at};
use crate::cluster::Lists;
use crate::policy::{Entry, ListOrder, Listed, LiveList, Source, Timestamp, Word};

/// What other hosts ordered and is not taken in yet, and who takes it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    heard: Mutex<Vec<ListOrder>>,
    /// Something was heard for which there was no room, and there may be by now.
    lacks: AtomicBool,
    reader: OnceLock<Thread>,
}

impl Inbox {
    /// Has this thread called when something comes.
    pub(super) fn calls(&self, reader: Thread) {
        let _there_is_one = self.reader.set(reader);
    }

    /// Puts an order in; says whether there was room.
    fn put(&self, order: ListOrder) -> bool {
        let mut heard = locked(&self.heard);
        if heard.len() >= MOST_HEARD {
            self.lack();
            return false;
        }
        heard.push(order);
        drop(heard);
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
        true
    }

    /// Has all told again.
    pub(super) fn lack(&self) {
        self.lacks.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<ListOrder> {
        std::mem::take(&mut *locked(&self.heard))
    }
}

/// What was ordered here and others have not been told, as far as others are told at all.
#[derive(Debug)]
pub(super) enum Outbox {
    /// This host shares with nobody.
    Closed,
    /// Until it is taken.
    Open(Mutex<Vec<ListOrder>>),
}

impl Outbox {
    pub(super) fn new(shares: bool) -> Self {
        if shares {
            Self::Open(Mutex::default())
        } else {
            Self::Closed
        }
    }

    /// Whether anybody is told.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(super) fn put(&self, order: ListOrder) {
        if let Self::Open(orders) = self {
            locked(orders).push(order);
        }
    }
}

impl Lists for LiveLists {
    fn take_changes(&self) -> Vec<ListOrder> {
        match &self.outbox {
            Outbox::Closed => Vec::new(),
            Outbox::Open(orders) => std::mem::take(&mut *locked(orders)),
        }
    }

    fn all(&self) -> Vec<ListOrder> {
        let state = self.state();
        let of = |list| {
            words(state.of(list))
                .into_iter()
                .map(move |(entry, word)| (list, entry, word))
        };
        let all = LiveList::ALL.into_iter().flat_map(of);
        all.map(|(list, entry, word)| ListOrder { list, entry, word })
            .collect()
    }

    fn hear(&self, order: ListOrder) -> bool {
        self.inbox.put(order)
    }

    fn takes_lack(&self) -> bool {
        self.inbox.lacks.swap(false, Ordering::AcqRel)
    }
}

impl LiveLists {
    /// Takes in what other hosts ordered. Says whether that changed anything.
    pub(super) fn take_in(&self, now: Timestamp) -> bool {
        let heard = self.inbox.take();
        if heard.is_empty() {
            return false;
        }
        let mut state = self.state();
        let mut has_changed = false;
        for list in LiveList::ALL {
            let of_list = heard.iter().filter(|it| it.list == list);
            let merged = merged(state.of(list), of_list, self.bounds(&state), now);
            self.metrics.refused.inc_by(merged.refused);
            state.has_refused |= merged.refused > 0;
            if merged.contents == *state.of(list) {
                continue;
            }
            let (before, after) = (state.of(list).listed.len(), merged.contents.listed.len());
            tracing::info!(list = list.as_str(), before, after, "lists-heard");
            // It counts, whether or not the disk hears of it: after a start the others tell it again.
            self.write_or_say(list, &merged.contents);
            *state.of_mut(list) = merged.contents;
            has_changed = true;
        }
        if has_changed {
            self.put_in_force(&mut state);
        }
        has_changed
    }
}

/// What a list comes to with what was heard.
struct Merged {
    contents: Contents,
    /// Entries for which there was no room.
    refused: u64,
}

/// The same whatever comes first: the latest word on each entry counts, and then, as far as there is room, those
/// that are listed already and the others by their age.
fn merged<'a>(
    held: &Contents,
    heard: impl Iterator<Item = &'a ListOrder>,
    bounds: Bounds,
    now: Timestamp,
) -> Merged {
    let mut words = words(held);
    for ListOrder { entry, word, .. } in heard {
        if words.get(entry).is_none_or(|prior| word.supersedes(prior)) {
            words.insert(entry.clone(), word.clone());
        }
    }
    let were_listed: HashSet<_> = held.listed.iter().map(|it| &it.entry).collect();
    let mut contents = Contents::default();
    let mut newcomers = Vec::new();
    for (entry, word) in words {
        match word {
            Word::Removed(at) => drop(contents.removed.insert(entry, at)),
            Word::Listed(order) if order.has_ended(now) => {
                contents.removed.insert(entry, order.at);
            }
            Word::Listed(order) => {
                let was_listed = were_listed.contains(&entry);
                let listed = Listed {
                    entry,
                    source: Source::Live(order),
                };
                if was_listed {
                    contents.listed.push(listed);
                } else {
                    newcomers.push(listed);
                }
            }
        }
    }
    newcomers.sort_by_key(ordered_at);
    let room = bounds.listed.saturating_sub(contents.listed.len());
    let refused = newcomers.len().saturating_sub(room);
    newcomers.truncate(room);
    contents.listed.append(&mut newcomers);
    contents.listed.sort_by_key(ordered_at);
    contents.forget_removed(bounds.removed, now);
    Merged {
        contents,
        refused: refused as u64,
    }
}

fn ordered_at(listed: &Listed) -> Timestamp {
    match &listed.source {
        Source::Live(order) => order.at,
        _ => Timestamp::NEVER,
    }
}

impl Contents {
    /// The same with what has ended as removed when it was ordered: the end of a later order is no reason to go by
    /// an earlier one.
    pub(super) fn without_ended(&self, most_removed: usize, now: Timestamp) -> Self {
        let mut contents = self.clone();
        for ended in self.listed.iter().filter(|it| has_ended_at(it, now)) {
            let at = ordered_at(ended);
            contents.removed.insert(ended.entry.clone(), at);
        }
        contents.listed.retain(|it| !has_ended_at(it, now));
        contents.forget_removed(most_removed, now);
        contents
    }

    /// Forgets who was removed long ago, and the earliest of too many.
    pub(super) fn forget_removed(&mut self, most: usize, now: Timestamp) {
        let removed = &mut self.removed;
        removed.retain(|_, at| at.after(Word::REMOVED_KEPT) > now);
        if removed.len() > most {
            let mut by_time: Vec<_> = removed
                .iter()
                .map(|(entry, at)| (*at, entry.clone()))
                .collect();
            by_time.sort_unstable();
            by_time.truncate(by_time.len() - most);
            for (_, entry) in by_time {
                removed.remove(&entry);
            }
        }
    }
}

/// The latest word on each entry.
fn words(contents: &Contents) -> BTreeMap<Entry, Word> {
    let removed = contents.removed.iter();
    let removed = removed.map(|(entry, at)| (entry.clone(), Word::Removed(*at)));
    let listed = contents.listed.iter().filter_map(|it| match &it.source {
        Source::Live(order) => Some((it.entry.clone(), Word::Listed(Arc::clone(order)))),
        _ => None,
    });
    removed.chain(listed).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders that wait to be taken in: more than there may be of both lists.
const MOST_HEARD: usize = 1 << 18;
