//! Commands driven against a real daemon.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use tempfile::TempDir;

use super::*;
use crate::admin::{ListOrder, ListQuestion, SentenceLine, XdpStatus, call};
use crate::daemon::{Daemon, Rights};
use crate::log;
use crate::policy::SentenceLevel;

#[test]
fn operator_sees_and_changes_a_real_daemon() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let Ok(Answer::Status(status)) = call(&socket, &Request::Status) else {
        panic!("the daemon should say how it is");
    };
    assert_eq!(status.endpoints.len(), 1);
    assert!(status.health.is_good(), "{:?}", status.health);

    let order = PunishOrder {
        target: "2001:db8::7".parse().expect("an address"),
        seconds: Some(3_600),
        level: OrderedLevel::default(),
        force: false,
    };
    let Ok(Answer::Punished(punished)) = call(&socket, &Request::Punish(order)) else {
        panic!("the daemon should obey its own user");
    };
    assert_eq!(punished.client, "2001:db8::/64");
    assert!(
        !punished.without_effect.is_empty(),
        "there is no kernel filter"
    );
    assert_eq!(sentenced(&socket).len(), 1);
    let shorter = PunishOrder {
        target: "2001:db8::7".parse().expect("an address"),
        seconds: Some(60),
        level: OrderedLevel::default(),
        force: false,
    };
    let Ok(Answer::Punished(punished)) = call(&socket, &Request::Punish(shorter)) else {
        panic!("the daemon should obey its own user");
    };
    let said = punished.seconds;
    assert!(said > 3_500, "{said} s: a sentence is never shortened");

    let target = "2001:db8::/64".parse().expect("as it is shown");
    let Ok(Answer::Forgiven(forgiven)) = call(&socket, &Request::Forgive(ForgiveOrder::of(target)))
    else {
        panic!("the daemon should obey its own user");
    };
    assert_eq!(forgiven.sentences, 1);
    assert_eq!(sentenced(&socket).len(), 0);

    let why = WhyQuestion {
        address: [192, 0, 2, 7].into(),
        name: None,
        helo: String::new(),
        mail: Some(Envelope::bare("<s@a.example>", "r@b.example")),
    };
    let Ok(Answer::Why(why)) = call(&socket, &Request::Why(why)) else {
        panic!("the daemon should explain");
    };
    let next = &why.networks[0].mail.as_ref().expect("it was asked").next;
    assert_eq!(
        (next.verdict.as_str(), next.reason.as_str()),
        ("deferred", "new")
    );
    assert!(why.kernel.idle.is_some(), "there is no kernel filter");
    let mut complaints = Vec::new();
    let lines = "# of today\n\nspam 192.0.2.7 -\nvirus 192.0.2.7\nham 0.0.0.0\n";
    let told = reports::from_lines(lines.as_bytes(), &socket, false, &mut complaints);
    let said = told.expect_err("two are no reports").for_people();
    assert_eq!(said, "greygate: 2 of 3 reports were not heard");
    let complaints = String::from_utf8(complaints).expect("text");
    assert!(
        complaints.starts_with("line 4: \"virus 192.0.2.7\" is no report; write"),
        "{complaints}"
    );
    assert!(
        complaints.contains("line 5: 0.0.0.0 is no address"),
        "{complaints}"
    );

    let Ok(Answer::Snapshot(written)) = call(&socket, &Request::Snapshot) else {
        panic!("the daemon should write a snapshot");
    };
    assert!(Path::new(&written.file).is_file(), "{}", written.file);

    daemon.stop();
    let gone = call(&socket, &Request::Status);
    assert!(matches!(gone, Err(CallError::NoDaemon(_))), "{gone:?}");
}

