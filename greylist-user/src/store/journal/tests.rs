//! What only the inside can show: what a journal that is cut anywhere still says, and that no
//! interleaving of changes, groups, snapshots and crashes loses what was synced.

mod failing;
mod fence;
mod room;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use arc_swap::ArcSwap;
use nix::unistd::{Uid, setfsuid};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::policy::fixture::{ATTEMPT, T0};
use crate::policy::{
    Attempt, History, Judge as _, Persistence, Policy, Record, Sentence, SentenceLevel,
    SentenceReason, SentencedClient, TupleKey,
};
use crate::store::Settings;
use crate::store::codec::tests::{pardon, row};
use crate::store::codec::{Block, Gone, Row};
use crate::store::kept::KeptOf;
use crate::store::pace::Pace;

const SEED: [u8; 16] = [7; 16];

fn header(number: u64) -> JournalHeader {
    JournalHeader {
        seed: SEED,
        number,
        begun: T0,
        follows: Timestamp::NEVER,
        history: History { begun: T0 },
    }
}

/// Any row that a journal has.
fn any_row() -> impl Strategy<Value = Row> {
    let gone = row().prop_filter_map("what it is may be gone", |row| {
        Some(Row::Gone(match row {
            Row::Client(key, _) => Gone::Client(key),
            Row::Content(key, _) => Gone::Content(key),
            Row::Helo(key, _) => Gone::Helo(key),
            Row::Kept(of, _) => Gone::Kept(of),
            Row::Neighbours(key, _) => Gone::Neighbours(key),
            Row::Pair(key, _) => Gone::Pair(key),
            Row::Reputation(key, _) => Gone::Reputation(key),
            Row::Sentence(it) => Gone::Sentence(it.client),
            Row::Trust(key, _) => Gone::Trust(key),
            Row::Tuple(key, _) => Gone::Tuple(key),
            Row::Gone(_) | Row::Pardon(_) | Row::Unknown => return None,
        }))
    });
    prop_oneof![6 => row(), 2 => gone, 1 => pardon()]
}

fn any_groups() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let group = proptest::collection::vec(any_row(), 1..6);
    proptest::collection::vec(group, 1..4)
}

fn written(directory: &Path, number: u64, groups: &[Vec<Row>]) -> OpenJournal {
    let mut open = OpenJournal::begin(directory, &header(number)).expect("it is writable");
    let mut sheet = Vec::new();
    for group in groups {
        let wrote = open.write_group(&mut sheet, T0, |writer| {
            group.iter().try_for_each(|row| writer.push(row))
        });
        assert_eq!(wrote.expect("it is writable").rows, group.len() as u64);
    }
    open
}

fn read(directory: &Path) -> (replay::Found, Vec<Row>) {
    let mut rows = Vec::new();
    let found = replay::read(directory, SEED, None, T0, |row| rows.push(row));
    (found.expect("it may be read"), rows)
}

