//! Where things are: the one place that knows the paths that tasks share.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::command::Failure;

/// The root of the workspace. Cargo names this crate's folder when it runs a task; a binary started
/// by hand falls back on where it was compiled.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .expect("this crate is a folder of the workspace")
        .to_owned()
}

/// Cargo's target folder, wherever the environment puts it.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |path| root().join(path))
}

/// The kernel program, ready to be loaded.
pub(crate) fn object() -> PathBuf {
    target().join("bpf/greygate-xdp.o")
}

/// The programs that the kernel program is measured with.
pub(crate) fn bench_object() -> PathBuf {
    target().join("bpf/greygate-bench.o")
}

/// The kernel program of the feature `debug-log`.
pub(crate) fn debug_object() -> PathBuf {
    target().join("bpf/greygate-xdp-debug-log.o")
}

/// The release daemon, which is the command line as well.
pub(crate) fn daemon() -> PathBuf {
    target().join("release/greygate")
}

/// Where a development daemon keeps its configuration and state.
pub(crate) fn run_directory() -> PathBuf {
    target().join("run")
}

/// Writes `bytes` beside `path` and renames, so that a reader sees the old file or the new one,
/// never half.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().expect("a file has a folder");
    fs::create_dir_all(directory).map_err(Failure::file("create", directory))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = fs::File::create(&beside).map_err(Failure::file("create", &beside))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Failure::file("write", &beside))?;
    fs::rename(&beside, path).map_err(Failure::file("replace", path))
}
