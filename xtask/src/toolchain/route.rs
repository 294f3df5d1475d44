//! Where a compiler for BPF may be, and in which order to look: asks the machine, then decides
//! purely.
//!
//! Leaves to [`super::debian`] how a compiler is made, and to [`super::proof`] whether one works.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use super::{Compiler, Core, RUSTC, Settings, TARGET};
use crate::command::{Failure, Run, find};

/// One place to take a compiler from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The one the environment names.
    Named(PathBuf),
    /// A nightly of rustup that can build `core` itself.
    Nightly(Nightly),
    /// A private copy of the distribution's compiler.
    Debian,
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(_) => out.write_str(RUSTC),
            Self::Nightly(nightly) => write!(out, "rustup's {}", nightly.name),
            Self::Debian => out.write_str("a private copy of the distribution's compiler"),
        }
    }
}

/// A nightly toolchain of rustup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nightly {
    name: String,
    directory: PathBuf,
    has_source: bool,
}

impl Nightly {
    pub(super) fn compiler(&self) -> Compiler {
        Compiler {
            cargo: self.directory.join("bin/cargo"),
            rustc: self.directory.join("bin/rustc"),
            core: Core::FromSource,
            libraries: self.directory.join("lib"),
        }
    }
}

/// What the machine was found to have.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    named: Option<PathBuf>,
    /// The nightlies, or why rustup could not be asked.
    nightlies: Result<Vec<Nightly>, String>,
    /// Nothing, or why the distribution's packages cannot be used.
    debian: Result<(), String>,
}

/// The routes to try, in order, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) routes: Vec<Route>,
    pub(super) passed_over: Vec<String>,
}

/// Asks the machine; changes nothing.
pub(super) fn probe(settings: &Settings) -> Probes {
    Probes {
        named: settings.rustc.clone(),
        nightlies: nightlies(),
        debian: debian(),
    }
}

/// Orders what was found. A named compiler stands alone.
pub(super) fn plan(probes: Probes) -> Plan {
    let mut plan = Plan::default();
    if let Some(rustc) = probes.named {
        plan.routes.push(Route::Named(rustc));
        return plan;
    }
    plan.passed_over.push(format!("{RUSTC}: not set"));
    match probes.nightlies {
        Err(why) => plan.passed_over.push(why),
        Ok(nightlies) if nightlies.is_empty() => {
            plan.passed_over
                .push("rustup: no nightly toolchain is installed".to_owned());
        }
        Ok(nightlies) => {
            for nightly in nightlies {
                if nightly.has_source {
                    plan.routes.push(Route::Nightly(nightly));
                } else {
                    plan.passed_over.push(format!(
                        "rustup's {0}: it lacks rust-src \
                         (`rustup component add rust-src --toolchain {0}`)",
                        nightly.name
                    ));
                }
            }
        }
    }
    match probes.debian {
        Ok(()) => plan.routes.push(Route::Debian),
        Err(why) => plan.passed_over.push(why),
    }
    plan
}

/// The compiler at a path somebody named; it must have `core` for BPF in some form.
pub(super) fn named(rustc: &Path) -> Result<Compiler, Failure> {
    let sysroot = Run::new(rustc)
        .args(["--print", "sysroot"])
        .quiet()
        .mend(format!(
            "correct {RUSTC}, or unset it to let set-up look for a compiler"
        ))
        .capture()?;
    let sysroot = PathBuf::from(sysroot.trim());
    let core = if sysroot
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib")
        .is_dir()
    {
        Core::Prebuilt
    } else if has_source(&sysroot) {
        Core::FromSource
    } else {
        return Err(Failure::new(
            format!("{} cannot build for {TARGET}", rustc.display()),
            format!(
                "its folder {} holds neither `core` for it nor the library's source",
                sysroot.display()
            ),
            format!("add the component rust-src to it, or unset {RUSTC}"),
        ));
    };
    let own_cargo = sysroot.join("bin/cargo");
    Ok(Compiler {
        cargo: if own_cargo.is_file() {
            own_cargo
        } else {
            our_cargo()
        },
        rustc: rustc.to_owned(),
        core,
        libraries: sysroot.join("lib"),
    })
}

