//! A daemon that runs has no right left, whoever started it, and does all of its work.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aya::programs::loaded_programs;
use greygate::kernel::{self, FilterStatus, Mode, ObtainedMode, Settings};
use support::{
    bpffs::BpfFs,
    error::Error,
    greygate::{self as daemon, Greygate},
    interrupt,
    mta::Mta,
    needs, process, requirements,
};

use crate::pinned::no_other_greygate;
use crate::stage::{CASTS, Cast, INTERFACE, Stage, lay_cable};

const PATIENCE: Duration = Duration::from_secs(20);

/// `nobody` and its group, everywhere.
const NOBODY: u32 = 65_534;

#[test]
fn root_gives_everything_up_and_goes_on_working() -> Result<(), Error> {
    let ((), object, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        daemon::binary()
    );
    let stage = Stage::new();
    let home = home(&stage);
    // Only who may give files away can give the socket to the group of nobody.
    let socket = home.join("milter.sock");
    let listen = format!(
        "[milter]\nlisten = [\"inet:127.0.0.1:8892\", \"unix:{}\"]\nusers = [\"nobody\"]\n",
        socket.display()
    );
    let greygate = Greygate::start(&stage.mx, &home, &[&xdp(&object), &listen])?;
    let file = fs::metadata(&socket).expect("the milter's socket");
    assert_eq!(file.gid(), NOBODY);
    let mut had = works_without_rights(&stage, greygate, &[&xdp(&object), &listen])?;
    had.retain(|right| ["CAP_BPF", "CAP_CHOWN", "CAP_NET_ADMIN"].contains(&right.as_str()));
    assert_eq!(had, ["CAP_BPF", "CAP_CHOWN", "CAP_NET_ADMIN"]);
    Ok(())
}

#[test]
fn user_of_the_unit_gives_its_two_up_and_goes_on_working() -> Result<(), Error> {
    let ((), object, setpriv, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("setpriv"),
        daemon::binary()
    );
    let stage = Stage::new();
    let home = home(&stage);
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let object = copy_for_everybody(&stage, &object);
    let launcher = as_nobody(&setpriv, "-all,+bpf,+net_admin");
    let greygate = Greygate::launch(&launcher, &stage.mx, &home, &[&xdp(&object)])?;
    let had = works_without_rights(&stage, greygate, &[&xdp(&object)])?;
    assert_eq!(had, ["CAP_BPF", "CAP_NET_ADMIN"]);
    Ok(())
}

/// Root has no right over the files of others once it has dropped it, so it must not begin on them.
#[test]
fn root_is_told_at_the_start_that_the_store_belongs_to_another() {
    let ((), _) = needs!(requirements::network_namespaces(), daemon::binary());
    let stage = Stage::new();
    let home = home(&stage);
    let store = home.join("state");
    fs::create_dir(&store).expect("our own directory");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).expect("our own directory");
    chown(&store, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let error = Greygate::start(&stage.mx, &home, &[]).expect_err("it could not save anything");
    let told = error.chain();
    let store = store.to_str().expect("a plain path");
    assert!(told.contains(store) && told.contains("chown"), "{told}");
}

/// The unit's own command makes the place for the pins, its user pins there, and whatever becomes of
/// the daemon, the filter stays. All that comes later is done without a right.
#[test]
fn filter_of_the_unit_outlives_its_daemon_and_its_interface() -> Result<(), Error> {
    let ((), object, setpriv, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("setpriv"),
        daemon::binary()
    );
    let stage = Stage::new();
    let home = home(&stage);
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let place = stage.path("bpf");
    let _place = run_as_the_unit_does(&place)?;
    let owner = fs::metadata(&place).expect("a mounted place");
    assert_eq!((owner.uid(), owner.mode() & 0o777), (NOBODY, 0o700));

    let object = copy_for_everybody(&stage, &object);
    let pins = format!("[xdp]\npin_directory = \"{}/pins\"\n", place.display());
    let launcher = as_nobody(&setpriv, "-all,+bpf,+net_admin");
    let mut greygate = Greygate::launch(&launcher, &stage.mx, &home, &[&xdp(&object), &pins])?;
    assert_eq!(rights_left(&greygate), Vec::<String>::new());
    let Cast { sentenced, mx, .. } = CASTS[0];
    greygate.run(&["punish", sentenced, "--for", "10m"])?;
    wait_until_dropped(&stage, sentenced, mx)?;
    // A crash loses what is newer than the snapshot; this one shall lose nothing.
    greygate.run(&["snapshot"])?;

    greygate.kill()?;
    stage.assert_dropped(sentenced, mx);
    assert!(stage.program().is_some(), "the pins hold it");

    // The next daemon finds the entry, with what it has counted, and rules it.
    greygate.resume(&stage.mx)?;
    assert!(greygate.dropped_frames()? > 0, "{}", greygate.log());
    stage.assert_dropped(sentenced, mx);

    stage.mx.ip(&["link", "del", INTERFACE])?;
    lay_cable(&stage.mx, &stage.clients);
    wait_until_dropped(&stage, sentenced, mx)?;
    assert_eq!(rights_left(&greygate), Vec::<String>::new());

    greygate.run(&["forgive", sentenced])?;
    wait_until_served(&stage, sentenced, mx)?;
    let status = greygate.stop()?;
    assert!(status.success(), "{}", greygate.log());
    assert!(stage.program().is_some(), "a stop leaves the filter");
    Ok(())
}

