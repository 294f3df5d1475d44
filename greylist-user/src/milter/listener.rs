//! Listeners: sockets that are ready to accept.
//!
//! Knows socket options and whose group a Unix socket is given to; leaves its file to
//! `socket_file` and accepting to `worker`. Every worker has its own TCP listener on each port
//! (`SO_REUSEPORT`), between which the kernel divides connections; a Unix listener is one socket
//! shared by all.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use nix::unistd::User;
use socket2::{Domain, Socket, Type};
use thiserror::Error;

use crate::socket_file::{Named, Obstacle, SocketFile};

use super::{endpoint::Endpoint, handed::Handed};

/// One listening socket for one worker.
#[derive(Debug)]
pub(super) enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
}

/// What becomes of who has connected and was not accepted when we end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// It ends with us: who is in it is accepted first.
    Ours,
    /// Somebody keeps the socket open: who is in it waits for our successor.
    Kept,
}

/// An endpoint that is listened at, with a socket for each worker.
#[derive(Debug)]
pub(super) struct Bound {
    /// Where, with the port that was given for port 0.
    pub(super) endpoint: Endpoint,
    /// One for each worker.
    pub(super) listeners: Vec<Listener>,
    /// The socket file, removed when this is dropped; none where it is not ours.
    pub(super) file: Option<SocketFile>,
    /// Of every one of the listeners.
    pub(super) backlog: Backlog,
}

impl Bound {
    /// Listens at `endpoint`. The file of a Unix socket is given to the group of the first of
    /// `users`, so that they reach it.
    pub(super) fn bind(
        endpoint: &Endpoint,
        workers: usize,
        users: &[String],
    ) -> Result<Self, ListenError> {
        match endpoint {
            Endpoint::Inet(address) => Self::bind_inet(*address, workers)
                .map_err(|source| ListenError::at(endpoint, source)),
            Endpoint::Unix(path) => Self::bind_unix(endpoint, path, workers, users),
        }
    }

    /// The first socket is bound without `SO_REUSEPORT`, because with it the kernel would let two
    /// daemons share a port unawares; then it makes room for the shared ones.
    fn bind_inet(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let probe = bound_socket(address, false)?;
        let address = local_address(&probe)?;
        drop(probe);
        let listeners = (0..workers)
            .map(|_| {
                let socket = bound_socket(address, true)?;
                // Accepted sockets inherit both, which saves two system calls a connection.
                socket.set_tcp_nodelay(true)?;
                socket.set_keepalive(true)?;
                socket.listen(BACKLOG)?;
                Ok(Listener::Inet(socket.into()))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            endpoint: Endpoint::Inet(address),
            listeners,
            file: None,
            backlog: Backlog::Ours,
        })
    }

    /// Accepts from what was opened for us; all workers share it.
    pub(super) fn take_over(handed: Handed, workers: usize) -> Result<Self, ListenError> {
        let Handed { endpoint, socket } = handed;
        let listener = |socket: Socket| match endpoint {
            Endpoint::Inet(_) => Listener::Inet(socket.into()),
            Endpoint::Unix(_) => Listener::Unix(socket.into()),
        };
        let listeners = (0..workers)
            .map(|_| socket.try_clone().map(listener))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| ListenError::at(&endpoint, source))?;
        Ok(Self {
            endpoint,
            listeners,
            file: None,
            backlog: Backlog::Kept,
        })
    }

    fn bind_unix(
        endpoint: &Endpoint,
        path: &Path,
        workers: usize,
        users: &[String],
    ) -> Result<Self, ListenError> {
        let at = |source| ListenError::at(endpoint, source);
        let named = Named::at(path).map_err(|obstacle| match obstacle {
            Obstacle::InUse => ListenError::InUse { path: path.into() },
            Obstacle::NotASocket => ListenError::NotASocket { path: path.into() },
            Obstacle::System(source) => at(source),
        })?;
        give_to_group_of(users, &named, path);
        let (listener, file) = named.listen(BACKLOG).map_err(at)?;
        let listeners = (0..workers)
            .map(|_| listener.try_clone().map(Listener::Unix))
            .collect::<io::Result<Vec<_>>>()
            .map_err(at)?;
        Ok(Self {
            endpoint: endpoint.clone(),
            listeners,
            file: Some(file),
            backlog: Backlog::Ours,
        })
    }
}

