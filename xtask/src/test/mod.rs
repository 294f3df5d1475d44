//! `cargo xtask test`: every test there is, or why one could not run.

mod summary;

use std::{
    cell::OnceCell,
    env, fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::ValueEnum;

use crate::{
    build::{self, Object},
    command::{Failure, Run, is_root},
    dist, image,
    packages::{self, Need},
    setup, torture,
};
use summary::{Counter, Counts};

/// A group of tests with needs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Unit and documentation tests of every crate
    Unit,
    /// What fuzzers kept, read again: `cargo xtask fuzz` looks for more
    Corpus,
    /// The daemon on the wire, spoken to as Postfix speaks
    Milter,
    /// Restarts, snapshots and what a crash may lose
    Store,
    /// `greygate top` on a terminal; metrics, dashboard and alert rules before Prometheus' own tool
    Watch,
    /// The kernel program under the kernel's own test run and in network namespaces (root)
    Kernel,
    /// A real Postfix, and miltertest as a second opinion (root)
    Mta,
    /// Several hosts that share what they remember through a real Redis (root)
    Cluster,
    /// The Debian package from install to purge, on a Debian that boots in a container (root; makes
    /// that Debian the first time, from the network)
    Dist,
    /// Three minutes of `cargo xtask torture`, with a known seed and with a new one (root)
    Torture,
}

pub(crate) fn perform(suites: &[Suite]) -> Result<ExitCode, Failure> {
    let suites = if suites.is_empty() {
        Suite::value_variants()
    } else {
        suites
    };
    let artefacts = Artefacts::build(suites);
    let outcomes = suites
        .iter()
        .map(|suite| suite.perform(&artefacts))
        .collect::<Result<Vec<_>, _>>()?;

    let total: Counts = outcomes.iter().map(|outcome| outcome.counts).sum();
    println!("\n{}", table(&outcomes));
    let strict = env::var_os("CI").is_some_and(|value| value == "true");
    let good = total.failed == 0 && !(strict && total.skipped > 0);
    if total.failed == 0 && !good {
        println!("CI=true: nothing may be skipped");
    }
    println!("{total}");
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How one suite went.
struct Outcome {
    suite: Suite,
    counts: Counts,
    /// Seconds it took, or why it did not run.
    remark: String,
}

/// What the suites run against.
struct Artefacts {
    daemon: Result<PathBuf, Obstacle>,
    /// The kernel program.
    object: Result<PathBuf, Obstacle>,
    /// The kernel program of the feature `debug-log`.
    debug_object: Result<PathBuf, Obstacle>,
    /// What the package is tried on, and the package.
    trial: OnceCell<Trial>,
}

/// Why a suite could not run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle {
    /// This machine lacks something: the suite is skipped.
    Missing(String),
    /// Our own code does not build: the suite fails.
    Broken(String),
}

impl Artefacts {
    fn build(suites: &[Suite]) -> Self {
        if suites == [Suite::Unit] {
            let not_needed = Obstacle::Missing("not built for unit tests".to_owned());
            return Self {
                daemon: Err(not_needed.clone()),
                object: Err(not_needed.clone()),
                debug_object: Err(not_needed),
                trial: OnceCell::new(),
            };
        }
        let toolchain = setup::toolchain().map_err(|failure| {
            eprintln!("{failure}");
            Obstacle::Missing("it needs the compiler for the kernel program, see above".to_owned())
        });
        let toolchain = toolchain.map(drop);
        let build = |object| {
            toolchain.clone()?;
            build::object(object).map_err(|failure| Obstacle::broken(&failure))
        };
        Self {
            debug_object: build(Object::DebugLog),
            object: build(Object::Release),
            daemon: build::daemon(false).map_err(|failure| Obstacle::broken(&failure)),
            trial: OnceCell::new(),
        }
    }
}

/// A machine to be, and what is installed on it.
#[derive(Debug)]
struct Trial {
    image: PathBuf,
    package: PathBuf,
    upgrade: PathBuf,
}

