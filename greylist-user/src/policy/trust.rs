//! What is remembered of a client network and a folded reverse-path that keep passing, and of a
//! client address whose mail came again.
//!
//! Trust spares a sender the wait for every new recipient. It is earned by passes of tuples, at
//! most one of which counts in an interval, so that one busy minute earns nothing; it is scoped to
//! the sender, and to the whole client only where the operator says so of content; and it lapses unless
//! it is used.
//!
//! A message that came again is better proof than a pass: its first pass makes the client address
//! trusted at once, for that sender's domain ([`ContentTrust`]). It is a record of the same kind
//! under a key of its own, so that neither counts for the other.

use super::reputation::Repute;
use super::rules::{ContentTrust, Policy};
use super::time::Timestamp;

/// The facts about one client network and folded reverse-path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustRecord {
    /// The latest pass that counted.
    pub counted: Timestamp,
    /// The latest pass, counted or not, of this sender.
    pub last_used: Timestamp,
    /// Passes that counted.
    pub passes: u16,
    /// Counts the lives: a pass after the record has lapsed begins the next one.
    pub life: u16,
    /// Whether a message that came again has earned it, as far as was noted: an older greygate did not.
    pub by_content: bool,
}

impl TrustRecord {
    /// The record of a first pass, at `now`, in the given life.
    pub const fn begun(life: u16, now: Timestamp) -> Self {
        Self {
            counted: now,
            last_used: now,
            passes: 1,
            life,
            by_content: false,
        }
    }

    /// The record after a tuple of this sender passed at `now`.
    #[must_use]
    pub fn credited(prior: Option<&Self>, policy: &Policy, now: Timestamp) -> Self {
        let Some(prior) = prior else {
            return Self::begun(1, now);
        };
        if prior.has_lapsed(policy, now) {
            return Self::begun(prior.life.saturating_add(1), now);
        }
        // A clock that was set back must not put the next pass that counts off for long.
        let from_the_future = prior.counted > now.after(policy.trust_interval);
        let counts = from_the_future || now.since(prior.counted) >= policy.trust_interval;
        Self {
            counted: if counts { now } else { prior.counted },
            last_used: prior.last_used.max(now),
            passes: prior.passes.saturating_add(counts.into()),
            life: prior.life,
            by_content: prior.by_content,
        }
    }

    /// The record as one that a message has earned which came again.
    #[must_use]
    pub fn earned_by_content(self) -> Self {
        Self {
            by_content: true,
            ..self
        }
    }

    /// The record after its trust was used at `now`.
    #[must_use]
    pub fn used(self, now: Timestamp) -> Self {
        Self {
            last_used: self.last_used.max(now),
            ..self
        }
    }

    /// Whether the sender is trusted at `now`, its network having this `repute`: earlier if that is
    /// good.
    pub fn is_trusted(&self, policy: &Policy, repute: Repute, now: Timestamp) -> bool {
        policy.trust_after != 0
            && self.passes >= passes_wanted(policy, repute)
            && !self.has_lapsed(policy, now)
    }

    /// Whether a message that came again has earned trust which holds at `now`.
    pub fn is_earned_by_content(&self, policy: &Policy, now: Timestamp) -> bool {
        policy.content.trust != ContentTrust::Off && !self.has_lapsed(policy, now)
    }

    /// Whether the record is void at `now`: the one definition, for look-up, sweep and listing.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        now >= self.last_used.after(policy.trust)
    }

    /// One record out of two of the same sender: the higher life wins; within one life everything
    /// is the larger.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        Self {
            counted: self.counted.max(other.counted),
            last_used: self.last_used.max(other.last_used),
            passes: self.passes.max(other.passes),
            life: self.life,
            by_content: self.by_content || other.by_content,
        }
    }
}

