//! Real connections over a cable: who is dropped, who is served, until when.

use std::{sync::Arc, time::Duration};

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Change, KernelFilter, Metrics, Mode, ObtainedMode, Projector, SentenceSource},
    policy::{Effect, Sentence, SentenceLevel, Timestamp},
};
use support::{interrupt::settle, needs, requirements};

use crate::stage::{CASTS, Cast, INTERFACE, Stage, assert_alive, on, sentence};

const HOUR: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn drops_the_new_connections_of_a_sentenced_client_natively() {
    drops_the_new_connections_of_a_sentenced_client(Mode::NativePreferred, ObtainedMode::Native);
}

#[test]
fn drops_the_new_connections_of_a_sentenced_client_in_generic_mode() {
    drops_the_new_connections_of_a_sentenced_client(Mode::Generic, ObtainedMode::Generic);
}

fn drops_the_new_connections_of_a_sentenced_client(mode: Mode, obtained: ObtainedMode) {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, mode));
    let status = on(filter.as_ref());
    assert_eq!(status.interfaces[0].name, INTERFACE);
    assert_eq!(status.interfaces[0].mode, obtained);
    for cast in &CASTS {
        plays_through(&stage, filter.as_mut(), cast);
    }
    drop(filter);
    assert_eq!(stage.program(), None, "the program goes with the filter");
}

/// Sentence and forgiveness of one client, seen from everybody's side.
fn plays_through(stage: &Stage, filter: &mut dyn KernelFilter, cast: &Cast) {
    let Cast {
        sentenced,
        other,
        mx,
        mx_for_other,
    } = cast;
    let mut before = stage
        .connect(sentenced, mx, 25)
        .expect("nobody is sentenced yet");
    let drops = on(filter).drops;
    let block = sentence(sentenced, SentenceLevel::Block, HOUR);
    filter
        .apply(&[Change::Put(block)], SystemClock.now())
        .expect("there is room");

    stage.assert_dropped(sentenced, mx);
    let dropped = on(filter).drops;
    assert!(dropped > drops, "{dropped} dropped after, {drops} before");
    let entry = filter.entries(SystemClock.now()).expect("a readable table")[0];
    assert_eq!(entry.client, block.client);
    assert_eq!(
        entry.drops,
        dropped - drops,
        "the entry counts what it dropped"
    );
    stage.assert_served(sentenced, mx, 22);
    stage.assert_served(other, mx_for_other, 25);
    assert_alive(&mut before);

    // A sentence that goes on keeps its count.
    let longer = Sentence {
        until: block.until.after(HOUR),
        ..block
    };
    filter
        .apply(&[Change::Put(longer)], SystemClock.now())
        .expect("there is room");
    let entry = filter.entries(SystemClock.now()).expect("a readable table")[0];
    assert!(entry.drops >= dropped - drops, "the count was carried over");
    stage.assert_dropped(sentenced, mx);

    filter
        .apply(&[Change::Remove(block.client)], SystemClock.now())
        .expect("it is there");
    stage.assert_served(sentenced, mx, 25);
    let status = on(filter);
    assert_eq!((status.entries_ipv4, status.entries_ipv6), (0, 0));
}

#[test]
fn observed_client_is_served_and_counted() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::NativePreferred));
    let Cast { sentenced, mx, .. } = CASTS[0];
    let observe = sentence(sentenced, SentenceLevel::Observe, HOUR);
    filter
        .apply(&[Change::Put(observe)], SystemClock.now())
        .expect("there is room");
    stage.assert_served(sentenced, mx, 25);
    let status = on(filter.as_ref());
    assert_eq!((status.frames["observed"], status.drops), (1, 0));
}

/// Nobody touches the filter after the sentence was written: the kernel ends it alone.
#[test]
fn sentence_lapses_by_the_kernels_own_clock() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::NativePreferred));
    let Cast { sentenced, mx, .. } = CASTS[0];
    let short = sentence(sentenced, SentenceLevel::Block, Duration::from_secs(2));
    filter
        .apply(&[Change::Put(short)], SystemClock.now())
        .expect("there is room");
    stage.assert_dropped(sentenced, mx);
    let served = settle(PATIENCE, || stage.knock(sentenced, mx).ok());
    assert!(served.is_some(), "the sentence did not end");
    assert!(SystemClock.now() >= short.until, "the sentence ended early");
    let status = on(filter.as_ref());
    assert!(status.frames["ended"] >= 1, "{:?}", status.frames);
    assert_eq!(status.entries_ipv4, 1, "the entry still lies in the table");
}

#[test]
fn full_table_is_an_error_that_names_the_setting() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::Generic);
    let mut filter = stage.open(&settings);
    let puts: Vec<Change> = (0..=settings.capacity)
        .map(|host| {
            Change::Put(sentence(
                &format!("198.51.100.{host}"),
                SentenceLevel::Block,
                HOUR,
            ))
        })
        .collect();
    let error = filter
        .apply(&puts, SystemClock.now())
        .expect_err("one too many");
    assert!(error.to_string().contains("[xdp] capacity"), "{error}");
    assert_eq!(
        on(filter.as_ref()).entries_ipv4,
        u64::from(settings.capacity)
    );
}

/// The store's part is played by a list; the thread, the channel and the kernel are real.
#[test]
fn projector_carries_sentences_from_the_store_to_the_cable() {
    struct Store(Vec<Sentence>);
    impl SentenceSource for Store {
        fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
            self.0.clone()
        }
        fn allowed(&self) -> Vec<ipnet::IpNet> {
            Vec::new()
        }
        fn heed(&self, _: &[greygate::kernel::Entry], _: Timestamp) {}
    }
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let [Cast { sentenced, mx, .. }, second] = &CASTS;
    let restored = sentence(sentenced, SentenceLevel::Block, HOUR);
    let (effects, receiver) = tokio::sync::mpsc::channel(8);
    let projector = Projector::start(
        stage.open(&stage.settings(&object, Mode::NativePreferred)),
        Arc::new(Store(vec![restored])),
        Arc::new(SystemClock),
        receiver,
        Arc::new(Metrics::default()),
    );
    let dropped = |from, to| settle(PATIENCE, || stage.knock(from, to).err());
    let served = |from, to| settle(PATIENCE, || stage.knock(from, to).ok());

    assert!(
        dropped(sentenced, mx).is_some(),
        "a restored sentence never reached the kernel"
    );
    let punish = sentence(second.sentenced, SentenceLevel::Block, HOUR);
    effects
        .blocking_send(Effect::Punish(punish))
        .expect("the projector listens");
    assert!(
        dropped(second.sentenced, second.mx).is_some(),
        "an effect never reached the kernel"
    );
    effects
        .blocking_send(Effect::Forgive(punish.client))
        .expect("the projector listens");
    assert!(
        served(second.sentenced, second.mx).is_some(),
        "forgiveness never reached the kernel"
    );
    projector.stop();
    assert!(
        served(sentenced, mx).is_some(),
        "the program outlived the projector"
    );
}
