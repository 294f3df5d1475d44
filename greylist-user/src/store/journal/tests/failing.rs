//! A journal that cannot be written: what is tried again, and what a snapshot does beside it.

use super::*;

/// A journal that cannot be begun does not keep the snapshot from being whole without it.
#[test]
fn snapshot_is_whole_where_no_journal_can_be_written() {
    let (site, store) = with_a_change_and_no_room();
    // The name that the next one is to have is taken.
    let taken = file::path(site.directory.path(), 2);
    fs::create_dir(&taken).expect("it is writable");
    store.snapshot(T0).expect("the directory is writable");
    assert_eq!(store.metrics.journal_failures.get(), 2);
    assert_eq!(store.metrics.journal_failing.get(), 1);
    judge(&store, 2);
    store.sync_journal(T0).expect("the next name is not");
    assert_eq!(store.metrics.journal_failing.get(), 0);
    drop(store);
    fs::remove_dir(taken).expect("it is ours");
    let (_, restored) = site.open();
    assert_eq!((restored.tuples, restored.journal.files), (3, 1));
    assert_eq!(restored.set_aside, []);
}

/// What changes while a large snapshot is copied is on the disk within a second, too.
#[test]
fn journal_that_failed_is_tried_while_a_snapshot_is_made() {
    let (site, store) = with_a_change_and_no_room();
    let given_up = store.write_snapshot(T0, Pace::Free, |_| {
        assert_eq!(store.metrics.journal_failing.get(), 1);
        judge(&store, 2);
        store.sync_journal(T0).expect("there is room again");
        Err(io::Error::other("the power is cut"))
    });
    given_up.expect_err("the power is cut");
    drop(store);
    let (_, restored) = site.open();
    assert_eq!(restored.tuples, 3);
}

/// A row that is in a journal already must not come after a copy that is newer.
#[test]
fn snapshot_fails_where_a_journal_was_begun_and_cannot_be_ended() {
    let site = Site::new();
    let (store, _) = site.open();
    let written = store.write_snapshot(T0, Pace::Free, |writer| {
        judge(&store, 0);
        store.sync_journal(T0).expect("the directory is writable");
        judge(&store, 1);
        store.give_rows(T0, |row| writer.push(&row))?;
        replace_open(&store, OpenJournal::on_a_full_disk);
        Ok(())
    });
    written.expect_err("the journal does not say what the snapshot does");
    drop(store);
    let (_, restored) = site.open();
    assert_eq!((restored.tuples, restored.age), (1, None));
}

/// A host on which nothing changes any more does not complain of its journal for ever, nor is it told
/// that it works before that was tried.
#[test]
fn journal_that_has_nothing_to_write_is_tried_while_it_fails() {
    let (_site, store) = with_a_change_and_no_room();
    store.sync_journal(T0).expect_err("the disk is full");
    assert_eq!(store.metrics.journal_failing.get(), 1);
    let journal = store.journal.as_ref().expect("it has a directory");
    // As after an overflow.
    journal.pen().changes.clear();
    let standing = || journal.standing();
    assert!(standing().trouble.is_some());
    let wrote = store.sync_journal(T0).expect("a new one is begun");
    assert_eq!(wrote.rows, 0);
    assert_eq!(store.metrics.journal_failing.get(), 0);
    assert_eq!(standing().trouble, None);
    let bytes = store.metrics.journal_bytes.get();
    store.sync_journal(T0).expect("nothing is written");
    assert_eq!(store.metrics.journal_bytes.get(), bytes);
}

/// After a failed sync, Linux takes pages for clean that are not on the disk: a next sync that succeeds
/// says nothing of them.
#[test]
fn nothing_more_is_written_to_a_file_whose_sync_failed() {
    let site = Site::new();
    let (store, _) = site.open();
    store
        .tuples
        .update(key(0), |_| (Record::begun(1, T0), ()))
        .expect("there is room");
    store.sync_journal(T0).expect("the directory is writable");
    let first = file::path(site.directory.path(), 1);
    let length = fs::metadata(&first).expect("it was written").len();
    store
        .tuples
        .update(key(1), |_| (Record::begun(1, T0), ()))
        .expect("there is room");
    replace_open(&store, OpenJournal::on_a_disk_that_does_not_sync);
    let error = store.sync_journal(T0).expect_err("it does not sync");
    assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(store.metrics.journal_failing.get(), 1);
    assert!(
        store
            .journal_standing()
            .is_some_and(|it| !it.lag.is_zero() || it.trouble.is_some())
    );
    let wrote = store.sync_journal(T0).expect("a new journal is begun");
    assert_eq!(wrote.rows, 1, "the same row is written again");
    assert_eq!(fs::metadata(&first).expect("it is there").len(), length);
    assert!(file::path(site.directory.path(), 2).exists());
    drop(store);
    let (_, restored) = site.open();
    assert_eq!((restored.tuples, restored.journal.files), (2, 2));
    assert_eq!((restored.set_aside.len(), restored.journal.cut), (0, None));
}

/// A file that was begun with it is of no use, and is not left; the number is free.
#[test]
fn journal_whose_first_sync_failed_is_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut open = OpenJournal::begin(directory.path(), &header(1))
        .expect("it is writable")
        .on_a_disk_that_does_not_sync();
    let row = Row::Tuple(key(1), Record::begun(1, T0));
    let written = open.write_group(&mut Vec::new(), T0, |writer| writer.push(&row));
    let (_, after) = written.expect_err("it does not sync");
    assert_eq!(after, AfterFailure::Spent);
    assert!(!open.has_groups() && open.remove());
    assert_eq!(
        file::list(directory.path()).expect("it can be listed"),
        [0; 0]
    );
}

fn replace_open(store: &Store, with: impl FnOnce(OpenJournal) -> OpenJournal) {
    let journal = store.journal.as_ref().expect("it has a directory");
    let mut pen = journal.pen();
    let open = pen.open.take().expect("a group was written");
    pen.open = Some(with(open));
}

/// However often a daemon starts and crashes beside it.
#[test]
fn damaged_journal_gets_one_second_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let row = |number| vec![Row::Tuple(key(number), Record::begun(1, T0))];
    let open = written(directory.path(), 1, &[row(1), row(2)]);
    let mut bytes = fs::read(open.path()).expect("it was written");
    // In the first group, so that it is no torn tail.
    bytes[usize::try_from(JournalHeader::LENGTH).expect("it is short") + 9] ^= 1;
    fs::write(open.path(), bytes).expect("it is writable");
    for second in 0..3 {
        let now = T0.after(Duration::from_secs(second));
        let found = replay::read(directory.path(), SEED, None, now, |_| {});
        assert_eq!(found.expect("it may be read").set_aside.len(), 1);
    }
    let names = fs::read_dir(directory.path()).expect("it is readable");
    assert_eq!(names.count(), 2);
}

/// A store with one tuple in its journal, and another that finds no room there.
fn with_a_change_and_no_room() -> (Site, Store) {
    let site = Site::new();
    let (store, _) = site.open();
    judge(&store, 0);
    store.sync_journal(T0).expect("the directory is writable");
    judge(&store, 1);
    replace_open(&store, OpenJournal::on_a_full_disk);
    (site, store)
}

fn judge(store: &Store, number: usize) {
    let recipient = format!("r{number}@here.example");
    let attempt = Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    };
    store.judge(&attempt, T0);
}
