//! A rehearsal: what would have become of the mail of a log, had greygate stood there.
//!
//! Knows logs, and the store's entry points; the rules are the engine's own. It touches neither the
//! daemon nor its socket, its files or the kernel.
//!
//! ```text
//! files --reader--> lines --maillog--> events --gather--> mail --replay--> store (one for each end of
//!                                                                           the range, and for what
//!                                                                           the log shows alone)
//! ```
//!
//! What the log shows is replayed by itself. What must be assumed, since the log's host took mail in
//! that greygate would have deferred, is replayed apart, with a retry model's quick and slow end.

mod gather;
mod greylister;
mod html;
pub mod maillog;
mod model;
mod reader;
mod replay;
mod report;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::config::Config;
use crate::policy::{Action, Identity, Timestamp, Who};

pub use html::page;
pub use model::{Model, Queues};
pub use reader::ReadError;
pub use report::{
    Asked, Assumed, Bound, DELAY_CLASS_NAMES, Delays, GivenSentence, Hour, LeftOut, LogFacts,
    Named, Outcome, Ranked, Ranking, Report, Seen, Sentences, Verdicts,
};

use gather::{Fate, Gather, Mail};
use greylister::Greylisters;
use model::End;
use reader::{Cutting, Reader, Reading};
use replay::{Finished, Purpose, Replay};

/// What is to be rehearsed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files of the log, in any order; `-` is standard input.
    pub logs: Vec<PathBuf>,
    /// The file that the configuration is of; [`None`] for the defaults.
    pub config_file: Option<PathBuf>,
    /// The rules, and the store's bounds.
    pub config: Config,
    /// What is assumed of senders.
    pub model: Model,
    /// Only mail from then on.
    pub since: Option<Timestamp>,
    /// Only mail before then.
    pub until: Option<Timestamp>,
    /// The year that stamps without one begin in; [`None`] guesses by when a file was written.
    pub year: Option<i32>,
    /// Seconds that the zone of stamps without one is before UTC.
    pub ahead: i32,
    /// Texts of this site's greylister, beside those that are known.
    pub greylist_texts: Vec<String>,
    /// Whether greygate is taken to have watched for long, so that it judges and blocks.
    pub warmed_up: bool,
    /// The present, for what nobody says when it was written.
    pub now: Timestamp,
}

/// Why there is no report. Nothing is half done then: there is none.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A file cannot be read to its end.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Two files cover the same time.
    #[error(
        "{later} begins before {earlier} ends: rehearse the logs of two hosts one by one, and name no file twice"
    )]
    Overlap {
        /// The one that begins first.
        earlier: String,
        /// The other.
        later: String,
    },
    /// There is nothing in them.
    #[error(
        "no mail was found in {lines} lines: name a log of Postfix with its smtpd and qmgr lines, in the time asked for"
    )]
    NoMail {
        /// How many there were.
        lines: u64,
    },
}

/// Rehearses. `progress` is told how many bytes of the files were read, now and then.
pub fn run(options: &Options, mut progress: impl FnMut(u64)) -> Result<Report, SimulateError> {
    let reading = Reading {
        year: options.year,
        ahead: options.ahead,
        now: options.now,
    };
    let paths = reader::in_order(&options.logs, reading)?;
    let own = options.config.milter.reply.as_str().to_owned();
    let own = own.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    let texts = options.greylist_texts.iter().cloned().chain([own]);
    let milter = &options.config.milter;
    let refusals = [
        &milter.reply_sentenced,
        &milter.reply_refused,
        &milter.reply_denied,
    ];
    // Up to where the contact stands, which is another on another host.
    let refusals = refusals.map(|it| it.as_str().split('{').next().unwrap_or_default().to_owned());
    let mut gather = Gather::new(Greylisters::with(texts).refusing(refusals));
    let mut stage = Stage::new(options);
    let mut log = LogFacts::default();
    let taken = Arc::new(AtomicU64::new(0));
    let mut ends: Option<(String, Timestamp)> = None;
    for path in &paths {
        let mut reader = Reader::open(path, reading, Arc::clone(&taken))?;
        let name = reader.name().to_owned();
        let mut latest: Option<Timestamp> = None;
        loop {
            log.lines += 1;
            if log.lines.is_multiple_of(LINES_TO_A_WORD) {
                progress(taken.load(std::sync::atomic::Ordering::Relaxed));
            }
            match reader.next()? {
                Cutting::Entry(entry) => {
                    if latest.is_none()
                        && let Some((earlier, until)) = &ends
                        && until.since(entry.time) > OVERLAP
                    {
                        return Err(SimulateError::Overlap {
                            earlier: earlier.clone(),
                            later: name,
                        });
                    }
                    latest = latest.max(Some(entry.time));
                    gather.take(&entry, &mut |mail| stage.take(&mail));
                }
                Cutting::Other => log.unknown += 1,
                Cutting::TooLong => log.too_long += 1,
                Cutting::End => break,
            }
        }
        // The end is no line.
        log.lines -= 1;
        log.year_assumed |= reader.is_yearless() && options.year.is_none();
        if let Some(latest) = latest {
            ends = Some((name.clone(), latest));
        }
        log.files.push(name);
    }
    gather.end(&mut |mail| stage.take(&mail));
    log.bytes = taken.load(std::sync::atomic::Ordering::Relaxed);
    progress(log.bytes);
    log.understood = gather.understood;
    log.clock_back = gather.clock_back;
    gather
        .greylisted
        .sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let named = gather.greylisted.iter().map(|(name, count)| Named {
        name: (*name).to_owned(),
        count: *count,
    });
    log.greylisters = named.collect();
    log.shows_greylisting = !log.greylisters.is_empty();
    stage.report(options, log, gather.left_out, gather.bounds)
}