/// The cargo that runs this task.
pub(super) fn our_cargo() -> PathBuf {
    env::var_os("CARGO")
        .map(PathBuf::from)
        .or_else(|| find("cargo"))
        .unwrap_or_else(|| PathBuf::from("cargo"))
}

fn nightlies() -> Result<Vec<Nightly>, String> {
    if find("rustup").is_none() {
        return Err("rustup: not on PATH".to_owned());
    }
    let list = Run::new("rustup")
        .args(["toolchain", "list", "-v"])
        .quiet()
        .capture()
        .map_err(|failure| format!("rustup: {}; {}", failure.what, failure.why))?;
    Ok(parse_nightlies(&list)
        .into_iter()
        .map(|(name, directory)| Nightly {
            name,
            has_source: has_source(&directory),
            directory,
        })
        .collect())
}

/// Names and folders from `rustup toolchain list -v`, whose lines are `NAME [(active, default)]
/// FOLDER`.
fn parse_nightlies(list: &str) -> Vec<(String, PathBuf)> {
    list.lines()
        .filter(|line| line.starts_with("nightly"))
        .filter_map(|line| {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            let directory = &rest[rest.find('/')?..];
            Some((name.to_owned(), PathBuf::from(directory.trim_end())))
        })
        .collect()
}

fn has_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
}

fn debian() -> Result<(), String> {
    match ["apt-get", "apt-cache", "dpkg-deb", "dpkg-query"]
        .into_iter()
        .find(|tool| find(tool).is_none())
    {
        None => Ok(()),
        Some(tool) => Err(format!(
            "the distribution's compiler: only Debian and Ubuntu have one that fits, \
             and {tool} is not here"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly(name: &str, has_source: bool) -> Nightly {
        Nightly {
            name: name.to_owned(),
            directory: PathBuf::from("/toolchains").join(name),
            has_source,
        }
    }

    #[test]
    fn obeys_a_named_compiler_and_looks_no_further() {
        let plan = plan(Probes {
            named: Some(PathBuf::from("/opt/rustc")),
            nightlies: Ok(vec![nightly("nightly", true)]),
            debian: Ok(()),
        });

        assert_eq!(plan.routes, [Route::Named(PathBuf::from("/opt/rustc"))]);
        assert!(plan.passed_over.is_empty());
    }

    #[test]
    fn prefers_a_nightly_with_source_to_the_distribution() {
        let plan = plan(Probes {
            named: None,
            nightlies: Ok(vec![
                nightly("nightly-2026-01-01", false),
                nightly("nightly", true),
            ]),
            debian: Ok(()),
        });

        assert_eq!(
            plan.routes,
            [Route::Nightly(nightly("nightly", true)), Route::Debian]
        );
        assert!(
            plan.passed_over
                .iter()
                .any(|why| why.contains("nightly-2026-01-01: it lacks rust-src"))
        );
    }

    #[test]
    fn names_every_reason_when_nothing_fits() {
        let plan = plan(Probes {
            named: None,
            nightlies: Err("rustup: not on PATH".to_owned()),
            debian: Err("the distribution's compiler: apt-get is not here".to_owned()),
        });

        assert!(plan.routes.is_empty());
        assert_eq!(plan.passed_over.len(), 3);
    }

    #[test]
    fn reads_rustups_list() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default) /home/a b/toolchains/stable\n\
                    nightly-x86_64-unknown-linux-gnu /home/a b/toolchains/nightly\n\
                    nightly-2026-01-01 (default) /opt/nightly\n";

        assert_eq!(
            parse_nightlies(list),
            [
                (
                    "nightly-x86_64-unknown-linux-gnu".to_owned(),
                    PathBuf::from("/home/a b/toolchains/nightly")
                ),
                (
                    "nightly-2026-01-01".to_owned(),
                    PathBuf::from("/opt/nightly")
                ),
            ]
        );
    }
}
