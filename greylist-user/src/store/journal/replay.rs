//! What the journals say that were written since the snapshot: read in order, each row put in the place
//! of what is there.
//!
//! Which of them follow a snapshot, it says itself. One that was written before there were journals
//! says nothing; then they are those whose header names it. Where no snapshot can be read, all of
//! them are the best there is.
//!
//! A crash may leave the end of the last one torn: it is cut off, unless the disk could not read it. Any other damage is reported and kept
//! for whoever wants to look; what follows it in its file is not used, later files are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::policy::Timestamp;
use crate::store::codec::{Block, Damage, Header, Row};
use crate::store::snapshot::{Forbidden, SetAside};

use super::file::{self, GroupEnd, JournalHeader};

/// What was found of journals.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Files that were read.
    pub files: u64,
    /// Rows taken from them.
    pub rows: u64,
    /// When the last whole group was written, in milliseconds since the Unix epoch; [`None`] if there was
    /// none.
    pub until: Option<u64>,
    /// What was cut off: the group that was being written when the system went down.
    pub cut: Option<Cut>,
    /// Numbers that are missing in the series.
    pub missing: Vec<u64>,
}

/// The torn end of a journal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Bytes cut off.
    pub bytes: u64,
}

/// What there is to know after reading.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) replayed: Replayed,
    pub(super) set_aside: Vec<SetAside>,
    /// The first that counts; [`None`] if none does.
    pub(super) first: Option<u64>,
    /// The number that the next one is given.
    pub(super) next: u64,
    /// Since when there is a history, for all they know.
    pub(super) begun: Option<Timestamp>,
}

/// Hands the rows of the journals that follow the `snapshot` to `sink`.
pub(super) fn read(
    directory: &Path,
    seed: [u8; 16],
    snapshot: Option<&Header>,
    now: Timestamp,
    mut sink: impl FnMut(Row),
) -> Result<Found, Forbidden> {
    let forbidden = |path: &Path| {
        let path = path.to_owned();
        move |source| Forbidden { path, source }
    };
    let numbers = file::list(directory).map_err(forbidden(directory))?;
    let mut found = Found {
        next: next_number(&numbers, snapshot),
        ..Found::default()
    };
    let last = numbers.last().copied();
    let mut expected = snapshot.map(|it| it.journal).filter(|it| *it > 0);
    for number in numbers {
        if expected.is_some_and(|expected| number < expected) {
            continue;
        }
        let path = file::path(directory, number);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(forbidden(&path)(error));
            }
            other => other,
        };
        let is_last = Some(number) == last;
        let read = file
            .map_err(Damage::Io)
            .and_then(|file| Journal::open(file, &path));
        let journal = match read {
            Ok(journal) if journal.header.seed != seed => {
                found.put_aside(&path, OTHER_SEED, now);
                continue;
            }
            Ok(journal) if !follows(&journal.header, snapshot) => continue,
            Ok(journal) => journal,
            // It was begun when the system went down.
            Err(damage) if is_last && is_stub(&path, &damage) => {
                found.note_number(&mut expected, number);
                found.remove_stub(path, number);
                continue;
            }
            Err(damage) => {
                found.note_number(&mut expected, number);
                match damage {
                    // What cannot be read now may be by the next start.
                    Damage::Io(_) => found.keep_a_link(&path, &damage, now),
                    _ => found.put_aside(&path, &damage.to_string(), now),
                }
                continue;
            }
        };
        found.note_number(&mut expected, number);
        found.replayed.files += 1;
        let begun = journal.header.history.begun;
        found.begun = Some(found.begun.map_or(begun, |it| it.min(begun)));
        if let Err((damage, torn)) = journal.for_each(&mut found.replayed, &mut sink) {
            if is_last && torn.is_tail && !matches!(damage, Damage::Io(_)) {
                found.cut_off(path, &torn);
            } else {
                found.keep_a_link(&path, &damage, now);
            }
        }
    }
    Ok(found)
}

/// Whether the journal goes on from the snapshot, which was written before its header named the first
/// that does. One that does so was sorted out by its number.
fn follows(journal: &JournalHeader, snapshot: Option<&Header>) -> bool {
    snapshot.is_none_or(|it| it.journal > 0 || journal.follows == it.taken)
}

