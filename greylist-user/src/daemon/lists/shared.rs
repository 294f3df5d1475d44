//! The lists that orders change, as other hosts of the site hear of them: what was ordered here, and what is
//! heard.
//!
//! Whoever hears does not wait for the disk: what came is taken in by the thread of the lists, all at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use super::LiveLists;
use super::file::Contents;
use crate::cluster::Lists;
use crate::policy::{Entry, ListOrder, Listed, LiveList, Source, Timestamp, Word};

/// What other hosts ordered and is not taken in yet, and who takes it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    heard: Mutex<Vec<ListOrder>>,
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
            return false;
        }
        heard.push(order);
        drop(heard);
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
        true
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
            let limit = state.limit;
            let (contents, refused) = merged(state.of(list), of_list, limit, now);
            self.metrics.refused.inc_by(refused);
            let Some(contents) = contents else {
                continue;
            };
            // It counts, whether or not the disk hears of it: after a start the others tell it again.
            self.write_or_say(list, &contents);
            *state.of_mut(list) = contents;
            has_changed = true;
        }
        if has_changed {
            self.put_in_force(&state);
        }
        has_changed
    }
}

/// What a list comes to with what was heard, if any of it is new; and how many entries found no room.
fn merged<'a>(
    held: &Contents,
    heard: impl Iterator<Item = &'a ListOrder>,
    limit: usize,
    now: Timestamp,
) -> (Option<Contents>, u64) {
    let mut words = words(held);
    let mut listed = held.listed.len();
    let (mut is_news, mut refused) = (false, 0);
    for ListOrder { entry, word, .. } in heard {
        let prior = words.get(entry);
        if prior.is_some_and(|prior| !word.supersedes(prior)) {
            continue;
        }
        let was_listed = matches!(prior, Some(Word::Listed(_)));
        if let Word::Listed(order) = word {
            if order.has_ended(now) {
                // It takes the place of what was held, and is over itself.
                is_news |= words.remove(entry).is_some();
                listed -= usize::from(was_listed);
                continue;
            }
            if !was_listed && listed >= limit {
                refused += 1;
                continue;
            }
            listed += 1;
        }
        listed -= usize::from(was_listed);
        words.insert(entry.clone(), word.clone());
        is_news = true;
    }
    if !is_news {
        return (None, refused);
    }
    let mut contents = Contents::default();
    for (entry, word) in words {
        match word {
            Word::Listed(order) => contents.listed.push(Listed {
                entry,
                source: Source::Live(order),
            }),
            Word::Removed(at) => drop(contents.removed.insert(entry, at)),
        }
    }
    contents.listed.sort_by_key(|it| match &it.source {
        Source::Live(order) => order.at,
        _ => Timestamp::NEVER,
    });
    contents.forget_removed(limit, now);
    (Some(contents), refused)
}

impl Contents {
    /// Forgets who was removed long ago, and the earliest of too many.
    pub(super) fn forget_removed(&mut self, most: usize, now: Timestamp) {
        let removed = &mut self.removed;
        removed.retain(|_, at| at.after(Word::REMOVED_KEPT) > now);
        if removed.len() > most {
            let mut times: Vec<_> = removed.values().copied().collect();
            times.sort_unstable();
            let latest_to_go = times[times.len() - most - 1];
            removed.retain(|_, at| *at > latest_to_go);
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

/// Orders that wait to be taken in, which is a matter of milliseconds.
const MOST_HEARD: usize = 1 << 18;
