//! What outlives the process, and the way out of everything.

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    time::Duration,
};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::{loaded_links, loaded_programs},
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{self, FilterError, FilterStatus, Mode, ObtainedMode, Settings, TimeBridge},
    policy::SentenceLevel,
};
use greylist_ebpf::abi::{self, ClientEntry, Ipv4Key, Level};
use support::{
    bpffs::BpfFs,
    interrupt::settle,
    needs,
    requirements::{self, Missing},
};

use crate::stage::{CASTS, Cast, INTERFACE, Stage, on, sentence};

/// A stage's settings with a bpffs of its own for the pins.
fn with_bpffs(stage: &Stage, object: &Path) -> (Settings, BpfFs) {
    let bpffs = BpfFs::mount(stage.path("bpf")).expect("root may mount a bpffs");
    let settings = Settings {
        pin_directory: bpffs.directory().join("greygate"),
        ..stage.settings(object, Mode::NativePreferred)
    };
    (settings, bpffs)
}

fn load(stage: &Stage, settings: &Settings) -> Result<kernel::Loaded, FilterError> {
    stage.mx.run(|| kernel::load(settings))
}

#[test]
fn loaded_filter_stays_until_it_is_unloaded() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let loaded = load(&stage, &settings).expect("nothing is in the way");
    assert_eq!(loaded.interfaces, [INTERFACE]);

    // Whatever `load` held is closed; only the pins hold the program now.
    let program = stage.program();
    assert!(program.is_some(), "the program went with `load`");
    let directory = settings.pin_directory.metadata().expect("a directory");
    assert_eq!(directory.mode() & 0o7777, 0o700);
    let Cast {
        sentenced,
        other,
        mx,
        ..
    } = CASTS[0];
    put(&settings, sentenced);
    stage.assert_dropped(sentenced, mx);
    stage.assert_served(other, mx, 25);

    let error = load(&stage, &settings).expect_err("it is loaded already");
    assert!(error.to_string().contains("greygate xdp unload"), "{error}");
    let filter = stage.open(&settings);
    let FilterStatus::Off { why } = filter.status() else {
        panic!("two filters on one interface");
    };
    assert!(why.contains("greygate xdp unload"), "{why}");
    assert_eq!(stage.program(), program, "the loaded one is still there");

    let unloaded = kernel::unload(&settings).expect("the pins are ours");
    assert_eq!(unloaded.pins.len(), 1 + abi::map::ALL.len());
    assert_eq!(stage.program(), None);
    assert!(!settings.pin_directory.exists());
    stage.assert_served(sentenced, mx, 25);
    let again = kernel::unload(&settings).expect("nothing loaded is as good");
    assert!(again.pins.is_empty());
}

#[test]
fn load_that_fails_leaves_nothing_behind() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    settings.interfaces.push("nowhere0".to_owned());
    let error = load(&stage, &settings).expect_err("there is no such interface");
    assert!(matches!(error, FilterError::UnknownInterface(_)), "{error}");
    assert_eq!(stage.program(), None);
    assert!(!settings.pin_directory.exists());
}

#[test]
fn pins_outside_a_bpffs_are_refused_with_the_mount_command() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    std::fs::create_dir(stage.path("no-bpffs")).expect("a writable directory");
    let settings = stage.settings(&object, Mode::Generic);
    let error = load(&stage, &settings).expect_err("no bpffs");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
    assert_eq!(stage.program(), None);
}

#[test]
fn pins_of_somebody_else_are_refused() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    load(&stage, &settings).expect("nothing is in the way");
    let map = settings.pin_directory.join(abi::map::IPV4);
    chown(&map, Some(12_345), None).expect("root may give it away");
    let error = kernel::unload(&settings).expect_err("not ours");
    assert!(error.to_string().contains("uid 12345"), "{error}");
    chown(&map, Some(0), None).expect("root may take it back");
    kernel::unload(&settings).expect("ours again");

    std::fs::create_dir(&settings.pin_directory).expect("a bpffs has directories");
    chown(&settings.pin_directory, Some(12_345), None).expect("root may give it away");
    let error = load(&stage, &settings).expect_err("not ours");
    assert!(error.to_string().contains("uid 12345"), "{error}");
    assert_eq!(stage.program(), None);
}

#[test]
fn panic_detaches_the_running_and_the_pinned_and_forbids_more() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::alone();
    needs!(no_other_greygate());
    let (pinned, _bpffs) = with_bpffs(&stage, &object);
    load(&stage, &pinned).expect("nothing is in the way");
    let mut served = stage.settings(&object, Mode::Generic);
    served.interfaces = vec!["lo".to_owned()];
    let running = stage.open(&served);
    assert_eq!(
        on(running.as_ref()).interfaces[0].mode,
        ObtainedMode::Generic
    );
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&pinned, sentenced);
    stage.assert_dropped(sentenced, mx);

    let attached = attachments();
    assert!(attached >= 2, "the pinned one and the running one");
    let panicked = kernel::panic(&pinned).expect("root may");
    assert_eq!(panicked.detached, attached);
    assert_eq!(panicked.pins.len(), 1 + abi::map::ALL.len());
    assert_eq!(stage.program(), None);
    stage.assert_served(sentenced, mx, 25);
    let loopback = &on(running.as_ref()).interfaces[0];
    assert_eq!(loopback.mode, ObtainedMode::Detached);
    let why = loopback.why.as_deref().unwrap_or_default();
    assert!(
        why.contains("xdp panic") && why.contains("restart"),
        "{why}"
    );

    let FilterStatus::Off { why } = stage.open(&pinned).status() else {
        panic!("attached against the flag");
    };
    let flag = pinned.panic_file.to_str().expect("a plain path");
    assert!(why.contains("remove") && why.contains(flag), "{why}");
    assert!(load(&stage, &pinned).is_err(), "loaded against the flag");
    let again = kernel::panic(&pinned).expect("panic can be repeated");
    assert_eq!((again.detached, again.pins.len()), (0, 0));

    drop(running);
    std::fs::remove_file(&pinned.panic_file).expect("the flag");
    on(stage.open(&pinned).as_ref());
}

/// `panic` means the whole machine: a filter that somebody relies on must not be detached by a
/// test. Those of earlier tests may still be on their way out.
fn no_other_greygate() -> Result<(), Missing> {
    let none = || (attachments() == 0).then_some(());
    settle(Duration::from_secs(10), none).ok_or_else(|| {
        Missing::new("a machine on which no other greygate filters; `panic` would end that")
    })
}

/// Links of greygate's programs, whoever holds them.
fn attachments() -> usize {
    let ours: Vec<u32> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| program.name() == abi::PROGRAM.as_bytes())
        .map(|program| program.id())
        .collect();
    loaded_links()
        .filter_map(Result::ok)
        .filter(|link| ours.contains(&link.program_id()))
        .count()
}

/// Writes a sentence into the pinned map, as a daemon that adopted it would.
fn put(settings: &Settings, client: &str) {
    let sentence = sentence(client, SentenceLevel::Block, Duration::from_hours(1));
    let until = TimeBridge::at(SystemClock.now()).to_kernel(sentence.until);
    let map = MapData::from_pin(settings.pin_directory.join(abi::map::IPV4)).expect("a pin");
    let mut map: HashMap<_, Ipv4Key, ClientEntry> =
        Map::HashMap(map).try_into().expect("the ABI's types");
    let address: std::net::Ipv4Addr = client.parse().expect("an IPv4 address");
    let entry = ClientEntry::new(Level::Block, until);
    map.insert(Ipv4Key::host(address.octets()), entry, 0)
        .expect("there is room");
}
