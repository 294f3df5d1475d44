//! A real daemon under a flood of connections, with fewer descriptors than it is asked to serve: what it
//! needs for itself is its own, so a snapshot is written, an operator is answered, metrics are read.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

#[test]
fn flood_of_connections_leaves_the_daemon_its_own_descriptors() {
    let daemon = Daemon::start();
    let milter = daemon.milter();
    // Each is held for as long as it is not closed: more than there are descriptors, twice.
    let held: Vec<_> = (0..400).map(|_| connect(milter)).collect();
    let refused = "greygate_milter_refused_total{reason=\"connections\"} 300";
    wait("the last of them", || daemon.metrics().contains(refused));
    let held: Vec<_> = held.into_iter().filter(|it| !is_closed(it)).collect();
    assert_eq!(
        held.len(),
        100,
        "half of the limit are served, the others closed at once"
    );

    let answer = daemon.ask(&["snapshot"]);
    assert!(
        daemon.place.path().join("state/snapshot").exists(),
        "{answer}"
    );
    daemon.ask(&["status", "--json"]);
    let page = daemon.metrics();
    let has = |line: &str| assert!(page.lines().any(|it| it == line), "{line}: {page}");
    has("greygate_milter_connections_limit 100");
    has("greygate_milter_connections_open 100");
    has("greygate_milter_accept_errors_total 0");
    has("greygate_snapshot_failures_total 0");
    let log = fs::read_to_string(daemon.place.path().join("log")).expect("it logs");
    assert!(log.contains("descriptors-short"), "{log}");
    assert!(log.contains("connections-near-cap"), "{log}");

    // Places come back.
    drop(held);
    wait("room", || {
        daemon
            .metrics()
            .contains("greygate_milter_connections_open 0")
    });
    let _seated = connect(milter);
    wait("a place", || {
        daemon
            .metrics()
            .contains("greygate_milter_connections_open 1")
    });
}

/// Whether the daemon has hung up: it says nothing before it is asked.
fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an option");
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("it is accepted")
}

const GREYGATE: &str = env!("CARGO_BIN_EXE_greygate");
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that may open 200 descriptors and is to serve a thousand connections.
struct Daemon {
    place: TempDir,
    process: Child,
    metrics: SocketAddr,
}

impl Daemon {
    fn start() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        // Free a moment ago.
        let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
        let metrics = metrics.expect("a free port");
        let text = format!(
            "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\nconnections = 1_000\n\
             connections_per_peer = 1_000\n[store]\ndirectory = \"{}\"\ncapacity = 1_000\n\
             [admin]\nsocket = \"{}\"\n[metrics]\nlisten = \"{metrics}\"\n",
            at("state").display(),
            at("control.sock").display()
        );
        fs::write(at("greygate.toml"), text).expect("the directory is ours");
        let process = Command::new("sh")
            .args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\"", GREYGATE])
            .args(["serve", "--config"])
            .arg(at("greygate.toml"))
            .stderr(File::create(at("log")).expect("a file"))
            .spawn()
            .expect("the daemon starts");
        let daemon = Self {
            place,
            process,
            metrics,
        };
        wait("the daemon's start", || daemon.milter_address().is_some());
        wait("its page", || TcpStream::connect(metrics).is_ok());
        daemon
    }

    fn milter(&self) -> SocketAddr {
        self.milter_address().expect("it listens")
    }

    /// As the log tells it.
    fn milter_address(&self) -> Option<SocketAddr> {
        let log = fs::read_to_string(self.place.path().join("log")).ok()?;
        let line = log.lines().find(|line| line.contains("listening"))?;
        let (_, rest) = line.split_once("127.0.0.1:")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(SocketAddr::from(([127, 0, 0, 1], digits.parse().ok()?)))
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("control.sock")
    }

    /// What a command says of the daemon.
    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(GREYGATE);
        command.arg("--socket").arg(self.socket()).args(arguments);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn metrics(&self) -> String {
        let mut stream = connect(self.metrics);
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            .expect("it listens");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("text");
        page
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never comes");
        thread::sleep(Duration::from_millis(10));
    }
}
