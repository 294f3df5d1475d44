use proptest::prelude::*;

use super::row::{CONTENT, PAIR, SENTENCE, TRUST, TUPLE};
use super::*;
use crate::policy::{
    HostMark, Offence, Persistence, Record, Second, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, TrustKey, TrustRecord, TupleKey,
};
pub(crate) use any::{pardon, row};
use reading::sample_of_reading;

mod any;
mod kept;
mod reading;

const HEADER: Header = Header {
    seed: [7; 16],
    taken: Timestamp::from_millis(1_700_000_000_000),
    history: History {
        begun: Timestamp::from_millis(1_699_000_000_000),
    },
    journal: 11,
};

fn written(rows: &[Row]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &HEADER).expect("memory is writable");
    for row in rows {
        writer.push(row).expect("memory is writable");
    }
    let (bytes, count, length) = writer.end().expect("memory is writable");
    assert_eq!((count, length), (rows.len() as u64, bytes.len() as u64));
    bytes
}

/// All rows, if the snapshot is whole.
fn read(bytes: &[u8]) -> Result<Vec<Row>, Damage> {
    let reader = Reader::begin(bytes)?;
    assert_eq!(reader.header(), &HEADER);
    let mut rows = Vec::new();
    reader.for_each(|row| rows.push(row))?;
    Ok(rows)
}

/// A snapshot of one block of rows that another version wrote.
fn foreign(kind: u8, rows: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = written(&[]);
    let end = bytes.split_off(HEADER_FRONT + HEADER_FIELDS + CHECKSUM);
    drop(end);
    for (kind, rows) in [
        (kind, rows),
        (END, &[(rows.len() as u64).to_le_bytes().to_vec()]),
    ] {
        let mut block = vec![kind, 0];
        block.extend_from_slice(&u16_of(rows[0].len()).to_le_bytes());
        let count = u32::try_from(rows.len()).expect("few rows");
        block.extend_from_slice(&count.to_le_bytes());
        block.extend(rows.iter().flatten());
        seal(&mut block);
        bytes.extend(block);
    }
    bytes
}

fn encoded(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(row, &mut bytes);
    bytes
}

fn sample() -> [Row; 3] {
    let since = Timestamp::from_millis(1_699_999_999_000);
    let mut record = Record::begun(3, since);
    record.attempts = 4;
    record.passes = 1;
    record.passed = Second::from(since);
    record.run_evidence = 5_000;
    record.run_host = HostMark::from_bits(9);
    record.run_span = 80;
    record.extra = 45;
    record.round = 5;
    record.run_attempts = 2;
    [
        Row::Sentence(Sentence {
            client: SentencedClient::from(std::net::Ipv4Addr::new(192, 0, 2, 7)),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since,
            until: since.after(std::time::Duration::from_mins(30)),
            persistence: Persistence {
                drops: 140,
                counter: 150,
                lengthened: true,
                observed: 30,
            },
        }),
        Row::Trust(
            TrustKey::from_bytes([2; 16]),
            TrustRecord {
                passes: 5,
                ..TrustRecord::begun(2, since)
            },
        ),
        Row::Tuple(TupleKey::from_bytes([1; 16]), record),
    ]
}

