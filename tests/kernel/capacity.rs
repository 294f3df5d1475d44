//! Many sentences: restoring, sweeping, a full table, and strangers who write into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aya::maps::{
    Array, HashMap, MapData,
    lpm_trie::{Key, LpmTrie},
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{
        Change, Entry, FilterStatus, KernelFilter, Metrics, Mode, Projector, SentenceSource,
        Settings, reconcile,
    },
    policy::{Sentence, SentenceLevel, SentencedClient, Timestamp},
};
use greylist_ebpf::abi::{
    ALLOWED_NETWORKS, ClientEntry, Config, DESTINATIONS, Ipv4Key, KernelTime, Level, Presence, map,
    mapped, presence_words,
};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use prometheus_client::{encoding::text::encode, registry::Registry};
use proptest::{prelude::*, test_runner::TestRunner};
use support::{interrupt::settle, needs, requirements};
use tokio::sync::mpsc;

use crate::stage::{CAPACITY, Stage, on, sentence, with_bpffs};

const HOUR: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_mins(1);

/// Sentences of both families. A million of each where the code is optimised.
const MANY: u32 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

#[test]
fn restores_many_sentences_and_reads_them_back() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::Generic);
    settings.capacity = MANY;
    let mut filter = stage.open(&settings);
    for family in [ipv4_host as fn(u32) -> SentencedClient, ipv6_network] {
        let sentences: Vec<Sentence> = (0..MANY).map(|n| blocked(family(n))).collect();
        let restored = timed("restored", MANY, || {
            let now = SystemClock.now();
            let plan = reconcile::plan(&sentences, &[], MANY, now);
            // Planning takes a while on a busy machine, and moves every end by as much.
            let now = SystemClock.now();
            filter.apply(&plan.changes, now).expect("there is room");
            plan.changes.len()
        });
        assert_eq!(restored, sentences.len());
        let there = timed("read back", MANY, || {
            filter.entries(SystemClock.now()).expect("readable")
        });
        let there: BTreeMap<SentencedClient, Entry> = there
            .into_iter()
            .map(|entry| (entry.client, entry))
            .collect();
        for sentence in sentences.iter().step_by(997) {
            let entry = there[&sentence.client];
            assert_eq!(entry.level, sentence.level);
            let off = entry.until.since(sentence.until) + sentence.until.since(entry.until);
            assert!(off <= reconcile::TOLERANCE, "{off:?} off");
        }
    }
    let status = on(filter.as_ref());
    let many = u64::from(MANY);
    assert_eq!((status.entries_ipv4, status.entries_ipv6), (many, many));
    let presence = words(&stage, map::PRESENCE_V4);
    for n in (0..MANY).step_by(997) {
        let bit = ipv4_key(n).presence();
        assert_ne!(
            presence[bit.index(presence_words(MANY)) as usize].hosts & bit.mask(),
            0,
            "{n}"
        );
    }
    assert!(status.memory > 0);
    let estimate = settings.memory();
    let off = status.memory.abs_diff(estimate);
    assert!(
        off < estimate / 50,
        "{estimate} estimated, {}",
        status.memory
    );
}

/// New sentences and forgiveness as effects carry them: a thousand at a time.
/// What `greygate why` shows of a client, read without reading all the others.
#[test]
fn one_client_is_looked_up_in_a_real_table() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::Generic);
    let mut filter = stage.open(&settings);
    let now = SystemClock.now();
    let sentenced = [
        "192.0.2.7/32",
        "192.0.2.0/24",
        "2001:db8::7/128",
        "2001:db8::/64",
    ];
    let levels = [SentenceLevel::Block, SentenceLevel::Rate];
    for (network, level) in sentenced.into_iter().zip(levels.into_iter().cycle()) {
        let found = filter.entry(client(network), now).expect("readable");
        assert_eq!(found, None, "{network}");
        let given = sentence(network, level, HOUR);
        filter
            .apply(&[Change::Put(given)], now)
            .expect("there is room");
        let found = filter.entry(client(network), now).expect("readable");
        let entry = found.expect("it was put");
        assert_eq!((entry.client, entry.level), (client(network), level));
        assert_eq!(entry.drops, 0);
        let off = entry.until.since(given.until) + given.until.since(entry.until);
        assert!(off <= reconcile::TOLERANCE, "{off:?} off");
    }
    for network in [
        "192.0.2.8/32",
        "192.0.3.0/24",
        "2001:db8::8/128",
        "2001:db8:1::/64",
    ] {
        let found = filter.entry(client(network), now).expect("readable");
        assert_eq!(found, None, "{network}");
    }
    let lift = [Change::Remove(client("192.0.2.7/32"))];
    filter.apply(&lift, now).expect("writable");
    assert_eq!(
        filter.entry(client("192.0.2.7/32"), now).expect("readable"),
        None
    );
    assert!(
        filter
            .entry(client("192.0.2.0/24"), now)
            .expect("readable")
            .is_some()
    );
}

