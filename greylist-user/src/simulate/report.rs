//! What a rehearsal says, as plain data: the fields of `--json`, which are added to and never renamed.
//!
//! What the log shows and what is assumed stand in different places, and are never summed up.

use serde::Serialize;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of these fields.
    pub version: u32,
    /// What was asked for.
    pub asked: Asked,
    /// What was read.
    pub log: LogFacts,
    /// What of it was of concern.
    pub seen: Seen,
    /// What was not, and why.
    pub left_out: LeftOut,
    /// What the rules make of the attempts that the log shows.
    pub shown: Outcome,
    /// What they make of them if senders come again as assumed, of whom the log does not say; absent
    /// if nothing had to be assumed, or nothing shall be.
    pub assumed: Option<Assumed>,
    /// Sentences, from attempts that the log shows alone.
    pub sentences: Sentences,
    /// Hour by hour, of attempts that the log shows.
    pub hours: Vec<Hour>,
    /// What these figures are not.
    pub limits: Vec<String>,
    /// Bounds that were reached, by which figures are incomplete.
    pub bounds: Vec<Bound>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The rules' file; absent for the defaults.
    pub config: Option<String>,
    /// The mode of the rules.
    pub mode: String,
    /// Seconds until the retry window opens.
    pub delay: u64,
    /// The retry model.
    pub retry_model: String,
    /// Of a hundred senders, how many are assumed never to come again, at least and at most.
    pub no_retry_percent: (u8, u8),
    /// Whether greygate is taken to have watched for long before.
    pub warmed_up: bool,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// The files, in the order of their times.
    pub files: Vec<String>,
    /// Bytes of them, as they lie there.
    pub bytes: u64,
    /// Lines, or entries of a journal.
    pub lines: u64,
    /// Those that said something of mail.
    pub understood: u64,
    /// Those that are no line of a log of mail.
    pub unknown: u64,
    /// Those longer than the bound, skipped.
    pub too_long: u64,
    /// The first attempt, in seconds since the Unix epoch.
    pub since: Option<u64>,
    /// The last.
    pub until: Option<u64>,
    /// Whether years had to be found for stamps that have none.
    pub year_assumed: bool,
    /// How often the clock went back by minutes; what follows was put behind.
    pub clock_back: u64,
    /// Deferrals by greylisters, by whose words they are.
    pub greylisters: Vec<Named>,
    /// Whether the log shows how senders come again.
    pub shows_greylisting: bool,
}

/// A count with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// What of the log was of concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Messages, taken in or not.
    pub messages: u64,
    /// Recipients named, each time they were.
    pub attempts: u64,
    /// Those of which the log tells the HELO argument.
    pub with_helo: u64,
    /// Those that the log's own greylister deferred.
    pub greylisted: u64,
    /// Messages that were taken in, or refused when they were complete: their content was analysed.
    pub analysed_messages: u64,
    /// Bytes of those whose size is known.
    pub analysed_bytes: u64,
    /// Recipients that Postfix refused for good.
    pub rejected_by_postfix: u64,
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Messages and refusals of submission services, which greygate does not see.
    pub submission: u64,
    /// Recipients refused by postscreen, in front of greygate.
    pub postscreen: u64,
    /// From this host itself, as filters hand mail back.
    pub local: u64,
    /// Refused before a recipient was named.
    pub before_recipient: u64,
    /// Refused by Postfix for now (4yz), or without a status code: greygate makes nothing of it.
    pub refused_for_now: u64,
    /// Messages whose sender or recipients the log does not tell.
    pub recipients_unknown: u64,
    /// Outside of the time asked for.
    pub outside_period: u64,
}