#[test]
fn operator_sentences_networks_and_forgives_all_that_covers_an_address() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let punish = |target: &str, level| {
        let order = PunishOrder {
            target: target.parse().expect("a target"),
            seconds: Some(60),
            level: OrderedLevel(level),
            force: true,
        };
        match call(&socket, &Request::Punish(order)) {
            Ok(Answer::Punished(punished)) => punished,
            other => panic!("{other:?}: the daemon should obey its own user"),
        }
    };
    let forgive = |target: &str| {
        let target = target.parse().expect("a target");
        match call(&socket, &Request::Forgive(ForgiveOrder::of(target))) {
            Ok(Answer::Forgiven(forgiven)) => forgiven.lifted,
            other => panic!("{other:?}: the daemon should obey its own user"),
        }
    };
    let network = punish("192.0.2.0/24", SentenceLevel::Rate);
    assert_eq!(
        (network.client.as_str(), network.level.as_str()),
        ("192.0.2.0/24", "rate")
    );
    punish("192.0.2.7", SentenceLevel::Observe);
    let loopback = punish("127.0.0.1", SentenceLevel::Block).without_effect;
    assert!(loopback.starts_with("127.0.0.0/8 (loopback"), "{loopback}");
    forgive("127.0.0.1");
    let softer = punish("192.0.2.0/24", SentenceLevel::Observe);
    assert_eq!(softer.level, "rate", "no sentence is softened by another");
    punish("2001:db8::7/128", SentenceLevel::Block);
    assert_eq!(sentenced(&socket).len(), 3);

    assert_eq!(forgive("192.0.2.7"), ["192.0.2.7", "192.0.2.0/24"]);
    assert_eq!(forgive("2001:db8::8"), Vec::<String>::new());
    assert_eq!(forgive("2001:db8::/32"), ["2001:db8::7/128"]);
    daemon.stop();
}

#[test]
fn operator_allows_and_denies_at_once_until_a_restart_and_beyond() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let listing = |line: &[&str]| {
        let cli = Cli::try_parse_from([&["greygate"], line].concat()).expect("legal");
        let request = match &cli.command {
            Command::Allow(command) => listing::request(LiveList::Allow, command),
            Command::Deny(command) => listing::request(LiveList::Deny, command),
            other => panic!("{other:?}"),
        };
        call(&socket, &request).map_err(|error| error.to_string())
    };
    let next = || {
        let why = WhyQuestion {
            address: [192, 0, 2, 7].into(),
            name: None,
            helo: String::new(),
            mail: Some(Envelope::bare("s@a.example", "r@b.example")),
        };
        let Ok(Answer::Why(why)) = call(&socket, &Request::Why(why)) else {
            panic!("the daemon should explain");
        };
        let mail = why.networks[0].mail.clone().expect("it was asked");
        (mail.next.reason, why.lists)
    };
    let denied = listing(&["deny", "add", "from", "@a.example", "--for", "1d"]);
    assert!(matches!(denied, Ok(Answer::LiveChange(_))), "{denied:?}");
    let (reason, lists) = next();
    assert_eq!(reason, "denied");
    assert_eq!(lists[0].entry, "from @a.example");
    let uid = nix::unistd::Uid::effective();
    assert_eq!(lists[0].source, format!("ordered by uid {uid}"));
    assert!(lists[0].until.is_some());
    listing(&["allow", "add", "192.0.2.0/24", "--note", "ticket 4711"]).expect("it is done");
    let (reason, lists) = next();
    assert_eq!((reason.as_str(), lists.len()), ("allowed", 2));
    assert_eq!(lists[0].note, "ticket 4711");
    let order = PunishOrder {
        target: "192.0.2.7".parse().expect("an address"),
        seconds: None,
        level: OrderedLevel::default(),
        force: false,
    };
    let refused = call(&socket, &Request::Punish(order)).expect_err("it is allowed");
    assert!(matches!(refused, CallError::Refused(_)), "{refused:?}");
    let why = listing(&["deny", "add", "192.0.2.9"]).expect_err("it is allowed");
    assert!(
        why.starts_with("192.0.2.9 is allowed by 192.0.2.0/24"),
        "{why}"
    );
    daemon.stop();

    let (daemon, _) = start(&place);
    assert_eq!(next().0, "allowed", "it outlives a restart");
    let Ok(Answer::LiveEntries(listed)) = listing(&["allow", "list"]) else {
        panic!("the daemon should say who is allowed");
    };
    assert_eq!(listed.entries.len(), 1);
    let mut paper = Paper::new(false);
    answer::show(&Answer::LiveEntries(listed), &mut paper);
    let text = paper.into_text();
    assert!(
        text.starts_with("allow: 1 by command, of at most 1,000; 0 in the"),
        "{text}"
    );
    assert!(text.contains("ticket 4711"), "{text}");
    listing(&["allow", "remove", "192.0.2.0/24"]).expect("it is done");
    assert_eq!(next().0, "denied");
    listing(&["deny", "remove", "from", "@A.example"]).expect("it is done");
    assert_eq!(next().0, "new");
    let again = listing(&["deny", "remove", "from", "@a.example"]);
    let why = again.expect_err("it is not there any more");
    assert!(why.contains("was not listed by a command"), "{why}");
    daemon.stop();
}

