//! A directory that is emptied, as root may do it in a directory of somebody else's.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{FilterError, pins::names};

/// A directory that is emptied by its descriptor: root removes here what greygate's own user may
/// have written, and no symbolic link shall lead it elsewhere.
pub(super) struct Emptied {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Emptied {
    /// `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, FilterError> {
        match open(path, DIRECTORY_ITSELF, Mode::empty()) {
            Ok(descriptor) => Ok(Some(Self {
                path: path.to_owned(),
                descriptor,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(FilterError::io(format!("opening {}", path.display()))(
                errno.into(),
            )),
        }
    }

    /// Removes one file; none there is as good.
    pub(super) fn remove(&self, name: &str) -> Result<(), FilterError> {
        match unlinkat(&self.descriptor, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => {
                let path = self.path.join(name);
                Err(FilterError::io(format!("removing {}", path.display()))(
                    errno.into(),
                ))
            }
        }
    }

    /// Removes the directory `name` with what lies in it; returns the names of that.
    pub(super) fn remove_all_in(&self, name: &str) -> Result<Vec<String>, FilterError> {
        let path = self.path.join(name);
        let descriptor = match openat(&self.descriptor, name, DIRECTORY_ITSELF, Mode::empty()) {
            Ok(descriptor) => descriptor,
            // A symbolic link, or a file.
            Err(Errno::ENOTDIR | Errno::ELOOP) => return self.remove(name).map(|()| Vec::new()),
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(FilterError::io(format!("opening {}", path.display()))(
                    errno.into(),
                ));
            }
        };
        // Only the names are taken by way of the path.
        let names = names(&path)?;
        let emptied = Self { path, descriptor };
        names.iter().try_for_each(|name| emptied.remove(name))?;
        remove_directory(&emptied.path)?;
        Ok(names)
    }
}

/// Removes an empty directory; another one, and none, stay as they are.
pub(super) fn remove_directory(directory: &Path) -> Result<(), FilterError> {
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
        _ => Ok(()),
    }
}

/// No symbolic link to one.
const DIRECTORY_ITSELF: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
