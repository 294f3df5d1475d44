//! `cargo xtask torture`: everything the torture run needs, then the run.
//!
//! As a command this process becomes the run: a signal reaches who has to clean up. As a suite of
//! `cargo xtask test torture` it is run twice, once with a seed that is always the same and once with a new one,
//! which the run prints.

use std::{os::unix::process::CommandExt, path::Path};

use crate::{
    build,
    command::{Failure, Run},
    filter,
    packages::{self, Need},
};

/// What the run is told, as its own command line has it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long faults come
    #[arg(long, value_name = "N", conflicts_with = "times")]
    minutes: Option<u64>,
    /// What the faults follow from; a new one, which is printed, if it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these faults: clock, disk-full, foreign-pins, foreign-program, idle, kill, peers,
    /// power-cut, reload, terminate, xdp-unload
    #[arg(long, value_name = "FAULT,...")]
    only: Option<String>,
    /// So many faults, one every two seconds, instead of minutes
    #[arg(long, value_name = "N")]
    times: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Returns only when the run could not be started.
pub(crate) fn perform(arguments: &Arguments) -> Result<(), Failure> {
    filter::needs_root("torture")?;
    let missing = packages::ensure(&Need::TORTURE);
    if let Some(first) = missing.first() {
        return Err(Failure::new(
            "the torture run cannot be set up",
            packages::names(&missing),
            format!("install the package {}", first.package),
        ));
    }
    let object = build::object(build::Object::Release)?;
    let daemon = build::daemon(false)?;
    let error = run(&daemon, &object, &arguments.words())
        .into_command()
        .exec();
    Err(Failure::new(
        "the torture run could not be started",
        error,
        "cargo run --package greylist-tests --features bench --bin torture",
    ))
}

/// Three minutes: how many runs there were, and how many of them did not balance.
pub(crate) fn suite(daemon: &Path, object: &Path) -> Result<(u64, u64), Failure> {
    let mut failed = 0;
    for words in SUITE {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let status = run(daemon, object, &words).status()?;
        failed += u64::from(!status.success());
    }
    Ok((SUITE.len() as u64, failed))
}

fn run(daemon: &Path, object: &Path, words: &[String]) -> Run {
    Run::cargo()
        .args(["run", "--quiet", "--package", "greylist-tests"])
        .args(["--features", "bench", "--bin", "torture", "--"])
        .args(words)
        .env("GREYGATE_BIN", daemon)
        .env("GREYGATE_XDP_OBJECT", object)
}

impl Arguments {
    fn words(&self) -> Vec<String> {
        let numbers = [
            ("--minutes", self.minutes),
            ("--seed", self.seed),
            ("--times", self.times),
        ];
        let mut words = Vec::new();
        for (name, number) in numbers {
            words.extend(number.map(|it| format!("{name}={it}")));
        }
        words.extend(self.only.iter().map(|only| format!("--only={only}")));
        words.extend(self.json.then(|| "--json".to_owned()));
        words
    }
}

/// A known seed, then a new one. A machine that runs tests may give nobody a processor for a second, which the
/// promise has no room for: it is held to by the runs that are made by hand.
const SUITE: [&[&str]; 2] = [
    &["--minutes=2", "--seed=33", "--bound=2000"],
    &["--minutes=1", "--json", "--bound=2000"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_on_what_it_is_told_and_nothing_else() {
        let arguments = Arguments {
            minutes: None,
            seed: Some(7),
            only: Some("kill,reload".to_owned()),
            times: Some(200),
            json: true,
        };
        let words = ["--seed=7", "--times=200", "--only=kill,reload", "--json"];
        assert_eq!(arguments.words(), words);
    }
}
