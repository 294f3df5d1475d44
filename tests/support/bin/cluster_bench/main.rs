//! Measures what sharing costs: a session that is decided here, one that asks, Redis, and the wire between
//! them; with one host and with three, beside a host that shares with nobody.
//!
//! `cargo xtask bench cluster` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`, and what a site needs by them in `docs/scaling.md`. Exit code 1 when a figure could
//! not be had, not when one misses its target.

mod contenders;
mod cost;
mod memory;
mod rows;
mod site;
mod wire;

use std::{fs, process::ExitCode};

use clap::Parser;
use support::{
    Error,
    bench::{
        progress::Progress,
        report::{Report, Statistic},
    },
    requirements,
};

use contenders::Contenders;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::new(preface(), Statistic::Median);
    report.legend(LEGEND);
    let outcome = measure(arguments.rounds, &mut report);
    report.conclude(outcome, arguments.json)
}

fn measure(rounds: u32, report: &mut Report) -> Result<(), Error> {
    let needs = || {
        requirements::root()?;
        for program in ["ip", "ss", "redis-server", "redis-cli"] {
            requirements::program(program)?;
        }
        Ok(())
    };
    needs().map_err(|missing: requirements::Missing| {
        Error::unexpected("the benchmark needs", missing)
    })?;
    // The start, the first round, which warms up, and what Redis holds.
    let progress = Progress::new(u64::from(rounds) + 3);
    progress.step("starting one host, one that shares, and three that share");
    let mut contenders = Contenders::start()?;
    progress.step("a round to warm up");
    contenders.round()?;
    contenders.forget();
    let outcome = (1..=rounds).try_for_each(|round| {
        progress.step(&format!("round {round} of {rounds}"));
        contenders.round()
    });
    rows::tell(&contenders, report);
    outcome?;
    drop(contenders);
    progress.step("what Redis holds");
    memory::measure(report)
}

/// What one must know to read the table.
fn preface() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Greygate on Linux {}, sharing through one Redis on the same machine. A line is one host that shares;\n\
         indented, three that share the same sessions among them, and one that shares with nobody. The\n\
         medians are compared, those of ratios round by round.",
        kernel.trim()
    )
}

/// What the lines mean.
const LEGEND: &str = "\
local hit      an early retry: its tuple is held here, nobody is asked, and what it changes is told
new mail       nobody knows it: asked for once, noted, told
microseconds   CPU time of the hosts' processes for one session, all that follows from it included
a change       a record that is told, here a tuple or its pair of reverse-path and recipient
bytes          of TCP's payload, as the kernel counts them at Redis' end
docs/benchmarks.md says how each is measured.";
