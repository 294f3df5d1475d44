//! The real daemon and the real command line: killed, hung up on, locked out by one another, and
//! left without rights.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use greygate::kernel::{self, FilterStatus, Mode, ObtainedMode, Settings};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, setresuid},
};
use serde_json::Value;
use support::{
    greygate::{self as daemon, Greygate},
    interrupt::settle,
    needs, process, requirements,
};

use crate::stage::{CASTS, Cast, INTERFACE, Stage, lay_cable, on, with_bpffs};

const PATIENCE: Duration = Duration::from_secs(20);

/// What befalls a trial.
type Ending = Box<dyn Fn(&mut Child)>;

#[test]
fn killed_daemon_leaves_a_filter_that_lapses_by_itself() {
    let ((), object, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        daemon::binary()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let directory = stage.path("greygate");
    let mut greygate = start(&stage, &settings);
    let Cast {
        sentenced,
        other,
        mx,
        mx_for_other,
    } = CASTS[0];
    greygate
        .run(&["punish", sentenced, "--for", "15s"])
        .expect("it is obeyed");
    let is_dropped = || stage.knock(sentenced, mx).is_err().then_some(());
    settle(PATIENCE, is_dropped).expect("it is dropped");

    greygate.kill().expect("it can be killed");
    stage.assert_dropped(sentenced, mx);
    stage.assert_served(other, mx_for_other, 25);
    let status = say(&stage, &directory, &["xdp", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(
        status["pinned_in"],
        settings.pin_directory.to_str().expect("a plain path")
    );
    let line = &status["sentences"][0];
    assert_eq!(
        (&line["client"], &line["level"]),
        (&"192.0.2.7/32".into(), &"block".into())
    );
    assert_eq!(
        status["filter"]["interfaces"][0]["mode"], "native",
        "{status}"
    );
    assert_eq!(
        status["filter"]["interfaces"][0]["pinned"], true,
        "{status}"
    );
    let words = say(&stage, &directory, &["xdp", "status"]);
    assert!(
        words.contains("no daemon runs") && words.contains("mx0 native"),
        "{words}"
    );
    // Nobody is there to forgive; only the kernel's clock.
    let is_served = || stage.knock(sentenced, mx).is_ok().then_some(());
    settle(PATIENCE, is_served).expect("the sentence ends on time");

    let program = stage.program();
    greygate.resume(&stage.mx).expect("it takes over");
    assert_ne!(stage.program(), program);
    greygate.stop().expect("it ends when asked");
    assert!(
        stage.program().is_some(),
        "stopping is no reason to stop filtering"
    );
    let unloaded = say(&stage, &directory, &["xdp", "unload"]);
    assert!(unloaded.contains("link-mx0"), "{unloaded}");
    stage.wait_until_unloaded();
}

#[test]
fn running_daemon_keeps_the_commands_off_its_pins() {
    let ((), object, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        daemon::binary()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let _greygate = start(&stage, &settings);
    let program = stage.program();
    for command in ["load", "unload"] {
        let (code, words) = complaint(&stage, &["xdp", command]);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("must be stopped first"), "{words}");
    }
    assert_eq!(stage.program(), program);
}

#[test]
fn trial_that_is_confirmed_stays() {
    let ((), object, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        daemon::binary()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut trial = begin_trial(&stage, &settings, "60s");
    assert!(
        !settings.pin_directory.join("link-mx0").exists(),
        "only the process holds it"
    );
    let mut stdin = trial.stdin.take().expect("a pipe");
    stdin.write_all(b"\n").expect("it reads");
    let (code, words) = end(trial);
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains("filtering mx0 (native); pinned in"),
        "{words}"
    );
    assert!(stage.program().is_some());
    assert!(settings.pin_directory.join("link-mx0").exists());

    let (code, words) = complaint(&stage, &["xdp", "load", "--confirm-within", "60s"]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("nothing to try out"), "{words}");
    assert!(stage.program().is_some());
}

#[test]
fn trial_that_nobody_confirms_leaves_nothing() {
    let ((), object, _) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object(),
        daemon::binary()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let send = |signal| {
        move |trial: &mut Child| {
            let pid = Pid::from_raw(trial.id().cast_signed());
            kill(pid, signal).expect("our own child");
        }
    };
    let endings: [(&str, &str, Ending); 7] = [
        ("1s", "not confirmed within 1s", Box::new(|_| ())),
        (
            "60s",
            "standard input has ended",
            Box::new(|trial| drop(trial.stdin.take())),
        ),
        ("60s", "ended by SIGHUP", Box::new(send(Signal::SIGHUP))),
        ("60s", "ended by SIGINT", Box::new(send(Signal::SIGINT))),
        ("60s", "ended by SIGTERM", Box::new(send(Signal::SIGTERM))),
        // A command that sleeps would never take the filter off.
        ("60s", "ended by SIGTSTP", Box::new(send(Signal::SIGTSTP))),
        (
            "1s",
            "not confirmed within 1s",
            Box::new(send(Signal::SIGTTIN)),
        ),
    ];
    for (time, why, ending) in endings {
        let mut trial = begin_trial(&stage, &settings, time);
        ending(&mut trial);
        let (code, words) = end(trial);
        assert_eq!(code, Some(1), "{words}");
        assert!(
            words.contains(why) && words.contains("detached again"),
            "{words}"
        );
        stage.wait_until_unloaded();
        assert!(!settings.pin_directory.exists());
    }

    let trial = begin_trial(&stage, &settings, "60s");
    let pid = Pid::from_raw(trial.id().cast_signed());
    kill(pid, Signal::SIGKILL).expect("our own child");
    let (code, _) = end(trial);
    assert_eq!(code, None, "killed");
    let is_gone = || stage.program().is_none().then_some(());
    settle(PATIENCE, is_gone).expect("the kernel detaches what nobody holds");
}

/// What the daemon needs after it has given up its rights: an interface that comes back is attached
/// to, and pinned, by a user without any capability.
#[test]
fn interface_that_comes_back_is_attached_to_without_any_capability() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let (settings, _bpffs) = with_bpffs(&stage, &object);
    let mut inner = Command::new(std::env::current_exe().expect("this binary"));
    inner
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "commands::inner_run_that_loses_its_rights",
        ])
        .env("GREYGATE_XDP_OBJECT", &object)
        .env(PINS, &settings.pin_directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut inner = stage.mx.spawn(&mut inner).expect("this binary runs");
    let mut printed = BufReader::new(inner.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("without rights") {
        line.clear();
        assert!(
            printed.read_line(&mut line).expect("text") > 0,
            "it ended early"
        );
    }
    stage
        .mx
        .ip(&["link", "del", INTERFACE])
        .expect("our own cable");
    lay_cable(&stage.mx, &stage.clients);
    stage.wait_until_unloaded();
    let mut stdin = inner.stdin.take().expect("a pipe");
    stdin.write_all(b"\n").expect("it reads");
    let mut rest = String::new();
    printed.read_to_string(&mut rest).expect("text");
    let status = inner.wait().expect("it ends");
    assert!(status.success(), "{rest}");
    assert!(stage.program().is_some(), "it is pinned: {rest}");
}

#[test]
#[ignore = "run by the test above, in a process that can give up its rights"]
fn inner_run_that_loses_its_rights() {
    let pin_directory = PathBuf::from(std::env::var_os(PINS).expect("the outer run gives it"));
    let mut filter = kernel::open(&Settings {
        interfaces: vec![INTERFACE.to_owned()],
        mode: Mode::NativeRequired,
        capacity: 16,
        object: requirements::xdp_object().expect("the outer run gives it"),
        panic_file: PathBuf::from("/nonexistent/xdp-panic"),
        pin_directory: pin_directory.clone(),
        ..Settings::default()
    });
    let FilterStatus::On(_) = filter.status() else {
        panic!("{:?}", filter.status());
    };
    // As where the daemon has a user and a pin directory of its own.
    let nobody = Uid::from_raw(65_534);
    for path in [pin_directory.clone(), pin_directory.join("link-mx0")] {
        chown(path, Some(nobody.as_raw()), None).expect("root may give it away");
    }
    // Not root any more, it has no capability any more: capabilities(7).
    setresuid(nobody, nobody, nobody).expect("root may become nobody");
    let status = fs::read_to_string("/proc/self/status").expect("text");
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000\n")),
            "{status}"
        );
    }
    println!("without rights");
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("a line");
    filter.tend();
    let interface = on(filter.as_ref()).interfaces.remove(0);
    assert_eq!(
        (interface.mode, interface.pinned),
        (ObtainedMode::Native, true),
        "{interface:?}"
    );
}

