//! The `bpf-linker` that fits a compiler: both must speak the bitcode of the same LLVM.

use std::path::{Path, PathBuf};

use super::{Compiler, LINKER, Settings, build_beside, proof, route};
use crate::{
    command::{Failure, Run, find},
    progress::Progress,
};

/// The line of releases that loads the compiler's own LLVM at run time: it builds in a minute and
/// needs no LLVM of the system. Later lines are linked against one.
const VERSION: &str = "^0.10";

/// The LLVM releases that line knows.
const KNOWN_LLVM: std::ops::RangeInclusive<u32> = 20..=22;

/// The named linker; else one on PATH, if it works with `compiler`; else one made for it.
pub(super) fn find_or_make(
    home: &Path,
    settings: &Settings,
    compiler: &Compiler,
    llvm: u32,
) -> Result<PathBuf, Failure> {
    if let Some(named) = &settings.linker {
        proof::links(home, compiler, named)?;
        return Ok(named.clone());
    }
    if let Some(on_path) = find("bpf-linker") {
        match proof::links(home, compiler, &on_path) {
            Ok(()) => return Ok(on_path),
            Err(failure) => eprintln!("passed over {}: {}", on_path.display(), failure.why),
        }
    }
    let place = home.join(format!("bpf-linker-llvm{llvm}"));
    let linker = place.join("bin/bpf-linker");
    if !linker.is_file() {
        build_beside(&place, |beside| make(beside, llvm))?;
    }
    proof::links(home, compiler, &linker)?;
    Ok(linker)
}

fn make(place: &Path, llvm: u32) -> Result<(), Failure> {
    if !KNOWN_LLVM.contains(&llvm) {
        return Err(Failure::new(
            format!("no bpf-linker can be made for LLVM {llvm}"),
            format!(
                "bpf-linker {VERSION} knows LLVM {} to {}",
                KNOWN_LLVM.start(),
                KNOWN_LLVM.end()
            ),
            format!("put a bpf-linker built for LLVM {llvm} on PATH, or name it in {LINKER}"),
        ));
    }
    let progress = Progress::start("building bpf-linker (about a minute on two cores)");
    Run::new(route::our_cargo())
        .without_cargos_environment()
        .directory(place)
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--no-track",
            "--version",
            VERSION,
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm},rust-llvm-{llvm}"),
        ])
        .arg("--root")
        .arg(place)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .quiet()
        .mend(format!(
            "look at the network, or name a bpf-linker in {LINKER}; then `cargo xtask setup`"
        ))
        .capture()?;
    progress.done(&format!("{VERSION} for LLVM {llvm}"));
    Ok(())
}