/// The replays, side by side, and what all of them see.
struct Stage<'a> {
    options: &'a Options,
    replays: Option<Replays>,
    seen: Seen,
    outside: u64,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

struct Replays {
    shown: Replay,
    suspected: Replay,
    assumed: Option<(Replay, Replay)>,
}

impl<'a> Stage<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            options,
            replays: None,
            seen: Seen::default(),
            outside: 0,
            since: None,
            until: None,
        }
    }

    fn take(&mut self, mail: &Mail) {
        let options = self.options;
        let is_before = options.since.is_some_and(|since| mail.time < since);
        let is_after = options.until.is_some_and(|until| mail.time >= until);
        if is_before || is_after {
            self.outside += mail.recipients.len() as u64;
            return;
        }
        self.since = self.since.or(Some(mail.time));
        self.until = self.until.max(Some(mail.time));
        self.note(mail);
        let replays = self.replays.get_or_insert_with(|| {
            let replay = |purpose| {
                let config = &options.config;
                Replay::new(
                    purpose,
                    &config.store,
                    &config.policy,
                    mail.time,
                    options.warmed_up,
                )
            };
            let at = |end| replay(Purpose::Assumed(options.model, end));
            Replays {
                shown: replay(Purpose::Shown),
                suspected: replay(Purpose::Suspected),
                assumed: (options.model.queues != Queues::None)
                    .then(|| (at(End::Quick), at(End::Slow))),
            }
        });
        replays.shown.take(mail);
        replays.suspected.take(mail);
        if let Some((quick, slow)) = &mut replays.assumed {
            quick.take(mail);
            slow.take(mail);
        }
    }

    fn note(&mut self, mail: &Mail) {
        let seen = &mut self.seen;
        seen.messages += u64::from(mail.begins_message);
        let count = mail.recipients.len() as u64;
        seen.with_helo += if mail.helo.is_empty() { 0 } else { count };
        let of = |fate| mail.recipients.iter().filter(|it| it.fate == fate).count() as u64;
        seen.rejected_by_postfix += of(Fate::Rejected);
        seen.attempts += count - of(Fate::Rejected);
        seen.greylisted += of(Fate::Greylisted);
        if of(Fate::Accepted) + of(Fate::RefusedBehind) > 0 {
            seen.analysed_messages += 1;
            seen.analysed_bytes += mail.size.unwrap_or(0);
        }
    }

    fn report(
        self,
        options: &Options,
        mut log: LogFacts,
        left_out: LeftOut,
        mut bounds: Vec<Bound>,
    ) -> Result<Report, SimulateError> {
        let Some(replays) = self.replays else {
            return Err(SimulateError::NoMail { lines: log.lines });
        };
        let seconds = |time: Timestamp| time.as_millis() / 1_000;
        log.since = self.since.map(seconds);
        log.until = self.until.map(seconds);
        let mut take = |replay: Replay| -> Finished {
            let finished = replay.end();
            bounds.extend(finished.bounds.iter().copied());
            finished
        };
        let shown = take(replays.shown);
        let suspected = take(replays.suspected);
        let assumed = replays
            .assumed
            .map(|(quick, slow)| (take(quick), take(slow)));
        bounds.sort();
        bounds.dedup();
        let needed = shown.outcome.retry_not_shown;
        let assumed = assumed.filter(|_| needed > 0).map(|(quick, slow)| Assumed {
            model: options.model.queues.as_str().to_owned(),
            recipients: quick
                .outcome
                .retry_not_shown
                .max(slow.outcome.retry_not_shown),
            quick: quick.outcome,
            slow: slow.outcome,
        });
        let known = |it: &GivenSentence| {
            shown
                .sentences
                .iter()
                .any(|given| given.client == it.client)
        };
        let mut only_suspected = suspected.sentences;
        only_suspected.retain(|it| !known(it));
        let sentences = Sentences {
            clients: shown.sentences.len() as u64,
            given: shown
                .sentences
                .iter()
                .take(TOLD_SENTENCES)
                .cloned()
                .collect(),
            suspected_clients: only_suspected.len() as u64,
            suspected: only_suspected.into_iter().take(TOLD_SENTENCES).collect(),
        };
        let policy = &options.config.policy;
        let limits = limits(options, &log, &self.seen, &shown.outcome);
        Ok(Report {
            version: 1,
            asked: Asked {
                config: options
                    .config_file
                    .as_ref()
                    .map(|it| it.display().to_string()),
                mode: policy.mode.as_str().to_owned(),
                delay: policy.delay.as_secs(),
                retry_model: options.model.queues.as_str().to_owned(),
                no_retry_percent: options.model.no_retry,
                warmed_up: options.warmed_up,
            },
            log,
            seen: self.seen,
            left_out: LeftOut {
                outside_period: self.outside,
                ..left_out
            },
            shown: shown.outcome,
            assumed,
            sentences,
            hours: shown.hours,
            limits,
            bounds,
        })
    }
}

