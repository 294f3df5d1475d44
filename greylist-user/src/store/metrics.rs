//! What the store counts. No label holds an address or anything else that a client chose.

use std::time::Duration;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::policy::{
    Action, DeferReason, Mode, Offence, Outcome, PassReason, Policy, ReadReason, Record,
    RefuseReason, Verdict,
};

use super::waits::LockWaits;

/// The store's counters and gauges. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    verdicts: Family<VerdictLabels, Counter>,
    /// The members of `verdicts`, so that counting one takes no lock.
    by_place: [Counter; VERDICTS.len()],
    offences: Family<OffenceLabels, Counter>,
    /// The members of `offences`, offence by offence.
    by_outcome: [[Counter; Outcome::ALL.len()]; Offence::ALL.len()],
    /// Clients held of which strikes or AUTH are remembered.
    pub clients: Gauge,
    /// Client networks held of which struck hosts are remembered.
    pub struck_networks: Gauge,
    /// Clients that may be held, and struck networks.
    pub client_capacity: Gauge,
    /// Strikes and AUTH that were not recorded since the table of clients was full.
    pub clients_unrecorded: Counter,
    /// Attempts that passed, and would have had to wait on if the extra delay were not only observed.
    pub would_wait: Counter,
    /// Tuples held.
    pub tuples: Gauge,
    /// Tuples that may be held.
    pub tuple_capacity: Gauge,
    tuples_shed: Family<ShedLabels, Counter>,
    /// The members of `tuples_shed`.
    by_cause: [Counter; Shed::ALL.len()],
    /// Retries that were known by a trace alone, and passed.
    pub traces_retried: Counter,
    /// Traces that made way for newer ones before their time.
    pub traces_replaced: Counter,
    /// Tuples of which the retry window closed before they passed, where waiting has them pass.
    pub tuples_given_up: Counter,
    /// Records of trust held.
    pub trusted: Gauge,
    /// Fingerprints of messages held.
    pub contents: Gauge,
    /// Fingerprints that may be held.
    pub content_capacity: Gauge,
    /// Messages of which the envelope decided since no fingerprint more may be held.
    pub contents_unrecorded: Counter,
    /// Those of which it did since their network has its share.
    pub contents_beyond_share: Counter,
    /// Fingerprints of which the retry window closed before their message passed.
    pub contents_given_up: Counter,
    /// Reverse-paths and recipients held of which mail is pending.
    pub pairs: Gauge,
    /// Those not recorded since too many are.
    pub pairs_unrecorded: Counter,
    /// Records whose addresses are kept.
    pub addresses: Gauge,
    /// Records whose addresses are not, though they should be: no room, or longer than SMTP allows.
    pub addresses_unkept: Counter,
    /// Trust that was not recorded since the store was full.
    pub trust_unrecorded: Counter,
    /// Sentences held.
    pub sentences: Gauge,
    /// Sentences that may be held.
    pub sentence_capacity: Gauge,
    /// Sentences given, not counting those that only lengthened one.
    pub sentences_given: Counter,
    /// Those of them that are not carried out yet: observed, or given before the warm-up is over.
    pub sentences_observed: Counter,
    /// Sentences made longer since the client went on knocking.
    pub sentences_lengthened: Counter,
    /// Sentences not given since the table of sentences was full.
    pub sentences_unrecorded: Counter,
    /// Sentences undone by an operator.
    pub sentences_forgiven: Counter,
    /// Permanent failures remembered.
    pub failures: Gauge,
    /// Permanent failures that were not remembered, or not counted against their client, since too
    /// many are.
    pub failures_unrecorded: Counter,
    /// Client networks with a reputation.
    pub reputations: Gauge,
    /// Counts for or against a network that were not recorded since the table was full.
    pub reputations_unrecorded: Counter,
    /// Attempts from networks with a bad reputation that passed on to the next rung, since that is
    /// only observed.
    pub would_refuse: Counter,
    /// Attempts that the deny list would have refused, were it not only observed.
    pub would_deny: Counter,
    /// Reverse-paths and recipients watched until they pass.
    pub pairs_watched: Gauge,
    /// Those not watched since too many are.
    pub pairs_unwatched: Counter,
    hopping_caught: Family<ActionLabels, Counter>,
    hopping_slowed: Family<ActionLabels, Counter>,
    /// Sightings of the watch for relay hopping that still counted when newer ones took their
    /// place.
    pub hops_displaced: Counter,
    /// HELO arguments remembered for relay hopping.
    pub helos_remembered: Gauge,
    /// HELO arguments that were not remembered since too many are.
    pub helos_unrecorded: Counter,
    /// Effects that did not fit the channel to the kernel filter; reconciliation repairs them.
    pub effects_lost: Counter,
    /// Groups of changes written to the journal.
    pub journal_groups: Counter,
    /// Rows in them.
    pub journal_rows: Counter,
    /// Bytes they take.
    pub journal_bytes: Counter,
    /// How old the oldest change was when the latest group was on the disk; while writing fails, how old
    /// it is. In seconds.
    pub journal_lag: Gauge<f64, AtomicU64>,
    /// How long writing and syncing the latest group took, in seconds.
    pub journal_write: Gauge<f64, AtomicU64>,
    /// Groups that could not be written.
    pub journal_failures: Counter,
    /// Whether the latest could not.
    pub journal_failing: Gauge,
    /// Changes that found no room in the bounded list of those to be written.
    pub journal_overflows: Counter,
    /// Pardons forgotten before their time since there were too many.
    pub pardons_given_up: Counter,
    /// Changes not noted for other hosts since too many were waiting.
    pub outbox_overflows: Counter,
    /// Whether a snapshot is wanted since some did not.
    pub journal_incomplete: Gauge,
    /// Journals replayed at the start.
    pub journal_replayed: Counter,
    /// Lapsed records removed by the sweep.
    pub swept: Counter,
    /// Records looked at by the sweep.
    pub sweep_seen: Counter,
    /// Snapshots written.
    pub snapshots: Counter,
    /// Snapshots that could not be written.
    pub snapshot_failures: Counter,
    /// When the latest snapshot was taken, in seconds since the Unix epoch.
    pub snapshot_taken: Gauge,
    /// How long writing the latest periodic snapshot took, in milliseconds.
    pub snapshot_duration: Gauge,
    /// Length of the latest snapshot, in bytes.
    pub snapshot_size: Gauge,
}