/// Names the pin directory to the inner run.
const PINS: &str = "GREYGATE_TEST_PINS";

/// Starts the daemon on the MX with the filter of `settings`.
fn start(stage: &Stage, settings: &Settings) -> Greygate {
    let tweak = xdp(settings);
    Greygate::start(&stage.mx, &stage.path("greygate"), &[&tweak]).expect("it starts")
}

/// The section of the configuration that asks for the filter of `settings`.
fn xdp(settings: &Settings) -> String {
    let Settings {
        object,
        pin_directory,
        panic_file,
        capacity,
        ..
    } = settings;
    format!(
        "[xdp]\ninterfaces = [\"{INTERFACE}\"]\ncapacity = {capacity}\nobject = \"{}\"\n\
         pin_directory = \"{}\"\npanic_file = \"{}\"\n",
        object.display(),
        pin_directory.display(),
        panic_file.display(),
    )
}

/// Starts `xdp load --confirm-within`, and waits until the program is attached.
fn begin_trial(stage: &Stage, settings: &Settings, time: &str) -> Child {
    let directory = stage.path("greygate");
    fs::create_dir_all(&directory).expect("a writable directory");
    fs::write(directory.join("greygate.toml"), xdp(settings)).expect("a writable directory");
    let mut command = Command::new(daemon::binary().expect("it was needed"));
    command
        .args(["xdp", "load", "--confirm-within", time, "--config"])
        .arg(directory.join("greygate.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut trial = stage.mx.spawn(&mut command).expect("it can be run");
    let mut asked = String::new();
    let stderr = trial.stderr.as_mut().expect("a pipe");
    let mut byte = [0];
    while !asked.ends_with('\n') {
        assert!(stderr.read(&mut byte).expect("text") > 0, "{asked}");
        asked.push(char::from(byte[0]));
    }
    assert!(asked.contains("press Enter within"), "{asked}");
    trial
}

/// The exit code of a trial, and what it printed since it asked.
fn end(mut trial: Child) -> (Option<i32>, String) {
    // Held open until it ends: the end of it would be an answer.
    let _stdin = trial.stdin.take();
    let output = trial.wait_with_output().expect("it ends");
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

/// Runs a command inside the MX; what it printed.
fn say(stage: &Stage, directory: &Path, arguments: &[&str]) -> String {
    stage
        .mx
        .run(|| process::run(&mut with_configuration(directory, arguments)))
        .expect("it does what it is told")
}

/// Runs a command inside the MX that is to fail; its exit code and what it complained of.
fn complaint(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = with_configuration(&stage.path("greygate"), arguments);
    let output = stage.mx.run(|| command.stdin(Stdio::null()).output());
    let output = output.expect("it can be run");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), words)
}

fn with_configuration(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(daemon::binary().expect("it was needed"));
    command
        .args(arguments)
        .arg("--config")
        .arg(directory.join("greygate.toml"));
    command
}
