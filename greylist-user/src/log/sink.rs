//! Where lines go in the end: standard error, or the journal's socket.
//!
//! The thread of the writer is the only one that waits here: `tracing-journald` would send from the
//! thread that logs, and a stuck journal would hold up mail.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::fstat;

/// Sends each line that is written to it as one entry of the journal.
#[derive(Debug)]
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    lost: Arc<AtomicU64>,
}

impl JournalSocket {
    /// Connects to the journal's socket. Entries that it does not take are counted in `lost`.
    pub(super) fn connect(path: &Path, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket, lost })
    }
}

impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        if self.socket.send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            // A journal that was restarted has another socket under the same name.
            if let Ok(again) = reconnected() {
                self.socket = again;
            }
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reconnected() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

/// Whether standard error is connected to the journal: `JOURNAL_STREAM` names its device and
/// inode (`systemd.exec(5)`), and is inherited by children whose standard error is another file.
pub(super) fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr();
    if stderr.is_terminal() {
        return false;
    }
    fstat(stderr.as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Where the journal listens.
pub(super) const JOURNAL: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_entry_and_a_journal_that_is_gone_loses_it_only() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("the name is free");
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = JournalSocket::connect(&path, Arc::clone(&lost)).expect("it listens");
        for entry in ["MESSAGE=one\n", "MESSAGE=two\nPRIORITY=6\n"] {
            writer.write_all(entry.as_bytes()).expect("it takes all");
            let mut received = [0; 100];
            let length = journal.recv(&mut received).expect("one datagram");
            assert_eq!(&received[..length], entry.as_bytes());
        }
        assert_eq!(lost.load(Ordering::Relaxed), 0);
        drop(journal);
        writer.write_all(b"MESSAGE=three\n").expect("nobody waits");
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }
}
