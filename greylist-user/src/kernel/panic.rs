//! `greygate xdp panic`: everything of ours off every interface, now, and nothing back on.
//!
//! Works as root without the daemon, its socket or its configuration being well. A daemon that runs
//! keeps running, its program attached to nothing. Minimum kernel 5.9, for `BPF_LINK_DETACH`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use aya::programs::{loaded_links, loaded_programs};
use greylist_ebpf::abi;

use super::{FilterError, Panicked, Settings, pins, sys};

/// Forbids attaching, detaches every program of greygate's from every interface, and removes the
/// pins.
///
/// # Errors
///
/// The first step that failed; the others have been tried all the same.
pub fn panic(settings: &Settings) -> Result<Panicked, FilterError> {
    // The flag first: a daemon that starts meanwhile must not attach behind our back.
    let flag = leave_flag(settings);
    let detached = detach_all();
    let pins = pins::remove(&settings.pin_directory);
    Ok(Panicked {
        flag: flag?,
        detached: detached?,
        pins: pins?,
    })
}

fn leave_flag(settings: &Settings) -> Result<PathBuf, FilterError> {
    let path = &settings.panic_file;
    let leaving = || FilterError::io(format!("leaving the flag {}", path.display()));
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(leaving())?;
    }
    fs::write(path, FLAG_TEXT).map_err(leaving())?;
    Ok(path.clone())
}

/// Detaches what can be detached; one that resists does not keep the others on.
fn detach_all() -> Result<usize, FilterError> {
    let asking =
        || FilterError::io("asking the kernel for its programs and links, as only root may,");
    let mut first_error = Ok(());
    let mut ours = Vec::new();
    for program in loaded_programs() {
        match program {
            Ok(program) if program.name() == abi::PROGRAM.as_bytes() => ours.push(program.id()),
            Ok(_) => {}
            // One that was unloaded while we were looking is none of ours to detach.
            Err(error) if is_gone(&error) => {}
            Err(error) => first_error = first_error.and(Err(asking()(io::Error::other(error)))),
        }
    }
    let mut detached = 0;
    for link in loaded_links() {
        let link = match link {
            Ok(link) => link,
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                first_error = first_error.and(Err(asking()(io::Error::other(error))));
                continue;
            }
        };
        if !ours.contains(&link.program_id()) {
            continue;
        }
        match sys::detach_link(link.id()) {
            Ok(was_attached) => detached += usize::from(was_attached),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => {
                let failed = FilterError::io("detaching a program")(error);
                first_error = first_error.and(Err(failed));
            }
        }
    }
    first_error.map(|()| detached)
}

/// Whether an error says that what was listed a moment ago does not exist any more.
fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(libc::ENOENT);
        }
        cause = error.source();
    }
    false
}

const FLAG_TEXT: &str = "\
Left by `greygate xdp panic`. While this file exists, greygate attaches no program to any
interface. Remove it and restart greygate to use the kernel filter again.
";
