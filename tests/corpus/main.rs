//! Every input that a fuzzer kept is read again, on stable Rust: what each target holds stays held
//! (docs/fuzzing.md). One test a target; each fails naming the file.

#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use targets::TARGETS;

#[test]
fn configuration_holds_for_every_kept_input() {
    replay("configuration");
}

#[test]
fn control_holds_for_every_kept_input() {
    replay("control");
}

#[test]
fn import_holds_for_every_kept_input() {
    replay("import");
}

#[test]
fn journal_holds_for_every_kept_input() {
    replay("journal");
}

#[test]
fn ledger_holds_for_every_kept_input() {
    replay("ledger");
}

#[test]
fn lists_holds_for_every_kept_input() {
    replay("lists");
}

#[test]
fn maillog_holds_for_every_kept_input() {
    replay("maillog");
}

#[test]
fn milter_holds_for_every_kept_input() {
    replay("milter");
}

#[test]
fn packet_holds_for_every_kept_input() {
    replay("packet");
}

#[test]
fn shared_holds_for_every_kept_input() {
    replay("shared");
}

#[test]
fn snapshot_holds_for_every_kept_input() {
    replay("snapshot");
}

/// A corpus is small enough for every clone, and for every run of the tests.
#[test]
fn corpora_are_there_and_small() {
    let mut targets: Vec<String> = fs::read_dir(corpora())
        .expect("there are corpora")
        .map(|entry| {
            entry
                .expect("it is ours")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    targets.sort();
    assert_eq!(targets, TARGETS.map(|(name, _)| name));
    for name in targets {
        let sizes = inputs(&name).into_iter().map(|(_, bytes)| bytes.len());
        let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
        assert!(
            (5..=MOST_FILES).contains(&files),
            "{name} has {files} inputs"
        );
        assert!(bytes <= MOST_BYTES, "{name} has {bytes} bytes");
    }
}

/// Each target of the crate has its body here, and its binary there.
#[test]
fn every_target_is_known() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let binaries = manifest.split("[[bin]]").skip(1);
    let names: Vec<&str> = binaries
        .map(|it| it.split('"').nth(1).expect("a name"))
        .collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
}

fn replay(name: &str) {
    let (_, holds) = TARGETS
        .into_iter()
        .find(|it| it.0 == name)
        .expect("a target");
    for (path, bytes) in inputs(name) {
        let held = catch_unwind(|| holds(&bytes));
        assert!(held.is_ok(), "{}: what was said above", path.display());
    }
}

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpora().join(name)).expect("a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("it is ours").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("it is ours");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Inputs of one target.
const MOST_FILES: usize = 400;
/// Bytes of all inputs of one target.
const MOST_BYTES: usize = 400 << 10;
