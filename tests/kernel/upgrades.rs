//! Pins of another layout, of another version, of nobody, and those that a crash left half done:
//! the next start mends them, and the sentences stay.

use std::{fs, time::Duration};

use aya::maps::{HashMap, Map, MapData, MapInfo, MapType};
use greygate::{
    clock::{Clock as _, SystemClock, kernel_now},
    kernel::{self, Change, FilterStatus, ObtainedMode, Settings},
    policy::SentenceLevel,
};
use greylist_ebpf::abi::{self, Ipv4Key, Ipv6Key, Level};
use support::{needs, requirements};

use crate::{
    lifecycle::{SECOND, lay_second_cable, map_ids, names, only, punish},
    pinned::{maps, put},
    stage::{CASTS, Cast, INTERFACE, Stage, lay_cable, on, sentence, with_bpffs},
};

#[test]
fn larger_tables_hold_what_the_smaller_ones_held() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    let mut filter = stage.open(&settings);
    for Cast { sentenced, mx, .. } in &CASTS {
        punish(filter.as_mut(), sentenced);
        stage.assert_dropped(sentenced, mx);
    }
    drop(filter);

    settings.capacity = 64;
    let mut filter = stage.open(&settings);
    assert_eq!(capacity(&settings), 64);
    let entries = filter.entries(SystemClock.now()).expect("readable maps");
    assert_eq!(entries.len(), CASTS.len());
    assert!(entries.iter().all(|entry| entry.drops > 0), "{entries:?}");
    for Cast {
        sentenced,
        other,
        mx,
        mx_for_other,
    } in &CASTS
    {
        stage.assert_dropped(sentenced, mx);
        stage.assert_served(other, mx_for_other, 25);
    }
    assert_eq!(names(&settings.pin_directory), ["link-mx0", "v2"]);
}

#[test]
fn smaller_tables_hold_those_with_the_most_time_left() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    let mut filter = stage.open(&settings);
    let lasting = |host: u8| {
        let lasts = Duration::from_mins(10 + u64::from(host));
        Change::Put(sentence(
            &format!("192.0.2.{host}"),
            SentenceLevel::Block,
            lasts,
        ))
    };
    let all: Vec<Change> = (1..=16).map(lasting).collect();
    filter
        .apply(&all, SystemClock.now())
        .expect("there is room");
    drop(filter);

    settings.capacity = 4;
    let mut filter = stage.open(&settings);
    let entries = filter.entries(SystemClock.now()).expect("readable maps");
    let mut kept: Vec<String> = entries.iter().map(|it| it.client.to_string()).collect();
    kept.sort();
    assert_eq!(
        kept,
        ["192.0.2.13", "192.0.2.14", "192.0.2.15", "192.0.2.16"]
    );
    assert_eq!(capacity(&settings), 4);
}

#[test]
fn pins_of_the_first_version_are_taken_over() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    leave_pins_of_the_first_version(&stage, &settings);
    let program = stage.program();
    let look = || kernel::look(&settings);
    let error = stage.mx.run(look).expect_err("nothing this one can read");
    assert!(error.to_string().contains("another version's"), "{error}");
    let mut filter = stage.open(&settings);
    assert_ne!(
        stage.program(),
        program,
        "swapped into the link that was there"
    );
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_eq!(names(&settings.pin_directory), ["link-mx0", "v2"]);
    let mut entries = filter.entries(SystemClock.now()).expect("readable maps");
    entries.sort_by_key(|entry| entry.client);
    let found: Vec<_> = entries
        .iter()
        .map(|it| (it.client.to_string(), it.level, it.drops))
        .collect();
    assert_eq!(
        found,
        [
            ("192.0.2.7".to_owned(), SentenceLevel::Block, 5),
            ("2001:db8:0:9::/64".to_owned(), SentenceLevel::Observe, 9),
        ]
    );
    let Cast { sentenced, mx, .. } = CASTS[0];
    stage.assert_dropped(sentenced, mx);
}

/// As before the program told repeated SYNs of dropped connections apart: one counter less.
#[test]
fn maps_with_fewer_counters_are_renewed_with_their_sentences() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    let counters = maps(&settings).join(abi::map::COUNTERS);
    fs::remove_file(&counters).expect("our own pin");
    map_of(MapType::PerCpuArray, 4, 8, abi::Counter::COUNT - 1)
        .pin(&counters)
        .expect("a bpffs");

    // The new command, beside the program of before.
    let looked = stage.mx.run(|| kernel::look(&settings));
    let pinned = looked.expect("readable").expect("there is something");
    let FilterStatus::On(before) = pinned.filter else {
        panic!("it is off");
    };
    assert_eq!(before.frames.get("dropped_again"), None);
    assert!(before.frames.contains_key("blocked"));

    let filter = stage.open(&settings);
    let found = MapInfo::from_pin(&counters).expect("a map").max_entries();
    assert_eq!(found, abi::Counter::COUNT);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    stage.assert_dropped(sentenced, mx);
    let on = on(filter.as_ref());
    assert_eq!(on.drops, on.frames["blocked"] + on.frames["dropped_again"]);
}

