//! The package on a machine: a Debian of its own, booted with its own systemd and Postfix.
//!
//! Every test has a machine of its own, which forgets what was done to it. Nothing of the host's is
//! touched but memory. Run by `cargo xtask test dist`, which makes the image and the packages; needs
//! root, systemd-nspawn and iproute2.

mod faults;
mod life;
mod machine;
mod units;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::requirements::{self, Missing};

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Equipment {
    /// The root directory of a Debian with systemd and Postfix.
    pub(crate) image: PathBuf,
    /// The package, and the same as a higher version.
    pub(crate) packages: [PathBuf; 2],
}

pub(crate) fn equipment() -> Result<Equipment, Missing> {
    requirements::network_namespaces()?;
    requirements::program("ip")?;
    requirements::program("systemd-nspawn")?;
    Ok(Equipment {
        image: named("GREYGATE_DIST_IMAGE")?,
        packages: [
            named("GREYGATE_DIST_PACKAGE")?,
            named("GREYGATE_DIST_UPGRADE")?,
        ],
    })
}

/// Machines run one at a time: each is a whole Debian.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(variable: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.filter(|path| path.exists()).ok_or_else(|| {
        Missing::new(format_args!(
            "{variable}, which `cargo xtask test dist` makes"
        ))
    })
}
