//! A store of tuples with their pairs: filled, written, swept, walked, and judged beside each.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greygate::policy::{Mode, Record, Timestamp, TupleKey};
use greygate::store::{Metrics, Pick, Store, Sweeper};
use support::{Error, clock::TestClock};

use crate::disk;
use crate::filled::{self, Opened, bytes, expect};
use crate::findings::Findings;
use crate::load::Load;
use crate::people::BEGINNING;

/// The keeper takes one when the clock is turned by so much. All rounds together stay below the hours after
/// which a table that is nearly full lets go of tuples.
pub(crate) const SNAPSHOT_INTERVAL: Duration = Duration::from_mins(1);

/// Everything but the start.
pub(crate) fn measure(tuples: u32, rounds: u32, directory: &Path) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    let Opened { store, metrics, .. } = filled::open(tuples, Mode::Hybrid, directory)?;
    let store = Arc::new(store);
    let (keeper, clock) = filled::keep(&store)?;
    filled::fill(&store, tuples, &mut findings)?;
    let census = store.census();
    expect(
        "a pair a tuple",
        (census.tuples, census.pairs),
        (tuples, tuples),
    )?;

    let mut load = Load::of(tuples);
    let saturation = load.saturation(&store)?;
    findings.push("saturation", saturation);
    let mut scene = Scene {
        clock,
        store: &store,
        metrics: &metrics,
        rate: saturation / 4.0,
        load,
    };
    for _ in 0..rounds {
        let begun = Instant::now();
        let report = store
            .snapshot(BEGINNING)
            .map_err(|error| Error::unexpected("a snapshot", error))?;
        findings.took("snapshot", begun.elapsed());
        findings.push("snapshot bytes", bytes(report.bytes));
        findings.push("write", disk::write(report.bytes, directory)?);
        let begun = Instant::now();
        scene.sweep();
        findings.took("sweep", begun.elapsed());
        let begun = Instant::now();
        scene.walk(tuples)?;
        findings.took("list", begun.elapsed());

        scene.beside("idle", &mut findings, |_| thread::sleep(IDLE))?;
        scene.beside("snapshot", &mut findings, Scene::paced_snapshot)?;
        scene.beside("free snapshot", &mut findings, |scene| {
            // It was written a moment ago, and a failure has a metric that is looked at below.
            drop(scene.store.snapshot(BEGINNING));
        })?;
        scene.beside("sweep", &mut findings, Scene::sweep)?;
        scene.beside("list", &mut findings, |scene| {
            // It cannot fail twice.
            let _ = scene.walk(tuples);
        })?;
    }
    drop(keeper);
    if metrics.snapshot_failures.get() > 0 {
        return Err(Error::unexpected("snapshots", "one could not be written"));
    }
    Ok(findings)
}

/// A start with the snapshot that was left in `directory`.
pub(crate) fn open(tuples: u32, directory: &Path) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    let begun = Instant::now();
    let opened = filled::open(tuples, Mode::Hybrid, directory)?;
    findings.took("open", begun.elapsed());
    let census = opened.store.census();
    expect(
        "what was written",
        (census.tuples, census.pairs),
        (tuples, tuples),
    )?;
    let length = fs::metadata(directory.join("snapshot")).map_err(Error::io("the snapshot"))?;
    findings.push("open bytes", bytes(length.len()));
    if !opened.restored.set_aside.is_empty() {
        return Err(Error::unexpected("a whole snapshot", opened.restored));
    }
    Ok(findings)
}

struct Scene<'a> {
    clock: Arc<TestClock>,
    store: &'a Arc<Store>,
    metrics: &'a Metrics,
    /// Decisions a second.
    rate: f64,
    load: Load,
}

impl Scene<'_> {
    /// Has decisions offered while `work` goes on.
    fn beside(
        &mut self,
        what: &str,
        findings: &mut Findings,
        work: impl FnOnce(&Self) + Send,
    ) -> Result<(), Error> {
        let ended = AtomicBool::new(false);
        let (store, rate) = (self.store, self.rate);
        let mut load = std::mem::replace(&mut self.load, Load::of(1));
        let served = thread::scope(|scope| {
            let offering = scope.spawn(|| {
                let served = load.offer(store, rate, &ended);
                (load, served)
            });
            let begun = Instant::now();
            work(self);
            findings.took(format!("time of {what}"), begun.elapsed());
            ended.store(true, Ordering::Relaxed);
            offering.join()
        });
        let (load, served) = match served {
            Ok(served) => served,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        self.load = load;
        served?.note(what, findings);
        Ok(())
    }

    /// The daemon's own periodic snapshot, from the round in which it is due.
    fn paced_snapshot(&self) {
        let before = self.metrics.snapshots.get() + self.metrics.snapshot_failures.get();
        self.clock.advance(SNAPSHOT_INTERVAL);
        while self.metrics.snapshots.get() + self.metrics.snapshot_failures.get() == before {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Looks at everything once, slice by slice without a pause.
    fn sweep(&self) {
        let census = self.store.census();
        let all = (census.tuples + census.pairs) as u64;
        let before = self.metrics.sweep_seen.get();
        let mut now = BEGINNING;
        let mut sweeper = Sweeper::new(self.store, now);
        while self.metrics.sweep_seen.get() - before < all {
            // A clock that is set back makes a slice due.
            now = Timestamp::from_millis(now.as_millis() - 1);
            sweeper.round(self.store, now);
        }
    }

    /// As `greygate list` looks for the twenty that tried last.
    fn walk(&self, tuples: u32) -> Result<(), Error> {
        let pick = Pick {
            wanted: &|_: &TupleKey, _: &Record| true,
            addresses: None,
            rank: &|record| record.last_seen.as_millis(),
            limit: 20,
        };
        let listed = self.store.list_tuples(&pick);
        if listed.matched == u64::from(tuples) && listed.rows.len() == 20 {
            return Ok(());
        }
        Err(Error::unexpected("all tuples", listed.matched))
    }
}

const IDLE: Duration = Duration::from_secs(5);
