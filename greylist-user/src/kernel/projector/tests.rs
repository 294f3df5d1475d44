//! The projector against a table in memory and a store that a test may change.

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use ipnet::IpNet;

use super::*;
use crate::{
    kernel::Entry,
    policy::{Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient, Timestamp},
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const PATIENCE: Duration = Duration::from_secs(20);
const CAPACITY: u32 = 10;
const LOCAL: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(
    std::net::Ipv4Addr::new(127, 0, 0, 0),
    8,
));

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// A store whose sentences a test may change, and that takes note of the evidence.
struct Sentences {
    all: Mutex<Vec<Sentence>>,
    heeded: Mutex<Vec<Entry>>,
}

impl SentenceSource for Sentences {
    fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
        self.all.lock().expect("no test panics with it").clone()
    }
    fn allowed(&self) -> Vec<IpNet> {
        vec![LOCAL]
    }
    fn heed(&self, entries: &[Entry], _: Timestamp) {
        *self.heeded.lock().expect("no test panics with it") = entries.to_vec();
    }
}

/// A table in memory that tells what was done to it, and fails as often as it was told to, or
/// whenever there is no room.
struct Table {
    entries: HashMap<SentencedClient, Sentence>,
    allowed: Vec<IpNet>,
    failures: u32,
    done: Sender<Vec<Change>>,
}

impl KernelFilter for Table {
    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Result<(), FilterError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(FilterError::NotBuilt);
        }
        for change in changes {
            match change {
                Change::Put(_) if self.entries.len() == CAPACITY as usize => {
                    return Err(FilterError::Full {
                        family: "IPv4",
                        capacity: CAPACITY,
                    });
                }
                Change::Put(sentence) => self.entries.insert(sentence.client, *sentence),
                Change::Remove(client) => self.entries.remove(client),
            };
        }
        let _ = self.done.send(changes.to_vec());
        Ok(())
    }

    fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
        Ok(self
            .entries
            .values()
            .map(|sentence| Entry {
                client: sentence.client,
                level: sentence.level,
                until: sentence.until,
                drops: 0,
            })
            .collect())
    }

    fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError> {
        self.allowed = networks.to_vec();
        Ok(())
    }

    fn tend(&mut self) {}

    fn capacity(&self) -> u32 {
        CAPACITY
    }

    fn status(&self) -> FilterStatus {
        FilterStatus::Off {
            why: format!("{} entries, {:?} allowed", self.entries.len(), self.allowed),
        }
    }
}

/// Seconds go by while the store lists what it holds and while the table is read.
#[test]
fn reconciles_by_the_present_however_long_it_takes() {
    struct Slow(Arc<AtomicU64>, Sender<Timestamp>);
    impl Slow {
        fn takes_seconds(&self) {
            self.0.fetch_add(3_000, Ordering::Relaxed);
        }
    }
    impl Clock for Slow {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }
    impl SentenceSource for Slow {
        fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
            self.takes_seconds();
            vec![sentence(1)]
        }
        fn allowed(&self) -> Vec<IpNet> {
            self.takes_seconds();
            Vec::new()
        }
        fn heed(&self, _: &[Entry], _: Timestamp) {}
    }
    impl KernelFilter for Slow {
        fn apply(&mut self, _: &[Change], now: Timestamp) -> Result<(), FilterError> {
            let _ = self.1.send(now);
            Ok(())
        }
        fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
            let _ = self.1.send(now);
            self.takes_seconds();
            Ok(Vec::new())
        }
        fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
            Ok(())
        }
        fn tend(&mut self) {}
        fn capacity(&self) -> u32 {
            10
        }
        fn status(&self) -> FilterStatus {
            FilterStatus::Off { why: String::new() }
        }
    }
    let time = Arc::new(AtomicU64::new(NOW.as_millis()));
    let (told, times) = channel();
    let slow = || Slow(Arc::clone(&time), told.clone());
    let (_effects, received) = mpsc::channel(8);
    let projector = Projector::start(
        Box::new(slow()),
        Arc::new(slow()),
        Arc::new(slow()),
        received,
        Arc::new(Metrics::default()),
    );
    let seconds = |seconds| NOW.after(Duration::from_secs(seconds));
    assert_eq!(times.recv_timeout(PATIENCE), Ok(seconds(3)), "entries");
    assert_eq!(times.recv_timeout(PATIENCE), Ok(seconds(9)), "apply");
    projector.stop();
}

