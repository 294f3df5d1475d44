//! Rows of every kind, with whatever stands in them.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::super::*;
use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, HeloKey, HoppingHelo, HostMark, Neighbour,
    Neighbours, NetworkKey, NetworkMark, Offence, PairRecord, PairTag, Persistence, Record,
    Reputation, Second, Sentence, SentenceLevel, SentenceReason, SentencedClient, Strike, TrustKey,
    TrustRecord, TupleKey,
};
use crate::store::Pardon;
use crate::store::kept::{Kept, KeptOf};

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

/// Any pardon.
pub(crate) fn pardon() -> impl Strategy<Value = Row> {
    (any::<IpAddr>(), 0..2_usize, time()).prop_map(|(client, which, lifted)| {
        let client = SentencedClient::covering(client)[which];
        Row::Pardon(Pardon { client, lifted })
    })
}

/// Any other row that a snapshot has.
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
        (1..=u16::MAX, 1..=u16::MAX),
        any::<bool>(),
    )
        .prop_map(|(key, counted, used, (passes, life), by_content)| {
            let record = TrustRecord {
                counted: counted.min(used),
                last_used: counted.max(used),
                passes,
                life,
                by_content,
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
        kept(),
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

fn kept() -> impl Strategy<Value = Row> {
    let path = || proptest::collection::vec(any::<u8>(), 0..40);
    let of = any::<[u8; 16]>().prop_flat_map(|key| {
        prop::sample::select(vec![
            KeptOf::Client(ClientKey::from_bytes(key)),
            KeptOf::Trust(TrustKey::from_bytes(key)),
            KeptOf::Tuple(TupleKey::from_bytes(key)),
        ])
    });
    (of, any::<IpAddr>(), path(), path()).prop_map(|(of, client, sender, recipient)| {
        let client = IpNet::from(client.to_canonical());
        let kept = Kept::of(client, &sender, &recipient);
        Row::Kept(of, kept.expect("they are short"))
    })
}