#[test]
fn changes_by_the_thousand_are_all_made() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::Generic);
    settings.capacity = MANY;
    let mut filter = stage.open(&settings);
    let clients: Vec<SentencedClient> = (0..MANY).map(ipv4_host).collect();
    let puts: Vec<Change> = clients.iter().map(|it| Change::Put(blocked(*it))).collect();
    let removals: Vec<Change> = clients.iter().copied().map(Change::Remove).collect();
    for (what, changes, left) in [
        ("put", &puts, MANY),
        ("put again", &puts, MANY),
        ("removed", &removals, 0),
    ] {
        timed(what, MANY, || {
            for changes in changes.chunks(1_024) {
                filter
                    .apply(changes, SystemClock.now())
                    .expect("there is room");
            }
        });
        assert_eq!(on(filter.as_ref()).entries_ipv4, u64::from(left), "{what}");
    }
    assert!(
        words(&stage, map::PRESENCE_V4)
            .iter()
            .any(|word| word.hosts != 0)
    );
    assert_eq!(
        filter.entries(SystemClock.now()).expect("readable").len(),
        0
    );
    let bits = words(&stage, map::PRESENCE_V4);
    assert!(
        bits.iter().all(|word| *word == Presence::default()),
        "bits are cleared"
    );
}

/// Against a table in memory: whatever is put and removed, in whatever order and batches.
#[test]
fn table_holds_what_its_changes_say() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::Generic);
    settings.capacity = 256;
    let filter = Mutex::new(stage.open(&settings));
    let client = prop_oneof![
        (0_u32..40).prop_map(ipv4_host),
        (0_u32..40).prop_map(ipv6_network),
        (0_u8..4).prop_map(|n| client(&format!("10.0.{n}.0/24"))),
        (0_u8..40).prop_map(|n| client(&format!("2001:db8::{n:x}/128"))),
    ];
    let change = (client, proptest::option::of(1_u64..100));
    let batches = proptest::collection::vec(proptest::collection::vec(change, 0..60), 1..8);
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    });
    runner
        .run(&batches, |batches| {
            let mut filter = filter.lock().expect("no panic");
            let now = SystemClock.now();
            let left: Vec<Change> = filter
                .entries(now)
                .expect("readable")
                .iter()
                .map(|entry| Change::Remove(entry.client))
                .collect();
            filter.apply(&left, now).expect("they are there");
            let mut model: BTreeMap<SentencedClient, Timestamp> = BTreeMap::new();
            for batch in batches {
                let changes: Vec<Change> = batch
                    .iter()
                    .map(|(client, minutes)| match minutes {
                        Some(minutes) => Change::Put(Sentence {
                            until: now.after(Duration::from_mins(*minutes)),
                            ..blocked(*client)
                        }),
                        None => Change::Remove(*client),
                    })
                    .collect();
                filter.apply(&changes, now).expect("164 clients fit");
                for change in changes {
                    match change {
                        Change::Put(sentence) => model.insert(sentence.client, sentence.until),
                        Change::Remove(client) => model.remove(&client),
                    };
                }
                let status = on(filter.as_ref());
                let count = status.entries_ipv4 + status.entries_ipv6;
                prop_assert_eq!(count, model.len() as u64);
            }
            let there = filter.entries(now).expect("readable");
            prop_assert_eq!(there.len(), model.len());
            for entry in there {
                let until = model[&entry.client];
                let off = entry.until.since(until) + until.since(entry.until);
                prop_assert!(off <= reconcile::TOLERANCE);
            }
            Ok(())
        })
        .expect("the table and the model agree");
}

