//! What is known of one mail of a client, as plain facts, and what its next attempt would get.
//!
//! The words and times of `why`; what is known of the client itself stands there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::told::{happened, seconds};
use crate::policy::{
    DeferReason, Failure, PairRecord, PassReason, Policy, Record, Standing, Timestamp, TrustRecord,
    Verdict,
};
use crate::store::MailStanding;

/// What is known of one sender and recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailFacts {
    /// The tuple.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuple: Option<TupleFacts>,
    /// Trust in the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustFacts>,
    /// Trust that the client address has earned by a message that came again; absent if none holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_trust: Option<ContentTrustFacts>,
    /// The sender and recipient, from whatever network; absent if no mail of theirs waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairFacts>,
    /// A permanent failure under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureFacts>,
    /// What the next attempt would get now.
    pub next: NextFacts,
}

/// The record of a tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TupleFacts {
    /// `early`, `in-window`, `passed` or `lapsed`.
    pub standing: String,
    /// The first attempt of this life.
    pub first_seen: u64,
    /// The latest attempt.
    pub last_seen: u64,
    /// Attempts in this life.
    pub attempts: u64,
    /// Those that passed.
    pub passes: u64,
    /// When it first passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u64>,
    /// When the retry window opens, if it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<u64>,
    /// When the record lapses, if nothing more is heard.
    pub lapses: u64,
    /// What early retries have added to the delay.
    pub extra: u64,
    /// Rapid retries of one message in a row.
    pub rapid: u64,
    /// Its life: an attempt after it has lapsed begins the next one.
    pub life: u64,
}

/// Trust in a sender, earned or being earned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFacts {
    /// Whether it holds.
    pub trusted: bool,
    /// Passes that counted.
    pub passes: u64,
    /// The latest pass.
    pub last_used: u64,
    /// When it lapses.
    pub lapses: u64,
}

/// Trust in a client address for what it sends, earned by a message that came again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentTrustFacts {
    /// What it holds for: `domain`, all senders of the sender's domain; or `address`, all it sends.
    pub scope: String,
    /// The latest pass.
    pub last_used: u64,
    /// When it lapses.
    pub lapses: u64,
}

/// A sender and recipient of which mail waits, from whatever network it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFacts {
    /// The first contact, or the latest pass of a message, if the pair is known for a pool's.
    pub since: u64,
    /// Whether it is known for a pool's.
    #[serde(default)]
    pub pool: bool,
    /// Contacts since then, of which one a minute counts; 0 after such a pass.
    pub contacts: u64,
    /// So many make its mail pass whatever it says.
    pub contacts_needed: u64,
    /// From when on an attempt from another network is read; of a known pool, from any.
    pub roams: u64,
    /// From when on so many contacts make its mail pass; absent if they are forgotten before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<u64>,
    /// Whether its next message that is read passes whatever it says.
    pub persisted: bool,
    /// When it is forgotten, if nothing more is heard.
    pub lapses: u64,
}

/// A message that was refused for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureFacts {
    /// When.
    pub since: u64,
    /// Retries since.
    pub retries: u64,
    /// Retries that are no offence.
    pub allowed: u64,
    /// When it counts no more.
    pub until: u64,
}

/// What the next attempt would get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextFacts {
    /// `deferred`, `passed`, `read` or `refused`.
    pub verdict: String,
    /// Why, in the word of log and metrics.
    pub reason: String,
    /// How long until a retry passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// How long it has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<u64>,
    /// How long before the end of a message that is read it must have been read first, to pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_delay: Option<u64>,
    /// Whether its HELO argument was caught at relay hopping, so that it waits longer.
    #[serde(default)]
    pub helo_hops: bool,
    /// Whether a bad reputation would have it refused, were that not only observed.
    #[serde(default)]
    pub would_be_refused: bool,
    /// Whether the content of the message would be read to prove what it looks like.
    pub wants_content: bool,
    /// The offence that it would complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offence: Option<String>,
}

