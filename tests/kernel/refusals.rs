//! What is in the way of a filter: each costs no mail, and each says its name.

use std::{
    fs::File,
    io::Write as _,
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{Xdp, XdpMode, links::FdLink},
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{self, Change, FilterStatus, KernelFilter, Mode, ObtainedMode, Settings},
    policy::SentenceLevel,
};
use greylist_ebpf::abi;
use nix::{sys::stat::Mode as Rights, unistd::mkfifo};
use object::{Object as _, ObjectSection as _};
use support::{needs, process::copy_program, requirements};

use crate::stage::{CASTS, INTERFACE, Stage, on, sentence, with_bpffs};

/// Asserts that the filter is off for a reason that holds all of `words`, takes changes without an
/// error, and leaves connections alone.
fn assert_off(stage: &Stage, mut filter: Box<dyn KernelFilter>, words: &[&str]) {
    let FilterStatus::Off { why } = filter.status() else {
        panic!("the filter is on: {:?}", filter.status());
    };
    for word in words {
        assert!(why.contains(word), "`{word}` is not in: {why}");
    }
    let sentenced = CASTS[0].sentenced;
    let block = sentence(sentenced, SentenceLevel::Block, Duration::from_hours(1));
    let put = [Change::Put(block)];
    filter
        .apply(&put, SystemClock.now())
        .expect("nothing to do");
    stage.assert_served(sentenced, CASTS[0].mx, 25);
}

#[test]
fn without_an_object() {
    needs!(requirements::network_namespaces());
    let stage = Stage::new();
    let object = stage.path("not-there.o");
    let filter = stage.open(&stage.settings(&object, Mode::Generic));
    assert_off(
        &stage,
        filter,
        &["not-there.o", "cannot be read", "os error 2"],
    );
}

#[test]
fn with_an_object_of_another_abi_version() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let bytes = std::fs::read(&object).expect("a readable object");
    let version = section(&bytes, abi::VERSION_SECTION);
    assert_eq!(version.len(), 4);
    let mut newer = bytes.clone();
    newer[version.start] = 77;
    let newer = write(&stage, "newer.o", &newer);
    let filter = stage.open(&stage.settings(&newer, Mode::Generic));
    assert_off(
        &stage,
        filter,
        &["ABI version 77", &abi::VERSION.to_string()],
    );
}

#[test]
fn with_a_damaged_object() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let bytes = std::fs::read(&object).expect("a readable object");
    for (name, damaged) in [
        ("empty.o", &[][..]),
        ("half.o", &bytes[..bytes.len() / 2]),
        ("text.o", b"not an object"),
    ] {
        let path = write(&stage, name, damaged);
        let filter = stage.open(&stage.settings(&path, Mode::Generic));
        assert_off(&stage, filter, &[name, "not greygate's kernel program"]);
    }
}

#[test]
fn one_interface_that_does_not_exist_leaves_the_other_filtered() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::Generic);
    settings.interfaces.insert(0, "nowhere0".to_owned());
    let filter = stage.open(&settings);
    let [missing, present] = &on(filter.as_ref()).interfaces[..] else {
        panic!("two interfaces are configured");
    };
    assert_eq!(missing.mode, ObtainedMode::Detached);
    assert!(
        missing
            .why
            .as_ref()
            .is_some_and(|why| why.contains("nowhere0"))
    );
    assert_eq!(
        (present.name.as_str(), present.mode),
        (INTERFACE, ObtainedMode::Generic)
    );
}

#[test]
fn beside_somebody_elses_program() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    for (theirs, ours) in [
        (XdpMode::Skb, Mode::Generic),
        (XdpMode::Skb, Mode::NativePreferred),
        (XdpMode::Driver, Mode::NativePreferred),
        (XdpMode::Driver, Mode::Generic),
    ] {
        let mut stranger = stranger(&object);
        let program: &mut Xdp = xdp(&mut stranger);
        stage
            .mx
            .run(|| program.attach(INTERFACE, theirs))
            .expect("an empty interface");
        let id = u64::from(program.info().expect("a loaded program").id());
        assert_eq!(stage.program(), Some(id));
        let filter = stage.open(&stage.settings(&object, ours));
        assert_off(
            &stage,
            filter,
            &[INTERFACE, "`stranger`", &id.to_string(), "replaces none"],
        );
        assert_eq!(stage.program(), Some(id), "the stranger was left in place");

        // Nor where there would be pins, which are then not made.
        let (pinned, _bpffs) = with_bpffs(&stage, &object);
        let pinned = Settings {
            mode: ours,
            ..pinned
        };
        let filter = stage.open(&pinned);
        assert_off(&stage, filter, &[INTERFACE, "`stranger`", "replaces none"]);
        assert_eq!(stage.program(), Some(id), "the stranger was left in place");
        let load = || kernel::load(&pinned);
        let error = stage.mx.run(load).expect_err("somebody is there");
        assert!(error.to_string().contains("`stranger`"), "{error}");
        assert!(!pinned.pin_directory.exists());
    }
}

