//! `greygate top` on a real terminal, a pseudo-terminal, beside a real daemon.
//!
//! The terminal must be as it was before, however `top` ends.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, ttyname};
use tempfile::TempDir;
use tokio::time::Instant;

#[test]
fn draws_the_daemon_and_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start();
    let terminal = Terminal::new();
    let mut top = terminal.run(&daemon.socket());
    terminal.wait_for("q quit");
    top.key("?");
    terminal.wait_for("this help");
    top.key("?");
    top.key("q");
    assert!(top.ended().success());
    terminal.is_as_it_was();
}

#[test]
fn struck_clients_and_sentences_fill_the_lists() {
    let daemon = Daemon::start();
    let ask = |arguments: &[&str]| daemon.ask(arguments);
    let terminal = Terminal::new();
    let mut top = terminal.run(&daemon.socket());
    terminal.wait_for("nobody is sentenced");
    ask(&["punish", "192.0.2.7", "--for", "1h"]);
    ask(&["punish", "2001:db8::/64", "--for", "2h"]);
    // A strike as another host remembers it: here nobody offends.
    let export = ask(&["export"]);
    let header = export.lines().next().expect("a header");
    let now = std::time::UNIX_EPOCH.elapsed().expect("now").as_secs();
    let client = format!(
        "{{\"kind\":\"client\",\"key\":\"00112233445566778899aabbccddeeff\",\"authenticated_s\":0,\
         \"strikes\":2,\"life\":1,\"latest\":[{{\"at_s\":{now},\"offence\":\"rapid-retries\"}}]}}"
    );
    let file = daemon.place.path().join("strikes.jsonl");
    let end = "{\"greygate\":\"end\",\"items\":1}";
    fs::write(&file, format!("{header}\n{client}\n{end}\n")).expect("the directory is ours");
    ask(&["import", &file.display().to_string()]);

    let shown = ask(&["top", "--once"]);
    for row in [
        "\n00112233445566778\u{2026}       2 ",
        " 2001:db8::/64             0",
        " 192.0.2.7                 0",
    ] {
        assert!(shown.contains(row), "{row:?} is not in\n{shown}");
    }
    // The lists are asked for every five seconds, or at once in another order.
    top.key("s");
    terminal.wait_for("2001:db8::/64");
    top.key("q");
    assert!(top.ended().success());
    terminal.is_as_it_was();
}

#[test]
fn size_that_changes_is_followed() {
    let daemon = Daemon::start();
    let terminal = Terminal::new();
    let mut top = terminal.run(&daemon.socket());
    terminal.wait_for("q quit");
    terminal.resize(30, 100);
    top.signal(Signal::SIGWINCH);
    // The footer stands in the last row.
    terminal.wait_for("\u{1b}[30;1H");
    top.key("q");
    assert!(top.ended().success());
    terminal.is_as_it_was();
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let daemon = Daemon::start();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let terminal = Terminal::new();
        let mut top = terminal.run(&daemon.socket());
        terminal.wait_for("healthy");
        top.signal(signal);
        top.ended();
        terminal.is_as_it_was();
    }
}

#[test]
fn daemon_that_goes_and_comes_back_is_found_again() {
    let mut daemon = Daemon::start();
    let terminal = Terminal::new();
    let mut top = terminal.run(&daemon.socket());
    terminal.wait_for("healthy");
    daemon.stop();
    terminal.wait_for("asking again");
    daemon.resume();
    terminal.wait_for("healthy");
    top.key("\u{3}");
    assert!(top.ended().success(), "Ctrl-C is a way out like any other");
    terminal.is_as_it_was();
}

