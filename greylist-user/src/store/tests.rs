//! What only the inside of the store can show: that nothing is locked while rows are written, and
//! how much a slice of the sweep does.

use std::net::Ipv4Addr;
use std::sync::mpsc as std_mpsc;

use tempfile::TempDir;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};

use crate::policy::fixture::{ATTEMPT, T0};
use crate::policy::{self, Attempt, Fingerprint, Judge as _, NetworkMark, Verdict};

use super::judge::Keyed;
use super::sweep::{ContentSweep, Sweep};
use super::table::Walked;
use super::*;

/// A store of `tuples` pending tuples of one network, first seen at [`T0`].
fn store_of(tuples: usize) -> (Arc<Store>, TempDir) {
    let (effects, _closed) = mpsc::channel(1);
    let (store, directory) = empty_store(2 * tuples, effects);
    for number in 0..tuples {
        judge(&store, number);
    }
    (store, directory)
}

fn empty_store(capacity: usize, effects: mpsc::Sender<Effect>) -> (Arc<Store>, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        directory: directory.path().to_owned(),
        seed_file: directory.path().join("seed"),
        capacity: capacity.max(1_000),
        ..Settings::default()
    };
    let (store, _) = Store::open(settings, Arc::default(), effects, Arc::default(), T0)
        .expect("the directory is writable");
    (Arc::new(store), directory)
}

fn judge(store: &Store, number: usize) -> Verdict {
    let recipient = format!("r{number}@here.example");
    let attempt = Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    };
    store.judge(&attempt, T0).verdict
}

#[test]
fn judges_every_tuple_while_a_snapshot_waits_for_the_disk() {
    const TUPLES: usize = 500;
    let (store, _directory) = store_of(TUPLES);
    let (stalled, is_stalled) = std_mpsc::channel();
    let (release, released) = std_mpsc::channel::<()>();
    let writer = std::thread::spawn({
        let store = Arc::clone(&store);
        move || {
            let mut rows = 0;
            store.give_rows(T0, |_| {
                if rows == 0 {
                    stalled.send(()).expect("the test listens");
                    released.recv().map_err(io::Error::other)?;
                }
                rows += 1;
                Ok(())
            })?;
            Ok::<_, io::Error>(rows)
        }
    });
    is_stalled.recv().expect("there are rows to write");

    let (judged, all_judged) = std_mpsc::channel();
    std::thread::spawn({
        let store = Arc::clone(&store);
        move || {
            for number in 0..2 * TUPLES {
                judge(&store, number);
            }
            judged.send(()).ok();
        }
    });
    all_judged
        .recv_timeout(Duration::from_secs(20))
        .expect("judging does not wait for the disk");
    release.send(()).expect("the writer listens");
    let rows = writer.join().expect("no panic").expect("nothing fails");
    assert!(rows >= TUPLES);
}

#[test]
fn slice_of_the_sweep_is_bounded_and_a_round_covers_all() {
    let (store, _directory) = store_of(60_000);
    let closed = T0.after(Duration::from_hours(24));
    let mut sweep = Sweep::default();
    let mut removed = 0;
    let mut slices = 0;
    while store.census().tuples > 0 {
        let slice = sweep.slice(&store, closed);
        assert!(slice.seen < 20_000, "{} in one slice", slice.seen);
        removed += slice.removed;
        slices += 1;
        assert!(slices < 10, "a round covers all");
    }
    assert!(removed >= 60_000, "{removed}, some watched pairs with them");
    assert!(slices >= 3);
}

/// Reads message `number` at `now`, each from a network of its own.
fn read(store: &Store, number: u64, now: Timestamp) {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = u128::from(mixed) << 64 | u128::from(mixed.swap_bytes());
    let network = NetworkMark::from_bits(u16::try_from(number % 50_000).expect("it is less"));
    let fingerprint = Fingerprint::from_bytes(bits.to_le_bytes());
    let noted = store
        .contents
        .note_read(&Policy::default(), fingerprint, network, now);
    assert!(noted.is_ok(), "there is room");
}

