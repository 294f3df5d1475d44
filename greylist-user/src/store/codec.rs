//! The layout of a snapshot: rows of records to bytes and back.
//!
//! ```text
//! header  "greygate" | version u16 | length u16 of the fields | fields | CRC-32 of all before
//!         fields: seed fingerprint 16 | taken u64 | history begun u64 | first journal u64
//! block   kind u8 | 0 u8 | row length u16 | rows u32 | the rows | CRC-32 of all before in the block
//!         the kinds are `row`'s; the last block is 'E', its one row the number of rows in the file,
//!         u64
//! ```
//!
//! Numbers are little-endian, times milliseconds since the Unix epoch. Layouts grow at the end: a
//! new field is appended to its row or to the header, a new kind of row gets a new letter. A reader
//! takes the fields it knows, gives those a row lacks their default, and passes over kinds and codes
//! it does not know. Addresses are the one row whose length differs; those of a block have one length
//! all the same. The version changes only when an older reader would go wrong in spite of that.
//!
//! A journal is made of the same blocks under a header of its own, see `journal`.
//!
//! Knows nothing of files, see `snapshot`, nor of what stands in a row, see `row`.

mod row;

use std::io::{self, Read, Write};

use crate::policy::{History, Timestamp};

use row::encode;
pub(super) use row::{Fields, decode};
pub use row::{Gone, Row};

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names the seed that the keys were made with.
    pub seed: [u8; 16],
    /// When the snapshot was begun.
    pub taken: Timestamp,
    /// Since when there is a history. One that was written before this was known begins with the
    /// snapshot.
    pub history: History,
    /// The number of the first journal that goes on from here; 0 where nobody kept one.
    pub journal: u64,
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It does not begin as a snapshot does.
    #[error("it is no snapshot")]
    NoSnapshot,
    /// It does not begin as a journal does.
    #[error("it is no journal")]
    NoJournal,
    /// A newer layout that this greygate would misread.
    #[error("it has layout version {found}, and this greygate reads {VERSION}")]
    Version {
        /// The version it has.
        found: u16,
    },
    /// It ends too early.
    #[error("it ends at byte {at}, before its end was written")]
    Truncated {
        /// Where the incomplete part begins.
        at: u64,
    },
    /// Bytes were changed.
    #[error("the checksum of the part that begins at byte {at} is wrong")]
    Checksum {
        /// Where the part begins.
        at: u64,
    },
    /// Lengths or counts that no writer produces.
    #[error("the part that begins at byte {at} makes no sense")]
    Nonsense {
        /// Where the part begins.
        at: u64,
    },
    /// Reading failed.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
}

