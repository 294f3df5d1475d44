//! `simulate`: its arguments, its progress, and where its report goes.

mod text;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{Cli, OverrideArgs};
use super::failure::Failure;
use super::paper::{Paper, wants_colour};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, ConfigError, DEFAULT_FILE, Override};
use crate::simulate::maillog::{parse_time, zone};
use crate::simulate::{self, Model, Options, Queues};

/// What may be asked of a rehearsal.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Files of Postfix's log, in any order: plain, gzip or zstd; syslog's lines, or what
    /// `journalctl -o export` or `-o json` writes; "-" is standard input
    #[arg(long = "log", value_name = "FILE", num_args = 1.., required = true)]
    pub logs: Vec<PathBuf>,

    /// Only mail from then on, such as 2026-11-02 or 2026-11-02T06:00:00+01:00
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only mail before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// How senders come again of whom the log does not say
    #[arg(long, value_name = "MODEL", value_enum, default_value_t)]
    pub retry_model: Queues,

    /// Of a hundred such senders, how many never come again: at least and at most
    #[arg(long, value_name = "LOW-HIGH", default_value = "5-50", value_parser = percents)]
    pub no_retry: (u8, u8),

    /// Words by which this site's own greylister defers, if it is none of the known ones
    #[arg(long, value_name = "TEXT")]
    pub greylist_text: Vec<String>,

    /// The year of the first stamp that has none [default: by when the file was written]
    #[arg(long, value_name = "YEAR", value_parser = clap::value_parser!(u16).range(1970..=2200))]
    pub year: Option<u16>,

    /// The zone of stamps that have none, such as +01:00
    #[arg(long, value_name = "ZONE", default_value = "Z", value_parser = seconds_ahead, allow_hyphen_values = true)]
    pub zone: i32,

    /// Take greygate as one that has watched for long, so that nothing is observed only for its youth
    #[arg(long)]
    pub warmed_up: bool,

    /// Write the report as a page with plots, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// What is set above the file.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// Rehearses, and prints the report.
pub(super) fn run(cli: &Cli, wanted: &SimulateArgs) -> Result<(), Failure> {
    let (config_file, config) = rules(cli.config.as_deref(), &wanted.overrides.all())?;
    let time = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match parse_time(text, wanted.zone) {
            Some(time) => Ok(Some(time)),
            None => Err(Failure::usage(io::Error::other(format!(
                "{text:?} is no time; write 2026-11-02, or 2026-11-02T06:00:00+01:00"
            )))),
        },
    };
    let options = Options {
        logs: wanted.logs.clone(),
        config_file,
        config,
        model: Model {
            queues: wanted.retry_model,
            no_retry: wanted.no_retry,
        },
        since: time(&wanted.since)?,
        until: time(&wanted.until)?,
        year: wanted.year.map(i32::from),
        ahead: wanted.zone,
        greylist_texts: wanted.greylist_text.clone(),
        warmed_up: wanted.warmed_up,
        now: SystemClock.now(),
    };
    let bar = bar(&options.logs);
    let report = simulate::run(&options, |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let report = report.map_err(Failure::of)?;
    if let Some(file) = &wanted.html {
        write_whole(file, &simulate::page(&report)).map_err(|source| {
            Failure::of(NotWritten {
                file: file.clone(),
                source,
            })
        })?;
    }
    if cli.json {
        let json = serde_json::to_string(&report).expect("reports are plain data");
        writeln!(io::stdout(), "{json}")?;
    } else {
        let mut paper = Paper::new(wants_colour(&io::stdout()));
        text::show(&report, &mut paper);
        write!(io::stdout(), "{}", paper.into_text())?;
    }
    Ok(())
}

/// The named file must be there; the default one only counts if it can be read.
fn rules(
    named: Option<&Path>,
    overrides: &[Override],
) -> Result<(Option<PathBuf>, Config), Failure> {
    let file = named.unwrap_or(Path::new(DEFAULT_FILE));
    match config::read_rules_under(file, overrides) {
        Ok(config) => Ok((Some(file.to_owned()), config)),
        Err(ConfigError::Unreadable { .. }) if named.is_none() => {
            Ok((None, config::defaults_under(overrides)?))
        }
        Err(wrong) => Err(wrong.into()),
    }
}

/// How far it is, on a terminal only.
fn bar(logs: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let sizes = logs.iter().map(|it| fs::metadata(it).map(|it| it.len()));
    let Ok(bytes) = sizes.sum::<Result<u64, _>>() else {
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        return bar.with_style(style("{bytes} ({bytes_per_sec})"));
    };
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(4));
    bar.with_style(style(
        "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)",
    ))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is legal")
}