#[test]
fn operator_lists_what_is_remembered_and_forgets_one_record() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let order = PunishOrder {
        target: "192.0.2.7".parse().expect("an address"),
        seconds: Some(3_600),
        level: OrderedLevel::default(),
        force: false,
    };
    call(&socket, &Request::Punish(order)).expect("the daemon obeys its own user");
    for (words, rows) in [
        (&["pending"][..], 0),
        (&["pending", "--passed", "--sort", "passes"], 0),
        (&["trusted"], 0),
        (&["clients", "--network", "192.0.2.0/24"], 0),
        (&["sentences", "--newer", "1h"], 1),
        (&["sentences", "--network", "198.51.100.0/24"], 0),
        (&["fingerprints"], 0),
    ] {
        let line = [&["greygate", "list"], words].concat();
        let Command::List(args) = Cli::try_parse_from(line).expect("legal").command else {
            panic!("that was list");
        };
        let answer = call(&socket, &Request::List(Box::new(args.question())));
        let Ok(Answer::List(listing)) = answer else {
            panic!("{answer:?} to {words:?}");
        };
        assert_eq!(listing.rows.len(), rows, "{words:?}");
        assert_eq!((listing.matched, listing.more), (rows as u64, 0));
        let json = serde_json::to_value(Answer::List(listing)).expect("plain data");
        assert_eq!(
            (&json["answer"], &json["what"]),
            (&"list".into(), &words[0].into())
        );
    }
    let sorted_by_nothing_it_has = ListQuestion {
        sort: Some(ListOrder::Drops),
        ..ListQuestion::default()
    };
    let refused = call(&socket, &Request::List(Box::new(sorted_by_nothing_it_has)));
    let refused = refused.expect_err("tuples drop nothing").to_string();
    assert!(
        refused.contains("pending cannot be sorted by drops"),
        "{refused}"
    );

    for what in [
        Forget::Fingerprint("00ff".repeat(8)),
        Forget::trust([192, 0, 2, 7].into(), "<s@a.example>", ""),
    ] {
        let forgotten = call(&socket, &Request::Forget { what });
        let Ok(Answer::Forgotten(forgotten)) = forgotten else {
            panic!("{forgotten:?}: the daemon should obey its own user");
        };
        assert_eq!(forgotten.removed, []);
    }
    let what = Forget::Fingerprint("00ff".to_owned());
    let refused = call(&socket, &Request::Forget { what }).expect_err("a part of one");
    assert!(
        refused.to_string().contains("all 32 hexadecimal digits"),
        "{refused}"
    );
    daemon.stop();
}

