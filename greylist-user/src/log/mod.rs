//! Where log lines go and how they look.
//!
//! One event is one line: a fixed first word, then fields as `key=value`, fit for grep; or a JSON
//! object; or an entry of the journal with a field for each value (`form`). Under systemd a line
//! carries its priority and no time, since the journal keeps both; elsewhere it carries time and
//! level. Knows the output (`sink`) and how much of it strangers may cause (`limit`, `panics`); leaves what is
//! worth a line to the rooms. What libraries say of themselves has no word, no limit and no form for
//! addresses: it is written at *trace* alone.
//!
//! Levels: *error* is what an operator must mend, *warn* what they should look at, *info* what
//! changed in the daemon or for a client, and each verdict, *debug* what led to it. Strangers that
//! misbehave are the world being the world: never above *info*, and never more than `[log] rate`.

mod form;
mod limit;
mod panics;
mod sink;

use std::fmt::{self, Display};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use limit::{Limits, STRANGERS};
pub use panics::bound as bound_panics;

use form::{JournalEntry, JsonLine, PrioritisedLine};
use sink::{JOURNAL, JournalSocket, stderr_is_the_journal};

/// What `[log]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The least important level that is written.
    pub level: Level,
    /// How much of a mail address is written.
    pub addresses: Addresses,
    /// Where lines go. Default standard error.
    pub to: Destination,
    /// How they look. Default text.
    pub format: Format,
    /// Which verdicts are a line at info. Default all.
    pub verdicts: Verdicts,
    /// Lines a second of each word that strangers can cause; 0 is no limit. Default 100.
    pub rate: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: Level::default(),
            addresses: Addresses::default(),
            to: Destination::default(),
            format: Format::default(),
            verdicts: Verdicts::default(),
            rate: 100,
        }
    }
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The journal's own socket, each value a field; standard error where there is no journal.
    Journal,
    /// Standard error.
    #[default]
    Stderr,
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object each.
    Json,
    /// A word, and fields as `key=value`.
    #[default]
    Text,
}

/// Which verdicts are a line at info; the others are one at debug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdicts {
    /// Each recipient's.
    #[default]
    All,
    /// None but refusals.
    None,
    /// Passes of what had waited, and refusals.
    Passed,
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

/// Sends the events of this process where the settings say, until the [`Writer`] that is returned is
/// dropped.
///
/// Does nothing when the process has a subscriber already, as under a test harness.
pub fn init(settings: &Settings) -> Writer {
    let unsent = Arc::new(AtomicU64::new(0));
    let journal = match settings.to {
        Destination::Journal => Some(JournalSocket::connect(
            Path::new(JOURNAL),
            Arc::clone(&unsent),
        )),
        Destination::Stderr => None,
    };
    let (output, into_journal, missing): (Box<dyn Write + Send>, _, _) = match journal {
        Some(Ok(socket)) => (Box::new(socket), true, None),
        Some(Err(error)) => (Box::new(io::stderr()), false, Some(error)),
        None => (Box::new(io::stderr()), false, None),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(Output(output));
    let lost = Lost {
        unqueued: writer.error_counter(),
        unsent,
    };
    let limits = Limits::new(settings.rate);
    let lines = lines(settings.format, into_journal, writer);
    let result = tracing_subscriber::registry()
        .with(lines)
        .with(limits.clone())
        .with(whose(settings.level))
        .with(LevelFilter::from(settings.level))
        .try_init();
    // The only error is that a subscriber is there already: then its owner decides.
    drop(result);
    if let Some(error) = missing {
        tracing::warn!(%error, socket = JOURNAL, "journald-missing");
    }
    Writer {
        lost,
        limits,
        _guard: guard,
    }
}

/// Keeps out what is not ours: a resolver puts names that strangers chose into its warnings, as many as
/// they like. Who asks for everything gets everything.
fn whose(level: Level) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |event| {
        let target = event.target();
        level == Level::Trace || target == STRANGERS || target.starts_with(env!("CARGO_CRATE_NAME"))
    })
}

/// The layer that writes lines in their form.
fn lines<S>(
    format: Format,
    into_journal: bool,
    writer: NonBlocking,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let json = format == Format::Json;
    if into_journal {
        return layer
            .with_ansi(false)
            .event_format(JournalEntry { json })
            .boxed();
    }
    let prioritised = stderr_is_the_journal();
    match format {
        Format::Json => layer
            .with_ansi(false)
            .event_format(JsonLine { prioritised })
            .boxed(),
        Format::Text if prioritised => layer.with_ansi(false).event_format(PrioritisedLine).boxed(),
        Format::Text => layer
            .with_target(false)
            .with_ansi(crate::cli::wants_colour(&io::stderr()))
            .boxed(),
    }
}

