//! Real connections over a cable: who is dropped, who is served, until when.

use std::{
    io,
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aya::maps::{Array, HashMap, MapData};
use greygate::{
    clock::{Clock as _, SystemClock, kernel_now},
    kernel::{
        Change, KernelFilter, KernelTime, Metrics, Mode, ObtainedMode, Projector, SentenceSource,
        Settings,
    },
    policy::{Action, Effect, Sentence, SentenceLevel, Timestamp},
};
use greylist_ebpf::abi::{ClientEntry, Ipv4Key, Presence, map};
use support::{interrupt::settle, needs, requirements};

use crate::stage::{CASTS, Cast, INTERFACE, Stage, assert_alive, on, sentence, with_bpffs};

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

/// Plays `scene` on a stage of its own in native and in generic mode, under settings that `adjust`
/// has changed.
fn in_both_modes(
    object: &Path,
    adjust: impl Fn(&mut Settings),
    scene: impl Fn(&Stage, &mut dyn KernelFilter),
) {
    for mode in [Mode::NativeRequired, Mode::Generic] {
        let stage = Stage::new();
        let mut settings = stage.settings(object, mode);
        adjust(&mut settings);
        let mut filter = stage.open(&settings);
        scene(&stage, filter.as_mut());
    }
}

fn put(filter: &mut dyn KernelFilter, client: &str, level: SentenceLevel) -> Sentence {
    let sentence = sentence(client, level, HOUR);
    filter
        .apply(&[Change::Put(sentence)], SystemClock.now())
        .expect("there is room");
    sentence
}

/// The IPv4 table, as a test turns its clock: limits live in the entries.
struct Turned(HashMap<MapData, Ipv4Key, ClientEntry>);

impl Turned {
    fn of(stage: &Stage) -> Self {
        Self(stage.map(map::IPV4).try_into().expect("a table of entries"))
    }

    fn entry(&self, client: [u8; 4]) -> ClientEntry {
        self.0.get(&Ipv4Key::host(client), 0).expect("an entry")
    }

    /// As if the client's limit had not been used since `arrival`.
    fn turn(&mut self, client: [u8; 4], arrival: KernelTime) {
        let mut entry = self.entry(client);
        entry.arrival = arrival;
        self.0
            .insert(Ipv4Key::host(client), entry, 0)
            .expect("a stranger may write");
    }
}

/// One connection each 15 s, two at once: what no test's slowness can outwait.
#[test]
fn rate_limited_client_has_its_burst_and_then_its_rate() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let few = |settings: &mut Settings| (settings.rate, settings.rate_burst) = (4, 2);
    in_both_modes(&object, few, |stage, filter| {
        let Cast { sentenced, mx, .. } = CASTS[0];
        put(filter, sentenced, SentenceLevel::Rate);
        stage.assert_served(sentenced, mx, 25);
        stage.assert_served(sentenced, mx, 25);
        // The third SYN is dropped. The client sends it again, and once the limit is free, that
        // one passes: nobody has to begin anew.
        thread::scope(|scope| {
            let third = scope.spawn(|| stage.connect(sentenced, mx, 25));
            let limited = settle(PATIENCE, || {
                (on(filter).frames["rate_limited"] > 0).then_some(())
            });
            assert!(limited.is_some(), "the third connection was not dropped");
            Turned::of(stage).turn([192, 0, 2, 7], KernelTime::default());
            let third: io::Result<TcpStream> = third.join().expect("no panic");
            third.expect("the repeated SYN is within the rate");
        });
        let frames = on(filter).frames;
        assert_eq!(frames["admitted"], 3, "{frames:?}");
        assert_eq!(frames["blocked"], 0, "{frames:?}");
    });
}

