//! `cargo xtask test`: every test there is, or why one could not run.

mod summary;

use std::{env, path::PathBuf, process::ExitCode, time::Instant};

use clap::ValueEnum;

use crate::{
    build,
    command::{Failure, Run, is_root},
    packages::{self, Need},
};
use summary::{Counter, Counts};

/// A group of tests with needs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Unit and documentation tests of every crate
    Unit,
    /// The daemon on the wire, spoken to as Postfix speaks
    Milter,
    /// Restarts, snapshots and what a crash may lose
    Store,
    /// The kernel program under the kernel's own test run and in network namespaces (root)
    Kernel,
    /// A real Postfix, swaks and miltertest (root)
    Mta,
}

pub(crate) fn perform(suites: &[Suite]) -> Result<ExitCode, Failure> {
    let suites = if suites.is_empty() {
        Suite::value_variants()
    } else {
        suites
    };
    let artefacts = Artefacts::build(suites)?;
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
    /// Seconds it took, or why it was skipped.
    remark: String,
}

/// What the suites run against.
struct Artefacts {
    daemon: Option<PathBuf>,
    /// The kernel program, or why there is none.
    object: Result<PathBuf, String>,
}

impl Artefacts {
    fn build(suites: &[Suite]) -> Result<Self, Failure> {
        if suites == [Suite::Unit] {
            return Ok(Self {
                daemon: None,
                object: Err("not built for unit tests".to_owned()),
            });
        }
        let object = build::object(false).map_err(|failure| {
            eprintln!("{failure}");
            format!("the kernel program cannot be built: {}", failure.what)
        });
        Ok(Self {
            daemon: Some(build::daemon(false)?),
            object,
        })
    }
}

impl Suite {
    fn perform(self, artefacts: &Artefacts) -> Result<Outcome, Failure> {
        println!("\n== {} ==", self.name());
        if let Some(why) = self.obstacle(artefacts) {
            println!("skipped: {why}");
            let counts = Counts {
                skipped: 1,
                ..Counts::default()
            };
            return Ok(Outcome {
                suite: self,
                counts,
                remark: format!("skipped: {why}"),
            });
        }
        let started = Instant::now();
        let mut counts = Counts::default();
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

    /// What keeps the suite from running here, once everything that can be installed is.
    fn obstacle(self, artefacts: &Artefacts) -> Option<String> {
        let needs: &[Need] = match self {
            Self::Unit | Self::Milter | Self::Store => return None,
            Self::Kernel => &Need::KERNEL,
            Self::Mta => &Need::MTA,
        };
        if !is_root() {
            return Some("it needs root".to_owned());
        }
        let missing = packages::ensure(needs);
        if !missing.is_empty() {
            return Some(format!("it needs {}", packages::names(&missing)));
        }
        artefacts.object.as_ref().err().cloned()
    }

    /// The cargo calls of the suite. Features are the same for all, so that nothing is compiled twice.
    fn arguments(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Unit => &[&["--lib", "--bins"], &["--doc"]],
            Self::Milter => &[&["--test", "milter"]],
            Self::Store => &[&["--test", "store"]],
            Self::Kernel => &[&["--test", "kernel"]],
            Self::Mta => &[&["--test", "mta"]],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Milter => "milter",
            Self::Store => "store",
            Self::Kernel => "kernel",
            Self::Mta => "mta",
        }
    }
}

fn run(arguments: &[&str], artefacts: &Artefacts) -> Result<Counts, Failure> {
    let mut cargo = Run::cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(["--features", "greylist-tests/kernel,greylist-tests/mta"])
        .args(arguments);
    if let Some(daemon) = &artefacts.daemon {
        cargo = cargo.env("GREYGATE_BIN", daemon);
    }
    if let Ok(object) = &artefacts.object {
        cargo = cargo.env("GREYGATE_XDP_OBJECT", object);
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
}
