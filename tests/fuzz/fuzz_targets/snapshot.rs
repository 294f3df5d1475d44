//! A snapshot of any bytes is read or refused, without a panic or much memory; what was read can
//! be written and read again.
//!
//! Guessing a checksum takes a fuzzer for ever, so the bytes are read as they are and then once
//! more as the rows of a block that is whole.
#![no_main]

use greygate::policy::{History, Timestamp};
use greygate::store::codec::{Damage, Header, Reader, Row, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _damage_or_not = read(bytes);
    if let Ok(mut rows) = read(&dressed(bytes)) {
        rows.retain(|row| *row != Row::Unknown);
        let again = read(&written(&rows)).expect("what was written can be read");
        assert_eq!(again, rows);
    }
});

fn read(bytes: &[u8]) -> Result<Vec<Row>, Damage> {
    let mut rows = Vec::new();
    Reader::begin(bytes)?.for_each(|row| rows.push(row))?;
    Ok(rows)
}

fn written(rows: &[Row]) -> Vec<u8> {
    let header = Header {
        seed: [0; 16],
        taken: Timestamp::NEVER,
        history: History {
            begun: Timestamp::NEVER,
        },
        journal: 0,
    };
    let mut writer = Writer::begin(Vec::new(), &header).expect("memory is writable");
    for row in rows {
        writer.push(row).expect("memory is writable");
    }
    writer.end().expect("memory is writable").0
}

/// A snapshot of one block: its kind and the length of its rows come first in `bytes`, the rows
/// after. What does not fill a row is left out.
fn dressed(bytes: &[u8]) -> Vec<u8> {
    const END: usize = 8 + 8 + 4;
    let mut snapshot = written(&[]);
    snapshot.truncate(snapshot.len() - END);
    let [kind, length, rows @ ..] = bytes else {
        return snapshot;
    };
    let length = usize::from(*length).max(1);
    let count = rows.len() / length;
    append_block(&mut snapshot, *kind, length, &rows[..count * length]);
    append_block(&mut snapshot, b'E', 8, &(count as u64).to_le_bytes());
    snapshot
}

fn append_block(snapshot: &mut Vec<u8>, kind: u8, row_length: usize, rows: &[u8]) {
    let begin = snapshot.len();
    snapshot.extend([kind, 0]);
    snapshot.extend((row_length as u16).to_le_bytes());
    snapshot.extend(((rows.len() / row_length) as u32).to_le_bytes());
    snapshot.extend(rows);
    let checksum = crc32fast::hash(&snapshot[begin..]);
    snapshot.extend(checksum.to_le_bytes());
}
