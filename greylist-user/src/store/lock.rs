//! The lock on the store's directory: one daemon at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Keeps others out of a directory until it is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

/// Why a directory is not locked.
#[derive(Debug)]
pub(super) enum Locked {
    /// Another process has it.
    Out,
    /// The system refused.
    Not(io::Error),
}

impl Lock {
    /// Takes the directory, which exists.
    pub(super) fn take(directory: &Path) -> Result<Self, Locked> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(Locked::Not)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Locked::Out),
            Err(TryLockError::Error(error)) => Err(Locked::Not(error)),
        }
    }
}

impl Drop for Lock {
    /// Closing alone would leave it to a child that was forked and has not yet become its program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "still-locked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_kept_out_until_the_first_is_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = Lock::take(directory.path()).expect("it is free");
        // As a forked child has it.
        let _elsewhere = first.0.try_clone().expect("a descriptor");
        let second = Lock::take(directory.path());
        assert!(matches!(second, Err(Locked::Out)), "{second:?}");
        drop(first);
        Lock::take(directory.path()).expect("it is free again");
    }
}
