//! What each command does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Cli, Command, XdpCommand};
use super::failure::Failure;
use super::paper::{Paper, wants_colour};
use super::{answer, check_config, reports, xdp};
use crate::admin::{
    self, CallError, Envelope, Forget, ForgiveOrder, OrderedLevel, PunishOrder, Request,
    WhyQuestion,
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
        Command::Serve => serve(&file(cli)),
        Command::CheckConfig { file: named } => {
            check_config::run(cli, &named.clone().unwrap_or_else(|| file(cli)))
        }
        Command::DefaultConfig if cli.json => {
            let document = serde_json::json!({"toml": config::default_config()});
            Ok(writeln!(io::stdout(), "{document}")?)
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
        Command::Forget { fingerprint, trust } => ask(
            cli,
            &Request::Forget {
                what: forget(fingerprint.as_deref(), trust)?,
            },
        ),
        Command::Forgive {
            target,
            sender,
            recipient,
            helo,
        } => {
            let mail = sender.as_deref().zip(recipient.as_deref());
            let order = ForgiveOrder {
                target: *target,
                helo: helo.clone().unwrap_or_default(),
                mail: mail.map(|(sender, recipient)| Envelope::bare(sender, recipient)),
            };
            ask(cli, &Request::Forgive(order))
        }
        Command::List(args) => ask(cli, &Request::List(Box::new(args.question()))),
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
            None => reports::from_lines(io::stdin().lock(), &socket(cli)?, cli.json, io::stderr()),
        },
        Command::Snapshot => ask(cli, &Request::Snapshot),
    }
}

/// What is to be forgotten: by its fingerprint, or by whose trust it is.
fn forget(fingerprint: Option<&str>, trust: &[String]) -> Result<Forget, Failure> {
    let (Some(address), Some(sender)) = (trust.first(), trust.get(1)) else {
        let fingerprint = fingerprint.unwrap_or_default();
        return Ok(Forget::Fingerprint(fingerprint.to_owned()));
    };
    let recipient = trust.get(2).map_or("", String::as_str);
    let address = address.parse().map_err(|_| {
        let what = format!("{address:?} is no address; write ADDRESS SENDER after --trust");
        Failure::of(io::Error::other(what))
    })?;
    Ok(Forget::trust(address, sender, recipient))
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
    use crate::admin::{Answer, ListOrder, ListQuestion, SentenceLine, XdpStatus, call};
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
        let Ok(Answer::Forgiven(forgiven)) =
            call(&socket, &Request::Forgive(ForgiveOrder::of(target)))
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
