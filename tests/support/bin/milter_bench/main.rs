//! Measures what a session costs greygate, beside filters that do as little as can be done.
//!
//! `cargo xtask bench milter` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`. Exit code 1 when a figure could not be had, not when one misses its target.

mod digest;
mod kinds;
mod measure;
mod peers;
mod stories;
mod visit;

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

use kinds::KINDS;
use measure::Benchmark;

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
    let outcome = measure(arguments.rounds, &mut report);
    // What was measured before something failed is worth as much.
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    match outcome {
        Ok(()) if report.is_whole() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: u32, report: &mut Report) -> Result<(), Error> {
    requirements::root().map_err(|missing| Error::unexpected("the benchmark needs", missing))?;
    // The first round warms up; then the stories.
    let progress = Progress::new(u64::from(rounds) + 2);
    progress.step("starting greygate and its peers, first round");
    let mut benchmark = Benchmark::start()?;
    benchmark.round()?;
    benchmark.forget();
    let outcome = (1..=rounds).try_for_each(|round| {
        progress.step(&format!("round {round} of {rounds}"));
        benchmark.round()
    });
    report.extend(benchmark.rows());
    outcome?;
    drop(benchmark);
    progress.step("round trips");
    report.extend(stories::rows()?);
    Ok(())
}

/// What one must know to read the table.
fn preface() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let sessions: Vec<_> = KINDS.iter().map(|kind| kind.sessions.to_string()).collect();
    format!(
        "Greygate on Linux {}; indented, its peers at the same. Microseconds are CPU time of the server\n\
         for a session over TCP, a new connection each ({} sessions a round); sessions a second are\n\
         those of client and server on one machine. The medians are compared.\n\
         docs/benchmarks.md says how each line is measured.",
        kernel.trim(),
        sessions.join(", ")
    )
}