/// What the figures are not, as far as this log and these rules are concerned.
fn limits(options: &Options, log: &LogFacts, seen: &Seen, shown: &Outcome) -> Vec<String> {
    let policy = &options.config.policy;
    let mut limits = vec![
        "The store began empty: who is known to a running greygate is new here, so that the first \
         days defer more than later ones. Nor is anybody listed whom `greygate allow` or `deny` added."
            .to_owned(),
    ];
    let mut say = |text: &str| limits.push(text.to_owned());
    if policy.action == Action::Observe {
        say(
            "[greylist] action is observe: nobody is deferred here, either, and what would have been is \
             passed with reason observed. Name a --config with enforce to see what deferring does.",
        );
    }
    if !log.shows_greylisting {
        say(
            "The log shows no greylisting, so it does not show who comes again, and when: every such \
             figure is assumed, by the model that is named.",
        );
    } else if shown.retry_not_shown > 0 {
        say(
            "Some mail was taken in by the log's host that greygate would have deferred: how it comes \
             again is assumed, by the model that is named.",
        );
    }
    if seen.with_helo < seen.attempts {
        say(
            "Postfix logs the HELO argument of refusals alone. Where it is unknown, relay hopping is \
             not seen.",
        );
    }
    say(
        "Postfix logs no SIZE= and no content. Whether a retry seconds later is the same message is \
         not known: such clients are told apart, as suspected.",
    );
    if policy.mode.reads() {
        say(
            "Where greygate would read a message, mail of one sender to one recipient is taken for the \
             same message while the log's greylister has it wait; what was taken in is told by its \
             Message-ID, and comes again from the address it came from.",
        );
    }
    if policy.evidence.who == Who::Suspicious || policy.evidence.identity == Identity::Spf {
        say(
            "Nobody is asked in the DNS: no blocklist, no allowlist and no SPF. Who looks suspicious does so \
             by its name, and by its HELO argument where that is logged.",
        );
    }
    say(
        "Each recipient is judged for itself, at the time its message was begun: what one recipient's \
         answer means for the others of a message is left out.",
    );
    say(
        "The kernel is not rehearsed: a client sentenced to a rate goes on as it did, so that it may \
         come to harder sentences than it would have.",
    );
    say("Sizes are those in the queue, and known of accepted mail alone.");
    if !options.warmed_up {
        say(
            "greygate is taken to begin with the log: it judges nobody in its first minute, and blocks \
             are observed only until [punish] warmup is over (--warmed-up takes it as over).",
        );
    }
    if log.year_assumed {
        say("Stamps without a year were dated by when their file was written (--year names it).");
    }
    if log.clock_back > 0 {
        say("The log's clock went back by minutes at least once; what follows was put behind it.");
    }
    limits
}

/// Lines from one word of progress to the next.
const LINES_TO_A_WORD: u64 = 8_192;
/// Rotation is not sharp to the second.
const OVERLAP: Duration = Duration::from_mins(10);
/// Sentences that are told one by one.
const TOLD_SENTENCES: usize = 1_000;

#[cfg(test)]
mod tests;
