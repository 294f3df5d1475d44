//! What the engine makes of two values is what the records' own rules make of two records, in any order and
//! however often.

use std::sync::Arc;

use greygate::cluster::layout::{self, Value};
use greygate::policy::{
    ClientKey, ClientRecord, ContentRecord, Entry, Fingerprint, HeloKey, HoppingHelo, HostMark,
    ListOrder, LiveList, Neighbours, NetworkKey, NetworkMark, Offence, Order, PairRecord, PairTag,
    Persistence, Policy, Record, Reputation, Second, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, SharedKey, Strike, Timestamp, TrustKey, TrustRecord, TupleKey, Word,
};
use greygate::store::codec::Row;
use greygate::store::{Shared, SharedSentence};
use proptest::prelude::*;
use redis::{Connection, Script};

use crate::engine::{Engine, connect, equipment};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What the daemon has the engine run.
fn sharing() -> Script {
    Script::new(concat!(
        include_str!("../../greylist-user/src/cluster/lua/merge.lua"),
        "\n",
        include_str!("../../greylist-user/src/cluster/lua/share.lua")
    ))
}

fn value(shared: &Shared) -> Value {
    layout::value(shared, &Policy::default(), NOW).expect("it is shared")
}

/// Told to the engine in the given order; what it holds then.
fn held(script: &Script, engine: &mut Connection, told: &[&Value]) -> Vec<u8> {
    let name = "record";
    redis::cmd("DEL")
        .arg(name)
        .exec(engine)
        .expect("the engine runs");
    for value in told {
        let mut invocation = script.prepare_invoke();
        invocation
            .key(name)
            .arg(value.form.as_ref())
            .arg(&value.bytes);
        invocation.arg(u64::try_from(value.lasts.as_millis()).expect("not that long"));
        let before: Option<Vec<u8>> = redis::cmd("GET").arg(name).query(engine).expect("it runs");
        let sent = value.bytes.clone();
        let answer: Option<(Vec<u8>, u8)> = invocation.invoke(engine).expect("the script runs");
        let now: Vec<u8> = redis::cmd("GET")
            .arg(name)
            .query(engine)
            .expect("it is held");
        let is_news = before.is_some_and(|before| before != now) && sent != now;
        let expected = (sent != now).then(|| (now, u8::from(is_news)));
        assert_eq!(answer, expected, "what differs is told back");
    }
    redis::cmd("GET")
        .arg(name)
        .query(engine)
        .expect("it is held")
}

/// Small ranges, so that equal lives, times and counts are common.
fn time() -> impl Strategy<Value = Timestamp> {
    (0u64..4).prop_map(|it| Timestamp::from_millis(NOW.as_millis() + it * 700))
}

fn second() -> impl Strategy<Value = Second> {
    prop_oneof![
        Just(Second::NEVER),
        (0u32..4).prop_map(|it| Second::from_seconds(1_700_000_000 + it)),
    ]
}

prop_compose! {
    fn tuple()(
        first_seen in time(), last_seen in time(), passed in second(), run_evidence in 0u32..3,
        run_host in 0u16..3, run_span in 0u16..3, run_attempts in 0u16..3, extra in 0u16..3,
        attempts in 1u16..4, passes in 0u16..3, life in 1u16..3,
    ) -> Row {
        let record = Record {
            last_seen, passed, run_evidence, run_host: HostMark::from_bits(run_host), run_span,
            run_attempts, extra, attempts, passes,
            ..Record::begun(life, first_seen)
        };
        Row::Tuple(TupleKey::from_bytes([1; 16]), record)
    }
}

prop_compose! {
    fn trust()(counted in time(), last_used in time(), passes in 0u16..400, life in 1u16..3, by_content: bool) -> Row {
        let record = TrustRecord { counted, last_used, passes, life, by_content };
        Row::Trust(TrustKey::from_bytes([1; 16]), record)
    }
}

prop_compose! {
    fn content()(
        first_seen in time(), last_seen in second(), passed in second(), attempts in 1u16..400,
        passes in 0u16..3, life in 1u16..3, network in 0u16..3,
    ) -> Row {
        let network = NetworkMark::from_bits(network);
        let record = ContentRecord { first_seen, last_seen, passed, attempts, passes, life, network };
        Row::Content(Fingerprint::from_bytes([1; 16]), record)
    }
}

