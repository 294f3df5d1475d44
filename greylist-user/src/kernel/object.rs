//! The kernel program as a file: read, checked for its ABI version, loaded into the kernel.
//!
//! What happens without the file, or with one of another version: no kernel filter, and mail flows.

use std::{os::fd::AsFd as _, path::Path};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, MapError},
    programs::{ProgramError, Xdp},
};
use greylist_ebpf::abi;
use object::{Object as _, ObjectSection as _, read::elf::ElfFile64};

use super::{FilterError, Settings, panic, release};

/// Loads the program with new maps, sized but empty, or on those pinned in the directory `pinned`,
/// which must be as the object wants them. Nothing is attached yet.
///
/// # Errors
///
/// When the panic flag forbids it, the kernel is too old, the object cannot be read, is of another
/// ABI version, or the kernel does not take it.
pub(super) fn load(settings: &Settings, pinned: Option<&Path>) -> Result<Ebpf, FilterError> {
    panic::obey(&settings.panic_file)?;
    release::check()?;
    let bytes = read(&settings.object)?;
    let words = abi::presence_words(settings.capacity);
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(abi::map::IPV4, settings.capacity)
        .map_max_entries(abi::map::IPV6, settings.capacity)
        .map_max_entries(abi::map::PRESENCE_V4, words)
        .map_max_entries(abi::map::PRESENCE_V6, words)
        .override_global(abi::PRESENCE_WORDS, &words, true);
    if let Some(pinned) = pinned {
        for name in abi::map::ALL {
            loader.map_pin_path(name, pinned.join(name));
        }
    }
    let mut ebpf = loader
        .load(&bytes)
        .map_err(|error| load_error(&settings.object, error))?;
    program(&mut ebpf)
        .and_then(Xdp::load)
        .map_err(|error| load_error(&settings.object, error.into()))?;
    Ok(ebpf)
}

/// Further descriptors of all maps, to pin them by.
pub(super) fn maps(ebpf: &Ebpf) -> Result<Vec<(&'static str, MapData)>, FilterError> {
    abi::map::ALL
        .into_iter()
        .map(|name| {
            let failed = |source| FilterError::Map {
                map: name,
                done: "held",
                source,
            };
            let Some(
                Map::HashMap(map)
                | Map::Array(map)
                | Map::PerCpuArray(map)
                | Map::LpmTrie(map)
                | Map::RingBuf(map),
            ) = ebpf.map(name)
            else {
                return Err(failed(MapError::ElementNotFound.into()));
            };
            let held = map.fd().as_fd().try_clone_to_owned();
            let held = held.map_err(MapError::IoError).and_then(MapData::from_fd);
            held.map(|map| (name, map))
                .map_err(|error| failed(error.into()))
        })
        .collect()
}

/// The program in a loaded object.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(abi::PROGRAM)
        .ok_or(ProgramError::UnexpectedProgramType)?
        .try_into()
}

/// Reads the object and compares its ABI version with ours.
fn read(path: &Path) -> Result<Vec<u8>, FilterError> {
    let bytes = std::fs::read(path).map_err(|source| FilterError::Object {
        path: path.to_owned(),
        source,
    })?;
    let found = abi_version(&bytes).map_err(|detail| FilterError::NotOurObject {
        path: path.to_owned(),
        detail,
    })?;
    if found == abi::VERSION {
        Ok(bytes)
    } else {
        Err(FilterError::AbiVersion {
            path: path.to_owned(),
            found,
            expected: abi::VERSION,
        })
    }
}

fn abi_version(bytes: &[u8]) -> Result<u32, String> {
    let elf: ElfFile64 = ElfFile64::parse(bytes).map_err(|error| error.to_string())?;
    let section = elf
        .section_by_name(abi::VERSION_SECTION)
        .ok_or_else(|| format!("it has no section {}", abi::VERSION_SECTION))?;
    let data = section.data().map_err(|error| error.to_string())?;
    let version = data
        .try_into()
        .map_err(|_| format!("its section {} is not four bytes", abi::VERSION_SECTION))?;
    Ok(u32::from_le_bytes(version))
}

fn load_error(path: &Path, error: EbpfError) -> FilterError {
    match error {
        EbpfError::ProgramError(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            tracing::debug!(%verifier_log, "refused");
            FilterError::Load {
                what: "the program".to_owned(),
                source: io_error,
            }
        }
        EbpfError::MapError(MapError::CreateError { name, io_error }) => FilterError::Load {
            what: format!("the map {name}"),
            source: io_error,
        },
        EbpfError::ProgramError(ProgramError::SyscallError(error)) => FilterError::Load {
            what: format!("the program ({})", error.call),
            source: error.io_error,
        },
        other => FilterError::NotOurObject {
            path: path.to_owned(),
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_no_object_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("greygate-xdp.o");
        std::fs::write(&path, "#!/bin/sh\n").expect("a writable directory");
        let error = read(&path).expect_err("a script is no object");
        assert!(matches!(error, FilterError::NotOurObject { .. }), "{error}");
    }

    #[test]
    fn object_without_our_section_is_refused() {
        let this_binary = std::env::current_exe().expect("a test binary");
        let error = read(&this_binary).expect_err("it has no ABI version");
        assert!(error.to_string().contains(abi::VERSION_SECTION), "{error}");
    }
}
