//! Snapshots as files: written beside and renamed, kept twice, set aside when damaged.
//!
//! `snapshot` is the latest, `snapshot.previous` the one before, `snapshot.new` one that is being
//! written. A crash at any moment leaves the latest or the previous whole: a snapshot gets its name
//! only once it is on the disk. What a crash may lose is what happened since the latest.
//!
//! Knows nothing of live tables; the layout is `codec`'s.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::policy::Timestamp;

use super::codec::{Damage, Header, Reader, Row, Writer};
use super::loading;
use super::pace::{GaveWay, Pace, PacedFile};

/// What the rows of a snapshot are handed to.
pub(super) type SnapshotWriter<'a> = Writer<BufWriter<PacedFile<'a>>>;

/// A snapshot was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotReport {
    /// The file.
    pub file: PathBuf,
    /// What is in it: tuples, records of trust and sentences.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
}

/// A snapshot was not written. The one before stays the latest.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct SnapshotError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SnapshotError {
    /// Whether it was given up for one that somebody waits for.
    pub(super) fn gave_way(&self) -> bool {
        let inner = self.source.get_ref();
        inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<GaveWay>)
    }
}

/// A snapshot that was not used, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SetAside {
    /// The file's name when it was found.
    pub found: PathBuf,
    /// Its name now; the same if it could not be renamed.
    pub kept: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl SetAside {
    /// Says so in the log.
    pub(super) fn log(&self) {
        tracing::warn!(
            file = %self.found.display(),
            kept = %self.kept.display(),
            why = self.why,
            "set-aside"
        );
    }
}

/// What reading the snapshots came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found<C> {
    /// What the snapshot that was used says of itself, if there was one.
    pub(super) header: Option<Header>,
    /// What was counted of its rows, by each thread that took some.
    pub(super) counts: Vec<C>,
    /// Snapshots that were not used.
    pub(super) set_aside: Vec<SetAside>,
}

/// The latest snapshot in a store's directory, if there is one.
pub fn latest(directory: &Path) -> PathBuf {
    directory.join(LATEST)
}

/// Makes sure of a directory that only its owner enters.
///
/// One that exists keeps its mode, since it may be shared with others on purpose; the files in it
/// are private by themselves.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mode = fs::metadata(directory)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            directory = %directory.display(),
            mode = format_args!("{:03o}", mode & 0o777),
            "open-directory"
        );
    }
    Ok(())
}

/// Writes a snapshot whose rows `give` hands to the writer. Unless the previous one is to be kept, no
/// other is left once this has its name.
pub(super) fn write(
    directory: &Path,
    header: &Header,
    keeps_previous: bool,
    pace: Pace<'_>,
    give: impl FnOnce(&mut SnapshotWriter<'_>) -> io::Result<()>,
) -> Result<SnapshotReport, SnapshotError> {
    let new = directory.join(NEW);
    let latest = directory.join(LATEST);
    let previous = directory.join(PREVIOUS);

    let (records, bytes) = write_file(&new, header, pace, give).map_err(|error| {
        // On a full disk, what there is of it is room that others need.
        let _ = fs::remove_file(&new);
        failed("write", &new)(error)
    })?;
    let made_way = if keeps_previous {
        fs::rename(&latest, &previous).map_err(|error| ("rename", &latest, error))
    } else {
        // The latest is still whole, and the new one takes its place in one step.
        fs::remove_file(&previous).map_err(|error| ("remove", &previous, error))
    };
    match made_way {
        Err((doing, path, error)) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(doing, path)(error));
        }
        _ => {}
    }
    fs::rename(&new, &latest).map_err(failed("rename", &new))?;
    // Until the directory is on the disk, the names are not.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))?;
    Ok(SnapshotReport {
        file: latest,
        records,
        bytes,
    })
}

/// Hands the rows of the best snapshot to `take`, from several threads, `forget` being called when rows
/// that were handed over turn out to be of a damaged one. Snapshots that cannot be used are set aside.
///
/// # Errors
///
/// One that this process may not open: it may be whole, and is left alone.
pub(super) fn read<C: Default + Send>(
    directory: &Path,
    seed: [u8; 16],
    now: Timestamp,
    take: impl Fn(Row, &mut C) + Sync,
    mut forget: impl FnMut(),
) -> Result<Found<C>, Forbidden> {
    let mut found = Found {
        header: None,
        counts: Vec::new(),
        set_aside: Vec::new(),
    };
    for name in [LATEST, PREVIOUS] {
        let path = directory.join(name);
        match read_file(&path, seed, &take) {
            Ok((header, counts)) => {
                found.header = Some(header);
                found.counts = counts;
                break;
            }
            Err(Unusable::Absent) => {}
            Err(Unusable::Forbidden(source)) => return Err(Forbidden { path, source }),
            Err(unusable) => {
                forget();
                found.set_aside.push(set_aside(path, &unusable, now));
            }
        }
    }
    Ok(found)
}