prop_compose! {
    fn pair()(first_seen in second(), network in 0u8..3, contacts in 1u8..4, minute: u8, life in 1u8..3) -> Row {
        let record = PairRecord { first_seen, network, contacts, minute, life };
        Row::Pair(PairTag::from_bytes([1; 8]), record)
    }
}

prop_compose! {
    fn client()(
        authenticated in second(), strikes in 0u16..3, felt in 0u16..3, life in 1u16..3,
        struck in prop::collection::btree_set((0u32..9, 0usize..4), 0..ClientRecord::REMEMBERED),
    ) -> Row {
        let mut latest = [None; ClientRecord::REMEMBERED];
        for (place, (at, offence)) in latest.iter_mut().zip(struck.into_iter().rev()) {
            let at = Second::from_seconds(1_700_000_000 + at);
            *place = Some(Strike { at, offence: Offence::ALL[offence] });
        }
        let record = ClientRecord { authenticated, strikes, felt, latest, life };
        Row::Client(ClientKey::from_bytes([1; 16]), record)
    }
}

prop_compose! {
    fn neighbours()(life in 1u16..3, struck in prop::collection::vec((1u32..9, 0u16..6), 0..6)) -> Row {
        let mut record = Neighbours { life, ..Neighbours::default() };
        for (at, host) in struck {
            let at = Timestamp::from_millis(u64::from(1_700_000_000 + at) * 1_000);
            record = record.struck(HostMark::from_bits(host), at);
        }
        Row::Neighbours(ClientKey::from_bytes([1; 16]), record)
    }
}

prop_compose! {
    fn helo()(since in second(), latest in second(), times in 1u16..400, life in 1u16..3) -> Row {
        Row::Helo(HeloKey::from_bytes([1; 16]), HoppingHelo { since, latest, times, life })
    }
}

prop_compose! {
    fn reputation()(
        recipients: u64, day in 0u16..3, today: u64, bad_today: u64, months in 0u32..40,
        counts: [u32; 4], since in second(), struck_day in 0u16..3, refused_day in 0u16..3,
        good_days in 0u8..3, life in 1u8..3,
    ) -> Row {
        let [good, bad, ham, spam] = counts;
        let record = Reputation {
            recipients, recipients_today: today, bad_today, good, bad, ham, spam,
            // Up to forty half-lives apart, so that counts fade to nothing.
            updated: Second::from_seconds(1_600_000_000 + months * 2_592_000 + 17),
            since, day, struck_day, refused_day, good_days, life,
        };
        Row::Reputation(NetworkKey::from_bytes([1; 16]), record)
    }
}

fn merged(a: &Row, b: &Row) -> Row {
    match (a, b) {
        (Row::Tuple(key, a), Row::Tuple(_, b)) => Row::Tuple(*key, a.merge(*b)),
        (Row::Trust(key, a), Row::Trust(_, b)) => Row::Trust(*key, a.merge(*b)),
        (Row::Content(key, a), Row::Content(_, b)) => Row::Content(*key, a.merge(*b)),
        (Row::Pair(key, a), Row::Pair(_, b)) => Row::Pair(*key, a.merge(*b)),
        (Row::Client(key, a), Row::Client(_, b)) => Row::Client(*key, a.merge(*b)),
        (Row::Neighbours(key, a), Row::Neighbours(_, b)) => Row::Neighbours(*key, a.merge(*b)),
        (Row::Helo(key, a), Row::Helo(_, b)) => Row::Helo(*key, a.merge(*b)),
        (Row::Reputation(key, a), Row::Reputation(_, b)) => {
            Row::Reputation(*key, a.merge(*b, &Policy::default()))
        }
        _ => unreachable!("records of one kind"),
    }
}

fn any_kind() -> impl Strategy<Value = [Row; 3]> {
    prop_oneof![
        [tuple(), tuple(), tuple()],
        [trust(), trust(), trust()],
        [content(), content(), content()],
        [pair(), pair(), pair()],
        [client(), client(), client()],
        [neighbours(), neighbours(), neighbours()],
        [helo(), helo(), helo()],
        [reputation(), reputation(), reputation()],
    ]
}

