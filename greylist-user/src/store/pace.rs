//! How fast a snapshot goes to the disk, and for whom it gives way.
//!
//! A periodic one has minutes: it takes of the disk what it was allowed, so that whoever shares it, the
//! mail queue above all, has the rest. One that somebody waits for takes all it gets, and a periodic one
//! under way is given up for it: it would be older, and the other begins anew in any case.
//!
//! Each is written in pieces that are on the disk, and out of the page cache, before the next: no flush
//! at the end has a gigabyte to write at once. Knows a file and the time; leaves what is written to
//! `snapshot`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::clock::Stopwatch;

/// Those who wait for a snapshot.
#[derive(Debug, Default)]
pub(super) struct Urgency {
    waiting: Mutex<usize>,
    called: Condvar,
}

/// Somebody who waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Urgent<'a>(&'a Urgency);

impl Urgency {
    /// Has a paced snapshot give way, and every one that begins before this is dropped.
    pub(super) fn call(&self) -> Urgent<'_> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.called.notify_all();
        Urgent(self)
    }

    /// Waits so long, or until somebody calls. Says whether somebody has.
    fn is_called_within(&self, time: Duration) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .called
            .wait_timeout_while(waiting, time, |waiting| *waiting == 0);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *waiting > 0
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        let mut waiting = (self.0.waiting.lock()).unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
    }
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace<'a> {
    /// As fast as the disk takes it.
    Free,
    /// So many bytes a second, 0 for as many as the disk takes; and not for longer than nobody waits.
    Steady { rate: u64, urgency: &'a Urgency },
}

impl Pace<'_> {
    /// Waits until `written` bytes are not too many, having begun then. How much later it is, if it is.
    fn keep(self, begun: Stopwatch, written: u64) -> io::Result<Duration> {
        let Self::Steady { rate, urgency } = self else {
            return Ok(Duration::ZERO);
        };
        let due = match rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos(nanos(written, rate)),
        };
        let elapsed = begun.elapsed();
        if urgency.is_called_within(due.saturating_sub(elapsed)) {
            return Err(io::Error::other(GaveWay));
        }
        Ok(elapsed.saturating_sub(due))
    }
}

/// The time that `bytes` take at `rate` a second.
fn nanos(bytes: u64, rate: u64) -> u64 {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Why a snapshot that was given up was not written.
#[derive(Debug, thiserror::Error)]
#[error("somebody waits for another")]
pub(super) struct GaveWay;

/// A file that is written piece by piece.
#[derive(Debug)]
pub(super) struct PacedFile<'a> {
    file: File,
    pace: Pace<'a>,
    written: u64,
    synced: u64,
    /// Since when its pace is looked at, and what had been written by then.
    begun: Stopwatch,
    before: u64,
}

impl<'a> PacedFile<'a> {
    pub(super) fn new(file: File, pace: Pace<'a>) -> Self {
        Self {
            file,
            pace,
            written: 0,
            synced: 0,
            begun: Stopwatch::start(),
            before: 0,
        }
    }

    /// Has everything on the disk.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.end_piece()?;
        self.file.sync_all()
    }

    fn end_piece(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let offset = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let length = offset(self.written - self.synced);
        // Nobody reads it soon. Where that cannot be said, the kernel finds out.
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        let _ = posix_fadvise(&self.file, offset(self.synced), length, advice);
        self.synced = self.written;
        Ok(())
    }
}

impl Write for PacedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.synced >= PIECE {
            self.end_piece()?;
        }
        let late = self.pace.keep(self.begun, self.written - self.before)?;
        // What a disk that stalled could not take is not made up for: others wait for it by then.
        if late > LATE {
            self.begun = Stopwatch::start();
            self.before = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes that are written before they are synced.
const PIECE: u64 = 8 << 20;
/// As late as the sync of a piece may make it.
const LATE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_time_that_the_rate_gives_them() {
        assert_eq!(nanos(32 << 20, 32 << 20), 1_000_000_000);
        assert_eq!(nanos(1, 1_000_000_000), 1);
        assert_eq!(nanos(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn paced_one_gives_way_at_once_and_one_that_is_waited_for_does_not() {
        let urgency = Urgency::default();
        let steady = Pace::Steady {
            rate: 1,
            urgency: &urgency,
        };
        let waiter = urgency.call();
        // At its rate this takes ages.
        let given_way = steady.keep(Stopwatch::start(), u64::MAX);
        let error = given_way.expect_err("somebody waits");
        assert!(
            error
                .get_ref()
                .is_some_and(<dyn std::error::Error + Send + Sync>::is::<GaveWay>)
        );
        assert!(Pace::Free.keep(Stopwatch::start(), u64::MAX).is_ok());
        drop(waiter);
        let unlimited = Pace::Steady {
            rate: 0,
            urgency: &urgency,
        };
        assert!(unlimited.keep(Stopwatch::start(), u64::MAX).is_ok());
    }

    /// Of each piece: what a later sync says does not hold for the pages of one that failed.
    #[test]
    fn piece_that_cannot_be_synced_fails_the_file() {
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
        let mut paced = PacedFile::new(null.expect("every Linux has it"), Pace::Free);
        let piece = vec![0; usize::try_from(PIECE).expect("some megabytes")];
        paced.write_all(b"less").expect("it is not synced yet");
        let error = paced.write_all(&piece).expect_err("it cannot be synced");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn everything_written_is_in_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut paced = PacedFile::new(file.reopen().expect("it is there"), Pace::Free);
        let bytes: Vec<u8> = (0..3 * PIECE / 8).flat_map(u64::to_le_bytes).collect();
        for part in bytes.chunks(1 << 20) {
            paced.write_all(part).expect("it is writable");
        }
        paced.write_all(b"the rest").expect("it is writable");
        paced.end().expect("it is writable");
        let read = std::fs::read(file.path()).expect("it is readable");
        assert!(read[..bytes.len()] == bytes && read[bytes.len()..] == *b"the rest");
    }
}
