//! What a client network's past says of it: good and bad counts that fade.
//!
//! Knows what counts, for how much and how fast it fades, what makes a record good, and how two
//! hosts' records of one network become one. Leaves to `store` where they are kept and who feeds
//! them, and to `client` what a good record shields from.
//!
//! Strangers feed this, so no single one of them can do much: a recipient counts once a day, for
//! and against, and what a day can hold against a good record is a third of what it can hold for
//! it. Only the operator's own filter is taken at its word.

use super::rules::{Policy, Refusing};
use super::time::{Second, Timestamp};
use super::verdict::RefuseReason;

mod fading;

use fading::Phase;

/// The facts about one client network.
///
/// Counts are kept as they would have weighed, in 256ths, when the half-life began in which
/// `updated` lies; half-lives are counted from the Unix epoch. A later half-life halves them, so
/// that any two records can be brought to the same time without loss of order: see
/// [`merge`](Self::merge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reputation {
    /// Recipients that good counts came from, one bit each: as many bits are at least as many
    /// recipients.
    pub recipients: u64,
    /// Those of `day`.
    pub recipients_today: u64,
    /// Recipients that bad counts of `day` came from.
    pub bad_today: u64,
    /// Good counts.
    pub good: u32,
    /// Bad counts.
    pub bad: u32,
    /// Mails that a filter behind reported as good.
    pub ham: u32,
    /// Mails that a filter behind reported as bad.
    pub spam: u32,
    /// The latest count.
    pub updated: Second,
    /// The first good count; [`Second::NEVER`] if there was none.
    pub since: Second,
    /// The day of the latest count, counted from the Unix epoch.
    pub day: u16,
    /// The day of the latest strike that counted.
    pub struck_day: u16,
    /// The day on which mail was last refused for this, or would have been; 0 if it never was.
    pub refused_day: u16,
    /// Days with a good count.
    pub good_days: u8,
    /// Counts the lives: forgiving begins the next one.
    pub life: u8,
}

/// Which of 64 bits stands for a recipient: a keyed hash, so that nobody can choose recipients that
/// have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecipientMark(u8);

/// What a reputation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repute {
    /// Too little is known.
    Unknown,
    /// Bad counts, and hardly any good ones.
    Bad,
    /// A good record: it shields from block.
    Good,
    /// A good record of so much mail that it shields from every sentence.
    Established,
}

/// What the counts weigh at a given time, in 256ths of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Good counts.
    pub good: u64,
    /// Bad counts.
    pub bad: u64,
    /// Mails reported as good.
    pub ham: u64,
    /// Mails reported as bad.
    pub spam: u64,
}

/// Whether, and how, a network of which `repute` is said is turned away.
pub fn refusal(policy: &Policy, repute: Repute) -> Option<RefuseReason> {
    let permanently = match policy.reputation.action {
        Refusing::Observe => return None,
        Refusing::Defer => false,
        Refusing::Reject => true,
    };
    (repute == Repute::Bad).then_some(RefuseReason::BadReputation { permanently })
}

impl Reputation {
    /// Of a network of which nothing is known.
    pub const EMPTY: Self = Self {
        recipients: 0,
        recipients_today: 0,
        bad_today: 0,
        good: 0,
        bad: 0,
        ham: 0,
        spam: 0,
        updated: Second::NEVER,
        since: Second::NEVER,
        day: 0,
        struck_day: 0,
        refused_day: 0,
        good_days: 0,
        life: 1,
    };

    /// What it says at `now`.
    pub fn standing(&self, policy: &Policy, now: Timestamp) -> Repute {
        let rules = &policy.reputation;
        let weights = self.weights(policy, now);
        let (good, bad) = (weights.good + weights.ham, weights.bad + weights.spam);
        if self.is_well_founded(policy, now) && good >= bad {
            let days = rules.good_days.saturating_mul(ESTABLISHED_DAYS);
            return if weights.good >= counts(rules.established) && self.good_days >= days {
                Repute::Established
            } else {
                Repute::Good
            };
        }
        // Who is refused earns no more bad counts, and must not be let in again for an hour's
        // fading, to earn the next.
        let wanted = if self.refused_day == 0 {
            counts(rules.bad_counts)
        } else {
            counts(rules.bad_counts) / 2
        };
        let is_bad = bad >= wanted && bad * 100 >= u64::from(rules.bad_share) * (good + bad);
        if is_bad { Repute::Bad } else { Repute::Unknown }
    }

    /// Whether the good counts come from days and recipients enough for a good record.
    fn is_well_founded(&self, policy: &Policy, now: Timestamp) -> bool {
        let rules = &policy.reputation;
        let days = u64::from(rules.good_days) * SECONDS_OF_A_DAY;
        self.good > 0
            && self.good_days >= rules.good_days
            && self.recipients.count_ones() >= rules.good_recipients.into()
            && now.since(self.since.into()).as_secs() >= days
    }