/// What the rules make of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Recipients by the last word on each attempt.
    pub verdicts: Vec<Verdicts>,
    /// Recipients deferred at least once.
    pub deferred: u64,
    /// Deferrals of them.
    pub deferrals: u64,
    /// Recipients that passed at their first attempt.
    pub passed_at_once: u64,
    /// Recipients that passed after they had been deferred.
    pub passed_after: u64,
    /// Refused: sentenced, on a list, or of a bad reputation.
    pub refused: u64,
    /// How long those waited that passed; absent if none did.
    pub delay: Option<Delays>,
    /// Those by length: at most 5 min, 10 min, 30 min, 1 h, 4 h, 12 h, and longer.
    pub delay_classes: Vec<u64>,
    /// Deferred, and not seen again within the retry window.
    pub never_returned: u64,
    /// Deferred, and the log ends before the window does.
    pub still_waiting: u64,
    /// Deferred, while the log's host took them in: how they come again it cannot show.
    pub retry_not_shown: u64,
    /// Later attempts that are in the log, but would not have been made, since the mail had passed.
    pub not_repeated: u64,
    /// Attempts of which greygate would read the message to decide.
    pub read: u64,
    /// Messages that would not have reached content analysis, and did.
    pub saved_messages: u64,
    /// Bytes of those whose size is known.
    pub saved_bytes: u64,
    /// The domains whose mail waits longest, all in all.
    pub delayed_domains: Ranking,
    /// The addresses.
    pub delayed_addresses: Ranking,
    /// The clients deferred most often.
    pub deferred_clients: Ranking,
}

/// Recipients by verdict and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// `passed`, `deferred`, `refused`.
    pub verdict: String,
    /// As in log and metrics.
    pub reason: String,
    /// How many.
    pub attempts: u64,
}

/// A distribution of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Delays {
    /// Of how many.
    pub count: u64,
    /// On average.
    pub mean: u64,
    /// Half of them waited at most this.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// Ninety-nine of a hundred.
    pub p99: u64,
    /// All.
    pub max: u64,
}

/// Who has the most of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ranking {
    /// The first ten.
    pub first: Vec<Ranked>,
    /// All others.
    pub others: Option<Ranked>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// Who; "others" for all others.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Seconds, all in all; 0 where nothing is waited for.
    pub seconds: u64,
    /// Seconds of the longest.
    pub longest: u64,
}

/// A range, by the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// Its name.
    pub model: String,
    /// Recipients of which a retry had to be assumed.
    pub recipients: u64,
    /// Queues come again as soon as they may, and few never do.
    pub quick: Outcome,
    /// They come as late as they may, and many never do.
    pub slow: Outcome,
}

/// Sentences that would have been given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sentences {
    /// Clients sentenced by what the log shows.
    pub clients: u64,
    /// The first of them.
    pub given: Vec<GivenSentence>,
    /// Clients that would be as well, if what came again so soon was the same message, which its
    /// content would tell.
    pub suspected_clients: u64,
    /// The first of them.
    pub suspected: Vec<GivenSentence>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GivenSentence {
    /// Who.
    pub client: String,
    /// The hardest it came to.
    pub level: String,
    /// For what.
    pub reason: String,
    /// When first, in seconds since the Unix epoch.
    pub at: u64,
    /// When the last of them ends.
    pub until: u64,
    /// How often one was given or renewed.
    pub times: u64,
}

/// An hour of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Its beginning, in seconds since the Unix epoch.
    pub at: u64,
    /// Recipients that passed.
    pub passed: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients refused.
    pub refused: u64,
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// More messages under way in the log than are held: some were given on before they were whole.
    Flights,
    /// More hours than are told apart.
    Hours,
    /// More senders or clients than are told apart: the smallest were summed up.
    Ranked,
    /// More retries to assume than are held: some were left out.
    Retries,
    /// More sentenced clients than are told.
    Sentenced,
    /// More sessions under way in the log than are held.
    Sessions,
    /// The store was full: some mail passed without a record.
    Store,
    /// More waiting mail than is followed: of some it is not known how long it waited.
    Waiting,
}

impl Bound {
    /// What it means for the figures.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Flights => "more messages were under way in the log than are held (65,536)",
            Self::Hours => "the log has more hours than are told apart (20,000)",
            Self::Ranked => "there are more senders or clients than are ranked exactly (8,192)",
            Self::Retries => "more retries were to be assumed than are held (500,000)",
            Self::Sentenced => "more clients were sentenced than are told (10,000)",
            Self::Sessions => "more sessions were under way in the log than are held (65,536)",
            Self::Store => "the store was full ([store] capacity): mail passed without a record",
            Self::Waiting => "more mail was waiting at once than is followed (1,000,000)",
        }
    }
}

/// The longest delay of each class but the last, in seconds.
pub(super) const DELAY_CLASSES: [u64; 6] = [300, 600, 1_800, 3_600, 14_400, 43_200];
/// What each class is called.
pub const DELAY_CLASS_NAMES: [&str; 7] = [
    "to 5m", "to 10m", "to 30m", "to 1h", "to 4h", "to 12h", "longer",
];