impl Trial {
    fn prepare(daemon: &Path, object: &Path) -> Result<Self, Obstacle> {
        let package = |revision| {
            dist::package(daemon, object, revision).map_err(|failure| Obstacle::broken(&failure))
        };
        Ok(Self {
            image: image::ready().map_err(|failure| {
                eprintln!("{failure}");
                Obstacle::Missing("it needs a Debian of its own, see above".to_owned())
            })?,
            package: package(1)?,
            upgrade: package(2)?,
        })
    }
}

impl Obstacle {
    fn broken(failure: &Failure) -> Self {
        eprintln!("{failure}");
        Self::Broken(failure.what.clone())
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Missing(_) => Counts {
                skipped: 1,
                ..Counts::default()
            },
            Self::Broken(_) => Counts {
                failed: 1,
                ..Counts::default()
            },
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(out, "skipped: {what}"),
            Self::Broken(what) => write!(out, "failed: {what}"),
        }
    }
}

impl Suite {
    fn perform(self, artefacts: &Artefacts) -> Result<Outcome, Failure> {
        println!("\n== {} ==", self.name());
        if let Err(obstacle) = self.prepare(artefacts) {
            println!("{obstacle}");
            return Ok(Outcome {
                suite: self,
                counts: obstacle.counts(),
                remark: obstacle.to_string(),
            });
        }
        let started = Instant::now();
        let mut counts = Counts::default();
        if let (Self::Torture, Ok(daemon), Ok(object)) =
            (self, &artefacts.daemon, &artefacts.object)
        {
            let (runs, failed) = torture::suite(daemon, object)?;
            counts += Counts {
                passed: runs - failed,
                failed,
                skipped: 0,
            };
        }
        for arguments in self.arguments() {
            counts += run(arguments, artefacts)?;
        }
        if counts == Counts::default() {
            println!("no test ran: a suite without tests proves nothing");
            counts.failed = 1;
        }
        let remark = format!("{} s", started.elapsed().as_secs());
        Ok(Outcome {
            suite: self,
            counts,
            remark,
        })
    }

    /// Has installed what can be; what is in the way then, is in the way.
    fn prepare(self, artefacts: &Artefacts) -> Result<(), Obstacle> {
        let needs: &[Need] = match self {
            Self::Unit | Self::Corpus => return Ok(()),
            Self::Milter | Self::Store => {
                return artefacts.daemon.as_ref().map(drop).map_err(Clone::clone);
            }
            Self::Watch => return prepare_to_watch(),
            Self::Kernel => &Need::KERNEL,
            Self::Mta => &Need::MTA,
            Self::Cluster => &Need::CLUSTER,
            Self::Dist => &Need::DIST,
            Self::Torture => &Need::TORTURE,
        };
        if !is_root() {
            return Err(Obstacle::Missing("it needs root".to_owned()));
        }
        let missing = packages::ensure(needs);
        if !missing.is_empty() {
            return Err(Obstacle::Missing(format!(
                "it needs {}",
                packages::names(&missing)
            )));
        }
        let built = artefacts.daemon.as_ref().and(artefacts.object.as_ref());
        let built = match self {
            Self::Kernel => built.and(artefacts.debug_object.as_ref()),
            _ => built,
        };
        built.map(drop).map_err(Clone::clone)?;
        if let (Self::Dist, Ok(daemon), Ok(object)) = (self, &artefacts.daemon, &artefacts.object) {
            let trial = Trial::prepare(daemon, object)?;
            // The suite may be named twice; it is the same trial.
            let _same = artefacts.trial.set(trial);
        }
        Ok(())
    }

