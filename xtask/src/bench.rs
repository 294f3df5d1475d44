//! `cargo xtask bench SUBJECT`: everything a measurement needs, then the measurement.
//!
//! This process becomes the benchmark: a signal reaches who has to clean up. [`all`] runs one after
//! the other and puts their tables into the documentation.

mod all;
mod blocks;

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
    /// All of them, one after the other; their tables go into docs/benchmarks.md
    All,
    /// Hosts that share through Redis, one and three, beside one that does not
    Cluster,
    /// A decision, and the way of an attempt through the store, in one thread
    Decide,
    /// The XDP program, and its tables from user space, beside xdp-filter and nftables
    Kernel,
    /// A session of the whole daemon, beside filters that do as little as can be done and other
    /// greylisters
    Milter,
    /// The store alone: memory, snapshots, starts and sweeps, and decisions beside them
    Store,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How often each thing is.
    pub(crate) rounds: u32,
    /// For machines.
    pub(crate) json: bool,
    /// A milter-greylist that no package brought.
    pub(crate) milter_greylist: Option<PathBuf>,
}

/// Returns at once when the benchmark could not be started, and otherwise only after all of them.
pub(crate) fn perform(
    subject: Subject,
    only: &[Subject],
    settings: &Settings,
) -> Result<(), Failure> {
    if subject == Subject::All {
        if settings.json {
            return Err(Failure::new(
                "`bench all` prints no JSON",
                "it writes tables into docs/benchmarks.md",
                "cargo xtask bench milter --json, or another subject",
            ));
        }
        let only = all::SUBJECTS
            .into_iter()
            .filter(|it| only.is_empty() || only.contains(it));
        return all::perform(&only.collect::<Vec<_>>(), settings);
    }
    if !only.is_empty() {
        return Err(Failure::new(
            "`--only` is for `bench all`",
            format!("`bench {}` is one subject", subject.name()),
            "cargo xtask bench all --only milter,store",
        ));
    }
    let error = subject.prepare(settings)?.into_command().exec();
    Err(Failure::new(
        "the benchmark could not be started",
        error,
        format!("cargo xtask bench {}", subject.name()),
    ))
}

impl Subject {
    /// As it is written on the command line, and in the markers of its table.
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Cluster => "cluster",
            Self::Decide => "decide",
            Self::Kernel => "kernel",
            Self::Milter => "milter",
            Self::Store => "store",
        }
    }

    /// Installs and builds what it takes; what measures it.
    fn prepare(self, settings: &Settings) -> Result<Run, Failure> {
        match self {
            Self::All => Err(Failure::new(
                "all is no subject of its own",
                "it is all of the others",
                "cargo xtask bench all",
            )),
            Self::Cluster => cluster(settings),
            Self::Decide => Ok(Run::cargo()
                .args(["bench", "--quiet", "--package", "greylist-user"])
                .args(["--bench", "decide"])),
            Self::Kernel => kernel(settings),
            Self::Milter => milter(settings),
            // Its snapshots are written where everything that is built is.
            Self::Store => Ok(benchmark("store-bench", settings)
                .arg("--directory")
                .arg(workspace::target())),
        }
    }
}

fn cluster(settings: &Settings) -> Result<Run, Failure> {
    filter::needs_root("bench cluster")?;
    everything_of(&Need::SHARING)?;
    let daemon = build::daemon(false)?;
    Ok(benchmark("cluster-bench", settings).env("GREYGATE_BIN", daemon))
}

fn kernel(settings: &Settings) -> Result<Run, Failure> {
    filter::needs_root("bench kernel")?;
    everything_of(&Need::KERNEL)?;
    // A peer that cannot be had costs its figures, which say so.
    packages::ensure(&Need::PEERS);
    let object = build::object(build::Object::Release)?;
    let programs = build::object(build::Object::Bench)?;
    Ok(benchmark("kernel-bench", settings)
        .env("GREYGATE_XDP_OBJECT", object)
        .env("GREYGATE_BENCH_OBJECT", programs))
}

fn milter(settings: &Settings) -> Result<Run, Failure> {
    filter::needs_root("bench milter")?;
    everything_of(&Need::MILTER_PEERS)?;
    // Each by itself: where one is not to be had, the others are.
    for greylister in Need::GREYLISTERS {
        packages::ensure_if_offered(greylister);
    }
    let peers = milter_peers()?;
    let daemon = build::daemon(false)?;
    let run = benchmark("milter-bench", settings)
        .env("GREYGATE_BIN", daemon)
        .env("GREYGATE_PEERS", peers);
    Ok(match &settings.milter_greylist {
        Some(program) => run.env("GREYGATE_MILTER_GREYLIST", program),
        None => run,
    })
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

fn benchmark(name: &str, settings: &Settings) -> Run {
    let run = Run::cargo()
        .args(["run", "--release", "--quiet", "--package", "greylist-tests"])
        .args(["--features", "bench", "--bin", name, "--"])
        .args(["--rounds", &settings.rounds.to_string()]);
    if settings.json {
        run.arg("--json")
    } else {
        run
    }
}

/// Their sources, and what each is linked with.
const MILTER_PEERS: [(&str, &[&str]); 3] = [
    ("floor", &[]),
    ("libmilter_empty", &["-lmilter", "-lpthread"]),
    ("libmilter_read", &["-lmilter", "-lpthread"]),
];