    /// What the counts weigh at `now`.
    pub fn weights(&self, policy: &Policy, now: Timestamp) -> Weights {
        let updated = Phase::of(policy, self.updated);
        // A clock that was set back fades nothing, and restores nothing either.
        let phase = Phase::of(policy, Second::from(now).max(self.updated));
        let weight = |stored| phase.weight(phase.brought_from(updated, stored));
        Weights {
            good: weight(self.good),
            bad: weight(self.bad),
            ham: weight(self.ham),
            spam: weight(self.spam),
        }
    }

    /// Whether a recipient has counted for the network today, so that it need not again.
    pub fn has_good_today(&self, mark: RecipientMark, now: Timestamp) -> bool {
        self.day == day_of(now) && self.recipients_today & mark.bit() != 0
    }

    /// Whether mail has passed that is still on record.
    pub fn has_passed(&self) -> bool {
        self.recipients != 0
    }

    /// Whether it says nothing any more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        self.weights(policy, now).all() < VOID
    }

    /// Whether it says so little that it makes way for others when there is no room: no good count
    /// and no report, and hardly a bad one.
    pub fn is_negligible(&self, policy: &Policy, now: Timestamp) -> bool {
        let weights = self.weights(policy, now);
        !self.has_passed() && weights.all() == weights.bad && weights.bad < NEGLIGIBLE
    }

    /// The record after mail to a recipient passed.
    #[must_use]
    pub fn after_good(
        prior: Option<&Self>,
        policy: &Policy,
        mark: RecipientMark,
        now: Timestamp,
    ) -> Self {
        let mut record = Self::to_count_in(prior, policy, now);
        if record.recipients_today & mark.bit() != 0 {
            return record;
        }
        if record.recipients_today == 0 {
            record.good_days = record.good_days.saturating_add(1);
        }
        if record.since == Second::NEVER {
            record.since = now.into();
        }
        record.recipients |= mark.bit();
        record.recipients_today |= mark.bit();
        record.good = record.good.saturating_add(record.worth(policy, 1));
        record
    }

    /// The record after something spoke against the network at a recipient: the MTA rejected it, or it was tried and never retried.
    #[must_use]
    pub fn after_bad(
        prior: Option<&Self>,
        policy: &Policy,
        mark: RecipientMark,
        now: Timestamp,
    ) -> Self {
        let mut record = Self::to_count_in(prior, policy, now);
        let is_spent = record.bad_today.count_ones() >= BAD_A_DAY_AGAINST_GOOD
            && matches!(
                record.standing(policy, now),
                Repute::Good | Repute::Established
            );
        if is_spent || record.bad_today & mark.bit() != 0 {
            return record;
        }
        record.bad_today |= mark.bit();
        record.bad = record.bad.saturating_add(record.worth(policy, 1));
        record
    }

    /// The record after a client in the network committed an offence.
    #[must_use]
    pub fn after_strike(prior: Option<&Self>, policy: &Policy, now: Timestamp) -> Self {
        let mut record = Self::to_count_in(prior, policy, now);
        if record.struck_day < record.day {
            record.struck_day = record.day;
            record.bad = record
                .bad
                .saturating_add(record.worth(policy, COUNTS_A_STRIKE));
        }
        record
    }

    /// The record after an operator's filter reported a mail: at its word, however often.
    #[must_use]
    pub fn after_report(prior: Option<&Self>, policy: &Policy, spam: bool, now: Timestamp) -> Self {
        let mut record = Self::to_count_in(prior, policy, now);
        let worth = record.worth(policy, 1);
        let reported = if spam {
            &mut record.spam
        } else {
            &mut record.ham
        };
        *reported = reported.saturating_add(worth);
        record
    }

    /// Whether mail has been refused for this today already, or would have been.
    pub fn has_refused_today(&self, now: Timestamp) -> bool {
        self.refused_day == day_of(now)
    }

    /// Notes that mail is refused for this, or would be.
    pub fn note_refused(&mut self, now: Timestamp) {
        self.refused_day = day_of(now);
    }

    /// Whether there is anything to forgive.
    pub fn has_bad(&self) -> bool {
        self.bad > 0 || self.spam > 0
    }

    /// The record of a network that is forgiven: what spoke against it is gone, which begins a new
    /// life. Where there is nothing to forgive it stays as it is.
    #[must_use]
    pub fn forgiven(&self) -> Self {
        if !self.has_bad() {
            return *self;
        }
        Self {
            bad: 0,
            spam: 0,
            bad_today: 0,
            struck_day: 0,
            refused_day: 0,
            life: self.life.saturating_add(1),
            ..*self
        }
    }

    /// One record out of two of the same network.
    ///
    /// The higher life wins. Within one life each count is the larger of the two as of the later
    /// half-life, the maps of a day are those of the later day, and all else is the larger, but
    /// `since` the smaller. Halving keeps order and loses nothing that a later halving would not
    /// have lost, so the order of merging makes no difference, and merging twice changes nothing.
    #[must_use]
    pub fn merge(self, other: Self, policy: &Policy) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let updated = self.updated.max(other.updated);
        let phase = Phase::of(policy, updated);
        let [mine, others] = [&self, &other].map(|it| Phase::of(policy, it.updated));
        let larger = |a, b| {
            phase
                .brought_from(mine, a)
                .max(phase.brought_from(others, b))
        };
        let day = self.day.max(other.day);
        let of_the_day = |it: &Self, map| if it.day == day { map } else { 0 };
        Self {
            recipients: self.recipients | other.recipients,
            recipients_today: of_the_day(&self, self.recipients_today)
                | of_the_day(&other, other.recipients_today),
            bad_today: of_the_day(&self, self.bad_today) | of_the_day(&other, other.bad_today),
            good: larger(self.good, other.good),
            bad: larger(self.bad, other.bad),
            ham: larger(self.ham, other.ham),
            spam: larger(self.spam, other.spam),
            updated,
            since: match (self.since, other.since) {
                (Second::NEVER, since) | (since, Second::NEVER) => since,
                (a, b) => a.min(b),
            },
            day,
            struck_day: self.struck_day.max(other.struck_day),
            refused_day: self.refused_day.max(other.refused_day),
            good_days: self.good_days.max(other.good_days),
            life: self.life,
        }
    }

    /// `prior`, ready for a count at `now`: of today, and in the present half-life. What has lapsed
    /// begins a new life, and so does what lies in the future, as after a clock that was wrong: a
    /// record must not wait until the future is reached.
    fn to_count_in(prior: Option<&Self>, policy: &Policy, now: Timestamp) -> Self {
        let at = Second::from(now);
        let today = day_of(now);
        let mut record = match prior {
            None => Self::EMPTY,
            Some(prior) if prior.has_lapsed(policy, now) => Self {
                life: prior.life.saturating_add(1),
                ..Self::EMPTY
            },
            Some(prior) if prior.day > today.saturating_add(1) => Self {
                updated: at,
                since: prior.since.min(at),
                day: today.saturating_sub(1),
                struck_day: 0,
                refused_day: 0,
                life: prior.life.saturating_add(1),
                ..*prior
            },
            Some(prior) => *prior,
        };
        let updated = record.updated.max(at);
        let phase = Phase::of(policy, updated);
        let before = Phase::of(policy, record.updated);
        for count in [
            &mut record.good,
            &mut record.bad,
            &mut record.ham,
            &mut record.spam,
        ] {
            *count = phase.brought_from(before, *count);
        }
        record.updated = updated;
        if record.day < today {
            record.day = today;
            record.recipients_today = 0;
            record.bad_today = 0;
        }
        record
    }

    /// What to add to a count for `counts` at `updated`.
    fn worth(&self, policy: &Policy, counts: u8) -> u32 {
        Phase::of(policy, self.updated).worth(u32::from(counts) * COUNT)
    }
}

