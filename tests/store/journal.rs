//! The journal: what has changed since the snapshot survives a crash, whatever the files look like by
//! then.
//!
//! A crash is a store that is dropped without a last snapshot, as its process would be.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, DeferReason, Judge as _, Mode, PassReason, Persistence, Policy, Sentence,
    SentenceLevel, SentenceReason, SentencedClient, Verdict,
};
use greygate::store::journal::Replayed;
use greygate::store::{JournalMode, Keeper, Restored, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};
use crate::keeper::{await_keeper, keep};

fn to(recipient: &str) -> Attempt<'_> {
    Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    }
}

fn sync(fixture: &Fixture, store: &Store) {
    store
        .sync_journal(fixture.clock.now())
        .expect("it is writable");
}

fn snapshot(fixture: &Fixture, store: &Store) {
    store.snapshot(fixture.clock.now()).expect("it is writable");
}

fn reopened(fixture: &Fixture, store: Store) -> (Store, Restored) {
    drop(store);
    fixture.try_open().expect("no damage is an error")
}

fn waited(minutes: u64) -> Verdict {
    let waited = Duration::from_mins(minutes);
    Verdict::Pass(PassReason::Waited { waited })
}

fn journals(fixture: &Fixture) -> Vec<PathBuf> {
    let entries = fs::read_dir(&fixture.settings.directory).expect("it exists");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.to_string_lossy().contains("/journal-"))
        .collect();
    paths.sort();
    paths
}

fn journal(fixture: &Fixture, number: u64) -> PathBuf {
    fixture
        .settings
        .directory
        .join(format!("journal-{number:010}"))
}

fn sentence(fixture: &Fixture) -> Sentence {
    let since = fixture.clock.now();
    Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since,
        until: since.after(Duration::from_mins(30)),
        persistence: Persistence::default(),
    }
}

/// Who is killed every two minutes never lives as long as an interval.
#[test]
fn daemon_that_is_killed_often_takes_its_snapshots_all_the_same() {
    let fixture = Fixture::new();
    for life in 0..4 {
        let store = fixture.open();
        fixture.judge(&store, &to(&format!("r{life}@example.org")));
        sync(&fixture, &store);
        drop(store);
        fixture.wait_minutes(2);
    }
    assert_eq!(fixture.metrics.snapshots.get(), 0);
    let store = Arc::new(fixture.open());
    let _keeper = keep(&fixture, &store);
    await_keeper("a snapshot", || fixture.metrics.snapshots.get() == 1);
}

#[test]
fn what_was_synced_survives_a_crash_without_any_snapshot() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let begun = store.history().begun;
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    fixture.wait_minutes(5);
    let (store, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.pairs), (1, 1));
    assert_eq!((restored.journal.files, restored.set_aside.len()), (1, 0));
    assert_eq!(store.history().begun, begun, "nor is the history shorter");
    assert_eq!(fixture.judge(&store, &ATTEMPT), waited(5));
}

#[test]
fn what_was_not_synced_is_deferred_once_more() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let (store, restored) = reopened(&fixture, store);
    assert_eq!(restored, Restored::default());
    let new = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(&store, &ATTEMPT), new);
}

#[test]
fn every_kind_of_record_survives() {
    let mut fixture = Fixture::with_policy(Policy {
        mode: Mode::Hybrid,
        trust_after: 1,
        ..Policy::default()
    });
    fixture.settings.keep_addresses = true;
    let store = fixture.open();
    snapshot(&fixture, &store);
    fixture.warm_up();
    pass_once(&fixture, &store, &ATTEMPT);
    let other = |recipient| Attempt {
        reverse_path: b"other@sender.example",
        ..to(recipient)
    };
    fixture.judge(&store, &other("other@here.example"));
    let mut message = store.message_hasher();
    message.body(b"Hello.\r\n");
    store.judge_content(&other("third@here.example"), &message, fixture.clock.now());
    store.note_rejected(&other("nobody@here.example"), fixture.clock.now());
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    fixture.judge(&store, &authenticated);
    store.punish(sentence(&fixture));
    sync(&fixture, &store);
    // Seen through a snapshot of a copy, since one of the store would hide what the journal lacks.
    let (copy, restored) = {
        let before = store.census();
        let (copy, restored) = reopened(&fixture, store);
        let after = copy.census();
        let sizes = |it: &greygate::store::Census| {
            [
                it.tuples,
                it.trusted,
                it.sentences,
                it.clients,
                it.reputations,
                it.contents,
                it.pairs,
                it.addresses,
            ]
        };
        assert_eq!(sizes(&after), sizes(&before));
        assert!(sizes(&before).iter().all(|size| *size > 0), "{before:?}");
        assert_eq!(after.address_bytes, before.address_bytes);
        (copy, restored)
    };
    assert_eq!(
        (restored.lapsed, restored.over_capacity, restored.unknown),
        (0, 0, 0)
    );
    assert_eq!(copy.sentences(fixture.clock.now()), [sentence(&fixture)]);
}

