//! Listeners that were opened for us: by systemd, from a socket unit.
//!
//! Knows how they are handed over and where each listens; leaves what is done with them to
//! `server`. They outlive this process: while it restarts, who connects waits in the backlog, and
//! the file of a Unix socket is not ours to remove.

use std::io;

use listenfd::ListenFd;
use socket2::Socket;

use super::endpoint::Endpoint;

/// A stream socket that listens, and that somebody else keeps open as well.
#[derive(Debug)]
pub struct Handed {
    pub(super) endpoint: Endpoint,
    pub(super) socket: Socket,
}

impl Handed {
    /// What this process was started with. To be called once: the descriptors are taken.
    ///
    /// What is no listener, or has no address that could be named in `[milter] listen`, is left
    /// out, and the log says so.
    pub fn all() -> Vec<Self> {
        let mut inherited = ListenFd::from_env();
        (0..inherited.len())
            .filter_map(|index| match taken(&mut inherited, index) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    tracing::warn!(number = index + 1, %error, "handed-over-unusable");
                    None
                }
            })
            .filter_map(|socket| match Self::try_from(socket) {
                Ok(handed) => Some(handed),
                Err(error) => {
                    tracing::warn!(%error, "handed-over-unusable");
                    None
                }
            })
            .collect()
    }
}

impl TryFrom<Socket> for Handed {
    type Error = io::Error;

    fn try_from(socket: Socket) -> io::Result<Self> {
        if !socket.is_listener()? {
            return Err(io::Error::other("it does not listen: Accept=no is wanted"));
        }
        let address = socket.local_addr()?;
        let endpoint = if let Some(inet) = address.as_socket() {
            // Accepted sockets inherit both.
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            Endpoint::Inet(inet)
        } else if let Some(path) = address.as_pathname() {
            Endpoint::Unix(path.to_owned())
        } else {
            return Err(io::Error::other("it has neither a port nor a path"));
        };
        socket.set_nonblocking(true)?;
        Ok(Self { endpoint, socket })
    }
}

fn taken(inherited: &mut ListenFd, index: usize) -> io::Result<Socket> {
    if let Ok(Some(listener)) = inherited.take_unix_listener(index) {
        return Ok(listener.into());
    }
    match inherited.take_tcp_listener(index)? {
        Some(listener) => Ok(listener.into()),
        None => Err(io::Error::other("it was taken before")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn names_where_each_listens_as_the_configuration_would() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("milter.sock");
        let unix = UnixListener::bind(&path).expect("a socket");
        let unix = Handed::try_from(Socket::from(unix)).expect("it listens");
        assert_eq!(unix.endpoint, Endpoint::Unix(path));
        let inet = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = inet.local_addr().expect("an address");
        let inet = Handed::try_from(Socket::from(inet)).expect("it listens");
        assert_eq!(inet.endpoint, Endpoint::Inet(address));
        assert!(inet.socket.tcp_nodelay().expect("an option"));
    }

    #[test]
    fn connection_is_no_listener() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let error = Handed::try_from(Socket::from(one)).expect_err("Accept=yes");
        assert!(error.to_string().contains("Accept=no"), "{error}");
    }
}
