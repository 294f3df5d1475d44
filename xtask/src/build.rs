//! `cargo xtask build`: the kernel program and the release daemon.

use std::{fs, path::PathBuf};

use crate::{
    command::{Failure, Run},
    setup, toolchain, workspace,
};

pub(crate) fn perform(debug_log: bool) -> Result<(), Failure> {
    let object = object(debug_log)?;
    let daemon = daemon(debug_log)?;
    println!("kernel program: {}", object.display());
    println!("daemon:         {}", daemon.display());
    Ok(())
}

/// Builds the kernel program and puts it in its place.
pub(crate) fn object(debug_log: bool) -> Result<PathBuf, Failure> {
    let features = if debug_log {
        "program,debug-log"
    } else {
        "program"
    };
    bpf_object("greygate-xdp", features, workspace::object())
}

/// Builds the programs that `cargo xtask bench` measures the kernel program with.
pub(crate) fn bench_object() -> Result<PathBuf, Failure> {
    bpf_object("greygate-bench", "bench", workspace::bench_object())
}

/// Builds a binary of the BPF crate and puts it in its place in one step, so that no daemon loads
/// half of one.
fn bpf_object(binary: &str, features: &str, object: PathBuf) -> Result<PathBuf, Failure> {
    let toolchain = setup::toolchain()?;
    // A target folder of its own: another compiler must not invalidate what stable has built.
    let folder = workspace::target().join("bpf-build");
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
