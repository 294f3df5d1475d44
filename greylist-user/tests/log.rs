//! The log of a real daemon, read as a program reads it: one JSON object a line, one line a verdict, and
//! no more lines than strangers are allowed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

#[test]
fn each_verdict_is_one_line_with_its_documented_fields() {
    let daemon = Daemon::start("format = \"json\"");
    daemon.attempt("<s@a.example>", "<r@b.example>");
    daemon.attempt("<s@a.example>", "<r@b.example>");
    let verdicts = daemon.wait_for("deferred", 2);
    let fields = |reason: &str| {
        let line = verdicts.iter().find(|it| it["reason"] == reason);
        line.unwrap_or_else(|| panic!("{reason} is not in {verdicts:?}"))
    };
    let new = fields("new");
    for (field, value) in [
        ("level", "info"),
        ("verdict", "deferred"),
        ("client", "192.0.2.7"),
        ("helo", "mail.a.example"),
        ("reverse_path", "s@a.example"),
        ("recipient", "r@b.example"),
    ] {
        assert_eq!(new[field], value, "{new}");
    }
    let early = fields("early");
    assert!(
        early["left"].as_u64().is_some_and(|left| left > 100),
        "{early}"
    );
    assert!(
        new["time"].as_str().is_some_and(|it| it.ends_with('Z')),
        "{new}"
    );
}

#[test]
fn verdicts_that_are_not_asked_for_are_not_told() {
    let daemon = Daemon::start("format = \"json\"\nverdicts = \"passed\"");
    daemon.attempt("<s@a.example>", "<r@b.example>");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded", 1);
    assert!(daemon.events("deferred").is_empty(), "{:?}", daemon.lines());
}

#[test]
fn flood_of_strangers_is_bounded_and_the_operator_is_heard() {
    let daemon = Daemon::start("format = \"json\"\nrate = 2");
    let begun = Instant::now();
    for _ in 0..400 {
        let mut stranger = daemon.connect();
        let _: io::Result<()> = stranger.write_all(b"GET / HTTP/1.1\r\n\r\n");
        // Until it hangs up, so that the line has been thought of.
        let _: io::Result<usize> = stranger.read_to_end(&mut Vec::new());
    }
    fs::write(daemon.place.path().join("greygate.toml"), "[milter\n").expect("it is ours");
    daemon.signal(Signal::SIGHUP);
    let unreloaded = daemon.wait_for("unreloaded", 1);
    assert_eq!(unreloaded[0]["level"], "error");
    let told = daemon.events("bad-input").len();
    let allowed = 2 * (5 + usize::try_from(begun.elapsed().as_secs()).expect("seconds") + 1);
    assert!(
        (10..=allowed).contains(&told),
        "{told} lines, {allowed} allowed"
    );
    let suppressed = daemon.wait_for("suppressed", 1);
    assert_eq!(suppressed[0]["word"], "bad-input");
    assert!(
        suppressed[0]["suppressed"].as_u64() > Some(100),
        "{suppressed:?}"
    );
}

/// Lines go to the journal where there is one, and to standard error, with a word on it, where not.
#[test]
fn journal_that_is_not_there_is_told_and_standard_error_takes_its_place() {
    let daemon = Daemon::start_with("to = \"journal\"\nformat = \"json\"");
    let has_journal = Path::new("/run/systemd/journal/socket").exists();
    let lines = daemon.lines();
    let words: Vec<_> = lines.iter().map(|it| &it["event"]).collect();
    if has_journal {
        assert!(words.is_empty(), "{words:?}");
    } else {
        assert_eq!(words[0], "journald-missing");
        assert!(words.contains(&&Value::from("listening")), "{words:?}");
    }
}

const GREYGATE: &str = env!("CARGO_BIN_EXE_greygate");
const PATIENCE: Duration = Duration::from_secs(30);

struct Daemon {
    place: TempDir,
    process: Child,
    port: u16,
}

impl Daemon {
    /// A daemon that says on standard error where it listens.
    fn start(log: &str) -> Self {
        let mut daemon = Self::start_with(log);
        let endpoint = daemon.wait_for("listening", 1)[0]["endpoint"].clone();
        let port = endpoint.as_str().and_then(|it| it.rsplit(':').next());
        daemon.port = port.and_then(|it| it.parse().ok()).expect("a port");
        daemon
    }

    fn start_with(log: &str) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let text = format!(
            "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\n\
             [store]\ndirectory = \"{}\"\ncapacity = 1_000\n\
             [admin]\nsocket = \"{}\"\n[metrics]\nlisten = \"off\"\n[log]\n{log}\n",
            at("state").display(),
            at("control.sock").display()
        );
        fs::write(at("greygate.toml"), text).expect("the directory is ours");
        let process = Command::new(GREYGATE)
            .args(["serve", "--config"])
            .arg(at("greygate.toml"))
            .stderr(File::create(at("log")).expect("a file"))
            .spawn()
            .expect("the daemon starts");
        let daemon = Self {
            place,
            process,
            port: 0,
        };
        let mut status = Command::new(GREYGATE);
        status.args(["status", "--check", "--socket"]);
        status.arg(daemon.place.path().join("control.sock"));
        status.stderr(Stdio::null());
        let answers = || status.status().ok().filter(ExitStatus::success);
        wait(answers).expect("the daemon answers, and all is well");
        daemon
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    /// One session with one recipient, which is deferred.
    fn attempt(&self, sender: &str, recipient: &str) {
        let mut mta = self.connect();
        let mut offer = Vec::new();
        for word in [6_u32, 0x1ff, 0x1f_ffff] {
            offer.extend(word.to_be_bytes());
        }
        let mut bytes = frame(b'O', &offer);
        bytes.extend(frame(b'C', b"[192.0.2.7]\x004\x00\x19192.0.2.7\x00"));
        bytes.extend(frame(b'H', b"mail.a.example\x00"));
        bytes.extend(frame(b'M', format!("{sender}\0").as_bytes()));
        bytes.extend(frame(b'R', format!("{recipient}\0").as_bytes()));
        bytes.extend(frame(b'Q', b""));
        mta.write_all(&bytes).expect("it reads");
        let mut answer = Vec::new();
        mta.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("451 4.7.1"), "{answer:?}");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.place.path().join("log")).expect("it is ours");
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} is no JSON")))
            .collect()
    }

    fn events(&self, word: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["event"] == word);
        lines
    }

    fn wait_for(&self, word: &str, many: usize) -> Vec<Value> {
        let found = wait(|| Some(self.events(word)).filter(|it| it.len() >= many));
        found.unwrap_or_else(|| panic!("{word} is not in {:?}", self.lines()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _: io::Result<_> = self.process.wait();
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("a short frame");
    [&length.to_be_bytes()[..], &[kind], payload].concat()
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
