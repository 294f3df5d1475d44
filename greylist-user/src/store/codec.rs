//! The layout of a snapshot: rows of records to bytes and back.
//!
//! ```text
//! header  "greygate" | version u16 | length u16 of the fields | fields | CRC-32 of all before
//!         fields: seed fingerprint 16 | taken u64
//! block   kind u8 | 0 u8 | row length u16 | rows u32 | the rows | CRC-32 of all before in the block
//!         kind 'T' tuple, 'R' trust, 'S' sentence; the last block is 'E', its one row the number of
//!         rows in the file, u64
//! ```
//!
//! Numbers are little-endian, times milliseconds since the Unix epoch. Layouts grow at the end: a
//! new field is appended to its row or to the header, a new kind of row gets a new letter. A reader
//! takes the fields it knows, gives those a row lacks their default, and passes over kinds and codes
//! it does not know. The version changes only when an older reader would go wrong in spite of that.
//!
//! Knows nothing of files; see `snapshot`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::policy::{
    HostMark, Offence, Persistence, Record, Second, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, Timestamp, TrustKey, TrustRecord, TupleKey,
};

/// One thing remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// A sentence.
    Sentence(Sentence),
    /// What a sender has earned.
    Trust(TrustKey, TrustRecord),
    /// A tuple.
    Tuple(TupleKey, Record),
    /// A row of a kind, or with a code, that a newer greygate wrote.
    Unknown,
}

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names the seed that the keys were made with.
    pub seed: [u8; 16],
    /// When the snapshot was begun.
    pub taken: Timestamp,
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It does not begin as a snapshot does.
    #[error("it is no snapshot")]
    NoSnapshot,
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
        seal(&mut bytes);
        to.write_all(&bytes)?;
        Ok(Self {
            to,
            block: Vec::with_capacity(ROWS_PER_BLOCK as usize * 64),
            kind: END,
            rows_in_block: 0,
            rows: 0,
            bytes: bytes.len() as u64,
        })
    }

    /// Adds a row. Rows of one kind should follow each other, since a change begins a new block.
    ///
    /// [`Row::Unknown`] is not written: what it was is not known.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        let kind = match row {
            Row::Sentence(_) => SENTENCE,
            Row::Trust(..) => TRUST,
            Row::Tuple(..) => TUPLE,
            Row::Unknown => return Ok(()),
        };
        if self.kind != kind || self.rows_in_block == ROWS_PER_BLOCK {
            self.end_block()?;
            self.kind = kind;
        }
        if self.block.is_empty() {
            // Its length and count are filled in when the block ends.
            self.block.extend_from_slice(&[0; BLOCK_FRONT]);
        }
        encode(row, &mut self.block);
        self.rows_in_block += 1;
        self.rows += 1;
        Ok(())
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

    fn end_block(&mut self) -> io::Result<()> {
        if self.rows_in_block == 0 {
            return Ok(());
        }
        let row_length = (self.block.len() - BLOCK_FRONT) / self.rows_in_block as usize;
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
        if length < HEADER_FIELDS {
            return Err(Damage::Nonsense { at: 0 });
        }
        bytes.resize(HEADER_FRONT + length + CHECKSUM, 0);
        fill(&mut from, &mut bytes[HEADER_FRONT..], 0)?;
        let mut fields = Fields(&sealed(&bytes, 0)?[HEADER_FRONT..]);
        let header = Header {
            seed: fields.array().unwrap_or_default(),
            taken: fields.time(),
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
            let (kind, row_length) = self.read_block(&mut block)?;
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

    /// Reads a block with its checksum, unchecked, and says its kind and the length of its rows.
    fn read_block(&mut self, block: &mut Vec<u8>) -> Result<(u8, usize), Damage> {
        let at = self.at;
        block.clear();
        block.resize(BLOCK_FRONT, 0);
        fill(&mut self.from, block, at)?;
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
        fill(&mut self.from, &mut block[BLOCK_FRONT..], at)?;
        self.at += length as u64;
        Ok((kind, row_length))
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

fn encode(row: &Row, to: &mut Vec<u8>) {
    match row {
        Row::Tuple(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.first_seen.as_millis().to_le_bytes());
            to.extend_from_slice(&record.last_seen.as_millis().to_le_bytes());
            let passed = Timestamp::from(record.passed);
            to.extend_from_slice(&passed.as_millis().to_le_bytes());
            to.extend_from_slice(&record.attempts.to_le_bytes());
            to.extend_from_slice(&record.passes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
            to.extend_from_slice(&record.run_attempts.to_le_bytes());
            let span = u32::from(record.run_span) * SPAN_UNIT;
            to.extend_from_slice(&span.to_le_bytes());
            to.extend_from_slice(&record.run_evidence.to_le_bytes());
            to.extend_from_slice(&u32::from(record.run_host.to_bits()).to_le_bytes());
            to.extend_from_slice(&record.extra.to_le_bytes());
            to.extend_from_slice(&record.round.to_le_bytes());
        }
        Row::Trust(key, record) => {
            to.extend_from_slice(&key.to_bytes());
            to.extend_from_slice(&record.counted.as_millis().to_le_bytes());
            to.extend_from_slice(&record.last_used.as_millis().to_le_bytes());
            to.extend_from_slice(&record.passes.to_le_bytes());
            to.extend_from_slice(&record.life.to_le_bytes());
        }
        Row::Sentence(sentence) => {
            let network = sentence.client.network();
            let address = match network.addr() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            to.extend_from_slice(&address.octets());
            to.push(network.prefix_len());
            to.push(match sentence.level {
                SentenceLevel::Observe => b'o',
                SentenceLevel::Rate => b'r',
                SentenceLevel::Block => b'b',
            });
            to.push(match sentence.reason {
                SentenceReason::Operator => b'o',
                SentenceReason::Neighbours => b'n',
                SentenceReason::Offence(offence) => code_of(offence),
            });
            to.extend_from_slice(&sentence.since.as_millis().to_le_bytes());
            to.extend_from_slice(&sentence.until.as_millis().to_le_bytes());
            to.extend_from_slice(&sentence.persistence.drops.to_le_bytes());
            to.extend_from_slice(&sentence.persistence.counter.to_le_bytes());
            to.push(sentence.persistence.lengthened.into());
            to.extend_from_slice(&sentence.persistence.observed.to_le_bytes());
        }
        Row::Unknown => {}
    }
}

/// The row of the given kind; [`None`] if it is too short to have a meaning.
fn decode(kind: u8, bytes: &[u8]) -> Option<Row> {
    let mut fields = Fields(bytes);
    match kind {
        TUPLE => {
            let key = TupleKey::from_bytes(fields.array()?);
            let first_seen = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
            // Fields are read in the order in which they were appended.
            let record = Record {
                first_seen,
                last_seen: fields.time().max(first_seen),
                passed: Second::from(fields.time()),
                attempts: fields.u16().max(1),
                passes: fields.u16(),
                life: fields.u16().max(1),
                run_attempts: fields.u16(),
                run_span: u16::try_from(fields.u32() / SPAN_UNIT).unwrap_or(u16::MAX),
                run_evidence: fields.u32(),
                run_host: HostMark::from_bits(u16::try_from(fields.u32()).unwrap_or(u16::MAX)),
                extra: fields.u16(),
                round: fields.u16(),
            };
            Some(Row::Tuple(key, record))
        }
        TRUST => {
            let key = TrustKey::from_bytes(fields.array()?);
            let counted = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
            let record = TrustRecord {
                counted,
                last_used: fields.time().max(counted),
                passes: fields.u16().max(1),
                life: fields.u16().max(1),
            };
            Some(Row::Trust(key, record))
        }
        SENTENCE => decode_sentence(&mut fields),
        _ => Some(Row::Unknown),
    }
}

/// The letter that an offence is written as.
const fn code_of(offence: Offence) -> u8 {
    match offence {
        Offence::RapidRetries => b'r',
        Offence::RelayHopping => b'h',
        Offence::RejectedRetries => b'f',
        Offence::RejectedRecipients => b'u',
    }
}

/// The offence that was written as `code`; [`None`] for one that a newer greygate knows.
fn offence_of(code: u8) -> Option<Offence> {
    Offence::ALL.into_iter().find(|it| code_of(*it) == code)
}

fn decode_sentence(fields: &mut Fields<'_>) -> Option<Row> {
    let address = IpAddr::V6(Ipv6Addr::from(fields.array::<16>()?)).to_canonical();
    let [prefix, level, reason] = fields.array()?;
    let since = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    let until = Timestamp::from_millis(u64::from_le_bytes(fields.array()?));
    let persistence = Persistence {
        drops: fields.u64(),
        counter: fields.u64(),
        lengthened: fields.u8() != 0,
        observed: fields.u64(),
    };
    let level = match level {
        b'o' => SentenceLevel::Observe,
        b'r' => SentenceLevel::Rate,
        b'b' => SentenceLevel::Block,
        _ => return Some(Row::Unknown),
    };
    let reason = match reason {
        b'o' => SentenceReason::Operator,
        b'n' => SentenceReason::Neighbours,
        code => match offence_of(code) {
            Some(offence) => SentenceReason::Offence(offence),
            None => return Some(Row::Unknown),
        },
    };
    // A network of another size cannot be expressed, and nobody is punished on a guess.
    let Some(client) = IpNet::new(address, prefix)
        .ok()
        .and_then(|network| SentencedClient::try_from(network).ok())
    else {
        return Some(Row::Unknown);
    };
    Some(Row::Sentence(Sentence {
        client,
        level,
        reason,
        since,
        until,
        persistence,
    }))
}

/// The fields of a row, in order; those beyond its end are zero, as if they had been written
/// before the field existed.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array().unwrap_or_default())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array().unwrap_or_default())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array().unwrap_or_default())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array().unwrap_or_default())
    }

    fn time(&mut self) -> Timestamp {
        Timestamp::from_millis(self.u64())
    }
}

/// Appends the checksum of what is there.
fn seal(part: &mut Vec<u8>) {
    let checksum = crc32fast::hash(part);
    part.extend_from_slice(&checksum.to_le_bytes());
}

/// The part that begins at `at` without its checksum, if that is right.
fn sealed(part: &[u8], at: u64) -> Result<&[u8], Damage> {
    let (contents, checksum) = part.split_last_chunk().ok_or(Damage::Truncated { at })?;
    if crc32fast::hash(contents) == u32::from_le_bytes(*checksum) {
        Ok(contents)
    } else {
        Err(Damage::Checksum { at })
    }
}

fn fill(from: &mut impl Read, to: &mut [u8], at: u64) -> Result<(), Damage> {
    from.read_exact(to).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Damage::Truncated { at },
        _ => Damage::Io(error),
    })
}

fn u16_of(length: usize) -> u16 {
    u16::try_from(length).expect("rows and headers are far shorter than 64 KiB")
}

/// Milliseconds that a record's span is counted in.
const SPAN_UNIT: u32 = 100;

const MAGIC: &[u8] = b"greygate";
const VERSION: u16 = 1;
/// Magic, version and length of the fields.
const HEADER_FRONT: usize = 12;
const HEADER_FIELDS: usize = 24;
const BLOCK_FRONT: usize = 8;
const CHECKSUM: usize = 4;
const ROWS_PER_BLOCK: u32 = 1_024;
/// A reader refuses more, so that a damaged length cannot make it ask for gigabytes.
const LARGEST_PAYLOAD: u64 = 4 << 20;

const TUPLE: u8 = b'T';
const TRUST: u8 = b'R';
const SENTENCE: u8 = b'S';
const END: u8 = b'E';

#[cfg(test)]
mod tests;
