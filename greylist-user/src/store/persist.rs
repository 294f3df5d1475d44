//! What goes to the disk and comes back: a snapshot, and the store's tables as rows.
//!
//! Knows when a snapshot may have its name, which table a row belongs to and what has lapsed meanwhile (`policy`'s word); leaves the
//! layout to `codec` and files to `snapshot`.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::policy::{Policy, Timestamp};

use super::codec::{Gone, Header, Row};
use super::kept::KeptOf;
use super::pace::Pace;
use super::pardons::Pardon;
use super::restored::Restored;
use super::sentences::Given;
use super::snapshot::{self, Forbidden, SnapshotError, SnapshotReport, SnapshotWriter};
use super::table::{Key, Table};
use super::{OpenError, Store, gauge};

impl Store {
    /// Writes a snapshot of everything that is held, taken at `now`, as fast as the disk takes it. Judging goes on
    /// meanwhile: a record that changes is written as it is before or after. A periodic snapshot under
    /// way is given up for it: what somebody waits for was begun after it was asked for.
    pub fn snapshot(&self, now: Timestamp) -> Result<SnapshotReport, SnapshotError> {
        let _urgent = self.urgency.call();
        self.write_snapshot(now, Pace::Free, |writer| self.write_rows(now, writer))
    }

    /// Writes a periodic snapshot, at its own rate and as long as nobody waits for another.
    pub(super) fn paced_snapshot(&self, now: Timestamp) -> Result<SnapshotReport, SnapshotError> {
        let pace = Pace::Steady {
            rate: self.settings.snapshot_rate,
            urgency: &self.urgency,
        };
        self.write_snapshot(now, pace, |writer| self.write_rows(now, writer))
    }

    /// Writes a snapshot of the rows that `give` hands to the writer, in step with the journal.
    pub(super) fn write_snapshot(
        &self,
        now: Timestamp,
        pace: Pace<'_>,
        give: impl FnOnce(&mut SnapshotWriter<'_>) -> io::Result<()>,
    ) -> Result<SnapshotReport, SnapshotError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock.is_none() {
            return Err(snapshot::nowhere(&self.settings.directory));
        }
        let mut fence = self.begin_fence(now);
        let header = Header {
            seed: self.seed.fingerprint(),
            taken: now,
            history: self.history(),
            journal: fence.as_ref().map_or(0, |it| it.first),
        };
        let drops_addresses = self.drops_addresses.load(Ordering::Relaxed);
        let directory = &self.settings.directory;
        let written = snapshot::write(directory, &header, !drops_addresses, pace, |writer| {
            give(writer)?;
            // What changed meanwhile has to be on the disk before the snapshot has its name.
            self.close_fence(fence.as_mut(), now)
        });
        match &written {
            Ok(report) => {
                self.settle_fence(fence, now, drops_addresses);
                self.drops_addresses.store(false, Ordering::Relaxed);
                self.note_snapshot(now);
                self.metrics.snapshots.inc();
                self.metrics.snapshot_size.set(gauge(report.bytes));
                tracing::debug!(records = report.records, bytes = report.bytes, "snapshot");
            }
            Err(error) if error.gave_way() => {
                self.abandon_fence(fence);
                tracing::debug!("snapshot-given-up");
            }
            Err(error) => {
                self.abandon_fence(fence);
                self.metrics.snapshot_failures.inc();
                let error: &dyn std::error::Error = error;
                tracing::warn!(error, "snapshot-failed");
            }
        }
        written
    }

    fn write_rows(&self, now: Timestamp, writer: &mut SnapshotWriter<'_>) -> io::Result<()> {
        self.give_rows(now, |row| writer.push(&row))
    }