/// Writes a file beside its place and renames it, so that it is whole or not there.
fn write_whole(file: &Path, page: &str) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = fs::write(&new, page).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _gone_or_not = fs::remove_file(&new);
    }
    written
}

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", file.display())]
struct NotWritten {
    file: PathBuf,
    source: io::Error,
}

fn percents(text: &str) -> Result<(u8, u8), String> {
    let wrong = || format!("{text:?} is no range of percents; write 5-50");
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let percent = |text: &str| text.parse().ok().filter(|it: &u8| *it <= 100);
    let range = percent(low).zip(percent(high));
    range.filter(|(low, high)| low <= high).ok_or_else(wrong)
}

fn seconds_ahead(text: &str) -> Result<i32, String> {
    zone(text.as_bytes()).ok_or_else(|| format!("{text:?} is no zone; write Z or +01:00"))
}

/// What it is asked for.
pub(super) const EXAMPLES: &str = "\
What the log shows and what is assumed stand apart in the report; docs/simulate.md says how to read \
it. If a file cannot be read to its end there is no report.

Examples:
  greygate simulate --log /var/log/mail.log
  greygate simulate --config test.toml --log /var/log/mail.log* --html report.html
  greygate simulate --log mail.log --set greylist.delay=1m --set greylist.mode=content
  greygate simulate --log mail.log --retry-model postfix --no-retry 10-30 --json
  journalctl -u postfix@- -o export --since yesterday | greygate simulate --log -";

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_zones_are_read_or_refused_with_a_form_to_write() {
        assert_eq!(percents("5-50"), Ok((5, 50)));
        assert_eq!(percents("20"), Ok((20, 20)));
        for wrong in ["50-5", "5-101", "x", "", "-5"] {
            assert!(percents(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds_ahead("-03:30"), Ok(-12_600));
        assert!(seconds_ahead("CET").is_err_and(|it| it.contains("+01:00")));
    }

    #[test]
    fn rules_are_the_files_with_its_lists_under_what_is_set() {
        let place = tempfile::tempdir().expect("there is room for a directory");
        let file = place.path().join("test.toml");
        let text = "[store]\ndirectory = \"/nowhere/at/all\"\n[greylist]\ndelay = \"5m\"\n\
                    [lists]\nallow_files = [\"LIST\"]\n";
        let list = place.path().join("allow.list");
        let text = text.replace("LIST", &list.display().to_string());
        fs::write(&file, text).expect("the directory is ours");
        fs::write(&list, "192.0.2.7\n").expect("the directory is ours");
        let set = ["greylist.delay=1m".parse().expect("an override")];
        let (named, config) = rules(Some(&file), &set).expect("the daemon's paths are not ours");
        assert_eq!(named, Some(file.clone()));
        assert_eq!(config.policy.delay.as_secs(), 60);
        assert_eq!(config.policy.lists.allow.entries().len(), 1);

        fs::write(&list, "nonsense or worse\n").expect("the directory is ours");
        assert!(rules(Some(&file), &[]).is_err(), "half a list is none");
        assert!(rules(Some(&place.path().join("none")), &[]).is_err());
        let wrong = ["greylist.dela=1m".parse().expect("an override")];
        assert!(config::defaults_under(&wrong).is_err());
        assert_eq!(
            config::defaults_under(&[]).expect("legal"),
            Config::default()
        );
    }

    #[test]
    fn time_that_is_none_is_wrong_usage() {
        use clap::Parser as _;
        let asked = [
            "greygate",
            "simulate",
            "--log",
            "none",
            "--since",
            "yesterday",
        ];
        let cli = Cli::try_parse_from(asked).expect("its form is right");
        let crate::cli::args::Command::Simulate(wanted) = &cli.command else {
            panic!("{cli:?}");
        };
        let failure = run(&cli, wanted).expect_err("it is no time");
        assert!(matches!(failure, Failure::Usage(_)), "{failure}");
        assert!(
            failure.for_people().contains("write 2026-11-02"),
            "{failure}"
        );
    }

    #[test]
    fn page_is_whole_or_not_there() {
        let place = tempfile::tempdir().expect("there is room for a directory");
        let file = place.path().join("report.html");
        write_whole(&file, "<p>").expect("the directory is ours");
        assert_eq!(fs::read_to_string(&file).expect("it was written"), "<p>");
        assert!(write_whole(&place.path().join("none/report.html"), "<p>").is_err());
        let left = fs::read_dir(place.path()).expect("it is there").count();
        assert_eq!(left, 1);
    }
}
