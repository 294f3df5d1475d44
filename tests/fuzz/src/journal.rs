//! A journal of any bytes is replayed by a store that starts, as far as it is whole, without a panic or
//! an error; replayed once more it gives the same, and a journal that was cut anywhere gives no more than
//! the whole one.
//!
//! Guessing a checksum takes a fuzzer for ever, so the bytes are read as they are where they begin as a
//! journal does, or hardly begin, and in any case as the blocks of groups that are whole, with what is
//! left of them behind. To open a store takes longer than all of it.

use std::{fs, path::Path, sync::Arc};

use arbitrary::Unstructured;
use greygate::{
    policy::{Seed, Timestamp},
    store::{Restored, Settings, Store},
};
use tempfile::TempDir;

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    if bytes.starts_with(MAGIC) || bytes.len() < MAGIC.len() {
        replay_twice(bytes);
    }
    let whole = dressed(&mut Unstructured::new(bytes));
    let rows = replay_twice(&whole);
    let cut = crc32fast::hash(bytes) as usize % whole.len();
    let part = lay(&whole[..cut]);
    let some = open(part.path()).journal.rows;
    assert!(some <= rows, "a part of it holds more");
}

/// How many rows a store takes from a journal of these bytes, and another after it.
fn replay_twice(journal: &[u8]) -> u64 {
    let place = lay(journal);
    let first = open(place.path());
    let again = open(place.path());
    // What was torn is cut off by then, and what was not a journal is out of the way.
    assert_eq!(counts(&again), counts(&first), "replayed twice it differs");
    assert!(again.journal.cut.is_none());
    first.journal.rows
}

/// A store's directory with this journal, which is all that there is.
fn lay(journal: &[u8]) -> TempDir {
    let place = place();
    fs::write(place.path().join("seed"), seed()).expect("it is ours");
    fs::write(place.path().join("journal-0000000001"), journal).expect("it is ours");
    place
}

fn open(directory: &Path) -> Restored {
    let settings = Settings {
        directory: directory.to_owned(),
        seed_file: directory.join("seed"),
        capacity: 1_000,
        sentences: 1_000,
        clients: 1_000,
        contents: 1_000,
        keep_addresses: true,
        ..Settings::default()
    };
    let (effects, _) = tokio::sync::mpsc::channel(4);
    let opened = Store::open(settings, Arc::default(), effects, Arc::default(), NOW);
    opened.expect("damage is no error").1
}

/// What it holds now, by kind.
fn counts(restored: &Restored) -> [u64; 8] {
    [
        restored.tuples,
        restored.trusted,
        restored.sentences,
        restored.clients,
        restored.reputations,
        restored.helos,
        restored.contents,
        restored.pairs,
    ]
}

/// A journal of this seed: groups of blocks, then whatever is left.
fn dressed(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut journal = MAGIC.to_vec();
    journal.extend(1_u16.to_le_bytes());
    journal.extend(48_u16.to_le_bytes());
    journal.extend(Seed::from_bytes(seed()).fingerprint());
    for number in [1, NOW.as_millis(), 0, NOW.as_millis()] {
        journal.extend(u64::to_le_bytes(number));
    }
    let checksum = crc32fast::hash(&journal);
    journal.extend(checksum.to_le_bytes());
    let groups = input.int_in_range(0..=3_u64).unwrap_or(0);
    for group in 1..=groups {
        for _ in 0..input.int_in_range(0..=3).unwrap_or(0) {
            let kind = input.choose(KINDS).copied().unwrap_or(b'T');
            let length = input.int_in_range(1..=200_u8).unwrap_or(1);
            let rows = input.int_in_range(1..=3_usize).unwrap_or(1);
            let Ok(bytes) = input.bytes(usize::from(length) * rows) else {
                break;
            };
            append_block(&mut journal, kind, u16::from(length), bytes);
        }
        let end = [group.to_le_bytes(), NOW.as_millis().to_le_bytes()].concat();
        append_block(&mut journal, b'Z', 16, &end);
    }
    journal.extend(input.bytes(input.len()).unwrap_or_default());
    journal
}

fn append_block(journal: &mut Vec<u8>, kind: u8, row_length: u16, rows: &[u8]) {
    let begin = journal.len();
    let count = rows.len() / usize::from(row_length);
    journal.extend([kind, 0]);
    journal.extend(row_length.to_le_bytes());
    journal.extend(u32::try_from(count).expect("few").to_le_bytes());
    journal.extend(rows);
    let checksum = crc32fast::hash(&journal[begin..]);
    journal.extend(checksum.to_le_bytes());
}

/// As good as random: a store refuses one that is not.
fn seed() -> [u8; Seed::LENGTH] {
    std::array::from_fn(|at| crc32fast::hash(&at.to_le_bytes()).to_le_bytes()[0])
}

/// A directory that is memory, where there is one.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return tempfile::tempdir_in(memory).expect("a directory in memory");
    }
    tempfile::tempdir().expect("a directory")
}

/// What a journal begins with.
const MAGIC: &[u8] = b"greyjrnl";
/// The kinds of rows that there are (`store/codec/row.rs`), and one that there is not.
const KINDS: &[u8] = b"TRSCPHMQANG?";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
