//! What is remembered of a message by its fingerprint, and when it passes for that.
//!
//! A message that comes again, byte for byte and with the same Message-ID, reverse-path and
//! recipient, is queued somewhere: worms and bots that give up after DATA do not do that. So it
//! passes from any network, once [`ContentRules::delay`] has gone by since it was first read. The
//! first-seen time is never moved by an early retry, so that who retries each minute passes for any
//! delay.
//!
//! **A passed fingerprint is spent**: for [`ContentRules::repeat`] it is accepted again, since a
//! sender may have split the recipients, or not have heard the answer. Then it is new: it waits its
//! delay again, and earns no trust any more. So a template that is sent for ever passes for some
//! minutes at a time, and makes one client trusted. It is remembered for a retry window after it
//! passed, so that a pause of an hour does not make it a first one again.
//!
//! Knows nothing of tuples and pairs, see `record` and `pair`, nor of bytes, see `fingerprint`.
//!
//! [`ContentRules::delay`]: super::ContentRules::delay
//! [`ContentRules::repeat`]: super::ContentRules::repeat

use std::time::Duration;

use super::Attempt;
use super::fingerprint::Fingerprint;
use super::rules::{Action, Mode, Policy};
use super::time::{Second, Timestamp};
use super::tuple::NetworkMark;
use super::verdict::{DeferReason, PassReason, ReadReason, Verdict};

/// The facts about one message to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRecord {
    /// When it was first read in this life. An early retry never moves it.
    pub first_seen: Timestamp,
    /// When it was read last.
    pub last_seen: Second,
    /// When it first passed in this life; [`Second::NEVER`] while it is pending.
    pub passed: Second,
    /// Times it was read in this life, the first included.
    pub attempts: u16,
    /// Times it passed in this life.
    pub passes: u16,
    /// Counts the lives: a reading after the record has lapsed begins the next one.
    pub life: u16,
    /// The network that began this life: whose share of the room it takes.
    pub network: NetworkMark,
}

/// Where the record of a message stands at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentStanding {
    /// It may pass after `left`.
    Early {
        /// Time until it may.
        left: Duration,
    },
    /// It may pass.
    InWindow {
        /// From when it was first read to now.
        waited: Duration,
    },
    /// The record is void: the retry window closed.
    Lapsed,
    /// It has passed, and may again.
    Passed,
    /// It has passed, and may no more. It is as good as new, but not the first of its kind.
    Spent,
}

impl ContentRecord {
    /// The record of a message that was first read at `now`, in the given life, from `network`.
    pub fn begun(life: u16, network: NetworkMark, now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_seen: now.into(),
            passed: Second::NEVER,
            attempts: 1,
            passes: 0,
            life,
            network,
        }
    }

    /// The record after the message was read at `now`, coming from `network`.
    #[must_use]
    pub fn read(
        prior: Option<&Self>,
        policy: &Policy,
        network: NetworkMark,
        now: Timestamp,
    ) -> Self {
        match prior {
            None => Self::begun(1, network, now),
            Some(prior) if prior.standing(policy, now).is_over() => {
                Self::begun(prior.life.saturating_add(1), network, now)
            }
            Some(prior) => Self {
                last_seen: prior.last_seen.max(now.into()),
                attempts: prior.attempts.saturating_add(1),
                ..*prior
            },
        }
    }

    /// Notes that the message passes at `now`. Says whether it is the first time as far as anybody
    /// remembers: in a later life the same was sent before, to pass or to be given up.
    pub fn note_pass(&mut self, now: Timestamp) -> bool {
        let is_pending = self.passed == Second::NEVER;
        if is_pending {
            self.passed = now.into();
        }
        self.passes = self.passes.saturating_add(1);
        is_pending && self.life == 1
    }

    /// Where the record stands at `now`: the one definition, for look-up, sweep and listing.
    pub fn standing(&self, policy: &Policy, now: Timestamp) -> ContentStanding {
        let rules = &policy.content;
        // A clock that was wrong and then set back leaves records from the future. Nobody shall
        // wait, nor pass, until the future is reached again.
        let is_ahead = self.first_seen > now.after(rules.delay)
            || Timestamp::from(self.passed) > now.after(rules.repeat);
        if is_ahead || now >= self.lapses(policy) {
            return ContentStanding::Lapsed;
        }
        if self.passed != Second::NEVER {
            let repeated_until = Timestamp::from(self.passed).after(rules.repeat);
            return if now < repeated_until {
                ContentStanding::Passed
            } else {
                ContentStanding::Spent
            };
        }
        let waited = now.since(self.first_seen);
        match rules.delay.checked_sub(waited) {
            Some(left) if !left.is_zero() => ContentStanding::Early { left },
            _ => ContentStanding::InWindow { waited },
        }
    }

    /// Whether the record is void at `now`.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.standing(policy, now) == ContentStanding::Lapsed
    }

    /// When the record lapses, whatever more is heard of its message.
    pub fn lapses(&self, policy: &Policy) -> Timestamp {
        if self.passed == Second::NEVER {
            self.first_seen.after(policy.retry_window)
        } else {
            let remembered = policy.retry_window.max(policy.content.repeat);
            Timestamp::from(self.passed).after(remembered)
        }
    }

    /// One record out of two of the same message: the higher life wins; within one life first-seen,
    /// and who began, are of the one that began first, all else is the larger.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let (first_seen, network) =
            (self.first_seen, self.network).min((other.first_seen, other.network));
        Self {
            first_seen,
            network,
            last_seen: self.last_seen.max(other.last_seen),
            passed: self.passed.max(other.passed),
            attempts: self.attempts.max(other.attempts),
            passes: self.passes.max(other.passes),
            life: self.life,
        }
    }
}