/// A snapshot that this process may not open.
#[derive(Debug)]
pub(super) struct Forbidden {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is none")]
    Absent,
    #[error("{0}")]
    Damaged(#[from] Damage),
    #[error("it may not be opened")]
    Forbidden(#[source] io::Error),
    #[error("its keys were made with another seed, so that nothing in it can be found")]
    OtherSeed,
}

fn read_file<C: Default + Send>(
    path: &Path,
    seed: [u8; 16],
    take: impl Fn(Row, &mut C) + Sync,
) -> Result<(Header, Vec<C>), Unusable> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent,
        io::ErrorKind::PermissionDenied => Unusable::Forbidden(error),
        _ => Unusable::Damaged(Damage::Io(error)),
    })?;
    let bytes = file.metadata().map_or(0, |it| it.len());
    let reader = Reader::begin(BufReader::with_capacity(BUFFER, file))?;
    let header = *reader.header();
    if header.seed != seed {
        return Err(Unusable::OtherSeed);
    }
    let counts = loading::load(reader, bytes, take)?;
    Ok((header, counts))
}

fn set_aside(found: PathBuf, why: &Unusable, now: Timestamp) -> SetAside {
    let mut kept = found.clone();
    let name = match found.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => LATEST.to_owned(),
    };
    kept.set_file_name(format!("{name}.damaged-{}", now.as_millis()));
    let mut why = why.to_string();
    if let Err(error) = fs::rename(&found, &kept) {
        why = format!("{why}; and it cannot be renamed: {error}");
        kept.clone_from(&found);
    }
    SetAside { found, kept, why }
}

