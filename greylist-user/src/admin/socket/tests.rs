//! Who comes in, and what for.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::client::{CallError, call};
use super::super::forget::Forget;
use super::super::forgive::ForgiveOrder;
use super::super::ledger::Ledger;
use super::super::list::{ListQuestion, ListTable};
use super::super::order::OrderedLevel;
use super::super::report::Report;
use super::super::request::PunishOrder;
use super::super::why::WhyQuestion;
use super::*;
use crate::transfer::Item;

#[test]
fn answers_questions_and_obeys_orders_of_its_own_user() {
    let place = Place::new();
    let server = place.start();
    let status = call(server.path(), &Request::Status).expect("the daemon answers");
    assert!(matches!(status, Answer::Status(status) if status.version == "0.0.0"));
    let punished = call(server.path(), &punish("192.0.2.7", false)).expect("it obeys");
    assert!(matches!(punished, Answer::Punished(punished) if punished.seconds == 1_800));
    assert_eq!(place.ledger.changes(), ["punish 192.0.2.7 block 1800"]);
}

#[test]
fn only_an_import_may_be_a_long_line_and_a_reload_says_all_that_is_wrong() {
    let place = Place::new();
    let server = place.start();
    let item = |number: usize| Item::ForeignClient {
        client: "192.0.2.7/32".parse().expect("an address"),
        last_used: number as u64,
    };
    let batch = |items: usize| {
        Request::Import(ImportBatch {
            items: (0..items).map(item).collect(),
            ..ImportBatch::default()
        })
    };
    let begin = serde_json::to_vec(&batch(0)).expect("plain data");
    assert!(begin.starts_with(ImportBatch::BEGINS), "{begin:?}");
    let imported = call(server.path(), &batch(5_000)).expect("it obeys its own user");
    assert!(matches!(imported, Answer::Imported(_)), "{imported:?}");
    assert_eq!(place.ledger.changes(), ["import 5000"]);
    // The daemon answers before the line has ended, so that the rest of it may find nobody.
    assert!(
        call(server.path(), &batch(50_000)).is_err(),
        "longer than any"
    );
    let why = WhyQuestion {
        address: [192, 0, 2, 7].into(),
        name: None,
        helo: "x".repeat(100_000),
        mail: None,
    };
    assert!(
        call(server.path(), &Request::Why(why)).is_err(),
        "no import"
    );
    assert_eq!(place.ledger.changes(), ["import 5000"]);

    let unreloaded = call(server.path(), &Request::Reload).expect("an answer");
    let Answer::Unreloaded { problems } = unreloaded else {
        panic!("{unreloaded:?}");
    };
    assert_eq!(problems[0].to_string(), "greygate.toml:3: no");
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
    assert_eq!(place.ledger.changes(), ["punish 127.0.0.1 block 1800"]);
    let failed = call(server.path(), &Request::Snapshot).expect_err("the disk is full");
    assert_eq!(failed.to_string(), "the disk is full");
}

