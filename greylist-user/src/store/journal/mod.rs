//! The journal: what has changed since the latest snapshot, on the disk within a second.
//!
//! What is written is state, not what was done: the tables note the keys of changed entries, and a
//! thread of its own reads each as it is by then and writes its row, or that it is gone. So replaying
//! is putting rows in their places, once or ten times, and what lapses needs no word.
//!
//! Knows the order of things between journals and snapshots; files are `file`'s and `replay`'s, keys
//! those of `changes`. A snapshot begins by turning to a new journal and names it in its header.
//! It gets its own name only when everything that changed while it was copied is in a journal on the
//! disk: otherwise an older row there would take the place of a newer copy. Where no journal could be
//! begun meanwhile, none is until the snapshot has its name, and the snapshot is whole without.
//!
//! Nobody who judges waits for any of this. When the disk is full, what has changed stays marked, up
//! to a bound; beyond that a snapshot is asked for.
//!
//! Log words: `journal-cut`, `journal-works` (info), `journal-failing`, `journal-missing` (warn).

mod file;
mod replay;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::kernel_now;
use crate::policy::Timestamp;

use super::changes::{Bell, Changes, Ear};
use super::codec::Header;
use super::restored::Restored;
use super::{Metrics, OpenError, Store};

pub use file::Wrote;
use file::{AfterFailure, JournalHeader, OpenJournal};
pub use replay::{Cut, Replayed};
pub(super) use writer::JournalWriter;

/// When changes are written to the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalMode {
    /// As soon as there are any.
    Each,
    /// Not at all.
    Never,
    /// In groups, so that none is older than a second.
    #[default]
    Second,
}

impl JournalMode {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Never => "never",
            Self::Second => "second",
        }
    }
}

/// Changes could not be written. They stay marked.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the journal {}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// How the journal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalStanding {
    /// When changes are written.
    pub mode: JournalMode,
    /// How old the oldest change may be that is not on the disk.
    pub lag: Duration,
    /// When the latest group was written, in milliseconds since the Unix epoch; [`None`] if none was
    /// since the start.
    pub synced: Option<u64>,
    /// Why the latest group could not be written; [`None`] if it could.
    pub trouble: Option<String>,
    /// Whether more has changed than could be noted, so that only a snapshot makes the disk whole.
    pub incomplete: bool,
}

/// The journal of a store that has a directory.
#[derive(Debug)]
pub(super) struct Journal {
    mode: JournalMode,
    bell: Arc<Bell>,
    pen: Mutex<Pen>,
    /// Up to which moment all changes are on the disk, in milliseconds of [`kernel_now`].
    synced_to: AtomicU64,
    /// When the latest group was written; 0 if none was.
    synced: AtomicU64,
    /// Changes were taken from the lists and are not on the disk.
    holds: AtomicBool,
    failing: AtomicBool,
    /// Why.
    trouble: Mutex<Option<String>>,
}

/// What whoever writes has in hand.
#[derive(Debug, Default)]
struct Pen {
    open: Option<OpenJournal>,
    /// The number of the journal that is begun next.
    next: u64,
    changes: Changes,
    sheet: Vec<u8>,
    /// When the latest snapshot was taken.
    follows: Timestamp,
    /// The first journal that goes on from the latest snapshot: what precedes it is not needed once
    /// that one is the previous.
    first_of_latest: u64,
    /// Something may stand in a journal that goes on from the snapshot that is being made.
    has_appended: bool,
}

/// What keeps the snapshot that is being made in step with the journal.
pub(super) struct Fence<'a> {
    /// The first journal that goes on from the snapshot.
    pub(super) first: u64,
    /// Nothing is written to a journal until the snapshot has its name, since nothing could be.
    held: Option<MutexGuard<'a, Pen>>,
    /// The snapshot was asked for.
    asked: bool,
    /// When it was begun.
    begun: u64,
}

impl Journal {
    /// The journal of a store of which nothing was read yet.
    pub(super) fn new(mode: JournalMode, metrics: &Metrics) -> Self {
        let calls_at_once = mode == JournalMode::Each;
        let bell = Bell::new(calls_at_once, metrics.journal_overflows.clone());
        Self {
            mode,
            bell: Arc::new(bell),
            pen: Mutex::default(),
            synced_to: AtomicU64::new(monotonic()),
            synced: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            trouble: Mutex::default(),
        }
    }

