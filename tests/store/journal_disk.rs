//! A disk that is full, as the journal meets it: a memory file system of a few pages.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, DeferReason, Verdict};
use greygate::store::Store;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use support::needs;
use support::requirements::root;

use crate::fixture::{ATTEMPT, Fixture};

const PAGES: usize = 64;
const PAGE: usize = 4_096;

fn judge(fixture: &Fixture, store: &Store, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        let verdict = fixture.judge(store, &attempt);
        assert_eq!(verdict, Verdict::Defer(DeferReason::New), "mail flows");
    }
}

/// Runs `test` on a thread with mounts of its own, where `directory` is small.
fn where_room_is_short(directory: &Path, test: impl FnOnce() + Send) {
    fs::create_dir_all(directory).expect("it is writable");
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("this is root");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("this is root");
            let size = format!("size={}", PAGES * PAGE);
            let none = MsFlags::empty();
            mount(Some("none"), directory, Some("tmpfs"), none, Some(&*size))
                .expect("this is root");
            test();
        });
        ended.join().expect("no panic");
    });
}

/// Takes what room there is.
fn fill(file: &Path) {
    let mut ballast = fs::File::create(file).expect("a name fits");
    let page = [0; PAGE];
    let full = std::iter::repeat_with(|| ballast.write_all(&page))
        .take(2 * PAGES)
        .find_map(Result::err)
        .expect("it is full by then");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn full_disk_loses_nothing_that_is_written_once_there_is_room() {
    needs!(root());
    let fixture = Fixture::new();
    let directory = fixture.settings.directory.clone();
    where_room_is_short(&directory, || {
        let store = fixture.open();
        judge(&fixture, &store, 0..10);
        let now = fixture.clock.now();
        store.sync_journal(now).expect("there is room");
        let ballast = directory.join("ballast");
        fill(&ballast);
        let groups = fixture.metrics.journal_groups.get();
        // More than is left of the last page.
        for round in 1..4_u32 {
            judge(&fixture, &store, round * 100..round * 100 + 100);
            let error = store.sync_journal(now).expect_err("the disk is full");
            assert!(error.to_string().contains("journal-0000000001"), "{error}");
        }
        store.snapshot(now).expect_err("the disk is full");
        assert_eq!(fixture.metrics.journal_failing.get(), 1);
        assert_eq!(fixture.metrics.journal_groups.get(), groups);
        let standing = store.journal_standing().expect("it has a directory");
        assert!(
            standing
                .trouble
                .is_some_and(|it| it.contains("No space left"))
        );

        fs::remove_file(&ballast).expect("it exists");
        store.sync_journal(now).expect("there is room");
        assert_eq!(fixture.metrics.journal_failing.get(), 0);
        drop(store);
        let (_, restored) = fixture.try_open().expect("it is whole");
        assert_eq!(restored.tuples, 10 + 300);
        assert_eq!(restored.set_aside, [], "no torn part hides what came after");
        assert_eq!(
            (restored.journal.cut, restored.journal.missing),
            (None, vec![])
        );
    });
}

#[test]
fn crash_on_a_full_disk_keeps_what_was_synced_before() {
    needs!(root());
    let fixture = Fixture::new();
    let directory = fixture.settings.directory.clone();
    where_room_is_short(&directory, || {
        let store = fixture.open();
        let now = fixture.clock.now();
        judge(&fixture, &store, 0..10);
        store.sync_journal(now).expect("there is room");
        fill(&directory.join("ballast"));
        judge(&fixture, &store, 100..300);
        store.sync_journal(now).expect_err("the disk is full");
        drop(store);
        let (store, restored) = fixture.try_open().expect("a full disk is no error");
        assert_eq!((restored.tuples, restored.set_aside.len()), (10, 0));
        // Nor do the tries fill the directory with beginnings.
        judge(&fixture, &store, 100..300);
        for _ in 0..5 {
            store.sync_journal(now).expect_err("the disk is full");
        }
        let names = fs::read_dir(&directory).expect("it can be listed");
        let journals = names.filter(|it| {
            let name = it.as_ref().expect("it can be listed").file_name();
            name.to_string_lossy().starts_with("journal-")
        });
        assert_eq!(journals.count(), 1);
    });
}