impl Metrics {
    /// Makes the metrics known to `registry`, whose prefix names the program.
    pub fn register(&self, registry: &mut Registry) {
        macro_rules! register {
            ($($metric:ident $help:literal)*) => {
                $(registry.register(stringify!($metric), $help, self.$metric.clone());)*
            };
        }
        register! {
            verdicts "Attempts judged, by verdict and reason"
            offences "Offences of clients, by what became of them"
            clients "Clients held of which strikes or AUTH are remembered"
            struck_networks "Client networks held of which struck hosts are remembered"
            client_capacity "Clients that may be held, and struck networks"
            clients_unrecorded "Strikes and AUTH not recorded since too many clients are held"
            would_wait "Attempts that passed, and would have waited on if the extra delay were enforced"
            tuples "Tuples held"
            tuple_capacity "Tuples that may be held"
            tuples_shed "Tuples that found no place or made way since room was short, by cause"
            traces_retried "Retries of tuples without a place that passed, known by their trace"
            traces_replaced "Traces of tuples without a place that made way for newer ones within four hours"
            tuples_given_up "Tuples whose retry window closed before they passed: they never came back"
            trusted "Senders that have earned trust or are earning it"
            contents "Fingerprints of messages held"
            content_capacity "Fingerprints of messages that may be held"
            contents_unrecorded "Messages decided by their envelope since no more fingerprints may be held"
            contents_beyond_share "Messages decided by their envelope since their network has its share of fingerprints"
            contents_given_up "Fingerprints whose retry window closed before their message passed"
            pairs "Reverse-paths and recipients held of which mail is pending"
            pairs_unrecorded "Reverse-paths and recipients not recorded since too many are"
            addresses "Records whose addresses are kept beside them"
            addresses_unkept "Records whose addresses found no room beside them"
            trust_unrecorded "Passes that earned no trust since the store was full"
            sentences "Sentences held"
            sentence_capacity "Sentences that may be held"
            sentences_given "Sentences given"
            sentences_observed "Sentences given and not carried out: observed, or before the warm-up is over"
            sentences_lengthened "Sentences made longer, once each, since the client went on knocking"
            sentences_unrecorded "Sentences not given since too many are in force"
            sentences_forgiven "Sentences undone by an operator"
            failures "Permanent failures remembered, those of the last hour"
            failures_unrecorded "Permanent failures not remembered since there were too many"
            reputations "Client networks with a reputation"
            reputations_unrecorded "Counts for or against a network not recorded since the table was full"
            would_deny "Attempts that the deny list would have refused, were it not only observed"
            would_refuse "Attempts that a bad reputation would have refused, were it not only observed"
            pairs_watched "Reverse-paths and recipients watched until they pass"
            pairs_unwatched "Reverse-paths and recipients not watched since too many are"
            hopping_caught "Clients caught at relay hopping, by whether anything follows"
            hopping_slowed "Attempts with a HELO argument caught at relay hopping, by whether it adds to their delay"
            hops_displaced "Attempts forgotten by the watch for relay hopping before their time"
            helos_remembered "HELO arguments remembered for relay hopping"
            helos_unrecorded "HELO arguments of relay hopping not remembered since too many are"
            effects_lost "Changes of sentences that reach the kernel only by reconciliation"
            journal_groups "Groups of changes written to the journal"
            journal_rows "Records written to the journal"
            journal_failures "Groups of changes that could not be written to the journal"
            journal_failing "1 while changes cannot be written to the journal"
            journal_overflows "Changes not noted for the journal since too many were waiting"
            pardons_given_up "Pardons forgotten before their time since there were too many"
            outbox_overflows "Changes not noted for the other hosts since too many were waiting"
            journal_incomplete "1 while a snapshot is wanted to make up for what the journal does not have"
            journal_replayed "Journals replayed at the start"
            swept "Lapsed records removed by the sweep"
            sweep_seen "Records looked at by the sweep"
            snapshots "Snapshots written"
            snapshot_failures "Snapshots that could not be written"
        }
        self.register_measures(registry);
    }

