//! The pin directory: what lies where in it, who may own it, and who works on it.
//!
//! ```text
//! <pin_directory>/           0700, on a bpffs; locked by whoever works on it
//!     link-<interface>       attachments: no layout changes them, every version finds them
//!     v2/<MAP>               the maps of this ABI version, all of them or none
//!     v2-new/<MAP>           maps on their way into `v2`; after a crash, nothing but leftovers
//!     <MAP>                  maps of ABI version 1
//! ```
//!
//! New maps come about in five steps, and a crash after any of them leaves what the next start
//! mends:
//!
//! 1. The old maps' sentences are copied into the new ones, which nobody knows yet. A crash leaves
//!    the old filter on.
//! 2. The links are swapped to the program on the new maps, one by one. A crash leaves some of them
//!    on the old maps and some on the new; both hold the same sentences. The next start begins with
//!    step 1.
//! 3. The new maps are pinned in `v2-new`. A crash leaves them there: the next start removes them and
//!    begins with step 1.
//! 4. `v2-new` and `v2` change places, at once. A crash leaves the new maps in `v2`: the next start
//!    adopts them.
//! 5. What is in `v2-new` now, and the maps of older versions, is removed. A crash leaves some: the
//!    next start removes it.
//!
//! Minimum kernel 5.16, for a bpffs on which two directories can change places. Whoever may write
//! here rules the filter, so the directory is 0700, and pins that others may have put here are
//! refused.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{maps::MapData, pin::PinError};
use greylist_ebpf::abi;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use super::{
    FilterError,
    emptied::{Emptied, remove_directory},
    owner,
};

/// The pin directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// Whether we made it, so that it goes again when nothing was pinned.
    is_made: bool,
    _lock: File,
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.is_made {
            // What cannot be removed holds something, and that is what was asked.
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// One pin, or a directory of them.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    path: PathBuf,
    kind: Kind,
}

/// What a name in the pin directory stands for; in the order in which it is removed, so that no
/// frame meets half a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Link,
    /// A map of ABI version 1.
    FirstMap,
    /// The maps of a version, whether in use or not.
    Maps {
        version: u32,
        in_use: bool,
    },
}

impl Pins {
    /// Makes the directory unless it is there, and locks it.
    ///
    /// # Errors
    ///
    /// When it cannot be on a BPF file system, may have been written by somebody else, or is locked
    /// by another greygate.
    pub(super) fn make(directory: &Path) -> Result<Self, FilterError> {
        on_bpffs(directory)?;
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => {
                let mut pins = Self::lock(directory)?;
                pins.is_made = true;
                Ok(pins)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::lock(directory),
            Err(error) => Err(FilterError::io(format!("making {}", directory.display()))(
                error,
            )),
        }
    }

    /// Locks the directory, if there is one.
    ///
    /// # Errors
    ///
    /// When it may have been written by somebody else, or is locked by another greygate.
    pub(super) fn find(directory: &Path) -> Result<Option<Self>, FilterError> {
        let looking = || FilterError::io(format!("looking for {}", directory.display()));
        if directory.try_exists().map_err(looking())? {
            Self::lock(directory).map(Some)
        } else {
            Ok(None)
        }
    }

    fn lock(directory: &Path) -> Result<Self, FilterError> {
        check_owners(directory)?;
        let locking = || FilterError::io(format!("locking {}", directory.display()));
        let itself = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let lock = File::options()
            .read(true)
            .custom_flags(itself)
            .open(directory)
            .map_err(locking())?;
        match lock_in_time(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FilterError::PinsLocked(directory.to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(locking()(error)),
        }
        // Another greygate's `unload` may have removed it before it let go of the lock.
        let locked = lock.metadata().map_err(locking())?;
        match fs::symlink_metadata(directory) {
            Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {}
            _ => return Err(FilterError::PinsLocked(directory.to_owned())),
        }
        // Once more, for what was put there before it was locked.
        check_owners(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            is_made: false,
            _lock: lock,
        })
    }