#[test]
fn blocked_client_gets_one_connection_through_when_its_time_comes() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    in_both_modes(
        &object,
        |_| (),
        |stage, filter| {
            let Cast { sentenced, mx, .. } = CASTS[0];
            put(filter, sentenced, SentenceLevel::Block);
            stage.assert_dropped(sentenced, mx);
            let mut turned = Turned::of(stage);
            let waits = turned.entry([192, 0, 2, 7]).arrival;
            let minutes_59 = kernel_now().as_nanos() + 59 * 60 * 1_000_000_000;
            assert!(waits.as_nanos() > minutes_59, "its limit is used up");
            turned.turn([192, 0, 2, 7], kernel_now());
            stage.assert_served(sentenced, mx, 25);
            stage.assert_dropped(sentenced, mx);
            let frames = on(filter).frames;
            assert_eq!(frames["let_through"], 1, "{frames:?}");
        },
    );
}

#[test]
fn sentence_of_a_network_meets_everybody_in_it() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    in_both_modes(
        &object,
        |_| (),
        |stage, filter| {
            let [ipv4, ipv6] = &CASTS;
            let sentence = put(filter, "192.0.2.0/24", SentenceLevel::Block);
            stage.assert_dropped(ipv4.sentenced, ipv4.mx);
            stage.assert_dropped(ipv4.other, ipv4.mx);
            filter
                .apply(&[Change::Remove(sentence.client)], SystemClock.now())
                .expect("it is there");
            stage.assert_served(ipv4.other, ipv4.mx, 25);

            put(filter, "2001:db8:0:7::/64", SentenceLevel::Block);
            stage.assert_dropped(ipv6.sentenced, ipv6.mx);
            stage.assert_served(ipv6.other, ipv6.mx_for_other, 25);
        },
    );
}

/// Of a host and its network the harder sentence decides; one address of IPv6 can be sentenced
/// alone.
#[test]
fn host_and_its_network_are_sentenced_apart() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::NativePreferred));
    let [ipv4, ipv6] = &CASTS;
    put(filter.as_mut(), "192.0.2.0/24", SentenceLevel::Observe);
    put(filter.as_mut(), ipv4.sentenced, SentenceLevel::Block);
    stage.assert_dropped(ipv4.sentenced, ipv4.mx);
    stage.assert_served(ipv4.other, ipv4.mx, 25);
    put(filter.as_mut(), "2001:db8:0:7::8/128", SentenceLevel::Block);
    stage.assert_served(ipv6.sentenced, ipv6.mx, 25);
    put(filter.as_mut(), "2001:db8:0:7::7/128", SentenceLevel::Block);
    stage.assert_dropped(ipv6.sentenced, ipv6.mx);
}

#[test]
fn allowed_network_always_passes() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    in_both_modes(
        &object,
        |_| (),
        |stage, filter| {
            let Cast {
                sentenced,
                other,
                mx,
                ..
            } = CASTS[0];
            let network = |text: &str| text.parse().expect("a network");
            // Written before the network was allowed, and after: both ask the trie.
            put(filter, sentenced, SentenceLevel::Block);
            stage.assert_dropped(sentenced, mx);
            let allowed = [network("192.0.2.0/28"), network("2001:db8:0:7::/64")];
            filter.allow(&allowed).expect("there is room");
            put(filter, other, SentenceLevel::Block);
            put(filter, CASTS[1].sentenced, SentenceLevel::Block);
            stage.assert_served(sentenced, mx, 25);
            stage.assert_served(other, mx, 25);
            stage.assert_served(CASTS[1].sentenced, CASTS[1].mx, 25);
            let status = on(filter);
            assert_eq!(status.frames["allowed"], 3, "{:?}", status.frames);
            assert_eq!(status.allowed_networks, 2);
            // What is allowed no longer is dropped again, though nobody wrote its entry anew.
            filter.allow(&[network("192.0.2.7/32")]).expect("less");
            stage.assert_served(sentenced, mx, 25);
            stage.assert_dropped(other, mx);
        },
    );
}

