//! `cargo xtask bench SUBJECT`: everything a measurement needs, then the measurement.
//!
//! This process becomes the benchmark: a signal reaches who has to clean up.

use std::{fs, os::unix::process::CommandExt, path::PathBuf};

use clap::ValueEnum;

use crate::{
    build,
    command::{Failure, Run},
    filter,
    packages::{self, Need},
    workspace,
};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The XDP program, and its tables from user space, beside xdp-filter and nftables
    Kernel,
    /// A session of the whole daemon, beside filters that do as little as can be done
    Milter,
    /// The store alone: memory, snapshots, starts and sweeps, and decisions beside them
    Store,
}

/// Returns only when the benchmark could not be started.
pub(crate) fn perform(subject: Subject, rounds: u32, json: bool) -> Result<(), Failure> {
    match subject {
        Subject::Kernel => kernel(rounds, json),
        Subject::Milter => milter(rounds, json),
        Subject::Store => Err(store(rounds, json)),
    }
}

fn kernel(rounds: u32, json: bool) -> Result<(), Failure> {
    filter::needs_root("bench kernel")?;
    everything_of(&Need::KERNEL)?;
    // A peer that cannot be had costs its figures, which say so.
    packages::ensure(&Need::PEERS);
    let object = build::object(build::Object::Release)?;
    let programs = build::object(build::Object::Bench)?;
    let benchmark = benchmark("kernel-bench", rounds, json)
        .env("GREYGATE_XDP_OBJECT", object)
        .env("GREYGATE_BENCH_OBJECT", programs);
    Err(become_it(benchmark, "kernel-bench"))
}

fn milter(rounds: u32, json: bool) -> Result<(), Failure> {
    filter::needs_root("bench milter")?;
    everything_of(&Need::MILTER_PEERS)?;
    let peers = milter_peers()?;
    let daemon = build::daemon(false)?;
    let benchmark = benchmark("milter-bench", rounds, json)
        .env("GREYGATE_BIN", daemon)
        .env("GREYGATE_PEERS", peers);
    Err(become_it(benchmark, "milter-bench"))
}

/// Needs no rights. Its snapshots are written where everything that is built is.
fn store(rounds: u32, json: bool) -> Failure {
    let benchmark = benchmark("store-bench", rounds, json)
        .arg("--directory")
        .arg(workspace::target());
    become_it(benchmark, "store-bench")
}

fn everything_of(needs: &[Need]) -> Result<(), Failure> {
    let missing = packages::ensure(needs);
    let Some(first) = missing.first() else {
        return Ok(());
    };
    Err(Failure::new(
        "the benchmark cannot be set up",
        packages::names(&missing),
        format!("install the package {}", first.package),
    ))
}

/// Compiles the filters that greygate is measured beside; the folder they are in.
fn milter_peers() -> Result<PathBuf, Failure> {
    let folder = workspace::target().join("peers");
    fs::create_dir_all(&folder).map_err(Failure::file("make the folder", &folder))?;
    for (name, libraries) in MILTER_PEERS {
        let source = workspace::root().join(format!("tests/peers/{name}.c"));
        Run::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(folder.join(name))
            .arg(source)
            .args(libraries)
            .mend("read the compiler's output above")
            .run()?;
    }
    Ok(folder)
}

fn benchmark(name: &str, rounds: u32, json: bool) -> Run {
    let run = Run::cargo()
        .args(["run", "--release", "--quiet", "--package", "greylist-tests"])
        .args(["--features", "bench", "--bin", name, "--"])
        .args(["--rounds", &rounds.to_string()]);
    if json { run.arg("--json") } else { run }
}

/// Returns only when that fails.
fn become_it(benchmark: Run, name: &str) -> Failure {
    let error = benchmark.into_command().exec();
    Failure::new(
        "the benchmark could not be started",
        error,
        format!("cargo run --release --package greylist-tests --features bench --bin {name}"),
    )
}

/// Their sources, and what each is linked with.
const MILTER_PEERS: [(&str, &[&str]); 3] = [
    ("floor", &[]),
    ("libmilter_empty", &["-lmilter", "-lpthread"]),
    ("libmilter_read", &["-lmilter", "-lpthread"]),
];