/// A program that was loaded with the unit's two rights has no name in the kernel; by its mark, root
/// knows it all the same, to look at it, to take it over, and to end it.
#[test]
fn root_knows_the_nameless_program_of_the_unit() -> Result<(), Error> {
    let ((), object, setpriv, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        requirements::program("setpriv"),
        daemon::binary()
    );
    let stage = Stage::alone();
    needs!(no_other_greygate());
    let home = home(&stage);
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let place = stage.path("bpf");
    let _place = run_as_the_unit_does(&place)?;
    let object = copy_for_everybody(&stage, &object);
    let settings = Settings {
        pin: true,
        pin_directory: place.join("pins"),
        capacity: Settings::default().capacity,
        ..stage.settings(&object, Mode::NativePreferred)
    };
    let pins = format!("[xdp]\npin_directory = \"{}/pins\"\n", place.display());
    let launcher = as_nobody(&setpriv, "-all,+bpf,+net_admin");
    let mut greygate = Greygate::launch(&launcher, &stage.mx, &home, &[&xdp(&object), &pins])?;
    assert_eq!(name_of_the_program(&stage), "");
    let Cast { sentenced, mx, .. } = CASTS[0];
    greygate.run(&["punish", sentenced, "--for", "10m"])?;
    wait_until_dropped(&stage, sentenced, mx)?;
    greygate.run(&["snapshot"])?;
    greygate.kill()?;
    // Root trusts the unit's user by its name, which this one does not have.
    give_to_root(&settings.pin_directory);
    let looked = stage.mx.run(|| kernel::look(&settings)).expect("ours");
    let FilterStatus::On(on) = looked.expect("it is pinned").filter else {
        panic!("it is on");
    };
    let [interface] = &on.interfaces[..] else {
        panic!("one is configured: {:?}", on.interfaces);
    };
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, true)
    );
    let loaded = stage
        .mx
        .run(|| kernel::load(&settings))
        .expect("it is ours");
    assert_eq!(loaded.entries, 1);
    stage.assert_dropped(sentenced, mx);
    kernel::unload(&settings).expect("it is ours");
    stage.wait_until_unloaded();

    greygate.resume(&stage.mx)?;
    assert_eq!(name_of_the_program(&stage), "");
    wait_until_dropped(&stage, sentenced, mx)?;
    kernel::panic(&settings).expect("root may");
    stage.wait_until_unloaded();
    stage.assert_served(sentenced, mx, 25);
    greygate.stop()?;
    Ok(())
}

fn give_to_root(directory: &Path) {
    chown(directory, Some(0), Some(0)).expect("root may take it");
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            give_to_root(&path);
        } else {
            chown(&path, Some(0), Some(0)).expect("root may take it");
        }
    }
}

/// The name that the kernel has for the program on the MX's interface.
fn name_of_the_program(stage: &Stage) -> String {
    let id = stage.program().expect("a program");
    let programs = loaded_programs().filter_map(Result::ok);
    let program = programs.into_iter().find(|it| u64::from(it.id()) == id);
    String::from_utf8_lossy(program.expect("root sees all").name()).into_owned()
}

/// Does what the unit does before it starts the daemon, for another place and user; twice, as at a
/// restart.
fn run_as_the_unit_does(place: &Path) -> Result<BpfFs, Error> {
    let unit = include_str!("../../greylist-user/dist/greygate-bpf.service");
    let script = unit
        .lines()
        .find_map(|line| {
            line.strip_prefix("ExecStart=/bin/sh -c '")?
                .strip_suffix('\'')
        })
        .expect("the unit makes the place");
    let place = place.to_str().expect("a plain path");
    let script = script
        .replace("/run/greygate-bpf", place)
        .replace("greygate:greygate", &format!("{NOBODY}:{NOBODY}"));
    let make = || process::run(Command::new("/bin/sh").args(["-c", &script]));
    make()?;
    let mounted = BpfFs::mounted(place);
    make()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the kernel's list");
    let times = mounts.lines().filter(|line| line.contains(place)).count();
    assert_eq!(times, 1, "it is mounted once");
    Ok(mounted)
}

