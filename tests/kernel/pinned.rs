//! What outlives the process, and the way out of everything.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
    time::Duration,
};

use aya::{
    maps::{Array, HashMap, Map, MapData},
    programs::{links::LinkType, loaded_links, loaded_programs},
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{self, FilterError, FilterStatus, Mode, ObtainedMode, Settings, TimeBridge},
    policy::SentenceLevel,
};
use greylist_ebpf::abi::{self, ClientEntry, Ipv4Key, Level, Presence};
use support::{
    interrupt::settle,
    needs,
    requirements::{self, Missing},
};

use crate::{
    lifecycle::{SECOND, lay_second_cable, names},
    stage::{CASTS, Cast, INTERFACE, Stage, on, sentence, with_bpffs},
};

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
    let [interface] = &loaded.interfaces[..] else {
        panic!("one interface is configured");
    };
    assert_eq!(
        (interface.name.as_str(), interface.mode, interface.pinned),
        (INTERFACE, ObtainedMode::Native, true)
    );
    assert_eq!((loaded.entries, loaded.capacity), (0, 16));
    assert!(loaded.memory > 0);

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

    let again = load(&stage, &settings).expect("loading again is an upgrade by hand");
    assert_eq!(again.entries, 1, "its sentences are kept");
    assert_ne!(stage.program(), program, "its program is not");
    stage.assert_dropped(sentenced, mx);

    let unloaded = kernel::unload(&settings).expect("the pins are ours");
    assert_eq!(unloaded.pins.len(), 1 + abi::map::ALL.len());
    stage.wait_until_unloaded();
    assert!(!settings.pin_directory.exists());
    stage.assert_served(sentenced, mx, 25);
    let again = kernel::unload(&settings).expect("nothing loaded is as good");
    assert!(again.pins.is_empty());
}

#[test]
fn what_is_pinned_can_be_looked_at_without_a_daemon() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let look = || {
        stage
            .mx
            .run(|| kernel::look(&settings))
            .expect("the pins are ours")
    };
    assert_eq!(look(), None);
    load(&stage, &settings).expect("nothing is in the way");
    let Cast { sentenced, mx, .. } = CASTS[0];
    put(&settings, sentenced);
    stage.assert_dropped(sentenced, mx);

    let pinned = look().expect("it is loaded");
    assert_eq!(pinned.directory, settings.pin_directory);
    let FilterStatus::On(filter) = pinned.filter else {
        panic!("it filters");
    };
    assert_eq!(
        (
            filter.interfaces[0].name.as_str(),
            filter.interfaces[0].mode
        ),
        (INTERFACE, ObtainedMode::Native)
    );
    assert_eq!((filter.ports.as_slice(), filter.capacity), (&[25][..], 16));
    assert_eq!((filter.entries_ipv4, filter.entries_ipv6), (1, 0));
    assert!(filter.drops > 0);
    let [line] = &pinned.sentences[..] else {
        panic!("one is sentenced: {:?}", pinned.sentences);
    };
    assert_eq!(
        (line.client.as_str(), line.level.as_str()),
        ("192.0.2.7/32", "block")
    );
    assert!(line.drops > 0 && line.left > 3_500, "{line:?}");
    stage.assert_dropped(sentenced, mx);
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
    stage.wait_until_unloaded();
    assert!(!settings.pin_directory.exists());
}

/// Or the filter would drop on, and the daemon say that there is none.
#[test]
fn daemon_without_interfaces_takes_off_what_was_pinned() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (pinned, _bpffs) = with_bpffs(&stage, &object);
    let none = Settings {
        interfaces: Vec::new(),
        ..pinned.clone()
    };
    let why = || match stage.open(&none).status() {
        FilterStatus::Off { why } => why,
        FilterStatus::On(on) => panic!("no interface is configured: {on:?}"),
    };
    let held = stage.open(&pinned);
    assert!(why().contains("another greygate holds"), "{}", why());
    assert!(stage.program().is_some(), "it is somebody's");
    drop(held);
    assert!(!why().contains("but"), "{}", why());
    stage.wait_until_unloaded();
    assert!(!pinned.pin_directory.exists());
}