/// What is pinned under the name of our link may be anything.
#[test]
fn with_a_strangers_link_for_a_pin() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut stranger = stranger(&object);
    let program: &mut Xdp = xdp(&mut stranger);
    let link = stage
        .mx
        .run(|| program.attach(INTERFACE, XdpMode::Skb))
        .expect("an empty interface");
    let id = stage.program();
    let link = program.take_link(link).expect("it was just attached");
    let link = FdLink::try_from(link).expect("a kernel that has links");
    std::fs::create_dir(&settings.pin_directory).expect("a bpffs has directories");
    let rights = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&settings.pin_directory, rights).expect("our own directory");
    let pin = settings.pin_directory.join(format!("link-{INTERFACE}"));
    link.pin(&pin).expect("a bpffs");
    let filter = stage.open(&settings);
    assert_off(&stage, filter, &["`stranger`", "replaces none"]);
    assert_eq!(stage.program(), id, "the stranger was left in place");
    assert!(pin.exists(), "and his pin");
}

/// A tunnel without Ethernet headers: generic mode would take the program, which would read an IP
/// header for one.
#[test]
fn on_an_interface_without_ethernet_frames() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::NativePreferred);
    let ip = |arguments: &[&str]| stage.mx.ip(arguments).expect("root may make devices");
    ip(&["tuntap", "add", "mode", "tun", "name", "tun7"]);
    settings.interfaces = vec!["tun7".to_owned()];
    let filter = stage.open(&settings);
    assert_off(&stage, filter, &["`tun7`", "no Ethernet header"]);
    assert_eq!(stage.program_on("tun7"), None);

    ip(&["tuntap", "add", "mode", "tap", "name", "tap7"]);
    settings.interfaces = vec!["tap7".to_owned()];
    let filter = stage.open(&settings);
    assert_ne!(
        on(filter.as_ref()).interfaces[0].mode,
        ObtainedMode::Detached
    );
}

#[test]
fn beside_another_greygate() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::NativePreferred);
    let first = stage.open(&settings);
    let second = stage.open(&settings);
    assert_off(&stage, second, &["already filtered by greygate"]);
    assert_eq!(on(first.as_ref()).interfaces[0].mode, ObtainedMode::Native);
}

#[test]
fn native_mode_that_is_required_but_not_to_be_had() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, Mode::NativeRequired);
    // The loopback has no native XDP.
    settings.interfaces = vec!["lo".to_owned()];
    assert_off(
        &stage,
        stage.open(&settings),
        &["`lo`", "native", "os error"],
    );

    settings.mode = Mode::NativePreferred;
    let filter = stage.open(&settings);
    let loopback = &on(filter.as_ref()).interfaces[0];
    assert_eq!(loopback.mode, ObtainedMode::Generic);
    assert!(
        loopback
            .why
            .as_ref()
            .is_some_and(|why| why.contains("native"))
    );
}

#[test]
fn with_the_panic_flag_up() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let settings = stage.settings(&object, Mode::Generic);
    std::fs::write(&settings.panic_file, "").expect("a writable directory");
    assert_off(
        &stage,
        stage.open(&settings),
        &["xdp panic", "remove", "xdp-panic"],
    );
    std::fs::remove_file(&settings.panic_file).expect("our own file");
    on(stage.open(&settings).as_ref());
}

/// The object is a pipe, which holds the start up between its look for the flag and its attaching.
#[test]
fn when_panic_comes_while_it_starts() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let bytes = std::fs::read(&object).expect("a readable object");
    let pipe = stage.path("pipe.o");
    mkfifo(&pipe, Rights::S_IRWXU).expect("a writable directory");
    let settings = stage.settings(&pipe, Mode::Generic);
    let filter = thread::scope(|scope| {
        let starting = scope.spawn(|| stage.open(&settings));
        // Opens once the other side does, which has passed its first look then.
        let mut pipe = File::options().write(true).open(&pipe).expect("a pipe");
        std::fs::write(&settings.panic_file, "").expect("a writable directory");
        pipe.write_all(&bytes).expect("somebody reads");
        drop(pipe);
        starting.join().expect("open never fails")
    });
    assert_off(&stage, filter, &["xdp panic"]);
    assert_eq!(stage.program(), None);
}

