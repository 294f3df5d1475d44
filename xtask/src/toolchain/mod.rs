//! The compiler and linker for the kernel program: found, or made and kept.
//!
//! The target `bpfel-unknown-none` has no prebuilt `core` in rustup, so a compiler that can build
//! for it is rare: [`route`] knows where one may be and in which order to look, [`debian`] makes
//! one, [`linker`] finds or makes the `bpf-linker` that fits it, [`proof`] compiles a program of
//! three lines with both, and [`stamp`] remembers the result, so that the next call is instant.
//!
//! Everything made lies in one folder ([`home`]); it is built beside its place and renamed, so an
//! interrupted set-up leaves nothing that looks finished, and a lock keeps two set-ups apart.

mod debian;
mod linker;
mod proof;
mod route;
mod stamp;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::command::{Failure, Run};

/// The variable that names the folder for everything set-up makes.
pub(crate) const HOME: &str = "GREYGATE_TOOLCHAIN_DIR";
/// The variable that names a compiler to use instead of looking for one.
pub(crate) const RUSTC: &str = "GREYGATE_BPF_RUSTC";
/// The variable that names a `bpf-linker` to use instead of looking for one.
pub(crate) const LINKER: &str = "GREYGATE_BPF_LINKER";

/// The target of the kernel program. XDP programs run in the byte order of their host.
pub(crate) const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// A compiler and linker that were seen to build a BPF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    /// The compiler's version and that of its LLVM when linker and compiler were seen to fit.
    version: (String, u32),
    /// What was chosen, with versions, for people.
    summary: String,
}

/// A compiler that has `core` for BPF, or its source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Compiler {
    /// The cargo that belongs to it; ours where it has none.
    cargo: PathBuf,
    rustc: PathBuf,
    core: Core,
    /// Where its shared libraries lie, LLVM among them, which `bpf-linker` loads as well.
    libraries: PathBuf,
}

/// How a compiler comes by `core` for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    /// It ships with the compiler.
    Prebuilt,
    /// Cargo builds it from the component `rust-src`.
    FromSource,
}

/// The toolchain to use and how it was come by.
pub(crate) struct Found {
    pub(crate) toolchain: Toolchain,
    /// Whether an earlier set-up answered.
    pub(crate) remembered: bool,
}

/// The toolchain of an earlier set-up, or a new one. What is passed over on the way is printed with
/// its reason.
pub(crate) fn find_or_make() -> Result<Found, Failure> {
    let home = home()?;
    fs::create_dir_all(&home).map_err(Failure::file("create", &home))?;
    let settings = Settings::from_environment();
    if let Some(toolchain) = stamp::read(&home, &settings) {
        return Ok(Found {
            toolchain,
            remembered: true,
        });
    }

    let _lock = lock(&home)?;
    // Whoever held the lock before us may have done the work.
    if let Some(toolchain) = stamp::read(&home, &settings) {
        return Ok(Found {
            toolchain,
            remembered: true,
        });
    }
    remove_leftovers(&home)?;
    let plan = route::plan(route::probe(&settings));
    let mut passed_over = plan.passed_over;
    let mut told = 0;
    for route in &plan.routes {
        // Told while there is something left to try; after the last one the failure tells it all.
        for reason in &passed_over[told..] {
            eprintln!("passed over {reason}");
        }
        told = passed_over.len();
        match make(route, &home, &settings) {
            Ok(toolchain) => {
                stamp::write(&home, &settings, &toolchain)?;
                return Ok(Found {
                    toolchain,
                    remembered: false,
                });
            }
            // A setting is an order: nothing else is tried in its place.
            Err(failure) if settings.rustc.is_some() => return Err(failure),
            Err(failure) => {
                passed_over.push(format!("{route}: {}; {}", failure.what, failure.why));
            }
        }
    }
    Err(nothing_fits(&passed_over, &settings))
}

impl Toolchain {
    /// A cargo that builds for BPF with this toolchain; the caller adds `build` and what to build.
    pub(crate) fn cargo(&self, subcommand: &str) -> Run {
        self.compiler.cargo(subcommand, &self.linker)
    }

    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }
}

impl Compiler {
    /// The environment that makes a BPF object, as `aya-build` sets it, without its wish for a
    /// nightly:
    ///
    /// - `RUSTC_BOOTSTRAP`: aya-ebpf uses the unstable `asm_experimental_arch` for this target.
    /// - the loader's library path: neither the compiler's copy nor `bpf-linker` knows where LLVM
    ///   lies.
    /// - the linker by its path, whatever it is called, and on PATH, where build scripts look for
    ///   it.
    /// - profile: BPF cannot unwind, and one module is what the verifier sees inlined.
    /// - flags: line information and BTF, which the loader reads the maps from.
    fn cargo(&self, subcommand: &str, linker: &Path) -> Run {
        let flags = [
            format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
        ];
        let mut run = Run::new(&self.cargo)
            .without_cargos_environment()
            .arg(subcommand)
            .args(["--target", TARGET])
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env(&linker_variable(), linker)
            .env("PATH", path_with(linker))
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        for inherited in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_TARGET",
        ] {
            run = run.env_remove(inherited);
        }
        match self.core {
            Core::Prebuilt => run,
            Core::FromSource => run.arg("-Zbuild-std=core"),
        }
    }

    /// Its version and that of its LLVM, as it states them: `("1.96.0", 22)`.
    fn version(&self) -> Result<(String, u32), Failure> {
        let said = Run::new(&self.rustc)
            .arg("-vV")
            .env("LD_LIBRARY_PATH", &self.libraries)
            .quiet()
            .capture()?;
        parse_version(&said).ok_or_else(|| {
            Failure::new(
                format!("{} does not state its version", self.rustc.display()),
                "no `release:` and `LLVM version:` in what `rustc -vV` says",
                format!("name a rustc built with LLVM in {RUSTC}"),
            )
        })
    }
}

