//! The result of a run: a table of what was done and checked, totals, and what was violated.

use std::{fmt, path::PathBuf, time::Duration};

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::{
    books::{Books, Count, Tally},
    disk::Pace,
    faults::Fault,
    measure::Held,
};

/// Everything that is said at the end.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) books: &'a Books,
    pub(crate) seed: u64,
    pub(crate) bound: Duration,
    pub(crate) took: Duration,
    pub(crate) pace: Option<Pace>,
    /// What the daemon held at the end of the run, and anew.
    pub(crate) held: Option<(Held, Held)>,
    /// Where the logs are, if they were kept.
    pub(crate) logs: Option<PathBuf>,
}

impl Report<'_> {
    /// For machines.
    pub(crate) fn json(&self) -> Value {
        let faults = self.rows().map(|(fault, tally)| {
            json!({"fault": fault.name(), "times": tally.times, "checks": tally.checks})
        });
        let totals =
            TOTALS.map(|(count, name)| (name.replace(' ', "_"), json!(self.books.of(count))));
        json!({
            "seed": self.seed,
            "seconds": self.took.as_secs_f64(),
            "bound_seconds": self.bound.as_secs_f64(),
            "faults": faults.collect::<Vec<_>>(),
            "totals": totals.into_iter().collect::<serde_json::Map<_, _>>(),
            "longest_lost_seconds": self.books.longest_lost().as_secs_f64(),
            "syncs": self.pace.map(|it| it.syncs),
            "longest_unsynced_seconds": self.pace.map(|it| it.longest),
            "longest_between_syncs_seconds": self.pace.map(|it| it.gap),
            "violations": self.books.violations(),
            "logs": self.logs,
        })
    }

    fn rows(&self) -> impl Iterator<Item = (Fault, Tally)> {
        let tallies = self.books.faults();
        let faults = Fault::value_variants().iter();
        faults.filter_map(move |fault| Some((*fault, *tallies.get(fault.name())?)))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<16}{:>6}{:>8}  what was checked",
            "fault", "times", "checks"
        )?;
        for (fault, Tally { times, checks }) in self.rows() {
            let (name, checked) = (fault.name(), fault.checked());
            writeln!(out, "{name:<16}{times:>6}{checks:>8}  {checked}")?;
        }
        writeln!(out)?;
        for (count, name) in TOTALS {
            writeln!(out, "{:>10}  {name}", self.books.of(count))?;
        }
        let oldest = self.books.longest_lost();
        writeln!(
            out,
            "\nThe oldest of what was lost was {oldest:.3?} old when the daemon ended; up to {:?} is \
             allowed.",
            self.bound
        )?;
        if let Some(pace) = self.pace {
            writeln!(
                out,
                "{} syncs of files and {} of names were traced; each covered only what had been \
                 written before it. Of the journals, {:.3} s was the longest from a write to the end of its \
                 sync, and {:.3} s from one sync to the next.",
                pace.syncs, pace.name_syncs, pace.longest, pace.gap
            )?;
        }
        if let Some((aged, fresh)) = &self.held {
            writeln!(out, "After the run it held {aged}; started anew, {fresh}.")?;
        }
        let violations = self.books.violations();
        if violations.is_empty() {
            return write!(
                out,
                "\nThe books balance after {:.0?}. Seed {}.",
                self.took, self.seed
            );
        }
        writeln!(out, "\n{} violations:", violations.len())?;
        for violation in &violations {
            writeln!(out, "  {violation}")?;
        }
        let logs = self.logs.iter().map(|it| it.display().to_string());
        write!(
            out,
            "Logs are in {}. Repeat with --seed {}.",
            logs.collect::<String>(),
            self.seed
        )
    }
}

const TOTALS: [(Count, &str); 13] = [
    (Count::Sessions, "sessions"),
    (Count::Answers, "answers for recipients"),
    (Count::Deferrals, "deferred at RCPT"),
    (Count::Read, "deferred after DATA"),
    (Count::Passes, "passed"),
    (Count::TrustedPasses, "passed by trust"),
    (Count::TurnedAway, "turned away, sentenced"),
    (Count::BrokenOff, "sessions broken off"),
    (
        Count::SurvivedLoss,
        "found again after a kill, a cut or a restart",
    ),
    (Count::LostWithinBound, "lost within the bound"),
    (Count::LostOnFullDisk, "lost while the disk was full"),
    (Count::Connections, "connections of an honest client"),
    (
        Count::Requests,
        "requests to the control socket and the metrics",
    ),
];
