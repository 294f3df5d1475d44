//! The funnel: how many messages came, and what became of each.
//!
//! A message is one SMTP transaction that named a recipient which was judged, or kept to be judged at
//! DATA. It is counted once, when its transaction ends, under the last that was said of it; so the
//! fates add up to all that were seen. Not seen are transactions of which the MTA itself refused every
//! recipient, those of clients without an address, and what a client tries after its 421.
//!
//! Its bytes are those it announced (`SIZE=`), or those of its headers and body that were read, if
//! they are more: nobody is believed to send less than came, and of most of what is refused nothing
//! comes. One that announced nothing and went unread has none, and is counted as one of no known size.

use std::array;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::policy::{PassReason, RefuseReason};

use super::metrics::Stage;

/// What became of a message.
///
/// Of several recipients that pass, the one whose fate stands last here names that of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The client was told 421: it is sentenced.
    RefusedSentenced,
    /// The operator's deny list names the client or the mail.
    RefusedDenied,
    /// The client's network has a bad reputation.
    RefusedReputation,
    /// Every recipient was deferred at RCPT: nothing of it went further.
    DeferredAtRcpt,
    /// Deferred at DATA.
    DeferredAtData,
    /// Deferred at its end, after it was read.
    DeferredAtEnd,
    /// The client went away, or began anew, before DATA: a probe, or an error elsewhere.
    LeftBeforeData,
    /// It was broken off between DATA and its end.
    LeftInMessage,
    /// Passed: its client is allowed, local or authenticated.
    PassedExempt,
    /// Passed: mail to its recipient is not greylisted.
    PassedOptedOut,
    /// Passed: its sender is listed as one that would not try again.
    PassedNoRetry,
    /// Passed: only who looks suspicious is greylisted, and its client does not.
    PassedUnsuspicious,
    /// Passed: others vouch for its client.
    PassedVouched,
    /// Passed: would have been deferred, were it not only observed.
    PassedObserved,
    /// Passed: there was no room for a record.
    PassedUnrecorded,
    /// Passed: client and sender are trusted.
    PassedTrusted,
    /// Passed: client and sender's domain are trusted for an earlier message's content.
    PassedContentTrusted,
    /// Passed: its tuple has waited, now or before.
    PassedTuple,
    /// Passed: its sender and recipient have been tried so often and so long.
    PassedPersisted,
    /// Passed: the same content was read before.
    PassedContent,
}

impl Fate {
    /// All of them, in their order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::RefusedSentenced,
        Self::RefusedDenied,
        Self::RefusedReputation,
        Self::DeferredAtRcpt,
        Self::DeferredAtData,
        Self::DeferredAtEnd,
        Self::LeftBeforeData,
        Self::LeftInMessage,
        Self::PassedExempt,
        Self::PassedOptedOut,
        Self::PassedNoRetry,
        Self::PassedUnsuspicious,
        Self::PassedVouched,
        Self::PassedObserved,
        Self::PassedUnrecorded,
        Self::PassedTrusted,
        Self::PassedContentTrusted,
        Self::PassedTuple,
        Self::PassedPersisted,
        Self::PassedContent,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::PassedContent as usize + 1;

    /// The word for it in status and metrics: what passed goes on to whatever comes behind greygate.
    pub const fn word(self) -> &'static str {
        match self {
            Self::RefusedSentenced | Self::RefusedDenied | Self::RefusedReputation => "refused",
            Self::DeferredAtRcpt | Self::DeferredAtData | Self::DeferredAtEnd => "deferred",
            Self::LeftBeforeData | Self::LeftInMessage => "left",
            _ => "passed",
        }
    }

    /// The word for where it met that fate, or by what.
    pub const fn by(self) -> &'static str {
        match self {
            Self::RefusedSentenced => "sentence",
            Self::RefusedDenied => "deny",
            Self::RefusedReputation => "reputation",
            Self::DeferredAtRcpt => Stage::Rcpt.word(),
            Self::DeferredAtData => Stage::Data.word(),
            Self::DeferredAtEnd => Stage::EndOfMessage.word(),
            Self::LeftBeforeData => "before_data",
            Self::LeftInMessage => "in_message",
            Self::PassedExempt => "exempt",
            Self::PassedOptedOut => "opted_out",
            Self::PassedNoRetry => "no_retry",
            Self::PassedUnsuspicious => "unsuspicious",
            Self::PassedVouched => "vouched",
            Self::PassedObserved => "observed",
            Self::PassedUnrecorded => "unrecorded",
            Self::PassedTrusted => "trust",
            Self::PassedContentTrusted => "content_trust",
            Self::PassedTuple => "tuple",
            Self::PassedPersisted => "persistence",
            Self::PassedContent => "content",
        }
    }

    /// Of a message whose only recipient passes for `reason`.
    pub(super) const fn of(reason: PassReason) -> Self {
        match reason {
            PassReason::Allowed | PassReason::Authenticated | PassReason::Local => {
                Self::PassedExempt
            }
            PassReason::NoRetry => Self::PassedNoRetry,
            PassReason::Unsuspicious => Self::PassedUnsuspicious,
            PassReason::Vouched => Self::PassedVouched,
            PassReason::Observed => Self::PassedObserved,
            PassReason::OptedOut => Self::PassedOptedOut,
            PassReason::Unrecorded => Self::PassedUnrecorded,
            PassReason::Trusted => Self::PassedTrusted,
            PassReason::ContentTrusted => Self::PassedContentTrusted,
            PassReason::Passed | PassReason::Waited { .. } => Self::PassedTuple,
            PassReason::Persisted { .. } => Self::PassedPersisted,
            PassReason::Content { .. } | PassReason::ContentAgain => Self::PassedContent,
        }
    }
}