#[test]
fn replaying_twice_changes_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    sync(&fixture, &store);
    let (store, first) = reopened(&fixture, store);
    let (store, second) = reopened(&fixture, store);
    assert_eq!(first, second);
    let (_, rows) = (store.census(), fixture.rows(&store));
    let (store, _) = reopened(&fixture, store);
    assert_eq!(fixture.rows(&store), rows);
}

/// What an operator takes out stays out: it was in the snapshot.
#[test]
fn what_was_forgotten_and_lifted_stays_so() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    store.punish(sentence(&fixture));
    let rows = fixture.rows(&store);
    let key = rows.iter().find_map(|row| match row {
        greygate::store::codec::Row::Tuple(key, _) => Some(key.to_bytes()),
        _ => None,
    });
    store.forget(key.expect("it has a tuple"));
    store.forgive(SentencedClient::of(ATTEMPT.client), fixture.clock.now());
    sync(&fixture, &store);
    let (store, _) = reopened(&fixture, store);
    let census = store.census();
    assert_eq!((census.tuples, census.sentences), (0, 0));
}

/// A record of the snapshot that began a new life since, which has lapsed, too, is not to come back in
/// its old one.
#[test]
fn row_that_lapsed_takes_the_older_one_with_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let short = sentence(&fixture);
    let long = Sentence {
        until: short.since.after(Duration::from_hours(10)),
        ..short
    };
    store.punish(long);
    snapshot(&fixture, &store);
    store.forgive(long.client, fixture.clock.now());
    store.punish(short);
    sync(&fixture, &store);
    fixture.wait_hours(1);
    let (store, restored) = reopened(&fixture, store);
    assert_eq!(restored.lapsed, 1);
    assert_eq!(store.sentences(fixture.clock.now()), []);
}

#[test]
fn snapshot_takes_the_place_of_journals_and_two_remove_them() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(&fixture, &store);
    assert_eq!(
        journals(&fixture),
        [journal(&fixture, 1)],
        "written before it"
    );
    fixture.judge(&store, &to("second@here.example"));
    snapshot(&fixture, &store);
    fixture.judge(&store, &to("third@here.example"));
    snapshot(&fixture, &store);
    assert_eq!(
        journals(&fixture),
        [journal(&fixture, 3)],
        "the previous snapshot and what follows it are one way back"
    );
    let (_, restored) = reopened(&fixture, store);
    assert_eq!(restored.journal, Replayed::default(), "none is newer");
    assert_eq!(restored.tuples, 3);
}

#[test]
fn quiet_host_makes_no_journals() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..3 {
        sync(&fixture, &store);
        snapshot(&fixture, &store);
    }
    assert!(journals(&fixture).is_empty());
}

/// Whatever becomes of the latest snapshot, the previous one and the journals since lose nothing.
#[test]
fn damaged_snapshot_loses_nothing_with_the_journals_since_the_previous() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(&fixture, &store);
    fixture.judge(&store, &to("second@here.example"));
    snapshot(&fixture, &store);
    fixture.judge(&store, &to("third@here.example"));
    sync(&fixture, &store);
    let file = fixture.snapshot_file();
    fs::write(&file, b"nothing").expect("it is writable");
    let (store, restored) = reopened(&fixture, store);
    assert_eq!(restored.set_aside.len(), 1);
    assert_eq!((restored.tuples, restored.journal.files), (3, 2));
    snapshot(&fixture, &store);
    let (_, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.set_aside.len()), (3, 0));
}

/// Of two groups, the last is torn at any byte: the first is whole, and nothing is taken for the second
/// that is not.
#[test]
fn torn_end_is_cut_off_and_reported() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    let file = journal(&fixture, 1);
    let first = fs::metadata(&file).expect("it is written").len();
    fixture.judge(&store, &to("second@here.example"));
    sync(&fixture, &store);
    drop(store);
    let whole = fs::read(&file).expect("it is written");
    for torn in [first + 1, first + 20, whole.len() as u64 - 1] {
        let end = usize::try_from(torn).expect("it is short");
        fs::write(&file, &whole[..end]).expect("it is writable");
        let (store, restored) = fixture.try_open().expect("it is normal after a crash");
        assert_eq!(restored.set_aside, [], "at {torn}");
        let cut = restored.journal.cut.clone().expect("something is cut off");
        assert_eq!(cut.file, file);
        let left = fs::metadata(&file).expect("it exists").len();
        assert_eq!(left + cut.bytes, torn);
        assert!((1..=2).contains(&restored.tuples), "at {torn}");
        assert!(restored.to_string().contains("torn"), "{restored}");
        let (_, again) = reopened(&fixture, store);
        assert_eq!(again.journal.cut, None, "once");
        assert_eq!(again.tuples, restored.tuples);
    }
}

