//! `greygate xdp panic`: everything of ours off every interface, now, and nothing back on.
//!
//! Works as root without the daemon, its socket or its configuration being well. A daemon that runs
//! keeps running, its program attached to nothing. Minimum kernel 5.9, for `BPF_LINK_DETACH`.

use std::{
    fs::{DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use aya::programs::loaded_links;

use super::{FilterError, Panicked, Settings, identity, pins, sys};

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

/// Refuses while the flag stands at `path`. Where that is not to be told it is taken to stand: mail
/// flows without a filter.
///
/// Asked before loading, and again once all is attached: a `panic` that came in between has seen
/// nothing to detach, but its flag was there first.
pub(super) fn obey(path: &Path) -> Result<(), FilterError> {
    match path.symlink_metadata() {
        Ok(_) => Err(FilterError::Panicked(path.to_owned())),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => {
            let looking = format!(
                "looking whether `greygate xdp panic` has left {}",
                path.display()
            );
            Err(FilterError::io(looking)(error))
        }
    }
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
    // Its directory may be the daemon's, who could have put a symbolic link there: whatever has the
    // name is as good a flag, and nothing is written to it.
    match File::create_new(path) {
        Ok(mut file) => file.write_all(FLAG_TEXT.as_bytes()).map_err(leaving())?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(leaving()(error)),
    }
    Ok(path.clone())
}

/// Detaches what can be detached; one that resists does not keep the others on.
fn detach_all() -> Result<usize, FilterError> {
    let asking =
        || FilterError::io("asking the kernel for its programs and links, as only root may,");
    let (ours, looked) = identity::ours();
    let mut first_error = looked.map_err(asking());
    let mut detached = 0;
    for link in loaded_links() {
        let link = match link {
            Ok(link) => link,
            Err(error) if identity::is_gone(&error) => continue,
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

const FLAG_TEXT: &str = "\
Left by `greygate xdp panic`. While this file exists, greygate attaches no program to any
interface. Remove it and restart greygate to use the kernel filter again.
";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn settings(panic_file: PathBuf) -> Settings {
        Settings {
            panic_file,
            ..Settings::default()
        }
    }

    #[test]
    fn flag_says_what_it_is_and_is_obeyed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let flag = directory.path().join("made/on/the/way");
        obey(&flag).expect("nobody has panicked yet");
        leave_flag(&settings(flag.clone())).expect("a writable directory");
        leave_flag(&settings(flag.clone())).expect("once more is as good");
        let text = fs::read_to_string(&flag).expect("our own file");
        assert!(text.contains("Remove it"), "{text}");
        assert!(matches!(obey(&flag), Err(FilterError::Panicked(_))));
    }

    /// The directory is the daemon's, and `panic` is root's.
    #[test]
    fn symbolic_link_in_its_place_is_a_flag_and_is_not_written_to() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let flag = directory.path().join("xdp-panic");
        let precious = directory.path().join("precious");
        symlink(&precious, &flag).expect("a writable directory");
        leave_flag(&settings(flag.clone())).expect("it is there");
        assert!(!precious.exists(), "nothing was written through it");
        assert!(matches!(obey(&flag), Err(FilterError::Panicked(_))));
        fs::write(&precious, "precious").expect("a writable directory");
        leave_flag(&settings(flag.clone())).expect("it is there");
        let left = fs::read_to_string(&precious).expect("our own file");
        assert_eq!(left, "precious");
    }

    #[test]
    fn where_it_cannot_be_looked_for_nothing_is_attached() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let nowhere = directory.path().join("nowhere");
        symlink(&nowhere, &nowhere).expect("a writable directory");
        let error = obey(&nowhere.join("xdp-panic")).expect_err("it leads nowhere");
        assert!(error.to_string().contains("looking whether"), "{error}");
    }
}