/// A clock that goes by seconds, and no mail at all.
#[test]
fn no_lapsed_fingerprint_is_held_for_longer_than_the_interval() {
    const SPREAD: u64 = 2 * 3_600;
    let (store, _directory) = store_of(0);
    let policy = Policy::default();
    let seconds = |seconds| T0.after(Duration::from_secs(seconds));
    for second in (0..SPREAD).step_by(7) {
        read(&store, second, seconds(second));
    }
    let interval = store.settings.contents_sweep;
    let contents = &store.contents.by_message;
    let mut sweep = ContentSweep::new(contents.aisles(), interval, T0);
    let window = policy.retry_window.as_secs();
    let mut longest = Duration::ZERO;
    for second in window - 10..=window + SPREAD + interval.as_secs() {
        let now = seconds(second);
        let slice = sweep.slice(&store, false, now);
        assert!(slice.seen <= contents.len() + slice.removed, "once at most");
        if second.is_multiple_of(60) {
            let mut rows = Vec::new();
            for aisle in 0..contents.aisles() {
                contents.copy_aisle(aisle, &mut rows);
            }
            let held = rows.iter().map(|(_, it)| now.since(it.lapses(&policy)));
            longest = held.max().unwrap_or_default().max(longest);
        }
    }
    assert!(longest <= interval, "{longest:?}");
    assert!(
        longest >= interval / 2,
        "{longest:?}: no oftener than is asked"
    );
    assert_eq!(contents.len(), 0);
}

#[test]
fn slice_of_the_fingerprints_is_bounded_and_goes_on_where_it_ended() {
    const MESSAGES: u64 = 60_000;
    let (store, _directory) = store_of(0);
    for number in 0..MESSAGES {
        read(&store, number, T0);
    }
    let aisles = store.contents.by_message.aisles();
    let mut sweep = ContentSweep::new(aisles, store.settings.contents_sweep, T0);
    // The clock jumps: a whole walk is due at once, and no more than one.
    let late = T0.after(Duration::from_hours(240));
    let mut slices = 0;
    while store.contents.by_message.len() > 0 {
        let slice = sweep.slice(&store, false, late);
        assert!(slice.seen < 20_000, "{} in one slice", slice.seen);
        slices += 1;
        assert!(slices < 10, "a round covers all");
    }
    assert!(slices >= 3);
    assert_eq!(sweep.slice(&store, false, late), Walked::default());
    // Set back, it counts from there.
    read(&store, 0, T0);
    let mut now = T0;
    while store.contents.by_message.len() > 0 {
        now = now.after(Duration::from_mins(1));
        sweep.slice(&store, false, now);
        let hours = now.since(T0).as_secs() / 3_600;
        assert!(hours <= 25, "it is swept an hour after it lapsed");
    }
}

/// Somebody forgives between the giving of a sentence and the telling of it, which is where its log
/// line is written.
#[test]
fn kernel_is_not_left_with_a_sentence_that_was_forgiven_meanwhile() {
    struct Forgiving(Arc<Store>);
    impl<S: tracing::Subscriber> Layer<S> for Forgiving {
        fn on_event(&self, _: &tracing::Event<'_>, _: LayerContext<'_, S>) {
            let client = operators_block().client;
            self.0.forgive(client, T0);
        }
    }
    let (effects, mut told) = mpsc::channel(16);
    let (store, _directory) = empty_store(0, effects);
    let forgiving = tracing_subscriber::registry().with(Forgiving(Arc::clone(&store)));
    tracing::subscriber::with_default(forgiving, || store.punish(operators_block()));

    assert_eq!(store.sentences(T0), []);
    let last = std::iter::from_fn(|| told.try_recv().ok()).last();
    assert_eq!(last, Some(Effect::Forgive(operators_block().client)));
}

fn operators_block() -> Sentence {
    Sentence {
        client: SentencedClient::from(Ipv4Addr::new(192, 0, 2, 7)),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: T0,
        until: T0.after(Duration::from_mins(30)),
        persistence: policy::Persistence::default(),
    }
}

#[test]
fn sweep_takes_ended_sentences_and_unused_trust() {
    let (store, _directory) = store_of(0);
    let policy = Policy::default();
    let keyed = Keyed::of(&store.seed, &policy, &ATTEMPT);
    store.credit_trust(TrustKey::from_bytes([1; 16]), &keyed, &policy, T0);
    store.punish(operators_block());
    let mut sweep = Sweep::default();
    assert_eq!(sweep.slice(&store, T0).removed, 0);
    let late = T0.after(policy.trust);
    assert_eq!(sweep.slice(&store, late).removed, 2);
    let census = store.census();
    assert_eq!((census.trusted, census.sentences), (0, 0));
}