    /// Calls whoever writes.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Whether more has changed than was noted: a snapshot is wanted.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.bell.has_overflowed()
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> bool {
        self.mode != JournalMode::Never
    }

    /// How old the oldest change may be that is not on the disk.
    fn lag(&self) -> Duration {
        let waits = self.bell.has_noted() || self.holds.load(Ordering::Relaxed);
        let synced_to = self.synced_to.load(Ordering::Relaxed);
        Duration::from_millis(if waits && self.writes() {
            monotonic().saturating_sub(synced_to)
        } else {
            0
        })
    }

    fn standing(&self) -> JournalStanding {
        let synced = self.synced.load(Ordering::Relaxed);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        JournalStanding {
            mode: self.mode,
            lag: self.lag(),
            synced: (synced > 0).then_some(synced),
            trouble: trouble.clone(),
            incomplete: self.bell.is_incomplete(),
        }
    }
}

impl Store {
    /// Writes what has changed since this was called last, and returns when it is on the disk. What
    /// cannot be written stays marked for the next time.
    pub fn sync_journal(&self, now: Timestamp) -> Result<Wrote, JournalError> {
        match &self.journal {
            Some(journal) => self.write_group(journal, &mut journal.pen(), now),
            None => Ok(Wrote::default()),
        }
    }

    /// How the journal stands; [`None`] of a store that lives in memory alone.
    pub fn journal_standing(&self) -> Option<JournalStanding> {
        self.journal.as_ref().map(Journal::standing)
    }

    /// Replays what was written since the snapshot that `header` is of, and begins to note changes.
    pub(super) fn resume_journal(
        &mut self,
        header: Option<&Header>,
        now: Timestamp,
        restored: &mut Restored,
    ) -> Result<(), OpenError> {
        let found = self.replay(header, now, restored)?;
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        *journal.pen() = Pen {
            next: found.next,
            follows: header.map_or(Timestamp::NEVER, |it| it.taken),
            // Without a snapshot, whatever there is may be needed.
            first_of_latest: match header {
                Some(header) if header.journal > 0 => header.journal,
                Some(_) => found.first.unwrap_or(found.next),
                None => 0,
            },
            ..Pen::default()
        };
        if !journal.writes() {
            return Ok(());
        }
        let bell = Arc::clone(&journal.bell);
        self.note_changes(Ear::Journal, &bell);
        Ok(())
    }

    fn replay(
        &self,
        header: Option<&Header>,
        now: Timestamp,
        restored: &mut Restored,
    ) -> Result<replay::Found, OpenError> {
        let policy = self.policy.load_full();
        let directory = &self.settings.directory;
        let seed = self.seed.fingerprint();
        let found = replay::read(directory, seed, header, now, |row| {
            self.replay_row(row, &policy, now, restored);
        })
        .map_err(|it| OpenError::Journal {
            path: it.path,
            source: it.source,
        })?;
        for aside in &found.set_aside {
            aside.log();
        }
        if let Some(cut) = &found.replayed.cut {
            tracing::info!(file = %cut.file.display(), bytes = cut.bytes, "journal-cut");
        }
        if !found.replayed.missing.is_empty() {
            tracing::warn!(numbers = ?found.replayed.missing, "journal-missing");
        }
        let is_damaged = !found.set_aside.is_empty() || !found.replayed.missing.is_empty();
        if let Some(journal) = &self.journal
            && is_damaged
        {
            // The sooner it stands without what is damaged, the better.
            journal.bell.ask_for_snapshot();
        }
        if let Some(begun) = found.begun {
            // A history from the future would never grow old.
            let begun = begun.min(now).as_millis();
            self.begun.fetch_min(begun, Ordering::Relaxed);
        }
        if found.replayed.rows > 0 {
            self.count_restored(restored);
        }
        self.metrics.journal_replayed.inc_by(found.replayed.files);
        restored.journal = found.replayed.clone();
        restored.set_aside.extend(found.set_aside.iter().cloned());
        Ok(found)
    }