proptest! {
    #[test]
    fn reads_what_was_written(
        rows in proptest::collection::vec(prop_oneof![9 => row(), 1 => pardon()], 0..200),
    ) {
        prop_assert_eq!(read(&written(&rows)).expect("it is whole"), rows);
    }

    #[test]
    fn any_change_is_noticed(
        rows in proptest::collection::vec(row(), 1..20),
        at in any::<prop::sample::Index>(),
        change in 1..=u8::MAX,
    ) {
        let mut bytes = written(&rows);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let reader = Reader::begin(&bytes[..]);
        let damage = reader.and_then(|reader| reader.for_each(|row| {
            // What was given out before the damage must be right.
            assert!(rows.contains(&row), "{row:?} was never written");
        }));
        prop_assert!(damage.is_err(), "a change at byte {} went unnoticed", at);
    }

    #[test]
    fn random_bytes_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn random_bytes_behind_a_header_do_no_harm(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = written(&[]);
        bytes.truncate(HEADER_FRONT + HEADER_FIELDS + CHECKSUM);
        bytes.extend(noise);
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn truncation_at_every_byte_is_noticed() {
    let bytes = written(&sample());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn trailing_bytes_are_noticed() {
    let mut bytes = written(&sample());
    bytes.push(0);
    assert!(matches!(read(&bytes), Err(Damage::Nonsense { .. })));
}

#[test]
fn missing_block_is_noticed() {
    let [_, trust, tuple] = sample();
    let whole = written(&[trust, tuple.clone()]);
    let without = written(&[tuple]);
    let end = without.len() - (BLOCK_FRONT + 8 + CHECKSUM);
    let mut spliced = without[..end].to_vec();
    spliced.extend_from_slice(&whole[whole.len() - (BLOCK_FRONT + 8 + CHECKSUM)..]);
    assert!(matches!(read(&spliced), Err(Damage::Nonsense { .. })));
}

#[test]
fn fills_more_than_one_block() {
    let [_, _, tuple] = sample();
    let rows = vec![tuple; 2 * ROWS_PER_BLOCK as usize + 1];
    assert_eq!(read(&written(&rows)).expect("it is whole"), rows);
}

#[test]
fn reads_rows_with_fields_appended_by_a_newer_version() {
    let rows = sample().into_iter().chain(sample_of_reading());
    for (row, kind) in rows.zip([SENTENCE, TRUST, TUPLE, CONTENT, PAIR]) {
        let mut bytes = encoded(&row);
        bytes.extend_from_slice(b"a field of the future");
        let rows = read(&foreign(kind, &[bytes.clone(), bytes])).expect("it is whole");
        assert_eq!(rows, [row.clone(), row]);
    }
}

#[test]
fn reads_rows_with_fewer_fields_of_an_older_version() {
    let [sentence, trust, tuple] = sample();
    let older = foreign(SENTENCE, &[encoded(&sentence)[..35].to_vec()]);
    let Row::Sentence(sentence) = sentence else {
        unreachable!("the sample's first row is a sentence")
    };
    let expected = Row::Sentence(Sentence {
        persistence: Persistence::default(),
        ..sentence
    });
    assert_eq!(read(&older).expect("it is whole"), [expected]);

    let older = foreign(TUPLE, &[encoded(&tuple)[..24].to_vec()]);
    let Row::Tuple(key, record) = tuple else {
        unreachable!("the sample's last row is a tuple")
    };
    let expected = Row::Tuple(key, Record::begun(1, record.first_seen));
    assert_eq!(read(&older).expect("it is whole"), [expected]);

    let older = foreign(TRUST, &[encoded(&trust)[..24].to_vec()]);
    let Row::Trust(key, record) = trust else {
        unreachable!("the sample's second row is of trust")
    };
    let expected = Row::Trust(key, TrustRecord::begun(1, record.counted));
    assert_eq!(read(&older).expect("it is whole"), [expected]);
}

#[test]
fn row_without_its_first_fact_makes_no_sense() {
    let [_, _, tuple] = sample();
    let short = foreign(TUPLE, &[encoded(&tuple)[..23].to_vec()]);
    assert!(matches!(read(&short), Err(Damage::Nonsense { .. })));
}

#[test]
fn passes_over_kinds_and_codes_of_the_future() {
    let unknown_kind = foreign(b'Z', &[b"who knows".to_vec()]);
    assert_eq!(read(&unknown_kind).expect("it is whole"), [Row::Unknown]);

    let [sentence, ..] = sample();
    for (field, code) in [(16, 25), (17, b'?'), (18, b'?')] {
        let mut bytes = encoded(&sentence);
        bytes[field] = code;
        let rows = read(&foreign(SENTENCE, &[bytes])).expect("it is whole");
        assert_eq!(rows, [Row::Unknown], "of field {field}");
    }
}

#[test]
fn refuses_a_version_it_would_misread() {
    let mut bytes = written(&sample());
    bytes[8] = 2;
    let damage = read(&bytes).expect_err("version 2 is not known");
    assert_eq!(
        damage.to_string(),
        "it has layout version 2, and this greygate reads 1"
    );
}

#[test]
fn reads_a_header_with_fields_of_the_future() {
    let mut bytes = written(&[]);
    let end = bytes.split_off(HEADER_FRONT + HEADER_FIELDS + CHECKSUM);
    bytes.truncate(HEADER_FRONT + HEADER_FIELDS);
    bytes.extend_from_slice(b"later");
    bytes[10] = 45;
    seal(&mut bytes);
    bytes.extend(end);
    assert_eq!(read(&bytes).expect("it is whole"), []);
}

/// Its header had two fields; the history is taken to begin with it.
#[test]
fn reads_a_header_of_the_first_greygate() {
    let mut bytes = written(&[]);
    let end = bytes.split_off(HEADER_FRONT + HEADER_FIELDS + CHECKSUM);
    bytes.truncate(HEADER_FRONT + OLDEST_HEADER_FIELDS);
    bytes[10] = 24;
    seal(&mut bytes);
    bytes.extend(end);
    let reader = Reader::begin(&bytes[..]).expect("it is whole");
    let begun = HEADER.taken;
    let expected = Header {
        history: History { begun },
        journal: 0,
        ..HEADER
    };
    assert_eq!(reader.header(), &expected);
    assert!(reader.for_each(|_| {}).is_ok());
}