/// Whether a file whose header cannot be read has not got beyond it: not a group follows. What the system
/// went down on may be zeros.
fn is_stub(path: &Path, damage: &Damage) -> bool {
    let is_torn = matches!(
        damage,
        Damage::Truncated { .. } | Damage::Checksum { .. } | Damage::NoJournal
    );
    is_torn && fs::metadata(path).is_ok_and(|it| it.len() <= JournalHeader::LENGTH)
}

/// One that no journal here has, nor had since the snapshot was begun.
fn next_number(numbers: &[u64], snapshot: Option<&Header>) -> u64 {
    let beyond = numbers.last().map_or(1, |last| last + 1);
    beyond.max(snapshot.map_or(1, |it| it.journal))
}

impl Found {
    /// Notes that the journal counts, and which are missing before it.
    fn note_number(&mut self, expected: &mut Option<u64>, number: u64) {
        self.first.get_or_insert(number);
        let missing = expected.unwrap_or(number)..number;
        // As many as fit a line: who lost a thousand files knows.
        self.replayed.missing.extend(missing.take(MOST_MISSING));
        *expected = Some(number + 1);
    }

    /// The last file has not got as far as to hold anything.
    fn remove_stub(&mut self, path: PathBuf, number: u64) {
        let bytes = fs::metadata(&path).map_or(0, |it| it.len());
        if fs::remove_file(&path).is_ok() {
            // Nothing was ever in it, and nothing is to be missed.
            self.next = number;
        }
        self.replayed.cut = Some(Cut { file: path, bytes });
    }

    /// Cuts off what is torn. If that fails, it is found damaged the next time, and read as far.
    fn cut_off(&mut self, path: PathBuf, torn: &Torn) {
        let cut = OpenOptions::new().write(true).open(&path);
        let _ = cut.and_then(|file| {
            file.set_len(torn.at)?;
            file.sync_all()
        });
        let bytes = torn.length - torn.at;
        self.replayed.cut = Some(Cut { file: path, bytes });
    }

    /// Puts a file out of the way of which nothing can be used.
    fn put_aside(&mut self, path: &Path, why: &str, now: Timestamp) {
        let kept = beside(path, now);
        let moved = fs::rename(path, &kept);
        self.note_aside(path, kept, why.to_owned(), moved, "renamed");
    }

    /// Keeps a damaged file under a second name: under the first it is read as far as it is whole,
    /// until a snapshot has taken its place.
    fn keep_a_link(&mut self, path: &Path, damage: &Damage, now: Timestamp) {
        // An earlier start has, and no snapshot since.
        if fs::metadata(path).is_ok_and(|it| it.nlink() > 1) {
            self.set_aside.push(SetAside {
                found: path.to_owned(),
                kept: path.to_owned(),
                why: format!("{damage}; it has a second name already"),
            });
            return;
        }
        let kept = beside(path, now);
        let linked = fs::hard_link(path, &kept);
        self.note_aside(path, kept, damage.to_string(), linked, "linked");
    }

    fn note_aside(
        &mut self,
        found: &Path,
        mut kept: PathBuf,
        mut why: String,
        done: io::Result<()>,
        what: &str,
    ) {
        if let Err(error) = done {
            why = format!("{why}; and it cannot be {what}: {error}");
            found.clone_into(&mut kept);
        }
        self.set_aside.push(SetAside {
            found: found.to_owned(),
            kept,
            why,
        });
    }
}

fn beside(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now.as_millis()));
    name.into()
}

/// A journal that is being read.
struct Journal<R> {
    header: JournalHeader,
    from: BufReader<R>,
    at: u64,
    length: u64,
}

/// Where a journal is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Torn {
    at: u64,
    length: u64,
    /// Nothing that was written after a later sync follows.
    is_tail: bool,
}

impl Journal<File> {
    fn open(file: File, path: &Path) -> Result<Self, Damage> {
        let length = file.metadata().map_err(Damage::Io)?.len();
        Self::begin(file, length, path)
    }
}

impl<R: Read + Seek> Journal<R> {
    fn begin(file: R, length: u64, path: &Path) -> Result<Self, Damage> {
        let mut from = BufReader::with_capacity(BUFFER, file);
        let (header, at) = JournalHeader::read(&mut from)?;
        // Renamed by hand, it would be read in the wrong place.
        if !path
            .as_os_str()
            .as_encoded_bytes()
            .ends_with(format!("{:010}", header.number).as_bytes())
        {
            return Err(Damage::Nonsense { at: 0 });
        }
        Ok(Self {
            header,
            from,
            at,
            length,
        })
    }