#[test]
fn explains_changing_nothing_and_hears_reports_that_can_mean_something() {
    let place = Place::new();
    let server = place.start();
    let explained = call(server.path(), &why("192.0.2.7")).expect("the daemon answers");
    assert!(matches!(explained, Answer::Why(why) if why.client == "192.0.2.7"));
    assert_eq!(place.ledger.changes(), [""; 0]);
    let heard = call(server.path(), &spam("::ffff:192.0.2.7")).expect("it hears");
    assert!(matches!(heard, Answer::Reported(it) if it.what == "spam" && it.client == "192.0.2.7"));
    assert_eq!(place.ledger.changes(), ["report-spam 192.0.2.7"]);
    let refused = call(server.path(), &spam("0.0.0.0")).expect_err("that is nobody");
    assert!(
        refused.to_string().contains("no address that a client"),
        "{refused}"
    );
    assert_eq!(place.ledger.changes().len(), 1);
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

#[test]
fn list_of_ten_thousand_rows_that_nobody_reads_keeps_nobody_waiting() {
    let place = Place::new();
    let server = place.start();
    let most = Request::List(Box::new(ListQuestion {
        limit: Some(10_000),
        ..ListQuestion::default()
    }));
    let mut line = serde_json::to_vec(&most).expect("plain data");
    line.push(b'\n');
    let unread: Vec<_> = (0..15)
        .map(|_| {
            let mut stream = StdStream::connect(server.path()).expect("it listens");
            stream.write_all(&line).expect("it reads");
            stream
        })
        .collect();
    let status = call(server.path(), &Request::Status);
    assert!(matches!(status, Ok(Answer::Status(_))), "{status:?}");
    // Whoever reads has the whole of it, while the others are still not reading.
    let mut one = &unread[0];
    let mut answer = Vec::new();
    one.read_to_end(&mut answer).expect("it is written");
    let answer: Answer = serde_json::from_slice(&answer).expect("one document");
    assert!(matches!(answer, Answer::List(listing) if listing.rows.len() == 10_000));
}

#[test]
fn list_of_more_than_ten_thousand_rows_is_refused() {
    let place = Place::new();
    let server = place.start();
    let more = Request::List(Box::new(ListQuestion {
        limit: Some(10_001),
        ..ListQuestion::default()
    }));
    let refused = call(server.path(), &more).expect_err("too many");
    assert!(
        refused.to_string().contains("from 1 to 10,000 rows"),
        "{refused}"
    );
}

/// Another user asks in a child process: uids belong to processes.
#[test]
fn another_user_of_the_group_may_ask_but_not_change() {
    if !Uid::effective().is_root() {
        assert!(std::env::var_os("CI").is_none(), "in CI this is no skip");
        // Not `eprintln!`, which the harness would hold back.
        let said = "SKIPPED another_user_of_the_group_may_ask_but_not_change: the rights of root";
        writeln!(io::stderr(), "{said}").expect("stderr is open");
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
    assert!(said.contains("why: answered"), "{said}");
    assert!(
        said.contains("report-spam: only root and the daemon's own user"),
        "{said}"
    );
    assert!(
        said.contains("punish: only root and the daemon's own user"),
        "{said}"
    );
    assert!(said.contains("list: answered"), "{said}");
    for change in ["forget", "forgive", "import", "reload", "snapshot"] {
        let refused = format!("{change}: only root and the daemon's own user");
        assert!(said.contains(&refused), "{said}");
    }
    let said = ask_as(NOBODY, NOBODY - 1, server.path());
    assert!(
        said.contains("status: you may not speak to the daemon"),
        "{said}"
    );
    assert_eq!(place.ledger.changes(), [""; 0]);
}

#[test]
#[ignore = "run by `another_user_of_the_group_may_ask_but_not_change`, as that user"]
fn child_that_asks() {
    let Ok(socket) = std::env::var(CHILD_SOCKET) else {
        println!("skipped: only runs as the child of another test");
        return;
    };
    let socket = Path::new(&socket);
    let target = "192.0.2.7".parse().expect("an address");
    let forget = Request::Forget {
        what: Forget::Fingerprint("00ff".repeat(8)),
    };
    let list = Request::List(Box::new(ListQuestion::of(ListTable::Pending)));
    for request in [
        Request::Status,
        why("192.0.2.7"),
        spam("192.0.2.7"),
        punish("192.0.2.7", true),
        Request::Forgive(ForgiveOrder::of(target)),
        forget,
        list,
        Request::Import(ImportBatch::default()),
        Request::Reload,
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
        answer(line.as_bytes(), uid, &ledger, &Metrics::default());
        prop_assert_eq!(ledger.changes(), Vec::<String>::new());
    }
}

/// Lines of which many are requests.
fn request_like() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "status", "why", "punish", "report", "forgive", "snapshot", "stop",
    ]);
    let field = prop::sample::select(vec![
        "",
        r#","address":"192.0.2.7""#,
        r#","target":"192.0.2.7""#,
        r#","target":"192.0.2.7","seconds":60,"force":true"#,
        r#","target":7"#,
        r#","what":"spam","address":"192.0.2.7""#,
        r#","what":"reject","address":"192.0.2.7","mail":{"sender":"","recipient":"r@b.example"}"#,
    ]);
    (name, field).prop_map(|(name, field)| format!(r#"{{"request":"{name}"{field}}}"#))
}

fn punish(target: &str, force: bool) -> Request {
    Request::Punish(PunishOrder {
        target: target.parse().expect("an address"),
        seconds: None,
        level: OrderedLevel::default(),
        force,
    })
}

fn why(address: &str) -> Request {
    Request::Why(WhyQuestion {
        address: address.parse().expect("an address"),
        name: None,
        helo: String::new(),
        mail: None,
    })
}

fn spam(address: &str) -> Request {
    Request::Report(Report::Spam {
        address: address.parse().expect("an address"),
        name: None,
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
        ControlServer::bind(&self.settings)?.serve(control, Arc::default())
    }

    fn start(&self) -> ControlServer {
        self.try_start().expect("the socket can be made")
    }
}

const CHILD_SOCKET: &str = "GREYGATE_TEST_CONTROL_SOCKET";

/// `nobody` and `nogroup`, everywhere.
const NOBODY: u32 = 65_534;
