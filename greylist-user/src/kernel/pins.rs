//! A filter that outlives the process: link and maps pinned in a BPF file system.
//!
//! Minimum kernel 5.9, and a bpffs mounted where the pin directory is. Whoever may write there
//! rules the filter, so the directory is 0700 and pins that others may have put there are refused.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::pin::PinError;
use greylist_ebpf::abi;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{FilterError, Loaded, Settings, Unloaded, attach::attach, netlink::Netlink, object};

/// Attaches the program to every interface of `settings` and pins it, so that it outlives the
/// calling process. Its tables are empty: nothing is dropped before a daemon sentences somebody.
///
/// # Errors
///
/// What is in the way; then nothing stays attached or pinned.
pub fn load(settings: &Settings) -> Result<Loaded, FilterError> {
    if settings.interfaces.is_empty() {
        return Err(FilterError::NoInterface);
    }
    let netlink = Netlink::open().map_err(FilterError::io("opening a netlink socket"))?;
    let mut ebpf = object::load(settings)?;
    let directory = make_directory(&settings.pin_directory)?;
    let pinned = (|| {
        for (name, map) in ebpf.maps().filter(|(name, _)| abi::map::ALL.contains(name)) {
            map.pin(directory.join(name))
                .map_err(|error| pin_error(name, error))?;
        }
        let program = object::program(&mut ebpf).map_err(|error| FilterError::NotOurObject {
            path: settings.object.clone(),
            detail: error.to_string(),
        })?;
        for interface in &settings.interfaces {
            let name = link_name(interface);
            attach(program, interface, settings.mode, &netlink)?
                .link
                .pin(directory.join(&name))
                .map_err(|error| pin_error(&name, error))?;
        }
        object::obey_panic(settings)
    })();
    if let Err(error) = pinned {
        remove(directory)?;
        return Err(error);
    }
    Ok(Loaded {
        interfaces: settings.interfaces.clone(),
        directory: directory.to_owned(),
    })
}

/// Detaches what [`load`] attached, and removes its pins. Nothing loaded is as good.
///
/// # Errors
///
/// When the pins belong to somebody else, or cannot be removed.
pub fn unload(settings: &Settings) -> Result<Unloaded, FilterError> {
    let directory = &settings.pin_directory;
    check_owner(directory)?;
    for pin in pins(directory)? {
        check_owner(&pin)?;
    }
    Ok(Unloaded {
        pins: remove(directory)?,
        directory: directory.clone(),
    })
}

/// Removes our pins and then their directory, whoever they belong to; links first, so that no
/// frame meets half a filter. Returns the file names.
pub(super) fn remove(directory: &Path) -> Result<Vec<String>, FilterError> {
    let mut removed = Vec::new();
    for pin in pins(directory)? {
        fs::remove_file(&pin).map_err(FilterError::io(format!("removing {}", pin.display())))?;
        removed.extend(
            pin.file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    match fs::remove_dir(directory) {
        Err(error)
            if !matches!(
                error.kind(),
                // What else lies there is not ours to judge.
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(FilterError::io(format!("removing {}", directory.display()))(error))
        }
        _ => Ok(removed),
    }
}

/// The pins in `directory` whose names are ours, links first; none when it does not exist.
fn pins(directory: &Path) -> Result<Vec<PathBuf>, FilterError> {
    let reading = || format!("reading {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FilterError::io(reading())(error)),
    };
    let mut pins = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FilterError::io(reading()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_link = name.starts_with(LINK_PREFIX);
        if is_link || abi::map::ALL.contains(&name.as_ref()) {
            pins.push((!is_link, entry.path()));
        }
    }
    pins.sort();
    Ok(pins.into_iter().map(|(_, path)| path).collect())
}

fn make_directory(directory: &Path) -> Result<&Path, FilterError> {
    if !pins(directory)?.is_empty() {
        check_owner(directory)?;
        return Err(FilterError::AlreadyPinned(directory.to_owned()));
    }
    let parent = directory.parent().unwrap_or(Path::new("/"));
    match statfs(parent) {
        Ok(file_system) if file_system.filesystem_type() == BPF_FS_MAGIC => {}
        Ok(_) => return Err(FilterError::NoBpfFs(parent.to_owned())),
        Err(errno) => {
            return Err(FilterError::io(format!("looking at {}", parent.display()))(
                errno.into(),
            ));
        }
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(FilterError::io(
            format!("making {}", directory.display()),
        )(error)),
        _ => check_owner(directory).map(|()| directory),
    }
}

/// Refuses what others may have written. What does not exist is nobody's.
fn check_owner(path: &Path) -> Result<(), FilterError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(FilterError::io(format!("looking at {}", path.display()))(
                error,
            ));
        }
    };
    let owner = metadata.uid();
    let mode = metadata.mode() & 0o7777;
    let ours = owner == 0 || owner == nix::unistd::geteuid().as_raw();
    if ours && mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(FilterError::StrangeOwner {
            path: path.to_owned(),
            owner,
            mode,
        })
    }
}

/// The file name of the link on `interface`. bpffs keeps names with dots for itself, and a VLAN's
/// interface has one.
fn link_name(interface: &str) -> String {
    format!("{LINK_PREFIX}{}", interface.replace('.', "%2e"))
}

fn pin_error(name: &str, error: PinError) -> FilterError {
    let what = format!("pinning {name}");
    match error {
        PinError::SyscallError(error) => FilterError::io(what)(error.io_error),
        other => FilterError::io(what)(io::Error::other(other)),
    }
}

const LINK_PREFIX: &str = "link-";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn directory_outside_a_bpffs_is_refused_with_the_mount_command() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = make_directory(&directory.path().join("greygate")).expect_err("no bpffs");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
    }

    #[test]
    fn directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let world_writable = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), world_writable).expect("our own directory");
        let error = check_owner(directory.path()).expect_err("anybody may write there");
        assert!(error.to_string().contains("mode 0777"), "{error}");
    }

    #[test]
    fn nothing_loaded_is_nothing_to_unload() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            pin_directory: directory.path().join("greygate"),
            ..Settings::default()
        };
        let unloaded = unload(&settings).expect("nothing is there");
        assert!(unloaded.pins.is_empty());
    }

    #[test]
    fn file_that_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("somebody"), "").expect("a writable directory");
        fs::write(directory.path().join("link-eth0"), "").expect("a writable directory");
        fs::write(directory.path().join(abi::map::IPV4), "").expect("a writable directory");
        let names: Vec<PathBuf> = pins(directory.path()).expect("a readable directory");
        assert_eq!(
            names,
            ["link-eth0", abi::map::IPV4].map(|name| directory.path().join(name))
        );
    }

    #[test]
    fn name_of_a_vlan_interface_has_no_dot() {
        assert_eq!(link_name("eth0.100"), "link-eth0%2e100");
    }
}
