//! Whether a compiler and a linker make a BPF object together: they are asked to.

use std::{fs, path::Path};

use super::{Compiler, PARTIAL, TARGET};
use crate::command::Failure;

const MANIFEST: &str = r#"[package]
name = "proof"
version = "0.0.0"
edition = "2024"

[profile.release]
debug = 2

[workspace]
"#;

const PROGRAM: &str = r#"#![no_std]
#![no_main]
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
extern "C" fn proof(_: *mut core::ffi::c_void) -> u32 { 2 }
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
"#;

/// Compiles and links a program of one function; its object must be an ELF file for BPF.
pub(super) fn links(home: &Path, compiler: &Compiler, linker: &Path) -> Result<(), Failure> {
    let place = home.join(format!("proof{PARTIAL}"));
    let result = build(&place, compiler, linker);
    fs::remove_dir_all(&place).map_err(Failure::file("remove", &place))?;
    result
}

fn build(place: &Path, compiler: &Compiler, linker: &Path) -> Result<(), Failure> {
    let source = place.join("src");
    fs::create_dir_all(&source).map_err(Failure::file("create", &source))?;
    for (name, text) in [("Cargo.toml", MANIFEST), ("src/main.rs", PROGRAM)] {
        let path = place.join(name);
        fs::write(&path, text).map_err(Failure::file("write", &path))?;
    }
    compiler
        .cargo("build", linker)
        .directory(place)
        .args(["--quiet", "--release", "--target-dir", "target"])
        .quiet()
        .mend(
            "the compiler and bpf-linker must be built with the same LLVM; unset what names them \
             to have both found",
        )
        .capture()?;
    let object = place.join("target").join(TARGET).join("release/proof");
    let bytes = fs::read(&object).map_err(Failure::file("read", &object))?;
    if is_bpf_object(&bytes) {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} made no BPF object", linker.display()),
        "its output is not an ELF file for the machine BPF",
        "name another linker, or let set-up make one",
    ))
}

/// ELF's magic, and `EM_BPF` (247) where the header names the machine, in either byte order.
fn is_bpf_object(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF") && matches!(bytes.get(18..20), Some([247, 0] | [0, 247]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_bpf_object_from_one_of_the_host() {
        let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0";

        assert!(is_bpf_object(&header));
        header[18] = 62; // EM_X86_64
        assert!(!is_bpf_object(&header));
        assert!(!is_bpf_object(b"\x7fELF"));
    }
}
