//! A store as it fills: what it takes of memory at each twentieth, and what each insert takes.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use greygate::clock::Clock;
use greygate::policy::{DeferReason, Effect, Judge as _, Mode, Policy, Verdict};
use greygate::store::{Keeper, Metrics, Restored, Store};
use hdrhistogram::Histogram;
use support::{Error, clock::TestClock, interrupt};
use tokio::sync::mpsc;

use crate::findings::Findings;
use crate::people::{BEGINNING, People};
use crate::settings;

/// A store, and whom it reports to.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) restored: Restored,
    _kernel: mpsc::Receiver<Effect>,
}

/// Opens the store in `directory`.
pub(crate) fn open(tuples: u32, mode: Mode, directory: &Path) -> Result<Opened, Error> {
    let policy = Policy {
        mode,
        ..Policy::default()
    };
    let (to_kernel, kernel) = mpsc::channel(1);
    let metrics = Arc::new(Metrics::default());
    let opened = Store::open(
        settings(tuples, directory),
        Arc::new(ArcSwap::from_pointee(policy)),
        to_kernel,
        Arc::clone(&metrics),
        BEGINNING,
    );
    let (store, restored) = opened.map_err(|error| Error::unexpected("the store opens", error))?;
    Ok(Opened {
        store,
        metrics,
        restored,
        _kernel: kernel,
    })
}

/// Fills a store of tuples without their pairs, as they are where content is never read.
pub(crate) fn alone(tuples: u32, directory: &Path) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    let Opened { store, _kernel, .. } = open(tuples, Mode::Envelope, directory)?;
    let store = Arc::new(store);
    let (keeper, _) = keep(&store)?;
    fill(&store, tuples, &mut findings)?;
    let census = store.census();
    expect(
        "tuples without pairs",
        (census.tuples, census.pairs),
        (tuples, 0),
    )?;
    drop(keeper);
    Ok(findings)
}

/// Starts what the daemon runs beside: the keeper, and the journal, which writes what changes meanwhile.
/// The clock stands still until it is turned.
pub(crate) fn keep(store: &Arc<Store>) -> Result<(Keeper, Arc<TestClock>), Error> {
    let clock = Arc::new(TestClock::default());
    let keeper = Keeper::start(Arc::clone(store), Arc::clone(&clock) as Arc<dyn Clock>)
        .map_err(Error::io("the keeper"))?;
    Ok((keeper, clock))
}

/// Has everybody try for the first time.
pub(crate) fn fill(store: &Store, tuples: u32, findings: &mut Findings) -> Result<(), Error> {
    let mut people = People::default();
    let mut inserts = Histogram::<u64>::new_with_bounds(1, NANOS_A_MINUTE, 3)
        .map_err(|error| Error::unexpected("a histogram", error))?;
    let before = resident();
    let begun = Instant::now();
    for number in 0..tuples {
        let attempt = people.attempt(number);
        let due = Instant::now();
        let verdict = store.judge(&attempt, BEGINNING).verdict;
        inserts.saturating_record(nanos(due.elapsed()));
        if verdict != Verdict::Defer(DeferReason::New) {
            return Err(Error::unexpected("a new tuple", format!("{verdict:?}")));
        }
        let filled = number + 1;
        if filled == tuples {
            settle(store)?;
        }
        if u64::from(filled) * 20 % u64::from(tuples) < 20 {
            let percent = u64::from(filled) * 100 / u64::from(tuples);
            let each = resident().saturating_sub(before) / u64::from(filled);
            findings.push(format!("bytes at {percent}"), bytes(each));
        }
    }
    findings.took("fill", begun.elapsed());
    findings.push("insert p50", bytes(inserts.value_at_quantile(0.5)));
    findings.push("insert p99.9", bytes(inserts.value_at_quantile(0.999)));
    findings.push("insert worst", bytes(inserts.max()));
    Ok(())
}

/// Waits until the journal has written what changed: what it holds of a burst is not the tuples'.
fn settle(store: &Store) -> Result<(), Error> {
    interrupt::wait_for("the journal is written", Duration::from_mins(10), || {
        let lag = store.journal_standing().map(|it| it.lag);
        Ok(lag.unwrap_or_default().is_zero().then_some(()))
    })?;
    // A group later it has given back what the last one took.
    thread::sleep(TWO_GROUPS);
    Ok(())
}

/// Whether the counts are those of so many tuples and pairs.
pub(crate) fn expect(
    what: &str,
    (tuples, pairs): (usize, usize),
    expected: (u32, u32),
) -> Result<(), Error> {
    let found = (u32::try_from(tuples), u32::try_from(pairs));
    if found == (Ok(expected.0), Ok(expected.1)) {
        return Ok(());
    }
    let seen = format!("{tuples} tuples and {pairs} pairs");
    Err(Error::unexpected(what, seen))
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^53")]
pub(crate) fn bytes(count: u64) -> f64 {
    count as f64
}

/// Bytes that this process has resident.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

const TWO_GROUPS: Duration = Duration::from_secs(1);
pub(crate) const NANOS_A_MINUTE: u64 = 60_000_000_000;