#[test]
fn forgiven_and_sentenced_again_begins_anew() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::Generic));
    let put = Change::Put(sentence("192.0.2.7", SentenceLevel::Block, HOUR));
    let remove = Change::Remove(ipv4("192.0.2.7"));
    let now = SystemClock.now();
    let mut table: HashMap<MapData, Ipv4Key, ClientEntry> =
        stage.map(map::IPV4).try_into().expect("a table");
    let key = Ipv4Key::host([192, 0, 2, 7]);
    let mut drops_after = |filter: &mut dyn KernelFilter, changes: &[Change]| {
        filter.apply(&[put], now).expect("there is room");
        let mut met = table.get(&key, 0).expect("it was put");
        met.drops = 9;
        table.insert(key, met, 0).expect("a stranger may write");
        filter.apply(changes, now).expect("there is room");
        let entries = filter.entries(now).expect("readable");
        entries.first().map(|entry| entry.drops)
    };
    assert_eq!(drops_after(filter.as_mut(), &[put]), Some(9), "it goes on");
    assert_eq!(drops_after(filter.as_mut(), &[remove, put]), Some(0));
    assert_eq!(drops_after(filter.as_mut(), &[put, remove]), None);
    assert_eq!(drops_after(filter.as_mut(), &[remove, put, put]), Some(0));
}

#[test]
fn lapsed_sentences_meeting_is_no_part_of_the_next() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::Generic));
    let put = Change::Put(sentence("192.0.2.7", SentenceLevel::Block, HOUR));
    filter
        .apply(&[put], SystemClock.now())
        .expect("there is room");
    let mut table: HashMap<MapData, Ipv4Key, ClientEntry> =
        stage.map(map::IPV4).try_into().expect("a table");
    let key = Ipv4Key::host([192, 0, 2, 7]);
    let mut lapsed = table.get(&key, 0).expect("it was put");
    lapsed.until = KernelTime::from_nanos(1);
    (lapsed.drops, lapsed.arrival) = (9, KernelTime::default());
    table.insert(key, lapsed, 0).expect("a stranger may write");
    filter
        .apply(&[put], SystemClock.now())
        .expect("there is room");
    let entry = table.get(&key, 0).expect("it was put");
    assert_eq!(entry.drops, 0);
    assert!(
        entry.arrival > KernelTime::default(),
        "its limit is used up"
    );
}

/// The store's part, with a list that a test may change.
struct Store(Mutex<Vec<Sentence>>);

impl SentenceSource for Store {
    fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
        self.0.lock().expect("no panic").clone()
    }
    fn allowed(&self) -> Vec<IpNet> {
        Vec::new()
    }
    fn heed(&self, _: &[Entry], _: Timestamp) {}
}

/// A projector over a store with these sentences, and what its metrics say.
struct Scene {
    projector: Projector,
    metrics: Registry,
    _effects: mpsc::Sender<greygate::policy::Effect>,
}

impl Scene {
    fn new(filter: Box<dyn KernelFilter>, sentences: Vec<Sentence>) -> Self {
        let (effects, received) = mpsc::channel(8);
        let metrics = Arc::new(Metrics::default());
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let projector = Projector::start(
            filter,
            Arc::new(Store(Mutex::new(sentences))),
            Arc::new(SystemClock),
            received,
            metrics,
        );
        Self {
            projector,
            metrics: registry,
            _effects: effects,
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.metrics).expect("writing to a string");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .parse()
            .expect("a count")
    }
}