impl MailFacts {
    /// What the store knows of a mail from a network whose reputation is bad, or is not.
    pub(super) fn of(mail: &MailStanding, is_bad: bool, policy: &Policy, now: Timestamp) -> Self {
        Self {
            tuple: mail.tuple.map(|it| TupleFacts::of(&it, policy, now)),
            trust: mail
                .trust
                .filter(|it| !it.has_lapsed(policy, now))
                .map(|it| TrustFacts::of(&it, mail.trusted, policy)),
            content_trust: mail
                .content_trust
                .filter(|_| mail.content_trusted)
                .map(|it| ContentTrustFacts::of(&it, policy)),
            // What an earlier mode has left counts for nothing in one that reads nothing.
            pair: mail
                .pair
                .filter(|_| policy.mode.reads())
                .map(|it| PairFacts::of(it, policy, now)),
            failure: mail.failure.map(|it| FailureFacts::of(&it, policy)),
            next: NextFacts::of(mail, is_bad, policy),
        }
    }
}

impl TupleFacts {
    fn of(record: &Record, policy: &Policy, now: Timestamp) -> Self {
        let standing = record.standing(policy, now);
        Self {
            standing: match standing {
                Standing::Early { .. } => "early",
                Standing::InWindow { .. } => "in-window",
                Standing::Lapsed => "lapsed",
                Standing::Passed => "passed",
            }
            .to_owned(),
            first_seen: seconds(record.first_seen),
            last_seen: seconds(record.last_seen),
            attempts: record.attempts.into(),
            passes: record.passes.into(),
            passed: happened(record.passed),
            opens: match standing {
                Standing::Early { left } => Some(seconds(now.after(left))),
                _ => None,
            },
            lapses: seconds(record.lapses(policy)),
            extra: record.extra().as_secs(),
            rapid: record.run_attempts.saturating_sub(1).into(),
            life: record.life.into(),
        }
    }
}

impl TrustFacts {
    fn of(trust: &TrustRecord, trusted: bool, policy: &Policy) -> Self {
        Self {
            trusted,
            passes: trust.passes.into(),
            last_used: seconds(trust.last_used),
            lapses: seconds(trust.last_used.after(policy.trust)),
        }
    }
}

impl ContentTrustFacts {
    fn of(trust: &TrustRecord, policy: &Policy) -> Self {
        Self {
            scope: policy.content.trust.as_str().to_owned(),
            last_used: seconds(trust.last_used),
            lapses: seconds(trust.last_used.after(policy.trust)),
        }
    }
}

impl PairFacts {
    fn of(pair: PairRecord, policy: &Policy, now: Timestamp) -> Self {
        let since = Timestamp::from(pair.first_seen);
        let rules = &policy.content;
        let is_of_a_pool = pair.is_of_a_pool(policy, now);
        let windows = policy.contacts_window(rules.contacts);
        let way_out = since.after(rules.contacts_after);
        Self {
            since: seconds(since),
            pool: is_of_a_pool,
            contacts: pair.contacts.into(),
            contacts_needed: rules.contacts.into(),
            roams: seconds(if is_of_a_pool {
                since
            } else {
                since.after(policy.delay)
            }),
            way_out: (rules.contacts_after < windows).then(|| seconds(way_out)),
            persisted: pair.has_persisted(policy, now),
            lapses: seconds(pair.lapses(policy)),
        }
    }
}

impl FailureFacts {
    fn of(failure: &Failure, policy: &Policy) -> Self {
        let since = Timestamp::from(failure.since);
        Self {
            since: seconds(since),
            retries: failure.retries.into(),
            allowed: policy.punish.rejected_retries.into(),
            until: seconds(since.after(policy.punish.rejected_window)),
        }
    }
}

impl NextFacts {
    /// What comes next of a client whose network's reputation is bad, or is not.
    fn of(mail: &MailStanding, is_bad: bool, policy: &Policy) -> Self {
        let verdict = mail.next.verdict;
        Self {
            verdict: verdict.word().to_owned(),
            reason: verdict.reason().to_owned(),
            left: match verdict {
                Verdict::Defer(
                    DeferReason::Early { left } | DeferReason::ContentEarly { left },
                ) => Some(whole_seconds(left)),
                _ => None,
            },
            waited: match verdict {
                Verdict::Pass(
                    PassReason::Waited { waited }
                    | PassReason::Content { waited }
                    | PassReason::Persisted { waited },
                ) => Some(waited.as_secs()),
                _ => None,
            },
            content_delay: match verdict {
                Verdict::Read(_) => Some(whole_seconds(policy.content.delay)),
                _ => None,
            },
            helo_hops: mail.next.grounds.helo_hops,
            would_be_refused: is_bad && could_be_refused(verdict),
            wants_content: mail.next.wants_content,
            offence: mail.offence.map(|it| it.as_str().to_owned()),
        }
    }
}

