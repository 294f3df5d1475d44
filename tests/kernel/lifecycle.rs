//! Restarts, upgrades, crashes, interfaces that come and go: who was dropped stays dropped, and
//! nothing is left that the next start does not mend.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use aya::{
    maps::{HashMap, Map, MapData, MapInfo},
    programs::loaded_links,
};
use greygate::{
    clock::{Clock as _, SystemClock, kernel_now},
    kernel::{
        self, Change, FilterError, FilterStatus, InterfaceStatus, KernelFilter, Mode, ObtainedMode,
        Settings,
    },
    policy::SentenceLevel,
};
use greylist_ebpf::abi::{self, ClientEntry, Ipv4Key};
use support::{
    needs,
    netns::{End, join},
    process, requirements,
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

/// What the kernel has counted of a client's connections is the kernel's: a restart gives nobody a
/// burst again, nor an hour's first connection.
#[test]
fn restart_gives_nobody_a_new_burst() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut settings = Settings {
        rate: 1,
        rate_burst: 2,
        ..settings
    };
    let Cast { sentenced, mx, .. } = CASTS[0];
    let mut filter = stage.open(&settings);
    let rate = Change::Put(sentence(sentenced, SentenceLevel::Rate, HOUR));
    filter
        .apply(&[rate], SystemClock.now())
        .expect("there is room");
    for _ in 0..2 {
        stage.assert_served(sentenced, mx, 25);
    }
    stage.assert_dropped(sentenced, mx);
    let before = entry_of(&settings, sentenced);
    assert!(before.arrival > kernel_now(), "its burst is used up");
    drop(filter);

    // The same maps, then larger ones; and the store's sentence once more, as the comparison does.
    for capacity in [settings.capacity, 64] {
        settings.capacity = capacity;
        let mut filter = stage.open(&settings);
        assert_eq!(entry_of(&settings, sentenced).arrival, before.arrival);
        filter
            .apply(&[rate], SystemClock.now())
            .expect("there is room");
        assert_eq!(entry_of(&settings, sentenced).arrival, before.arrival);
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
    stage.wait_until_unloaded();
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
    stage.wait_until_unloaded();
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
    stage.wait_until_unloaded();
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
    stage.wait_until_unloaded();
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
    stage.wait_until_unloaded();
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
    let ((), object, bpftool) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("bpftool")
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
    stage.wait_until_unloaded();
    fs::remove_file(&settings.panic_file).expect("our own file");
    stage.mx.run(|| filter.tend());
    assert!(stage.program().is_some());

    // While the interface stays, detaching is somebody's will.
    detach(&bpftool, stage.program());
    stage.mx.run(|| filter.tend());
    stage.wait_until_unloaded();
    let detached = only(filter.as_ref());
    assert_eq!(detached.mode, ObtainedMode::Detached);
    let why = detached.why.unwrap_or_default();
    assert!(
        why.contains("somebody else") && why.contains("restart"),
        "{why}"
    );
    drop(filter);
    let filter = stage.open(&settings);
    assert_eq!(only(filter.as_ref()).mode, ObtainedMode::Generic);
}

/// Ends the attachment of one program, as an operator does: `bpftool link detach`.
fn detach(bpftool: &Path, program: Option<u64>) {
    let program = program.expect("a program on the interface");
    let link = loaded_links()
        .filter_map(Result::ok)
        .find(|link| u64::from(link.program_id()) == program)
        .expect("root may look for its link");
    let id = link.id().to_string();
    process::run(Command::new(bpftool).args(["link", "detach", "id", &id]))
        .expect("root may detach it");
}

/// Another interface of the MX.
pub(crate) const SECOND: &str = "mx1";

pub(crate) fn lay_second_cable(stage: &Stage) {
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

pub(crate) fn only(filter: &dyn KernelFilter) -> InterfaceStatus {
    let mut interfaces = on(filter).interfaces;
    assert_eq!(interfaces.len(), 1, "one is configured");
    interfaces.remove(0)
}

pub(crate) fn punish(filter: &mut dyn KernelFilter, client: &str) {
    let put = [Change::Put(sentence(client, SentenceLevel::Block, HOUR))];
    filter
        .apply(&put, SystemClock.now())
        .expect("there is room");
}

/// What lies in a directory, by name.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn map_ids(settings: &Settings) -> Vec<u32> {
    let id = |name| {
        MapInfo::from_pin(maps(settings).join(name))
            .expect("a map")
            .id()
    };
    abi::map::ALL.into_iter().map(id).collect()
}

fn entry_of(settings: &Settings, client: &str) -> ClientEntry {
    let map = MapData::from_pin(maps(settings).join(abi::map::IPV4)).expect("a map");
    let map: HashMap<_, Ipv4Key, ClientEntry> =
        Map::HashMap(map).try_into().expect("the ABI's types");
    let address: std::net::Ipv4Addr = client.parse().expect("an address");
    let entry = map.get(&Ipv4Key::host(address.octets()), 0);
    entry.expect("it is sentenced")
}

fn drops_of(settings: &Settings, client: &str) -> u64 {
    entry_of(settings, client).drops
}
