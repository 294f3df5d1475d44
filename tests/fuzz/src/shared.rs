//! What an engine holds under the prefix is an order, a record or nothing; what was read means the same when
//! written and read again, and a store that takes it in goes on judging.
//!
//! The first byte says how long the name is, which the value follows; more of them may come. A letter and a
//! layout take a fuzzer no time to guess.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use greygate::cluster::layout::{self, Subject};
use greygate::policy::{
    Attempt, Evidence, History, Judge as _, Origin, Policy, Seed, ServerMark, SharedKey, Spf,
    Timestamp,
};
use greygate::store::{Settings, Store};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    let store = store();
    let mut rest = bytes;
    while let Some((name, value, more)) = cut(rest) {
        rest = more;
        let Some(subject) = Subject::of_name(name) else {
            continue;
        };
        assert_eq!(Subject::of_name(&subject.name()).as_ref(), Some(&subject));
        match &subject {
            Subject::Entry(list, entry) => {
                let read = |value: &[u8]| layout::read_order(*list, entry.clone(), value);
                if let Ok(order) = read(value) {
                    let again = layout::order_value(&order, NOW);
                    assert_eq!(read(&again.bytes).as_ref(), Ok(&order));
                }
            }
            Subject::Record(key) => record(&store, *key, value),
        }
    }
    let _whatever = store.judge(&ATTEMPT, NOW);
    store.for_each_told(|_| ());
    store.for_each_asked(Timestamp::NEVER, NOW, |_| ());
}

fn record(store: &Store, key: SharedKey, value: &[u8]) {
    let Ok(shared) = layout::read(key, value) else {
        return;
    };
    assert_eq!(shared.key(), Some(key));
    let again = layout::value(&shared, &Policy::default(), NOW).expect("it is shared");
    assert_eq!(layout::read(key, &again.bytes).as_ref(), Ok(&shared));
    let _room_or_not = store.absorb(shared, NOW);
}

/// A name, a value and what follows.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&name, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_at_checked(name.into())?;
    let (&value, bytes) = bytes.split_first()?;
    let (value, rest) = bytes.split_at(bytes.len().min(value.into()));
    Some((name, value, rest))
}

fn store() -> Store {
    let (effects, _nobody) = tokio::sync::mpsc::channel(4);
    let settings = Settings {
        capacity: 1_000,
        shares: true,
        ..Settings::default()
    };
    let history = History {
        begun: Timestamp::NEVER,
    };
    let seed = Seed::from_bytes([7; Seed::LENGTH]);
    let policy = Arc::new(arc_swap::ArcSwap::from_pointee(Policy::default()));
    Store::in_memory(settings, seed, policy, effects, Arc::default(), history)
}

/// Of the client that the seeds sentence.
const ATTEMPT: Attempt<'static> = Attempt {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    client_name: b"mail.sender.example",
    helo: b"mail.sender.example",
    reverse_path: b"s@sender.example",
    recipient: b"r@here.example",
    announced_size: 5_000,
    connected: Timestamp::NEVER,
    server: ServerMark::UNKNOWN,
    authenticated: false,
    origin: Origin::ThisHost,
    evidence: Evidence {
        blocklist: None,
        score: None,
        spf: Spf::Unknown,
    },
};
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
