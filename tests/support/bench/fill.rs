//! Tuples that are there before anything is measured.
//!
//! Greygate's come from its own store, which judges so many first attempts and writes a snapshot as
//! the daemon does; the daemon reads it at its start. Those of a peer are the same mail, in words.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use greygate::{
    clock::{Clock as _, SystemClock},
    policy::{Attempt, Evidence, Judge as _, Mode, Origin, Policy, ServerMark, Spf, Timestamp},
    store::{Metrics, Settings, Store},
};
use tokio::sync::mpsc;

use crate::{Error, interrupt};

/// Room for what is measured beside what is filled in.
pub fn capacity(tuples: u32) -> u32 {
    (tuples + tuples / 5).max(1_000_000)
}

/// Leaves a snapshot of so many tuples in `directory`, each of a mail of its own that was deferred just
/// now.
///
/// # Panics
///
/// When a thread that judges does.
pub fn store(directory: &Path, tuples: u32) -> Result<(), Error> {
    let failed = |what: &str| {
        let what = format!("{what} {}", directory.display());
        move |error: &dyn std::fmt::Display| Error::unexpected(what, error)
    };
    let settings = Settings {
        directory: directory.to_owned(),
        seed_file: directory.join("seed"),
        capacity: capacity(tuples) as usize,
        ..Settings::default()
    };
    let policy = Policy {
        mode: Mode::Hybrid,
        ..Policy::default()
    };
    let now = SystemClock.now();
    // Nobody is sentenced for a first attempt.
    let (effects, _) = mpsc::channel(1);
    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let (store, _) = Store::open(settings, policy, effects, Arc::new(Metrics::default()), now)
        .map_err(|error| failed("a store in")(&error))?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let deferred: Result<u32, Error> = thread::scope(|scope| {
        let work = (0..threads).map(|thread| {
            let store = &store;
            scope.spawn(move || {
                (0..tuples)
                    .skip(thread)
                    .step_by(threads)
                    .enumerate()
                    .try_fold(0, |deferred, (turn, number)| {
                        if turn % 4_096 == 0 {
                            interrupt::check()?;
                        }
                        Ok(deferred + u32::from(is_deferred(store, number, now)))
                    })
            })
        });
        let work: Vec<_> = work.collect();
        work.into_iter()
            .map(|thread| thread.join().expect("no panic is wanted"))
            .sum()
    });
    let held = store.census().tuples;
    if deferred? != tuples || held != tuples as usize {
        return Err(Error::unexpected(
            format!("{tuples} tuples should be held"),
            format!("{held} are"),
        ));
    }
    store
        .snapshot(now)
        .map(drop)
        .map_err(|error| failed("a snapshot in")(&error))
}

fn is_deferred(store: &Store, number: u32, now: Timestamp) -> bool {
    let helo = format!("mail.held{number}.example");
    let reverse_path = reverse_path(number);
    let attempt = Attempt {
        client: client(number).into(),
        client_name: helo.as_bytes(),
        helo: helo.as_bytes(),
        reverse_path: reverse_path.as_bytes(),
        recipient: RECIPIENT.as_bytes(),
        announced_size: 1_000,
        connected: now,
        server: ServerMark::numbered(1),
        authenticated: false,
        origin: Origin::ThisHost,
        evidence: Evidence {
            blocklist: None,
            score: None,
            spf: Spf::Unknown,
        },
    };
    store.judge(&attempt, now).verdict.reason() == "new"
}

/// The same as milter-greylist keeps them: accepted in half an hour.
pub fn dump(mut file: impl Write, tuples: u32) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let accepted = now.map_err(io::Error::other)?.as_secs() + 1_800;
    for number in 0..tuples {
        let (client, sender) = (client(number), reverse_path(number));
        writeln!(file, "{client}\t<{sender}>\t<{RECIPIENT}>\t{accepted}")?;
    }
    file.flush()
}

/// Whom a tuple is of: ten of a network, and of as many networks as that makes.
pub fn client(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + number / 10 * 256 + 1 + number % 10)
}

/// The client of a new mail: one of a network among a million, in an order that no cache foresees.
///
/// # Panics
///
/// Never: a number below a million has room.
pub fn newcomer(number: u32) -> Ipv4Addr {
    let network = u64::from(number) * 618_033 % 1_000_000;
    let network = u32::try_from(network).expect("less than a million");
    Ipv4Addr::from(0x0b00_0000 + network * 256 + 200)
}

fn reverse_path(number: u32) -> String {
    format!("someone@held{number}.example")
}

const RECIPIENT: &str = "someone@recipient.example";
