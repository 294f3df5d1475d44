//! Measures what a session costs greygate, beside filters that do as little as can be done.
//!
//! `cargo xtask bench milter` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`. Exit code 1 when a figure could not be had, not when one misses its target.

mod digest;
mod greylisters;
mod kinds;
mod memory;
mod messages;
mod newcomers;
mod peers;
mod stories;

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

use messages::Messages;
use newcomers::Newcomers;

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
    requirements::root().map_err(|missing| Error::unexpected("the benchmark needs", missing))?;
    memory::allow_descriptors()?;
    // Four starts, idle connections, the first round, which warms up, and the stories.
    let progress = Progress::new(u64::from(rounds) + 8);
    progress.step("starting greygate and its peers");
    let mut messages = Messages::start()?;
    let step = |what: &str| progress.step(what);
    let mut newcomers = Newcomers::start(&messages.peers, &messages.daemon, step)?;
    progress.step("idle connections");
    newcomers.hold_idle()?;
    progress.step("a round to warm up");
    newcomers.round()?;
    messages.round()?;
    newcomers.forget();
    messages.forget();
    let outcome = (1..=rounds).try_for_each(|round| {
        progress.step(&format!("round {round} of {rounds}"));
        newcomers.round()?;
        messages.round()
    });
    newcomers.report(report);
    messages.report(report);
    newcomers.report_latency(report);
    newcomers.report_memory(report);
    outcome?;
    drop((newcomers, messages));
    progress.step("round trips");
    report.heading("round trips of one mail after the other");
    report.extend(stories::rows()?);
    Ok(())
}

/// What one must know to read the table.
fn preface() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Greygate on Linux {}; indented, its peers at the same. A session over TCP, a connection of its\n\
         own each. The medians are compared, those of ratios round by round.",
        kernel.trim()
    )
}

/// What the lines mean.
const LEGEND: &str = "\
microseconds   CPU time of all the server's processes, for one session
sessions/s     of client and server on one machine, 32 at once
round trips    answers that the client waited for
a quarter      so many are offered a second, and an answer's time counts from when its session was due
saturation     32 at once, the next as soon as one has ended; the time counts from its beginning
idle           10,000 connections at greygate, 1,000 at the others; without the kernel's own memory
docs/benchmarks.md says how each is measured.";
