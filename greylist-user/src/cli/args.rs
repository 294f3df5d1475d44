//! The arguments, with the help that teaches them.

mod help;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::list::ListArgs;
use super::simulate::{EXAMPLES as SIMULATE_EXAMPLES, SimulateArgs};
use crate::admin::Target;
use crate::config::{InvalidDuration, Override, parse_duration};
use crate::policy::SentenceLevel;
use crate::transfer::{Format, Kind, Options};

/// Keeps a busy MX standing: a greylisting milter for Postfix that drops hammering clients in the
/// kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "greygate", version, after_help = help::FIRST_STEPS, disable_help_subcommand = true)]
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
    /// Let clients, senders or recipients pass, at once and until it is undone
    #[command(subcommand, after_help = help::ALLOW_EXAMPLES)]
    Allow(ListCommand),

    /// Say how sharing with other hosts stands, or have it done anew
    #[command(subcommand, after_help = help::CLUSTER_EXAMPLES)]
    Cluster(ClusterCommand),

    /// Turn clients, senders or recipients away, at once and until it is undone
    #[command(subcommand, after_help = help::DENY_EXAMPLES)]
    Deny(ListCommand),

    /// Run the daemon, in the foreground
    #[command(after_help = help::SERVE_EXAMPLES)]
    Serve {
        /// What is set above the file, now and at each reload.
        #[command(flatten)]
        overrides: OverrideArgs,

        /// Where the hosts of this site share with another seed than this one's, put what is remembered here
        /// aside, and begin anew with theirs
        #[arg(long)]
        discard_local: bool,
    },

    /// Say whether a configuration is legal, and what it amounts to in memory and load
    #[command(after_help = help::CHECK_EXAMPLES)]
    CheckConfig {
        /// The file [default: --config, or /etc/greygate/greygate.toml]
        file: Option<PathBuf>,

        /// What is set above the file.
        #[command(flatten)]
        overrides: OverrideArgs,
    },

    /// Print every setting with its default and its reason
    #[command(after_help = help::DEFAULT_EXAMPLES)]
    DefaultConfig,

    /// Say how the daemon is: its mode, what is enforced, how full it is, what it counted
    #[command(after_help = help::STATUS_EXAMPLES)]
    Status {
        /// Say only what wants an operator, and exit with 1 if anything does
        #[arg(long)]
        check: bool,
    },

    /// Watch the daemon live: rates, latencies, the worst clients, the sentences with most drops
    #[command(after_help = help::TOP_EXAMPLES)]
    Top {
        /// How often to ask, such as 1s or 500ms
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
        every: Duration,

        /// Print one screen as text, and end; with --json one document
        #[arg(long)]
        once: bool,
    },

    /// Look at the kernel filter, or switch it by hand
    #[command(subcommand, after_help = help::XDP_EXAMPLES)]
    Xdp(XdpCommand),

    /// Sentence a client in the kernel, as root or the daemon's user
    #[command(after_help = help::PUNISH_EXAMPLES)]
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
    #[command(after_help = help::EXPORT_EXAMPLES)]
    Export {
        /// Only records of this kind; may be repeated
        #[arg(long, value_name = "KIND")]
        kind: Vec<Kind>,

        /// Read this snapshot instead of asking the daemon for one
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
    },

    /// Forget one record that `list` shows, or the trust of a sender, as root or the daemon's user
    #[command(after_help = help::FORGET_EXAMPLES)]
    Forget {
        /// The fingerprint of the record, as `list` shows it
        #[arg(required_unless_present = "trust", conflicts_with = "trust")]
        fingerprint: Option<String>,

        /// The trust that the sender has earned at the address, its content trust included; with a
        /// recipient where the sender's address carries it
        #[arg(long, num_args = 2..=3, value_names = ["ADDRESS", "SENDER", "RECIPIENT"])]
        trust: Vec<String>,
    },

    /// Undo every sentence that covers an address, its strikes and its bad name, as root or the
    /// daemon's user
    #[command(after_help = help::FORGIVE_EXAMPLES)]
    Forgive {
        /// An address, or a network as `xdp status` shows it
        #[arg(value_name = "ADDRESS")]
        target: Target,

        /// The sender (reverse-path) of a mail that waits longer, or has failed; `<>` is the null
        /// reverse-path
        #[arg(requires = "recipient")]
        sender: Option<String>,

        /// Its recipient
        recipient: Option<String>,

        /// The client's HELO argument, if it was caught at relay hopping
        #[arg(long, value_name = "NAME")]
        helo: Option<String>,
    },

    /// Take in an export, or what another greylister kept, as root or the daemon's user
    #[command(after_help = help::IMPORT_EXAMPLES)]
    Import(ImportArgs),

    /// List what is remembered: pending, trusted, clients, sentences or fingerprints
    #[command(after_help = help::LIST_EXAMPLES)]
    List(ListArgs),

    /// Say how a client stands, and what its next attempt would get and why; changes nothing
    #[command(after_help = help::WHY_EXAMPLES)]
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
    #[command(after_help = help::RELOAD_EXAMPLES)]
    Reload,

    /// Tell what became of mail, so that the client's network is known for it; as root or the
    /// daemon's user
    #[command(subcommand, after_help = help::REPORT_EXAMPLES)]
    Report(ReportCommand),

    /// Say what would have become of the mail of a log; changes nothing and needs no daemon
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateArgs),

    /// Write a snapshot of the store now, as root or the daemon's user
    #[command(after_help = help::SNAPSHOT_EXAMPLES)]
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

    /// The zone of times that name none, as those of SQL databases do
    #[arg(long, value_name = "+HH:MM", default_value = "+00:00", allow_hyphen_values = true, value_parser = Options::parse_offset)]
    pub zone: i32,

    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Something named, or [`None`] for `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<T>(pub Option<T>);

/// What can be done to a list while the daemon runs.
#[derive(Clone, Debug, Subcommand)]
pub enum ListCommand {
    /// Add an entry, as root or the daemon's user
    #[command(after_help = help::ADD_EXAMPLES)]
    Add {
        /// The entry, as in a list file
        #[arg(required = true, num_args = 1..)]
        entry: Vec<String>,

        /// How long, such as 7d [default: until it is removed]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,

        /// What to remember of why; `list` and `why` show it
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,

        /// Even if it names a large part of the world, or denies who is allowed or local
        #[arg(long)]
        force: bool,
    },

    /// Show what was added, when, by whom and why
    #[command(after_help = help::ADDED_EXAMPLES)]
    List,

    /// Take out an entry that was added, as root or the daemon's user
    #[command(after_help = help::REMOVE_EXAMPLES)]
    Remove {
        /// The entry, as it was added
        #[arg(required = true, num_args = 1..)]
        entry: Vec<String>,
    },
}

/// What can be told of mail.
#[derive(Clone, Debug, Subcommand)]
pub enum ReportCommand {
    /// It was spam
    #[command(after_help = help::SPAM_EXAMPLES)]
    Spam(Reputed),

    /// It was wanted
    #[command(after_help = help::HAM_EXAMPLES)]
    Ham(Reputed),

    /// It was refused for good (5yz) behind greygate
    #[command(after_help = help::REJECT_EXAMPLES)]
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
    #[command(after_help = help::LINES_HELP)]
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

/// What can be asked of sharing with other hosts.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Say who shares, how far behind this host is, what waits, and what the engine holds
    #[command(after_help = help::CLUSTER_STATUS_EXAMPLES)]
    Status,

    /// Compare everything with the engine: tell it what is known here, and hear what every host is told
    #[command(after_help = help::CLUSTER_RESYNC_EXAMPLES)]
    Resync,

    /// Keep this host apart until greygate is started again; it decides alone
    #[command(after_help = help::CLUSTER_LEAVE_EXAMPLES)]
    Leave,
}

/// What the kernel filter can be told.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum XdpCommand {
    /// Say what the filter does, and whom it blocks: the daemon's, or what is pinned without one
    #[command(after_help = help::XDP_STATUS_EXAMPLES)]
    Status,

    /// Attach the filter without a daemon, so that it outlives this command
    #[command(after_help = help::LOAD_HELP)]
    Load {
        /// Detach it again unless Enter is pressed within this time, such as 60s
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        confirm_within: Option<Duration>,
    },

    /// Remove what a stopped daemon or `xdp load` left attached
    #[command(after_help = help::UNLOAD_EXAMPLES)]
    Unload,

    /// Take the filter off at once, and forbid attaching it again
    #[command(after_help = help::PANIC_HELP)]
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

#[cfg(test)]
mod tests;
