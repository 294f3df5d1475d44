//! The table of sentences of one address family, and the presence map that goes with it.
//!
//! Knows which keys are certainly new and which may be there, and so which way they are written:
//! new ones by the thousand, replaced ones singly, since what the kernel wrote into them is carried
//! over. Knows nothing of policy: what stands in an entry is the caller's.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, IterableMap, MapData, MapError},
};
use greylist_ebpf::abi::{self, ClientEntry, KernelTime, Presence};

use super::{
    batch, key::SentenceKey, map_error, os_error, presence::Image, take_map, unless_absent,
};
use crate::{
    kernel::{FilterError, sys::Stopped},
    policy::SentencedClient,
};

/// One family's table.
pub(super) struct Table<K> {
    entries: HashMap<MapData, K, ClientEntry>,
    presence: Array<MapData, Presence>,
    /// No bit that the kernel's presence map lacks, and the bit of every entry.
    image: Image,
    len: u64,
    names: Names,
    capacity: u32,
}

/// What a table and its presence map are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// The map of sentences.
    pub(super) entries: &'static str,
    /// The presence map.
    pub(super) presence: &'static str,
    /// The address family, for a person.
    pub(super) family: &'static str,
}

impl<K: SentenceKey> Table<K> {
    /// Takes the table out of `ebpf`, and makes its presence map tell what is in it.
    pub(super) fn take(ebpf: &mut Ebpf, names: Names, capacity: u32) -> Result<Self, FilterError> {
        let mut table = Self {
            entries: take_map(ebpf, names.entries)?,
            presence: take_map(ebpf, names.presence)?,
            image: Image::empty(abi::presence_words(capacity)),
            len: 0,
            names,
            capacity,
        };
        table.read(|_, _| ())?;
        Ok(table)
    }

    /// Entries in the table.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes or, where there is no entry to write, removes; each key in the order of `writes`. What
    /// fails does not keep the rest from being tried.
    pub(super) fn apply(
        &mut self,
        mut writes: Vec<(K, Option<ClientEntry>)>,
        now: KernelTime,
    ) -> Result<(), FilterError> {
        // Stable, so that the writes of one key stay in their order. Those of one presence bit come
        // together, and none of them makes another look as if it were there.
        writes.sort_by_key(|(key, _)| *key);
        let (mut removals, mut puts) = (Vec::new(), Vec::new());
        for same_key in writes.chunk_by(|one, other| one.0 == other.0) {
            if let Some(&(key, _)) = same_key.iter().find(|(_, write)| write.is_none()) {
                removals.push(key);
            }
            if let Some(&(key, Some(entry))) = same_key.last() {
                puts.push((key, entry));
            }
        }
        let removed = self.remove(&removals);
        puts.chunks(BATCH)
            .map(|puts| self.put(puts, now))
            .fold(removed, Result::and)
    }

    /// The entry of one key.
    pub(super) fn look_up(&self, key: K) -> Result<Option<ClientEntry>, FilterError> {
        unless_absent(self.entries.get(&key, 0)).map_err(map_error(self.names.entries, "read"))
    }

    /// Shows `visit` every entry, and clears the presence bits under which there is none any more.
    ///
    /// Entries that greygate does not write are somebody else's, and removed.
    pub(super) fn read(
        &mut self,
        mut visit: impl FnMut(SentencedClient, &ClientEntry),
    ) -> Result<(), FilterError> {
        let (mut there, mut strange) = (Image::empty(self.words()), Vec::new());
        let mut len = 0;
        batch::read(self.fd(), |key: K, entry: ClientEntry| {
            if let Some(client) = key.client() {
                there.set(&key);
                len += 1;
                visit(client, &entry);
            } else {
                strange.push(key);
            }
        })
        .map_err(self.cannot_be("read"))?;
        self.len = len;
        self.present(&there)?;
        if !strange.is_empty() {
            let (entries, map) = (strange.len(), self.names.entries);
            tracing::warn!(entries, map, "strange");
            batch::delete(self.fd(), &strange)
                .map_err(|stopped| self.cannot_be("written")(stopped.error))?;
        }
        Ok(())
    }

    /// Elements of the presence map.
    fn words(&self) -> u32 {
        abi::presence_words(self.capacity)
    }

    /// Makes the presence map say what `image` says, and no more.
    fn present(&mut self, image: &Image) -> Result<(), FilterError> {
        // What a stranger wrote into it is mended as well.
        let mut kernel = Image::empty(self.words());
        batch::read(fd_of(&self.presence), |index, word| kernel.put(index, word))
            .map_err(|error| presence_error(self.names, "read", error))?;
        let wrong = image.differing(&kernel);
        let (indexes, words): (Vec<u32>, Vec<Presence>) = wrong.into_iter().unzip();
        // A bit that cannot be written is missing until the next reading, which the error brings about.
        self.image = image.clone();
        batch::update(fd_of(&self.presence), &indexes, &words)
            .map_err(|stopped| presence_error(self.names, "written", stopped.error))
    }