    /// Takes back what the best snapshot holds, and gives what it says of itself.
    pub(super) fn restore(&self, now: Timestamp) -> Result<(Restored, Option<Header>), OpenError> {
        let policy = self.policy.load();
        let found = snapshot::read(
            &self.settings.directory,
            self.seed.fingerprint(),
            now,
            |row, counts| self.restore_row(row, &policy, now, counts),
            || self.clear(),
        )
        .map_err(|Forbidden { path, source }| OpenError::Snapshot { path, source })?;
        let mut restored = Restored::default();
        for counts in &found.counts {
            restored.add(counts);
        }
        for set_aside in &found.set_aside {
            set_aside.log();
        }
        restored.age = found.header.map(|header| now.since(header.taken));
        restored.set_aside = found.set_aside;
        if let Some(header) = found.header {
            self.note_snapshot(header.taken);
            // A history from the future would never grow old.
            let begun = header.history.begun.min(now);
            self.begun.store(begun.as_millis(), Ordering::Relaxed);
        }
        Ok((restored, found.header))
    }

    /// Hands everything that is held to `take`, aisle by aisle, with no lock held while it takes. What has
    /// lapsed is the sweep's matter, and that of who reads it: a clock that is wrong for a minute must not
    /// cost the disk what is alive in memory. Addresses in clear alone are on no disk for longer than their
    /// records live.
    pub(super) fn give_rows(
        &self,
        now: Timestamp,
        mut take: impl FnMut(Row) -> io::Result<()>,
    ) -> io::Result<()> {
        let take = &mut take;
        for sentence in self.sentences.all() {
            take(Row::Sentence(sentence))?;
        }
        for pardon in self.pardons.all() {
            take(Row::Pardon(pardon))?;
        }
        give(&self.clients.by_address, take, Row::Client)?;
        give(&self.clients.by_network, take, Row::Neighbours)?;
        give(&self.reputations.by_network, take, Row::Reputation)?;
        give(&self.hops.helos, take, Row::Helo)?;
        give(&self.contents.by_message, take, Row::Content)?;
        give(&self.pairs.by_tag, take, Row::Pair)?;
        give(&self.trust, take, Row::Trust)?;
        give(&self.tuples, take, Row::Tuple)?;
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let policy = self.policy.load_full();
        let mut take = |row: Row| match row {
            Row::Kept(of, _) if !self.has_live_record(of, &policy, now) => Ok(()),
            row => take(row),
        };
        let row = |key, kept| Row::Kept(KeptOf::Client(key), kept);
        give(&kept.clients, &mut take, row)?;
        let row = |key, kept| Row::Kept(KeptOf::Trust(key), kept);
        give(&kept.trust, &mut take, row)?;
        let row = |key, kept| Row::Kept(KeptOf::Tuple(key), kept);
        give(&kept.tuples, &mut take, row)
    }

    /// Puts one row in. Several threads may, as long as rows of addresses come after their records.
    pub(super) fn restore_row(
        &self,
        row: Row,
        policy: &Policy,
        now: Timestamp,
        counts: &mut Restored,
    ) {
        macro_rules! restored {
            ($table:expr, $key:expr, $record:expr, $count:ident) => {
                restored!($table, $key, $record, $count, |it, prior| it.merge(prior))
            };
            ($table:expr, $key:expr, $record:expr, $count:ident, |$it:ident, $prior:ident| $merged:expr) => {
                if $record.has_lapsed(policy, now) {
                    (true, &mut counts.lapsed)
                } else {
                    let merged = |prior: Option<&_>| match of_its_kind(&$record, prior) {
                        // Void: an attempt, too, would begin anew.
                        Some(prior)
                            if prior.has_lapsed(policy, now) && prior.life <= $record.life =>
                        {
                            $record
                        }
                        Some(&$prior) => {
                            let $it = $record;
                            $merged
                        }
                        None => $record,
                    };
                    let kept = $table.update($key, |prior| (merged(prior), ()));
                    (kept.is_ok(), &mut counts.$count)
                }
            };
        }
        let (kept, counted) = match row {
            // No snapshot has the former: it takes nothing away.
            Row::Gone(_) | Row::Unknown => (true, &mut counts.unknown),
            Row::Pardon(pardon) => return self.restore_pardon(pardon, now),
            Row::Tuple(key, record) => restored!(self.tuples, key, record, tuples),
            Row::Trust(key, record) => restored!(self.trust, key, record, trusted),
            Row::Client(key, record) => restored!(self.clients.by_address, key, record, clients),
            Row::Neighbours(key, record) => {
                restored!(self.clients.by_network, key, record, clients)
            }
            Row::Reputation(key, record) => {
                restored!(
                    self.reputations.by_network,
                    key,
                    record,
                    reputations,
                    |it, prior| it.merge(prior, policy)
                )
            }
            Row::Content(_, record) if record.has_lapsed(policy, now) => (true, &mut counts.lapsed),
            Row::Content(key, record) => {
                let kept = self.contents.restore(key, record);
                (kept, &mut counts.contents)
            }
            Row::Kept(of, kept) => match &self.kept {
                None => {
                    self.drops_addresses.store(true, Ordering::Relaxed);
                    (true, &mut counts.addresses_dropped)
                }
                // Rows of addresses come after those of the records.
                Some(_) if !self.has_record(of) => (true, &mut counts.lapsed),
                Some(tables) => (tables.restore(of, kept), &mut counts.addresses),
            },
            Row::Pair(key, record) => restored!(self.pairs.by_tag, key, record, pairs),
            Row::Helo(key, record) => restored!(self.hops.helos, key, record, helos),
            Row::Sentence(sentence) if sentence.has_ended(now) => (true, &mut counts.lapsed),
            Row::Sentence(sentence) => {
                let given = self.sentences.give(sentence);
                (given != Given::Full, &mut counts.sentences)
            }
        };
        if kept {
            *counted += 1;
        } else {
            counts.over_capacity += 1;
        }
    }