    fn write_group(
        &self,
        journal: &Journal,
        pen: &mut Pen,
        now: Timestamp,
    ) -> Result<Wrote, JournalError> {
        if !journal.writes() {
            return Ok(Wrote::default());
        }
        journal.bell.answer();
        let drained = monotonic();
        pen.changes.add_changes(self, Ear::Journal);
        let held = pen.changes.len();
        // While writing fails, what has nothing to say tries whether it still does.
        if held == 0 && !journal.failing.load(Ordering::Relaxed) {
            pen.changes.clear();
            journal.synced_to.store(drained, Ordering::Relaxed);
            journal.holds.store(false, Ordering::Relaxed);
            return Ok(Wrote::default());
        }
        journal.holds.store(held > 0, Ordering::Relaxed);
        let written = self.write_batch(pen, now);
        match &written {
            Ok(wrote) => {
                pen.changes.clear();
                let oldest = journal.synced_to.swap(drained, Ordering::Relaxed);
                journal.holds.store(false, Ordering::Relaxed);
                journal.synced.store(now.as_millis(), Ordering::Relaxed);
                let took = monotonic();
                self.metrics.journal_groups.inc();
                self.metrics.journal_rows.inc_by(wrote.rows);
                self.metrics.journal_bytes.inc_by(wrote.bytes);
                self.metrics
                    .journal_write
                    .set(seconds(took.saturating_sub(drained)));
                self.metrics
                    .journal_lag
                    .set(seconds(took.saturating_sub(oldest)));
                self.note_journal_works(journal);
            }
            Err(error) => {
                self.metrics.journal_failures.inc();
                self.metrics.journal_lag.set(journal.lag().as_secs_f64());
                self.note_journal_fails(journal, error);
                if held > MOST_HELD {
                    // A snapshot makes up for it; so the memory that this takes is bounded.
                    pen.changes.clear();
                    journal.bell.overflow();
                }
            }
        }
        written
    }

    fn write_batch(&self, pen: &mut Pen, now: Timestamp) -> Result<Wrote, JournalError> {
        let directory = &self.settings.directory;
        let failed = |path: PathBuf| move |source| JournalError { path, source };
        let mut open = if let Some(open) = pen.open.take() {
            open
        } else {
            let header = JournalHeader {
                seed: self.seed.fingerprint(),
                number: pen.next,
                begun: now,
                follows: pen.follows,
                history: self.history(),
            };
            let open = match OpenJournal::begin(directory, &header) {
                Ok(open) => open,
                Err(source) => {
                    if source.kind() == io::ErrorKind::AlreadyExists {
                        // Left by somebody who could not be removed.
                        pen.next += 1;
                    }
                    return Err(failed(file::path(directory, header.number))(source));
                }
            };
            pen.next += 1;
            open
        };
        pen.has_appended = true;
        let path = open.path().to_owned();
        let changes = &pen.changes;
        let written = open.write_group(&mut pen.sheet, now, |writer| {
            changes.give_rows(self, |row| writer.push(&row))
        });
        match written {
            Ok(wrote) => {
                pen.open = Some(open);
                Ok(wrote)
            }
            Err((source, after)) => {
                let number = open.number;
                if !open.has_groups() {
                    // A full disk is not to fill with beginnings.
                    if open.remove() {
                        pen.next = number;
                    }
                } else if after == AfterFailure::Whole {
                    pen.open = Some(open);
                }
                Err(failed(path)(source))
            }
        }
    }

    fn note_journal_works(&self, journal: &Journal) {
        self.metrics.journal_failing.set(0);
        if journal.failing.swap(false, Ordering::Relaxed) {
            *journal
                .trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("journal-works");
        }
    }