#[test]
fn least_time_left_gives_way_in_a_full_table_and_an_alarm_rises() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::Generic);
    let (capacity, over) = (settings.capacity, 5);
    let mut filter = stage.open(&settings);
    // The shortest are there already, and have to go.
    let sentences: Vec<Sentence> = (0..capacity + over)
        .map(|n| Sentence {
            until: SystemClock.now().after(HOUR * (n + 1)),
            ..blocked(ipv4_host(n))
        })
        .collect();
    let puts: Vec<Change> = sentences.iter().copied().map(Change::Put).collect();
    filter
        .apply(&puts[..capacity as usize], SystemClock.now())
        .expect("they fit");
    let scene = Scene::new(filter, sentences.clone());
    let table: HashMap<MapData, Ipv4Key, ClientEntry> =
        stage.map(map::IPV4).try_into().expect("a table");
    let expected: BTreeSet<Ipv4Key> = (over..capacity + over).map(ipv4_key).collect();
    let settled = settle(PATIENCE, || {
        let there: BTreeSet<Ipv4Key> = table.keys().filter_map(Result::ok).collect();
        (there == expected).then_some(())
    });
    assert!(settled.is_some(), "the shortest sentences did not give way");
    assert_eq!(scene.metric("xdp_crowded_out"), u64::from(over));
    assert_eq!(scene.metric("xdp_failures_total"), 0);
    let FilterStatus::On(status) = scene.projector.status() else {
        panic!("it is on");
    };
    assert_eq!(status.crowded_out, u64::from(over));
    scene.projector.stop();
}

#[test]
fn what_strangers_did_is_mended() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let filter = stage.open(&stage.settings(&object, Mode::Generic));
    let scene = Scene::new(filter, (0..8).map(|n| blocked(ipv4_host(n))).collect());
    let mut table: HashMap<MapData, Ipv4Key, ClientEntry> =
        stage.map(map::IPV4).try_into().expect("a table");
    let mut presence: Array<MapData, Presence> =
        stage.map(map::PRESENCE_V4).try_into().expect("an array");
    let expected: BTreeSet<Ipv4Key> = (0..8).map(ipv4_key).collect();
    let is_as_the_store_says = || {
        let there: BTreeSet<Ipv4Key> = table.keys().filter_map(Result::ok).collect();
        let seen = |key: &Ipv4Key| {
            let bit = key.presence();
            let word = presence
                .get(&bit.index(presence_words(CAPACITY)), 0)
                .expect("readable");
            word.hosts & bit.mask() != 0
        };
        (there == expected && expected.iter().all(seen)).then_some(())
    };
    settle(PATIENCE, is_as_the_store_says).expect("the first comparison");

    let strange = ClientEntry::new(Level::Block, KernelTime::from_nanos(u64::MAX));
    table.remove(&ipv4_key(3)).expect("it is there");
    for key in [
        Ipv4Key::host([203, 0, 113, 9]),
        Ipv4Key::new([10, 0, 0, 0], 8),
    ] {
        table.insert(key, strange, 0).expect("a stranger may write");
    }
    let unseen = ipv4_key(5).presence().index(presence_words(CAPACITY));
    presence
        .set(unseen, Presence::default(), 0)
        .expect("a stranger may write");
    scene.projector.refresh();
    let is_as_the_store_says = || {
        let there: BTreeSet<Ipv4Key> = table.keys().filter_map(Result::ok).collect();
        let word = presence.get(&unseen, 0).expect("readable");
        (there == expected && word.hosts != 0).then_some(())
    };
    settle(PATIENCE, is_as_the_store_says).expect("it is mended");
    // Counted once it is done.
    let repaired = || scene.metric("xdp_repaired_total");
    settle(PATIENCE, || (repaired() >= 8 + 2).then_some(()));
    assert_eq!(repaired(), 8 + 2);
    scene.projector.stop();
}

#[test]
fn widest_allowed_networks_are_kept_where_not_all_fit() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::Generic));
    // Every second address, so that no two of them make up a wider network.
    let host =
        |first: u32, n: u32| IpNet::from(IpAddr::from(Ipv4Addr::from((first << 24) + 2 * n)));
    let hosts = (0..ALLOWED_NETWORKS + 2).map(|n| host(10, n));
    let mut networks: Vec<IpNet> = hosts.collect();
    networks.push("198.51.100.0/24".parse().expect("a network"));
    filter.allow(&networks).expect("what fits is written");
    let status = on(filter.as_ref());
    assert_eq!(status.allowed_networks, u64::from(ALLOWED_NETWORKS));
    assert_eq!(status.allowed_crowded_out, 3);
    // All others, in a full trie: the old ones make room.
    let hosts = (0..ALLOWED_NETWORKS).map(|n| host(11, n));
    let networks: Vec<IpNet> = hosts.collect();
    filter.allow(&networks).expect("they fit");
    let status = on(filter.as_ref());
    assert_eq!(status.allowed_networks, u64::from(ALLOWED_NETWORKS));
    assert_eq!(status.allowed_crowded_out, 0);
}

