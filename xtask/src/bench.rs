//! `cargo xtask bench SUBJECT`: everything a measurement needs, then the measurement.
//!
//! This process becomes the benchmark: a signal reaches who has to clean up.

use std::os::unix::process::CommandExt;

use clap::ValueEnum;

use crate::{
    build,
    command::{Failure, Run},
    filter,
    packages::{self, Need},
};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The XDP program, and its tables from user space, beside xdp-filter and nftables
    Kernel,
}

/// Returns only when the benchmark could not be started.
pub(crate) fn perform(subject: Subject, rounds: u32, json: bool) -> Result<(), Failure> {
    match subject {
        Subject::Kernel => kernel(rounds, json),
    }
}

fn kernel(rounds: u32, json: bool) -> Result<(), Failure> {
    filter::needs_root("bench kernel")?;
    let missing = packages::ensure(&Need::KERNEL);
    if let Some(first) = missing.first() {
        return Err(Failure::new(
            "the benchmark cannot be set up",
            packages::names(&missing),
            format!("install the package {}", first.package),
        ));
    }
    // A peer that cannot be had costs its figures, which say so.
    packages::ensure(&Need::PEERS);
    let object = build::object(build::Object::Release)?;
    let programs = build::object(build::Object::Bench)?;
    let mut run = Run::cargo()
        .args(["run", "--release", "--quiet", "--package", "greylist-tests"])
        .args(["--features", "bench", "--bin", "kernel-bench", "--"])
        .args(["--rounds", &rounds.to_string()]);
    if json {
        run = run.arg("--json");
    }
    let error = run
        .env("GREYGATE_XDP_OBJECT", object)
        .env("GREYGATE_BENCH_OBJECT", programs)
        .into_command()
        .exec();
    Err(Failure::new(
        "the benchmark could not be started",
        error,
        "cargo run --release --package greylist-tests --features bench --bin kernel-bench",
    ))
}
