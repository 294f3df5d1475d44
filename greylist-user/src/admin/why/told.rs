//! What the store explains, told as plain facts.
//!
//! Knows the words for what is remembered, and turns its times and weights into seconds and counts;
//! leaves what a fact means to `policy`, and how a person reads it to `cli`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::actions::{Actions, HistoryFacts};
use super::{
    HeloFact, KernelEntry, KernelFacts, ListFact, MailFacts, NetworkFacts, RecipientPolicyFact,
    ReputationFacts, SentenceFact, StrikeFact, Why,
};
use crate::kernel;
use crate::policy::{
    ClientRecord, HoppingHelo, Listed, Policy, Protection, Reputation, Repute, Second, Sentence,
    SentenceLevel, SentencedClient, Source, Strike, Timestamp, Verdict,
};
use crate::store::{CoveringSentence, Explanation, ListName, NetworkStanding};

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
            mode: policy.mode.as_str().to_owned(),
            contents_full: explanation.contents_full,
            exempt: explanation
                .exempt
                .map(|reason| Verdict::Pass(reason).reason().to_owned()),
            lists: explanation.listed.iter().map(ListFact::of).collect(),
            recipient_policy: explanation
                .recipient
                .as_ref()
                .map(|own| RecipientPolicyFact {
                    pattern: own.pattern.to_string(),
                    source: own.source.to_string(),
                    greylist: if own.greylists { "on" } else { "off" }.to_owned(),
                    mode: own.mode.as_str().to_owned(),
                    delay: own.delay.as_secs(),
                }),
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

impl ListFact {
    fn of((list, listed): &(ListName, Listed)) -> Self {
        let order = match &listed.source {
            Source::Live(order) => Some(order),
            _ => None,
        };
        Self {
            list: list.as_str().to_owned(),
            entry: listed.entry.to_string(),
            source: listed.source.to_string(),
            at: order.map(|it| seconds(it.at)),
            until: order.and_then(|it| it.until).map(seconds),
            note: order.map(|it| it.note.clone()).unwrap_or_default(),
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
            sign: standing.sign.map(|it| it.word().to_owned()),
            asks: [
                ("blocklist", standing.wanted.blocklists),
                ("allowlist", standing.wanted.allowlists),
                ("spf", standing.wanted.spf),
            ]
            .into_iter()
            .filter(|(_, is_wanted)| *is_wanted)
            .map(|(source, _)| source.to_owned())
            .collect(),
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

pub(super) fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

fn second(at: Second) -> u64 {
    seconds(at.into())
}

pub(super) fn happened(at: Second) -> Option<u64> {
    (at != Second::NEVER).then(|| second(at))
}