/// Interfaces are renamed by new kernels, new cards and administrators.
#[test]
fn interface_of_another_name_is_taken_over() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    rename(&stage, &[(INTERFACE, "lan0.7")]);
    stage.assert_dropped(sentenced, mx);

    settings.interfaces = vec!["lan0.7".to_owned()];
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, true),
        "{interface:?}"
    );
    stage.assert_dropped(sentenced, mx);
    assert_eq!(names(&settings.pin_directory), ["link-lan0%2e7", "v2"]);
}

#[test]
fn interfaces_that_changed_names_are_taken_over() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    lay_second_cable(&stage);
    settings.interfaces.push(SECOND.to_owned());
    drop(stage.open(&settings));
    rename(
        &stage,
        &[(INTERFACE, "aside"), (SECOND, INTERFACE), ("aside", SECOND)],
    );
    // One of them alone, so that a link of the wrong one is missed.
    settings.interfaces = vec![INTERFACE.to_owned()];
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, true),
        "{interface:?}"
    );
    assert!(stage.program().is_some());
    assert_eq!(stage.program_on(SECOND), None);
}

fn rename(stage: &Stage, names: &[(&str, &str)]) {
    for (before, now) in names {
        let ip = |arguments: &[&str]| stage.mx.ip(arguments).expect("our own cable");
        ip(&["link", "set", "dev", before, "down"]);
        ip(&["link", "set", "dev", before, "name", now]);
        ip(&["link", "set", "dev", now, "up"]);
    }
}

/// Pinning takes the link, and a pin that fails takes it along: it is attached once more, unpinned.
#[test]
fn link_that_cannot_be_pinned_any_more_filters_on() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut filter = stage.open(&settings);
    let Cast { sentenced, mx, .. } = CASTS[0];
    punish(filter.as_mut(), sentenced);
    fs::remove_dir_all(&settings.pin_directory).expect("root may remove it");
    stage.assert_dropped(sentenced, mx);
    stage
        .mx
        .ip(&["link", "del", INTERFACE])
        .expect("our own cable");
    lay_cable(&stage.mx, &stage.clients);
    stage.mx.run(|| filter.tend());
    let back = only(filter.as_ref());
    assert_eq!(
        (back.mode, back.pinned),
        (ObtainedMode::Native, false),
        "{back:?}"
    );
    let why = back.why_unpinned.unwrap_or_default();
    assert!(why.contains("pinning mx0"), "{why}");
    stage.assert_dropped(sentenced, mx);
    drop(filter);
    stage.wait_until_unloaded();
}

/// Steps 1 to 3 of the module `pins`: maps in `v2-new`, while `v2` is what counts.
#[test]
fn crash_before_the_new_maps_took_their_place_is_mended() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    // The link was swapped to a program on maps that are pinned in part.
    let torn = settings.pin_directory.join("v2-new");
    fs::create_dir(&torn).expect("a bpffs has directories");
    let odd = array(7);
    odd.pin(torn.join(abi::map::IPV4)).expect("a bpffs");
    settings.capacity = 32;

    let filter = stage.open(&settings);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_eq!(names(&settings.pin_directory), ["link-mx0", "v2"]);
    assert_eq!(capacity(&settings), 32);
    stage.assert_dropped(sentenced, mx);
}

/// Step 5: the new maps are in their place, and the old ones lie about.
#[test]
fn crash_after_the_new_maps_took_their_place_is_mended() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    let ids = map_ids(&settings);
    let left = settings.pin_directory.join("v2-new");
    for directory in [&settings.pin_directory.join("v1"), &left] {
        fs::create_dir(directory).expect("a bpffs has directories");
        array(7)
            .pin(directory.join(abi::map::PORTS))
            .expect("a bpffs");
    }
    array(7)
        .pin(settings.pin_directory.join(abi::map::PORTS))
        .expect("a bpffs");

    let filter = stage.open(&settings);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_eq!(names(&settings.pin_directory), ["link-mx0", "v2"]);
    assert_eq!(map_ids(&settings), ids, "adopted");
    stage.assert_dropped(sentenced, mx);
}

/// Between step 2 and 4: the link holds a program whose maps nobody pinned.
#[test]
fn link_without_maps_is_taken_over() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let program = stage.program();
    fs::remove_file(maps(&settings).join(abi::map::CONFIG)).expect("our own pin");
    let filter = stage.open(&settings);
    assert_ne!(stage.program(), program);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_eq!(names(&maps(&settings)).len(), abi::map::ALL.len());
}