#[test]
fn engine_merges_as_records_do_in_any_order() {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&[]);
    engine.with(|| {
        let script = sharing();
        let connection = std::cell::RefCell::new(connect());
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(1_500)
        };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let run = runner.run(&any_kind(), |rows| {
            let [a, b, c] = rows.clone().map(|row| value(&Shared::Row(row)));
            let engine = &mut *connection.borrow_mut();
            let expected = Shared::Row(merged(&merged(&rows[0], &rows[1]), &rows[2]));
            let expected = value(&expected).bytes;
            for order in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c], [&a, &c, &b]] {
                prop_assert_eq!(&held(&script, engine, &order), &expected, "{:?}", order);
            }
            let again = held(&script, engine, &[&a, &b, &c, &b, &a, &c, &c]);
            prop_assert_eq!(&again, &expected, "told again");
            // What is read back is what was told.
            let key = Shared::Row(rows[0].clone()).key().expect("it is shared");
            let read = layout::read(key, &expected).expect("it is a value");
            prop_assert_eq!(value(&read).bytes, expected);
            Ok(())
        });
        run.expect("the engine merges as records do");
    });
}

fn sentence(lifted: u64, given: Option<(u64, u64, SentenceLevel)>) -> Shared {
    let client = SentencedClient::of("192.0.2.7".parse().expect("an address"));
    Shared::Sentence(SharedSentence {
        client,
        lifted: Timestamp::from_millis(lifted),
        given: given.map(|(since, until, level)| Sentence {
            client,
            level,
            reason: SentenceReason::Operator,
            since: Timestamp::from_millis(since),
            until: Timestamp::from_millis(until),
            persistence: Persistence::default(),
        }),
    })
}

#[test]
fn pardon_and_what_was_given_after_it_are_remembered_in_any_order() {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&[]);
    engine.with(|| {
        let script = sharing();
        let mut connection = connect();
        let short = sentence(0, Some((5, 100, SentenceLevel::Block)));
        let long = sentence(0, Some((3, 200, SentenceLevel::Rate)));
        let pardon = sentence(4, None);
        // The longer one began before the pardon, and hides nothing.
        let expected = sentence(4, Some((5, 100, SentenceLevel::Block)));
        for order in [
            [&short, &long, &pardon],
            [&pardon, &long, &short],
            [&long, &pardon, &short],
        ] {
            let held = held(&script, &mut connection, &order.map(value).each_ref());
            let key = SharedKey::Sentence(SentencedClient::of("192.0.2.7".parse().expect("one")));
            assert_eq!(layout::read(key, &held), Ok(expected.clone()), "{order:?}");
        }
    });
}

#[test]
fn later_order_counts_in_any_order_whole() {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&[]);
    engine.with(|| {
        let script = sharing();
        let mut connection = connect();
        let entry: Entry = "from @example.org".parse().expect("an entry");
        let told = |at: u64, note: &str| ListOrder {
            list: LiveList::Deny,
            entry: entry.clone(),
            word: Word::Listed(Arc::new(Order {
                at: Timestamp::from_millis(at),
                uid: 0,
                until: None,
                note: note.to_owned(),
            })),
        };
        let removed = |at: u64| ListOrder {
            word: Word::Removed(Timestamp::from_millis(at)),
            ..told(at, "")
        };
        // Of the same moment, and shorter and longer ones.
        let rising = [
            told(1, "long and old"),
            removed(1),
            told(2, "b"),
            told(2, "ba"),
        ];
        let values = rising.each_ref().map(|it| layout::order_value(it, NOW));
        for one in 0..rising.len() {
            for other in 0..rising.len() {
                let held = held(&script, &mut connection, &[&values[one], &values[other]]);
                let latest = &rising[one.max(other)];
                let read = layout::read_order(LiveList::Deny, entry.clone(), &held);
                assert_eq!(read.as_ref(), Ok(latest), "{one} and {other}");
            }
        }
    });
}