    /// Puts a row of a journal in the place of what is there. One that has lapsed leaves nothing there.
    pub(super) fn replay_row(
        &self,
        row: Row,
        policy: &Policy,
        now: Timestamp,
        counts: &mut Restored,
    ) {
        macro_rules! put {
            ($table:expr, $key:expr, $record:expr, $gone:expr) => {
                if $record.has_lapsed(policy, now) {
                    self.replay_gone($gone($key));
                    counts.lapsed += 1;
                    true
                } else {
                    $table.update($key, |_| ($record, ())).is_ok()
                }
            };
        }
        let clients = &self.clients;
        let has_room = match row {
            Row::Gone(gone) => {
                self.replay_gone(gone);
                true
            }
            Row::Unknown => {
                counts.unknown += 1;
                true
            }
            Row::Tuple(key, it) => put!(self.tuples, key, it, Gone::Tuple),
            Row::Trust(key, it) => put!(self.trust, key, it, Gone::Trust),
            Row::Client(key, it) => put!(clients.by_address, key, it, Gone::Client),
            Row::Neighbours(key, it) => put!(clients.by_network, key, it, Gone::Neighbours),
            Row::Reputation(key, it) => {
                put!(self.reputations.by_network, key, it, Gone::Reputation)
            }
            Row::Content(key, it) if it.has_lapsed(policy, now) => {
                self.replay_gone(Gone::Content(key));
                counts.lapsed += 1;
                true
            }
            Row::Content(key, it) => self.contents.put(key, it),
            Row::Pair(key, it) => put!(self.pairs.by_tag, key, it, Gone::Pair),
            Row::Helo(key, it) => put!(self.hops.helos, key, it, Gone::Helo),
            Row::Sentence(it) if it.has_ended(now) => {
                self.replay_gone(Gone::Sentence(it.client));
                counts.lapsed += 1;
                true
            }
            Row::Pardon(pardon) => {
                self.restore_pardon(pardon, now);
                true
            }
            Row::Sentence(it) => self.sentences.put(it),
            Row::Kept(of, kept) => match &self.kept {
                None => {
                    self.drops_addresses.store(true, Ordering::Relaxed);
                    counts.addresses_dropped += 1;
                    true
                }
                Some(_) if !self.has_record(of) => {
                    counts.lapsed += 1;
                    true
                }
                Some(tables) => tables.restore(of, kept),
            },
        };
        counts.over_capacity += u64::from(!has_room);
    }

    fn restore_pardon(&self, pardon: Pardon, now: Timestamp) {
        if !pardon.has_lapsed(now) {
            self.pardons.hear(pardon.heard_at(now));
        }
    }