#[test]
fn unload_after_a_crash_leaves_nothing() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    for left in ["v2-new", "v1", "v77"] {
        let left = settings.pin_directory.join(left);
        fs::create_dir(&left).expect("a bpffs has directories");
        array(7).pin(left.join(abi::map::IPV4)).expect("a bpffs");
    }
    let unloaded = kernel::unload(&settings).expect("the pins are ours");
    assert_eq!(unloaded.pins.len(), 1 + abi::map::ALL.len() + 3);
    assert!(!settings.pin_directory.exists());
    stage.wait_until_unloaded();
}

#[test]
fn maps_of_a_newer_version_are_left_alone() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let newer = settings.pin_directory.join("v77");
    fs::rename(maps(&settings), &newer).expect("a bpffs can rename");
    let program = stage.program();
    let filter = stage.open(&settings);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_ne!(stage.program(), program, "its link is ours now");
    assert_eq!(names(&settings.pin_directory), ["link-mx0", "v2", "v77"]);
    assert_eq!(names(&newer).len(), abi::map::ALL.len());
}

#[test]
fn alien_map_is_replaced_and_an_alien_link_left_alone() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let map = maps(&settings).join(abi::map::IPV4);
    fs::remove_file(&map).expect("our own pin");
    array(7).pin(&map).expect("a bpffs");
    let filter = stage.open(&settings);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    let kind = MapInfo::from_pin(&map).expect("a map").map_type();
    assert_eq!(kind.expect("a known type"), MapType::Hash);
    drop(filter);

    let link = settings.pin_directory.join("link-mx0");
    fs::remove_file(&link).expect("our own pin");
    array(7).pin(&link).expect("a bpffs");
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, false)
    );
    let why = interface.why_unpinned.unwrap_or_default();
    assert!(why.contains("link-mx0") && why.contains("no link"), "{why}");
    assert!(MapInfo::from_pin(&link).is_ok(), "it is not ours to remove");
}

fn capacity(settings: &Settings) -> u32 {
    let map = MapInfo::from_pin(maps(settings).join(abi::map::IPV4));
    map.expect("a map").max_entries()
}

/// What `greygate xdp load` of ABI version 1 left: its link, and its maps beside it.
fn leave_pins_of_the_first_version(stage: &Stage, settings: &Settings) {
    stage
        .mx
        .run(|| kernel::load(settings))
        .expect("nothing is in the way");
    for name in names(&maps(settings)) {
        fs::remove_file(maps(settings).join(name)).expect("our own pin");
    }
    fs::remove_dir(maps(settings)).expect("our own directory");
    let until = kernel_now().as_nanos() + 3_600_000_000_000;
    let value = |drops: u64, level: Level| {
        let mut value = [0; 24];
        value[..8].copy_from_slice(&until.to_ne_bytes());
        value[8..16].copy_from_slice(&drops.to_ne_bytes());
        value[16] = if level == Level::Block { 2 } else { 1 };
        value
    };
    let ipv4 = map_of(MapType::Hash, size_of::<Ipv4Key>(), 24, 16);
    ipv4.pin(settings.pin_directory.join(abi::map::IPV4))
        .expect("a bpffs");
    let mut ipv4: HashMap<_, Ipv4Key, [u8; 24]> = Map::HashMap(ipv4).try_into().expect("sizes");
    ipv4.insert(Ipv4Key::host([192, 0, 2, 7]), value(5, Level::Block), 0)
        .expect("there is room");
    let ipv6 = map_of(MapType::Hash, size_of::<Ipv6Key>(), 24, 16);
    ipv6.pin(settings.pin_directory.join(abi::map::IPV6))
        .expect("a bpffs");
    let mut ipv6: HashMap<_, Ipv6Key, [u8; 24]> = Map::HashMap(ipv6).try_into().expect("sizes");
    let network: std::net::Ipv6Addr = "2001:db8:0:9::1".parse().expect("an address");
    ipv6.insert(
        Ipv6Key::network_of(network.octets()),
        value(9, Level::Observe),
        0,
    )
    .expect("there is room");
    for name in [abi::map::COUNTERS, abi::map::PORTS] {
        array(7)
            .pin(settings.pin_directory.join(name))
            .expect("a bpffs");
    }
}

/// A map that is none of ours.
fn array(value: usize) -> MapData {
    map_of(MapType::Array, 4, value, 1)
}

fn map_of(kind: MapType, key: usize, value: usize, entries: u32) -> MapData {
    let size = |bytes| u32::try_from(bytes).expect("a small size");
    let map = aya_obj::maps::LegacyMap {
        def: aya_obj::maps::bpf_map_def {
            map_type: kind as u32,
            key_size: size(key),
            value_size: size(value),
            max_entries: entries,
            ..Default::default()
        },
        inner_def: None,
        section_index: 0,
        section_kind: aya_obj::EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    };
    MapData::create(aya_obj::Map::Legacy(map), "test", None).expect("root may make maps")
}
