//! The rows of messages that were read, and of pairs.

use super::super::row::{CONTENT, PAIR};
use super::super::*;
use super::{encoded, foreign, read};
use crate::policy::{ContentRecord, Fingerprint, NetworkMark, PairRecord, PairTag, Second};

/// A message that passed, and the reverse-path and recipient of a pool.
pub(super) fn sample_of_reading() -> [Row; 2] {
    let since = Timestamp::from_millis(1_699_999_999_123);
    let network = NetworkMark::from_bits(0x0201);
    let read = ContentRecord {
        last_seen: Second::from_seconds(1_700_000_060),
        passed: Second::from_seconds(1_700_000_061),
        attempts: 3,
        passes: 1,
        life: 2,
        ..ContentRecord::begun(1, network, since)
    };
    let pair = PairRecord {
        contacts: 4,
        ..PairRecord::begun(5, network, since)
    };
    [
        Row::Content(Fingerprint::from_bytes([3; 16]), read),
        Row::Pair(PairTag::from_bytes([4; 8]), pair),
    ]
}

/// Byte for byte: what is on a disk somewhere cannot be changed any more.
#[test]
fn message_and_pair_are_laid_out_as_they_were() {
    let [content, pair] = sample_of_reading();
    let millis = 1_699_999_999_123_u64.to_le_bytes();
    let laid_out = [
        &[3; 16][..],
        &millis,
        &1_700_000_060_u32.to_le_bytes(),
        &1_700_000_061_u32.to_le_bytes(),
        &[3, 0, 1, 0, 2, 0, 0x01, 0x02],
    ];
    assert_eq!(encoded(&content), laid_out.concat());
    let Row::Pair(_, record) = pair else {
        unreachable!("the sample's second row is a pair")
    };
    let laid_out = [
        &[4; 8][..],
        &1_699_999_999_u32.to_le_bytes(),
        &[record.network, 4, record.minute, 5],
    ];
    assert_eq!(encoded(&pair), laid_out.concat());
}

#[test]
fn message_and_pair_of_an_older_version_get_their_defaults() {
    let [content, pair] = sample_of_reading();
    let older = foreign(CONTENT, &[encoded(&content)[..24].to_vec()]);
    let Row::Content(key, record) = content else {
        unreachable!("the sample's first row is a message")
    };
    let begun = ContentRecord::begun(1, NetworkMark::default(), record.first_seen);
    let read_back = read(&older).expect("it is whole");
    assert_eq!(read_back, [Row::Content(key, begun)]);

    let older = foreign(PAIR, &[encoded(&pair)[..12].to_vec()]);
    let Row::Pair(key, record) = pair else {
        unreachable!("the sample's second row is a pair")
    };
    let bare = PairRecord {
        network: 0,
        contacts: 0,
        minute: 0,
        life: 1,
        ..record
    };
    assert_eq!(read(&older).expect("it is whole"), [Row::Pair(key, bare)]);

    for (row, kind, first_fact) in [(content, CONTENT, 24), (Row::Pair(key, bare), PAIR, 12)] {
        let short = foreign(kind, &[encoded(&row)[..first_fact - 1].to_vec()]);
        assert!(matches!(read(&short), Err(Damage::Nonsense { .. })));
    }
}

#[test]
fn nonsense_of_a_message_and_a_pair_is_put_right() {
    let [content, pair] = sample_of_reading();
    let mut bytes = encoded(&content);
    bytes[24..28].fill(0); // Read last before it was read first,
    bytes[32..34].fill(0); // never at all,
    bytes[36..38].fill(0); // and in no life.
    let rows = read(&foreign(CONTENT, &[bytes])).expect("it is whole");
    let [Row::Content(_, record)] = rows[..] else {
        panic!("one message: {rows:?}");
    };
    assert_eq!(record.last_seen, Second::from(record.first_seen));
    assert_eq!((record.attempts, record.life), (1, 1));

    let mut bytes = encoded(&pair);
    bytes[15] = 0;
    let rows = read(&foreign(PAIR, &[bytes])).expect("it is whole");
    let [Row::Pair(_, record)] = rows[..] else {
        panic!("one pair: {rows:?}");
    };
    assert_eq!(record.life, 1);
}