fn write_file(
    path: &Path,
    header: &Header,
    pace: Pace<'_>,
    give: impl FnOnce(&mut SnapshotWriter<'_>) -> io::Result<()>,
) -> io::Result<(u64, u64)> {
    // One that was left behind by a crash may have another owner or mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let file = BufWriter::with_capacity(BUFFER, PacedFile::new(file, pace));
    let mut writer = Writer::begin(file, header)?;
    give(&mut writer)?;
    let (buffer, rows, bytes) = writer.end()?;
    // What is left of it is the file's end.
    let file = buffer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.end()?;
    Ok((rows, bytes))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// What is said of a store that lives in memory alone.
pub(super) fn nowhere(directory: &Path) -> SnapshotError {
    failed("write into", directory)(io::Error::other("this store lives in memory alone"))
}

const LATEST: &str = "snapshot";
const PREVIOUS: &str = "snapshot.previous";
const NEW: &str = "snapshot.new";
const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::sync::Mutex;

    use nix::unistd::{Uid, setfsuid};

    use super::*;
    use crate::policy::History;
    use crate::policy::{Record, TupleKey};

    const SEED: [u8; 16] = [7; 16];

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// The row that stands for the snapshot taken at `millis`.
    fn row(millis: u64) -> Row {
        Row::Tuple(TupleKey::from_bytes([1; 16]), Record::begun(1, at(millis)))
    }

    fn take(directory: &Path, millis: u64) -> SnapshotReport {
        let header = Header {
            seed: SEED,
            taken: at(millis),
            history: History { begun: at(millis) },
            journal: 0,
        };
        write(directory, &header, true, Pace::Free, |writer| {
            writer.push(&row(millis))
        })
        .expect("it is writable")
    }

    fn restore(directory: &Path, seed: [u8; 16]) -> (Found<()>, Vec<Row>) {
        let rows = Mutex::new(Vec::new());
        let found = read(
            directory,
            seed,
            at(9),
            |row, ()| rows.lock().expect("nobody panicked").push(row),
            || rows.lock().expect("nobody panicked").clear(),
        );
        let rows = rows.into_inner().expect("nobody panicked");
        let mut found = found.expect("it is ours");
        found.counts.clear();
        (found, rows)
    }

    #[test]
    fn nothing_is_found_in_an_empty_directory() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(
            restore(directory.path(), SEED),
            (Found::default(), Vec::new())
        );
    }

    #[test]
    fn latest_is_used_and_previous_is_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for millis in 1..=3 {
            take(directory.path(), millis);
        }
        let (found, rows) = restore(directory.path(), SEED);
        assert_eq!(found.header.map(|it| it.taken), Some(at(3)));
        assert_eq!(rows, [row(3)]);
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("it can be listed")
            .map(|entry| entry.expect("it can be listed").file_name())
            .collect();
        names.sort();
        assert_eq!(names, [LATEST, PREVIOUS]);
    }

    #[test]
    fn files_are_private() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = parent.path().join("a").join("b");
        prepare(&directory).expect("it can be made");
        take(&directory, 1);
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode();
        assert_eq!(mode(&directory) & 0o777, 0o700);
        assert_eq!(mode(&directory.join(LATEST)) & 0o777, 0o600);
    }

    #[test]
    fn damaged_latest_is_set_aside_and_previous_used() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        let length = take(directory.path(), 2).bytes;
        let latest = directory.path().join(LATEST);
        let file = OpenOptions::new()
            .write(true)
            .open(&latest)
            .expect("it exists");
        // The row is whole; only the end is missing.
        file.set_len(length - 1).expect("it can be cut");
        let (found, rows) = restore(directory.path(), SEED);
        assert_eq!(rows, [row(1)], "nothing of the damaged one remains");
        assert_eq!(found.header.map(|it| it.taken), Some(at(1)));
        let [aside] = &found.set_aside[..] else {
            panic!("one is set aside: {found:?}");
        };
        assert_eq!(aside.found, latest);
        assert!(aside.kept.ends_with("snapshot.damaged-9"));
        assert!(aside.kept.exists() && !latest.exists());
        assert!(aside.why.contains("before its end"), "{}", aside.why);
    }

    #[test]
    fn snapshot_of_another_user_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        let latest = directory.path().join(LATEST);
        fs::set_permissions(&latest, Permissions::from_mode(0o000)).expect("it is ours");
        // Root may read anything; this thread is somebody else to the file system for a moment.
        let us = setfsuid(Uid::from_raw(65_534));
        let refused = read(directory.path(), SEED, at(9), |_, (): &mut ()| {}, || {});
        setfsuid(us);
        let error = refused.expect_err("it may not be opened");
        assert_eq!(error.source.kind(), io::ErrorKind::PermissionDenied);
        assert!(latest.exists(), "it is not set aside");
    }

    #[test]
    fn previous_is_used_when_a_crash_took_the_latest_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        fs::rename(
            directory.path().join(LATEST),
            directory.path().join(PREVIOUS),
        )
        .expect("it can be renamed");
        fs::write(directory.path().join(NEW), b"half").expect("it is writable");
        assert_eq!(restore(directory.path(), SEED).1, [row(1)]);
        take(directory.path(), 2);
        assert_eq!(restore(directory.path(), SEED).1, [row(2)]);
    }

    #[test]
    fn snapshots_of_another_seed_are_set_aside() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        take(directory.path(), 2);
        let (found, rows) = restore(directory.path(), [8; 16]);
        assert_eq!((found.header.map(|it| it.taken), rows), (None, Vec::new()));
        assert_eq!(found.set_aside.len(), 2);
        assert!(found.set_aside[0].why.contains("another seed"));
    }

    #[test]
    fn no_other_is_left_where_none_of_before_may_stay() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        take(directory.path(), 2);
        let header = Header {
            seed: SEED,
            taken: at(3),
            history: History { begun: at(3) },
            journal: 0,
        };
        let only = write(directory.path(), &header, false, Pace::Free, |writer| {
            writer.push(&row(3))
        });
        only.expect("it is writable");
        assert!(!directory.path().join(PREVIOUS).exists());
        assert_eq!(restore(directory.path(), SEED).1, [row(3)]);
    }

    #[test]
    fn failed_snapshot_leaves_the_latest() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        take(directory.path(), 1);
        let header = Header {
            seed: SEED,
            taken: at(2),
            history: History { begun: at(2) },
            journal: 0,
        };
        let error = write(directory.path(), &header, true, Pace::Free, |_| {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .expect_err("the disk is full");
        assert!(error.to_string().contains("snapshot.new"), "{error}");
        assert!(!directory.path().join(NEW).exists());
        assert_eq!(restore(directory.path(), SEED).1, [row(1)]);
    }
}
