//! Snapshots that an older or a newer greygate wrote: fields are appended, kinds are added.

use std::fs;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Offence, PassReason, Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient,
    Verdict,
};
use greygate::store::codec::Row;

use crate::fixture::{ATTEMPT, Fixture};

/// Rewrites every row of the kind in the snapshot `bytes` as another version would have laid it
/// out.
fn relaid(bytes: &[u8], kind: u8, relay: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    const HEADER: usize = 8 + 2 + 2 + 40 + 4;
    let (header, mut rest) = bytes.split_at(HEADER);
    let mut result = header.to_vec();
    while !rest.is_empty() {
        let row_length = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
        let rows = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]);
        let (block, after) = rest.split_at(8 + row_length * rows as usize + 4);
        let mut written = block[..8].to_vec();
        for row in block[8..block.len() - 4].chunks(row_length) {
            let row = if block[0] == kind {
                relay(row)
            } else {
                row.to_vec()
            };
            let length = u16::try_from(row.len()).expect("rows are short");
            written[2..4].copy_from_slice(&length.to_le_bytes());
            written.extend(row);
        }
        let checksum = crc32fast::hash(&written);
        result.extend(written);
        result.extend(checksum.to_le_bytes());
        rest = after;
    }
    result
}

/// The snapshot `bytes` under a header of two fields, as the first greygate wrote it.
fn under_the_first_header(bytes: &[u8]) -> Vec<u8> {
    let mut header = bytes[..8 + 2 + 2 + 24].to_vec();
    header[10..12].copy_from_slice(&24_u16.to_le_bytes());
    let checksum = crc32fast::hash(&header);
    header.extend(checksum.to_le_bytes());
    header.extend(&bytes[8 + 2 + 2 + 40 + 4..]);
    header
}

/// The history begins with the snapshot: offences count at once, and what was blocked is watched
/// for as long as anybody new is.
#[test]
fn whole_snapshot_of_the_first_greygate_loads_and_begins_the_history() {
    const FIRST_TUPLE: usize = 16 + 3 * 8 + 4 * 2 + 3 * 4;
    let fixture = left_by_another_version(|row| row[..FIRST_TUPLE].to_vec());
    let taken = fixture.clock.now();
    let file = fixture.snapshot_file();
    let bytes = fs::read(&file).expect("it was written");
    fs::write(&file, under_the_first_header(&bytes)).expect("it is writable");
    fixture.wait_minutes(5);
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
    assert_eq!(store.history().begun, taken);
    let (policy, now) = (fixture.policy.load(), fixture.clock.now());
    assert!(store.history().judges(&policy, now));
    assert!(!store.history().blocks(&policy, now));
    let waited = Duration::from_mins(5);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

/// A sentence as a greygate without counters of the kernel wrote it loads, and is as good as ever.
#[test]
fn older_sentence_loads_and_can_still_be_lengthened() {
    const OLD_ROW: usize = 16 + 3 + 8 + 8;
    let fixture = Fixture::new();
    let store = fixture.open();
    let since = fixture.clock.now();
    let sentence = Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Rate,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since,
        until: since.after(Duration::from_mins(30)),
        persistence: Persistence::default(),
    };
    store.punish(sentence);
    store.heed([(sentence.client, 7)], true, since);
    fixture.rows(&store);
    drop(store);
    let file = fixture.snapshot_file();
    let bytes = fs::read(&file).expect("it was written");
    let older = relaid(&bytes, b'S', |row| row[..OLD_ROW].to_vec());
    fs::write(&file, older).expect("it is writable");
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.sentences, restored.set_aside.len()), (1, 0));
    assert_eq!(store.sentences(since), [sentence]);
    store.heed([(sentence.client, 100)], true, since);
    assert!(store.sentences(since)[0].persistence.lengthened);
}

/// A store that is closed after one deferred attempt, its snapshot rewritten.
fn left_by_another_version(relay: impl Fn(&[u8]) -> Vec<u8>) -> Fixture {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fixture.rows(&store);
    drop(store);
    let file = fixture.snapshot_file();
    let bytes = fs::read(&file).expect("it was written");
    fs::write(&file, relaid(&bytes, b'T', relay)).expect("it is writable");
    fixture
}

#[test]
fn unchanged_layout_is_the_same_file() {
    let fixture = left_by_another_version(<[u8]>::to_vec);
    let (_, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
}

#[test]
fn newer_layout_with_appended_fields_loads() {
    let fixture = left_by_another_version(|row| [row, b"a field of the future"].concat());
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
    let rows = fixture.rows_but_pairs(&store);
    let [Row::Tuple(_, record)] = rows[..] else {
        panic!("one record: {rows:?}");
    };
    assert_eq!((record.attempts, record.run_evidence), (1, 5_000));
}

#[test]
fn older_layout_with_fewer_fields_loads() {
    // Key, first-seen and last-seen: the rest had not been thought of.
    let fixture = left_by_another_version(|row| row[..32].to_vec());
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
    fixture.wait_minutes(5);
    let waited = Duration::from_mins(5);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited })
    );
}
