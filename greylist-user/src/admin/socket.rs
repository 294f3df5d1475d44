//! The control socket: who may come in, and for what.
//!
//! A thread of its own with bounded connections, time and line length. The file's mode and group
//! decide who may ask; who may change anything is decided by `SO_PEERCRED`, which the kernel
//! fills in and the client cannot. Every change is logged with the uid that ordered it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, Uid};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::control::Control;
use super::door::Door;
use super::request::{Answer, Request};
use super::settings::Settings;

/// The running control socket. Dropping it, or [`ControlServer::stop`], closes and removes it.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    /// The file that was bound: a later daemon's, at the same path, is not ours to remove.
    inode: u64,
    /// Closed after the socket's file is gone.
    _door: Door,
}

impl ControlServer {
    /// Binds the socket and answers on it.
    ///
    /// A socket left behind by a daemon that died is replaced; anything else in its place, a
    /// living daemon above all, is an error.
    pub fn start(settings: &Settings, control: Arc<dyn Control>) -> Result<Self, SocketError> {
        let path = settings.socket.clone();
        let broken = |source| SocketError::Bind(path.clone(), source);
        let group = group_id(&settings.group)?;
        clear_the_way(&path)?;
        let (listener, inode) = bind(&path, group).map_err(broken)?;
        let door = Door::open(
            "control",
            || UnixListener::from_std(listener),
            move |stream| serve(stream, Arc::clone(&control)),
        )
        .map_err(broken)?;
        Ok(Self {
            path,
            inode,
            _door: door,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes and removes the socket, and waits for its thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // Should it stay behind, the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The socket could not be made.
    #[error("the control socket {} cannot be made", .0.display())]
    Bind(PathBuf, #[source] io::Error),
    /// Another daemon lives there.
    #[error("another daemon answers at {}; stop it, or name another [admin] socket", .0.display())]
    InUse(PathBuf),
    /// `[admin] group` names no group of this host.
    #[error("there is no group {0:?} for the control socket; make it with `groupadd --system {0}`")]
    NoGroup(String),
    /// Something else has that name.
    #[error("{} exists and is no socket; remove it, or name another [admin] socket", .0.display())]
    NoSocket(PathBuf),
}

fn group_id(name: &str) -> Result<Option<u32>, SocketError> {
    if name.is_empty() {
        return Ok(None);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        _ => Err(SocketError::NoGroup(name.to_owned())),
    }
}

/// Sees that nothing but a dead socket stands at `path`, and makes its directory.
fn clear_the_way(path: &Path) -> Result<(), SocketError> {
    let broken = |source| SocketError::Bind(path.to_owned(), source);
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => match StdStream::connect(path) {
            Ok(_) => Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(broken(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(directory) => DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(directory)
                .map_err(broken),
            None => Ok(()),
        },
        Err(error) => Err(broken(error)),
    }
}

/// Binds under another name and renames: at `path` there is never a socket with wrong rights, and
/// a dead one is replaced in one step.
fn bind(path: &Path, group: Option<u32>) -> io::Result<(StdListener, u64)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&fresh)?;
    let inode = (|| {
        chown(&fresh, None, group)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(&fresh)?.ino();
        fs::rename(&fresh, path)?;
        Ok(inode)
    })()
    .inspect_err(|_: &io::Error| drop(fs::remove_file(&fresh)))?;
    Ok((listener, inode))
}

/// One question, one answer.
async fn serve(mut stream: UnixStream, control: Arc<dyn Control>) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let uid = credentials.uid();
    let answer = match timeout(QUESTION_TIME, read_line(&mut stream)).await {
        Ok(Ok(line)) => tokio::task::spawn_blocking(move || answer(&line, uid, &*control))
            .await
            .unwrap_or_else(|_| Answer::Failed {
                why: "the daemon met a bug at this; its log has the place".to_owned(),
            }),
        Ok(Err(refused)) => refused,
        Err(_) => refused("no whole line came within five seconds"),
    };
    let mut line = serde_json::to_vec(&answer).expect("answers are plain data");
    line.push(b'\n');
    // A client that went away does not want the answer.
    let _ = timeout(ANSWER_TIME, stream.write_all(&line)).await;
}

async fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>, Answer> {
    let mut line = Vec::with_capacity(256);
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if line.len() > LONGEST_QUESTION {
            return Err(refused("the line is longer than any request"));
        }
        match stream.read_buf(&mut line).await {
            Ok(0) | Err(_) => return Err(refused("the line ended before its line feed")),
            Ok(_) => {}
        }
    }
}

/// What `uid` is answered to one line.
fn answer(line: &[u8], uid: u32, control: &dyn Control) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return refused(format!("the request is not understood: {error}")),
    };
    if request.is_change() && !may_change(uid) {
        tracing::warn!(uid, request = request.word(), "unpermitted");
        return refused("only root and the daemon's own user may change anything");
    }
    let answer = obey(&request, control);
    if request.is_change() {
        tracing::info!(uid, request = request.word(), answer = ?answer, "ordered");
    }
    answer
}

fn may_change(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}