    /// Hands every row that is whole to `sink`, in order. An error says what came after.
    fn for_each(
        mut self,
        replayed: &mut Replayed,
        mut sink: impl FnMut(Row),
    ) -> Result<(), (Damage, Torn)> {
        let mut block = Block::default();
        let mut groups = 0;
        while self.at < self.length {
            match self.read_block(&mut block, replayed, &mut groups, &mut sink) {
                Ok(()) => {}
                Err(damage) => {
                    let is_tail = !self.is_followed_by_a_group(groups + 1);
                    let torn = Torn {
                        at: self.at,
                        length: self.length,
                        is_tail,
                    };
                    return Err((damage, torn));
                }
            }
        }
        Ok(())
    }

    fn read_block(
        &mut self,
        block: &mut Block,
        replayed: &mut Replayed,
        groups: &mut u64,
        sink: &mut impl FnMut(Row),
    ) -> Result<(), Damage> {
        let at = self.at;
        block.read(&mut self.from, at)?;
        if block.kind() == GroupEnd::KIND {
            let end = GroupEnd::of_row(block.payload()?);
            *groups = end.number;
            replayed.until = Some(end.written.as_millis());
        } else {
            // All or nothing: a row without a meaning is found before any is handed out.
            if let Some(Err(damage)) = block.rows()?.find(Result::is_err) {
                return Err(damage);
            }
            for row in block.rows()?.flatten() {
                sink(row);
                replayed.rows += 1;
            }
        }
        self.at += block.len();
        Ok(())
    }

    /// Whether a group after the one of this number ends somewhere behind: it was begun when this
    /// one was on the disk, which therefore is no torn end. What cannot be read may hold one.
    fn is_followed_by_a_group(&mut self, number: u64) -> bool {
        let mut window = Vec::new();
        let mut piece = vec![0; BUFFER];
        if self.from.seek(SeekFrom::Start(self.at)).is_err() {
            return true;
        }
        loop {
            let read = match self.from.read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(_) => return true,
            };
            window.extend_from_slice(&piece[..read]);
            let mut ends = window
                .windows(GroupEnd::LENGTH)
                .filter_map(GroupEnd::of_block);
            if ends.any(|end| end.number > number) {
                return true;
            }
            let seen = window.len().saturating_sub(GroupEnd::LENGTH - 1);
            window.drain(..seen);
        }
    }
}

const OTHER_SEED: &str = "its keys were made with another seed, so that nothing in it can be found";
const BUFFER: usize = 256 << 10;
const MOST_MISSING: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::History;

    /// A disk with a block in the middle that cannot be read.
    struct Scratched {
        bytes: io::Cursor<Vec<u8>>,
        from: u64,
    }

    impl Read for Scratched {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let left = self.from.saturating_sub(self.bytes.position());
            if left == 0 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let most = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.bytes.read(&mut to[..most])
        }
    }

    impl Seek for Scratched {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.bytes.seek(to)
        }
    }

    /// What cannot be read now may be read by the next start: nothing of it is cut off.
    #[test]
    fn end_that_cannot_be_read_is_not_torn() {
        let header = JournalHeader {
            seed: [7; 16],
            number: 1,
            begun: Timestamp::from_millis(1),
            follows: Timestamp::NEVER,
            history: History {
                begun: Timestamp::from_millis(1),
            },
        };
        let end = |number| GroupEnd {
            number,
            written: Timestamp::from_millis(2),
        };
        let bytes = [
            &header.to_bytes()[..],
            &end(1).to_bytes(),
            &end(2).to_bytes(),
        ]
        .concat();
        let length = bytes.len() as u64;
        let from = JournalHeader::LENGTH + GroupEnd::LENGTH as u64 + 3;
        let scratched = Scratched {
            bytes: io::Cursor::new(bytes),
            from,
        };
        let journal = Journal::begin(scratched, length, Path::new("journal-0000000001"));
        let mut replayed = Replayed::default();
        let read = journal
            .expect("the header is whole")
            .for_each(&mut replayed, |_| {});
        let (damage, torn) = read.expect_err("the disk is scratched");
        assert!(matches!(damage, Damage::Io(_)), "{damage}");
        assert!(!torn.is_tail, "{torn:?}");
        assert_eq!(replayed.until, Some(2), "what precedes it is used");
    }
}
