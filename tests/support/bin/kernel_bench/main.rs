//! Measures greygate's kernel program and its tables, beside xdp-filter and nftables.
//!
//! `cargo xtask bench kernel` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`. Exit code 1 when a figure could not be had, not when one misses its target.

mod changes;
mod cost;
mod cpu;
mod error;
mod filter;
mod flood;
mod frames;
mod judged;
mod memory;
mod meter;
mod nftables;
mod people;
mod xdp_filter;
mod yard;

use std::{env, fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use support::{
    Error,
    bench::{progress, report},
    requirements,
};

use filter::Workshop;
use judged::Filters;
use meter::Meter;
use people::{FEW, People};
use progress::Progress;
use report::{Report, Statistic};
use yard::Yard;

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
    let mut report = Report::new(preface(), Statistic::Best);
    let outcome = measure(arguments.rounds, &mut report);
    report.conclude(outcome, arguments.json)
}

fn measure(rounds: u32, report: &mut Report) -> Result<(), Error> {
    let absent = |why| Error::unexpected("what the benchmark needs", why);
    requirements::root().map_err(absent)?;
    let object = requirements::xdp_object().map_err(absent)?;
    let programs = env::var_os("GREYGATE_BENCH_OBJECT")
        .map_or_else(|| object.with_file_name("greygate-bench.o"), PathBuf::from);
    let yard = Yard::new()?;
    let progress = Progress::new(STEPS);
    progress.step("setting up");
    let mut meter = Meter::load(&programs, rounds)?;
    let people = People::new();
    let workshop = Workshop {
        yard: &yard,
        object,
    };
    let filters = Filters::open(&workshop, &people)?;
    let few = &people.hosts_v4[..FEW];
    let peers = xdp_filter::load(&yard, &mut meter, few);
    judged::measure(&filters, &peers, &mut meter, &people, &progress, report)?;
    progress.step("frames dropped a second, 10,000 sentences");
    let nft = nftables::load(&yard, &mut meter, "few", few);
    meter.ipv4_sources(few)?;
    report.extend([flood::few(&yard, &meter, &filters.small, &peers, &nft)?]);
    progress.step("frames dropped a second, 1 M sentences");
    let nft = nftables::load(&yard, &mut meter, "many", &people.hosts_v4);
    meter.ipv4_sources(&people.hosts_v4)?;
    report.extend([flood::many(&yard, &meter, &filters.big, &nft)?]);
    report.extend(memory::rows(&filters.big, &nft)?);
    progress.step("1 M sentences restored, compared, changed");
    report.extend(changes::rows(&workshop, &people, &nft)?);
    Ok(())
}

/// What one must know to read the table.
fn preface() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Greygate's kernel filter on Linux {}; indented, its peers at the same. Nanoseconds are what a\n\
         frame costs over a program that only passes; a clean client has no sentence. The best round\n\
         is compared. docs/benchmarks.md says how each line is measured.",
        kernel.trim()
    )
}

/// Steps of a run, for the bar.
const STEPS: u64 = 17;
