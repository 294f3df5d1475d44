//! `cargo xtask ci`: what CI runs once a bare machine has its packages.

use std::process::ExitCode;

use crate::{
    command::{Failure, Run},
    deny, test,
};

pub(crate) fn perform() -> Result<ExitCode, Failure> {
    Run::cargo()
        .args(["fmt", "--all", "--check"])
        .mend("cargo fmt --all")
        .run()?;
    Run::cargo()
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])
        .run()?;
    Run::cargo()
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-Dwarnings")
        .run()?;
    deny::perform()?;
    test::perform(&[])
}
