//! The other end of the control socket: the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::request::{Answer, Request};

/// Asks the daemon at `socket` and waits for its answer.
///
/// Returns [`Answer::Refused`] and [`Answer::Failed`] as errors.
pub fn call(socket: &Path, request: &Request) -> Result<Answer, CallError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::NoDaemon(path()),
        io::ErrorKind::PermissionDenied => CallError::NotPermitted(path()),
        _ => CallError::Broken(path(), source),
    })?;
    let line = ask(&stream, request).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CallError::Silent(path()),
        _ => CallError::Broken(path(), source),
    })?;
    match serde_json::from_str(&line) {
        Ok(Answer::Refused { why } | Answer::Failed { why }) => Err(CallError::Refused(why)),
        Ok(answer) => Ok(answer),
        Err(source) => Err(CallError::Strange(path(), source)),
    }
}

fn ask(stream: &UnixStream, request: &Request) -> io::Result<String> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut writer = stream;
    writer.write_all(&line)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut answer)?;
    if answer.ends_with('\n') {
        Ok(answer)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Why there is no answer to show.
#[derive(Debug, Error)]
pub enum CallError {
    /// The connection broke.
    #[error("the daemon at {} closed the connection unanswered; try again, or see its log", .0.display())]
    Broken(PathBuf, #[source] io::Error),
    /// Nobody listens.
    #[error(
        "no daemon answers at {}; start it with `systemctl start greygate`, or name its socket with --socket or its file with --config",
        .0.display()
    )]
    NoDaemon(PathBuf),
    /// The socket is not for this user.
    #[error("you may not speak to the daemon at {}; be root, or in the group of that socket", .0.display())]
    NotPermitted(PathBuf),
    /// The daemon said no.
    #[error("{0}")]
    Refused(String),
    /// The daemon said nothing for minutes.
    #[error("the daemon at {} does not answer; its log may say why", .0.display())]
    Silent(PathBuf),
    /// What answers there is not this greygate.
    #[error("what answers at {} is another version of greygate; restart it", .0.display())]
    Strange(PathBuf, #[source] serde_json::Error),
}

/// Longer than a snapshot of a full store takes on a slow disk.
const PATIENCE: Duration = Duration::from_mins(3);

/// More than the daemon ever says; what stands at that path may be something else.
const LONGEST_ANSWER: u64 = 16 << 20;