    /// What is measured in seconds and bytes.
    fn register_measures(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_lock_wait",
            "How long who judges waited for the lock of a record; most do not wait at all",
            Unit::Seconds,
            LockWaits,
        );
        registry.register(
            "journal_written_bytes",
            "Bytes written to the journal",
            self.journal_bytes.clone(),
        );
        registry.register(
            "journal_lag_seconds",
            "Age of the oldest change when the latest group of the journal was on the disk, or now while writing fails",
            self.journal_lag.clone(),
        );
        registry.register(
            "journal_write_duration_seconds",
            "How long writing and syncing the latest group of the journal took",
            self.journal_write.clone(),
        );
        registry.register(
            "snapshot_taken_timestamp_seconds",
            "When the latest snapshot was taken",
            self.snapshot_taken.clone(),
        );
        registry.register(
            "snapshot_duration_milliseconds",
            "How long writing the latest periodic snapshot took",
            self.snapshot_duration.clone(),
        );
        registry.register(
            "snapshot_size_bytes",
            "Length of the latest snapshot",
            self.snapshot_size.clone(),
        );
    }

    /// Counts a verdict.
    pub(super) fn judged(&self, verdict: Verdict) {
        self.by_place[place(verdict)].inc();
    }

    /// Counts an offence and what became of it.
    pub(super) fn charged(&self, offence: Offence, outcome: Outcome) {
        self.by_outcome[offence as usize][outcome as usize].inc();
    }

    /// Counts a tuple that is shed.
    pub(super) fn shed(&self, cause: Shed) {
        self.by_cause[cause as usize].inc();
    }

    /// How many tuples were shed for `cause`.
    pub fn count_of_shed(&self, cause: Shed) -> u64 {
        self.by_cause[cause as usize].get()
    }

    /// How often `offence` came to `outcome`.
    pub fn count_of_offence(&self, offence: Offence, outcome: Outcome) -> u64 {
        self.by_outcome[offence as usize][outcome as usize].get()
    }

    /// Counts a tuple whose record has lapsed, once: it is removed, or a new life of it begins. Where
    /// greylisting only observes, its mail was not deferred; in content mode no tuple passes.
    pub(super) fn note_lapsed_tuple(&self, policy: &Policy, record: &Record) {
        let must_wait = policy.action == Action::Enforce && policy.mode != Mode::Content;
        if must_wait && !record.has_passed() {
            self.tuples_given_up.inc();
        }
    }

    /// Clients caught at relay hopping, whether anything follows being `action`'s word.
    pub fn hopping_caught(&self, action: Action) -> Counter {
        self.hopping_caught.get_or_create_owned(&action.into())
    }

    /// Attempts with a HELO argument that was caught at it.
    pub fn hopping_slowed(&self, action: Action) -> Counter {
        self.hopping_slowed.get_or_create_owned(&action.into())
    }

    /// How many verdicts are called `word`, for whatever reason.
    pub fn verdicts_called(&self, word: &str) -> u64 {
        let all = VERDICTS.iter().zip(&self.by_place);
        let called = all.filter(|(verdict, _)| verdict.word() == word);
        called.map(|(_, count)| count.get()).sum()
    }

    /// How often `verdict` was given, whatever times it carries.
    pub fn count_of(&self, verdict: Verdict) -> u64 {
        self.by_place[place(verdict)].get()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let verdicts = Family::<VerdictLabels, Counter>::default();
        let by_place = VERDICTS.map(|verdict| {
            verdicts.get_or_create_owned(&VerdictLabels {
                verdict: verdict.word(),
                reason: verdict.reason(),
            })
        });
        let offences = Family::<OffenceLabels, Counter>::default();
        let by_outcome = Offence::ALL.map(|offence| {
            Outcome::ALL.map(|outcome| {
                offences.get_or_create_owned(&OffenceLabels {
                    offence: offence.as_str(),
                    outcome: outcome.as_str(),
                })
            })
        });
        let tuples_shed = Family::<ShedLabels, Counter>::default();
        let by_cause = Shed::ALL.map(|cause| {
            tuples_shed.get_or_create_owned(&ShedLabels {
                cause: cause.as_str(),
            })
        });
        Self {
            verdicts,
            by_place,
            tuples_shed,
            by_cause,
            traces_retried: Counter::default(),
            traces_replaced: Counter::default(),
            offences,
            by_outcome,
            clients: Gauge::default(),
            struck_networks: Gauge::default(),
            client_capacity: Gauge::default(),
            clients_unrecorded: Counter::default(),
            would_wait: Counter::default(),
            tuples: Gauge::default(),
            tuple_capacity: Gauge::default(),
            tuples_given_up: Counter::default(),
            trusted: Gauge::default(),
            contents: Gauge::default(),
            content_capacity: Gauge::default(),
            contents_unrecorded: Counter::default(),
            contents_beyond_share: Counter::default(),
            contents_given_up: Counter::default(),
            pairs: Gauge::default(),
            pairs_unrecorded: Counter::default(),
            addresses: Gauge::default(),
            addresses_unkept: Counter::default(),
            trust_unrecorded: Counter::default(),
            sentences: Gauge::default(),
            sentence_capacity: Gauge::default(),
            sentences_given: Counter::default(),
            sentences_observed: Counter::default(),
            sentences_lengthened: Counter::default(),
            sentences_unrecorded: Counter::default(),
            sentences_forgiven: Counter::default(),
            failures: Gauge::default(),
            failures_unrecorded: Counter::default(),
            reputations: Gauge::default(),
            reputations_unrecorded: Counter::default(),
            would_refuse: Counter::default(),
            would_deny: Counter::default(),
            pairs_watched: Gauge::default(),
            pairs_unwatched: Counter::default(),
            hopping_caught: by_action(),
            hopping_slowed: by_action(),
            hops_displaced: Counter::default(),
            helos_remembered: Gauge::default(),
            helos_unrecorded: Counter::default(),
            effects_lost: Counter::default(),
            journal_groups: Counter::default(),
            journal_rows: Counter::default(),
            journal_bytes: Counter::default(),
            journal_lag: Gauge::default(),
            journal_write: Gauge::default(),
            journal_failures: Counter::default(),
            journal_failing: Gauge::default(),
            journal_overflows: Counter::default(),
            pardons_given_up: Counter::default(),
            outbox_overflows: Counter::default(),
            journal_incomplete: Gauge::default(),
            journal_replayed: Counter::default(),
            swept: Counter::default(),
            sweep_seen: Counter::default(),
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            snapshot_taken: Gauge::default(),
            snapshot_duration: Gauge::default(),
            snapshot_size: Gauge::default(),
        }
    }
}

