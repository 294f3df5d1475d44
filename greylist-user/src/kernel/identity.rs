//! Whose a program in the kernel is.
//!
//! Its name would tell, but a program that is loaded without `CAP_PERFMON`, as under the shipped
//! unit, has none: the library tries whether the kernel takes names with a kind of program that wants
//! this right. So greygate's object carries a mark among its constants, which lie in the kernel as a
//! map of the program. To read either takes `CAP_SYS_ADMIN`.

use std::{error::Error, io, os::fd::AsFd as _};

use aya::{
    maps::{MapData, MapError, MapType},
    programs::{ProgramError, ProgramInfo, loaded_programs},
};
use greylist_ebpf::abi;

use super::maps::batch;

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is greygate's, of whatever version.
    Ours,
    /// It is somebody else's, of this name; an empty one where it has none.
    Foreign(String),
    /// It may not be looked at.
    Unknown,
}

/// Whose the program with this number is.
pub(super) fn of(id: u32) -> Identity {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .map_or(Identity::Unknown, |program| identify(&program))
}

/// The numbers of greygate's programs, and the first error on the way.
pub(super) fn ours() -> (Vec<u32>, io::Result<()>) {
    let (mut ours, mut outcome) = (Vec::new(), Ok(()));
    for program in loaded_programs() {
        match program {
            Ok(program) if identify(&program) == Identity::Ours => ours.push(program.id()),
            Ok(_) => {}
            // One that was unloaded while we were looking is nobody's.
            Err(error) if is_gone(&error) => {}
            Err(error) => outcome = outcome.and(Err(io::Error::other(error))),
        }
    }
    (ours, outcome)
}

/// Whether an error says that what was listed a moment ago does not exist any more.
pub(super) fn is_gone(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(libc::ENOENT);
        }
        cause = error.source();
    }
    false
}

fn identify(program: &ProgramInfo) -> Identity {
    if program.name() == abi::PROGRAM.as_bytes() || bears_mark(program).unwrap_or(false) {
        return Identity::Ours;
    }
    let name = program.name_as_str().unwrap_or_default();
    Identity::Foreign(name.to_owned())
}

/// Whether one of the program's maps holds the mark.
fn bears_mark(program: &ProgramInfo) -> Result<bool, ProgramError> {
    let maps = program.map_ids()?.unwrap_or_default();
    Ok(maps.into_iter().any(|id| holds_mark(id).unwrap_or(false)))
}

fn holds_mark(map: u32) -> Result<bool, MapError> {
    let map = MapData::from_id(map)?;
    let info = map.info()?;
    // Constants are an array of one value. The larger maps need not be read.
    if info.map_type()? != MapType::Array || info.max_entries() != 1 {
        return Ok(false);
    }
    let constants = batch::first(map.fd().as_fd()).unwrap_or_default();
    Ok(constants
        .windows(abi::MARK.len())
        .any(|bytes| bytes == abi::MARK))
}
