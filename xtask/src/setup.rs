//! `cargo xtask setup`: has the BPF toolchain found or made, and prints what was chosen.

use crate::{
    command::Failure,
    toolchain::{self, Found, Toolchain},
};

/// What `--help` says about the environment.
pub(crate) const SETTINGS: &str = "\
Environment:
  GREYGATE_TOOLCHAIN_DIR  where everything made is kept [default: ~/.cache/greygate]
  GREYGATE_BPF_RUSTC      a rustc with `core` for BPF, or with rust-src: nothing else is looked for
  GREYGATE_BPF_LINKER     a bpf-linker built for the same LLVM as that rustc

Example: GREYGATE_BPF_RUSTC=~/rust/bin/rustc cargo xtask setup
To start anew, remove the folder.";

pub(crate) fn perform() -> Result<(), Failure> {
    let Found {
        toolchain,
        remembered,
    } = toolchain::find_or_make()?;
    let how = if remembered {
        " (from an earlier set-up)"
    } else {
        ""
    };
    println!("ready: {}{how}", toolchain.summary());
    Ok(())
}

/// The toolchain, with a word only when it was not there before.
pub(crate) fn toolchain() -> Result<Toolchain, Failure> {
    let Found {
        toolchain,
        remembered,
    } = toolchain::find_or_make()?;
    if !remembered {
        eprintln!("using {}", toolchain.summary());
    }
    Ok(toolchain)
}