#[test]
fn list_files_are_read_again_by_a_reload_and_a_broken_one_changes_nothing() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start_under(&place, &[]);
    let at = |name: &str| place.path().join(name);
    let write = |name: &str, text: &str| {
        std::fs::write(at(name), text).expect("the directory is ours");
    };
    let before = std::fs::read_to_string(at("greygate.toml")).expect("it is there");
    let names = format!(
        "{before}[lists]\nallow_files = [{:?}]\n",
        at("senders.list")
    );
    write("greygate.toml", &names);
    let reload = || match call(&socket, &Request::Reload) {
        Ok(Answer::Reloaded(_)) => Ok(()),
        Ok(Answer::Unreloaded { problems }) => Err(ConfigError::Illegal(problems).to_string()),
        other => panic!("{other:?}"),
    };
    let exempt = || {
        let why = WhyQuestion {
            address: [192, 0, 2, 7].into(),
            name: None,
            helo: String::new(),
            mail: None,
        };
        match call(&socket, &Request::Why(why)) {
            Ok(Answer::Why(why)) => why.exempt,
            other => panic!("{other:?}"),
        }
    };
    let missing = reload().expect_err("there is no list");
    assert!(missing.contains("senders.list does not exist"), "{missing}");
    assert_eq!(exempt(), None);
    write("senders.list", "192.0.2.0/24 # ours\n");
    assert_eq!(reload(), Ok(()));
    assert_eq!(exempt().as_deref(), Some("allowed"));
    write("senders.list", "198.51.100.0/24\nnonsense\n");
    let wrong = reload().expect_err("one line is wrong");
    assert!(wrong.contains("senders.list:2: \"nonsense\""), "{wrong}");
    assert_eq!(exempt().as_deref(), Some("allowed"), "the old rules stay");
    write("senders.list", "198.51.100.0/24\n");
    assert_eq!(reload(), Ok(()));
    assert_eq!(exempt(), None);
    daemon.stop();
}

#[test]
fn sentence_outlives_a_restart() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let order = PunishOrder {
        target: "192.0.2.7".parse().expect("an address"),
        seconds: None,
        level: OrderedLevel::default(),
        force: false,
    };
    call(&socket, &Request::Punish(order)).expect("the daemon obeys its own user");
    daemon.stop();
    let (daemon, socket) = start(&place);
    let sentenced = sentenced(&socket);
    assert_eq!(sentenced.len(), 1);
    assert_eq!(sentenced[0].client, "192.0.2.7");
    assert!(
        (1_700..=1_800).contains(&sentenced[0].left),
        "{sentenced:?}"
    );
    daemon.stop();
}

#[test]
fn reload_obeys_a_new_file_names_what_waits_for_a_restart_and_refuses_a_wrong_one_whole() {
    let place = TempDir::new().expect("there is room for a directory");
    let set = "greylist.retry_window=12h";
    let (daemon, socket) = start_under(&place, &[set]);
    let file = place.path().join("greygate.toml");
    let before = std::fs::read_to_string(&file).expect("it was written");
    let reload = |added: &str| {
        std::fs::write(&file, format!("{before}{added}")).expect("the directory is ours");
        match call(&socket, &Request::Reload) {
            Ok(Answer::Reloaded(reloaded)) => Ok(reloaded),
            Ok(Answer::Unreloaded { problems }) => Err(problems),
            other => panic!("{other:?}: the daemon should obey its own user"),
        }
    };
    let mode = || match call(&socket, &Request::Status) {
        Ok(Answer::Status(status)) => (status.mode, status.overrides),
        other => panic!("{other:?}: the daemon should answer"),
    };
    let nothing = reload("").expect("legal");
    assert!(
        nothing.changed.is_empty() && nothing.restart.is_empty(),
        "{nothing:?}"
    );

    let added = "[greylist]\nmode = \"content\"\nretry_window = \"20h\"\n[xdp]\nrate = 9\n\
                 [log]\nlevel = \"debug\"\n";
    let reloaded = reload(added).expect("legal");
    assert_eq!(
        reloaded.changed,
        ["[greylist] mode"],
        "the window is overridden"
    );
    assert_eq!(reloaded.restart, ["[xdp] rate", "[log] level"]);
    assert_eq!(mode(), ("content".to_owned(), vec![set.to_owned()]));

    let wrong = reload("[greylist]\nmode = \"envelope\"\ndelai = 1\n[xdp]\nrate = 0\n");
    let problems = wrong.expect_err("two lines are wrong");
    let lines = before.lines().count();
    let places: Vec<_> = problems.iter().map(|it| it.line).collect();
    assert_eq!(places, [lines + 3, lines + 5], "{problems:?}");
    assert_eq!(mode().0, "content", "the old rules are in force");
    let against_the_override = reload("[greylist]\ndelay = \"12h\"\n");
    let problems = against_the_override.expect_err("no window is left");
    assert!(
        problems[0]
            .to_string()
            .starts_with(&format!("--set {set}: ")),
        "{problems:?}"
    );

    let back = reload("").expect("legal");
    assert_eq!((back.changed.len(), back.restart.len()), (1, 0), "{back:?}");
    daemon.stop();
}

