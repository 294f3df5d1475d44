//! `cargo xtask build`: the kernel program and the release daemon.

use std::{fs, path::PathBuf};

use crate::{
    command::{Failure, Run},
    setup, toolchain, workspace,
};

/// What is compiled for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// Counts, and tells a sample through its own buffer.
    Release,
    /// Tells of single frames through aya-log. Lies beside the other, so that nobody takes it for
    /// that.
    DebugLog,
    /// What `cargo xtask bench` measures the kernel program with.
    Bench,
}

pub(crate) fn perform(debug_log: bool) -> Result<(), Failure> {
    let object = object(if debug_log {
        Object::DebugLog
    } else {
        Object::Release
    })?;
    let daemon = daemon(debug_log)?;
    println!("kernel program: {}", object.display());
    println!("daemon:         {}", daemon.display());
    Ok(())
}

/// Builds a program of the kernel's and puts it in its place in one step, so that no daemon loads
/// half of one.
pub(crate) fn object(object: Object) -> Result<PathBuf, Failure> {
    let toolchain = setup::toolchain()?;
    // A target folder of its own: another compiler must not invalidate what stable has built.
    let folder = workspace::target().join("bpf-build");
    let (binary, features, object) = match object {
        Object::Release => ("greygate-xdp", "program", workspace::object()),
        Object::DebugLog => (
            "greygate-xdp",
            "program,debug-log",
            workspace::debug_object(),
        ),
        Object::Bench => ("greygate-bench", "bench", workspace::bench_object()),
    };
    toolchain
        .cargo("build")
        .directory(&workspace::root())
        .args(["--release", "--package", "greylist-ebpf"])
        .args(["--bin", binary, "--features", features])
        .arg("--target-dir")
        .arg(&folder)
        .mend("read the compiler's output above; `cargo xtask setup` shows which compiler it is")
        .run()?;
    let built = folder.join(toolchain::TARGET).join("release").join(binary);
    let bytes = fs::read(&built).map_err(Failure::file("read", &built))?;
    if fs::read(&object).is_ok_and(|present| present == bytes) {
        return Ok(object);
    }
    workspace::write_atomically(&object, &bytes)?;
    Ok(object)
}

/// Builds the release daemon.
pub(crate) fn daemon(debug_log: bool) -> Result<PathBuf, Failure> {
    let mut cargo = Run::cargo().args([
        "build",
        "--release",
        "--package",
        "greylist-user",
        "--bin",
        "greygate",
    ]);
    if debug_log {
        cargo = cargo.args(["--features", "debug-log"]);
    }
    cargo.run()?;
    Ok(workspace::daemon())
}