    /// Where the link on `interface` is pinned.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.directory.join(link_name(interface))
    }

    /// The interfaces that have a pinned link.
    pub(super) fn interfaces(&self) -> Result<Vec<String>, FilterError> {
        interfaces(&self.directory)
    }

    /// The maps of this version; `None` when there are none.
    pub(super) fn maps(&self) -> Option<PathBuf> {
        Some(maps_in(&self.directory)).filter(|maps| maps.exists())
    }

    /// The directory with maps of ABI version 1; `None` when there are none.
    pub(super) fn first_maps(&self) -> Option<&Path> {
        let is_there = |map| self.directory.join(map).exists();
        FIRST_MAPS
            .into_iter()
            .any(is_there)
            .then_some(&self.directory)
    }

    /// The directories of versions that this greygate does not know.
    pub(super) fn newer(&self) -> Result<Vec<PathBuf>, FilterError> {
        let is_newer =
            |item: &Item| matches!(item.kind, Kind::Maps { version, .. } if version > abi::VERSION);
        let items = items(&self.directory)?.into_iter().filter(is_newer);
        Ok(items.map(|item| item.path).collect())
    }

    /// Pins `maps` as those of this version, in the place of those that were. Links must have been
    /// swapped before.
    pub(super) fn replace_maps(&self, maps: &[(&'static str, MapData)]) -> Result<(), FilterError> {
        let (new, current) = (
            self.directory.join(new_directory()),
            maps_in(&self.directory),
        );
        self.remove_maps(&new_directory())?;
        let making = || FilterError::io(format!("making {}", new.display()));
        DirBuilder::new()
            .mode(0o700)
            .create(&new)
            .map_err(making())?;
        self.give_to_its_owner(&new)?;
        for (name, map) in maps {
            let pin = new.join(name);
            map.pin(&pin).map_err(|error| pin_error(name, error))?;
            self.give_to_its_owner(&pin)?;
        }
        put_in_place(&new, &current)
    }

    /// Renames the link on `before` to that on `now`. What had that name has the other one then.
    pub(super) fn rename_link(&self, before: &str, now: &str) -> Result<(), FilterError> {
        put_in_place(&self.link(before), &self.link(now))
    }

    /// Gives what root has pinned to the owner of the directory: a daemon that runs as its own user
    /// takes over what root has loaded.
    pub(super) fn give_to_its_owner(&self, pin: &Path) -> Result<(), FilterError> {
        let giving = || FilterError::io(format!("giving away {}", pin.display()));
        let owner = fs::metadata(&self.directory).map_err(giving())?;
        if owner.uid() == geteuid().as_raw() {
            return Ok(());
        }
        // Whoever owns the directory may have put a symbolic link in the pin's place by now.
        lchown(pin, Some(owner.uid()), Some(owner.gid())).map_err(giving())
    }

    /// Removes what a crash left, and the maps of older versions: all but what is in use.
    pub(super) fn sweep(&self) -> Result<(), FilterError> {
        for item in items(&self.directory)? {
            match item.kind {
                Kind::Maps { version, in_use } if version < abi::VERSION || !in_use => {
                    self.remove_maps(&file_name(&item.path))?;
                }
                Kind::FirstMap => remove_file(&item.path)?,
                Kind::Link | Kind::Maps { .. } => {}
            }
        }
        Ok(())
    }

    fn remove_maps(&self, name: &str) -> Result<(), FilterError> {
        let Some(emptied) = Emptied::open(&self.directory)? else {
            return Ok(());
        };
        emptied.remove_all_in(name).map(drop)
    }

    /// Removes every pin, then the directory. Returns their names.
    pub(super) fn remove(self) -> Result<Vec<String>, FilterError> {
        remove(&self.directory)
    }
}

/// Removes our pins and then their directory, whoever they belong to and whoever works on them;
/// links first. Returns their names; one that resists keeps no other, and is the error. A directory
/// that somebody made for us, where we may not, stays.
pub(super) fn remove(directory: &Path) -> Result<Vec<String>, FilterError> {
    let Some(emptied) = Emptied::open(directory)? else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    let mut first_error = Ok(());
    for item in items(directory)? {
        let name = file_name(&item.path);
        let done = match item.kind {
            Kind::Maps { .. } => emptied.remove_all_in(&name).map(|maps| {
                removed.extend(maps.into_iter().map(|map| format!("{name}/{map}")));
            }),
            Kind::Link | Kind::FirstMap => {
                let done = emptied.remove(&name);
                done.map(|()| removed.push(name))
            }
        };
        // What resists does not keep the others.
        first_error = first_error.and(done);
    }
    first_error?;
    match remove_directory(directory) {
        Err(FilterError::Io { source, .. })
            if matches!(
                source.kind(),
                // The second is where a bpffs is mounted.
                io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(removed)
        }
        done => done.map(|()| removed),
    }
}

/// The interfaces that have a link pinned in `directory`.
pub(super) fn interfaces(directory: &Path) -> Result<Vec<String>, FilterError> {
    let links = items(directory)?.into_iter();
    let links = links.filter(|item| item.kind == Kind::Link);
    Ok(links
        .filter_map(|item| interface_name(&file_name(&item.path)))
        .collect())
}

/// Where the link on `interface` is pinned in `directory`.
pub(super) fn link_in(directory: &Path, interface: &str) -> PathBuf {
    directory.join(link_name(interface))
}

/// Where this version's maps are in `directory`.
pub(super) fn maps_in(directory: &Path) -> PathBuf {
    directory.join(format!("v{}", abi::VERSION))
}

/// Refuses a directory of pins that others may have written, or pins in it. What does not exist is
/// nobody's.
pub(super) fn check_owners(directory: &Path) -> Result<(), FilterError> {
    owner::check(directory)?;
    for item in items(directory)? {
        owner::check(&item.path)?;
        if let Kind::Maps { .. } = item.kind {
            for path in paths(&item.path)? {
                owner::check(&path)?;
            }
        }
    }
    Ok(())
}

/// What pinning something called `name` failed for.
pub(super) fn pin_error(name: &str, error: PinError) -> FilterError {
    let what = format!("pinning {name}");
    match error {
        PinError::SyscallError(error) => FilterError::io(what)(error.io_error),
        other => FilterError::io(what)(io::Error::other(other)),
    }
}

/// Removes one pin; none there is as good.
pub(super) fn remove_file(path: &Path) -> Result<(), FilterError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilterError::io(format!(
            "removing {}",
            path.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// Renames `new` to `current`; what is there changes places with it.
fn put_in_place(new: &Path, current: &Path) -> Result<(), FilterError> {
    let flags = if current.exists() {
        RenameFlags::RENAME_EXCHANGE
    } else {
        RenameFlags::empty()
    };
    renameat2(AT_FDCWD, new, AT_FDCWD, current, flags).map_err(|errno| {
        let renaming = format!("renaming {} to {}", new.display(), current.display());
        FilterError::io(renaming)(errno.into())
    })
}

/// What lies in `directory` and is ours by its name, in the order in which it is removed.
fn items(directory: &Path) -> Result<Vec<Item>, FilterError> {
    let paths = paths(directory)?.into_iter();
    let mut items: Vec<Item> = paths
        .filter_map(|path| {
            let kind = kind(&file_name(&path))?;
            Some(Item { path, kind })
        })
        .collect();
    items.sort_by(|one, other| (one.kind, &one.path).cmp(&(other.kind, &other.path)));
    Ok(items)
}

fn kind(name: &str) -> Option<Kind> {
    if name.starts_with(LINK_PREFIX) {
        return Some(Kind::Link);
    }
    if FIRST_MAPS.contains(&name) {
        return Some(Kind::FirstMap);
    }
    let version = name.strip_prefix('v')?;
    let (version, in_use) = match version.strip_suffix(NEW_SUFFIX) {
        Some(version) => (version, false),
        None => (version, true),
    };
    let version = version.parse().ok()?;
    Some(Kind::Maps { version, in_use })
}

/// The names of what lies in `directory`; none when it does not exist.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, FilterError> {
    let paths = paths(directory)?;
    Ok(paths.iter().map(|path| file_name(path)).collect())
}

/// What lies in `directory`, by name; nothing when it does not exist.
fn paths(directory: &Path) -> Result<Vec<PathBuf>, FilterError> {
    let reading = || FilterError::io(format!("reading {}", directory.display()));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(reading()(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(reading())?;
    paths.sort();
    Ok(paths)
}

/// Locks `file`, with some patience for a holder that is just ending: a process that it started holds
/// the lock as well until it has become another program.
fn lock_in_time(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            locked => return locked,
        }
    }
    file.try_lock()
}

fn on_bpffs(directory: &Path) -> Result<(), FilterError> {
    let place = if directory.exists() {
        directory
    } else {
        directory.parent().unwrap_or(Path::new("/"))
    };
    match statfs(place) {
        Ok(file_system) if file_system.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(FilterError::NoBpfFs(place.to_owned())),
        Err(errno) => Err(FilterError::io(format!("looking at {}", place.display()))(
            errno.into(),
        )),
    }
}

/// The file name of the link on `interface`. bpffs keeps names with dots for itself, and a VLAN's
/// interface has one.
fn link_name(interface: &str) -> String {
    format!("{LINK_PREFIX}{}", interface.replace('.', DOT))
}

fn interface_name(link: &str) -> Option<String> {
    Some(link.strip_prefix(LINK_PREFIX)?.replace(DOT, "."))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn new_directory() -> String {
    format!("v{}{NEW_SUFFIX}", abi::VERSION)
}

/// Half a second in all: a daemon that ends has let go by then, and one that does not is named.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);
const LINK_PREFIX: &str = "link-";
const NEW_SUFFIX: &str = "-new";
const DOT: &str = "%2e";
/// The maps of ABI version 1, which knew no directory for them.
const FIRST_MAPS: [&str; 4] = [
    abi::map::IPV4,
    abi::map::IPV6,
    abi::map::COUNTERS,
    abi::map::PORTS,
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn directory_outside_a_bpffs_is_refused_with_the_mount_command() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = Pins::make(&directory.path().join("greygate")).expect_err("no bpffs");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
    }

    #[test]
    fn directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let world_writable = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), world_writable).expect("our own directory");
        let error = Pins::find(directory.path()).expect_err("anybody may write there");
        assert!(error.to_string().contains("mode 0777"), "{error}");
    }

    #[test]
    fn maps_that_others_may_write_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let maps = maps_in(directory.path());
        fs::create_dir(&maps).expect("a writable directory");
        let map = maps.join(abi::map::IPV4);
        fs::write(&map, "").expect("a writable directory");
        fs::set_permissions(&map, fs::Permissions::from_mode(0o622)).expect("our own file");
        let error = check_owners(directory.path()).expect_err("anybody may write it");
        assert!(error.to_string().contains("mode 0622"), "{error}");
    }

    #[test]
    fn one_process_at_a_time_works_on_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pins = Pins::find(directory.path())
            .expect("it is ours")
            .expect("it is there");
        let error = Pins::find(directory.path()).expect_err("it is locked");
        assert!(matches!(error, FilterError::PinsLocked(_)), "{error}");
        drop(pins);
        assert!(Pins::find(directory.path()).is_ok());
    }

    #[test]
    fn file_that_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["somebody", "v", "vx", "link-eth0", abi::map::IPV4] {
            fs::write(directory.path().join(name), "").expect("a writable directory");
        }
        for name in ["v1", "v2", "v2-new", "v77"] {
            fs::create_dir(directory.path().join(name)).expect("a writable directory");
        }
        let removed = remove(directory.path()).expect("it can be removed");
        assert_eq!(removed, ["link-eth0", abi::map::IPV4]);
        let left = names(directory.path()).expect("it can be read");
        assert_eq!(left, ["somebody", "v", "vx"]);
    }

    /// Root empties a directory that greygate's own user may write.
    #[test]
    fn symbolic_link_is_removed_and_not_followed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        let precious = elsewhere.path().join("link-precious");
        fs::write(&precious, "").expect("a writable directory");
        symlink(elsewhere.path(), directory.path().join("v2")).expect("a writable directory");
        let itself = directory.path().join("pins");
        symlink(elsewhere.path(), &itself).expect("a writable directory");
        remove(&itself).expect_err("it is no directory");
        remove(directory.path()).expect("the link is removed");
        assert!(precious.exists(), "what it leads to is not");
        assert!(!maps_in(directory.path()).is_symlink());
    }

    #[test]
    fn directory_that_cannot_be_looked_at_is_not_taken_for_none() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let unseen = directory.path().join("pins");
        symlink(&unseen, &unseen).expect("a writable directory");
        let error = Pins::find(&unseen).expect_err("it leads nowhere");
        assert!(error.to_string().contains("looking for"), "{error}");
    }

    #[test]
    fn sweep_leaves_what_is_in_use_and_what_is_newer() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["v1", "v1-new", "v2", "v2-new", "v77"] {
            let maps = directory.path().join(name);
            fs::create_dir(&maps).expect("a writable directory");
            fs::write(maps.join(abi::map::IPV4), "").expect("a writable directory");
        }
        for name in ["link-eth0", abi::map::PORTS] {
            fs::write(directory.path().join(name), "").expect("a writable directory");
        }
        let pins = Pins::find(directory.path())
            .expect("it is ours")
            .expect("it is there");
        let newer = pins.newer().expect("it can be read");
        assert_eq!(newer, [directory.path().join("v77")]);
        pins.sweep().expect("it can be removed");
        let left = names(directory.path()).expect("it can be read");
        assert_eq!(left, ["link-eth0", "v2", "v77"]);
    }

    #[test]
    fn name_of_a_vlan_interface_has_no_dot_and_is_read_back() {
        let name = link_name("eth0.100");
        assert_eq!(name, "link-eth0%2e100");
        assert_eq!(interface_name(&name).as_deref(), Some("eth0.100"));
    }
}