fn sentence(host: u8) -> Sentence {
    Sentence {
        client: SentencedClient::of([192, 0, 2, host].into()),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: NOW,
        until: NOW.after(Duration::from_hours(1)),
        persistence: Persistence::default(),
    }
}

fn start(
    sentences: Vec<Sentence>,
    failures: u32,
) -> (
    Projector,
    mpsc::Sender<Effect>,
    Receiver<Vec<Change>>,
    Arc<Metrics>,
) {
    start_with(store(sentences), failures)
}

fn store(sentences: Vec<Sentence>) -> Arc<Sentences> {
    Arc::new(Sentences {
        all: Mutex::new(sentences),
        heeded: Mutex::default(),
    })
}

fn start_with(
    source: Arc<Sentences>,
    failures: u32,
) -> (
    Projector,
    mpsc::Sender<Effect>,
    Receiver<Vec<Change>>,
    Arc<Metrics>,
) {
    let (done, changes) = channel();
    let (sender, effects) = mpsc::channel(8);
    let metrics = Arc::new(Metrics::default());
    let table = Table {
        entries: HashMap::new(),
        allowed: Vec::new(),
        failures,
        done,
    };
    let projector = Projector::start(
        Box::new(table),
        source,
        Arc::new(Fixed),
        effects,
        Arc::clone(&metrics),
    );
    (projector, sender, changes, metrics)
}

#[test]
fn starts_with_the_whole_projection_and_follows_effects() {
    let (projector, effects, changes, _) = start(vec![sentence(1)], 0);
    let first = changes.recv_timeout(PATIENCE).expect("a reconciliation");
    assert_eq!(first, [Change::Put(sentence(1))]);
    effects
        .blocking_send(Effect::Punish(sentence(2)))
        .expect("the projector listens");
    let second = changes.recv_timeout(PATIENCE).expect("an effect");
    assert_eq!(second, [Change::Put(sentence(2))]);
    effects
        .blocking_send(Effect::Forgive(sentence(1).client))
        .expect("the projector listens");
    let third = changes.recv_timeout(PATIENCE).expect("an effect");
    assert_eq!(third, [Change::Remove(sentence(1).client)]);
    let FilterStatus::Off { why } = projector.status() else {
        panic!("the table calls itself off");
    };
    assert_eq!(why, "1 entries, [127.0.0.0/8] allowed");
    projector.stop();
}

#[test]
fn tries_again_after_a_failure() {
    let (projector, _effects, changes, metrics) = start(vec![sentence(1)], 1);
    let mended = changes.recv_timeout(PATIENCE).expect("a second try");
    assert_eq!(mended, [Change::Put(sentence(1))]);
    assert_eq!(metrics.failures.get(), 1);
    projector.stop();
}

#[test]
fn makes_room_in_a_full_table_and_calls_it_no_failure() {
    let entitled: Vec<Sentence> = (1..=10).map(sentence).collect();
    let (projector, effects, changes, metrics) = start(entitled, 0);
    let first = changes.recv_timeout(PATIENCE).expect("a reconciliation");
    assert_eq!(first.len(), 10);
    // One that the store does not know takes another's place, and fills the table.
    for effect in [
        Effect::Forgive(sentence(1).client),
        Effect::Punish(sentence(11)),
    ] {
        effects
            .blocking_send(effect)
            .expect("the projector listens");
        changes.recv_timeout(PATIENCE).expect("an effect");
    }
    effects
        .blocking_send(Effect::Punish(sentence(12)))
        .expect("the projector listens");
    let mended = changes.recv_timeout(PATIENCE).expect("room is made");
    assert!(mended.contains(&Change::Remove(sentence(11).client)));
    assert_eq!(metrics.failures.get(), 0);
    projector.stop();
}