/// A power cut may leave a block of the last group that was never written: zeros, with the rest behind.
#[test]
fn zeros_in_the_last_group_are_a_torn_end() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    let file = journal(&fixture, 1);
    let first = fs::metadata(&file).expect("it is written").len();
    fixture.judge(&store, &to("second@here.example"));
    sync(&fixture, &store);
    drop(store);
    let open = OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("it exists");
    open.write_all_at(&[0; 16], first).expect("it is writable");
    let (_, restored) = fixture.try_open().expect("it is normal after a crash");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
    assert!(restored.journal.cut.is_some());
}

/// Before a group that was synced later, it was not torn: it is damage, and kept for who looks.
#[test]
fn damage_in_the_middle_is_set_aside_and_later_files_are_used() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    let file = journal(&fixture, 1);
    let first = fs::metadata(&file).expect("it is written").len();
    for name in ["second@here.example", "third@here.example"] {
        fixture.judge(&store, &to(name));
        sync(&fixture, &store);
    }
    drop(store);
    let open = OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("it exists");
    open.write_all_at(b"?", first + 12).expect("it is writable");
    let length = fs::metadata(&file).expect("it exists").len();

    let (store, restored) = fixture.try_open().expect("damage is no error");
    assert_eq!(restored.tuples, 1, "what follows the damage is not used");
    let [aside] = &restored.set_aside[..] else {
        panic!("one is set aside: {restored:?}");
    };
    assert!(aside.why.contains("checksum"), "{}", aside.why);
    assert_eq!(fs::metadata(&aside.kept).expect("it is kept").len(), length);
    assert_eq!(restored.journal.cut, None);
    let standing = store.journal_standing().expect("it has a directory");
    assert!(standing.incomplete, "a snapshot is asked for");
    // Before it is there, a crash loses no more than it did.
    fixture.judge(&store, &to("fourth@here.example"));
    sync(&fixture, &store);
    let (store, restored) = reopened(&fixture, store);
    assert_eq!(restored.tuples, 2);
    snapshot(&fixture, &store);
    let standing = store.journal_standing().expect("it has a directory");
    assert!(!standing.incomplete);
    snapshot(&fixture, &store);
    let (_, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.set_aside.len()), (2, 0));
    assert!(aside.kept.exists(), "greygate never removes it");
}

#[test]
fn number_that_is_missing_is_reported() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    for name in [
        "first@here.example",
        "second@here.example",
        "third@here.example",
    ] {
        fixture.judge(&store, &to(name));
        sync(&fixture, &store);
        store = reopened(&fixture, store).0;
    }
    fs::remove_file(journal(&fixture, 2)).expect("it exists");
    let (_, restored) = reopened(&fixture, store);
    assert_eq!(restored.journal.missing, [2]);
    assert_eq!(restored.tuples, 2);
    assert!(restored.to_string().contains("journal 2 is missing"));
}

#[test]
fn journal_of_another_seed_is_set_aside() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    fs::remove_file(&fixture.settings.seed_file).expect("it exists");
    let (_, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.journal.files), (0, 0));
    assert!(restored.set_aside[0].why.contains("another seed"));
    assert!(!journal(&fixture, 1).exists());
}

#[test]
fn journal_of_a_layout_to_come_is_set_aside() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    let file = journal(&fixture, 1);
    let open = OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("it exists");
    open.write_all_at(&[2], 8).expect("it is writable");
    let (_, restored) = reopened(&fixture, store);
    assert_eq!(restored.tuples, 0);
    assert!(restored.set_aside[0].why.contains("version 2"));
}

#[test]
fn never_writes_none_and_replays_what_is_newer_than_the_snapshot() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    drop(store);

    fixture.settings.journal = JournalMode::Never;
    let store = fixture.open();
    assert_eq!(store.census().tuples, 1, "left over, and newer");
    fixture.judge(&store, &to("second@here.example"));
    sync(&fixture, &store);
    assert_eq!(journals(&fixture), [journal(&fixture, 1)]);
    snapshot(&fixture, &store);
    fixture.judge(&store, &to("third@here.example"));
    let (store, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.journal.files), (2, 0), "older");
    snapshot(&fixture, &store);
    assert!(journals(&fixture).is_empty());
    drop(store);

    fixture.settings.journal = JournalMode::Second;
    let store = fixture.open();
    fixture.judge(&store, &to("fourth@here.example"));
    sync(&fixture, &store);
    let (_, restored) = reopened(&fixture, store);
    assert_eq!((restored.tuples, restored.journal.files), (3, 1));
}

