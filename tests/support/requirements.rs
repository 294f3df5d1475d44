//! What a test needs of the machine, and what happens when it is not there.
//!
//! A skip speaks: it names what was missing on standard error, past the test harness's capture, in
//! lines that begin with `SKIPPED`, so that they can be seen and counted. Where `CI=true` nothing
//! may be missing, and a skip is a failure.

use std::{
    fmt::Display,
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Something that a test needs and the machine does not have, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

impl Missing {
    /// `what` is missing.
    pub fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }
}

/// Ends the test, as skipped, when one of the requirements is missing.
///
/// Each requirement is a `Result<T, Missing>`; the macro gives the value of one, or a tuple of all.
#[macro_export]
macro_rules! needs {
    ($($requirement:expr),+ $(,)?) => {
        ($(
            match $requirement {
                Ok(present) => present,
                Err(missing) => return $crate::requirements::skip(&missing),
            }
        ),+)
    };
}

/// What a test function returns: nothing, or a result.
pub trait TestOutcome {
    /// The outcome of a test that did not run.
    fn skipped() -> Self;
}

impl TestOutcome for () {
    fn skipped() -> Self {}
}

impl<E> TestOutcome for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Reports a skip, and is what the test returns.
///
/// # Panics
///
/// Where `CI=true`: everything is to be had there, so a skip would hide a failure.
pub fn skip<T: TestOutcome>(missing: &Missing) -> T {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        !in_ci(),
        "{test} may not be skipped in CI, but this is missing: {missing}"
    );
    // The harness captures `eprintln!`, and a captured skip is a silent one.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing}");
    T::skipped()
}

/// The rights of root.
pub fn root() -> Result<(), Missing> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Missing::new("the rights of root; run the tests with sudo"))
    }
}

/// Network namespaces that the test may make itself.
pub fn network_namespaces() -> Result<(), Missing> {
    root()?;
    // On a thread of its own, whose namespace ends with it.
    let made = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    match made.unwrap_or(Err(Errno::UnknownErrno)) {
        Ok(()) => Ok(()),
        Err(error) => Err(Missing::new(format_args!(
            "network namespaces (unshare: {error})"
        ))),
    }
}

/// A program that is found in `PATH` or in the directories of system programs.
pub fn program(name: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Missing::new(format_args!("the program `{name}`")))
}

/// A C compiler, and the headers of libmilter.
pub fn libmilter() -> Result<(), Missing> {
    program("cc")?;
    let header = Path::new("/usr/include/libmilter/mfapi.h");
    if header.is_file() {
        return Ok(());
    }
    Err(Missing::new("the headers of libmilter"))
}

/// The kernel program's object: `GREYGATE_XDP_OBJECT`, or where `cargo xtask build` puts it.
pub fn xdp_object() -> Result<PathBuf, Missing> {
    built("GREYGATE_XDP_OBJECT", "greygate-xdp.o", "cargo xtask build")
}

/// The kernel program's object with the feature `debug-log`: `GREYGATE_XDP_DEBUG_OBJECT`, or where
/// `cargo xtask build --debug-log` puts it.
pub fn xdp_debug_object() -> Result<PathBuf, Missing> {
    built(
        "GREYGATE_XDP_DEBUG_OBJECT",
        "greygate-xdp-debug-log.o",
        "cargo xtask build --debug-log",
    )
}

fn built(variable: &str, name: &str, command: &str) -> Result<PathBuf, Missing> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf");
    let path = std::env::var_os(variable).map_or_else(|| folder.join(name), PathBuf::from);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Missing::new(format_args!(
            "the kernel program at {}; `{command}` makes it",
            path.display()
        )))
    }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_program_or_names_it() {
        assert!(program("sh").is_ok());
        let missing = program("no-such-program").expect_err("it does not exist");
        assert_eq!(missing.to_string(), "the program `no-such-program`");
    }

    #[test]
    fn needs_gives_the_values_of_all_requirements() {
        let ((), shell) = needs!(Ok::<_, Missing>(()), program("sh"));
        assert!(shell.ends_with("sh"));
    }
}
