//! The arguments, with the help that teaches them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::admin::Target;
use crate::config::{InvalidDuration, parse_duration};
use crate::policy::SentenceLevel;

/// Keeps a busy MX standing: a greylisting milter for Postfix that drops hammering clients in the
/// kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "greygate", version, after_help = FIRST_STEPS, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file [default: /etc/greygate/greygate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The control socket of the daemon [default: what --config says, or
    /// /run/greygate/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
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
    Serve,

    /// Say whether a configuration is legal, and what it amounts to
    #[command(after_help = CHECK_EXAMPLES)]
    CheckConfig {
        /// The file [default: --config, or /etc/greygate/greygate.toml]
        file: Option<PathBuf>,
    },

    /// Print every setting with its default and its reason
    #[command(after_help = DEFAULT_EXAMPLES)]
    DefaultConfig,

    /// Say how the daemon is
    #[command(after_help = STATUS_EXAMPLES)]
    Status,

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

    /// Undo every sentence that covers an address, as root or the daemon's user
    #[command(after_help = FORGIVE_EXAMPLES)]
    Forgive {
        /// An address, or a network as `xdp status` shows it
        #[arg(value_name = "ADDRESS")]
        target: Target,
    },

    /// Write a snapshot of the store now, as root or the daemon's user
    Snapshot,
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

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Manuals: greygate(8), greygate.toml(5)";

const SERVE_EXAMPLES: &str = "\
Stops on SIGTERM or SIGINT, after the sessions under way and a last snapshot.

Examples:
  greygate serve
  greygate serve --config /etc/greygate/test.toml";

const CHECK_EXAMPLES: &str = "\
Exits with 2 and FILE:LINE: what is wrong, when it is not legal. Run it as the daemon's user, so
that paths are judged with its rights.

Example:
  greygate check-config /etc/greygate/greygate.toml && systemctl restart greygate";

const DEFAULT_EXAMPLES: &str = "\
Example:
  greygate default-config > /etc/greygate/greygate.toml";

const STATUS_EXAMPLES: &str = "\
Exits with 1 when no daemon answers.

Examples:
  greygate status
  greygate status --json | jq .store.tuples";

const PUNISH_EXAMPLES: &str = "\
Examples:
  greygate punish 192.0.2.7
  greygate punish 192.0.2.0/24 --level rate
  greygate punish 2001:db8::/64 --for 1d";

const FORGIVE_EXAMPLES: &str = "\
An address: its own sentence and that of the network around it, for all in that network. A network
of any size: its own sentence and those of everybody in it, but none of a wider one.

Examples:
  greygate forgive 192.0.2.7
  greygate forgive 198.51.0.0/16";

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
