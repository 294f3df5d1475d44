//! What each command does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Cli, Command, XdpCommand};
use super::failure::Failure;
use super::paper::{Paper, wants_colour};
use super::{answer, check_config, listing, reports, xdp};
use crate::admin::{
    self, CallError, Envelope, LiveList, OrderedLevel, PunishOrder, Request, WhyQuestion,
};
use crate::config::{self, DEFAULT_FILE};
use crate::daemon;

/// Does what the arguments say, and prints the answer to standard output.
///
/// Whoever reads the answer may stop reading, as `head` does: that is no failure.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    match obey(cli) {
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn obey(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Allow(command) => ask(cli, &listing::request(LiveList::Allow, command)),
        Command::Deny(command) => ask(cli, &listing::request(LiveList::Deny, command)),
        Command::Serve => serve(&file(cli)),
        Command::CheckConfig { file: named } => {
            check_config::run(cli, &named.clone().unwrap_or_else(|| file(cli)))
        }
        Command::DefaultConfig => Ok(write!(io::stdout(), "{}", config::default_config())?),
        Command::Status => ask(cli, &Request::Status),
        Command::Xdp(XdpCommand::Status) => match ask(cli, &Request::XdpStatus) {
            Err(Failure::Call(no_daemon @ CallError::NoDaemon(_))) => {
                xdp::status(&file(cli), cli.json, no_daemon)
            }
            answered => answered,
        },
        Command::Xdp(XdpCommand::Load { confirm_within }) => match confirm_within {
            Some(time) => xdp::try_out(&file(cli), cli.json, *time),
            None => xdp::load(&file(cli), cli.json),
        },
        Command::Xdp(XdpCommand::Unload) => xdp::unload(&file(cli), cli.json),
        Command::Xdp(XdpCommand::Panic) => xdp::panic(&file(cli), cli.json),
        Command::Punish {
            target,
            duration,
            level,
            force,
        } => {
            let order = PunishOrder {
                target: *target,
                seconds: duration.as_ref().map(Duration::as_secs),
                level: OrderedLevel(*level),
                force: *force,
            };
            ask(cli, &Request::Punish(order))
        }
        Command::Forgive { target } => ask(cli, &Request::Forgive { target: *target }),
        Command::Why {
            address,
            sender,
            recipient,
            helo,
            name,
        } => {
            let mail = sender.as_deref().zip(recipient.as_deref());
            let question = WhyQuestion {
                address: *address,
                name: name.clone(),
                helo: helo.clone().unwrap_or_default(),
                mail: mail.map(|(sender, recipient)| Envelope::bare(sender, recipient)),
            };
            ask(cli, &Request::Why(question))
        }
        Command::Report(command) => match reports::of(command) {
            Some(report) => ask(cli, &Request::Report(report)),
            None => reports::from_lines(io::stdin().lock(), &socket(cli)?, io::stderr()),
        },
        Command::Snapshot => ask(cli, &Request::Snapshot),
    }
}

fn serve(file: &Path) -> Result<(), Failure> {
    let config = config::read(file)?;
    daemon::run(file, config).map_err(Failure::of)
}

/// Asks the daemon, and shows what it answers.
fn ask(cli: &Cli, request: &Request) -> Result<(), Failure> {
    let answer = admin::call(&socket(cli)?, request)?;
    if cli.json {
        let json = serde_json::to_string(&answer).expect("answers are plain data");
        writeln!(io::stdout(), "{json}")?;
    } else {
        let mut paper = Paper::new(wants_colour(&io::stdout()));
        answer::show(&answer, &mut paper);
        write!(io::stdout(), "{}", paper.into_text())?;
    }
    Ok(())
}

fn file(cli: &Cli) -> PathBuf {
    cli.config
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// The daemon's socket: as it is named, or as the named file says, or the default.
fn socket(cli: &Cli) -> Result<PathBuf, Failure> {
    if let Some(socket) = &cli.socket {
        return Ok(socket.clone());
    }
    let settings = match &cli.config {
        Some(file) => config::read_anywhere(file)?.admin,
        // Members of the socket's group may not read the daemon's file, and need not.
        None => config::read_anywhere(Path::new(DEFAULT_FILE))
            .map(|config| config.admin)
            .unwrap_or_default(),
    };
    Ok(settings.socket)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser as _;
    use tempfile::TempDir;

    use super::*;
    use crate::admin::{Answer, SentenceLine, XdpStatus, call};
    use crate::clock::SystemClock;
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
        let Ok(Answer::Forgiven(forgiven)) = call(&socket, &Request::Forgive { target }) else {
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
        let told = reports::from_lines(lines.as_bytes(), &socket, &mut complaints);
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
            match call(&socket, &Request::Forgive { target }) {
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
    fn list_files_are_read_again_by_a_reload_and_a_broken_one_changes_nothing() {
        let place = TempDir::new().expect("there is room for a directory");
        let (mut daemon, socket) = start(&place);
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
        let mut reload = || match config::read(&at("greygate.toml")) {
            Ok(config) => {
                daemon.reload(&config);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
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
    fn socket_is_found_by_the_file() {
        let place = TempDir::new().expect("there is room for a directory");
        let file = place.path().join("greygate.toml");
        std::fs::write(&file, "[admin]\nsocket = \"/run/elsewhere.sock\"\n")
            .expect("the directory is ours");
        let mut cli = Cli {
            config: Some(file),
            socket: None,
            json: false,
            command: Command::Status,
        };
        let found = socket(&cli).expect("the file is legal");
        assert_eq!(found, Path::new("/run/elsewhere.sock"));
        cli.socket = Some("/run/named.sock".into());
        let found = socket(&cli).expect("it is named");
        assert_eq!(found, Path::new("/run/named.sock"));
    }

    fn start(place: &TempDir) -> (Daemon, PathBuf) {
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
        let config = config::read(&file).expect("the file is legal");
        let socket = config.admin.socket.clone();
        let log = log::init(&config.log);
        let daemon = Daemon::start(config, Arc::new(SystemClock), &log, Rights::as_they_are())
            .expect("everything is free");
        (daemon, socket)
    }

    fn sentenced(socket: &Path) -> Vec<SentenceLine> {
        match call(socket, &Request::XdpStatus) {
            Ok(Answer::XdpStatus(XdpStatus { sentences, .. })) => sentences,
            other => panic!("{other:?} is not the status of the filter"),
        }
    }
}
