//! What each command does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Cli, ClusterCommand, Command, ImportArgs, XdpCommand};
use super::failure::Failure;
use super::import::Import;
use super::paper::{Paper, harmless_json, wants_colour};
use super::{answer, check_config, export, listing, reports, simulate, top, xdp};
use crate::admin::{
    self, Answer, CallError, ClusterOrder, Envelope, Forget, ForgiveOrder, Health, OrderedLevel,
    PunishOrder, Request, WhyQuestion,
};
use crate::chain::chain;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, ConfigError, DEFAULT_FILE, Override};
use crate::daemon;
use crate::policy::LiveList;
use crate::transfer::{Kind, Options};

/// Does what the arguments say, and prints the answer to standard output.
///
/// Whoever reads the answer may stop reading, as `head` does: that is no failure.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    match obey(cli) {
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A command is a question to the daemon, or something that this program does.
fn obey(cli: &Cli) -> Result<(), Failure> {
    let request = match &cli.command {
        Command::Allow(command) => listing::request(LiveList::Allow, command),
        Command::Deny(command) => listing::request(LiveList::Deny, command),
        Command::Cluster(command) => Request::Cluster {
            order: match command {
                ClusterCommand::Status => ClusterOrder::Status,
                ClusterCommand::Resync => ClusterOrder::Resync,
                ClusterCommand::Leave => ClusterOrder::Leave,
            },
        },
        Command::Forget { fingerprint, trust } => Request::Forget {
            what: forget(fingerprint.as_deref(), trust)?,
        },
        Command::Forgive {
            target,
            sender,
            recipient,
            helo,
        } => Request::Forgive(ForgiveOrder {
            target: *target,
            helo: helo.clone().unwrap_or_default(),
            mail: envelope(sender.as_deref(), recipient.as_deref()),
        }),
        Command::List(args) => {
            let question = args.question();
            question.check().map_err(Failure::usage)?;
            Request::List(Box::new(question))
        }
        Command::Punish {
            target,
            duration,
            level,
            force,
        } => Request::Punish(PunishOrder {
            target: *target,
            seconds: duration.as_ref().map(Duration::as_secs),
            level: OrderedLevel(*level),
            force: *force,
        }),
        Command::Reload => Request::Reload,
        Command::Report(command) => match reports::of(command) {
            Some(report) => Request::Report(report),
            None => {
                return reports::from_lines(
                    io::stdin().lock(),
                    &socket(cli),
                    cli.json,
                    io::stderr(),
                );
            }
        },
        Command::Snapshot => Request::Snapshot,
        Command::Status { check: false } => Request::Status,
        Command::Why {
            address,
            sender,
            recipient,
            helo,
            name,
        } => Request::Why(WhyQuestion {
            address: *address,
            name: name.clone(),
            helo: helo.clone().unwrap_or_default(),
            mail: envelope(sender.as_deref(), recipient.as_deref()),
        }),
        Command::CheckConfig { file, overrides } => {
            let file = file.clone().unwrap_or_else(|| self::file(cli));
            return check_config::run(cli, &file, &overrides.all());
        }
        Command::DefaultConfig => return print_defaults(cli.json),
        Command::Export { kind, snapshot } => return export(kind, snapshot.as_deref(), cli),
        Command::Import(args) => return import(args, cli),
        Command::Serve {
            overrides,
            discard_local,
        } => return serve(file(cli), overrides.all(), *discard_local),
        Command::Simulate(wanted) => return simulate::run(cli, wanted),
        Command::Status { check: true } => return check_health(cli),
        Command::Top { every, once } => return watch(*every, *once, cli),
        Command::Xdp(command) => return switch(*command, cli),
    };
    ask(cli, &request)
}

fn print_defaults(json: bool) -> Result<(), Failure> {
    let toml = config::default_config();
    if json {
        let document = serde_json::json!({"toml": toml});
        return Ok(writeln!(io::stdout(), "{document}")?);
    }
    Ok(write!(io::stdout(), "{toml}")?)
}

fn watch(every: Duration, once: bool, cli: &Cli) -> Result<(), Failure> {
    top::run(&top::Wanted {
        socket: socket(cli),
        every,
        once,
        json: cli.json,
    })
}

fn export(kinds: &[Kind], snapshot: Option<&Path>, cli: &Cli) -> Result<(), Failure> {
    let (socket, configuration) = (socket(cli), file(cli));
    let place = match snapshot {
        Some(file) => export::Place::File(file),
        None => export::Place::Daemon {
            socket: &socket,
            configuration: &configuration,
        },
    };
    export::run(&place, kinds, io::stdout().lock())
}