/// Journals are told apart by number, not by time. (A tuple from the future is void wherever it is
/// read, so sentences show it.)
#[test]
fn clock_set_back_between_runs_loses_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = sentence(&fixture);
    store.punish(first);
    snapshot(&fixture, &store);
    drop(store);
    fixture.clock.set_back(Duration::from_mins(5));
    let store = fixture.open();
    let second = Sentence {
        client: SentencedClient::of("2001:db8::7".parse().expect("an address")),
        ..sentence(&fixture)
    };
    store.punish(second);
    sync(&fixture, &store);
    fixture.clock.set_back(Duration::from_mins(5));
    let (store, restored) = reopened(&fixture, store);
    assert_eq!((restored.sentences, restored.journal.files), (2, 1));
    snapshot(&fixture, &store);
    let (_, restored) = reopened(&fixture, store);
    assert_eq!((restored.sentences, restored.journal.files), (2, 0));
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} within 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn its_thread_writes_without_being_asked() {
    for mode in [JournalMode::Second, JournalMode::Each] {
        let mut fixture = Fixture::new();
        fixture.settings.journal = mode;
        let store = Arc::new(fixture.open());
        let clock = Arc::clone(&fixture.clock) as _;
        let keeper = Keeper::start(Arc::clone(&store), clock).expect("a thread can be had");
        fixture.judge(&store, &ATTEMPT);
        // The tuple and its pair.
        await_that("a group", || fixture.metrics.journal_rows.get() >= 2);
        // What a power cut would leave at this moment.
        let mut after = Fixture::new();
        fs::create_dir(&after.settings.directory).expect("it is writable");
        for name in ["seed", "journal-0000000001"] {
            let [from, to] = [&fixture, &after].map(|it| it.settings.directory.join(name));
            fs::copy(from, to).expect("it is there");
        }
        after.clock = Arc::clone(&fixture.clock);
        let (_, restored) = after.try_open().expect("it is whole");
        assert_eq!((restored.tuples, restored.pairs), (1, 1), "{mode:?}");
        keeper.stop().expect("it is writable");
    }
}

#[test]
fn stop_whose_snapshot_fails_loses_nothing() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    let clock = Arc::clone(&fixture.clock) as _;
    let keeper = Keeper::start(Arc::clone(&store), clock).expect("a thread can be had");
    // In the way of the snapshot, and of nothing else.
    let in_the_way = fixture.settings.directory.join("snapshot.new");
    fs::create_dir(&in_the_way).expect("it is writable");
    fixture.judge(&store, &ATTEMPT);
    keeper.stop().expect_err("a directory is in the way");
    drop(store);
    let (_, restored) = fixture.try_open().expect("it is whole");
    assert_eq!((restored.tuples, restored.age), (1, None));
}

#[test]
fn rows_over_the_capacity_are_counted() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..10 {
        fixture.judge(&store, &to(&format!("r{number}@here.example")));
    }
    sync(&fixture, &store);
    drop(store);
    fixture.settings.capacity = 4;
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.pairs), (4, 4));
    assert_eq!(restored.over_capacity, 6 + 6);
    assert_eq!(store.census().tuples, 4);
}

#[test]
fn failing_journal_is_told_of_and_made_up_for() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    sync(&fixture, &store);
    let away = fixture.settings.directory.with_extension("away");
    snapshot(&fixture, &store);
    fs::rename(&fixture.settings.directory, &away).expect("it exists");
    fixture.judge(&store, &to("second@here.example"));
    for _ in 0..2 {
        let error = store
            .sync_journal(fixture.clock.now())
            .expect_err("there is no directory");
        assert!(error.to_string().contains("journal-0000000002"), "{error}");
    }
    assert_eq!(fixture.metrics.journal_failures.get(), 2);
    assert_eq!(fixture.metrics.journal_failing.get(), 1);
    let standing = store.journal_standing().expect("it has a directory");
    assert!(
        standing
            .trouble
            .is_some_and(|it| it.contains("No such file"))
    );
    fixture.wait_minutes(5);
    assert_eq!(fixture.judge(&store, &ATTEMPT), waited(5), "mail flows");

    fs::rename(&away, &fixture.settings.directory).expect("it exists");
    sync(&fixture, &store);
    assert_eq!(fixture.metrics.journal_failing.get(), 0);
    let standing = store.journal_standing().expect("it has a directory");
    assert_eq!(standing.trouble, None);
    let (store, restored) = reopened(&fixture, store);
    assert_eq!(restored.tuples, 2, "it stayed marked");
    assert_eq!(fixture.judge(&store, &to("second@here.example")), waited(5));
}