impl ContentStanding {
    /// Whether a message that is read now begins a new life of its record.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Lapsed | Self::Spent)
    }

    /// What a message deserves that is read when its record stands here, `prior` to that reading.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Early { left } => Verdict::Defer(DeferReason::ContentEarly { left }),
            Self::InWindow { waited } => Verdict::Pass(PassReason::Content { waited }),
            Self::Lapsed | Self::Spent => Verdict::Defer(DeferReason::ContentNew),
            Self::Passed => Verdict::Pass(PassReason::ContentAgain),
        }
    }
}

/// Why the message of `attempt` is to be read before it can be deferred, if so: its sender and
/// recipient have been `roaming` from network to network, for one.
///
/// While greylisting only observes nothing is read: what was let through does not come again.
pub fn reads(policy: &Policy, attempt: &Attempt<'_>, roaming: bool) -> Option<ReadReason> {
    if policy.action == Action::Observe {
        return None;
    }
    match policy.mode {
        Mode::Envelope => None,
        Mode::Content => Some(ReadReason::Mode),
        Mode::Hybrid if policy.is_probe_sender(attempt.reverse_path) => Some(ReadReason::Probe),
        Mode::Hybrid => roaming.then_some(ReadReason::Roaming),
    }
}

/// Many are held: a field that makes the entry larger is a decision, not an accident.
const _: () = assert!(size_of::<(Fingerprint, ContentRecord)>() <= 40);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::{ATTEMPT, T0};

    const HERE: NetworkMark = NetworkMark::from_bits(1);
    const THERE: NetworkMark = NetworkMark::from_bits(2);

    fn after(seconds: u64) -> Timestamp {
        T0.after(Duration::from_secs(seconds))
    }

    fn delaying(seconds: u64) -> Policy {
        let mut policy = Policy::default();
        policy.content.delay = Duration::from_secs(seconds);
        policy
    }

    /// What is answered when the message is read `seconds` after the story began; what passes is
    /// noted.
    fn reads_at(record: &mut Option<ContentRecord>, policy: &Policy, seconds: u64) -> Verdict {
        let now = after(seconds);
        let standing = record.map_or(ContentStanding::Lapsed, |it| it.standing(policy, now));
        let mut next = ContentRecord::read(record.as_ref(), policy, HERE, now);
        if matches!(standing.verdict(), Verdict::Pass(_)) {
            next.note_pass(now);
        }
        *record = Some(next);
        standing.verdict()
    }

    #[test]
    fn retrier_each_minute_passes_for_a_delay_of_a_minute_and_of_a_second_more() {
        for (delay, passes) in [(60, 60), (61, 120), (90, 120), (600, 600)] {
            let policy = delaying(delay);
            let mut record = None;
            let first = (0..=20)
                .map(|minute| 60 * minute)
                .find(|&at| matches!(reads_at(&mut record, &policy, at), Verdict::Pass(_)));
            assert_eq!(first, Some(passes), "a delay of {delay} s");
            assert_eq!(record.map(|it| it.first_seen), Some(T0), "never moved");
        }
    }

    #[test]
    fn early_reading_says_what_is_left() {
        let policy = Policy::default();
        let mut record = None;
        let new = Verdict::Defer(DeferReason::ContentNew);
        assert_eq!(reads_at(&mut record, &policy, 0), new);
        let left = Duration::from_secs(1);
        let early = Verdict::Defer(DeferReason::ContentEarly { left });
        assert_eq!(reads_at(&mut record, &policy, 59), early);
        let waited = Duration::from_mins(1);
        let passes = Verdict::Pass(PassReason::Content { waited });
        assert_eq!(reads_at(&mut record, &policy, 60), passes);
    }

    #[test]
    fn passed_message_is_spent_after_its_minutes_and_new_then() {
        let policy = Policy::default();
        let mut record = None;
        for at in [0, 60] {
            reads_at(&mut record, &policy, at);
        }
        let again = Verdict::Pass(PassReason::ContentAgain);
        let new = Verdict::Defer(DeferReason::ContentNew);
        assert_eq!(reads_at(&mut record, &policy, 61), again);
        assert_eq!(reads_at(&mut record, &policy, 60 + 599), again);
        assert_eq!(reads_at(&mut record, &policy, 60 + 600), new);
        let record = record.expect("it was read");
        assert_eq!(
            record,
            ContentRecord::begun(2, HERE, after(660)),
            "nothing of the first life is left"
        );
    }

    #[test]
    fn only_the_first_pass_of_all_is_the_first() {
        let policy = Policy::default();
        let mut record = ContentRecord::begun(1, HERE, T0);
        assert!(record.note_pass(after(60)));
        assert!(!record.note_pass(after(61)), "again");
        assert!(
            !record.has_lapsed(&policy, after(24 * 3_600)),
            "nor does the sweep forget it"
        );
        assert!(record.has_lapsed(&policy, after(24 * 3_600 + 60)));
        let mut spent = ContentRecord::read(Some(&record), &policy, HERE, after(3_600));
        assert_eq!((spent.life, spent.passes), (2, 0));
        assert!(!spent.note_pass(after(3_660)), "in its second life");
    }

    #[test]
    fn expired_message_is_new_and_not_accepted() {
        let policy = Policy::default();
        let day = policy.retry_window.as_secs();
        let pending = ContentRecord::begun(1, HERE, T0);
        let waited = Duration::from_secs(day - 1);
        let in_window = ContentStanding::InWindow { waited };
        assert_eq!(pending.standing(&policy, after(day - 1)), in_window);
        let lapsed = pending.standing(&policy, after(day));
        assert_eq!(lapsed, ContentStanding::Lapsed);
        assert_eq!(lapsed.verdict(), Verdict::Defer(DeferReason::ContentNew));
        // Early retries do not keep it alive either: they never move when it was first read.
        let mut record = Some(pending);
        let slow = delaying(2 * day);
        for hour in 1..24 {
            reads_at(&mut record, &slow, 3_600 * hour);
        }
        assert!(record.is_some_and(|it| it.has_lapsed(&slow, after(day))));
    }

    #[test]
    fn reading_from_anywhere_continues_what_one_network_began() {
        let policy = Policy::default();
        let begun = ContentRecord::begun(1, HERE, T0);
        let next = ContentRecord::read(Some(&begun), &policy, THERE, after(60));
        assert_eq!((next.first_seen, next.network), (T0, HERE));
        let late = after(policy.retry_window.as_secs());
        let anew = ContentRecord::read(Some(&begun), &policy, THERE, late);
        assert_eq!(anew, ContentRecord::begun(2, THERE, late));
    }

    #[test]
    fn record_from_the_future_is_void_whether_it_passed_or_not() {
        let policy = Policy::default();
        let year = 365 * 24 * 3_600;
        let mut ahead = ContentRecord::begun(1, HERE, after(year));
        assert_eq!(ahead.standing(&policy, T0), ContentStanding::Lapsed);
        ahead.note_pass(after(year + 60));
        assert_eq!(ahead.standing(&policy, T0), ContentStanding::Lapsed);
        let mut passed_ahead = ContentRecord::begun(1, HERE, T0);
        passed_ahead.note_pass(after(year));
        let soon = after(1);
        assert_eq!(
            passed_ahead.standing(&policy, soon),
            ContentStanding::Lapsed
        );
        // Set back by less than it waits anyway: it waits on.
        let little = ContentRecord::begun(1, HERE, after(30));
        let left = policy.content.delay;
        assert_eq!(
            little.standing(&policy, T0),
            ContentStanding::Early { left }
        );
    }

    #[test]
    fn counts_saturate() {
        let policy = Policy::default();
        let most = ContentRecord {
            attempts: u16::MAX,
            passes: u16::MAX,
            life: u16::MAX,
            ..ContentRecord::begun(1, HERE, T0)
        };
        let mut next = ContentRecord::read(Some(&most), &policy, HERE, after(1));
        next.note_pass(after(1));
        assert_eq!((next.attempts, next.passes), (u16::MAX, u16::MAX));
        let late = after(policy.retry_window.as_secs());
        let anew = ContentRecord::read(Some(&most), &policy, HERE, late);
        assert_eq!((anew.attempts, anew.life), (1, u16::MAX));
    }

    #[test]
    fn what_is_read_depends_on_mode_sender_and_network() {
        let read = |mode, reverse_path, roaming| {
            let policy = Policy {
                mode,
                ..Policy::default()
            };
            let attempt = Attempt {
                reverse_path,
                ..ATTEMPT
            };
            let observing = Policy {
                action: Action::Observe,
                ..policy.clone()
            };
            assert_eq!(reads(&observing, &attempt, roaming), None);
            reads(&policy, &attempt, roaming)
        };
        let sender = ATTEMPT.reverse_path;
        for (reverse_path, roaming) in [(sender, false), (sender, true), (b"", true)] {
            assert_eq!(read(Mode::Envelope, reverse_path, roaming), None);
            let by_mode = read(Mode::Content, reverse_path, roaming);
            assert_eq!(by_mode, Some(ReadReason::Mode));
        }
        assert_eq!(read(Mode::Hybrid, sender, false), None);
        assert_eq!(read(Mode::Hybrid, sender, true), Some(ReadReason::Roaming));
        for probe in [&b""[..], b"double-bounce@mx.example"] {
            for roaming in [false, true] {
                let reason = read(Mode::Hybrid, probe, roaming);
                assert_eq!(reason, Some(ReadReason::Probe));
            }
        }
    }

    prop_compose! {
        /// Small ranges, so that equal lives and times are common.
        fn record()(
            first_seen in 1u64..4, last_seen in 1u32..4, passed in 0u32..3, attempts in 1u16..4,
            passes in 0u16..3, life in 1u16..3, network in 0u16..3,
        ) -> ContentRecord {
            ContentRecord {
                first_seen: Timestamp::from_millis(first_seen),
                last_seen: Second::from_seconds(last_seen),
                passed: Second::from_seconds(passed),
                attempts,
                passes,
                life,
                network: NetworkMark::from_bits(network),
            }
        }
    }

    proptest! {
        #[test]
        fn merging_knows_no_order(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
            prop_assert_eq!(a.merge(a), a);
        }

        #[test]
        fn higher_life_wins_whole(a in record(), b in record()) {
            let next = ContentRecord { life: 3, ..b };
            prop_assert_eq!(a.merge(next), next);
        }

        /// Whatever the schedule and the delay: within one life first-seen stays where it was, and
        /// who comes again after the delay and before the window closes passes.
        #[test]
        fn first_seen_never_moves_within_a_life(
            delay in 1..7_200_u64,
            gaps in proptest::collection::vec(prop_oneof![0..90_u64, 0..4_000_u64, 0..90_000_u64], 1..40),
        ) {
            let policy = delaying(delay);
            let mut record: Option<ContentRecord> = None;
            let mut at = 0;
            for gap in gaps {
                at += gap;
                let before = record;
                let verdict = reads_at(&mut record, &policy, at);
                let next = record.expect("it was read");
                let Some(before) = before else { continue };
                if next.life == before.life {
                    prop_assert_eq!(next.first_seen, before.first_seen);
                    let waits = after(at).since(before.first_seen) < policy.content.delay;
                    prop_assert_eq!(matches!(verdict, Verdict::Defer(_)), waits, "at {} s", at);
                } else {
                    prop_assert_eq!(verdict, Verdict::Defer(DeferReason::ContentNew));
                    prop_assert_eq!(next.first_seen, after(at));
                }
            }
        }
    }
}