/// Messages, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Their bytes, as announced or read.
    pub bytes: u64,
}

/// Messages by their fate. The counters are kept beside their families: finding one there would take
/// a lock.
#[derive(Clone, Debug)]
pub struct Funnel {
    messages: Family<FateLabels, Counter>,
    bytes: Family<FateLabels, Counter>,
    by_fate: [Tallied; Fate::COUNT],
    unsized_messages: Counter,
}

impl Funnel {
    /// Registers everything; the registry's prefix is the milter's.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "messages",
            "Messages, by what became of them",
            self.messages.clone(),
        );
        registry.register(
            "message_bytes",
            "Bytes of messages, as announced or read, by what became of them",
            self.bytes.clone(),
        );
        registry.register(
            "messages_unsized",
            "Messages that announced no size and were not read",
            self.unsized_messages.clone(),
        );
    }

    /// Counts a message whose transaction has ended, if it was one.
    pub(super) fn count(&self, course: &Course) {
        let Some(fate) = course.fate else {
            return;
        };
        let tallied = &self.by_fate[fate as usize];
        tallied.messages.inc();
        match course.bytes() {
            0 => self.unsized_messages.inc(),
            bytes => tallied.bytes.inc_by(bytes),
        };
    }

    /// What was counted under each fate.
    pub fn tallies(&self) -> [(Fate, Tally); Fate::COUNT] {
        Fate::ALL.map(|fate| {
            let Tallied { messages, bytes } = &self.by_fate[fate as usize];
            let tally = Tally {
                messages: messages.get(),
                bytes: bytes.get(),
            };
            (fate, tally)
        })
    }

    /// Messages of no known size.
    pub fn unsized_messages(&self) -> u64 {
        self.unsized_messages.get()
    }
}

impl Default for Funnel {
    fn default() -> Self {
        let messages = Family::<FateLabels, Counter>::default();
        let bytes = Family::<FateLabels, Counter>::default();
        let by_fate = array::from_fn(|index| {
            let labels = FateLabels {
                fate: Fate::ALL[index].word(),
                by: Fate::ALL[index].by(),
            };
            Tallied {
                messages: messages.get_or_create_owned(&labels),
                bytes: bytes.get_or_create_owned(&labels),
            }
        });
        Self {
            messages,
            bytes,
            by_fate,
            unsized_messages: Counter::default(),
        }
    }
}

/// What is known so far of the message of one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    announced: u64,
    read: u64,
    /// What it would be counted under if it ended here; [`None`] while nothing was judged.
    fate: Option<Fate>,
}

impl Course {
    /// Of a message that announced `size`, 0 if none.
    pub(super) fn announcing(size: u64) -> Self {
        Self {
            announced: size,
            ..Self::default()
        }
    }

    /// A recipient goes on to DATA, whatever was said of it.
    pub(super) fn goes_on(&mut self) {
        if self.fate != Some(Fate::DeferredAtData) {
            self.fate = Some(Fate::LeftBeforeData);
        }
    }

    /// Headers and body are to come.
    pub(super) fn goes_on_to_its_end(&mut self) {
        self.becomes(Fate::LeftInMessage);
    }

