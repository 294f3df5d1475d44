//! The Debian that the package is tried on: made once, kept for the next time.
//!
//! Knows what is in it and where it is kept; leaves booting it to the tests, which change nothing of
//! it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    command::{Failure, Run},
    progress::Progress,
    toolchain,
};

/// The root directory of a Debian 12 with systemd and Postfix, made by debootstrap when it is not
/// there. Needs root and, the first time, the network.
pub(crate) fn ready() -> Result<PathBuf, Failure> {
    let home = toolchain::home()?;
    fs::create_dir_all(&home).map_err(Failure::file("make", &home))?;
    let lock = home.join("image-lock");
    let file = fs::File::create(&lock).map_err(Failure::file("create", &lock))?;
    // Two runs make it once.
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Failure::file("lock", &lock)(errno.into()))?;
    let image = home.join(format!("{SUITE}-image-{RECIPE}"));
    if image.exists() {
        return Ok(image);
    }
    // Renamed when all of it is there.
    let beside = home.join(format!("{SUITE}-image.new"));
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(Failure::file("remove", &beside))?;
    }
    let progress = Progress::start("making a Debian to try the package on (once, about a minute)");
    make(&beside)?;
    let archives = beside.join("var/cache/apt/archives");
    fs::remove_dir_all(&archives).map_err(Failure::file("empty", &archives))?;
    fs::rename(&beside, &image).map_err(Failure::file("name", &image))?;
    progress.done(&image.display().to_string());
    Ok(image)
}

fn make(folder: &Path) -> Result<(), Failure> {
    let debootstrap = || {
        Run::new("debootstrap")
            .arg("--variant=minbase")
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg(SUITE)
            .arg(folder)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .mend("look at the network, or at debootstrap/debootstrap.log in that folder")
            .quiet()
            .capture()
    };
    // It goes on where it broke off: a mirror that is busy for a moment is asked again.
    debootstrap().or_else(|_| debootstrap()).map(drop)
}

/// Raised when something else is in it.
const RECIPE: &str = "1";
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 6] = [
    "dbus",
    "iproute2",
    "postfix",
    "procps",
    "systemd",
    "systemd-sysv",
];
