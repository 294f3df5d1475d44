//! Journals as files: `journal-0000000001` and so on, each a header and groups of blocks.
//!
//! ```text
//! header  "greyjrnl" | version u16 | length u16 of the fields | fields | CRC-32 of all before
//!         fields: seed fingerprint 16 | number u64 | begun u64 | follows u64 | history begun u64
//! group   blocks as a snapshot has them, the last of kind 'Z', its one row:
//!         the number of the group u64 | when it was written u64
//! ```
//!
//! A group is written at the end of the file and synced before the next one begins. So only the last
//! group of the last file can be torn by a crash; what precedes it was on the disk. A write that fails
//! is cut off again, and nothing is ever appended to bytes that were not cut off.
//!
//! Knows nothing of tables: what stands in a group is handed to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::policy::{History, Timestamp};
use crate::store::codec::{BLOCK_FRONT, CHECKSUM, Damage, Fields, Writer, fill, seal, sealed};

/// What a journal says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalHeader {
    /// Names the seed that the keys were made with.
    pub(super) seed: [u8; 16],
    /// Its number, which its name has too.
    pub(super) number: u64,
    /// When it was begun.
    pub(super) begun: Timestamp,
    /// When the latest snapshot was taken by then: [`Timestamp::NEVER`] if there was none.
    pub(super) follows: Timestamp,
    /// Since when there is a history.
    pub(super) history: History,
}

impl JournalHeader {
    /// Bytes of it, as this greygate writes it.
    pub(super) const LENGTH: u64 = (FRONT + FIELDS + CHECKSUM) as u64;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRONT + FIELDS + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(FIELDS).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.seed);
        for number in [
            self.number,
            self.begun.as_millis(),
            self.follows.as_millis(),
            self.history.begun.as_millis(),
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// Reads it, and says how long it is here: a newer greygate may have appended fields.
    pub(super) fn read(from: &mut impl Read) -> Result<(Self, u64), Damage> {
        let mut bytes = vec![0; FRONT];
        fill(from, &mut bytes, 0)?;
        let mut fields = Fields(&bytes);
        if fields.take(MAGIC.len()) != Some(MAGIC) {
            return Err(Damage::NoJournal);
        }
        let version = fields.u16();
        let length = usize::from(fields.u16());
        if version != VERSION {
            return Err(Damage::Version { found: version });
        }
        if length < FIELDS {
            return Err(Damage::Nonsense { at: 0 });
        }
        bytes.resize(FRONT + length + CHECKSUM, 0);
        fill(from, &mut bytes[FRONT..], 0)?;
        let mut fields = Fields(&sealed(&bytes, 0)?[FRONT..]);
        let header = Self {
            seed: fields.array().unwrap_or_default(),
            number: fields.u64(),
            begun: fields.time(),
            follows: fields.time(),
            history: History {
                begun: fields.time(),
            },
        };
        Ok((header, bytes.len() as u64))
    }
}

/// The last block of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupEnd {
    /// The number of the group in its file, from 1.
    pub(super) number: u64,
    /// When it was written.
    pub(super) written: Timestamp,
}

impl GroupEnd {
    /// The kind of its block.
    pub(super) const KIND: u8 = b'Z';
    /// Bytes of its block, as this greygate writes it.
    pub(super) const LENGTH: usize = BLOCK_FRONT + 2 * 8 + CHECKSUM;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut block = vec![Self::KIND, 0];
        block.extend_from_slice(&16_u16.to_le_bytes());
        block.extend_from_slice(&1_u32.to_le_bytes());
        block.extend_from_slice(&self.number.to_le_bytes());
        block.extend_from_slice(&self.written.as_millis().to_le_bytes());
        seal(&mut block);
        block
    }

    /// What stands in the row of such a block.
    pub(super) fn of_row(row: &[u8]) -> Self {
        let mut fields = Fields(row);
        Self {
            number: fields.u64(),
            written: fields.time(),
        }
    }

    /// The one whose block these bytes are, if they are one.
    pub(super) fn of_block(block: &[u8]) -> Option<Self> {
        let [Self::KIND, 0, 16, 0, 1, 0, 0, 0, ..] = block else {
            return None;
        };
        let row = sealed(block, 0).ok()?;
        Some(Self::of_row(&row[BLOCK_FRONT..]))
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct OpenJournal {
    file: File,
    path: PathBuf,
    pub(super) number: u64,
    /// Up to where it is whole and on the disk.
    whole: u64,
    groups: u64,
}

/// What one group came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrote {
    /// Rows in it.
    pub rows: u64,
    /// Bytes it takes.
    pub bytes: u64,
}

/// What is left of a journal after a group that could not be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// It ends where it was whole, and may be gone on with.
    Whole,
    /// Nobody knows what of it will be found: a new one has to be begun.
    Spent,
}