#[test]
fn observing_filter_drops_nothing_and_counts_what_it_would_drop() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let observe = |settings: &mut Settings| settings.action = Action::Observe;
    in_both_modes(&object, observe, |stage, filter| {
        let Cast { sentenced, mx, .. } = CASTS[0];
        put(filter, sentenced, SentenceLevel::Block);
        stage.assert_served(sentenced, mx, 25);
        let status = on(filter);
        assert_eq!((status.frames["observed"], status.drops), (1, 0));
        let entries = filter.entries(SystemClock.now()).expect("a readable table");
        assert_eq!(entries[0].drops, 1, "what would have been dropped");
    });
}

#[test]
fn only_listed_addresses_of_this_host_are_protected() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let [ipv4, ipv6] = &CASTS;
    let listed = |settings: &mut Settings| {
        settings.addresses = vec![ipv6.mx.parse().expect("an address")];
    };
    in_both_modes(&object, listed, |stage, filter| {
        put(filter, ipv4.sentenced, SentenceLevel::Block);
        put(filter, ipv6.sentenced, SentenceLevel::Block);
        stage.assert_served(ipv4.sentenced, ipv4.mx, 25);
        stage.assert_dropped(ipv6.sentenced, ipv6.mx);
        assert_eq!(on(filter).frames["other_destination"], 1);
    });
}

/// Maps that outlive a daemon keep what they hold, and follow the rules of the next one.
#[test]
fn next_daemon_keeps_what_is_in_the_maps_and_changes_the_rules() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let Cast {
        sentenced,
        other,
        mx,
        ..
    } = CASTS[0];
    let first = Settings {
        ports: vec![25, 22],
        ..settings.clone()
    };
    let mut filter = stage.open(&first);
    filter
        .allow(&["192.0.2.8/32".parse().expect("a network")])
        .expect("there is room");
    put(filter.as_mut(), sentenced, SentenceLevel::Block);
    put(filter.as_mut(), other, SentenceLevel::Block);
    drop(filter);
    stage.assert_dropped(sentenced, mx);
    assert!(
        stage.knock_at(sentenced, mx, 22).is_err(),
        "22 is protected"
    );
    // A stranger makes the program overlook the sentences.
    let mut presence: Array<MapData, Presence> =
        stage.map(map::PRESENCE_V4).try_into().expect("an array");
    let bit = Ipv4Key::host([192, 0, 2, 7]).presence();
    presence
        .set(bit.index(presence.len()), Presence::default(), 0)
        .expect("a stranger may write");
    stage.assert_served(sentenced, mx, 25);

    let next = Settings {
        addresses: vec![mx.parse().expect("an address")],
        ..settings
    };
    let mut filter = stage.open(&next);
    let status = on(filter.as_ref());
    assert_eq!((status.entries_ipv4, status.allowed_networks), (2, 1));
    stage.assert_dropped(sentenced, mx);
    stage.assert_served(other, mx, 25);
    stage.assert_served(sentenced, mx, 22);
    let [_, ipv6] = &CASTS;
    put(filter.as_mut(), ipv6.sentenced, SentenceLevel::Block);
    stage.assert_served(ipv6.sentenced, ipv6.mx, 25);
}

#[test]
fn dropped_connection_is_sampled_in_the_debug_log() {
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Paper {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(line)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::NativePreferred));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(filter.as_mut(), sentenced, SentenceLevel::Block);
    stage.assert_dropped(sentenced, mx);
    let paper = Paper::default();
    let on_paper = paper.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || on_paper.clone())
        .finish();
    tracing::subscriber::with_default(log, || filter.tend());
    let text = String::from_utf8(paper.0.lock().expect("no panic").clone()).expect("text");
    assert!(
        text.contains("sampled client=192.0.2.7 port=25 reason=\"blocked\""),
        "{text}"
    );
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
    let short = sentence(sentenced, SentenceLevel::Block, Duration::from_secs(5));
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