#[test]
fn protected_addresses_make_room_for_all_others() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let addresses = |first: u32| (0..DESTINATIONS).map(move |n| Ipv4Addr::from((first << 24) + n));
    for first in [10, 11] {
        let settings = Settings {
            addresses: addresses(first).map(IpAddr::from).collect(),
            ..settings.clone()
        };
        // The second takes the first one's maps over.
        on(stage.open(&settings).as_ref());
        let there: HashMap<MapData, [u8; 16], u8> =
            stage.map(map::DESTINATIONS).try_into().expect("a table");
        let there: BTreeSet<[u8; 16]> = there.keys().filter_map(Result::ok).collect();
        let expected = addresses(first).map(|address| mapped(address.octets()));
        assert_eq!(there, expected.collect());
    }
}

/// The daemon may die between the two: an entry that vouches for itself would never ask the trie.
#[test]
fn entries_are_made_to_ask_before_a_network_is_allowed() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::Generic));
    let config: Array<MapData, Config> = stage.map(map::CONFIG).try_into().expect("an array");
    let generation = || config.get(&0, 0).expect("readable").generation;
    let network = |text: &str| text.parse::<IpNet>().expect("a network");
    let before = generation();
    filter
        .allow(&[network("192.0.2.0/24")])
        .expect("there is room");
    assert_eq!(generation(), before + 1);
    // Strangers leave no room, so the next network cannot be written: the step before is done.
    let mut trie: LpmTrie<MapData, [u8; 4], u8> =
        stage.map(map::ALLOWED_V4).try_into().expect("a trie");
    let strangers = || (1..ALLOWED_NETWORKS).map(|n| Key::new(32, (10 << 24 | n).to_be_bytes()));
    for stranger in strangers() {
        trie.insert(&stranger, 0, 0).expect("there is room");
    }
    let more = [network("192.0.2.0/24"), network("198.51.100.0/24")];
    filter.allow(&more).expect_err("there is no room");
    assert_eq!(generation(), before + 2);
    for stranger in strangers() {
        trie.remove(&stranger).expect("it is there");
    }
    filter.allow(&more).expect("there is room");
    assert_eq!(generation(), before + 3);
    // What only shrinks, or stays, lets every entry go on vouching for itself.
    filter.allow(&more).expect("nothing to do");
    filter.allow(&more[..1]).expect("less");
    assert_eq!(generation(), before + 3);
}

fn blocked(client: SentencedClient) -> Sentence {
    Sentence {
        client,
        ..sentence("192.0.2.7", SentenceLevel::Block, HOUR)
    }
}

fn client(network: &str) -> SentencedClient {
    let network: IpNet = network.parse().expect("a network");
    SentencedClient::try_from(network).expect("it can be sentenced")
}

fn ipv4(address: &str) -> SentencedClient {
    SentencedClient::of(address.parse().expect("an address"))
}

/// Scattered over the address space, each `n` another one: an odd factor loses no bit.
fn ipv4_host(n: u32) -> SentencedClient {
    Ipv4Addr::from(scattered(n)).into()
}

fn ipv4_key(n: u32) -> Ipv4Key {
    Ipv4Key::host(scattered(n).to_be_bytes())
}

fn ipv6_network(n: u32) -> SentencedClient {
    let network = (0x2001_0db8_u128 << 96) | (u128::from(scattered(n)) << 64);
    SentencedClient::of(Ipv6Addr::from(network).into())
}

fn scattered(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1)
}

fn words(stage: &Stage, name: &str) -> Vec<Presence> {
    let map: Array<MapData, Presence> = stage.map(name).try_into().expect("an array");
    map.iter()
        .collect::<Result<_, _>>()
        .expect("a readable array")
}

/// Says how long something took, and how much of a processor a sentence.
fn timed<T>(what: &str, count: u32, work: impl FnOnce() -> T) -> T {
    let cpu = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has it");
        Duration::from(time)
    };
    let (begin, cpu_begin) = (Instant::now(), cpu());
    let done = work();
    let (took, cpu_took) = (begin.elapsed(), cpu().saturating_sub(cpu_begin));
    eprintln!(
        "{count} {what} in {took:.2?}, {:.2?} of a processor each",
        cpu_took / count
    );
    done
}