#[test]
fn room_is_made_more_seldom_the_longer_it_takes() {
    let waits = [0, 100, 3_000, 60_000].map(|took| {
        let took = Duration::from_millis(took);
        until_room_is_made(took).as_secs()
    });
    assert_eq!(waits, [2, 2, 27, 60]);
}

/// Without the word, the next comparison would come after a minute: beyond all patience.
#[test]
fn refreshed_projection_follows_the_store_at_once() {
    let store = store(vec![sentence(1)]);
    let (projector, _effects, changes, _) = start_with(Arc::clone(&store), 0);
    changes.recv_timeout(PATIENCE).expect("a reconciliation");
    *store.all.lock().expect("nobody panicked") = vec![sentence(2)];
    projector.refresh();
    let mended = changes.recv_timeout(PATIENCE).expect("a refresh");
    let expected = [Change::Remove(sentence(1).client), Change::Put(sentence(2))];
    assert_eq!(mended, expected);
    let heeded = store.heeded.lock().expect("nobody panicked").clone();
    assert_eq!(heeded.len(), 1, "the store hears what the kernel holds");
    assert_eq!(heeded[0].client, sentence(1).client);
    projector.stop();
}

/// More changes than one step carries, in their order.
#[test]
fn long_plan_is_carried_out_in_steps() {
    struct Endless(Sender<usize>);
    impl KernelFilter for Endless {
        fn apply(&mut self, changes: &[Change], _: Timestamp) -> Result<(), FilterError> {
            let _ = self.0.send(changes.len());
            Ok(())
        }
        fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
            Ok(Vec::new())
        }
        fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
            Ok(())
        }
        fn tend(&mut self) {}
        fn capacity(&self) -> u32 {
            u32::MAX
        }
        fn status(&self) -> FilterStatus {
            FilterStatus::Off { why: String::new() }
        }
    }
    let count = u32::try_from(STEP).expect("a small number") + 3;
    let sentences = (0..count).map(|client| Sentence {
        client: std::net::Ipv4Addr::from(client).into(),
        ..sentence(1)
    });
    let (told, steps) = channel();
    let (_effects, received) = mpsc::channel(8);
    let projector = Projector::start(
        Box::new(Endless(told)),
        store(sentences.collect()),
        Arc::new(Fixed),
        received,
        Arc::new(Metrics::default()),
    );
    assert_eq!(steps.recv_timeout(PATIENCE), Ok(STEP));
    assert_eq!(steps.recv_timeout(PATIENCE), Ok(3));
    projector.stop();
}

#[test]
fn panic_does_not_go_unnoticed() {
    struct Broken;
    impl KernelFilter for Broken {
        fn apply(&mut self, _: &[Change], _: Timestamp) -> Result<(), FilterError> {
            panic!("as this test wants it");
        }
        fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
            Ok(Vec::new())
        }
        fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
            Ok(())
        }
        fn tend(&mut self) {}
        fn capacity(&self) -> u32 {
            CAPACITY
        }
        fn status(&self) -> FilterStatus {
            FilterStatus::Off { why: String::new() }
        }
    }
    let store = store(Vec::new());
    let (_effects, received) = mpsc::channel(8);
    let projector = Projector::start(
        Box::new(Broken),
        Arc::clone(&store) as Arc<dyn SentenceSource>,
        Arc::new(Fixed),
        received,
        Arc::new(Metrics::default()),
    );
    assert!(projector.is_at_work());
    *store.all.lock().expect("nobody panicked") = vec![sentence(1)];
    projector.refresh();
    let begun = Instant::now();
    while projector.is_at_work() {
        assert!(begun.elapsed() < PATIENCE, "it never wrote the sentence");
        std::thread::yield_now();
    }
    let FilterStatus::Off { .. } = projector.status() else {
        panic!("who asks is answered all the same");
    };
    projector.stop();
}

#[test]
fn goes_on_when_nobody_sends_effects_any_more() {
    let (projector, effects, changes, _) = start(vec![sentence(1)], 1);
    drop(effects);
    changes.recv_timeout(PATIENCE).expect("a second try");
    projector.stop();
}
