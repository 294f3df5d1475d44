//! What the tables cost user space: filled at a start, compared, and changed all the time.
//!
//! Goes the way of the daemon's projector: what is there, `reconcile::plan`, `apply`.

use std::time::{Duration, Instant};

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Change, Settings, reconcile},
    policy::{Sentence, SentenceLevel::Block, Timestamp},
};
use support::{Error, interrupt};

use crate::{
    cpu::CpuClock,
    error::failed,
    filter::{Greygate, Workshop},
    nftables::{NFTABLES, Nftables},
    people::{MANY, People, host},
    report::{Figure, Row, Samples, Target, Unit},
};

/// How often the tables are filled.
const ROUNDS: u32 = 3;
/// Changes at once: what 50,000 a second make in a tenth of one.
const BATCH: usize = 5_000;
/// Batches.
const BATCHES: usize = 40;

/// Fills greygate's tables, compares them and changes them; `nft` was filled with the same
/// addresses.
pub(crate) fn rows(
    workshop: &Workshop<'_>,
    people: &People,
    nft: &Result<Nftables<'_>, String>,
) -> Result<Vec<Row>, Error> {
    let Taken {
        restored,
        restored_cpu,
        compared,
        changed,
    } = greygate(workshop, people)?;
    let filled = nft.as_ref().map(|nft| nft.filled_in.as_secs_f64());
    let theirs = match nft {
        Ok(nft) => figure(nftables(nft, people)?),
        Err(why) => Err(why.clone()),
    };
    let row = |what: &str, unit, greygate, beside: Option<Figure>, target| Row {
        what: what.to_owned(),
        unit,
        greygate: figure(greygate),
        beside: beside.into_iter().map(|it| (NFTABLES, it)).collect(),
        target,
    };
    Ok(vec![
        row(
            "1 M sentences restored",
            Unit::Seconds,
            restored,
            Some(filled.map(Samples::one).map_err(Clone::clone)),
            Some(Target::AtMost(2.0)),
        ),
        row(
            "  CPU time of that",
            Unit::Seconds,
            restored_cpu,
            None,
            None,
        ),
        row(
            "1 M entries read and compared",
            Unit::Seconds,
            compared,
            None,
            None,
        ),
        row(
            "CPU time of a change among 1 M",
            Unit::MicrosAChange,
            changed,
            Some(theirs),
            // 50,000 a second in a tenth of a core.
            Some(Target::AtMost(2.0)),
        ),
    ])
}

/// What greygate takes, each time.
struct Taken {
    /// Seconds until all sentences are in an empty kernel.
    restored: Vec<f64>,
    /// Seconds of CPU time of that.
    restored_cpu: Vec<f64>,
    /// Seconds to read all entries and find that nothing is to be done.
    compared: Vec<f64>,
    /// Microseconds of CPU time of a change.
    changed: Vec<f64>,
}

fn greygate(workshop: &Workshop<'_>, people: &People) -> Result<Taken, Error> {
    let now = SystemClock.now();
    let sentences: Vec<Sentence> = people
        .hosts_v4
        .iter()
        .map(|address| host(*address, Block, now))
        .collect();
    let mut taken = Taken {
        restored: Vec::new(),
        restored_cpu: Vec::new(),
        compared: Vec::new(),
        changed: Vec::new(),
    };
    for round in 0..ROUNDS {
        let settings = Settings {
            capacity: CAPACITY,
            ..Settings::default()
        };
        let mut filter = workshop.open(&format!("change{round}"), settings)?;
        let (wall, used) = timed(|| reconcile(&mut filter, &sentences, MANY))?;
        taken.restored.push(wall.as_secs_f64());
        taken.restored_cpu.push(used.as_secs_f64());
        let (wall, _) = timed(|| reconcile(&mut filter, &sentences, 0))?;
        taken.compared.push(wall.as_secs_f64());
        if round == ROUNDS - 1 {
            taken.changed = change(&mut filter, people, now)?;
        }
    }
    Ok(taken)
}

/// Microseconds of CPU time of a change of nftables' set, by batches.
fn nftables(nft: &Nftables<'_>, people: &People) -> Result<Vec<f64>, Error> {
    let mut changed = Vec::new();
    for addresses in people.clean_v4.chunks(BATCH / 2).take(NFT_BATCHES) {
        interrupt::check()?;
        let clock = CpuClock::of_children();
        nft.add(addresses)?;
        nft.remove(addresses)?;
        changed.push(micros_each(clock.used(), BATCH));
    }
    Ok(changed)
}

fn figure(samples: Vec<f64>) -> Figure {
    Samples::new(samples).ok_or_else(|| "nothing ran".to_owned())
}

/// One reconciliation, as the projector makes it; `changes` is how many it must come to.
fn reconcile(filter: &mut Greygate, sentences: &[Sentence], changes: usize) -> Result<(), Error> {
    let now = SystemClock.now();
    let entries = filter
        .filter
        .entries(now)
        .map_err(failed("reading greygate's tables"))?;
    let plan = reconcile::plan(sentences, &entries, CAPACITY, now);
    if plan.changes.len() != changes {
        return Err(Error::unexpected(
            format!("{changes} changes"),
            plan.changes.len(),
        ));
    }
    filter
        .filter
        .apply(&plan.changes, now)
        .map_err(failed("writing greygate's tables"))
}

/// Microseconds of CPU time of a change, by batches: two of five are new sentences, two are
/// sentences taken back, one is a sentence made longer.
fn change(filter: &mut Greygate, people: &People, now: Timestamp) -> Result<Vec<f64>, Error> {
    let mut samples = Vec::new();
    let news = people.clean_v4.chunks(BATCH * 2 / 5);
    let longer = people.hosts_v4.chunks(BATCH / 5);
    let mut before = &people.hosts_v4[MANY - BATCH * 2 / 5..];
    for (new, longer) in news.zip(longer).take(BATCHES) {
        interrupt::check()?;
        let puts = new
            .iter()
            .map(|address| Change::Put(host(*address, Block, now)));
        let lengthened = longer.iter().map(|address| {
            let mut sentence = host(*address, Block, now);
            sentence.until = sentence.until.after(Duration::from_hours(1));
            Change::Put(sentence)
        });
        let removals = before
            .iter()
            .map(|address| Change::Remove(host(*address, Block, now).client));
        let changes: Vec<Change> = removals.chain(puts).chain(lengthened).collect();
        let clock = CpuClock::of_this_thread();
        filter
            .filter
            .apply(&changes, SystemClock.now())
            .map_err(failed("changing greygate's tables"))?;
        samples.push(micros_each(clock.used(), changes.len()));
        before = new;
    }
    Ok(samples)
}

/// How long `work` takes, by the clock on the wall and in CPU time.
fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<(Duration, Duration), Error> {
    interrupt::check()?;
    let (begun, clock) = (Instant::now(), CpuClock::of_this_thread());
    work()?;
    Ok((begun.elapsed(), clock.used()))
}

#[expect(clippy::cast_precision_loss, reason = "some thousands of changes")]
fn micros_each(time: Duration, changes: usize) -> f64 {
    time.as_secs_f64() * 1e6 / changes as f64
}

/// Room for a million sentences and those that come meanwhile. The kernel rounds the buckets of a hash
/// up to a power of two, here 2^21: two for each sentence, so that most chains are short.
pub(crate) const CAPACITY: u32 = 1_600_000;
/// Batches for nftables, whose every call begins by asking for the whole rule set.
const NFT_BATCHES: usize = 2;
