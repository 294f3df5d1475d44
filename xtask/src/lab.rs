//! `cargo xtask lab`: everything the story of the lab needs, then the story.
//!
//! This process becomes the lab: a signal reaches who has to clean up, and whoever waits for this
//! process waits for that.

use std::os::unix::process::CommandExt;

use crate::{
    build,
    command::{Failure, Run},
    filter,
    packages::{self, Need},
};

/// Returns only when the lab could not be started.
pub(crate) fn perform(shows_cluster: bool) -> Result<(), Failure> {
    filter::needs_root("lab")?;
    let (needs, story): (&[Need], _) = if shows_cluster {
        (&Need::CLUSTER, "lab-cluster")
    } else {
        (&Need::LAB, "lab")
    };
    let missing = packages::ensure(needs);
    if let Some(first) = missing.first() {
        return Err(Failure::new(
            "the lab cannot be set up",
            packages::names(&missing),
            format!("install the package {}", first.package),
        ));
    }
    let object = build::object(build::Object::Release)?;
    let daemon = build::daemon(false)?;
    let error = Run::cargo()
        .args(["run", "--package", "greylist-tests", "--bin", story])
        .env("GREYGATE_BIN", daemon)
        .env("GREYGATE_XDP_OBJECT", object)
        .into_command()
        .exec();
    Err(Failure::new(
        "the lab could not be started",
        error,
        format!("cargo run --package greylist-tests --bin {story}"),
    ))
}