    /// Takes out what is gone, and the addresses that belong to it.
    fn replay_gone(&self, gone: Gone) {
        match gone {
            Gone::Client(key) => {
                self.clients.by_address.discard(&key);
                self.forget_kept(|kept| &kept.clients, key);
            }
            Gone::Content(key) => {
                self.contents.forget(&key);
            }
            Gone::Helo(key) => {
                self.hops.helos.discard(&key);
            }
            Gone::Kept(KeptOf::Client(key)) => self.forget_kept(|kept| &kept.clients, key),
            Gone::Kept(KeptOf::Trust(key)) => self.forget_kept(|kept| &kept.trust, key),
            Gone::Kept(KeptOf::Tuple(key)) => self.forget_kept(|kept| &kept.tuples, key),
            Gone::Neighbours(key) => {
                self.clients.by_network.discard(&key);
            }
            Gone::Pair(key) => {
                self.pairs.by_tag.discard(&key);
            }
            Gone::Reputation(key) => {
                self.reputations.by_network.discard(&key);
            }
            Gone::Sentence(client) => {
                self.sentences.discard(client);
            }
            Gone::Trust(key) => {
                self.trust.discard(&key);
                self.forget_kept(|kept| &kept.trust, key);
            }
            Gone::Tuple(key) => {
                self.tuples.discard(&key);
                self.forget_kept(|kept| &kept.tuples, key);
            }
        }
    }

    /// Counts what is held now as restored: a row of a journal may be one more, or the same again.
    pub(super) fn count_restored(&self, counts: &mut Restored) {
        counts.tuples = self.tuples.len() as u64;
        counts.trusted = self.trust.len() as u64;
        counts.sentences = self.sentences.len() as u64;
        let clients = self.clients.by_address.len() + self.clients.by_network.len();
        counts.clients = clients as u64;
        counts.reputations = self.reputations.by_network.len() as u64;
        counts.helos = self.hops.helos.len() as u64;
        counts.contents = self.contents.by_message.len() as u64;
        counts.pairs = self.pairs.by_tag.len() as u64;
        counts.addresses = self.kept.as_ref().map_or(0, |kept| kept.len() as u64);
    }

    /// Whether the record is there whose addresses may be kept.
    fn has_record(&self, of: KeptOf) -> bool {
        match of {
            KeptOf::Client(key) => self.clients.by_address.contains(&key),
            KeptOf::Trust(key) => self.trust.contains(&key),
            KeptOf::Tuple(key) => self.tuples.contains(&key),
        }
    }

    /// Whether that record is there and has not lapsed at `now`.
    fn has_live_record(&self, of: KeptOf, policy: &Policy, now: Timestamp) -> bool {
        let has_lapsed = match of {
            KeptOf::Client(key) => {
                let record = self.clients.by_address.get(&key);
                record.map(|it| it.has_lapsed(policy, now))
            }
            KeptOf::Trust(key) => self.trust.get(&key).map(|it| it.has_lapsed(policy, now)),
            KeptOf::Tuple(key) => self.tuples.get(&key).map(|it| it.has_lapsed(policy, now)),
        };
        has_lapsed == Some(false)
    }

    fn clear(&self) {
        self.tuples.clear();
        self.trust.clear();
        self.clients.by_address.clear();
        self.clients.by_network.clear();
        self.reputations.by_network.clear();
        self.hops.helos.clear();
        self.contents.clear();
        self.pairs.by_tag.clear();
        self.sentences.clear();
        self.pardons.clear();
        if let Some(kept) = &self.kept {
            kept.clear();
        }
    }
}

/// Tells the compiler what `prior` is of.
fn of_its_kind<'p, T>(_record: &T, prior: Option<&'p T>) -> Option<&'p T> {
    prior
}

/// Hands the rows of `table` to `take`, aisle by aisle.
fn give<K: Key, V: Clone>(
    table: &Table<K, V>,
    take: &mut impl FnMut(Row) -> io::Result<()>,
    row: impl Fn(K, V) -> Row,
) -> io::Result<()> {
    let mut entries = Vec::new();
    for aisle in 0..table.aisles() {
        table.copy_aisle(aisle, &mut entries);
        for (key, record) in entries.drain(..) {
            take(row(key, record))?;
        }
    }
    Ok(())
}
