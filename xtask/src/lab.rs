//! `cargo xtask lab`: everything the story of the lab needs, then the story.

use std::process::ExitCode;

use crate::{
    build,
    command::{Failure, Run},
    filter,
    packages::{self, Need},
};

pub(crate) fn perform() -> Result<ExitCode, Failure> {
    filter::needs_root("lab")?;
    let missing = packages::ensure(&Need::LAB);
    if let Some(first) = missing.first() {
        return Err(Failure::new(
            "the lab cannot be set up",
            packages::names(&missing),
            format!("install the package {}", first.package),
        ));
    }
    let object = build::object(false)?;
    let daemon = build::daemon(false)?;
    let status = Run::cargo()
        .args(["run", "--package", "greylist-tests", "--bin", "lab"])
        .env("GREYGATE_BIN", daemon)
        .env("GREYGATE_XDP_OBJECT", object)
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
