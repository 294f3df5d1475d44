//! `cargo xtask deny`: what may be compiled in, by `deny.toml`.
//!
//! Licences, bans and sources need no network and are always checked. Advisories are fetched; where they
//! cannot be had, that is said in so many words, since a check that did not run is no check that passed.

use crate::command::{Failure, Run};

pub(crate) fn perform() -> Result<(), Failure> {
    install()?;
    Run::cargo()
        .args([
            "deny",
            "--all-features",
            "check",
            "licenses",
            "bans",
            "sources",
        ])
        .mend("take the crate out, or write into deny.toml why it may stay")
        .run()?;
    let fetched = Run::cargo().args(["deny", "fetch", "db"]).capture();
    if let Err(failure) = fetched {
        println!(
            "advisories NOT CHECKED: they cannot be fetched\n  why:  {}",
            failure.why
        );
        return Ok(());
    }
    Run::cargo()
        .args(["deny", "--all-features", "--offline", "check", "advisories"])
        .mend("update the crate, or write into deny.toml why it does no harm here")
        .run()?;
    println!("advisories checked");
    Ok(())
}

/// Compiled once, where it is missing.
fn install() -> Result<(), Failure> {
    let answers = Run::cargo().args(["deny", "--version"]).quiet().capture();
    if answers.is_ok() {
        return Ok(());
    }
    eprintln!("cargo-deny is missing and is compiled, once; it takes some minutes");
    Run::cargo()
        .args(["install", "--locked", "cargo-deny@0.20.2"])
        .mend("it comes from crates.io; look whether that can be reached, and try again")
        .run()
}