/// Writes a snapshot row by row.
pub struct Writer<W> {
    to: W,
    /// The rows of the block that is being filled.
    block: Vec<u8>,
    kind: u8,
    rows_in_block: u32,
    rows: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a snapshot.
    pub fn begin(mut to: W, header: &Header) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(HEADER_FRONT + HEADER_FIELDS + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u16_of(HEADER_FIELDS).to_le_bytes());
        bytes.extend_from_slice(&header.seed);
        bytes.extend_from_slice(&header.taken.as_millis().to_le_bytes());
        bytes.extend_from_slice(&header.history.begun.as_millis().to_le_bytes());
        bytes.extend_from_slice(&header.journal.to_le_bytes());
        seal(&mut bytes);
        to.write_all(&bytes)?;
        Ok(Self {
            bytes: bytes.len() as u64,
            ..Self::of_blocks(to)
        })
    }

    /// Begins with the first block: `to` has a header already, and need not end.
    pub(super) fn of_blocks(to: W) -> Self {
        Self {
            to,
            block: Vec::with_capacity(ROWS_PER_BLOCK as usize * 64),
            kind: END,
            rows_in_block: 0,
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds a row. Rows of one kind should follow each other, since a change begins a new block.
    ///
    /// [`Row::Unknown`] is not written: what it was is not known.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        let Some(kind) = row.kind() else {
            return Ok(());
        };
        if self.kind != kind || self.rows_in_block == ROWS_PER_BLOCK {
            self.end_block()?;
            self.kind = kind;
        }
        if self.block.is_empty() {
            // Its length and count are filled in when the block ends.
            self.block.extend_from_slice(&[0; BLOCK_FRONT]);
        }
        let before = self.block.len();
        let usual = (self.rows_in_block > 0).then(|| self.row_length());
        encode(row, &mut self.block);
        if usual.is_some_and(|usual| usual != self.block.len() - before) {
            let row = self.block.split_off(before);
            self.end_block()?;
            self.block.extend_from_slice(&[0; BLOCK_FRONT]);
            self.block.extend_from_slice(&row);
        }
        self.rows_in_block += 1;
        self.rows += 1;
        Ok(())
    }

    /// Ends the last block without ending the snapshot. Says how many rows and bytes there are and gives
    /// back what they were written to.
    pub(super) fn end_blocks(mut self) -> io::Result<(W, u64, u64)> {
        self.end_block()?;
        Ok((self.to, self.rows, self.bytes))
    }

    /// Ends the snapshot. Says how many rows and bytes it has and gives back what it was written
    /// to, which may still have to be flushed.
    pub fn end(mut self) -> io::Result<(W, u64, u64)> {
        self.end_block()?;
        let rows = self.rows;
        self.kind = END;
        self.rows_in_block = 1;
        self.block.extend_from_slice(&[0; BLOCK_FRONT]);
        self.block.extend_from_slice(&rows.to_le_bytes());
        self.end_block()?;
        Ok((self.to, rows, self.bytes))
    }

    /// The length of each row of the block that is being filled.
    fn row_length(&self) -> usize {
        (self.block.len() - BLOCK_FRONT) / self.rows_in_block as usize
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.rows_in_block == 0 {
            return Ok(());
        }
        let row_length = self.row_length();
        self.block[0] = self.kind;
        self.block[2..4].copy_from_slice(&u16_of(row_length).to_le_bytes());
        self.block[4..8].copy_from_slice(&self.rows_in_block.to_le_bytes());
        seal(&mut self.block);
        self.to.write_all(&self.block)?;
        self.bytes += self.block.len() as u64;
        self.block.clear();
        self.rows_in_block = 0;
        Ok(())
    }
}

/// Reads a snapshot block by block. No row is given out before its block's checksum was found
/// right, and [`Reader::for_each`] says whether the end was reached: until then, a caller that
/// wants all or nothing has nothing.
pub struct Reader<R> {
    from: R,
    header: Header,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn begin(mut from: R) -> Result<Self, Damage> {
        let mut bytes = vec![0; HEADER_FRONT];
        fill(&mut from, &mut bytes, 0).map_err(|damage| match damage {
            Damage::Truncated { .. } => Damage::NoSnapshot,
            other => other,
        })?;
        let mut fields = Fields(&bytes);
        if fields.take(MAGIC.len()) != Some(MAGIC) {
            return Err(Damage::NoSnapshot);
        }
        let version = fields.u16();
        let length = usize::from(fields.u16());
        if version != VERSION {
            return Err(Damage::Version { found: version });
        }
        if length < OLDEST_HEADER_FIELDS {
            return Err(Damage::Nonsense { at: 0 });
        }
        bytes.resize(HEADER_FRONT + length + CHECKSUM, 0);
        fill(&mut from, &mut bytes[HEADER_FRONT..], 0)?;
        let mut fields = Fields(&sealed(&bytes, 0)?[HEADER_FRONT..]);
        let seed = fields.array().unwrap_or_default();
        let taken = fields.time();
        let begun = match fields.time() {
            Timestamp::NEVER => taken,
            begun => begun,
        };
        let header = Header {
            seed,
            taken,
            history: History { begun },
            journal: fields.u64(),
        };
        Ok(Self {
            from,
            header,
            at: bytes.len() as u64,
        })
    }

