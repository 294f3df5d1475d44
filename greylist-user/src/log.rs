//! Where log lines go and how they look.
//!
//! One event is one line: a fixed first word, then fields as `key=value`, fit for grep. Under
//! systemd a line carries its priority and no time, since the journal keeps both; elsewhere it
//! carries time and level. Knows the output; leaves what is worth a line to the rooms.
//!
//! Levels: *error* is what an operator must mend, *warn* what they should look at, *info* what
//! changed in the daemon or for a client, *debug* every attempt. Strangers that misbehave are the
//! world being the world: never above *info*.

use std::fmt::{self, Display};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::LazyLock;

use nix::sys::stat::fstat;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What `[log]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The least important level that is written.
    pub level: Level,
    /// How much of a mail address is written.
    pub addresses: Addresses,
}

/// How important an event must be to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// What an operator must mend.
    Error,
    /// And what they should look at.
    Warn,
    /// And what changed.
    #[default]
    Info,
    /// And every attempt.
    Debug,
    /// And everything there is, for whoever mends greygate itself.
    Trace,
}

/// How much of a mail address is written to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// The domain alone.
    Domain,
    /// All of it: who asks "where is my mail?" names an address.
    #[default]
    Full,
    /// A keyed hash, the same for the same address until the daemon is restarted.
    Hash,
}

/// Sends the events of this process to standard error, as the settings say, until the [`Writer`]
/// that is returned is dropped.
///
/// Does nothing when the process has a subscriber already, as under a test harness.
pub fn init(settings: &Settings) -> Writer {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let lost = Lost(writer.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_writer(writer);
    let result = if stderr_is_the_journal() {
        builder.event_format(JournalLine).try_init()
    } else {
        builder
            .with_target(false)
            .with_ansi(crate::cli::wants_colour(&io::stderr()))
            .try_init()
    };
    // The only error is that a subscriber is there already: then its owner decides.
    drop(result);
    Writer {
        lost,
        _guard: guard,
    }
}

/// The thread that writes log lines. Dropping it writes those that wait.
///
/// Whoever logs never waits for it: standard error may be a pipe to a journal that is stuck, and
/// mail must not be. Lines that find no room are lost, and counted.
#[derive(Debug)]
pub struct Writer {
    lost: Lost,
    _guard: WorkerGuard,
}

impl Writer {
    /// Makes the number of lost lines known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.lost.clone()));
    }
}

#[derive(Clone, Debug)]
struct Lost(ErrorCounter);

impl Collector for Lost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lost = ConstCounter::new(self.0.dropped_lines() as u64);
        let help = "Log lines lost since they could not be written fast enough.";
        let encoder =
            encoder.encode_descriptor("log_lines_lost", help, None, lost.metric_type())?;
        lost.encode(encoder)
    }
}

/// What a stranger said, as the value of a field: bytes that are not printable ASCII are escaped, so
/// that it cannot forge a line, and blanks are, so that it cannot forge a field.
pub fn field(said: &[u8]) -> impl Display {
    fmt::from_fn(move |f| {
        for part in said.split_inclusive(|byte| *byte == b' ') {
            match part.strip_suffix(b" ") {
                Some(word) => write!(f, "{}\\x20", word.escape_ascii())?,
                None => part.escape_ascii().fmt(f)?,
            }
        }
        Ok(())
    })
}

/// Lines that may wait for a slow standard error: seconds of a busy host, a few megabytes.
const WAITING_LINES: usize = 16_384;

impl Addresses {
    /// The address as it may be written, as a [`field`].
    pub fn show(self, address: &[u8]) -> impl Display {
        Shown {
            form: self,
            address,
        }
    }
}

struct Shown<'a> {
    form: Addresses,
    address: &'a [u8],
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.is_empty() {
            return f.write_str("<>");
        }
        match self.form {
            Addresses::Full => field(self.address).fmt(f),
            Addresses::Domain => match self.address.iter().rposition(|byte| *byte == b'@') {
                Some(at) => write!(f, "*{}", field(&self.address[at..])),
                None => f.write_str("*"),
            },
            Addresses::Hash => write!(f, "#{:016x}", KEY.hash_one(self.address)),
        }
    }
}

/// The key of hashed addresses, another in each process: a list of known addresses cannot be tried
/// against old logs.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A line for the journal: `<6>deferred client=192.0.2.7`.
struct JournalLine;

impl<S, N> FormatEvent<S, N> for JournalLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// The syslog priority (`sd-daemon(3)`).
fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        _ => 7,
    }
}

/// Whether standard error is connected to the journal: `JOURNAL_STREAM` names its device and
/// inode (`systemd.exec(5)`), and is inherited by children whose standard error is another file.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr();
    if stderr.is_terminal() {
        return false;
    }
    fstat(stderr.as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn shows_as_much_of_an_address_as_allowed() {
        let address = b"alice@example.org";
        let [full, domain, hash] = [Addresses::Full, Addresses::Domain, Addresses::Hash];
        assert_eq!(full.show(address).to_string(), "alice@example.org");
        assert_eq!(domain.show(address).to_string(), "*@example.org");
        assert_eq!(domain.show(b"postmaster").to_string(), "*");
        let hashed = hash.show(address).to_string();
        assert_eq!(hashed, hash.show(address).to_string());
        assert_ne!(hashed, hash.show(b"bob@example.org").to_string());
        assert!(!hashed.contains("alice") && !hashed.contains("example"));
    }

    #[test]
    fn null_reverse_path_is_shown_whatever_the_setting() {
        for addresses in [Addresses::Full, Addresses::Domain, Addresses::Hash] {
            assert_eq!(addresses.show(b"").to_string(), "<>");
        }
    }

    #[test]
    fn stranger_cannot_forge_a_line_nor_a_field() {
        let forged = b"\"a\n<0>deferred\x1b[31m client=192.0.2.1 \"@evil\r. example";
        for addresses in [Addresses::Full, Addresses::Domain] {
            let shown = addresses.show(forged).to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert!(!shown.contains(' '), "{shown:?}");
        }
        assert_eq!(
            field(b"mx reason=allowed ").to_string(),
            r"mx\x20reason=allowed\x20"
        );
    }

    #[test]
    fn journal_line_begins_with_priority_and_word() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::Info)
            .with_ansi(false)
            .event_format(JournalLine)
            .with_writer({
                let written = written.clone();
                move || written.clone()
            })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(client = "192.0.2.7", left = 3, "deferred");
            tracing::error!("full");
            tracing::debug!("unseen");
        });
        assert_eq!(
            written.text(),
            "<6>deferred client=\"192.0.2.7\" left=3\n<3>full\n"
        );
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("no writer panics").clone();
            String::from_utf8(bytes).expect("log lines are text")
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