#[test]
fn without_a_terminal_it_says_how_and_prints_text_or_json() {
    let daemon = Daemon::start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(GREYGATE);
        command.arg("--socket").arg(daemon.socket()).args(arguments);
        command.stdin(Stdio::null()).output().expect("it runs")
    };
    let refused = run(&["top"]);
    assert_eq!(refused.status.code(), Some(2));
    let says = String::from_utf8_lossy(&refused.stderr);
    assert!(says.contains("greygate top --once"), "{says}");
    assert!(refused.stdout.is_empty());

    let screen = run(&["top", "--once"]);
    let text = String::from_utf8(screen.stdout).expect("text");
    assert!(screen.status.success());
    assert!(text.contains("\nhealthy\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let document = run(&["top", "--once", "--json"]);
    let document: serde_json::Value =
        serde_json::from_slice(&document.stdout).expect("one document");
    assert_eq!(document["status"]["pid"], daemon.pid());
    assert!(document["status"]["recent"]["seconds"].is_u64());
}

const GREYGATE: &str = env!("CARGO_BIN_EXE_greygate");
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with a place of its own.
struct Daemon {
    place: TempDir,
    process: Option<Child>,
}

impl Daemon {
    fn start() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let mut daemon = Self {
            place,
            process: None,
        };
        let at = |name: &str| daemon.place.path().join(name);
        let text = format!(
            "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\n\
             [store]\ndirectory = \"{}\"\ncapacity = 1_000\n\
             [admin]\nsocket = \"{}\"\n[metrics]\nlisten = \"off\"\n",
            at("state").display(),
            at("control.sock").display()
        );
        fs::write(at("greygate.toml"), text).expect("the directory is ours");
        daemon.resume();
        daemon
    }

    fn resume(&mut self) {
        let log = File::create(self.place.path().join("log")).expect("a file");
        let process = Command::new(GREYGATE)
            .args(["serve", "--config"])
            .arg(self.place.path().join("greygate.toml"))
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.process = Some(process);
        wait("the daemon's socket", || self.socket().exists());
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            send(&process, Signal::SIGTERM);
            process.wait().expect("it ends");
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("control.sock")
    }

    /// What a command says of the daemon.
    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(GREYGATE);
        command
            .arg("--config")
            .arg(self.place.path().join("greygate.toml"));
        let answer = command.args(arguments).stdin(Stdio::null()).output();
        let answer = answer.expect("it runs");
        let says = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{arguments:?}: {says}");
        String::from_utf8(answer.stdout).expect("text")
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().map(Child::id).expect("it runs")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A terminal of 80 by 24, what was drawn on it, and how it was at first.
struct Terminal {
    slave: OwnedFd,
    keys: File,
    drawn: Receiver<Vec<u8>>,
    seen: std::cell::RefCell<String>,
    before: Termios,
}

impl Terminal {
    fn new() -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("a terminal");
        let keys = File::from(pty.master.try_clone().expect("a descriptor"));
        let mut master = File::from(pty.master);
        let (sender, drawn) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(length) = master.read(&mut bytes) {
                if length == 0 || sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            slave: pty.slave,
            keys,
            drawn,
            seen: std::cell::RefCell::default(),
            before,
        }
    }

    fn run(&self, socket: &Path) -> Top {
        let end = || Stdio::from(self.slave.try_clone().expect("a descriptor"));
        let process = Command::new(GREYGATE)
            .args(["top", "--every", "100ms", "--socket"])
            .arg(socket)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it starts");
        let keys = self.keys.try_clone().expect("a descriptor");
        Top { process, keys }
    }

    /// Waits until a text was drawn since the last one that was waited for.
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.borrow_mut();
        while !seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.drawn.recv_timeout(left) else {
                let from = seen.floor_char_boundary(seen.len().saturating_sub(1_000));
                panic!("{text:?} was not drawn: ...{:?}", &seen[from..]);
            };
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen.clear();
    }

    fn resize(&self, rows: u16, columns: u16) {
        let name = ttyname(&self.slave).expect("it has a name");
        let [rows, columns] = [rows, columns].map(|it| it.to_string());
        let status = Command::new("stty")
            .args(["rows", &rows, "cols", &columns, "-F"])
            .arg(name)
            .status();
        assert!(status.expect("stty runs").success());
    }

    /// In the mode it had, on its first screen, with its cursor.
    fn is_as_it_was(&self) {
        let after = tcgetattr(self.slave.as_fd()).expect("a terminal");
        assert_eq!(after, self.before);
        let mut seen = self.seen.borrow_mut();
        while let Ok(bytes) = self.drawn.recv_timeout(Duration::from_millis(200)) {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let left = seen
            .rfind("\u{1b}[?1049l")
            .expect("the other screen is left");
        assert!(!seen[left..].contains("\u{1b}[?1049h"), "{seen:?}");
        let shown = seen.rfind("\u{1b}[?25h").expect("the cursor is shown");
        assert!(!seen[shown..].contains("\u{1b}[?25l"), "{seen:?}");
    }
}

struct Top {
    process: Child,
    keys: File,
}

impl Top {
    fn key(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).expect("it reads");
    }

    fn signal(&self, signal: Signal) {
        send(&self.process, signal);
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait("the end of top", || {
            status = self.process.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _: io::Result<()> = self.process.kill();
        let _: io::Result<ExitStatus> = self.process.wait();
    }
}

fn send(process: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
    kill(pid, signal).expect("it is our child");
}

fn wait(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}