/// Where each block of the journal ends, and how many rows there are by then.
fn ends(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut from = bytes;
    let (_, begin) = JournalHeader::read(&mut from).expect("it is whole");
    let mut ends = vec![(usize::try_from(begin).expect("it is short"), 0)];
    let mut block = Block::default();
    while let Some(&(end, rows)) = ends.last()
        && end < bytes.len()
    {
        block.read(&mut from, 0).expect("it is whole");
        let of_block = block.rows().expect("it is whole").count();
        let counts = usize::from(block.kind() != file::GroupEnd::KIND);
        let length = usize::try_from(block.len()).expect("it is short");
        ends.push((end + length, rows + of_block * counts));
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reads_what_was_written(groups in any_groups()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        written(directory.path(), 3, &groups);
        let (found, rows) = read(directory.path());
        prop_assert_eq!(rows, groups.concat());
        prop_assert_eq!((found.first, found.next), (Some(3), 4));
        prop_assert_eq!(&found.set_aside, &[]);
        prop_assert_eq!(found.replayed.cut, None);
    }

    /// What was whole before the cut is read, and nothing else; and a second look finds a whole file.
    #[test]
    fn journal_cut_at_any_byte_says_what_was_whole_before(groups in any_groups()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = written(directory.path(), 1, &groups).path().to_owned();
        let whole = fs::read(&path).expect("it was written");
        let ends = ends(&whole);
        let all = groups.concat();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).expect("it is writable");
            let (found, rows) = read(directory.path());
            let (end, count) = *ends.iter().rfind(|it| it.0 <= cut).unwrap_or(&(0, 0));
            prop_assert_eq!(&rows[..], &all[..count], "cut at {}", cut);
            prop_assert_eq!(&found.set_aside, &[], "cut at {}", cut);
            let torn = found.replayed.cut.map_or(0, |it| it.bytes);
            prop_assert_eq!(torn, (cut - end) as u64);
            let left = fs::metadata(&path).map_or(0, |it| it.len());
            prop_assert_eq!(left, end as u64);
        }
    }

    /// Whatever byte is changed, no row is taken that was not written, and the later file is used.
    #[test]
    fn changed_byte_hides_no_later_file(
        groups in any_groups(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = written(directory.path(), 1, &groups).path().to_owned();
        let later = Row::Tuple(TupleKey::from_bytes([1; 16]), Record::begun(1, T0));
        written(directory.path(), 2, &[vec![later.clone()]]);
        let mut bytes = fs::read(&path).expect("it was written");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).expect("it is writable");
        let (found, mut rows) = read(directory.path());
        prop_assert_eq!(rows.pop(), Some(later));
        prop_assert!(groups.concat().starts_with(&rows));
        prop_assert_eq!(found.set_aside.len(), 1);
        prop_assert!(found.set_aside[0].kept.exists());
    }

    #[test]
    fn random_bytes_are_no_journal(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(file::path(directory.path(), 1), bytes).expect("it is writable");
        let (_, rows) = read(directory.path());
        prop_assert_eq!(rows, []);
    }
}

#[test]
fn journal_of_another_user_is_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = written(directory.path(), 1, &[]).path().to_owned();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("it is ours");
    // Root may read anything; this thread is somebody else to the file system for a moment.
    let us = setfsuid(Uid::from_raw(65_534));
    let refused = replay::read(directory.path(), SEED, None, T0, |_| {});
    setfsuid(us);
    let error = refused.expect_err("it may not be opened");
    assert_eq!(error.source.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(error.path, path);
    assert!(path.exists(), "it is not set aside");
}

/// A row with a field more, and a kind of its own, as a newer greygate appends them.
#[test]
fn rows_of_a_newer_greygate_are_read_as_far_as_they_are_known() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let known = Row::Tuple(TupleKey::from_bytes([1; 16]), Record::begun(1, T0));
    let path = written(directory.path(), 1, &[vec![known.clone()]])
        .path()
        .to_owned();
    let bytes = fs::read(&path).expect("it was written");
    let (begin, _) = ends(&bytes)[0];
    let mut from = &bytes[begin..];
    let kind = from[0];
    let mut block = Block::default();
    block.read(&mut from, 0).expect("it is whole");
    let row = block.payload().expect("it is whole");
    let mut newer = bytes[..begin].to_vec();
    for (kind, row) in [(kind, [row, b"later"].concat()), (b'?', b"what".to_vec())] {
        let mut block = vec![kind, 0];
        block.extend(u16::try_from(row.len()).expect("it is short").to_le_bytes());
        block.extend(1_u32.to_le_bytes());
        block.extend(row);
        super::super::codec::seal(&mut block);
        newer.extend(block);
    }
    fs::write(&path, newer).expect("it is writable");
    let (found, rows) = read(directory.path());
    assert_eq!(rows, [known, Row::Unknown]);
    assert_eq!(found.set_aside, []);
}

fn key(number: u8) -> TupleKey {
    TupleKey::from_bytes([number + 1; 16])
}

/// A store that can be crashed.
struct Site {
    directory: TempDir,
    settings: Settings,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            directory: directory.path().to_owned(),
            seed_file: directory.path().join("seed"),
            capacity: 1_000,
            ..Settings::default()
        };
        Self {
            directory,
            settings,
        }
    }

    fn open(&self) -> (Store, Restored) {
        let (effects, _closed) = mpsc::channel(1);
        let policy: Arc<ArcSwap<Policy>> = Arc::default();
        Store::open(self.settings.clone(), policy, effects, Arc::default(), T0)
            .expect("the directory is writable")
    }
}

