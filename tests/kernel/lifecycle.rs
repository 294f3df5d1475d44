//! Restarts, upgrades, crashes, interfaces that come and go: who was dropped stays dropped, and
//! nothing is left that the next start does not mend.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData, MapInfo, MapType};
use greygate::{
    clock::{Clock as _, SystemClock, kernel_now},
    kernel::{
        self, Change, FilterError, FilterStatus, InterfaceStatus, KernelFilter, Mode, ObtainedMode,
        Settings,
    },
    policy::SentenceLevel,
};
use greylist_ebpf::abi::{self, ClientEntry, Ipv4Key, Ipv6Key, Level};
use support::{
    needs,
    netns::{End, join},
    requirements,
};

use crate::{
    pinned::{maps, put},
    stage::{CASTS, Cast, INTERFACE, Stage, lay_cable, on, sentence, with_bpffs},
};

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn restart_takes_over_what_the_last_one_left() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut filter = stage.open(&settings);
    let interface = &on(filter.as_ref()).interfaces[0];
    assert!(
        interface.pinned && interface.why_unpinned.is_none(),
        "{interface:?}"
    );
    for Cast { sentenced, mx, .. } in &CASTS {
        punish(filter.as_mut(), sentenced);
        stage.assert_dropped(sentenced, mx);
    }
    let before = (stage.program(), map_ids(&settings));
    drop(filter);

    // Nobody is left but the kernel.
    assert_eq!(stage.program(), before.0);
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

    let mut filter = stage.open(&settings);
    assert!(on(filter.as_ref()).interfaces[0].pinned);
    assert_ne!(stage.program(), before.0, "the program is a new one");
    assert_eq!(map_ids(&settings), before.1, "the maps are the same");
    let entries = filter.entries(SystemClock.now()).expect("readable maps");
    assert_eq!(entries.len(), CASTS.len());
    assert!(entries.iter().all(|entry| entry.drops > 0), "{entries:?}");
    for Cast { sentenced, mx, .. } in &CASTS {
        stage.assert_dropped(sentenced, mx);
    }
}

/// As many swaps as fit while a client hammers: not one connection gets through between two
/// programs.
#[test]
fn no_connection_slips_through_while_programs_are_swapped() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    stage.assert_dropped(sentenced, mx);
    let drops = drops_of(&settings, sentenced);

    let over = AtomicBool::new(false);
    let (tried, served) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    tried.fetch_add(1, Ordering::Relaxed);
                    if stage
                        .knock_for(Duration::from_millis(5), sentenced, mx)
                        .is_ok()
                    {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // Every other time the maps are made anew as well.
        for round in 0..20 {
            settings.capacity = 16 + round % 2 * 16;
            drop(stage.open(&settings));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        served.into_inner(),
        0,
        "of {} connections",
        tried.into_inner()
    );
    let met = drops_of(&settings, sentenced) - drops;
    assert!(met >= 100, "only {met} SYNs met the filter meanwhile");
}

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
    assert_eq!(stage.program(), None);
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

#[test]
fn start_that_fails_leaves_the_old_filter_on_and_says_so() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    let program = stage.program();
    settings.object = stage.path("not-there.o");
    let FilterStatus::Off { why } = stage.open(&settings).status() else {
        panic!("there is no object");
    };
    assert!(
        why.contains("filters on") && why.contains("not-there.o"),
        "{why}"
    );
    assert_eq!(stage.program(), program);
    stage.assert_dropped(sentenced, mx);

    kernel::unload(&settings).expect("the pins are ours");
    let FilterStatus::Off { why } = stage.open(&settings).status() else {
        panic!("there is no object");
    };
    assert!(!why.contains("filters on"), "{why}");
    assert!(!settings.pin_directory.exists(), "nothing half done");
}

/// Where the service manager mounts one for the daemon alone.
#[test]
fn pin_directory_may_be_a_bpffs_of_its_own() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, bpffs) = with_bpffs(&stage, &object);
    settings.pin_directory = bpffs.directory().to_owned();
    fs::set_permissions(bpffs.directory(), fs::Permissions::from_mode(0o700))
        .expect("our own mount");
    drop(stage.open(&settings));
    assert!(stage.program().is_some());
    let unloaded = kernel::unload(&settings).expect("the mount stays");
    assert_eq!(unloaded.pins.len(), 1 + abi::map::ALL.len());
    assert_eq!(stage.program(), None);
}

