use std::net::IpAddr;

use proptest::prelude::*;

use super::row::{CONTENT, PAIR, SENTENCE, TRUST, TUPLE};
use super::*;
use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, HeloKey, HoppingHelo, HostMark, Neighbour,
    Neighbours, NetworkKey, NetworkMark, Offence, PairRecord, PairTag, Persistence, Record,
    Reputation, Second, Sentence, SentenceLevel, SentenceReason, SentencedClient, Strike, TrustKey,
    TrustRecord, TupleKey,
};

const HEADER: Header = Header {
    seed: [7; 16],
    taken: Timestamp::from_millis(1_700_000_000_000),
    history: History {
        begun: Timestamp::from_millis(1_699_000_000_000),
    },
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

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

/// Any row of any kind that is known.
pub(crate) fn row() -> impl Strategy<Value = Row> {
    let tuple = (
        any::<[u8; 16]>(),
        (time(), time(), 0..=u64::from(u32::MAX)),
        (1..=u16::MAX, any::<u16>(), 1..=u16::MAX),
        (any::<u16>(), any::<u16>(), any::<u32>(), any::<u16>()),
        (any::<u16>(), any::<u16>()),
    )
        .prop_map(
            |(key, (first, last, passed), counts, run, (extra, round))| {
                let record = Record {
                    first_seen: first.min(last),
                    last_seen: first.max(last),
                    passed: Second::from(Timestamp::from_millis(passed * 1_000)),
                    attempts: counts.0,
                    passes: counts.1,
                    life: counts.2,
                    run_attempts: run.0,
                    run_span: run.1,
                    run_evidence: run.2,
                    run_host: HostMark::from_bits(run.3),
                    extra,
                    round,
                };
                Row::Tuple(TupleKey::from_bytes(key), record)
            },
        );
    let trust = (
        any::<[u8; 16]>(),
        time(),
        time(),
        1..=u16::MAX,
        1..=u16::MAX,
    )
        .prop_map(|(key, counted, used, passes, life)| {
            let record = TrustRecord {
                counted: counted.min(used),
                last_used: counted.max(used),
                passes,
                life,
            };
            Row::Trust(TrustKey::from_bytes(key), record)
        });
    let sentence = (
        (any::<IpAddr>(), 0..2_usize),
        prop::sample::select(vec![
            SentenceLevel::Observe,
            SentenceLevel::Rate,
            SentenceLevel::Block,
        ]),
        reason(),
        (time(), time()),
        (any::<u64>(), any::<u64>(), any::<bool>(), any::<u64>()),
    )
        .prop_map(|(client, level, reason, (since, until), persistence)| {
            Row::Sentence(Sentence {
                client: SentencedClient::covering(client.0)[client.1],
                level,
                reason,
                since,
                until,
                persistence: Persistence {
                    drops: persistence.0,
                    counter: persistence.1,
                    lengthened: persistence.2,
                    observed: persistence.3,
                },
            })
        });
    prop_oneof![
        tuple,
        trust,
        sentence,
        client(),
        neighbours(),
        reputation(),
        helo(),
        content(),
        pair(),
    ]
}

fn second() -> impl Strategy<Value = Second> {
    any::<u32>().prop_map(Second::from_seconds)
}

fn offence() -> impl Strategy<Value = Offence> {
    prop::sample::select(Offence::ALL.to_vec())
}

fn reason() -> impl Strategy<Value = SentenceReason> {
    prop_oneof![
        Just(SentenceReason::Operator),
        Just(SentenceReason::Neighbours),
        offence().prop_map(SentenceReason::Offence),
    ]
}

fn client() -> impl Strategy<Value = Row> {
    let strike = (second(), offence()).prop_map(|(at, offence)| Strike { at, offence });
    (
        any::<[u8; 16]>(),
        second(),
        (any::<u16>(), any::<u16>()),
        1..=u16::MAX,
        prop::array::uniform(prop::option::of(strike)),
    )
        .prop_map(|(key, authenticated, (strikes, felt), life, latest)| {
            let record = ClientRecord {
                authenticated,
                strikes,
                felt,
                latest,
                life,
            };
            Row::Client(ClientKey::from_bytes(key), record)
        })
}

fn neighbours() -> impl Strategy<Value = Row> {
    let neighbour = (second(), any::<u16>()).prop_map(|(struck, host)| Neighbour {
        struck,
        host: HostMark::from_bits(host),
    });
    let hosts = prop::array::uniform(neighbour);
    (any::<[u8; 16]>(), 1..=u16::MAX, hosts).prop_map(|(key, life, hosts)| {
        Row::Neighbours(ClientKey::from_bytes(key), Neighbours { hosts, life })
    })
}

fn reputation() -> impl Strategy<Value = Row> {
    (
        any::<[u8; 16]>(),
        any::<[u64; 3]>(),
        any::<[u32; 4]>(),
        (second(), second()),
        any::<[u16; 3]>(),
        (any::<u8>(), 1..=u8::MAX),
    )
        .prop_map(
            |(key, maps, [good, bad, ham, spam], (updated, since), days, (good_days, life))| {
                let [recipients, recipients_today, bad_today] = maps;
                let [day, struck_day, refused_day] = days;
                let record = Reputation {
                    recipients,
                    recipients_today,
                    bad_today,
                    good,
                    bad,
                    ham,
                    spam,
                    updated,
                    since,
                    day,
                    struck_day,
                    refused_day,
                    good_days,
                    life,
                };
                Row::Reputation(NetworkKey::from_bytes(key), record)
            },
        )
}

fn helo() -> impl Strategy<Value = Row> {
    (
        any::<[u8; 16]>(),
        second(),
        second(),
        1..=u16::MAX,
        1..=u16::MAX,
    )
        .prop_map(|(key, one, other, times, life)| {
            let record = HoppingHelo {
                since: one.min(other),
                latest: one.max(other),
                times,
                life,
            };
            Row::Helo(HeloKey::from_bytes(key), record)
        })
}

fn content() -> impl Strategy<Value = Row> {
    (
        any::<[u8; 16]>(),
        (time(), second(), second()),
        (1..=u16::MAX, any::<u16>(), 1..=u16::MAX),
        any::<u16>(),
    )
        .prop_map(|(key, (first_seen, last, passed), counts, network)| {
            let record = ContentRecord {
                first_seen,
                last_seen: last.max(first_seen.into()),
                passed,
                attempts: counts.0,
                passes: counts.1,
                life: counts.2,
                network: NetworkMark::from_bits(network),
            };
            Row::Content(Fingerprint::from_bytes(key), record)
        })
}

fn pair() -> impl Strategy<Value = Row> {
    (any::<[u8; 8]>(), second(), any::<[u8; 3]>(), 1..=u8::MAX).prop_map(
        |(key, first_seen, [network, contacts, minute], life)| {
            let record = PairRecord {
                first_seen,
                network,
                contacts,
                minute,
                life,
            };
            Row::Pair(PairTag::from_bytes(key), record)
        },
    )
}

/// A message that passed, and the reverse-path and recipient of a pool.
fn sample_of_reading() -> [Row; 2] {
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

proptest! {
    #[test]
    fn reads_what_was_written(rows in proptest::collection::vec(row(), 0..200)) {
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
    let whole = written(&[trust, tuple]);
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
        assert_eq!(rows, [row, row]);
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
    bytes[10] = 37;
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
        ..HEADER
    };
    assert_eq!(reader.header(), &expected);
    assert!(reader.for_each(|_| {}).is_ok());
}
