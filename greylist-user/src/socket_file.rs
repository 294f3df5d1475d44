//! Unix sockets as files: what stands in the way, who may connect, and removal.
//!
//! Used by the milter's listeners and the control socket. Leaves accepting, and the words in which
//! an operator is told, to them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// A Unix socket that has its name, and that nobody can connect to yet.
#[derive(Debug)]
pub(crate) struct Named {
    socket: Socket,
    file: SocketFile,
}

impl Named {
    /// Gives a new socket its name: mode 0660, and the group that the directory hands down. A
    /// socket there that nobody answers at is replaced.
    pub(crate) fn at(path: &Path) -> Result<Self, Obstacle> {
        clear_the_way(path)?;
        let socket = unconnected()?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path)?.ino(),
        };
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(Self { socket, file })
    }

    /// Gives the file to a group. Only root and a member of it may.
    pub(crate) fn give_to_group(&self, gid: u32) -> io::Result<()> {
        chown(&self.file.path, None, Some(gid))
    }

    /// From now on connections come in, to a listener that does not block. So there is no moment
    /// at which somebody could connect by the rights of before.
    pub(crate) fn listen(self, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
        self.socket.listen(backlog)?;
        Ok((self.socket.into(), self.file))
    }
}

/// The file of a socket of ours, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    /// Another daemon may have put its own there since; that one stays.
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket-file-left");
        }
    }
}

/// Why there is no socket.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Another process answers there.
    InUse,
    /// Something that is no socket is there. It is not touched.
    NotASocket,
    /// The system refused.
    System(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Removes a socket that a dead process left: only a socket, and only when nobody answers.
fn clear_the_way(path: &Path) -> Result<(), Obstacle> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(file) if !file.file_type().is_socket() => return Err(Obstacle::NotASocket),
        Ok(_) => {}
    }
    // Without blocking: a process whose backlog is full is alive, and may stay silent for ever.
    match unconnected()?.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(Obstacle::InUse),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
            io::ErrorKind::WouldBlock => Err(Obstacle::InUse),
            _ => Err(error.into()),
        },
    }
}

fn unconnected() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.sock");
        (directory, path)
    }

    fn listen(path: &Path) -> Result<(UnixListener, SocketFile), Obstacle> {
        Ok(Named::at(path)?.listen(1)?)
    }

    #[test]
    fn file_is_for_owner_and_group_and_goes_with_the_socket() {
        let (_directory, path) = place();
        let (listener, file) = listen(&path).expect("a socket");
        let mode = fs::metadata(&path).expect("a file").mode();
        assert_eq!(mode & 0o777, 0o660);
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn nobody_connects_before_it_listens() {
        let (_directory, path) = place();
        let named = Named::at(&path).expect("a socket");
        let early = UnixStream::connect(&path).expect_err("its group may not be set yet");
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        let _listening = named.listen(1).expect("it listens");
        UnixStream::connect(&path).expect("now it does");
    }

    #[test]
    fn dead_socket_is_replaced_and_a_living_one_is_not() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "a dead process's socket");
        let _living = listen(&path).expect("replaces it");
        assert!(matches!(listen(&path), Err(Obstacle::InUse)));
    }

    #[test]
    fn process_that_no_longer_accepts_is_alive_all_the_same() {
        let (_directory, path) = place();
        let _stuck = Named::at(&path).and_then(|named| Ok(named.listen(0)?));
        let mut waiting = Vec::new();
        let address = SockAddr::unix(&path).expect("a path");
        let full = loop {
            let socket = unconnected().expect("a socket");
            match socket.connect(&address) {
                Ok(()) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(
            full.kind(),
            io::ErrorKind::WouldBlock,
            "the backlog is full"
        );
        assert!(matches!(listen(&path), Err(Obstacle::InUse)));
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let (_directory, path) = place();
        fs::write(&path, "data").expect("a file");
        assert!(matches!(listen(&path), Err(Obstacle::NotASocket)));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "data");
    }

    #[test]
    fn successors_file_stays() {
        let (_directory, path) = place();
        let first = listen(&path).expect("a socket");
        fs::remove_file(&path).expect("the directory is ours");
        let _second = listen(&path).expect("a socket");
        drop(first);
        UnixStream::connect(&path).expect("the second is there");
    }

    #[test]
    fn name_may_be_as_long_as_the_system_takes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let room = 107 - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("x".repeat(room));
        listen(&path).expect("107 bytes are legal");
    }
}