    /// What the snapshot says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Hands every row to `sink`. An error means that the snapshot is damaged, though the rows
    /// before were right.
    pub fn for_each(mut self, mut sink: impl FnMut(Row)) -> Result<(), Damage> {
        let mut block = Vec::new();
        let mut rows = 0;
        loop {
            let at = self.at;
            let (kind, row_length) = read_block(&mut self.from, at, &mut block)?;
            self.at += block.len() as u64;
            let payload = &sealed(&block, at)?[BLOCK_FRONT..];
            if kind == END {
                return if Fields(payload).u64() == rows && self.is_at_end()? {
                    Ok(())
                } else {
                    Err(Damage::Nonsense { at })
                };
            }
            for row in payload.chunks_exact(row_length) {
                sink(decode(kind, row).ok_or(Damage::Nonsense { at })?);
                rows += 1;
            }
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Damage> {
        let mut byte = [0];
        match fill(&mut self.from, &mut byte, self.at) {
            Ok(()) => Ok(false),
            Err(Damage::Truncated { .. }) => Ok(true),
            Err(other) => Err(other),
        }
    }
}

/// Reads the block that begins at `at` with its checksum, unchecked, and says its kind and the length of
/// its rows.
pub(super) fn read_block(
    from: &mut impl Read,
    at: u64,
    block: &mut Vec<u8>,
) -> Result<(u8, usize), Damage> {
    block.clear();
    block.resize(BLOCK_FRONT, 0);
    fill(from, block, at)?;
    let mut fields = Fields(block);
    let kind = fields.u8();
    let _reserved = fields.u8();
    let row_length = usize::from(fields.u16());
    let payload = u64::from(fields.u32()) * row_length as u64;
    if payload == 0 || payload > LARGEST_PAYLOAD {
        return Err(Damage::Nonsense { at });
    }
    let length = BLOCK_FRONT + usize::try_from(payload).unwrap_or(usize::MAX) + CHECKSUM;
    block.resize(length, 0);
    fill(from, &mut block[BLOCK_FRONT..], at)?;
    Ok((kind, row_length))
}

/// Appends the checksum of what is there.
pub(super) fn seal(part: &mut Vec<u8>) {
    let checksum = crc32fast::hash(part);
    part.extend_from_slice(&checksum.to_le_bytes());
}

/// The part that begins at `at` without its checksum, if that is right.
pub(super) fn sealed(part: &[u8], at: u64) -> Result<&[u8], Damage> {
    let (contents, checksum) = part.split_last_chunk().ok_or(Damage::Truncated { at })?;
    if crc32fast::hash(contents) == u32::from_le_bytes(*checksum) {
        Ok(contents)
    } else {
        Err(Damage::Checksum { at })
    }
}

pub(super) fn fill(from: &mut impl Read, to: &mut [u8], at: u64) -> Result<(), Damage> {
    from.read_exact(to).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Damage::Truncated { at },
        _ => Damage::Io(error),
    })
}

fn u16_of(length: usize) -> u16 {
    u16::try_from(length).expect("rows and headers are far shorter than 64 KiB")
}

const MAGIC: &[u8] = b"greygate";
const VERSION: u16 = 1;
/// Magic, version and length of the fields.
const HEADER_FRONT: usize = 12;
const HEADER_FIELDS: usize = 40;
/// Those of the first greygate.
const OLDEST_HEADER_FIELDS: usize = 24;
pub(super) const BLOCK_FRONT: usize = 8;
pub(super) const CHECKSUM: usize = 4;
const ROWS_PER_BLOCK: u32 = 1_024;
/// A reader refuses more, so that a damaged length cannot make it ask for gigabytes.
const LARGEST_PAYLOAD: u64 = 4 << 20;

/// The kind of the last block.
const END: u8 = b'E';

#[cfg(test)]
pub(crate) mod tests;