/// Passes until a sender is trusted.
pub fn passes_wanted(policy: &Policy, repute: Repute) -> u16 {
    match (repute, policy.reputation.trust_after) {
        (Repute::Unknown | Repute::Bad, _) | (_, 0) => policy.trust_after,
        (Repute::Good | Repute::Established, fewer) => fewer.min(policy.trust_after),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn after_hours(hours: u64) -> Timestamp {
        T0.after(Duration::from_hours(hours))
    }

    /// The record of a sender that passed once an hour, `passes` times.
    fn earned(policy: &Policy, passes: u64) -> TrustRecord {
        (1..passes).fold(TrustRecord::begun(1, T0), |record, hour| {
            TrustRecord::credited(Some(&record), policy, after_hours(hour))
        })
    }

    #[test]
    fn trusts_after_five_passes() {
        let policy = Policy::default();
        assert!(!earned(&policy, 4).is_trusted(&policy, Repute::Unknown, after_hours(4)));
        assert!(earned(&policy, 5).is_trusted(&policy, Repute::Unknown, after_hours(5)));
    }

    #[test]
    fn good_record_of_the_network_halves_the_way_and_never_lengthens_it() {
        let policy = |trust_after, with_good_record| {
            let mut policy = Policy {
                trust_after,
                ..Policy::default()
            };
            policy.reputation.trust_after = with_good_record;
            policy
        };
        // (trust_after, reputation.trust_after, passes wanted with a good record; 0 is never)
        for (trust_after, with_good_record, wanted) in
            [(5, 2, 2), (1, 2, 1), (5, 0, 5), (5, 9, 5), (0, 2, 0)]
        {
            let policy = policy(trust_after, with_good_record);
            for repute in [Repute::Good, Repute::Established] {
                let is_trusted = |passes| {
                    let now = after_hours(passes - 1);
                    earned(&policy, passes).is_trusted(&policy, repute, now)
                };
                let first = (1..=9).find(|passes| is_trusted(*passes));
                assert_eq!(
                    first.unwrap_or(0),
                    wanted,
                    "{trust_after} {with_good_record}"
                );
            }
        }
        let policy = policy(5, 2);
        let twice = earned(&policy, 2);
        assert!(!twice.is_trusted(&policy, Repute::Unknown, after_hours(1)));
        assert!(!twice.is_trusted(&policy, Repute::Bad, after_hours(1)));
    }

    #[test]
    fn counts_one_pass_an_hour() {
        let policy = Policy::default();
        let record = (1..=59).fold(TrustRecord::begun(1, T0), |record, minute| {
            let now = T0.after(Duration::from_mins(minute));
            TrustRecord::credited(Some(&record), &policy, now)
        });
        assert_eq!(record.passes, 1);
        assert_eq!(record.last_used, T0.after(Duration::from_mins(59)));
        let record = TrustRecord::credited(Some(&record), &policy, after_hours(1));
        assert_eq!(record.passes, 2);
    }

    #[test]
    fn counts_on_after_the_clock_was_set_back_by_years() {
        let policy = Policy::default();
        let ahead = TrustRecord::begun(1, after_hours(24 * 365));
        let record = TrustRecord::credited(Some(&ahead), &policy, T0);
        assert_eq!((record.passes, record.counted), (2, T0));
        let record = TrustRecord::credited(Some(&record), &policy, after_hours(1));
        assert_eq!(record.passes, 3);
    }

    #[test]
    fn trust_is_renewed_on_use() {
        let policy = Policy::default();
        let record = earned(&policy, 5);
        let month = after_hours(30 * 24);
        let two_months = after_hours(60 * 24);
        assert!(!record.is_trusted(&policy, Repute::Unknown, two_months));
        assert!(
            record
                .used(month)
                .is_trusted(&policy, Repute::Unknown, two_months)
        );
    }

    #[test]
    fn lapsed_trust_is_earned_anew() {
        let policy = Policy::default();
        let late = after_hours(100 * 24);
        let record = TrustRecord::credited(Some(&earned(&policy, 5)), &policy, late);
        assert_eq!(record, TrustRecord::begun(2, late));
    }

    #[test]
    fn zero_passes_means_never() {
        let policy = Policy {
            trust_after: 0,
            ..Policy::default()
        };
        assert!(!earned(&policy, 9).is_trusted(&policy, Repute::Unknown, after_hours(9)));
    }

    #[test]
    fn first_message_that_came_again_earns_trust_that_lasts_as_long_as_it_is_used() {
        let policy = Policy::default();
        let record = TrustRecord::credited(None, &policy, T0);
        assert!(record.is_earned_by_content(&policy, T0));
        assert!(
            !record.is_trusted(&policy, Repute::Established, T0),
            "by waiting it takes more"
        );
        let (month, two_months) = (after_hours(30 * 24), after_hours(60 * 24));
        assert!(!record.is_earned_by_content(&policy, two_months));
        assert!(record.used(month).is_earned_by_content(&policy, two_months));
    }

    #[test]
    fn trust_by_content_holds_while_the_policy_gives_any_and_needs_no_passes() {
        let mut policy = Policy {
            trust_after: 0,
            ..Policy::default()
        };
        let record = TrustRecord::begun(1, T0);
        assert!(record.is_earned_by_content(&policy, T0));
        policy.content.trust = ContentTrust::Off;
        assert!(!record.is_earned_by_content(&policy, T0));
    }

    prop_compose! {
        fn record()(
            counted in 1u64..4, last_used in 1u64..4, passes in 1u16..4, life in 1u16..3,
        ) -> TrustRecord {
            TrustRecord {
                by_content: false,
                counted: Timestamp::from_millis(counted),
                last_used: Timestamp::from_millis(last_used),
                passes,
                life,
            }
        }
    }

    proptest! {
        #[test]
        fn merging_knows_no_order(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
        }
    }
}
