//! `cargo xtask load` and `cargo xtask unload`: the kernel filter of the development configuration,
//! attached so that it outlives the command.
//!
//! Leaves the work to `greygate xdp load` and `greygate xdp unload`, which an operator has as well.

use std::path::Path;

use crate::{
    build,
    command::{Failure, Run, is_root},
    development::{self, Filter},
    workspace,
};

pub(crate) fn load(interface: &str) -> Result<(), Failure> {
    needs_root("load")?;
    build::perform(false)?;
    let configuration = development::write(Filter::On(interface))?;
    greygate("load", &configuration).run()?;
    println!("attached to {interface}; `cargo xtask unload` takes it away");
    Ok(())
}

pub(crate) fn unload() -> Result<(), Failure> {
    needs_root("unload")?;
    build::daemon(false)?;
    // The pins outlive `cargo clean`, the configuration that they were made with does not.
    let configuration = workspace::run_directory().join("greygate.toml");
    let configuration = if configuration.exists() {
        configuration
    } else {
        development::write(Filter::Off)?
    };
    greygate("unload", &configuration).run()
}

/// `greygate xdp TASK` with the configuration at `configuration`.
pub(crate) fn greygate(task: &str, configuration: &Path) -> Run {
    Run::new(workspace::daemon())
        .args(["xdp", task, "--config"])
        .arg(configuration)
}

/// Refuses a task that only root can perform, with the command that performs it.
pub(crate) fn needs_root(task: &str) -> Result<(), Failure> {
    if is_root() {
        return Ok(());
    }
    Err(Failure::new(
        format!("`cargo xtask {task}` needs root"),
        "attaching a filter and making network namespaces are privileged",
        format!("sudo -E env PATH=\"$PATH\" cargo xtask {task}"),
    ))
}