    /// The cargo calls of the suite. Features are the same for all, so that nothing is compiled
    /// twice.
    fn arguments(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Unit => &[&["--lib", "--bins"], &["--doc"]],
            Self::Corpus => &[&["--test", "corpus"]],
            Self::Milter => &[
                &["--test", "milter"],
                &["--test", "allocations"],
                &["--test", "descriptors"],
            ],
            Self::Store => &[&["--test", "store"]],
            Self::Watch => &[&["--test", "watch"], &["--test", "log"], &["--test", "top"]],
            Self::Kernel => &[&["--test", "kernel"]],
            Self::Mta => &[&["--test", "mta"]],
            Self::Cluster => &[&["--test", "cluster"]],
            Self::Dist => &[&["--test", "dist"]],
            Self::Torture => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Corpus => "corpus",
            Self::Milter => "milter",
            Self::Store => "store",
            Self::Watch => "watch",
            Self::Kernel => "kernel",
            Self::Mta => "mta",
            Self::Cluster => "cluster",
            Self::Dist => "dist",
            Self::Torture => "torture",
        }
    }
}

fn prepare_to_watch() -> Result<(), Obstacle> {
    let missing = packages::ensure(&Need::WATCH);
    if missing.is_empty() {
        return Ok(());
    }
    let needs = format!("it needs {}", packages::names(&missing));
    Err(Obstacle::Missing(needs))
}

fn run(arguments: &[&str], artefacts: &Artefacts) -> Result<Counts, Failure> {
    let mut cargo = Run::cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args([
            "--features",
            "greylist-tests/bench,greylist-tests/cluster,greylist-tests/dist,greylist-tests/kernel,greylist-tests/mta",
        ])
        .args(arguments);
    if let Ok(daemon) = &artefacts.daemon {
        cargo = cargo.env("GREYGATE_BIN", daemon);
    }
    if let Ok(object) = &artefacts.object {
        cargo = cargo.env("GREYGATE_XDP_OBJECT", object);
    }
    if let Ok(object) = &artefacts.debug_object {
        cargo = cargo.env("GREYGATE_XDP_DEBUG_OBJECT", object);
    }
    if let Some(trial) = artefacts.trial.get() {
        cargo = cargo
            .env("GREYGATE_DIST_IMAGE", &trial.image)
            .env("GREYGATE_DIST_PACKAGE", &trial.package)
            .env("GREYGATE_DIST_UPGRADE", &trial.upgrade);
    }
    let mut counter = Counter::default();
    let status = cargo.watch(|line| counter.line(line))?;
    Ok(counter.counts(status.success()))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec![format!(
        "{:<8}{:>8}{:>8}{:>9}",
        "suite", "passed", "failed", "skipped"
    )];
    for Outcome {
        suite,
        counts,
        remark,
    } in outcomes
    {
        let Counts {
            passed,
            failed,
            skipped,
        } = counts;
        lines.push(format!(
            "{:<8}{passed:>8}{failed:>8}{skipped:>9}  {remark}",
            suite.name()
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up_suites_with_their_reason_to_skip() {
        let outcomes = [
            Outcome {
                suite: Suite::Unit,
                counts: Counts {
                    passed: 120,
                    failed: 0,
                    skipped: 0,
                },
                remark: "4 s".to_owned(),
            },
            Outcome {
                suite: Suite::Mta,
                counts: Counts {
                    passed: 0,
                    failed: 0,
                    skipped: 1,
                },
                remark: "skipped: it needs root".to_owned(),
            },
        ];

        assert_eq!(
            table(&outcomes),
            "suite     passed  failed  skipped\n\
             unit         120       0        0  4 s\n\
             mta            0       0        1  skipped: it needs root"
        );
    }

    #[test]
    fn skips_for_what_the_machine_lacks_and_fails_for_what_does_not_build() {
        let suite = |object| {
            let artefacts = Artefacts {
                daemon: Err(object),
                object: Ok(PathBuf::from("x.o")),
                debug_object: Ok(PathBuf::from("x-debug-log.o")),
                trial: OnceCell::new(),
            };
            let outcome = Suite::Store.perform(&artefacts).expect("nothing is run");
            (outcome.counts.failed, outcome.counts.skipped)
        };

        assert_eq!(suite(Obstacle::Missing("root".to_owned())), (0, 1));
        assert_eq!(
            suite(Obstacle::Broken("`cargo build` failed".to_owned())),
            (1, 0)
        );
    }
}