/// What the environment asks for; a set-up made for other settings is not used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    rustc: Option<PathBuf>,
    linker: Option<PathBuf>,
}

impl Settings {
    fn from_environment() -> Self {
        Self {
            rustc: env::var_os(RUSTC).map(PathBuf::from),
            linker: env::var_os(LINKER).map(PathBuf::from),
        }
    }
}

/// The folder for everything set-up makes: it lies outside the workspace, so that it survives a
/// fresh clone.
pub(crate) fn home() -> Result<PathBuf, Failure> {
    let from_cache = || {
        env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cache")))
            .map(|cache| cache.join("greygate"))
    };
    env::var_os(HOME)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(from_cache)
        .and_then(|path| std::path::absolute(path).ok())
        .ok_or_else(|| {
            Failure::new(
                "no folder for the toolchain",
                "neither a home folder nor a cache folder is known",
                format!("set {HOME} to a folder with 2 GB free"),
            )
        })
}

fn make(route: &route::Route, home: &Path, settings: &Settings) -> Result<Toolchain, Failure> {
    let compiler = match route {
        route::Route::Named(rustc) => route::named(rustc)?,
        route::Route::Nightly(nightly) => nightly.compiler(),
        route::Route::Debian => debian::find_or_make(home)?,
    };
    let (release, llvm) = compiler.version()?;
    let linker = linker::find_or_make(home, settings, &compiler, llvm)?;
    let summary = format!(
        "{route}: rustc {release} with LLVM {llvm} at {}, linker at {}",
        compiler.rustc.display(),
        linker.display()
    );
    Ok(Toolchain {
        compiler,
        linker,
        version: (release, llvm),
        summary,
    })
}

fn nothing_fits(passed_over: &[String], settings: &Settings) -> Failure {
    let mend = if settings.linker.is_some() {
        format!("correct {LINKER}, or unset it to have a linker made; then `cargo xtask setup`")
    } else {
        format!(
            "`rustup toolchain install nightly --component rust-src`, or set {RUSTC} to a rustc \
             that has `core` for {TARGET}; then `cargo xtask setup`"
        )
    };
    let why = format!(
        "none of these fits:\n    - {}",
        passed_over.join("\n    - ")
    );
    Failure::new("no toolchain for the kernel program", why, mend)
}

/// Holds other set-ups back until it is dropped.
fn lock(home: &Path) -> Result<Flock<fs::File>, Failure> {
    let path = home.join("lock");
    let file = fs::File::create(&path).map_err(Failure::file("create", &path))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, _)) => file,
    };
    eprintln!(
        "another set-up is at work in {}; waiting for it",
        home.display()
    );
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| {
        Failure::new(
            format!("cannot lock {}", path.display()),
            error,
            format!("set {HOME} to a folder on a local disk"),
        )
    })
}

/// Removes what an interrupted set-up left; only the holder of the lock may.
fn remove_leftovers(home: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(home).map_err(Failure::file("read", home))?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            fs::remove_dir_all(entry.path()).map_err(Failure::file("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// How the name of a folder ends while it is being filled.
const PARTIAL: &str = ".partial";

/// Fills a folder beside its place with `fill`, then puts it there.
fn build_beside(
    place: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut beside = place.as_os_str().to_owned();
    beside.push(PARTIAL);
    let beside = PathBuf::from(beside);
    fs::create_dir_all(&beside).map_err(Failure::file("create", &beside))?;
    fill(&beside)?;
    if place.exists() {
        fs::remove_dir_all(place).map_err(Failure::file("remove", place))?;
    }
    fs::rename(&beside, place).map_err(Failure::file("rename", &beside))
}

/// Where cargo reads which linker to use for [`TARGET`].
fn linker_variable() -> String {
    let target = TARGET.replace('-', "_").to_uppercase();
    format!("CARGO_TARGET_{target}_LINKER")
}

/// PATH with the linker's folder first.
fn path_with(linker: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = linker.parent().map(Path::to_path_buf);
    env::join_paths(own.into_iter().chain(env::split_paths(&path))).unwrap_or(path)
}

fn parse_version(said: &str) -> Option<(String, u32)> {
    let field = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let release = field("release:")?.to_owned();
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_a_compiler_states() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\n\
                    release: 1.96.0\nLLVM version: 22.1.8\n";

        assert_eq!(parse_version(said), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_version("rustc 1.96.0"), None);
    }

    #[test]
    fn leaves_the_old_folder_in_place_when_filling_fails() {
        let home = env::temp_dir().join(format!("greygate-xtask-beside-{}", std::process::id()));
        let place = home.join("tool");
        build_beside(&place, |beside| {
            fs::write(beside.join("version"), "old").map_err(Failure::file("write", beside))
        })
        .expect("the temporary folder is writable");

        let failed = build_beside(&place, |_| {
            Err(Failure::new("interrupted", "the test says so", "none"))
        });

        assert!(failed.is_err());
        assert_eq!(
            fs::read_to_string(place.join("version")).ok().as_deref(),
            Some("old")
        );
        remove_leftovers(&home).expect("the leftover can be removed");
        assert!(!home.join("tool.partial").exists());
        fs::remove_dir_all(&home).expect("the test's own folder can be removed");
    }
}
