//! A private copy of the distribution's compiler, unpacked into a folder; nothing is installed.
//!
//! Debian ships `core` for BPF ready-made beside the compiler it keeps for browsers (`rustc-web`
//! and `libstd-rust-web-dev-bpf` in Debian 12). Names and versions are asked of apt, not written
//! down here. apt works on lists of its own in a folder of ours, so no root is needed and stale
//! system lists do no harm.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
};

use super::{Compiler, Core, TARGET, build_beside, route};
use crate::{
    command::{Failure, Run},
    progress::Progress,
};

/// The copy made before, or a new one.
pub(super) fn find_or_make(home: &Path) -> Result<Compiler, Failure> {
    let place = home.join("debian");
    let compiler = compiler(&place);
    if compiler.version().is_err() {
        build_beside(&place, fill)?;
    }
    Ok(compiler)
}

fn compiler(place: &Path) -> Compiler {
    let libraries = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
    Compiler {
        cargo: route::our_cargo(),
        rustc: place.join("usr/bin/rustc"),
        core: Core::Prebuilt,
        libraries: place.join(libraries),
    }
}

fn fill(place: &Path) -> Result<(), Failure> {
    let apt = Apt::in_folder(&place.join("apt"))?;
    let progress = Progress::start("asking apt for a compiler with `core` for BPF");
    apt.update()?;
    let core = apt.core_package()?;
    let packages = wanted(
        &apt.closure(&compiler_package(&core), &core)?,
        &installed()?,
    );
    progress.done(&packages.join(" "));

    let progress = Progress::start("downloading and unpacking them (120 MB, 500 MB unpacked)");
    let downloads = apt.download(&packages)?;
    for package in &downloads {
        Run::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(place)
            .quiet()
            .capture()?;
    }
    let size = format!("{} packages in {}", downloads.len(), place.display());
    fs::remove_dir_all(&apt.folder).map_err(Failure::file("remove", &apt.folder))?;
    progress.done(&size);

    let library = place.join("usr/lib/rustlib").join(TARGET);
    if library.is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        "the distribution's compiler cannot be used",
        format!("its packages hold no {}", library.display()),
        "use a nightly: `rustup toolchain install nightly --component rust-src`",
    ))
}

/// apt with lists and downloads in a folder of ours, under the system's sources and keys.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn in_folder(folder: &Path) -> Result<Self, Failure> {
        for needed in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(needed);
            fs::create_dir_all(&path).map_err(Failure::file("create", &path))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn run(&self, program: &str) -> Run {
        let option =
            |name: &str, path: &str| format!("{name}={}", self.folder.join(path).display());
        Run::new(program)
            .directory(&self.folder)
            .env("LC_ALL", "C")
            .args(["-o", &option("Dir::State::Lists", "lists")])
            .args(["-o", &option("Dir::Cache", "cache")])
            // As root apt downloads as its own user, who may not write into our folder.
            .args(["-o", "APT::Sandbox::User=root"])
            .quiet()
            .mend("look at the network and at /etc/apt, then `cargo xtask setup` again")
    }

    /// Fetches the package lists. A source that does not answer is no failure yet: another may have
    /// what we need.
    fn update(&self) -> Result<(), Failure> {
        self.run("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "update"])
            .capture()
            .map(drop)
            .or_else(|failure| {
                if self.core_package().is_ok() {
                    Ok(())
                } else {
                    Err(failure)
                }
            })
    }

    /// The package with `core` for BPF.
    fn core_package(&self) -> Result<String, Failure> {
        let found = self
            .run("apt-cache")
            .args(["search", "--names-only", "^libstd-rust.*-dev-bpf$"])
            .capture()?;
        newest_core_package(&found).ok_or_else(|| {
            Failure::new(
                "the distribution ships no `core` for BPF",
                "apt knows no package libstd-rust-…-dev-bpf",
                "on Debian 12 add its security archive to /etc/apt; elsewhere use a nightly: \
                 `rustup toolchain install nightly --component rust-src`",
            )
        })
    }

    /// Every package that `compiler` and `core` need, as if nothing were installed.
    fn closure(&self, compiler: &str, core: &str) -> Result<Vec<String>, Failure> {
        let plan = self
            .run("apt-get")
            .args(["-qq", "-o", "Dir::State::status=/dev/null"])
            .args([
                "install",
                "--simulate",
                "--no-install-recommends",
                compiler,
                core,
            ])
            .capture()?;
        Ok(parse_plan(&plan))
    }

    fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>, Failure> {
        self.run("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "download"])
            .args(packages)
            .capture()?;
        let entries = fs::read_dir(&self.folder).map_err(Failure::file("read", &self.folder))?;
        Ok(entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }
}

/// The packages that are installed on this machine.
fn installed() -> Result<HashSet<String>, Failure> {
    let list = Run::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .quiet()
        .capture()?;
    Ok(list
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect())
}

/// The one named last by apt's `NAME - description` lines, which are sorted.
fn newest_core_package(found: &str) -> Option<String> {
    found
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .next_back()
        .map(str::to_owned)
}

/// `libstd-rust-web-dev-bpf` belongs to `rustc-web`, `libstd-rust-dev-bpf` to `rustc`.
fn compiler_package(core: &str) -> String {
    let flavour = core
        .trim_start_matches("libstd-rust")
        .trim_end_matches("-dev-bpf");
    format!("rustc{flavour}")
}

/// Names from the `Inst NAME (VERSION …)` lines of a simulated installation.
fn parse_plan(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// What to download: the compiler's own parts, which must lie together, and libraries the system
/// lacks. The system's own C library and compiler stay in use.
fn wanted(closure: &[String], installed: &HashSet<String>) -> Vec<String> {
    closure
        .iter()
        .filter(|name| name.contains("rust") || name.contains("llvm") || !installed.contains(*name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "\
Inst libc6 (2.36-9+deb12u13 Debian:12 [amd64])
Inst libz3-4 (4.8.12-3.1 Debian:12 [amd64])
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12 [amd64])
Inst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12 [amd64])
Conf libc6 (2.36-9+deb12u13 Debian:12 [amd64])
";

    #[test]
    fn downloads_the_compiler_and_only_those_libraries_the_system_lacks() {
        let installed = ["libc6", "rustc-web"].map(str::to_owned).into();

        assert_eq!(
            wanted(&parse_plan(PLAN), &installed),
            ["libz3-4", "libllvm22", "rustc-web"]
        );
    }

    #[test]
    fn finds_the_compiler_that_belongs_to_a_core() {
        assert_eq!(compiler_package("libstd-rust-web-dev-bpf"), "rustc-web");
        assert_eq!(compiler_package("libstd-rust-dev-bpf"), "rustc");
    }

    #[test]
    fn takes_the_last_core_that_apt_knows() {
        let found = "libstd-rust-web-dev-bpf - Rust standard libraries - development files\n";

        assert_eq!(
            newest_core_package(found).as_deref(),
            Some("libstd-rust-web-dev-bpf")
        );
        assert_eq!(newest_core_package(""), None);
    }
}
