//! The arguments, with the help that teaches them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::admin::Target;
use crate::config::{InvalidDuration, Override, parse_duration};
use crate::policy::SentenceLevel;
use crate::transfer::{Format, Kind, Options};

/// Keeps a busy MX standing: a greylisting milter for Postfix that drops hammering clients in the
/// kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "greygate", version, after_help = FIRST_STEPS, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file [default: /etc/greygate/greygate.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GREYGATE_CONFIG")]
    pub config: Option<PathBuf>,

    /// The control socket of the daemon [default: what --config says, or
    /// /run/greygate/control.sock]
    #[arg(long, global = true, value_name = "PATH", env = "GREYGATE_SOCKET")]
    pub socket: Option<PathBuf>,

    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What greygate can be told.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the daemon, in the foreground
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        /// What is set above the file, now and at each reload.
        #[command(flatten)]
        overrides: OverrideArgs,
    },

    /// Say whether a configuration is legal, and what it amounts to in memory and load
    #[command(after_help = CHECK_EXAMPLES)]
    CheckConfig {
        /// The file [default: --config, or /etc/greygate/greygate.toml]
        file: Option<PathBuf>,

        /// What is set above the file.
        #[command(flatten)]
        overrides: OverrideArgs,
    },

    /// Print every setting with its default and its reason
    #[command(after_help = DEFAULT_EXAMPLES)]
    DefaultConfig,

    /// Say how the daemon is: its mode, what is enforced, how full it is, what it counted
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Say only what wants an operator, and exit with 1 if anything does
        #[arg(long)]
        check: bool,
    },

    /// Watch the daemon live: rates, latencies, the worst clients, the sentences with most drops
    #[command(after_help = TOP_EXAMPLES)]
    Top {
        /// How often to ask, such as 1s or 500ms
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
        every: Duration,

        /// Print one screen as text, and end; with --json one document
        #[arg(long)]
        once: bool,
    },

    /// Look at the kernel filter, or switch it by hand
    #[command(subcommand)]
    Xdp(XdpCommand),

    /// Sentence a client in the kernel, as root or the daemon's user
    #[command(after_help = PUNISH_EXAMPLES)]
    Punish {
        /// The client: an address, or a network /24, /64 or /128; an IPv6 address is its /64
        #[arg(value_name = "ADDRESS")]
        target: Target,

        /// How long, such as 30m or 1d [default: as long as the file's sentence]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,

        /// How hard: `observe` counts, `rate` drops new connections beyond a rate, `block` all but
        /// one an hour
        #[arg(long, value_name = "LEVEL", default_value = "block")]
        level: SentenceLevel,

        /// Even if the client is allow-listed, local or private
        #[arg(long)]
        force: bool,
    },

    /// Print all that the store holds as JSON lines, as root or the daemon's user
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// Only records of this kind; may be repeated
        #[arg(long, value_name = "KIND")]
        kind: Vec<Kind>,

        /// Read this snapshot instead of asking the daemon for one
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
    },

    /// Undo every sentence that covers an address, and its strikes, as root or the daemon's user
    #[command(after_help = FORGIVE_EXAMPLES)]
    Forgive {
        /// An address, or a network as `xdp status` shows it
        #[arg(value_name = "ADDRESS")]
        target: Target,
    },

    /// Take in an export, or what another greylister kept, as root or the daemon's user
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),

    /// Say how a client stands, and what its next attempt would get and why; changes nothing
    #[command(after_help = WHY_EXAMPLES)]
    Why {
        /// The client address
        address: IpAddr,

        /// The sender (reverse-path) of a mail; `<>` is the null reverse-path
        #[arg(requires = "recipient")]
        sender: Option<String>,

        /// Its recipient
        recipient: Option<String>,

        /// The client's HELO argument, to see whether it is remembered for relay hopping
        #[arg(long, value_name = "NAME")]
        helo: Option<String>,

        /// The client's verified reverse name, or "" if it has none [default: both are told, where
        /// it makes a difference]
        #[arg(long, value_name = "REVERSE-NAME")]
        name: Option<String>,
    },

    /// Read the configuration again, as root or the daemon's user: all of it, or nothing
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,

    /// Tell what became of mail, so that the client's network is known for it; as root or the
    /// daemon's user
    #[command(subcommand, after_help = REPORT_EXAMPLES)]
    Report(ReportCommand),

    /// Write a snapshot of the store now, as root or the daemon's user
    Snapshot,
}