/// A stranger who makes the directory first must not be able to turn the filter off.
#[test]
fn directory_of_somebody_else_costs_the_pins_and_not_the_filter() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    fs::create_dir(&settings.pin_directory).expect("a bpffs has directories");
    chown(&settings.pin_directory, Some(12_345), None).expect("root may give it away");
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, false)
    );
    let why = interface.why_unpinned.unwrap_or_default();
    assert!(why.contains("uid 12345"), "{why}");
    drop(filter);
    assert_eq!(stage.program(), None);
    let metadata = settings.pin_directory.metadata().expect("it is left alone");
    assert_eq!(metadata.uid(), 12_345);
}

/// Whoever owns our pins may have changed them, so they are not taken over; and what they hold on
/// is not replaced, which is said.
#[test]
fn pins_that_somebody_else_may_have_changed_are_not_taken_over() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let program = stage.program();
    let map = maps(&settings).join(abi::map::IPV4);
    chown(&map, Some(12_345), None).expect("root may give it away");
    let FilterStatus::Off { why } = stage.open(&settings).status() else {
        panic!("two filters on one interface");
    };
    assert!(why.contains("already filtered by greygate"), "{why}");
    assert_eq!(stage.program(), program);
}

#[test]
fn without_a_bpffs_the_filter_ends_with_its_process() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    fs::create_dir(stage.path("no-bpffs")).expect("a writable directory");
    let settings = Settings {
        pin: true,
        ..stage.settings(&object, Mode::NativePreferred)
    };
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, false)
    );
    let why = interface.why_unpinned.unwrap_or_default();
    assert!(why.contains("mount -t bpf"), "{why}");
    drop(filter);
    assert_eq!(stage.program(), None);
}

#[test]
fn filter_that_shall_not_be_pinned_takes_over_and_leaves_nothing() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    drop(stage.open(&settings));
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    settings.pin = false;
    let filter = stage.open(&settings);
    let interface = only(filter.as_ref());
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, false)
    );
    assert_eq!(interface.why_unpinned, None, "as it is configured");
    assert!(!settings.pin_directory.exists());
    stage.assert_dropped(sentenced, mx);
    drop(filter);
    assert_eq!(stage.program(), None);
    stage.assert_served(sentenced, mx, 25);
}

#[test]
fn one_greygate_at_a_time_works_on_the_pins() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let filter = stage.open(&settings);
    let program = stage.program();
    let is_locked = |error: FilterError| {
        assert!(matches!(error, FilterError::PinsLocked(_)), "{error}");
        assert!(
            error.to_string().contains("another greygate holds"),
            "{error}"
        );
    };
    is_locked(
        stage
            .mx
            .run(|| kernel::load(&settings))
            .expect_err("a daemon runs"),
    );
    is_locked(kernel::unload(&settings).expect_err("a daemon runs"));
    let FilterStatus::Off { why } = stage.open(&settings).status() else {
        panic!("two daemons on one interface");
    };
    assert!(why.contains("another greygate holds"), "{why}");
    assert_eq!(stage.program(), program);
    drop(filter);
    kernel::unload(&settings).expect("nobody works on them any more");
}

#[test]
fn other_mode_is_attached_anew() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    for (wanted, obtained) in [
        (Mode::NativePreferred, ObtainedMode::Native),
        (Mode::Generic, ObtainedMode::Generic),
        // Taking it off to try the driver again is for the operator.
        (Mode::NativePreferred, ObtainedMode::Generic),
        (Mode::NativeRequired, ObtainedMode::Native),
    ] {
        settings.mode = wanted;
        let filter = stage.open(&settings);
        let interface = only(filter.as_ref());
        assert_eq!(
            (interface.mode, interface.pinned),
            (obtained, true),
            "{wanted}"
        );
    }
}

#[test]
fn interface_that_is_configured_no_more_is_let_go() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    lay_second_cable(&stage);
    settings.interfaces.push(SECOND.to_owned());
    let filter = stage.open(&settings);
    let pinned = on(filter.as_ref()).interfaces;
    assert!(
        pinned
            .iter()
            .all(|it| it.pinned && it.mode == ObtainedMode::Native),
        "{pinned:?}"
    );
    assert_eq!(
        names(&settings.pin_directory),
        ["link-mx0", "link-mx1", "v2"]
    );
    assert_eq!(
        stage.program_on(SECOND),
        stage.program(),
        "one program on both"
    );
    drop(filter);
    settings.interfaces.remove(0);
    let filter = stage.open(&settings);
    assert_eq!(only(filter.as_ref()).name, SECOND);
    assert_eq!(names(&settings.pin_directory), ["link-mx1", "v2"]);
    assert_eq!(stage.program(), None);
}