    /// Says once that writing fails, and goes on trying.
    fn note_journal_fails(&self, journal: &Journal, error: &JournalError) {
        self.metrics.journal_failing.set(1);
        let why = format!("{error}: {}", error.source);
        *journal
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(why);
        if !journal.failing.swap(true, Ordering::Relaxed) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "journal-failing");
        }
    }

    /// Turns to a new journal for a snapshot that is begun now. What has changed until now is written
    /// first: should the snapshot fail, nothing is lost.
    pub(super) fn begin_fence(&self, now: Timestamp) -> Option<Fence<'_>> {
        let journal = self.journal.as_ref()?;
        let mut pen = journal.pen();
        // What fails stays marked, and the thread goes on trying.
        let _told = self.write_group(journal, &mut pen, now);
        let begun = monotonic();
        let asked = journal.bell.begin_snapshot();
        // Begun when there is something to write: a quiet host makes no files.
        pen.open = None;
        pen.has_appended = false;
        Some(Fence {
            first: pen.next,
            held: None,
            asked,
            begun,
        })
    }

    /// Has on the disk what changed while the snapshot was copied. Where no journal could be written all
    /// the while, none is until the snapshot has its name: it is whole without.
    pub(super) fn close_fence<'a>(
        &'a self,
        fence: Option<&mut Fence<'a>>,
        now: Timestamp,
    ) -> io::Result<()> {
        let (Some(journal), Some(fence)) = (&self.journal, fence) else {
            return Ok(());
        };
        let mut pen = journal.pen();
        match self.write_group(journal, &mut pen, now) {
            Ok(_) => Ok(()),
            // Of what stands in a journal, an older row would take the place of a newer copy.
            Err(error) if pen.has_appended => Err(io::Error::other(error)),
            Err(_) => {
                fence.held = Some(pen);
                Ok(())
            }
        }
    }

    /// The snapshot was made, and has its name. Journals that only an older one needs are removed; all
    /// that it does not need itself, if it is to be the `only` file.
    pub(super) fn settle_fence(&self, fence: Option<Fence<'_>>, taken: Timestamp, only: bool) {
        let (Some(journal), Some(fence)) = (&self.journal, fence) else {
            return;
        };
        let Fence {
            first, held, begun, ..
        } = fence;
        let without_journal = held.is_some();
        let mut pen = held.unwrap_or_else(|| journal.pen());
        if without_journal {
            // What had changed by then is in the snapshot. What has since stays marked.
            journal.synced_to.store(begun, Ordering::Relaxed);
        }
        journal.bell.end_snapshot(false);
        let keep_from = if only { first } else { pen.first_of_latest };
        pen.first_of_latest = first;
        pen.follows = taken;
        drop(pen);
        let directory = &self.settings.directory;
        let old = file::list(directory).unwrap_or_default();
        for number in old.into_iter().filter(|it| *it < keep_from) {
            // What cannot be removed is tried again with the next one, and read by nobody.
            let _ = std::fs::remove_file(file::path(directory, number));
        }
    }

    /// The snapshot was not made.
    pub(super) fn abandon_fence(&self, fence: Option<Fence<'_>>) {
        if let (Some(journal), Some(Fence { asked, .. })) = (&self.journal, fence) {
            journal.bell.end_snapshot(asked);
        }
    }

    /// Whether what was written last could not be.
    fn journal_fails(&self) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|it| it.failing.load(Ordering::Relaxed))
    }

    /// Whether only a snapshot makes the disk whole.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::wants_snapshot)
    }

    /// Brings the gauges up to date.
    pub(super) fn show_journal(&self) {
        if let Some(journal) = &self.journal {
            let lag = journal.lag();
            // What the latest group showed is news until the next.
            // A thread that hangs at its disk, or is gone, shows none.
            let is_news = lag.is_zero() || lag > LONG_AGO;
            if is_news || journal.failing.load(Ordering::Relaxed) {
                self.metrics.journal_lag.set(lag.as_secs_f64());
            }
            let incomplete = journal.bell.is_incomplete();
            self.metrics.journal_incomplete.set(incomplete.into());
        }
    }
}

fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

/// Milliseconds that only go forward.
fn monotonic() -> u64 {
    kernel_now().as_nanos() / 1_000_000
}

/// No group takes so long that is on its way.
const LONG_AGO: Duration = Duration::from_secs(2);
/// Keys that are held for a disk that does not take them, beside those that are still noted.
const MOST_HELD: usize = 1 << 18;
