//! `cargo xtask run`: the daemon in the foreground, with the kernel filter where that is possible.
//!
//! This process becomes the daemon: Ctrl-C, exit code and terminal are the daemon's own. Its filter
//! is attached by descriptors that end with it, however it ends, so nothing has to be cleaned up
//! behind it.

use std::{os::unix::process::CommandExt, path::PathBuf};

use crate::{
    build,
    command::{Failure, Run, is_root, shown},
    development::{self, Filter},
    workspace,
};

/// Returns only when the daemon could not be started.
pub(crate) fn perform(interface: &str, configuration: Option<PathBuf>) -> Result<(), Failure> {
    if configuration.is_none() {
        development::interface(interface)?;
        development::nobody_else()?;
    }
    let kernel = kernel_program();
    let daemon = build::daemon(false)?;
    let configuration = match configuration {
        Some(configuration) => configuration,
        None => development_configuration(if kernel {
            Filter::On(interface)
        } else {
            Filter::Off
        })?,
    };
    let error = Run::new(&daemon)
        .args(["serve", "--config"])
        .arg(&configuration)
        .into_command()
        .exec();
    Err(Failure::new(
        format!("{} could not be started", daemon.display()),
        error,
        "cargo xtask build",
    ))
}

/// Builds the kernel program, or says why the daemon runs without it.
fn kernel_program() -> bool {
    if !is_root() {
        eprintln!("without the kernel filter: attaching it needs root");
        return false;
    }
    match build::object(build::Object::Release) {
        Ok(_) => true,
        Err(failure) => {
            eprintln!("without the kernel filter, because its program cannot be built:\n{failure}");
            false
        }
    }
}

fn development_configuration(filter: Filter<'_>) -> Result<PathBuf, Failure> {
    let configuration = development::write(filter)?;
    let milters = format!(
        "smtpd_milters = {{ {}, default_action=accept }}",
        development::MILTER
    );
    println!(
        "\nTo point a Postfix on this machine here, once it says that it is listening, put this \
         line into its main.cf:\n\n    {milters}\n\n\
         and run `postfix reload`. If `postconf -h smtpd_milters` names others already, keep them: \
         they follow behind a comma.\n\n\
         To ask the daemon:\n\n    {} status --config {}\n",
        shown(&workspace::daemon().to_string_lossy()),
        shown(&configuration.to_string_lossy()),
    );
    Ok(configuration)
}