#[test]
fn interface_that_goes_and_comes_back_is_attached_to_again() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut filter = stage.open(&settings);
    let Cast { sentenced, mx, .. } = CASTS[0];
    punish(filter.as_mut(), sentenced);
    stage
        .mx
        .ip(&["link", "del", INTERFACE])
        .expect("our own cable");
    stage.mx.run(|| filter.tend());
    let gone = only(filter.as_ref());
    assert_eq!(gone.mode, ObtainedMode::Detached);
    let why = gone.why.unwrap_or_default();
    assert!(
        why.contains("gone") && why.contains("without a restart"),
        "{why}"
    );

    lay_cable(&stage.mx, &stage.clients);
    assert_eq!(stage.program(), None, "another device of the same name");
    stage.mx.run(|| filter.tend());
    let back = only(filter.as_ref());
    assert_eq!(
        (back.mode, back.pinned),
        (ObtainedMode::Native, true),
        "{back:?}"
    );
    stage.assert_dropped(sentenced, mx);
    drop(filter);
    stage.assert_dropped(sentenced, mx);
}

#[test]
fn interface_that_comes_late_is_attached_to() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    settings.interfaces = vec![SECOND.to_owned()];
    let mut filter = stage.open(&settings);
    let missing = only(filter.as_ref());
    assert_eq!(missing.mode, ObtainedMode::Detached);
    let why = missing.why.unwrap_or_default();
    assert!(why.contains("no interface `mx1`"), "{why}");
    lay_second_cable(&stage);
    stage.mx.run(|| filter.tend());
    let come = only(filter.as_ref());
    assert_eq!(
        (come.mode, come.pinned),
        (ObtainedMode::Native, true),
        "{come:?}"
    );
}

#[test]
fn neither_the_panic_flag_nor_a_deliberate_detaching_is_overruled() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::Generic);
    let mut filter = stage.open(&settings);
    stage
        .mx
        .ip(&["link", "del", INTERFACE])
        .expect("our own cable");
    lay_cable(&stage.mx, &stage.clients);
    fs::write(&settings.panic_file, "").expect("a writable directory");
    stage.mx.run(|| filter.tend());
    assert_eq!(stage.program(), None);
    fs::remove_file(&settings.panic_file).expect("our own file");
    stage.mx.run(|| filter.tend());
    assert!(stage.program().is_some());
}

const SECOND: &str = "mx1";

fn lay_second_cable(stage: &Stage) {
    join(
        End {
            namespace: &stage.mx,
            interface: SECOND,
            addresses: &["198.51.100.1/24"],
        },
        End {
            namespace: &stage.clients,
            interface: "client1",
            addresses: &["198.51.100.7/24"],
        },
    )
    .expect("a cable");
}

fn only(filter: &dyn KernelFilter) -> InterfaceStatus {
    let mut interfaces = on(filter).interfaces;
    assert_eq!(interfaces.len(), 1, "one is configured");
    interfaces.remove(0)
}

fn punish(filter: &mut dyn KernelFilter, client: &str) {
    let put = [Change::Put(sentence(client, SentenceLevel::Block, HOUR))];
    filter
        .apply(&put, SystemClock.now())
        .expect("there is room");
}

/// What lies in a directory, by name.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn map_ids(settings: &Settings) -> Vec<u32> {
    let id = |name| {
        MapInfo::from_pin(maps(settings).join(name))
            .expect("a map")
            .id()
    };
    abi::map::ALL.into_iter().map(id).collect()
}

fn capacity(settings: &Settings) -> u32 {
    let map = MapInfo::from_pin(maps(settings).join(abi::map::IPV4));
    map.expect("a map").max_entries()
}

fn drops_of(settings: &Settings, client: &str) -> u64 {
    let map = MapData::from_pin(maps(settings).join(abi::map::IPV4)).expect("a map");
    let map: HashMap<_, Ipv4Key, ClientEntry> =
        Map::HashMap(map).try_into().expect("the ABI's types");
    let address: std::net::Ipv4Addr = client.parse().expect("an address");
    let entry = map.get(&Ipv4Key::host(address.octets()), 0);
    entry.expect("it is sentenced").drops
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
