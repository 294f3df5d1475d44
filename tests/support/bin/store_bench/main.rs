//! Measures the store alone: what a tuple takes of memory, and what snapshots, starts, sweeps and walks
//! take, and take from who judges meanwhile.
//!
//! `cargo xtask bench store` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`. Each size and each start has a process of its own, which is this program again.
//! Exit code 1 when a figure could not be had, not when one misses its target.

mod disk;
mod filled;
mod findings;
mod load;
mod people;
mod rows;
mod whole;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use support::{
    Error,
    bench::{
        progress::Progress,
        report::{Report, Statistic},
    },
    interrupt,
};

use findings::Findings;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tuples held; without it 1, 10 and 30 million, as far as the memory goes.
    #[arg(long, value_name = "TUPLES", value_parser = clap::value_parser!(u32).range(100_000..=100_000_000))]
    size: Vec<u32>,
    /// Where the snapshots are written: on the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What a process of its own measures, and prints as JSON.
#[derive(Subcommand)]
enum Part {
    /// Memory and inserts of tuples without their pairs.
    #[command(hide = true)]
    Alone { tuples: u32 },
    /// Everything of a store that is filled here.
    #[command(hide = true)]
    Whole { tuples: u32 },
    /// A start with the snapshot in the directory.
    #[command(hide = true)]
    Open { tuples: u32 },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.part {
        None => {
            interrupt::watch();
            tables(&arguments)
        }
        Some(part) => told(part_of(part, &arguments)),
    }
}

fn part_of(part: &Part, arguments: &Arguments) -> Result<Findings, Error> {
    // Nobody hears the figures of a process whose parent was killed.
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| Error::unexpected("ends with its parent", errno))?;
    let directory = &arguments.directory;
    match *part {
        Part::Alone { tuples } => filled::alone(tuples, directory),
        Part::Whole { tuples } => whole::measure(tuples, arguments.rounds, directory),
        Part::Open { tuples } => whole::open(tuples, directory),
    }
}

fn told(found: Result<Findings, Error>) -> ExitCode {
    match found {
        Ok(findings) => {
            println!("{}", findings.json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn tables(arguments: &Arguments) -> ExitCode {
    let (sizes, left_out) = sizes(&arguments.size);
    let mut report = Report::new(preface(&left_out), Statistic::Median);
    let outcome = measure(&sizes, arguments, &mut report);
    report.conclude(outcome, arguments.json)
}

fn measure(sizes: &[u32], arguments: &Arguments, report: &mut Report) -> Result<(), Error> {
    let rounds = arguments.rounds;
    let steps = sizes.len() as u64 * (2 + u64::from(rounds));
    let progress = Progress::new(steps);
    for &tuples in sizes {
        let size = rows::shown(tuples);
        let fresh = || {
            tempfile::tempdir_in(&arguments.directory)
                .map_err(Error::io("a directory for the store"))
        };
        progress.step(&format!("{size} tuples alone"));
        let alone = findings::of_process("alone", tuples, rounds, fresh()?.path())?;
        let directory = fresh()?;
        let directory = directory.path();
        progress.step(&format!(
            "{size} tuples with their pairs: filled, written, swept, walked"
        ));
        let mut whole = findings::of_process("whole", tuples, rounds, directory)?;
        for round in 1..=rounds {
            progress.step(&format!("{size} tuples: start {round} of {rounds}"));
            disk::forget(&directory.join("snapshot"))?;
            whole.extend(findings::of_process("open", tuples, rounds, directory)?);
            whole.push("read", disk::read(&directory.join("snapshot"))?);
        }
        report.extend(rows::of(tuples, &alone, &whole));
    }
    Ok(())
}

/// The sizes to measure, and what is to be said of those that are not.
fn sizes(wanted: &[u32]) -> (Vec<u32>, String) {
    if !wanted.is_empty() {
        return (wanted.to_vec(), String::new());
    }
    let available = available_memory();
    let (sizes, left_out): (Vec<u32>, Vec<u32>) = SIZES
        .into_iter()
        .partition(|tuples| u64::from(*tuples) * BYTES_NEEDED <= available);
    let left_out: Vec<_> = left_out
        .into_iter()
        .map(|tuples| {
            format!(
                "\n{} are left out: they want {} MB of memory, and {} are available.",
                rows::shown(tuples),
                u64::from(tuples) * BYTES_NEEDED / 1_000_000,
                available / 1_000_000,
            )
        })
        .collect();
    (sizes, left_out.concat())
}

fn available_memory() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(u64::MAX / 1_024) * 1_024
}

/// What one must know to read the table.
fn preface(left_out: &str) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Greygate's store on Linux {}; indented, what its disk does with as many bytes, or what was\n\
         measured while nothing else went on. Decisions are early retries of tuples at random, offered by\n\
         one thread at a quarter of what it can; their time counts from when they were due. The medians\n\
         are compared. docs/benchmarks.md says how each line is measured.{left_out}",
        kernel.trim()
    )
}

/// The files of a store in `directory`.
fn settings(tuples: u32, directory: &Path) -> greygate::store::Settings {
    greygate::store::Settings {
        directory: directory.to_owned(),
        seed_file: directory.join("seed"),
        capacity: usize::try_from(tuples + tuples / ROOM_LEFT).unwrap_or(usize::MAX),
        snapshot_interval: whole::SNAPSHOT_INTERVAL,
        // Only the sweeps that are measured.
        sweep_messages: 1,
        sweep_interval: std::time::Duration::from_hours(1_000),
        ..greygate::store::Settings::default()
    }
}

/// Of so many places one stays free: into the very last ones, a network may begin only one or two tuples.
const ROOM_LEFT: u32 = 200;
const SIZES: [u32; 3] = [1_000_000, 10_000_000, 30_000_000];
/// Bytes that a tuple wants while everything is measured: the store, its snapshot as it is written, and
/// some to spare.
const BYTES_NEEDED: u64 = 250;