impl RecipientMark {
    /// The mark for a recipient whose hash begins with this byte.
    pub(super) const fn of_hash(byte: u8) -> Self {
        Self(byte % 64)
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

impl Repute {
    /// The word for logs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Established => "established",
        }
    }
}

impl Weights {
    /// The same in whole counts, as people are told.
    #[must_use]
    pub const fn whole(self) -> Self {
        let count = COUNT as u64;
        Self {
            good: self.good / count,
            bad: self.bad / count,
            ham: self.ham / count,
            spam: self.spam / count,
        }
    }

    /// All of them.
    const fn all(self) -> u64 {
        self.good + self.bad + self.ham + self.spam
    }
}

impl Reputation {
    /// As it can have been by `now`: from the future it would neither fade nor count a new day.
    #[must_use]
    pub fn heard_by(self, now: Timestamp) -> Self {
        let (second, today) = (Second::from(now), day_of(now));
        Self {
            updated: self.updated.min(second),
            since: self.since.min(second),
            day: self.day.min(today),
            struck_day: self.struck_day.min(today),
            refused_day: self.refused_day.min(today),
            ..self
        }
    }
}

/// So many counts, in 256ths.
fn counts(number: u32) -> u64 {
    u64::from(number) * u64::from(COUNT)
}

/// Days from the Unix epoch to `now`.
fn day_of(now: Timestamp) -> u16 {
    let days = u64::from(Second::from(now).as_seconds()) / SECONDS_OF_A_DAY;
    u16::try_from(days).unwrap_or(u16::MAX)
}

/// One count.
const COUNT: u32 = 256;
/// What all counts together must weigh for a record to say anything: a lone one lasts for two
/// half-lives.
const VOID: u64 = COUNT as u64 / 4;
/// Fewer bad counts alone than this make way for others.
const NEGLIGIBLE: u64 = 2 * COUNT as u64;
/// Bad counts that a strike is worth, once a day.
const COUNTS_A_STRIKE: u8 = 5;
/// Recipients of a day that can count against a good record: a quarter of those that can count for
/// it, so that nobody who abuses a relay can take it away from the rest.
const BAD_A_DAY_AGAINST_GOOD: u32 = 16;
/// Times the days of a good record that an established one takes: 64 recipients a day would be a
/// hundred counts on the second day.
const ESTABLISHED_DAYS: u8 = 4;
const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// A million are held: a field that makes the entry larger is a decision, not an accident.
const _: () = assert!(size_of::<Reputation>() == 56);

#[cfg(test)]
mod tests;
