//! A daemon that is killed while it writes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greygate::clock::Clock as _;
use greygate::policy::Attempt;

use crate::fixture::{ATTEMPT, Fixture};

const CHILD: &str = "GREYGATE_TEST_CRASH_DIRECTORY";
const TUPLES: u64 = 3_000;

#[test]
fn killed_at_any_moment_keeps_a_whole_snapshot() {
    if let Some(directory) = std::env::var_os(CHILD) {
        write_snapshots_until_killed(Path::new(&directory));
        return;
    }
    for round in 0..12 {
        let fixture = Fixture::new();
        let mut child = Killed::start(
            "crash::killed_at_any_moment_keeps_a_whole_snapshot",
            &fixture.settings.directory,
        );
        child.await_file(&fixture.snapshot_file());
        std::thread::sleep(Duration::from_millis(round * 3));
        drop(child);

        let (_, restored) = fixture.try_open().expect("the lock went with the process");
        assert_eq!(restored.set_aside, [], "in round {round}");
        assert_eq!(restored.tuples, TUPLES, "in round {round}");
    }
}

/// What a group of the journal has is there after a kill, though no snapshot was ever written.
#[test]
fn killed_at_any_moment_keeps_what_the_journal_has() {
    if let Some(directory) = std::env::var_os(CHILD) {
        write_journals_until_killed(Path::new(&directory));
        return;
    }
    for round in 0..8 {
        let fixture = Fixture::new();
        let mut child = Killed::start(
            "crash::killed_at_any_moment_keeps_what_the_journal_has",
            &fixture.settings.directory,
        );
        child.await_file(&fixture.settings.directory.join("synced"));
        std::thread::sleep(Duration::from_millis(round * 3));
        drop(child);

        let (_, restored) = fixture.try_open().expect("the lock went with the process");
        assert_eq!(restored.set_aside, [], "in round {round}");
        assert!(restored.tuples >= TUPLES, "in round {round}: {restored}");
        assert_eq!(restored.age, None, "there is no snapshot");
    }
}

fn write_journals_until_killed(directory: &Path) {
    let mut fixture = Fixture::new();
    directory.clone_into(&mut fixture.settings.directory);
    fixture.settings.seed_file = directory.join("seed");
    let store = fixture.open();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    while Instant::now() < deadline && number < 90_000 {
        for _ in 0..TUPLES / 10 {
            let recipient = format!("r{number}@here.example");
            let attempt = Attempt {
                recipient: recipient.as_bytes(),
                ..ATTEMPT
            };
            fixture.judge(&store, &attempt);
            number += 1;
        }
        store
            .sync_journal(fixture.clock.now())
            .expect("the directory is writable");
        if number == TUPLES {
            std::fs::write(directory.join("synced"), b"").expect("it is writable");
        }
    }
    std::thread::sleep(Duration::from_secs(30));
}

fn write_snapshots_until_killed(directory: &Path) {
    let mut fixture = Fixture::new();
    directory.clone_into(&mut fixture.settings.directory);
    fixture.settings.seed_file = directory.join("seed");
    let store = fixture.open();
    for number in 0..TUPLES {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(&store, &attempt);
    }
    // Should nobody kill it, it ends by itself.
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        store
            .snapshot(fixture.clock.now())
            .expect("the directory is writable");
    }
}

/// This test in another process, killed when dropped.
struct Killed(Child);

impl Killed {
    fn start(test: &str, directory: &Path) -> Self {
        let this_binary = std::env::current_exe().expect("the test has a file");
        let child = Command::new(this_binary)
            .args(["--exact", test])
            .env(CHILD, directory)
            // What it leaves behind goes with this test's directory.
            .env("TMPDIR", directory.parent().expect("it has one"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test can be started again");
        Self(child)
    }

    fn await_file(&mut self, file: &Path) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !file.exists() {
            let ended = self.0.try_wait().expect("it can be asked for");
            assert!(ended.is_none(), "it ended by itself: {ended:?}");
            assert!(Instant::now() < deadline, "a snapshot within 20 s");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it can be awaited");
    }
}
