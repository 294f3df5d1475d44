//! `cargo xtask dist`: a Debian package, and an archive for other systems.
//!
//! Knows the order of the work; leaves what lies where to [`tree`], what the package says of itself to
//! [`control`] and what the program needs of a system to [`needs`].

mod control;
mod needs;
mod tree;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    build::{self, Object},
    command::{Failure, Run, find},
    progress::Progress,
    workspace,
};
use control::Facts;

/// What `--help` says about the environment.
pub(crate) const SETTINGS: &str = "\
Environment:
  DEBFULLNAME, DEBEMAIL  who answers for the package
  SOURCE_DATE_EPOCH      the time of every file in it [default: that of the last commit]

Example: cargo xtask dist --revision 2 && apt install ./target/dist/greygate_*-2_*.deb";

pub(crate) fn perform(revision: u32) -> Result<(), Failure> {
    let object = build::object(Object::Release)?;
    let daemon = build::daemon(false)?;
    let package = package(&daemon, &object, revision)?;
    let archive = archive(&daemon, &object)?;
    println!("package: {}", package.display());
    println!("archive: {}", archive.display());
    Ok(())
}

/// Makes the package of what is built: `target/dist/greygate_VERSION-REVISION_ARCHITECTURE.deb`.
pub(crate) fn package(daemon: &Path, object: &Path, revision: u32) -> Result<PathBuf, Failure> {
    if find("dpkg-deb").is_none() {
        return Err(Failure::new(
            "the Debian package cannot be made",
            "there is no dpkg-deb",
            "apt-get install dpkg, also to be had on Fedora and Arch",
        ));
    }
    let facts = Facts {
        version: control::debian_version(env!("CARGO_PKG_VERSION"), revision),
        architecture: control::debian_architecture(env::consts::ARCH)?,
        maintainer: maintainer(),
        depends: needs::depends(daemon)?,
        epoch: epoch(),
    };
    let package = folder()?.join(facts.file_name());
    let progress = Progress::start(format!("packing {}", facts.file_name()));
    let stage = Stage::new("deb")?;
    tree::lay_out(&stage.0, daemon, object)?;
    tree::lay_out_for_debian(&stage.0, &facts)?;
    let beside = package.with_extension("deb.new");
    Run::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .args([&stage.0, &beside])
        .env("SOURCE_DATE_EPOCH", facts.epoch.to_string())
        .quiet()
        .capture()?;
    fs::rename(&beside, &package).map_err(Failure::file("replace", &package))?;
    progress.done(&size(&package));
    Ok(package)
}

/// The same files for a system without dpkg; the configuration lies among the shared files, so that
/// unpacking writes over nobody's own.
fn archive(daemon: &Path, object: &Path) -> Result<PathBuf, Failure> {
    let name = format!(
        "greygate-{}-{}",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    );
    let archive = folder()?.join(format!("{name}.tar.gz"));
    let progress = Progress::start(format!("packing {name}.tar.gz"));
    let stage = Stage::new("archive")?;
    tree::lay_out(&stage.0, daemon, object)?;
    let beside = archive.with_extension("gz.new");
    Run::new("tar")
        .args(["--create", "--sort=name", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--use-compress-program=gzip -9n"])
        .arg(format!("--mtime=@{}", epoch()))
        .arg(format!("--transform=s,^\\.,{name},"))
        .arg("--file")
        .arg(&beside)
        .arg("--directory")
        .arg(&stage.0)
        .arg(".")
        .quiet()
        .capture()?;
    fs::rename(&beside, &archive).map_err(Failure::file("replace", &archive))?;
    progress.done(&size(&archive));
    Ok(archive)
}

/// Where the files are laid out; it goes when this does.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Result<Self, Failure> {
        let path = folder()?.join(format!("{name}.{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Failure::file("empty", &path))?;
        }
        fs::create_dir_all(&path).map_err(Failure::file("make", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

fn folder() -> Result<PathBuf, Failure> {
    let folder = workspace::target().join("dist");
    fs::create_dir_all(&folder).map_err(Failure::file("make", &folder))?;
    Ok(folder)
}

fn maintainer() -> String {
    let variable = |name: &str, otherwise: &str| {
        let value = env::var(name).ok().filter(|value| !value.is_empty());
        value.unwrap_or_else(|| otherwise.to_owned())
    };
    let name = variable("DEBFULLNAME", "The Greygate authors");
    let address = variable("DEBEMAIL", "greygate@packages.invalid");
    format!("{name} <{address}>")
}

/// The time that every file is given, so that the same source makes the same package.
fn epoch() -> u64 {
    let given = env::var("SOURCE_DATE_EPOCH").ok();
    let last_commit = || {
        Run::new("git")
            .directory(&workspace::root())
            .args(["log", "-1", "--format=%ct"])
            .quiet()
            .capture()
            .ok()
    };
    let now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    };
    given
        .or_else(last_commit)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(now)
}

fn size(path: &Path) -> String {
    let bytes = fs::metadata(path).map_or(0, |file| file.len());
    format!(
        "{:.1} MB",
        f64::from(u32::try_from(bytes / 1_000).unwrap_or(u32::MAX)) / 1_000.0
    )
}