#[test]
fn daemon_without_a_file_says_so_when_it_is_to_read_it() {
    let place = TempDir::new().expect("there is room for a directory");
    let (daemon, socket) = start(&place);
    let Ok(Answer::Unreloaded { problems }) = call(&socket, &Request::Reload) else {
        panic!("there is nothing to read");
    };
    assert!(problems[0].text.contains("without a file"), "{problems:?}");
    daemon.stop();
}

#[test]
fn socket_is_found_by_the_file() {
    let place = TempDir::new().expect("there is room for a directory");
    let file = place.path().join("greygate.toml");
    std::fs::write(&file, "[admin]\nsocket = \"/run/elsewhere.sock\"\n")
        .expect("the directory is ours");
    let mut cli = Cli {
        config: Some(file),
        socket: None,
        json: false,
        command: Command::Status { check: false },
    };
    let found = socket(&cli);
    assert_eq!(found, Path::new("/run/elsewhere.sock"));
    let broken = "[greylist]\ndelay = 5m\n[admin]\nsocket = \"/run/elsewhere.sock\"\n[nosuch]\n";
    std::fs::write(cli.config.as_ref().expect("named"), broken).expect("the directory is ours");
    assert_eq!(socket(&cli), Path::new("/run/elsewhere.sock"));
    let nowhere = place.path().join("missing.toml");
    cli.config = Some(nowhere);
    assert_eq!(socket(&cli), admin::Settings::default().socket);
    cli.socket = Some("/run/named.sock".into());
    let found = socket(&cli);
    assert_eq!(found, Path::new("/run/named.sock"));
}

fn start(place: &TempDir) -> (Daemon, PathBuf) {
    let config = config::read(&written(place)).expect("the file is legal");
    start_with(None, config)
}

fn start_under(place: &TempDir, settings: &[&str]) -> (Daemon, PathBuf) {
    let overrides = settings
        .iter()
        .map(|it| it.parse().expect("it names a key"));
    let source = daemon::Source {
        file: written(place),
        overrides: overrides.collect(),
    };
    let config = source.read().expect("the file is legal");
    start_with(Some(source), config)
}

fn written(place: &TempDir) -> PathBuf {
    let file = place.path().join("greygate.toml");
    let at = |name: &str| place.path().join(name);
    let text = format!(
        "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\n\
         [store]\ndirectory = {:?}\ncapacity = 1_000\n\
         [admin]\nsocket = {:?}\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n",
        at("state"),
        at("control.sock")
    );
    std::fs::write(&file, text).expect("the directory is ours");
    file
}

fn start_with(source: Option<daemon::Source>, config: config::Config) -> (Daemon, PathBuf) {
    let socket = config.admin.socket.clone();
    let log = log::init(&config.log);
    let (clock, rights) = (Arc::new(SystemClock), Rights::as_they_are());
    let daemon =
        Daemon::start_from(source, config, clock, &log, rights).expect("everything is free");
    (daemon, socket)
}

fn sentenced(socket: &Path) -> Vec<SentenceLine> {
    match call(socket, &Request::XdpStatus) {
        Ok(Answer::XdpStatus(XdpStatus { sentences, .. })) => sentences,
        other => panic!("{other:?} is not the status of the filter"),
    }
}
