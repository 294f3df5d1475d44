//! What the store explains, told as plain facts.
//!
//! Knows the words for what is remembered, and turns its times and weights into seconds and counts;
//! leaves what a fact means to `policy`, and how a person reads it to `cli`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::actions::{Actions, HistoryFacts};
use super::{
    FailureFacts, HeloFact, KernelEntry, KernelFacts, MailFacts, NetworkFacts, NextFacts,
    ReputationFacts, SentenceFact, StrikeFact, TrustFacts, TupleFacts, Why,
};
use crate::kernel;
use crate::policy::{
    ClientRecord, DeferReason, Failure, HoppingHelo, PassReason, Policy, Protection, Record,
    Reputation, Repute, Second, Sentence, SentenceLevel, SentencedClient, Standing, Strike,
    Timestamp, TrustRecord, Verdict,
};
use crate::store::{CoveringSentence, Explanation, MailStanding, NetworkStanding};

impl Why {
    /// The standing of `client` as the store explains it, under `policy`.
    pub fn of(
        client: IpAddr,
        explanation: &Explanation,
        kernel: KernelFacts,
        actions: Actions,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let client = client.to_canonical();
        let record = explanation.record.unwrap_or(ClientRecord::EMPTY);
        let strikes = record.strikes(policy, now);
        let latest = record.latest.iter().flatten().map(|it| it.at).max();
        let [_, around] = SentencedClient::covering(client);
        let neighbours = explanation.neighbours.iter().flat_map(|it| it.hosts);
        let counts = |at: Second| at.is_within(policy.punish.forgive_after, now);
        Self {
            client: client.to_string(),
            now: seconds(now),
            exempt: explanation
                .exempt
                .map(|reason| Verdict::Pass(reason).reason().to_owned()),
            shielded: explanation.shielded,
            authenticated: explanation.authenticated,
            last_auth: happened(record.authenticated),
            strikes: strikes.into(),
            strikes_until: latest
                .filter(|_| strikes > 0)
                .map(|at| seconds(Timestamp::from(at).after(policy.punish.forgive_after))),
            latest_strikes: record
                .latest
                .into_iter()
                .flatten()
                .map(StrikeFact::of)
                .collect(),
            around: around.to_string(),
            neighbours: neighbours
                .map(|it| it.struck)
                .filter(|at| counts(*at))
                .map(second)
                .collect(),
            neighbours_needed: policy.punish.neighbours.into(),
            sentences: explanation.sentences.iter().map(SentenceFact::of).collect(),
            kernel,
            helo: explanation.helo.map(|helo| HeloFact::of(&helo, policy)),
            networks: explanation
                .networks
                .iter()
                .map(|it| NetworkFacts::of(client, it, policy, now))
                .collect(),
            history: HistoryFacts::of(explanation.history, policy, now),
            actions,
        }
    }
}

impl StrikeFact {
    fn of(strike: Strike) -> Self {
        Self {
            at: second(strike.at),
            offence: strike.offence.as_str().to_owned(),
        }
    }
}

impl SentenceFact {
    fn of(covering: &CoveringSentence) -> Self {
        let Sentence {
            client,
            level,
            reason,
            since,
            until,
            persistence,
        } = covering.sentence;
        let word = |level: SentenceLevel| level.as_str().to_owned();
        Self {
            client: client.to_string(),
            level: word(level),
            carried_out: covering.upheld.map(|it| word(it.level)),
            reason: reason.as_str().to_owned(),
            since: seconds(since),
            until: seconds(until),
            drops: persistence.drops,
            lengthened: persistence.lengthened,
        }
    }
}

impl KernelEntry {
    /// The entry as it was read.
    pub fn of(entry: &kernel::Entry) -> Self {
        Self {
            client: entry.client.to_string(),
            level: entry.level.as_str().to_owned(),
            until: seconds(entry.until),
            drops: entry.drops,
        }
    }
}

impl HeloFact {
    fn of(helo: &HoppingHelo, policy: &Policy) -> Self {
        let forgotten = Timestamp::from(helo.latest).after(policy.punish.hopping_memory);
        Self {
            since: second(helo.since),
            latest: second(helo.latest),
            times: helo.times.into(),
            until: seconds(forgotten),
        }
    }
}

impl NetworkFacts {
    fn of(client: IpAddr, standing: &NetworkStanding, policy: &Policy, now: Timestamp) -> Self {
        let network = IpNet::new(client, standing.prefix).map(|it| it.trunc().to_string());
        Self {
            network: network.unwrap_or_default(),
            named: standing.named,
            repute: standing.repute.as_str().to_owned(),
            reputation: standing
                .reputation
                .map(|it| ReputationFacts::of(&it, policy, now)),
            protection: match standing.protection {
                Protection::None => "none",
                Protection::FromBlock => "block",
                Protection::FromAll => "all",
            }
            .to_owned(),
            mail: standing.mail.as_ref().map(|it| {
                let is_bad = standing.repute == Repute::Bad;
                MailFacts::of(it, is_bad, policy, now)
            }),
        }
    }
}

impl ReputationFacts {
    fn of(reputation: &Reputation, policy: &Policy, now: Timestamp) -> Self {
        let counts = reputation.weights(policy, now).whole();
        Self {
            good: counts.good,
            bad: counts.bad,
            ham: counts.ham,
            spam: counts.spam,
            updated: second(reputation.updated),
            good_days: reputation.good_days.into(),
            recipients: reputation.recipients.count_ones().into(),
            since: happened(reputation.since),
        }
    }
}

impl MailFacts {
    fn of(mail: &MailStanding, is_bad: bool, policy: &Policy, now: Timestamp) -> Self {
        Self {
            tuple: mail.tuple.map(|it| TupleFacts::of(&it, policy, now)),
            trust: mail
                .trust
                .filter(|it| !it.has_lapsed(policy, now))
                .map(|it| TrustFacts::of(&it, mail.trusted, policy)),
            failure: mail.failure.map(|it| FailureFacts::of(&it, policy)),
            next: NextFacts::of(mail, is_bad),
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
    fn of(mail: &MailStanding, is_bad: bool) -> Self {
        let verdict = mail.next.verdict;
        Self {
            verdict: verdict.word().to_owned(),
            reason: verdict.reason().to_owned(),
            left: match verdict {
                // What is not a whole second yet is one to whoever waits.
                Verdict::Defer(DeferReason::Early { left }) => {
                    Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
                }
                _ => None,
            },
            waited: match verdict {
                Verdict::Pass(PassReason::Waited { waited }) => Some(waited.as_secs()),
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

fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

fn second(at: Second) -> u64 {
    seconds(at.into())
}

fn happened(at: Second) -> Option<u64> {
    (at != Second::NEVER).then(|| second(at))
}