#[test]
fn without_the_rights_of_root() {
    let ((), object, setpriv) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("setpriv")
    );
    let stage = Stage::new();
    let printed = run_as_nobody(&stage, &object, &setpriv, "-all");
    for words in [
        "kernel filter is off",
        "CAP_BPF and CAP_NET_ADMIN",
        "os error 1",
    ] {
        assert!(printed.contains(words), "`{words}` is not in: {printed}");
    }
    assert_eq!(stage.program(), None);
}

#[test]
fn never_with_the_rights_of_the_shipped_unit() {
    let ((), object, setpriv) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("setpriv")
    );
    let unit = include_str!("../../greylist-user/dist/greygate.service");
    let granted = unit
        .lines()
        .find_map(|line| line.strip_prefix("AmbientCapabilities="))
        .expect("the unit grants capabilities");
    let granted = granted
        .split_whitespace()
        .fold("-all".to_owned(), |all, name| {
            let name = name.trim_start_matches("CAP_").to_lowercase();
            format!("{all},+{name}")
        });
    let stage = Stage::new();
    let printed = run_as_nobody(&stage, &object, &setpriv, &granted);
    assert!(printed.contains("kernel filter is on"), "{printed}");
    assert_eq!(stage.program(), None, "it ended with its process");
}

/// This binary runs itself again as a user with no capabilities but those; the inner run is the
/// test below. Returns what it printed.
fn run_as_nobody(stage: &Stage, object: &Path, setpriv: &Path, capabilities: &str) -> String {
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(stage.directory.path(), everybody).expect("our own directory");
    let binary = stage.path("kernel-tests");
    copy_program(&std::env::current_exe().expect("this binary"), &binary).expect("a copy");
    let copy = stage.path("greygate-xdp.o");
    std::fs::copy(object, &copy).expect("a copy");
    let mut inner = Command::new(setpriv);
    inner
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(
            ["inh-caps", "ambient-caps", "bounding-set"]
                .map(|set| format!("--{set}={capabilities}")),
        )
        .arg(&binary)
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "refusals::inner_run_as_nobody",
        ])
        .env("GREYGATE_XDP_OBJECT", &copy)
        .current_dir("/");
    let output = stage
        .mx
        .run(|| inner.output())
        .expect("the copy can be run");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{printed}");
    printed
}

#[test]
#[ignore = "run by the two tests above, as a user without the rights of root"]
fn inner_run_as_nobody() {
    let filter = kernel::open(&Settings {
        interfaces: vec![INTERFACE.to_owned()],
        object: requirements::xdp_object().expect("the outer run gives it"),
        panic_file: PathBuf::from("/nonexistent/xdp-panic"),
        ..Settings::default()
    });
    match filter.status() {
        FilterStatus::Off { why } => println!("kernel filter is off: {why}"),
        FilterStatus::On(status) => println!("kernel filter is on: {:?}", status.interfaces),
    }
}

/// Our own program under another name and without our mark: to the kernel, and to greygate, somebody
/// else's.
fn stranger(object: &Path) -> Ebpf {
    let mut bytes = std::fs::read(object).expect("a readable object");
    let name = [b"\0", abi::PROGRAM.as_bytes(), b"\0"].concat();
    let at = find(&bytes, ".strtab", &name) + 1;
    bytes[at..at + STRANGER.len()].copy_from_slice(STRANGER.as_bytes());
    let at = find(&bytes, ".rodata", &abi::MARK);
    bytes[at..at + abi::MARK.len()].fill(0);
    let mut ebpf = Ebpf::load(&bytes).expect("the same program");
    xdp(&mut ebpf).load().expect("the same program");
    ebpf
}

fn xdp(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut(STRANGER)
        .expect("the program goes by the name in the table of symbols")
        .try_into()
        .expect("an XDP program")
}

/// Where in the file `what` lies, which is in the section `name`.
fn find(object: &[u8], name: &str, what: &[u8]) -> usize {
    let section = section(object, name);
    let at = object[section.clone()]
        .windows(what.len())
        .position(|window| window == what);
    section.start + at.unwrap_or_else(|| panic!("{what:?} is not in {name}"))
}

/// Where in the file a section of the object lies.
fn section(object: &[u8], name: &str) -> Range<usize> {
    let (offset, length) = object::File::parse(object)
        .expect("an ELF file")
        .section_by_name(name)
        .and_then(|section| section.file_range())
        .unwrap_or_else(|| panic!("the object has no section {name}"));
    let start = usize::try_from(offset).expect("a small file");
    start..start + usize::try_from(length).expect("a small file")
}

fn write(stage: &Stage, name: &str, bytes: &[u8]) -> PathBuf {
    let path = stage.path(name);
    std::fs::write(&path, bytes).expect("a writable directory");
    path
}

/// As long as [`abi::PROGRAM`].
const STRANGER: &str = "stranger";