/// Whether a verdict stands on a rung below that of the reputation.
fn could_be_refused(verdict: Verdict) -> bool {
    use PassReason::{Allowed, Authenticated, Local};
    !matches!(
        verdict,
        Verdict::Refuse(_) | Verdict::Pass(Allowed | Authenticated | Local)
    )
}

/// A time to wait: what is not a whole second yet is one to whoever waits.
fn whole_seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::T0;
    use crate::policy::{ContentTrust, Mode, NetworkMark, ReadReason};

    fn standing() -> MailStanding {
        let pair = PairRecord::begun(1, NetworkMark::default(), T0);
        MailStanding {
            tuple: None,
            trust: None,
            trusted: false,
            content_trust: Some(TrustRecord::begun(1, T0)),
            content_trusted: true,
            pair: Some(PairRecord {
                contacts: 6,
                ..pair
            }),
            failure: None,
            next: Verdict::Read(ReadReason::Roaming).into(),
            offence: None,
        }
    }

    fn facts(policy: &Policy, now: Timestamp) -> MailFacts {
        MailFacts::of(&standing(), false, policy, now)
    }

    #[test]
    fn pair_of_a_known_pool_is_read_from_the_beginning() {
        let policy = Policy::default();
        let pair = PairRecord::begun(1, NetworkMark::default(), T0).begun_anew(T0);
        let told = PairFacts::of(pair, &policy, T0);
        assert_eq!((told.pool, told.roams), (true, told.since));
    }

    #[test]
    fn pair_is_told_with_its_times_and_whether_it_has_persisted() {
        let policy = Policy::default();
        let since = seconds(T0);
        let minutes = |minutes| T0.after(Duration::from_mins(minutes));
        let early = PairFacts {
            since,
            pool: false,
            contacts: 6,
            contacts_needed: 6,
            roams: since + 180,
            way_out: Some(since + 3_600),
            persisted: false,
            lapses: since + 6 * 86_400,
        };
        assert_eq!(facts(&policy, minutes(59)).pair, Some(early.clone()));
        let persisted = PairFacts {
            persisted: true,
            ..early
        };
        assert_eq!(facts(&policy, minutes(60)).pair, Some(persisted));
    }

    #[test]
    fn way_out_that_no_window_holds_is_none() {
        let mut policy = Policy::default();
        policy.content.contacts_after = policy.retry_window * 6;
        let told = facts(&policy, T0).pair.expect("it is remembered");
        assert_eq!(told.way_out, None);
    }

    #[test]
    fn pair_counts_for_nothing_where_nothing_is_read() {
        let policy = Policy {
            mode: Mode::Envelope,
            ..Policy::default()
        };
        assert_eq!(facts(&policy, T0).pair, None);
    }

    #[test]
    fn content_trust_is_told_with_its_scope_while_it_holds() {
        let mut policy = Policy::default();
        policy.content.trust = ContentTrust::Address;
        let told = facts(&policy, T0).content_trust.expect("it holds");
        let end = seconds(T0.after(policy.trust));
        assert_eq!((told.scope.as_str(), told.lapses), ("address", end));
        let lapsed = MailStanding {
            content_trusted: false,
            ..standing()
        };
        let told = MailFacts::of(&lapsed, false, &policy, T0);
        assert_eq!(told.content_trust, None);
    }

    #[test]
    fn attempt_that_is_read_is_told_with_the_delay_of_content() {
        let mut policy = Policy::default();
        policy.content.delay = Duration::from_millis(1_500);
        let next = facts(&policy, T0).next;
        assert_eq!(
            (next.verdict.as_str(), next.reason.as_str()),
            ("read", "roaming")
        );
        assert_eq!(next.content_delay, Some(2));
    }
}