/// Until it has its name, a crash loses what it makes up for.
#[test]
fn disk_is_incomplete_until_the_snapshot_is_made() {
    let site = Site::new();
    let (store, _) = site.open();
    let journal = store.journal.as_ref().expect("it has a directory");
    let is_incomplete = || {
        store.show_journal();
        let shown = store.metrics.journal_incomplete.get() == 1;
        let told = store
            .journal_standing()
            .expect("it has a directory")
            .incomplete;
        assert_eq!(shown, told);
        told
    };
    assert!(!is_incomplete());
    journal.bell.overflow();
    let snapshot = |fails: bool| {
        store.write_snapshot(T0, Pace::Free, |_| {
            assert!(is_incomplete() && !store.wants_snapshot());
            if fails {
                Err(io::Error::other("the disk is full"))
            } else {
                Ok(())
            }
        })
    };
    snapshot(true).expect_err("it fails");
    assert!(is_incomplete() && store.wants_snapshot());
    snapshot(false).expect("the directory is writable");
    assert!(!is_incomplete() && !store.wants_snapshot());
}

/// A journal's thread that hangs at the disk sets no gauge: others do.
#[test]
fn lag_is_shown_while_a_write_hangs() {
    let site = Site::new();
    let (store, _) = site.open();
    store.judge(&ATTEMPT, T0);
    let journal = store.journal.as_ref().expect("it has a directory");
    let _hangs = journal.pen();
    let long_ago = monotonic().saturating_sub(3_600_000);
    journal.synced_to.store(long_ago, Ordering::Relaxed);
    let lag = seconds(monotonic() - long_ago);
    store.show_journal();
    let shown = store.metrics.journal_lag.get();
    assert!(shown >= lag, "{shown} s of {lag}");
}