impl OpenJournal {
    /// Begins the journal, and returns when its name is on the disk. One that failed leaves no file.
    pub(super) fn begin(directory: &Path, header: &JournalHeader) -> io::Result<Self> {
        let path = path(directory, header.number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let bytes = header.to_bytes();
        let begun = (&file)
            .write_all(&bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory(directory));
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            file,
            path,
            number: header.number,
            whole: bytes.len() as u64,
            groups: 0,
        })
    }

    /// Writes a group of the rows that `give` hands to the writer, and returns when it is on the disk.
    /// `sheet` is where it is put together: a group that fits is written at once.
    pub(super) fn write_group(
        &mut self,
        sheet: &mut Vec<u8>,
        now: Timestamp,
        give: impl FnOnce(&mut Writer<Sheet<'_>>) -> io::Result<()>,
    ) -> Result<Wrote, (io::Error, AfterFailure)> {
        match self.append_group(sheet, now, give) {
            Ok(wrote) => {
                // After an error here, the system may take for written what is not: a later sync that
                // succeeds says nothing of it.
                if let Err(error) = self.file.sync_data() {
                    // Whatever there is of the group, it is not to be found damaged.
                    let _ = self.cut();
                    return Err((error, AfterFailure::Spent));
                }
                self.whole += wrote.bytes;
                self.groups += 1;
                Ok(wrote)
            }
            Err(error) => {
                // On the disk, too: a later journal may be begun before anything is appended here.
                Err(match self.cut() {
                    Ok(()) => (error, AfterFailure::Whole),
                    Err(_) => (error, AfterFailure::Spent),
                })
            }
        }
    }

    fn append_group(
        &self,
        sheet: &mut Vec<u8>,
        now: Timestamp,
        give: impl FnOnce(&mut Writer<Sheet<'_>>) -> io::Result<()>,
    ) -> io::Result<Wrote> {
        sheet.clear();
        let mut writer = Writer::of_blocks(Sheet {
            file: &self.file,
            sheet,
        });
        give(&mut writer)?;
        let (mut to, rows, bytes) = writer.end_blocks()?;
        let end = GroupEnd {
            number: self.groups + 1,
            written: now,
        }
        .to_bytes();
        to.write_all(&end)?;
        to.flush()?;
        Ok(Wrote {
            rows,
            bytes: bytes + end.len() as u64,
        })
    }

    /// Cuts off what was not synced.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.whole)?;
        self.file.sync_data()
    }

    /// Whether a group of it is on the disk.
    pub(super) fn has_groups(&self) -> bool {
        self.groups > 0
    }

    /// Removes it. Whether it is gone.
    pub(super) fn remove(self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Gathers what is written until it is worth a call.
pub(super) struct Sheet<'a> {
    file: &'a File,
    sheet: &'a mut Vec<u8>,
}

impl Write for Sheet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sheet.extend_from_slice(bytes);
        if self.sheet.len() >= FULL_SHEET {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(self.sheet)?;
        self.sheet.clear();
        Ok(())
    }
}

/// Where the journal of this number is.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:010}"))
}

/// The numbers of the journals in `directory`, in order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(number_of(entry?.file_name().as_encoded_bytes()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the journal that has this name, if it is one's.
fn number_of(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let number: u64 = digits.parse().ok()?;
    // Not what somebody else calls so: a number has one name.
    (number > 0 && format!("{number:010}") == digits).then_some(number)
}

/// Has the names in `directory` on the disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

const PREFIX: &str = "journal-";
const MAGIC: &[u8] = b"greyjrnl";
const VERSION: u16 = 1;
/// Magic, version and length of the fields.
const FRONT: usize = 12;
const FIELDS: usize = 16 + 4 * 8;
/// Ten thousand rows. A longer group takes more than one call.
const FULL_SHEET: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    impl OpenJournal {
        /// The same, on a device that takes nothing.
        pub(in super::super) fn on_a_full_disk(self) -> Self {
            let full = OpenOptions::new().write(true).open("/dev/full");
            Self {
                file: full.expect("every Linux has it"),
                ..self
            }
        }

        /// The same, on a device that takes everything and cannot be synced.
        pub(in super::super) fn on_a_disk_that_does_not_sync(self) -> Self {
            let null = OpenOptions::new().write(true).open("/dev/null");
            Self {
                file: null.expect("every Linux has it"),
                ..self
            }
        }
    }

    #[test]
    fn only_names_of_journals_are_numbers() {
        for (name, number) in [
            ("journal-0000000001", Some(1)),
            ("journal-12345678901", Some(12_345_678_901)),
            ("journal-1", None),
            ("journal-0000000000", None),
            ("journal-00000000001", None),
            ("journal-+000000001", None),
            ("journal-0000000001.damaged-7", None),
            ("snapshot", None),
        ] {
            assert_eq!(number_of(name.as_bytes()), number, "{name}");
        }
    }

    #[test]
    fn end_of_a_group_is_known_by_its_bytes() {
        let end = GroupEnd {
            number: 7,
            written: Timestamp::from_millis(9),
        };
        let bytes = end.to_bytes();
        assert_eq!(bytes.len(), GroupEnd::LENGTH);
        assert_eq!(GroupEnd::of_block(&bytes), Some(end));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(GroupEnd::of_block(&wrong), None, "byte {at}");
        }
    }
}