    /// Removes entries, of which any may be absent.
    fn remove(&mut self, keys: &[K]) -> Result<(), FilterError> {
        let there: Vec<K> = keys
            .iter()
            .filter(|key| self.image.may_hold(*key))
            .copied()
            .collect();
        let (removed, outcome) = match batch::delete(self.fd(), &there) {
            Ok(removed) => (removed, Ok(())),
            Err(Stopped { done, error }) => (done, Err(self.cannot_be("written")(error))),
        };
        self.len = self.len.saturating_sub(count(removed));
        outcome
    }

    /// Writes entries under keys that differ from one another.
    fn put(&mut self, puts: &[(K, ClientEntry)], now: KernelTime) -> Result<(), FilterError> {
        let (perhaps, new): (Vec<_>, Vec<_>) = puts
            .iter()
            .copied()
            .partition(|(key, _)| self.image.may_hold(key));
        // Without its bit an entry would lie there unseen, so it is not written.
        let inserted = self
            .announce(new.iter().map(|(key, _)| key))
            .and_then(|()| self.insert(new));
        perhaps
            .into_iter()
            .map(|(key, entry)| self.replace(key, entry, now))
            .fold(inserted, Result::and)
    }

    /// Sets the presence bits of `keys`.
    fn announce<'k>(&mut self, keys: impl Iterator<Item = &'k K>) -> Result<(), FilterError>
    where
        K: 'k,
    {
        let wanting = self.image.wanting(keys);
        if wanting.is_empty() {
            return Ok(());
        }
        let (indexes, words): (Vec<u32>, Vec<Presence>) = wanting.iter().copied().unzip();
        batch::update(fd_of(&self.presence), &indexes, &words)
            .map_err(|stopped| presence_error(self.names, "written", stopped.error))?;
        for (index, word) in wanting {
            self.image.put(index, word);
        }
        Ok(())
    }

    /// Writes entries under keys that are certainly new.
    fn insert(&mut self, new: Vec<(K, ClientEntry)>) -> Result<(), FilterError> {
        let (keys, entries): (Vec<K>, Vec<ClientEntry>) = new.into_iter().unzip();
        let (mut keys, mut entries) = (&keys[..], &entries[..]);
        let mut outcome = Ok(());
        while !keys.is_empty() {
            let Err(Stopped { done, error }) = batch::update(self.fd(), keys, entries) else {
                self.len += count(keys.len());
                break;
            };
            self.len += count(done);
            if error.raw_os_error() == Some(libc::E2BIG) {
                // No other new one fits either.
                return outcome.and(Err(self.full()));
            }
            outcome = outcome.and(Err(self.cannot_be("written")(error)));
            keys = keys.get(done + 1..).unwrap_or_default();
            entries = entries.get(done + 1..).unwrap_or_default();
        }
        outcome
    }

    /// Writes an entry that may replace another.
    ///
    /// An update installs a new element, so what the kernel wrote into the old one is carried over.
    /// What it writes between the two calls is lost: a drop is not counted, or a connection that was
    /// let through not charged.
    fn replace(&mut self, key: K, entry: ClientEntry, now: KernelTime) -> Result<(), FilterError> {
        let prior = self.look_up(key)?;
        let entry = match &prior {
            Some(prior) if prior.until > now => entry.carrying_over(prior),
            // What a lapsed sentence met is no part of a new one.
            _ => entry,
        };
        self.entries
            .insert(key, entry, 0)
            .map_err(|error| self.unwritten(error))?;
        self.len += u64::from(prior.is_none());
        Ok(())
    }

    fn unwritten(&self, error: MapError) -> FilterError {
        match os_error(&error) {
            Some(libc::E2BIG) => self.full(),
            _ => map_error(self.names.entries, "written")(error),
        }
    }

    fn full(&self) -> FilterError {
        FilterError::Full {
            family: self.names.family,
            capacity: self.capacity,
        }
    }

    fn cannot_be(&self, done: &'static str) -> impl Fn(io::Error) -> FilterError + use<K> {
        let map = self.names.entries;
        move |error| FilterError::Map {
            map,
            done,
            source: error.into(),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        fd_of(&self.entries)
    }
}

fn presence_error(names: Names, done: &'static str, error: io::Error) -> FilterError {
    FilterError::Map {
        map: names.presence,
        done,
        source: error.into(),
    }
}

fn fd_of<K: aya::Pod, V>(map: &impl IterableMap<K, V>) -> BorrowedFd<'_> {
    map.map().fd().as_fd()
}

fn count(entries: usize) -> u64 {
    u64::try_from(entries).unwrap_or(u64::MAX)
}

/// Entries of one batch: at most 224 KiB, which stay in the cache.
const BATCH: usize = 4_096;