/// Why a tuple is shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// It never came again for hours, and room was short: its record was removed.
    Age,
    /// There was no room for its record: it left a trace.
    Full,
    /// Its network had its share of what room there was: it left a trace.
    Share,
}

impl Shed {
    const ALL: [Self; 3] = [Self::Age, Self::Full, Self::Share];

    fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Full => "full",
            Self::Share => "share",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OffenceLabels {
    offence: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

impl From<Action> for ActionLabels {
    fn from(action: Action) -> Self {
        Self {
            action: action.as_str(),
        }
    }
}

/// Counters that show a zero, too.
fn by_action() -> Family<ActionLabels, Counter> {
    let family = Family::default();
    for action in [Action::Enforce, Action::Observe] {
        drop(family.get_or_create(&action.into()));
    }
    family
}

/// One of each kind of verdict, in the order that [`place`] gives; their times are of no account.
const VERDICTS: [Verdict; 27] = [
    Verdict::Defer(DeferReason::ContentEarly {
        left: Duration::ZERO,
    }),
    Verdict::Defer(DeferReason::ContentNew),
    Verdict::Defer(DeferReason::Early {
        left: Duration::ZERO,
    }),
    Verdict::Defer(DeferReason::Late),
    Verdict::Defer(DeferReason::New),
    Verdict::Pass(PassReason::Allowed),
    Verdict::Pass(PassReason::Authenticated),
    Verdict::Pass(PassReason::Content {
        waited: Duration::ZERO,
    }),
    Verdict::Pass(PassReason::ContentAgain),
    Verdict::Pass(PassReason::ContentTrusted),
    Verdict::Pass(PassReason::Local),
    Verdict::Pass(PassReason::NoRetry),
    Verdict::Pass(PassReason::Observed),
    Verdict::Pass(PassReason::OptedOut),
    Verdict::Pass(PassReason::Passed),
    Verdict::Pass(PassReason::Persisted {
        waited: Duration::ZERO,
    }),
    Verdict::Pass(PassReason::Trusted),
    Verdict::Pass(PassReason::Unrecorded),
    Verdict::Pass(PassReason::Unsuspicious),
    Verdict::Pass(PassReason::Vouched),
    Verdict::Pass(PassReason::Waited {
        waited: Duration::ZERO,
    }),
    Verdict::Read(ReadReason::Mode),
    Verdict::Read(ReadReason::Probe),
    Verdict::Read(ReadReason::Roaming),
    Verdict::Refuse(RefuseReason::BadReputation { permanently: false }),
    Verdict::Refuse(RefuseReason::Denied { permanently: false }),
    Verdict::Refuse(RefuseReason::Sentenced),
];

/// Where verdicts like `verdict` stand in [`VERDICTS`].
const fn place(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Defer(DeferReason::ContentEarly { .. }) => 0,
        Verdict::Defer(DeferReason::ContentNew) => 1,
        Verdict::Defer(DeferReason::Early { .. }) => 2,
        Verdict::Defer(DeferReason::Late) => 3,
        Verdict::Defer(DeferReason::New) => 4,
        Verdict::Pass(PassReason::Allowed) => 5,
        Verdict::Pass(PassReason::Authenticated) => 6,
        Verdict::Pass(PassReason::Content { .. }) => 7,
        Verdict::Pass(PassReason::ContentAgain) => 8,
        Verdict::Pass(PassReason::ContentTrusted) => 9,
        Verdict::Pass(PassReason::Local) => 10,
        Verdict::Pass(PassReason::NoRetry) => 11,
        Verdict::Pass(PassReason::Observed) => 12,
        Verdict::Pass(PassReason::OptedOut) => 13,
        Verdict::Pass(PassReason::Passed) => 14,
        Verdict::Pass(PassReason::Persisted { .. }) => 15,
        Verdict::Pass(PassReason::Trusted) => 16,
        Verdict::Pass(PassReason::Unrecorded) => 17,
        Verdict::Pass(PassReason::Unsuspicious) => 18,
        Verdict::Pass(PassReason::Vouched) => 19,
        Verdict::Pass(PassReason::Waited { .. }) => 20,
        Verdict::Read(ReadReason::Mode) => 21,
        Verdict::Read(ReadReason::Probe) => 22,
        Verdict::Read(ReadReason::Roaming) => 23,
        Verdict::Refuse(RefuseReason::BadReputation { .. }) => 24,
        Verdict::Refuse(RefuseReason::Denied { .. }) => 25,
        Verdict::Refuse(RefuseReason::Sentenced) => 26,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_offence_under_its_words() {
        for (place, offence) in Offence::ALL.into_iter().enumerate() {
            assert_eq!(offence as usize, place);
        }
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("greygate");
        metrics.register(&mut registry);
        metrics.charged(Offence::RejectedRetries, Outcome::Spared);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text is written");
        let counted = r#"greygate_offences_total{offence="rejected-retries",outcome="spared"} 1"#;
        assert!(text.contains(counted), "{text}");
    }

    #[test]
    fn counts_each_verdict_under_its_words() {
        for (index, verdict) in VERDICTS.into_iter().enumerate() {
            assert_eq!(place(verdict), index, "of {verdict:?}");
        }
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("greygate");
        metrics.register(&mut registry);
        metrics.judged(VERDICTS[2]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text is written");
        let counted = r#"greygate_verdicts_total{verdict="deferred",reason="early"} 1"#;
        assert!(text.contains(counted), "{text}");
        let words = ["deferred", "passed", "read", "refused"];
        assert_eq!(
            words.map(|word| metrics.verdicts_called(word)),
            [1, 0, 0, 0]
        );
        let words = VERDICTS.map(Verdict::word);
        assert!(
            words
                .iter()
                .all(|word| ["deferred", "passed", "read", "refused"].contains(word))
        );
        let uncounted = r#"greygate_verdicts_total{verdict="passed",reason="waited"} 0"#;
        assert!(text.contains(uncounted), "a zero is shown, too");
    }
}
