//! The seed file: the secret that keys are made with, created once and kept.
//!
//! It is [`Seed::LENGTH`] bytes as they are. Copy it to other hosts to give them the same keys;
//! whoever reads it can aim at keys, so it is created with mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::policy::Seed;

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file cannot be created or written.
    #[error("cannot create the seed file {}", path.display())]
    Create {
        /// The seed file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file exists but cannot be read.
    #[error("cannot read the seed file {}", path.display())]
    Read {
        /// The seed file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has the wrong length.
    #[error(
        "the seed file {} has {found} bytes instead of {}: restore it, or remove it to begin anew with an empty store",
        path.display(),
        Seed::LENGTH
    )]
    Length {
        /// The seed file.
        path: PathBuf,
        /// How many bytes it has, as far as they were counted.
        found: usize,
    },
    /// The file has one byte, repeated.
    #[error(
        "the seed file {} is not random: remove it to have a new one made",
        path.display()
    )]
    NotRandom {
        /// The seed file.
        path: PathBuf,
    },
}

/// Reads the seed from `path`, or makes one there if there is no such file.
pub(super) fn read_or_create(path: &Path) -> Result<Seed, SeedError> {
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(source) => Err(SeedError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read(path: &Path, file: File) -> Result<Seed, SeedError> {
    warn_if_open(path, &file);
    let path = || path.to_owned();
    let mut bytes = Vec::with_capacity(Seed::LENGTH + 1);
    // One byte more than wanted shows a file that is too long without reading all of it.
    file.take(Seed::LENGTH as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SeedError::Read {
            path: path(),
            source,
        })?;
    let bytes: [u8; Seed::LENGTH] = bytes.try_into().map_err(|bytes: Vec<u8>| {
        let found = bytes.len();
        SeedError::Length {
            path: path(),
            found,
        }
    })?;
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(SeedError::NotRandom { path: path() });
    }
    Ok(Seed::from_bytes(bytes))
}

/// Whoever can read the seed can choose keys: worth a word, but not a night without mail.
fn warn_if_open(path: &Path, file: &File) {
    let mode = file.metadata().map_or(0, |meta| meta.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            file = %path.display(),
            mode = format_args!("{:03o}", mode & 0o777),
            "open-seed"
        );
    }
}

/// Makes a seed under another name first: a crash, or a full disk, must not leave half of one that
/// keeps the daemon from starting ever after.
fn create(path: &Path) -> Result<Seed, SeedError> {
    let write = || {
        let mut bytes = [0; Seed::LENGTH];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // Unlike a rename, this replaces no seed that another daemon made meanwhile.
        fs::hard_link(&new, path)?;
        fs::remove_file(&new)?;
        // A seed that a power cut takes away takes every record with it.
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()?;
        Ok(Seed::from_bytes(bytes))
    };
    write().map_err(|source| SeedError::Create {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_a_private_seed_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("seed");
        let created = read_or_create(&path).expect("the directory is writable");
        assert_eq!(read_or_create(&path).expect("it exists"), created);
        let mode = fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = read_or_create(&directory.path().join("other")).expect("writable");
        assert_ne!(created, other);
    }

    #[test]
    fn half_a_seed_that_a_crash_left_is_no_obstacle() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("seed");
        let half = directory.path().join("seed.new");
        fs::write(&half, [7; 96]).expect("the directory is writable");
        let created = read_or_create(&path).expect("the directory is writable");
        assert_eq!(read_or_create(&path).expect("it exists"), created);
        assert!(!half.exists());
    }

    #[test]
    fn refuses_a_seed_that_is_short_long_or_constant() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("seed");
        for (contents, expected) in [
            (vec![7; 16], "has 16 bytes instead of 192"),
            (vec![7; 500], "has 193 bytes instead of 192"),
            (vec![7; 192], "is not random"),
        ] {
            fs::write(&path, contents).expect("the directory is writable");
            let error = read_or_create(&path).expect_err("it is no seed");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn says_where_no_seed_can_be_made() {
        let error = read_or_create(Path::new("/proc/no-such/seed")).expect_err("no such place");
        assert!(matches!(error, SeedError::Create { .. }));
        assert!(error.to_string().contains("/proc/no-such/seed"));
    }
}