/// What the writer's thread writes to.
struct Output(Box<dyn Write + Send>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The thread that writes log lines. Dropping it writes those that wait.
///
/// Whoever logs never waits for it: standard error may be a pipe to a journal that is stuck, and
/// mail must not be. Lines that find no room are lost, and counted.
#[derive(Debug)]
pub struct Writer {
    lost: Lost,
    limits: Limits,
    _guard: WorkerGuard,
}

impl Writer {
    /// Makes the numbers of lost and suppressed lines known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.lost.clone()));
        registry.register_collector(Box::new(self.limits.clone()));
    }

    /// How many lines strangers may write.
    pub fn limits(&self) -> Limits {
        self.limits.clone()
    }
}

#[derive(Clone, Debug)]
struct Lost {
    /// Lines that found no room in the queue.
    unqueued: ErrorCounter,
    /// Entries that the journal did not take.
    unsent: Arc<AtomicU64>,
}

impl Collector for Lost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lost = self.unqueued.dropped_lines() as u64 + self.unsent.load(Ordering::Relaxed);
        let lost = ConstCounter::new(lost);
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
    use std::sync::Mutex;

    use tracing_subscriber::fmt::format::{DefaultFields, FormatEvent};

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
    fn flood_of_strangers_is_bounded_and_the_operator_is_heard() {
        let written = Written::default();
        let limits = Limits::new(10);
        written.limited(&limits, || {
            for _ in 0..10_000 {
                tracing::info!(name: "bad-input", target: STRANGERS, "bad-input");
                tracing::debug!(name: "bad-input", target: STRANGERS, "bad-input");
            }
            for _ in 0..200 {
                tracing::warn!("store-full");
                tracing::error!("unsaved");
                tracing::info!("reloaded");
            }
        });
        let text = written.text();
        let count = |word: &str| text.lines().filter(|it| it.contains(word)).count();
        // Ten a second of them, for the burst of five seconds and however long the test takes.
        let told = count("bad-input");
        assert!((50..1_000).contains(&told), "{told}");
        for word in ["store-full", "unsaved", "reloaded"] {
            assert_eq!(count(word), 200, "{word}");
        }
        assert_eq!(limits.suppressed(), 10_000 - told as u64);
        let mut registry = Registry::with_prefix("greygate");
        registry.register_collector(Box::new(limits.clone()));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("text");
        let shown = format!(
            "greygate_log_lines_suppressed_total{{word=\"bad-input\"}} {}\n",
            limits.suppressed()
        );
        assert!(page.contains(&shown), "{page}");
    }

    #[test]
    fn what_a_library_says_is_written_at_trace_alone() {
        let said = |level| {
            let written = Written::default();
            let writer = written.clone();
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            let subscriber = tracing_subscriber::registry()
                .with(lines)
                .with(whose(level))
                .with(LevelFilter::from(level));
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "hickory_net::udp", "alice._spf.evil.example does not match");
                tracing::info!(name: "struck", target: STRANGERS, "struck");
                tracing::warn!("store-full");
            });
            let text = written.text();
            assert!(
                text.contains("struck") && text.contains("store-full"),
                "{text}"
            );
            text.contains("alice")
        };
        assert!(!said(Level::Info) && !said(Level::Debug));
        assert!(said(Level::Trace));
    }

    #[test]
    fn suppressed_lines_are_told_in_one_line_now_and_then() {
        let written = Written::default();
        let limits = Limits::new(1);
        let minutes = |minutes: u64| minutes * 60_000_000_000;
        let flood = || {
            for _ in 0..105 {
                tracing::info!(name: "struck", target: STRANGERS, "struck");
            }
        };
        written.limited(&limits, flood);
        written.limited(&limits, || {
            limits.tell_at(minutes(1));
            flood();
            limits.tell_at(minutes(1) + 1);
        });
        let text = written.text();
        let told: Vec<_> = text
            .lines()
            .filter(|it| it.contains("suppressed"))
            .collect();
        assert_eq!(told.len(), 1, "{text}");
        assert!(
            told[0].contains("word=\"struck\" suppressed=100"),
            "{told:?}"
        );
    }

    /// What was written, shared with the subscriber that writes it.
    #[derive(Clone, Default)]
    pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        /// Everything that was written so far.
        pub(super) fn text(&self) -> String {
            let bytes = self.0.lock().expect("no writer panics").clone();
            String::from_utf8(bytes).expect("log lines are text")
        }

        /// Has the events of `run` written in a form.
        pub(super) fn through<F>(&self, form: F, level: Level, run: impl FnOnce())
        where
            F: FormatEvent<tracing_subscriber::Registry, DefaultFields> + Send + Sync + 'static,
        {
            let written = self.clone();
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .event_format(form)
                .with_writer(move || written.clone())
                .with_filter(LevelFilter::from(level));
            let subscriber = tracing_subscriber::registry().with(lines);
            tracing::subscriber::with_default(subscriber, run);
        }

        /// Has those that the limits let through written.
        fn limited(&self, limits: &Limits, run: impl FnOnce()) {
            let written = self.clone();
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || written.clone());
            let subscriber = tracing_subscriber::registry()
                .with(lines)
                .with(limits.clone())
                .with(LevelFilter::INFO);
            tracing::subscriber::with_default(subscriber, run);
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