fn wait_until_dropped(stage: &Stage, from: &str, to: &str) -> Result<(), Error> {
    interrupt::wait_for("the sentence in the kernel", PATIENCE, || {
        Ok(stage.knock(from, to).is_err().then_some(()))
    })?;
    stage.assert_dropped(from, to);
    Ok(())
}

fn wait_until_served(stage: &Stage, from: &str, to: &str) -> Result<(), Error> {
    interrupt::wait_for("the forgiveness in the kernel", PATIENCE, || {
        Ok(stage.knock(from, to).is_ok().then_some(()))
    })
}

/// Plays a day of the daemon's life in short. Returns what it had at its start, as it tells.
fn works_without_rights(
    stage: &Stage,
    mut greygate: Greygate,
    tweaks: &[&str],
) -> Result<Vec<String>, Error> {
    assert_eq!(rights_left(&greygate), Vec::<String>::new());
    let Cast { sentenced, mx, .. } = CASTS[0];

    stage.assert_served(sentenced, mx, 25);
    greygate.run(&["punish", sentenced, "--for", "5m"])?;
    wait_until_dropped(stage, sentenced, mx)?;
    assert!(greygate.dropped_frames()? > 0);

    greygate.reload(tweaks)?;
    interrupt::wait_for("the reload", PATIENCE, || {
        Ok(greygate.log().contains("reloaded").then_some(()))
    })?;
    greygate.run(&["snapshot"])?;
    let endpoint = "inet:127.0.0.1:8892".parse().expect("an endpoint");
    let client = "203.0.113.7".parse().expect("an address");
    let answer = stage.mx.run(|| {
        let mut mta = Mta::open(&endpoint, client)?;
        mta.mail("someone@sender.example")?;
        mta.rcpt("someone@recipient.example")
    });
    let answer = answer.map_err(Error::io("asking the milter"))?;
    assert!(answer.is_deferral(), "{answer:?}");

    greygate.run(&["forgive", sentenced])?;
    wait_until_served(stage, sentenced, mx)?;
    assert_eq!(rights_left(&greygate), Vec::<String>::new());

    let status = greygate.stop()?;
    let log = greygate.log();
    assert!(status.success(), "{log}");
    let told = log.lines().find(|line| line.contains("rights-dropped"));
    let told = told.unwrap_or_else(|| panic!("it does not tell its rights: {log}"));
    assert!(told.contains("left=\"none\""), "{told}");
    let had = told.split('"').nth(1).expect("a field in quotes");
    Ok(had.split(' ').map(str::to_owned).collect())
}

/// Each right that a thread of the daemon has, and each thread that could win one back.
fn rights_left(greygate: &Greygate) -> Vec<String> {
    let pid = greygate.pid().expect("it runs");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let statuses = tasks.map(|task| {
        let path = task.expect("a thread").path().join("status");
        fs::read_to_string(path).expect("a thread that runs as long as the daemon")
    });
    let statuses: Vec<String> = statuses.collect();
    assert!(statuses.len() > 4, "the daemon has its threads now");
    let lines = statuses.iter().flat_map(|status| status.lines());
    let kept = lines.filter(|line| match line.split_once(":\t") {
        Some(("CapInh" | "CapPrm" | "CapEff" | "CapAmb", set)) => set != "0000000000000000",
        Some(("NoNewPrivs", set)) => set != "1",
        _ => false,
    });
    kept.map(str::to_owned).collect()
}

fn home(stage: &Stage) -> PathBuf {
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(stage.directory.path(), everybody).expect("our own directory");
    let home = stage.path("home");
    fs::create_dir(&home).expect("our own directory");
    home
}

fn copy_for_everybody(stage: &Stage, object: &Path) -> PathBuf {
    let copy = stage.path("greygate-xdp.o");
    fs::copy(object, &copy).expect("a copy");
    copy
}

/// The words that run a program as nobody, with `capabilities` as systemd would grant them.
fn as_nobody(setpriv: &Path, capabilities: &str) -> Vec<String> {
    let sets = ["inh-caps", "ambient-caps", "bounding-set"];
    let mut words = vec![
        setpriv.display().to_string(),
        "--reuid=65534".to_owned(),
        "--regid=65534".to_owned(),
        "--clear-groups".to_owned(),
    ];
    words.extend(sets.map(|set| format!("--{set}={capabilities}")));
    words
}

fn xdp(object: &Path) -> String {
    format!(
        "[xdp]\ninterfaces = [\"{INTERFACE}\"]\nobject = \"{}\"\n",
        object.display()
    )
}