    /// More of it came.
    pub(super) fn read(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes as u64);
    }

    /// Deferred at `stage`; at RCPT that is one recipient, and the others may go on.
    pub(super) fn is_deferred(&mut self, stage: Stage) {
        match stage {
            Stage::Rcpt => {
                self.fate.get_or_insert(Fate::DeferredAtRcpt);
            }
            Stage::Data => self.becomes(Fate::DeferredAtData),
            Stage::EndOfMessage => self.becomes(Fate::DeferredAtEnd),
        }
    }

    /// Refused: the client, and so the message.
    pub(super) fn is_refused(&mut self, reason: RefuseReason) {
        self.fate = Some(match reason {
            RefuseReason::Denied { .. } => Fate::RefusedDenied,
            RefuseReason::BadReputation { .. } => Fate::RefusedReputation,
            RefuseReason::Sentenced => Fate::RefusedSentenced,
        });
    }

    /// Let through, `by` what its recipients pass; [`None`] if none of them was judged.
    pub(super) fn passes(&mut self, by: Option<Fate>) {
        self.becomes(by.unwrap_or(Fate::PassedUnrecorded));
    }

    /// What is said of the message as a whole counts if any of it was judged.
    fn becomes(&mut self, fate: Fate) {
        self.fate = self.fate.map(|_| fate);
    }

    fn bytes(&self) -> u64 {
        self.announced.max(self.read).min(MOST_BYTES)
    }
}

#[derive(Clone, Debug)]
struct Tallied {
    messages: Counter,
    bytes: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabels {
    fate: &'static str,
    by: &'static str,
}

/// More than any MTA takes: a client may announce what it likes, and the sum shall mean something.
const MOST_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn counted(course: Course) -> Vec<(Fate, Tally)> {
        let funnel = Funnel::default();
        funnel.count(&course);
        let counted = |(_, tally): &(Fate, Tally)| tally.messages > 0;
        funnel.tallies().into_iter().filter(counted).collect()
    }

    fn fate(course: Course) -> Option<Fate> {
        let counted = counted(course);
        assert!(counted.len() < 2, "{counted:?}");
        counted.first().map(|(fate, _)| *fate)
    }

    #[test]
    fn fates_are_listed_in_their_order_and_told_apart() {
        let mut labels = Vec::new();
        for (index, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, index);
            labels.push((fate.word(), fate.by()));
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Fate::COUNT);
    }

    #[test]
    fn nothing_is_a_message_before_a_recipient_is_judged() {
        let mut course = Course::announcing(1_000);
        assert_eq!(fate(course), None);
        course.goes_on_to_its_end();
        course.passes(Some(Fate::PassedExempt));
        assert_eq!(fate(course), None);
    }

    #[test]
    fn deferral_at_rcpt_counts_when_nothing_went_further() {
        let mut course = Course::default();
        course.is_deferred(Stage::Rcpt);
        assert_eq!(fate(course), Some(Fate::DeferredAtRcpt));
        course.goes_on();
        course.is_deferred(Stage::Rcpt);
        assert_eq!(fate(course), Some(Fate::LeftBeforeData));
        course.is_deferred(Stage::Data);
        course.goes_on();
        assert_eq!(fate(course), Some(Fate::DeferredAtData), "its last answer");
    }

    #[test]
    fn bytes_are_announced_or_read_whichever_is_more_and_bounded() {
        for (announced, read, expected) in [
            (1_000, 10, 1_000),
            (10, 1_000, 1_000),
            (u64::MAX, 0, MOST_BYTES),
        ] {
            let mut course = Course::announcing(announced);
            course.goes_on();
            course.read(read);
            let tally = Tally {
                messages: 1,
                bytes: expected,
            };
            assert_eq!(counted(course), [(Fate::LeftBeforeData, tally)]);
        }
        let funnel = Funnel::default();
        let mut course = Course::default();
        course.goes_on();
        funnel.count(&course);
        assert_eq!(funnel.unsized_messages(), 1);
    }

    proptest! {
        /// Whatever is said in whatever order: one message, one fate, and all of its bytes.
        #[test]
        fn every_message_is_counted_once(courses in vec((0_u64..10_000, vec(0..8_u8, 0..12)), 0..30)) {
            let funnel = Funnel::default();
            let (mut seen, mut bytes) = (0, 0);
            for (announced, steps) in courses {
                let mut course = Course::announcing(announced);
                for step in &steps {
                    match step {
                        0 => course.goes_on(),
                        1 => course.is_deferred(Stage::Rcpt),
                        2 => course.goes_on_to_its_end(),
                        3 => course.is_deferred(Stage::Data),
                        4 => course.is_deferred(Stage::EndOfMessage),
                        5 => course.is_refused(RefuseReason::Sentenced),
                        6 => course.passes(Some(Fate::PassedTuple)),
                        _ => course.read(7),
                    }
                }
                if steps.iter().any(|step| matches!(step, 0 | 1 | 5)) {
                    seen += 1;
                    let read = steps.iter().map(|step| u64::from(*step / 7) * 7).sum();
                    bytes += announced.max(read);
                }
                funnel.count(&course);
            }
            let tallies = funnel.tallies().map(|(_, tally)| tally);
            prop_assert_eq!(tallies.iter().map(|it| it.messages).sum::<u64>(), seen);
            prop_assert_eq!(tallies.iter().map(|it| it.bytes).sum::<u64>(), bytes);
        }
    }
}