/// Gives a socket to the primary group of the first user that this host knows.
///
/// Only root and a member of that group may; for anybody else the file keeps its group, which is
/// right where the directory hands it down.
fn give_to_group_of(users: &[String], named: &Named, path: &Path) {
    let known = users.iter().find_map(|name| User::from_name(name).ok()?);
    if let Some(user) = known
        && let Err(error) = named.give_to_group(user.gid.as_raw())
    {
        tracing::warn!(path = %path.display(), user = user.name, %error, "socket-group");
    }
}

/// Why an endpoint cannot be listened at.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The system refused.
    #[error("cannot listen at {endpoint}")]
    Bind {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Another process answers at the socket.
    #[error("another process listens at {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is at the path. It is not touched.
    #[error("{} is there already, and it is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The settings cannot be.
    #[error(transparent)]
    Settings(#[from] super::settings::SettingsError),
    /// A worker could not be started.
    #[error("cannot start a worker")]
    Worker {
        /// Why.
        source: io::Error,
    },
}

impl ListenError {
    fn at(endpoint: &Endpoint, source: io::Error) -> Self {
        Self::Bind {
            endpoint: endpoint.clone(),
            source,
        }
    }
}

fn bound_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `inet:[::]:8892` means IPv6; whoever wants both names both.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Room for a burst of MTA processes that start together; the kernel's `somaxconn` caps it.
const BACKLOG: i32 = 4_096;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn bind(path: &Path) -> Result<Bound, ListenError> {
        Bound::bind(&Endpoint::Unix(path.to_owned()), 1, &[])
    }

    #[test]
    fn port_zero_is_resolved_and_shared_by_the_workers() {
        let any = "inet:127.0.0.1:0".parse().expect("an endpoint");
        let bound = Bound::bind(&any, 2, &[]).expect("a free port");
        assert_eq!(bound.listeners.len(), 2);
        let Endpoint::Inet(address) = bound.endpoint else {
            panic!("not a port");
        };
        assert_ne!(address.port(), 0);
        for listener in &bound.listeners {
            let Listener::Inet(listener) = listener else {
                panic!("not TCP");
            };
            assert_eq!(listener.local_addr().expect("an address"), address);
        }
    }

    #[test]
    fn second_daemon_on_the_same_port_is_refused() {
        let any = "inet:127.0.0.1:0".parse().expect("an endpoint");
        let bound = Bound::bind(&any, 1, &[]).expect("a free port");
        let error = Bound::bind(&bound.endpoint, 1, &[]).expect_err("in use");
        assert!(matches!(error, ListenError::Bind { source, .. }
            if source.kind() == io::ErrorKind::AddrInUse));
    }

    #[test]
    fn accepted_sockets_inherit_their_options() {
        let any = "inet:127.0.0.1:0".parse().expect("an endpoint");
        let bound = Bound::bind(&any, 1, &[]).expect("a free port");
        let Some(Listener::Inet(listener)) = bound.listeners.first() else {
            panic!("not TCP");
        };
        listener.set_nonblocking(false).expect("blocking");
        let address = listener.local_addr().expect("an address");
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        assert!(accepted.nodelay().expect("an option"));
        assert!(Socket::from(accepted).keepalive().expect("an option"));
    }

    #[test]
    fn socket_belongs_to_the_group_of_the_first_known_user() {
        if !nix::unistd::geteuid().is_root() {
            return; // nobody else may give a file to a group they are not in
        }
        let nobody = User::from_name("nobody").expect("a look-up");
        let nobody = nobody.expect("every Linux has nobody");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("milter.sock");
        let users = ["no-such-user", "nobody"].map(str::to_owned);
        let _bound = Bound::bind(&Endpoint::Unix(path.clone()), 1, &users).expect("a socket");
        let file = fs::metadata(&path).expect("a file");
        assert_eq!(file.gid(), nobody.gid.as_raw());
        assert_eq!(file.mode() & 0o777, 0o660);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("milter.sock");
        let living = bind(&path).expect("a socket");
        assert!(matches!(bind(&path), Err(ListenError::InUse { .. })));
        drop(living);
        assert!(!path.exists());
        fs::write(&path, "data").expect("a file");
        assert!(matches!(bind(&path), Err(ListenError::NotASocket { .. })));
    }
}
