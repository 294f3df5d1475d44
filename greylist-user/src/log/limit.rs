//! How many lines strangers may write: so many a second of each word, and what is beyond is counted.
//!
//! An event that strangers can bring about carries the target [`STRANGERS`] and its word as its name.
//! What is for the operator carries neither, and always gets through; so does all that is asked for
//! at debug, which the bounded queue of the writer keeps from piling up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio::time::Instant;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The target of events that strangers can bring about as often as they like.
pub const STRANGERS: &str = "strangers";

/// The limit on each word. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    pace: Option<Pace>,
    buckets: [Bucket; WORDS.len()],
    /// When suppressed lines were last told of, in nanoseconds since `begun`.
    told: AtomicU64,
}

impl Limits {
    /// Lets through so many lines a second of each word, and [`BURST`] seconds' worth at once; 0 is no
    /// limit.
    pub(super) fn new(rate: u32) -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            pace: Pace::of(rate),
            buckets: [const { Bucket::new() }; WORDS.len()],
            told: AtomicU64::new(0),
        }))
    }

    /// Tells in one line a word how many lines were suppressed, now and then; asked once a second or so.
    pub fn tell(&self) {
        self.tell_at(self.now());
    }

    pub(super) fn tell_at(&self, now: u64) {
        let told = self.0.told.load(Ordering::Relaxed);
        if now < told + nanos(TOLD_EVERY) {
            return;
        }
        self.0.told.store(now, Ordering::Relaxed);
        for (word, bucket) in WORDS.iter().zip(&self.0.buckets) {
            let suppressed = bucket.untold.swap(0, Ordering::Relaxed);
            if suppressed > 0 {
                tracing::info!(word, suppressed, "suppressed");
            }
        }
    }

    /// Lines suppressed since the start, of all words.
    pub fn suppressed(&self) -> u64 {
        let all = self.0.buckets.iter();
        all.map(|it| it.suppressed.load(Ordering::Relaxed)).sum()
    }

    /// Whether one more line with this word is written at `now`.
    fn admits(&self, word: &str, now: u64) -> bool {
        let Some(pace) = &self.0.pace else {
            return true;
        };
        // A word that is not in the table is one's own mistake, which a test finds.
        let index = WORDS.binary_search(&word).ok();
        index.is_none_or(|index| self.0.buckets[index].admits(pace, now))
    }

    fn now(&self) -> u64 {
        nanos(self.0.begun.elapsed())
    }
}

impl<S: Subscriber> Layer<S> for Limits {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        metadata.target() != STRANGERS
            || *metadata.level() > Level::INFO
            || self.admits(metadata.name(), self.now())
    }
}

impl Collector for Limits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Log lines left out since strangers had caused too many of their word, by word";
        let mut family =
            encoder.encode_descriptor("log_lines_suppressed", help, None, MetricType::Counter)?;
        for (word, bucket) in WORDS.iter().zip(&self.0.buckets) {
            let count = ConstCounter::new(bucket.suppressed.load(Ordering::Relaxed));
            count.encode(family.encode_family(&[("word", *word)])?)?;
        }
        Ok(())
    }
}

/// How fast a bucket fills, and how full it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Nanoseconds that one line costs.
    line: u64,
    /// Nanoseconds that may be owed.
    burst: u64,
}

impl Pace {
    /// One a second, and five at once.
    pub(super) const EACH_SECOND: Self = Self {
        line: SECOND,
        burst: BURST.as_secs() * SECOND,
    };

    fn of(rate: u32) -> Option<Self> {
        (rate > 0).then(|| Self {
            line: SECOND / u64::from(rate),
            burst: nanos(BURST),
        })
    }
}

/// A token bucket in one number: until when the lines written so far are paid for.
#[derive(Debug)]
pub(super) struct Bucket {
    paid_until: AtomicU64,
    suppressed: AtomicU64,
    /// Those of them that were not told of yet.
    untold: AtomicU64,
}

impl Bucket {
    pub(super) const fn new() -> Self {
        Self {
            paid_until: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        }
    }

