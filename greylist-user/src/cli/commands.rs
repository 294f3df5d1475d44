//! What each command does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::args::{Cli, Command, XdpCommand};
use super::failure::Failure;
use super::paper::{Paper, number, wants_colour};
use super::{report, xdp};
use crate::admin::{self, PunishOrder, Request};
use crate::config::{self, Config, ConfigError, DEFAULT_FILE};
use crate::{daemon, log};

/// Does what the arguments say, and prints the answer to standard output.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve => serve(&file(cli)),
        Command::CheckConfig { file: named } => {
            check_config(cli, &named.clone().unwrap_or_else(|| file(cli)))
        }
        Command::DefaultConfig => Ok(write!(io::stdout(), "{}", config::default_config())?),
        Command::Status => ask(cli, &Request::Status),
        Command::Xdp(XdpCommand::Status) => ask(cli, &Request::XdpStatus),
        Command::Xdp(XdpCommand::Load) => xdp::load(&file(cli), cli.json),
        Command::Xdp(XdpCommand::Unload) => xdp::unload(&file(cli), cli.json),
        Command::Xdp(XdpCommand::Panic) => xdp::panic(&file(cli), cli.json),
        Command::Punish {
            target,
            duration,
            force,
        } => {
            let order = PunishOrder {
                target: *target,
                seconds: duration.as_ref().map(Duration::as_secs),
                force: *force,
            };
            ask(cli, &Request::Punish(order))
        }
        Command::Forgive { address } => ask(cli, &Request::Forgive { address: *address }),
        Command::Snapshot => ask(cli, &Request::Snapshot),
    }
}

fn serve(file: &Path) -> Result<(), Failure> {
    let config = config::read(file)?;
    log::init(&config.log);
    daemon::run(file, config).map_err(Failure::of)
}

fn check_config(cli: &Cli, file: &Path) -> Result<(), Failure> {
    let read = config::read(file);
    if cli.json {
        let verdict = match &read {
            Ok(config) => json!({
                "legal": true,
                "new_tuples_per_second": config.sustained_new_tuples(),
                "remarks": config.remarks(),
            }),
            Err(ConfigError::Illegal(problems)) => json!({"legal": false, "problems": problems}),
            Err(unreadable) => json!({"legal": false, "error": unreadable.to_string()}),
        };
        writeln!(io::stdout(), "{verdict}")?;
        return read.map(drop).map_err(Failure::from);
    }
    let config = read?;
    let mut paper = Paper::new(wants_colour(&io::stdout()));
    summary(file, &config, &mut paper);
    Ok(write!(io::stdout(), "{}", paper.into_text())?)
}

fn summary(file: &Path, config: &Config, paper: &mut Paper) {
    paper.line(format_args!("{}: {}", file.display(), paper.good("ok")));
    let listen: Vec<_> = config
        .milter
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    paper.row("milter", listen.join(", "));
    paper.row(
        "window",
        format_args!(
            "opens after {}, closes after {}",
            config::format_duration(config.policy.delay),
            config::format_duration(config.policy.retry_window)
        ),
    );
    paper.row(
        "store",
        format_args!(
            "{}, {} tuples: sustains {:.1} new ones a second",
            config.store.directory.display(),
            number(config.store.capacity as u64),
            config.sustained_new_tuples()
        ),
    );
    let interfaces = &config.xdp.interfaces;
    if interfaces.is_empty() {
        paper.row("kernel", "no filter: [xdp] interfaces is empty");
    } else {
        let ports: Vec<_> = config.xdp.ports.iter().map(u16::to_string).collect();
        let (interfaces, ports) = (interfaces.join(", "), ports.join(", "));
        paper.row("kernel", format_args!("{interfaces}, port {ports}"));
    }
    for remark in config.remarks() {
        paper.row("note", remark);
    }
}

/// Asks the daemon, and shows what it answers.
fn ask(cli: &Cli, request: &Request) -> Result<(), Failure> {
    let answer = admin::call(&socket(cli)?, request)?;
    if cli.json {
        let json = serde_json::to_string(&answer).expect("answers are plain data");
        writeln!(io::stdout(), "{json}")?;
    } else {
        let mut paper = Paper::new(wants_colour(&io::stdout()));
        report::answer(&answer, &mut paper);
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