/// What the command line sets above the file.
#[derive(Clone, Debug, Default, Args)]
pub struct OverrideArgs {
    /// Set a key above what the file says; may be repeated, and the last for a key wins
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<Override>,

    /// Only observe: nothing is deferred, refused, sentenced or dropped, all of it is counted.
    /// Short for --set with every action; a --set beside it wins
    #[arg(long)]
    pub observe: bool,
}

impl OverrideArgs {
    /// All of them, in the order in which a later one wins.
    pub fn all(&self) -> Vec<Override> {
        let observing = self.observe.then(Override::observing).unwrap_or_default();
        [observing, self.set.clone()].concat()
    }
}

/// What is taken in, and how.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// What the files are: jsonl, milter-greylist, postgrey, sqlgrey, or auto to look
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = format)]
    pub format: Named<Format>,

    /// Change nothing, and say what would come in
    #[arg(long)]
    pub dry_run: bool,

    /// Leave out lines that are no records, instead of taking in nothing
    #[arg(long)]
    pub skip_bad: bool,

    /// How long the other greylister deferred [default: as that program does, 30m of
    /// milter-greylist, 5m of Postgrey]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub delay: Option<Duration>,

    /// How long milter-greylist whitelisted after a pass (its autowhite) [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub autowhite: Option<Duration>,

    /// The zone of times that name none, as SQLgrey's do
    #[arg(long, value_name = "+HH:MM", default_value = "+00:00", allow_hyphen_values = true, value_parser = Options::parse_offset)]
    pub zone: i32,

    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Something named, or [`None`] for `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<T>(pub Option<T>);

/// What can be told of mail.
#[derive(Clone, Debug, Subcommand)]
pub enum ReportCommand {
    /// It was spam
    Spam(Reputed),

    /// It was wanted
    Ham(Reputed),

    /// It was refused for good (5yz) behind greygate
    Reject {
        /// The client that handed it over
        address: IpAddr,

        /// Its sender (reverse-path); `<>` is the null reverse-path
        sender: String,

        /// Its recipient
        recipient: String,

        /// Its size as announced at MAIL
        #[arg(long, value_name = "BYTES")]
        size: Option<u64>,
    },

    /// Read reports from standard input, one a line, until it ends
    #[command(after_help = LINES_HELP)]
    Lines,
}

/// Whose mail it was.
#[derive(Clone, Debug, Args)]
pub struct Reputed {
    /// The client that handed it over
    pub address: IpAddr,

    /// Its verified reverse name, or "" if it has none [default: not known]
    #[arg(long, value_name = "REVERSE-NAME")]
    pub name: Option<String>,
}

/// What the kernel filter can be told.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum XdpCommand {
    /// Say what the filter does, and whom it blocks: the daemon's, or what is pinned without one
    Status,

    /// Attach the filter without a daemon, so that it outlives this command
    #[command(after_help = LOAD_HELP)]
    Load {
        /// Detach it again unless Enter is pressed within this time, such as 60s
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        confirm_within: Option<Duration>,
    },

    /// Remove what a stopped daemon or `xdp load` left attached
    Unload,

    /// Take the filter off at once, and forbid attaching it again
    #[command(after_help = PANIC_HELP)]
    Panic,
}

fn format(text: &str) -> Result<Named<Format>, String> {
    match text {
        "auto" => Ok(Named(None)),
        word => word.parse().map(Some).map(Named),
    }
}

/// Asking more often than ten times a second shows nothing more.
fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(every) if every < Duration::from_millis(100) || every > Duration::from_hours(1) => {
            Err("it is asked every 100ms to 1h".to_owned())
        }
        Ok(every) => Ok(every),
        Err(invalid) => Err(invalid.to_string()),
    }
}

fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text)
}

const FIRST_STEPS: &str = "\
First steps:
  greygate default-config > /etc/greygate/greygate.toml
  greygate check-config /etc/greygate/greygate.toml
  systemctl start greygate
  and in main.cf, in front of other milters:
  smtpd_milters = { inet:127.0.0.1:8892, default_action=accept }

What the command line says wins over GREYGATE_CONFIG and GREYGATE_SOCKET of the environment, they
over the file, and the file over the defaults.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Manuals: greygate(8), greygate.toml(5)";

const SERVE_EXAMPLES: &str = "\
Stops on SIGTERM or SIGINT, after the sessions under way and a last snapshot.

Examples:
  greygate serve
  greygate serve --config /etc/greygate/test.toml
  greygate serve --observe
  greygate serve --set greylist.delay=5m --set xdp.rate=10";

const CHECK_EXAMPLES: &str = "\
Exits with 2 and FILE:LINE: what is wrong, when it is not legal. Run it as the daemon's user, so
that paths are judged with its rights.

Example:
  greygate check-config /etc/greygate/greygate.toml && systemctl restart greygate
  greygate check-config --set greylist.mode=content --json";

const DEFAULT_EXAMPLES: &str = "\
Example:
  greygate default-config > /etc/greygate/greygate.toml";

const STATUS_EXAMPLES: &str = "\
Exits with 0 when the daemon answers, whatever it says, and with 1 when none does. With --check also
with 1 when anything wants an operator.

Examples:
  greygate status
  greygate status --check || mail-the-operator
  greygate status --json | jq .store.tuples";

const TOP_EXAMPLES: &str = "\
q quits, p pauses, s sorts the sentences, ? helps. A daemon that is gone is asked again until it is back.

Examples:
  greygate top
  greygate top --every 5s
  greygate top --once
  greygate top --json | jq --unbuffered .status.recent";

const PUNISH_EXAMPLES: &str = "\
Examples:
  greygate punish 192.0.2.7
  greygate punish 192.0.2.0/24 --level rate
  greygate punish 2001:db8::/64 --for 1d";

const EXPORT_EXAMPLES: &str = "\
Writes a header, one record a line and an end. Asks the daemon for a snapshot and reads that; without a
daemon, the last one it left. Keys are hashes that mean something only to a host with the same seed.

Examples:
  greygate export > greygate.jsonl
  greygate export --kind tuple --kind trust | gzip > records.jsonl.gz";

const IMPORT_EXAMPLES: &str = "\
Reads every file whole before it takes in anything, and names what is wrong with FILE:LINE. Taken in is
merged with what is there: twice is once, and no record gets worse. See docs/migrating.md.

Examples:
  greygate import greygate.jsonl
  greygate import --dry-run --delay 5m --autowhite 3d /var/lib/milter-greylist/greylist.db
  db_dump /var/lib/postgrey/postgrey.db > postgrey.txt && greygate import postgrey.txt
  greygate import --zone +01:00 connect.csv from_awl.csv domain_awl.csv";

const FORGIVE_EXAMPLES: &str = "\
An address: its own sentence and that of the network around it, for all in that network. A network
of any size: its own sentence and those of everybody in it, but none of a wider one.

Examples:
  greygate forgive 192.0.2.7
  greygate forgive 198.51.0.0/16";

const RELOAD_EXAMPLES: &str = "\
As SIGHUP, but it answers: what changed, which keys wait for a restart, or all that is wrong with
FILE:LINE, and then the old configuration stays in force (exit code 2). What the daemon's command line
sets with --set stays above the file.

Examples:
  greygate reload
  greygate reload --json | jq -r '.restart[]'";

const WHY_EXAMPLES: &str = "\
Sender and recipient as the log shows them; a mail nobody has tried yet may be asked about, too. What
its content will say is not known before: of an attempt that would be read, it says what passes then.

Examples:
  greygate why 192.0.2.7
  greygate why 192.0.2.7 sender@example.org you@example.net
  greygate why 192.0.2.7 '<>' you@example.net --name mail.example.org --helo mail.example.org";

const REPORT_EXAMPLES: &str = "\
Meant for the content filter behind greygate. A process for each mail costs more than it teaches on
a busy host: keep one `greygate report lines` open and write to it.

Examples:
  greygate report spam 192.0.2.7 --name mail.example.org
  greygate report reject 192.0.2.7 sender@example.org you@example.net --size 48213
  learn-from-the-log | greygate report lines";

const LINES_HELP: &str = "\
Each line is one of
  spam ADDRESS [REVERSE-NAME]
  ham ADDRESS [REVERSE-NAME]
  reject ADDRESS SENDER RECIPIENT [BYTES]
with \"-\" for a client that has no reverse name and \"<>\" for the null reverse-path. An empty line and
one that begins with \"#\" say nothing. A line that is no report is named on standard error, and the
exit code is 1 at the end; nothing is printed of those that were heard.";

const LOAD_HELP: &str = "\
What is pinned already is taken over with its sentences: loading again swaps the program. Not while
a daemon runs, which has done it.

Examples:
  greygate xdp load
  greygate xdp load --confirm-within 60s";

const PANIC_HELP: &str = "\
Works as root without the daemon, and whatever the configuration says. Mail keeps flowing. The
filter stays off until the file that this leaves behind is removed.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for line in [
            &["greygate", "--json", "--socket", "/s", "status"][..],
            &["greygate", "status", "--json", "--socket", "/s"],
        ] {
            let cli = Cli::try_parse_from(line).expect("legal");
            assert!(cli.json && cli.socket.is_some());
        }
    }

    #[test]
    fn durations_of_the_command_line_are_those_of_the_file() {
        let punish = |duration: &str| {
            Cli::try_parse_from(["greygate", "punish", "192.0.2.7", "--for", duration])
        };
        let Command::Punish { duration, .. } = punish("1h30m").expect("legal").command else {
            panic!("that was punish");
        };
        assert_eq!(duration, Some(Duration::from_mins(90)));
        let refused = punish("30").expect_err("a bare number").to_string();
        assert!(refused.contains("30 has no unit"), "{refused}");
    }

    #[test]
    fn overrides_name_a_key_and_the_last_of_them_wins() {
        let serve = |words: &[&str]| Cli::try_parse_from([&["greygate", "serve"], words].concat());
        let words = [
            "--set",
            "xdp.rate=9",
            "--observe",
            "--set",
            "xdp.action=enforce",
        ];
        let Command::Serve { overrides } = serve(&words).expect("legal").command else {
            panic!("that was serve");
        };
        let all: Vec<_> = overrides.all().iter().map(ToString::to_string).collect();
        assert_eq!(all[0], "greylist.action=observe");
        assert_eq!(all[all.len() - 2..], ["xdp.rate=9", "xdp.action=enforce"]);
        assert!(serve(&["--set", "delay=5m"]).is_err());
    }

    #[test]
    fn trial_has_a_time() {
        let load =
            |words: &[&str]| Cli::try_parse_from([&["greygate", "xdp", "load"], words].concat());
        let Command::Xdp(XdpCommand::Load { confirm_within }) =
            load(&["--confirm-within", "60s"]).expect("legal").command
        else {
            panic!("that was load");
        };
        assert_eq!(confirm_within, Some(Duration::from_mins(1)));
        assert!(load(&[]).is_ok());
        assert!(load(&["--confirm-within"]).is_err());
    }

    #[test]
    fn mail_is_asked_about_with_both_its_ends_or_not_at_all() {
        let why = |words: &[&str]| Cli::try_parse_from([&["greygate", "why"], words].concat());
        let asked = why(&["2001:db8::7", "<>", "r@b.example", "--name", ""]).expect("legal");
        let Command::Why { sender, name, .. } = asked.command else {
            panic!("that was why");
        };
        assert_eq!(sender.as_deref(), Some("<>"));
        assert_eq!(name.as_deref(), Some(""), "it has none");
        assert!(why(&["192.0.2.7"]).is_ok());
        assert!(why(&["192.0.2.7", "s@a.example"]).is_err());
        assert!(why(&["192.0.2.0/24"]).is_err());
        assert!(why(&[]).is_err());
    }

    #[test]
    fn reports_name_a_client_and_what_became_of_its_mail() {
        let report =
            |words: &[&str]| Cli::try_parse_from([&["greygate", "report"], words].concat());
        for legal in [
            &["spam", "192.0.2.7"][..],
            &["ham", "192.0.2.7", "--name", "mx.example"],
            &["reject", "192.0.2.7", "<>", "r@b.example", "--size", "5000"],
            &["lines"],
        ] {
            assert!(report(legal).is_ok(), "{legal:?}");
        }
        for wrong in [
            &[][..],
            &["spam"],
            &["virus", "192.0.2.7"],
            &["spam", "192.0.2.7", "mx.example"],
            &["reject", "192.0.2.7", "s@a.example"],
            &[
                "reject",
                "192.0.2.7",
                "s@a.example",
                "r@b.example",
                "--size",
                "big",
            ],
        ] {
            assert!(report(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_wrong_usage() {
        for line in [
            &["greygate", "punish", "example.org"][..],
            &["greygate", "forgive", "example.org"],
            &["greygate", "punish"],
            &["greygate"],
            &["greygate", "halt"],
        ] {
            let refused = Cli::try_parse_from(line).expect_err("not legal");
            assert_eq!(refused.exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn asking_for_help_is_no_failure() {
        let help = Cli::try_parse_from(["greygate", "--help"]).expect_err("help ends the run");
        assert_eq!(help.exit_code(), 0);
        assert!(help.to_string().contains("First steps:"), "{help}");
    }
}
