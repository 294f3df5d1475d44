//! Beginning anew with the seed of others: what this host remembers is put aside, and its seed with it.
//!
//! Knows which files there are; leaves to `cluster` whose seed it is and whether the operator wants that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::policy::{Seed, Timestamp};

use super::lock::{Lock, Locked};
use super::{OpenError, Settings, snapshot};

/// Writes `seed` where there is none yet.
///
/// # Errors
///
/// There is one, or it cannot be written.
pub fn install_seed(path: &Path, seed: &[u8; Seed::LENGTH]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        snapshot::prepare(directory)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _left_over = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(seed)?;
    file.sync_all()?;
    // Fails where there is one by now, unlike a renaming.
    fs::hard_link(&new, path)?;
    fs::remove_file(&new)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Puts snapshots, journals and the seed of `settings` into a directory of their own beside them, and says
/// which. What operators listed stays.
///
/// # Errors
///
/// The store is in use, or its directory cannot be written.
pub fn discard(settings: &Settings, now: Timestamp) -> Result<PathBuf, OpenError> {
    let directory = &settings.directory;
    let unusable = |source| OpenError::Directory {
        path: directory.clone(),
        source,
    };
    snapshot::prepare(directory).map_err(unusable)?;
    let _lock = Lock::take(directory).map_err(|locked| match locked {
        Locked::Out => OpenError::InUse {
            path: directory.clone(),
        },
        Locked::Not(source) => unusable(source),
    })?;
    let aside = directory.join(format!("discarded-{}", now.as_millis()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&aside)
        .map_err(unusable)?;
    let names = fs::read_dir(directory).map_err(unusable)?;
    for entry in names {
        let name = entry.map_err(unusable)?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("snapshot") || text.starts_with("journal-") {
            fs::rename(directory.join(&name), aside.join(&name)).map_err(unusable)?;
        }
    }
    if settings.seed_file.exists() {
        let into = aside.join("seed");
        // It may lie on another disk.
        fs::copy(&settings.seed_file, &into).map_err(unusable)?;
        fs::remove_file(&settings.seed_file).map_err(unusable)?;
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_of_others_never_takes_the_place_of_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("state").join("seed");
        install_seed(&path, &[7; Seed::LENGTH]).expect("there is none yet");
        assert_eq!(fs::read(&path).expect("it is there"), [7; Seed::LENGTH]);
        let again = install_seed(&path, &[8; Seed::LENGTH]);
        assert_eq!(
            again.map_err(|it| it.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read(&path).expect("it is there"), [7; Seed::LENGTH]);
    }

    #[test]
    fn what_is_discarded_lies_beside_and_lists_stay() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            directory: directory.path().to_owned(),
            seed_file: directory.path().join("seed"),
            ..Settings::default()
        };
        for name in [
            "snapshot",
            "snapshot.previous",
            "journal-0000000001",
            "seed",
            "allow.live",
        ] {
            fs::write(directory.path().join(name), name).expect("the directory is ours");
        }
        let aside = discard(&settings, Timestamp::from_millis(5)).expect("nobody uses it");
        let held = |name: &str| fs::read_to_string(aside.join(name)).ok();
        for name in [
            "snapshot",
            "snapshot.previous",
            "journal-0000000001",
            "seed",
        ] {
            assert_eq!(held(name).as_deref(), Some(name));
            assert!(!directory.path().join(name).exists(), "{name}");
        }
        assert!(directory.path().join("allow.live").exists());
        let lock = Lock::take(directory.path()).expect("it is free again");
        let again = discard(&settings, Timestamp::from_millis(6));
        assert!(matches!(again, Err(OpenError::InUse { .. })), "{again:?}");
        drop(lock);
    }
}
