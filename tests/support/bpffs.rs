//! A BPF file system of one's own, for pins that must not outlive a test.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};

use crate::error::Error;

/// A bpffs mounted on a directory. Dropping it unmounts it, and every pin in it goes.
#[derive(Debug)]
pub struct BpfFs {
    directory: PathBuf,
}

impl BpfFs {
    /// Mounts a fresh one on `directory`, which is made when it is missing. Needs root.
    pub fn mount(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = directory.into();
        fs::create_dir_all(&directory)
            .map_err(Error::io(format!("making {}", directory.display())))?;
        mount(
            Some("bpf"),
            &directory,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            None::<&str>,
        )
        .map_err(|errno| {
            Error::io(format!("mounting bpffs on {}", directory.display()))(errno.into())
        })?;
        Ok(Self { directory })
    }

    /// The one that somebody else has mounted on `directory`.
    pub fn mounted(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        if let Err(errno) = umount(&self.directory) {
            let directory = self.directory.display();
            eprintln!("bpffs on {directory} is left behind: {errno}");
        }
    }
}