    pub(super) fn admits(&self, pace: &Pace, now: u64) -> bool {
        let next = |paid_until: u64| {
            let next = paid_until.max(now) + pace.line;
            (next <= now + pace.burst).then_some(next)
        };
        let paid = self
            .paid_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if paid.is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        paid.is_ok()
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The words that strangers can have written at info or above, in the order of their letters.
const WORDS: [&str; 18] = [
    "bad-input",
    "bad-reputation",
    "caught",
    "connection-timed-out",
    "connections-calm",
    "connections-near-cap",
    "deferred",
    "passed",
    "punished",
    "refused",
    "session-cut",
    "session-panicked",
    "struck",
    "turned-away",
    "unpermitted",
    "would-catch",
    "would-punish",
    "would-strike",
];

/// Seconds' worth of lines that may come at once: a delivery round of a mailing list, not a flood.
const BURST: Duration = Duration::from_secs(5);
/// Least time between two tellings of what was suppressed.
const TOLD_EVERY: Duration = Duration::from_secs(10);
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn flood_writes_a_burst_and_then_its_rate() {
        let limits = Limits::new(100);
        let at = |second: u64| second * SECOND;
        for word in WORDS {
            let admitted = |now| (0..10_000).filter(|_| limits.admits(word, now)).count();
            assert_eq!(
                admitted(at(1)),
                500,
                "five seconds' worth at once of {word}"
            );
            assert_eq!(admitted(at(2)), 100);
            assert_eq!(admitted(at(3) + SECOND / 2), 150);
            assert_eq!(admitted(at(1_000)), 500, "never more than the burst");
        }
        let each = 4 * 10_000 - 1_250;
        assert_eq!(limits.suppressed(), each * WORDS.len() as u64);
    }

    #[test]
    fn flood_of_one_word_leaves_the_others_alone() {
        let limits = Limits::new(1);
        while limits.admits("bad-input", 0) {}
        assert!(limits.admits("struck", 0));
        assert!(!limits.admits("bad-input", 0));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limits = Limits::new(0);
        assert!((0..100_000).all(|_| limits.admits("deferred", 0)));
        assert_eq!(limits.suppressed(), 0);
    }

    #[test]
    fn words_are_in_order_so_that_each_is_found() {
        assert!(WORDS.is_sorted());
    }

    /// The rooms that strangers reach, read as they stand here: each line at info or above is under the
    /// limit with its own word, or is on the list of those that only operators and the system cause.
    #[test]
    fn every_line_of_the_rooms_that_strangers_reach_is_limited_or_for_the_operator() {
        let mut limited = BTreeSet::new();
        let mut own = BTreeSet::new();
        for file in sources(&["milter", "store", "admin"]) {
            let text = fs::read_to_string(&file).expect("a source file");
            for (level, event) in events(&text) {
                let word = last_literal(&event);
                if event.contains("STRANGERS") {
                    let named = format!("name: \"{word}\"");
                    assert!(event.contains(&named), "{}: {event}", file.display());
                    if level != "debug" {
                        limited.insert(word);
                    }
                } else if level != "debug" {
                    own.insert(word);
                }
            }
        }
        // What the milter says of a verdict is put together by a macro.
        limited.extend(["deferred", "passed", "turned-away"].map(str::to_owned));
        let table: BTreeSet<_> = WORDS.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(limited, table);
        let for_operators: BTreeSet<_> = FOR_OPERATORS.iter().map(|it| (*it).to_owned()).collect();
        let unlimited: Vec<_> = own.difference(&for_operators).collect();
        assert!(unlimited.is_empty(), "who causes these? {unlimited:?}");
    }

    /// Each word of every room, and none that is gone.
    #[test]
    fn manual_of_operations_explains_every_word() {
        let manual = include_str!("../../../docs/operations.md");
        let (_, section) = manual
            .split_once("## What the log says")
            .expect("the manual has the section");
        let (section, _) = section.split_once("\n#").expect("it is not the last");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let explained: BTreeSet<_> = rows
            .filter_map(|row| row.split_once(" | "))
            .flat_map(|(words, _)| words.split(", "))
            .map(|word| word.trim_matches('`').to_owned())
            .collect();

        let mut said: BTreeSet<_> = WORDS.iter().map(|it| (*it).to_owned()).collect();
        // It is put together by the macro that the verdicts are.
        said.insert("read".to_owned());
        for file in sources(&[""]) {
            let text = fs::read_to_string(&file).expect("a source file");
            let within = file
                .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                .unwrap_or(&file);
            let mut folders = within.components();
            let is_test = file.ends_with("tests.rs") || folders.any(|it| it.as_os_str() == "tests");
            let text = text.split("#[cfg(test)]\nmod tests {").next();
            for (_, event) in events(text.filter(|_| !is_test).unwrap_or_default()) {
                said.extend(
                    [last_literal(&event)]
                        .into_iter()
                        .filter(|it| !it.is_empty()),
                );
            }
        }
        let unexplained: Vec<_> = said.difference(&explained).collect();
        assert!(unexplained.is_empty(), "{unexplained:?}");
        let gone: Vec<_> = explained.difference(&said).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }

    /// Causes: the operator, the system, or a bug; or edges that a thread looks for once a second.
    const FOR_OPERATORS: [&str; 31] = [
        "accept-failed", // at most every ten seconds
        "accept-panicked",
        "backlog-lost",
        "contents-full",
        "contents-have-room",
        "descriptors-short",
        "forgiven",
        "handed-over-unnamed",
        "handed-over-unusable",
        "journal-cut",
        "journal-failing", // once, until it works again
        "journal-missing",
        "journal-works",
        "journald-missing",
        "listening",
        "open-directory",
        "open-seed",
        "ordered",
        "panicked",
        "restoring", // at most every five seconds of a start
        "set-aside",
        "snapshot-failed",
        "socket-file-left",
        "socket-group",
        "store-full",
        "store-has-room",
        "unaccepted",
        "unknown-user",
        "unsaved",
        "worker-panicked",
        "suppressed",
    ];

    fn sources(rooms: &[&str]) -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders: Vec<_> = rooms.iter().map(|room| root.join(room)).collect();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a room").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    /// The macro calls that write a line, with their level.
    fn events(text: &str) -> Vec<(&'static str, String)> {
        let mut events = Vec::new();
        for level in ["error", "warn", "info", "debug"] {
            let call = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&call) {
                let rest = &text[at + call.len()..];
                let end = end_of_call(rest);
                events.push((level, rest[..end].to_owned()));
            }
        }
        events
    }

    fn end_of_call(text: &str) -> usize {
        let mut depth = 1;
        for (at, character) in text.char_indices() {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        text.len()
    }

    fn last_literal(event: &str) -> String {
        let mut parts = event.rsplit('"');
        parts.next();
        parts.next().unwrap_or_default().to_owned()
    }
}