fn obey(request: &Request, control: &dyn Control) -> Answer {
    let done = match request {
        Request::Status => return Answer::Status(Box::new(control.status())),
        Request::XdpStatus => return Answer::XdpStatus(control.xdp_status()),
        Request::Forgive { address } => control.forgive(*address).map(Answer::Forgiven),
        Request::Snapshot => control.snapshot().map(Answer::Snapshot),
        Request::Punish(order) => {
            let policy = control.policy();
            match order.client(&policy) {
                Ok(client) => {
                    let duration = order
                        .seconds
                        .map_or(policy.punish.sentence, Duration::from_secs);
                    control.punish(client, duration).map(Answer::Punished)
                }
                Err(refusal) => return refused(refusal.to_string()),
            }
        }
    };
    done.unwrap_or_else(|error| Answer::Failed {
        why: error.to_string(),
    })
}

fn refused(why: impl Into<String>) -> Answer {
    Answer::Refused { why: why.into() }
}

/// The longest request is some hundred bytes.
const LONGEST_QUESTION: usize = 4_096;

/// A client writes its line at once.
const QUESTION_TIME: Duration = Duration::from_secs(5);

/// A client reads its answer at once.
const ANSWER_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, Shutdown};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::client::{CallError, call};
    use super::super::ledger::Ledger;
    use super::super::request::PunishOrder;
    use super::*;

    #[test]
    fn answers_questions_and_obeys_orders_of_its_own_user() {
        let place = Place::new();
        let server = place.start();
        let status = call(server.path(), &Request::Status).expect("the daemon answers");
        assert!(matches!(status, Answer::Status(status) if status.version == "0.0.0"));
        let punished = call(server.path(), &punish("192.0.2.7", false)).expect("it obeys");
        assert!(matches!(punished, Answer::Punished(punished) if punished.seconds == 1_800));
        assert_eq!(place.ledger.changes(), ["punish 192.0.2.7 1800"]);
    }

    #[test]
    fn says_why_an_order_is_refused_or_failed() {
        let place = Place::new();
        let server = place.start();
        let refused = call(server.path(), &punish("127.0.0.1", false)).expect_err("it is local");
        assert!(
            refused.to_string().contains("127.0.0.1 is local"),
            "{refused}"
        );
        assert_eq!(place.ledger.changes(), [""; 0]);
        call(server.path(), &punish("127.0.0.1", true)).expect("forced");
        assert_eq!(place.ledger.changes(), ["punish 127.0.0.1 1800"]);
        let failed = call(server.path(), &Request::Snapshot).expect_err("the disk is full");
        assert_eq!(failed.to_string(), "the disk is full");
    }

    #[test]
    fn refuses_a_line_that_never_ends() {
        let place = Place::new();
        let server = place.start();
        let answer = send(server.path(), &vec![b' '; 2 * LONGEST_QUESTION]);
        assert!(answer.contains("longer than any request"), "{answer}");
    }

    #[test]
    fn refuses_half_a_line() {
        let place = Place::new();
        let server = place.start();
        let answer = send(server.path(), br#"{"request":"snapshot"}"#);
        assert!(answer.contains("ended before its line feed"), "{answer}");
        assert_eq!(place.ledger.changes(), [""; 0]);
    }

    #[test]
    fn replaces_a_socket_that_a_dead_daemon_left() {
        let place = Place::new();
        drop(StdListener::bind(place.socket()).expect("the directory is ours"));
        let server = place.start();
        call(server.path(), &Request::Status).expect("the new daemon answers");
    }

    #[test]
    fn leaves_a_living_daemon_and_other_files_alone() {
        let place = Place::new();
        let server = place.start();
        let error = place.try_start().expect_err("one daemon lives there");
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        call(server.path(), &Request::Status).expect("the first daemon still answers");
        server.stop();
        assert!(!place.socket().exists());
        fs::write(place.socket(), "precious").expect("the directory is ours");
        let error = place.try_start().expect_err("that is no socket");
        assert!(matches!(error, SocketError::NoSocket(_)), "{error}");
        assert!(place.socket().exists());
    }

    #[test]
    fn stopping_leaves_a_successors_socket() {
        let place = Place::new();
        let first = place.start();
        fs::remove_file(place.socket()).expect("the directory is ours");
        let second = place.start();
        first.stop();
        call(second.path(), &Request::Status).expect("the second daemon answers");
    }

    #[test]
    fn socket_is_for_its_user_and_group_alone() {
        let place = Place::new();
        let server = place.start();
        let mode = fs::metadata(server.path()).expect("it exists").mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    fn unknown_group_is_an_error_that_names_it() {
        let mut place = Place::new();
        place.settings.group = "no-such-group".to_owned();
        let error = place.try_start().expect_err("there is no such group");
        assert!(error.to_string().contains("no-such-group"), "{error}");
    }

    #[test]
    fn absent_daemon_is_said_plainly() {
        let place = Place::new();
        let error = call(&place.socket(), &Request::Status).expect_err("nobody is there");
        assert!(matches!(error, CallError::NoDaemon(_)), "{error}");
        drop(StdListener::bind(place.socket()).expect("the directory is ours"));
        let error = call(&place.socket(), &Request::Status).expect_err("nobody is there");
        assert!(matches!(error, CallError::NoDaemon(_)), "{error}");
    }

    /// Another user asks in a child process: uids belong to processes.
    #[test]
    fn another_user_of_the_group_may_ask_but_not_change() {
        if !Uid::effective().is_root() {
            println!("skipped: asking as another user needs root");
            return;
        }
        let mut place = Place::new();
        fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755))
            .expect("the directory is ours");
        let nobody = Group::from_gid(NOBODY.into()).expect("the group file is readable");
        place.settings.group = nobody.expect("this host has a group 65534").name;
        let server = place.start();
        let said = ask_as(NOBODY, NOBODY, server.path());
        assert!(said.contains("status: answered"), "{said}");
        assert!(
            said.contains("punish: only root and the daemon's own user"),
            "{said}"
        );
        assert!(
            said.contains("forgive: only root and the daemon's own user"),
            "{said}"
        );
        assert!(
            said.contains("snapshot: only root and the daemon's own user"),
            "{said}"
        );
        let said = ask_as(NOBODY, NOBODY - 1, server.path());
        assert!(
            said.contains("status: you may not speak to the daemon"),
            "{said}"
        );
        assert_eq!(place.ledger.changes(), [""; 0]);
    }

    #[test]
    #[ignore = "the child of another_user_of_the_group_may_ask_but_not_change"]
    fn child_that_asks() {
        let Ok(socket) = std::env::var(CHILD_SOCKET) else {
            println!("skipped: only runs as the child of another test");
            return;
        };
        let socket = Path::new(&socket);
        let forgive = Request::Forgive {
            address: IpAddr::from([192, 0, 2, 7]),
        };
        for request in [
            Request::Status,
            punish("192.0.2.7", true),
            forgive,
            Request::Snapshot,
        ] {
            match call(socket, &request) {
                Ok(_) => println!("{}: answered", request.word()),
                Err(error) => println!("{}: {error}", request.word()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_bytes_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let place = Place::new();
            let server = place.start();
            let answer = send(server.path(), &bytes);
            prop_assert!(answer.is_empty() || answer.contains("refused"), "{}", answer);
            prop_assert_eq!(place.ledger.changes(), Vec::<String>::new());
            prop_assert!(call(server.path(), &Request::Status).is_ok());
        }

        #[test]
        fn nobody_else_changes_anything(uid in 1..u32::MAX, line in request_like()) {
            prop_assume!(uid != Uid::effective().as_raw());
            let ledger = Ledger::default();
            answer(line.as_bytes(), uid, &ledger);
            prop_assert_eq!(ledger.changes(), Vec::<String>::new());
        }
    }

    /// Lines of which many are requests.
    fn request_like() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["status", "punish", "forgive", "snapshot", "stop"]);
        let field = prop::sample::select(vec![
            "",
            r#","address":"192.0.2.7""#,
            r#","target":"192.0.2.7""#,
            r#","target":"192.0.2.7","seconds":60,"force":true"#,
            r#","target":7"#,
        ]);
        (name, field).prop_map(|(name, field)| format!(r#"{{"request":"{name}"{field}}}"#))
    }

    fn punish(target: &str, force: bool) -> Request {
        Request::Punish(PunishOrder {
            target: target.parse().expect("an address"),
            seconds: None,
            force,
        })
    }

    /// Sends bytes, and reads all that comes back. A refusal may come before all is sent.
    fn send(path: &Path, bytes: &[u8]) -> String {
        let mut stream = StdStream::connect(path).expect("the daemon listens");
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("answers are text")
    }

    fn ask_as(uid: u32, gid: u32, socket: &Path) -> String {
        // This very program, by a name that needs no rights on the directories above it.
        let child = Command::new("/proc/self/exe")
            .args(["--exact", "admin::socket::tests::child_that_asks"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD_SOCKET, socket)
            .current_dir("/")
            .uid(uid)
            .gid(gid)
            .output()
            .expect("a child can be started");
        String::from_utf8_lossy(&child.stdout).into_owned()
    }

    struct Place {
        directory: TempDir,
        settings: Settings,
        ledger: Arc<Ledger>,
    }

    impl Place {
        fn new() -> Self {
            let directory = TempDir::new().expect("there is room for a directory");
            let settings = Settings {
                socket: directory.path().join("run/control.sock"),
                ..Settings::default()
            };
            fs::create_dir(directory.path().join("run")).expect("the directory is ours");
            Self {
                directory,
                settings,
                ledger: Arc::default(),
            }
        }

        fn socket(&self) -> PathBuf {
            self.settings.socket.clone()
        }

        fn try_start(&self) -> Result<ControlServer, SocketError> {
            let control: Arc<dyn Control> = self.ledger.clone();
            ControlServer::start(&self.settings, control)
        }

        fn start(&self) -> ControlServer {
            self.try_start().expect("the socket can be made")
        }
    }

    const CHILD_SOCKET: &str = "GREYGATE_TEST_CONTROL_SOCKET";

    /// `nobody` and `nogroup`, everywhere.
    const NOBODY: u32 = 65_534;
}