fn switch(command: XdpCommand, cli: &Cli) -> Result<(), Failure> {
    match command {
        XdpCommand::Status => match ask(cli, &Request::XdpStatus) {
            Err(Failure::Call(no_daemon @ CallError::NoDaemon(_))) => {
                xdp::status(&file(cli), cli.json, no_daemon)
            }
            answered => answered,
        },
        XdpCommand::Load {
            confirm_within: Some(time),
        } => xdp::try_out(&file(cli), cli.json, time),
        XdpCommand::Load { .. } => xdp::load(&file(cli), cli.json),
        XdpCommand::Unload => xdp::unload(&file(cli), cli.json),
        XdpCommand::Panic => xdp::panic(&file(cli), cli.json),
    }
}

fn envelope(sender: Option<&str>, recipient: Option<&str>) -> Option<Envelope> {
    let mail = sender.zip(recipient);
    mail.map(|(sender, recipient)| Envelope::bare(sender, recipient))
}

/// What is to be forgotten: by its fingerprint, or by whose trust it is.
fn forget(fingerprint: Option<&str>, trust: &[String]) -> Result<Forget, Failure> {
    let (Some(address), Some(sender)) = (trust.first(), trust.get(1)) else {
        let fingerprint = fingerprint.unwrap_or_default();
        let what = Forget::Fingerprint(fingerprint.to_owned());
        what.check().map_err(Failure::usage)?;
        return Ok(what);
    };
    let recipient = trust.get(2).map_or("", String::as_str);
    let address = address.parse().map_err(|_| {
        let what = format!("{address:?} is no address; write ADDRESS SENDER after --trust");
        Failure::usage(io::Error::other(what))
    })?;
    Ok(Forget::trust(address, sender, recipient))
}

fn serve(file: PathBuf, overrides: Vec<Override>, discard_local: bool) -> Result<(), Failure> {
    let source = daemon::Source { file, overrides };
    let mut config = source.read()?;
    if discard_local && !config.cluster.shares() {
        let what = "--discard-local is for hosts that share, and [cluster] names no servers";
        return Err(Failure::usage(io::Error::other(what)));
    }
    config.cluster.discard_local = discard_local;
    daemon::run(source, config).map_err(Failure::of)
}

fn import(args: &ImportArgs, cli: &Cli) -> Result<(), Failure> {
    let options = Options {
        delay: args.delay,
        trust: args.autowhite,
        offset: args.zone,
        now: SystemClock.now(),
    };
    let import = Import {
        files: &args.files,
        format: args.format.0,
        options: &options,
        dry_run: args.dry_run,
        skip_bad: args.skip_bad,
    };
    import.run(&socket(cli), io::stderr())?.show(cli.json)
}

/// Asks the daemon, and shows what it answers.
fn ask(cli: &Cli, request: &Request) -> Result<(), Failure> {
    let answer = admin::call(&socket(cli), request)?;
    if let Answer::Unreloaded { problems } = &answer
        && !cli.json
    {
        return Err(ConfigError::Illegal(problems.clone()).into());
    }
    if cli.json {
        let json = serde_json::to_string(&answer).expect("answers are plain data");
        writeln!(io::stdout(), "{}", harmless_json(&json))?;
    } else {
        let mut paper = Paper::new(wants_colour(&io::stdout()));
        answer::show(&answer, &mut paper);
        write!(io::stdout(), "{}", paper.into_text())?;
    }
    match answer {
        Answer::Unreloaded { problems } => Err(ConfigError::Illegal(problems).into()),
        _ => Ok(()),
    }
}

/// Whether the daemon answers and nothing wants an operator.
fn check_health(cli: &Cli) -> Result<(), Failure> {
    let health = match admin::call(&socket(cli), &Request::Status)? {
        Answer::Status(status) => status.health,
        _ => Health::default(),
    };
    if cli.json {
        let json = serde_json::to_string(&health).expect("it is plain data");
        writeln!(io::stdout(), "{json}")?;
    }
    if health.is_good() {
        return Ok(());
    }
    Err(Failure::Unhealthy(health.complaints.join("; ")))
}

fn file(cli: &Cli) -> PathBuf {
    cli.config
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// The daemon's socket: as it is named, or as the file says, or the default.
///
/// The daemon runs, whatever has become of its file since: who asks it must not be kept from it by
/// a line that is wrong elsewhere.
fn socket(cli: &Cli) -> PathBuf {
    if let Some(socket) = &cli.socket {
        return socket.clone();
    }
    let file = file(cli);
    match config::read_anywhere(&file) {
        Ok(config) => config.admin.socket,
        Err(error) => {
            let socket = config::socket_of(&file);
            let socket = socket.unwrap_or_else(|| admin::Settings::default().socket);
            // Members of the socket's group may not read the daemon's file, and need not.
            let is_known = cli.config.is_some() || matches!(error, ConfigError::Illegal(_));
            // A reload says itself what is wrong with the file.
            if is_known && !matches!(cli.command, Command::Reload) {
                let mut stderr = io::stderr();
                let _ = writeln!(
                    stderr,
                    "{}\ngreygate: asking the daemon at {} all the same; --socket names another",
                    chain(&error),
                    socket.display()
                );
            }
            socket
        }
    }
}

#[cfg(test)]
mod tests;
