//! A line of any bytes is a request or is refused, without a panic; what was understood means the same
//! when it is written out and read again, and a store does with it what an operator may have it do. The
//! same line as an answer, which a command reads from whatever listens at the socket's path.

use std::sync::Arc;
use std::time::Duration;

use greygate::admin::{
    Answer, Forget, ImportCounts, Listing, PunishOrder, Request, Target, WhyQuestion, bits_of,
};
use greygate::policy::{
    History, Persistence, Policy, Seed, Sentence, SentenceReason, SentencedClient, Timestamp,
};
use greygate::store::{Settings, Store};
use greygate::transfer::Item;
use serde::{Serialize, de::DeserializeOwned};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    understood::<Answer>(bytes);
    if let Some(request) = understood::<Request>(bytes) {
        obey(request);
    }
}

/// What the line says; it says the same when it is written again.
fn understood<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Option<T> {
    let said: T = serde_json::from_slice(bytes).ok()?;
    let line = serde_json::to_vec(&said).expect("plain data");
    assert!(!line.contains(&b'\n'), "it must stay one line");
    let again: T = serde_json::from_slice(&line).expect("what was written can be read");
    assert_eq!(again, said);
    Some(said)
}

/// Does with an empty store what the daemon does with its own.
fn obey(request: Request) {
    let policy = Arc::new(Policy::default());
    match request {
        Request::Forget { what } => {
            if what.check().is_ok() {
                forget(&store(&policy), &what);
            }
        }
        Request::Forgive(order) => forgive(&store(&policy), order.target),
        Request::Import(batch) => {
            let arrivals: Result<Vec<_>, _> =
                batch.items.into_iter().map(Item::into_arrival).collect();
            if let Ok(arrivals) = arrivals {
                let imported = store(&policy).import(arrivals, batch.dry_run, NOW);
                let _counts = ImportCounts::of(&imported);
            }
        }
        Request::List(question) => {
            if question.check().is_ok() {
                let listing = Listing::of(&store(&policy), &question, &policy, NOW);
                assert_eq!(listing.matched, 0, "the store is empty");
            }
        }
        Request::LiveAdd(order) => {
            if let Ok(entry) = order.entry(&policy) {
                assert_eq!(entry.to_string().parse(), Ok(entry));
            }
        }
        Request::Punish(order) => punish(&store(&policy), &order, &policy),
        Request::Report(report) => {
            if report.check().is_ok() {
                store(&policy).report_mail(report.address(), None, true, NOW);
            }
        }
        Request::Why(question) => explain(&store(&policy), &question),
        Request::Cluster { .. }
        | Request::LiveRemove { .. }
        | Request::LiveShow { .. }
        | Request::Reload
        | Request::Snapshot
        | Request::Status
        | Request::XdpStatus => {}
    }
}

fn forget(store: &Store, what: &Forget) {
    match what {
        Forget::Fingerprint(text) => {
            let bits = bits_of(text).expect("it was checked");
            assert!(store.forget(bits).is_empty());
        }
        Forget::Trust(of) => {
            let (sender, recipient) = (of.sender.as_bytes(), of.recipient.as_bytes());
            store.forget_trust(of.address, sender, recipient);
        }
    }
}

fn forgive(store: &Store, target: Target) {
    match target {
        Target::Address(address) => {
            for client in SentencedClient::covering(address) {
                store.forgive(client, NOW);
            }
        }
        Target::Network(network) => {
            store.forgive_within(network.trunc(), NOW);
        }
    }
}

/// An order that the rules let pass is carried out, and never falls on whom they protect.
fn punish(store: &Store, order: &PunishOrder, policy: &Policy) {
    let Ok(client) = order.client(policy) else {
        return;
    };
    assert!(order.force || !policy.shields(client));
    let duration = order
        .seconds
        .map_or(policy.punish.sentence, Duration::from_secs);
    assert!(!duration.is_zero() && duration <= Sentence::LONGEST);
    store.punish(Sentence {
        client,
        level: order.level.0,
        reason: SentenceReason::Operator,
        since: NOW,
        until: NOW.after(duration),
        persistence: Persistence::default(),
    });
    assert_eq!(store.sentences(NOW).len(), 1);
    store.forgive(client, NOW);
    assert!(
        store.sentences(NOW).is_empty(),
        "what is ordered can be undone"
    );
}

fn explain(store: &Store, question: &WhyQuestion) {
    let _explanation = store.explain(&question.as_asked(), NOW);
}

fn store(policy: &Arc<Policy>) -> Store {
    let (effects, _) = tokio::sync::mpsc::channel(4);
    let settings = Settings {
        capacity: 1_000,
        ..Settings::default()
    };
    let history = History {
        begun: Timestamp::NEVER,
    };
    let policy = Arc::new(arc_swap::ArcSwap::new(Arc::clone(policy)));
    let seed = Seed::from_bytes([7; Seed::LENGTH]);
    Store::in_memory(settings, seed, policy, effects, Arc::default(), history)
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