/// The first interface is pinned already when the second cannot be.
#[test]
fn load_that_cannot_pin_everything_leaves_nothing_on() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (mut settings, _bpffs) = with_bpffs(&stage, &object);
    lay_second_cable(&stage);
    settings.interfaces.push(SECOND.to_owned());
    let in_the_way = settings.pin_directory.join("link-mx1");
    std::fs::create_dir_all(&in_the_way).expect("a bpffs has directories");
    for directory in [&settings.pin_directory, &in_the_way] {
        let rights = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory, rights).expect("our own directory");
    }
    let error = load(&stage, &settings).expect_err("there is no room for a pin");
    assert!(matches!(error, FilterError::Unpinned(_)), "{error}");
    assert!(error.to_string().contains("link-mx1"), "{error}");
    assert_eq!((stage.program(), stage.program_on(SECOND)), (None, None));
    assert_eq!(names(&settings.pin_directory), ["link-mx1"]);
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
    stage.wait_until_unloaded();
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
    let map = maps(&settings).join(abi::map::IPV4);
    chown(&map, Some(12_345), None).expect("root may give it away");
    let error = kernel::unload(&settings).expect_err("not ours");
    assert!(error.to_string().contains("uid 12345"), "{error}");
    chown(&map, Some(0), None).expect("root may take it back");
    kernel::unload(&settings).expect("ours again");

    std::fs::create_dir(&settings.pin_directory).expect("a bpffs has directories");
    chown(&settings.pin_directory, Some(12_345), None).expect("root may give it away");
    let error = load(&stage, &settings).expect_err("not ours");
    assert!(error.to_string().contains("uid 12345"), "{error}");
    stage.wait_until_unloaded();
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
    let mut running = stage.open(&served);
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
    stage.wait_until_unloaded();
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
    stage.mx.run(|| running.tend());
    let loopback = &on(running.as_ref()).interfaces[0];
    assert_eq!(loopback.mode, ObtainedMode::Detached, "{loopback:?}");

    // Pins of every version go, whatever state they are in.
    for left in ["v1", "v2-new", "v77"] {
        std::fs::create_dir_all(pinned.pin_directory.join(left)).expect("a bpffs");
    }
    let again = kernel::panic(&pinned).expect("panic can be repeated");
    assert!(!pinned.pin_directory.exists());
    assert_eq!((again.detached, again.pins.len()), (0, 0));

    std::fs::remove_file(&pinned.panic_file).expect("the flag");
    // Detached while the interface stayed: that was meant to be.
    stage.mx.run(|| running.tend());
    let loopback = &on(running.as_ref()).interfaces[0];
    assert_eq!(loopback.mode, ObtainedMode::Detached, "{loopback:?}");
    drop(running);
    on(stage.open(&pinned).as_ref());
}

/// `panic` means the whole machine: a filter that somebody relies on must not be detached by a
/// test. Those of earlier tests may still be on their way out.
pub(crate) fn no_other_greygate() -> Result<(), Missing> {
    let none = || (attachments() == 0).then_some(());
    settle(Duration::from_secs(10), none).ok_or_else(|| {
        Missing::new("a machine on which no other greygate filters; `panic` would end that")
    })
}

/// Links of greygate's programs, whoever holds them; of all that have no name, to be careful.
fn attachments() -> usize {
    let ours: Vec<u32> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| [abi::PROGRAM.as_bytes(), b""].contains(&program.name()))
        .map(|program| program.id())
        .collect();
    loaded_links()
        .filter_map(Result::ok)
        .filter(|link| link.link_type().ok() == Some(LinkType::Xdp))
        .filter(|link| ours.contains(&link.program_id()))
        .count()
}

/// Where this version's maps are.
pub(crate) fn maps(settings: &Settings) -> PathBuf {
    settings.pin_directory.join(format!("v{}", abi::VERSION))
}

/// Writes a sentence into the pinned maps, as a daemon that adopted them would.
pub(crate) fn put(settings: &Settings, client: &str) {
    let sentence = sentence(client, SentenceLevel::Block, Duration::from_hours(1));
    let until = TimeBridge::at(SystemClock.now()).to_kernel(sentence.until);
    let pinned = |name| MapData::from_pin(maps(settings).join(name)).expect("a pin");
    let address: std::net::Ipv4Addr = client.parse().expect("an IPv4 address");
    let key = Ipv4Key::host(address.octets());
    let presence = Map::Array(pinned(abi::map::PRESENCE_V4));
    let mut presence: Array<_, Presence> = presence.try_into().expect("the ABI's types");
    let bit = key.presence();
    let index = bit.index(presence.len());
    let mut word = presence.get(&index, 0).expect("an index of it");
    word.hosts |= bit.mask();
    presence.set(index, word, 0).expect("an index of it");
    let map = Map::HashMap(pinned(abi::map::IPV4));
    let mut map: HashMap<_, Ipv4Key, ClientEntry> = map.try_into().expect("the ABI's types");
    let mut entry = ClientEntry::new(Level::Block, until);
    entry.arrival = until;
    map.insert(key, entry, 0).expect("there is room");
}