/// One that was begun when the system went down is no loss; one with groups is kept, whatever its
/// header has come to.
#[test]
fn only_a_file_without_groups_is_a_beginning() {
    let whole = header(3).to_bytes();
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    for stub in [
        &whole[..0],
        &whole[..40],
        &[0; 40][..],
        &vec![0; whole.len()],
        &flipped,
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(file::path(directory.path(), 3), stub).expect("it is writable");
        let (found, _) = read(directory.path());
        assert_eq!((found.set_aside.len(), found.next), (0, 3), "{stub:?}");
        assert_eq!(
            found.replayed.cut.map(|it| it.bytes),
            Some(stub.len() as u64)
        );
        assert_eq!(
            file::list(directory.path()).expect("it can be listed"),
            [0; 0]
        );
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let row = Row::Tuple(key(1), Record::begun(1, T0));
    let path = written(directory.path(), 3, &[vec![row]]).path().to_owned();
    let mut bytes = fs::read(&path).expect("it was written");
    bytes[20] ^= 1;
    fs::write(&path, &bytes).expect("it is writable");
    let (found, _) = read(directory.path());
    assert_eq!((&found.replayed.cut, found.next), (&None, 4));
    let [aside] = &found.set_aside[..] else {
        panic!("it is set aside: {found:?}");
    };
    assert_eq!(fs::read(&aside.kept).expect("it is kept"), bytes);
}

/// What nobody writes costs nobody anything.
#[test]
fn nothing_is_noted_where_no_journal_is_written() {
    let mut site = Site::new();
    site.settings.journal = JournalMode::Never;
    site.settings.keep_addresses = true;
    let (store, _) = site.open();
    let (effects, _closed) = mpsc::channel(1);
    let seed = crate::policy::Seed::from_bytes([7; crate::policy::Seed::LENGTH]);
    let history = History { begun: T0 };
    let in_memory = Store::in_memory(
        site.settings.clone(),
        seed,
        Arc::default(),
        effects,
        Arc::default(),
        history,
    );
    for store in [store, in_memory] {
        assert!(store.sentences.marks(Ear::Journal).is_none());
        assert!(store.clients.by_address.marks(Ear::Journal).is_none());
        assert!(store.clients.by_network.marks(Ear::Journal).is_none());
        assert!(store.reputations.by_network.marks(Ear::Journal).is_none());
        assert!(store.hops.helos.marks(Ear::Journal).is_none());
        assert!(store.contents.by_message.marks(Ear::Journal).is_none());
        assert!(store.pairs.by_tag.marks(Ear::Journal).is_none());
        assert!(store.trust.marks(Ear::Journal).is_none());
        assert!(store.tuples.marks(Ear::Journal).is_none());
        let kept = store.kept.as_ref().expect("addresses are kept");
        assert!(kept.clients.marks(Ear::Journal).is_none());
        assert!(kept.trust.marks(Ear::Journal).is_none());
        assert!(kept.tuples.marks(Ear::Journal).is_none());
    }
}

#[test]
fn snapshot_that_was_asked_for_and_fails_is_asked_for_again() {
    let site = Site::new();
    let (store, _) = site.open();
    let journal = store.journal.as_ref().expect("it has a directory");
    journal.bell.overflow();
    assert!(store.wants_snapshot());
    fs::remove_dir_all(site.directory.path()).expect("it exists");
    store.snapshot(T0).expect_err("there is no directory");
    assert!(store.wants_snapshot());
    fs::create_dir(site.directory.path()).expect("it was there");
    store.snapshot(T0).expect("the directory is writable");
    assert!(!store.wants_snapshot());
}

/// The share of each network is what it holds, however often its rows are put in their places.
#[test]
fn shares_of_messages_are_counted_once() {
    let site = Site::new();
    let (store, _) = site.open();
    let mut message = store.message_hasher();
    message.body(b"Hello.\r\n");
    let policy = store.policy.load_full();
    let network = crate::policy::ClientNetwork::of(&policy, &ATTEMPT);
    let fingerprint = message
        .fingerprint(network, &ATTEMPT)
        .expect("it has a body");
    let mark = store.seed.network_key(network).mark();
    for _ in 0..3 {
        let noted = store.contents.note_read(&policy, fingerprint, mark, T0);
        noted.expect("there is room");
        store.sync_journal(T0).expect("the directory is writable");
    }
    drop(store);
    let (store, restored) = site.open();
    assert_eq!((restored.contents, restored.journal.rows), (1, 3));
    // Given back twice, the share would wrap around, and the network would have no room at all.
    assert!(store.contents.forget(&fingerprint));
    let noted = store.contents.note_read(&policy, fingerprint, mark, T0);
    noted.expect("there is room");
}

/// What the kernel counts is noted if it is news.
#[test]
fn sentence_that_is_heeded_is_written_once() {
    let site = Site::new();
    let (store, _) = site.open();
    let client = SentencedClient::of(ATTEMPT.client);
    let sentence = Sentence {
        client,
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: T0,
        until: T0.after(Duration::from_hours(1)),
        persistence: Persistence::default(),
    };
    store.punish(sentence);
    let wrote = || {
        store
            .sync_journal(T0)
            .expect("the directory is writable")
            .rows
    };
    assert_eq!(wrote(), 1);
    store.heed([(client, 7)], true, T0);
    assert_eq!(wrote(), 1);
    store.heed([(client, 7)], true, T0);
    assert_eq!(wrote(), 0, "nothing has changed");
    let before = store.sentences(T0);
    drop(store);
    assert_eq!(site.open().0.sentences(T0), before);
}

/// Addresses go with the record that is gone, and come back with one that is not.
#[test]
fn addresses_follow_their_records() {
    let mut site = Site::new();
    site.settings.keep_addresses = true;
    let (store, _) = site.open();
    store.judge(&ATTEMPT, T0);
    store.sync_journal(T0).expect("the directory is writable");
    let mut rows = Vec::new();
    store
        .give_rows(T0, |row| {
            rows.push(row);
            Ok(())
        })
        .expect("nothing fails");
    let key = rows.iter().find_map(|row| match row {
        Row::Kept(KeptOf::Tuple(key), _) => Some(*key),
        _ => None,
    });
    drop(store);
    let (store, restored) = site.open();
    assert_eq!((restored.tuples, restored.addresses), (1, 1));
    store.forget(key.expect("they are kept").to_bytes());
    store.sync_journal(T0).expect("the directory is writable");
    drop(store);
    let (store, restored) = site.open();
    assert_eq!((restored.tuples, restored.addresses), (0, 0));
    assert_eq!(store.census().address_bytes, 0);
}
