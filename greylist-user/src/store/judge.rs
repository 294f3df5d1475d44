//! The way of one attempt through the store: the rungs of the ladder in their order, each with the
//! look-up it needs, and what follows from the answer.
//!
//! What an attempt deserves is `policy`'s word; this knows where the facts lie, which of them are
//! asked in which order, and who has to hear of what came of it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use crate::policy::{
    self, Accused, Attempt, Circumstances, ClientNetwork, Decision, DeferReason, Grounds, Judge,
    Judgement, MessageHasher, Offence, PassReason, Policy, RefuseReason, SentencedClient,
    Timestamp, TrustKey, TrustRecord, Verdict,
};

use super::Store;

impl Judge for Store {
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        self.judged.fetch_add(1, Ordering::Relaxed);
        let judgement = self.judgement(&self.policy.load(), attempt, now);
        self.metrics.judged(judgement.verdict);
        judgement
    }

    fn message_hasher(&self) -> MessageHasher {
        self.seed.message_hasher()
    }

    fn note_content(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp) {
        let policy = self.policy.load();
        let network = ClientNetwork::of(&policy, attempt);
        let Some(fingerprint) = message.fingerprint(network, attempt) else {
            return;
        };
        let tuple_key = self.seed.tuple_key(network, attempt);
        let offence = self
            .tuples
            .alter(&tuple_key, |record| {
                policy::note_content(&policy, record, attempt, fingerprint)
            })
            .flatten();
        let failure_key = self.seed.failure_key(attempt);
        let after_failure =
            self.failures
                .note_content(&policy, failure_key, attempt, fingerprint, now);
        for offence in offence.into_iter().chain(after_failure) {
            self.strike(&policy, attempt, offence, now);
        }
    }

    fn note_rejected(&self, attempt: &Attempt<'_>, now: Timestamp) {
        let policy = self.policy.load();
        if policy::exempt(&policy, attempt).is_some() {
            return;
        }
        let network = ClientNetwork::of(&policy, attempt);
        let network_key = self.seed.network_key(network);
        self.reputations
            .note_rejected(&policy, network_key, attempt, &self.seed, now);
        let failure_key = self.seed.failure_key(attempt);
        let client_key = self.seed.client_key(SentencedClient::host(attempt.client));
        let offence = self
            .failures
            .note_rejected(&policy, failure_key, client_key, attempt, now);
        if let Some(offence) = offence {
            self.strike(&policy, attempt, offence, now);
        }
    }
}

impl Store {
    /// The word on `attempt`, down the ladder of `policy`.
    fn judgement(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        if let Some(reason) = policy::exempt(policy, attempt) {
            if reason == PassReason::Authenticated {
                self.clients
                    .note_authenticated(&self.seed, attempt.client, now);
            }
            return Verdict::Pass(reason).into();
        }
        if self.turns_away(policy, attempt, now) {
            return Verdict::Refuse(RefuseReason::Sentenced).into();
        }
        let network = ClientNetwork::of(policy, attempt);
        let network_key = self.seed.network_key(network);
        let repute = self.reputations.standing(policy, &network_key, now);
        if let Some(reason) = policy::refusal(policy, repute) {
            return Verdict::Refuse(reason).into();
        }
        let trust_key = self.seed.trust_key(network, attempt);
        if self.uses_trust(&trust_key, policy, now) {
            self.reputations
                .note_pass(policy, network_key, attempt, &self.seed, now);
            return Verdict::Pass(PassReason::Trusted).into();
        }
        let judgement = self.judge_tuple(policy, attempt, network, now);
        match judgement.verdict {
            Verdict::Pass(PassReason::Waited { .. } | PassReason::Passed) => {
                self.credit_trust(trust_key, policy, now);
                self.reputations
                    .note_pass(policy, network_key, attempt, &self.seed, now);
                let pair = self.seed.pair_key(attempt);
                self.reputations
                    .settle(policy, pair, attempt, &self.seed, now);
            }
            Verdict::Defer(DeferReason::New | DeferReason::Late) => {
                let pair = self.seed.pair_key(attempt);
                self.reputations.watch(policy, pair, network_key, now);
            }
            _ => {}
        }
        judgement
    }

    /// The rung of the tuple, and the offences that show there.
    fn judge_tuple(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        network: ClientNetwork,
        now: Timestamp,
    ) -> Judgement {
        let hopped = self.hops.note(policy, &self.seed, attempt, now);
        for address in hopped.struck {
            self.strike_address(policy, address, None, Offence::RelayHopping, now);
        }
        let failure_key = self.seed.failure_key(attempt);
        let failed = self
            .failures
            .note_attempt(policy, failure_key, attempt, now);
        let circumstances = Circumstances {
            helo_hops: hopped.helo_hops,
            after_failure: failed.wants_content,
        };
        let tuple_key = self.seed.tuple_key(network, attempt);
        let decided = self.tuples.update(tuple_key, |prior| {
            let decision = policy::decide(policy, prior, attempt, &circumstances, now);
            (decision.next, decision)
        });
        let Ok(decision) = decided else {
            return Verdict::Pass(PassReason::Unrecorded).into();
        };
        if !decision.would_wait.is_zero() {
            self.metrics.would_wait.inc();
        }
        for offence in decision.offence.into_iter().chain(failed.offence) {
            self.strike(policy, attempt, offence, now);
        }
        judgement_of(&decision, circumstances)
    }

    /// Whether a sentence has the session of `attempt` turned away: at level block always, so that
    /// the one connection let through an hour hears why; at any level if the session is older than
    /// the sentence.
    fn turns_away(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> bool {
        let history = self.history();
        SentencedClient::covering(attempt.client)
            .into_iter()
            .filter_map(|client| self.sentences.of(client, now))
            .any(|sentence| policy::turns_away(policy, &sentence, attempt, history, now))
    }

    /// Notes an offence of the client of `attempt`, and sentences it if that is what follows.
    pub(super) fn strike(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        offence: Offence,
        now: Timestamp,
    ) {
        let network = ClientNetwork::of(policy, attempt);
        self.strike_address(policy, attempt.client, Some(network), offence, now);
    }

    /// The same for an address of which the client network may not be known.
    fn strike_address(
        &self,
        policy: &Policy,
        address: IpAddr,
        network: Option<ClientNetwork>,
        offence: Offence,
        now: Timestamp,
    ) {
        let network = network.unwrap_or_else(|| ClientNetwork::cut(address, 32, 128));
        let network_key = self.seed.network_key(network);
        let accused = Accused {
            address,
            protection: self.protection(policy, address, &network_key, now),
            has_passed: self.reputations.has_passed(&network_key),
        };
        let struck =
            self.clients
                .strike(policy, &self.seed, &accused, offence, self.history(), now);
        self.reputations.note_strike(policy, network_key, now);
        for sentence in struck {
            self.punish(sentence);
        }
    }

    /// What the past of the client protects it from.
    fn protection(
        &self,
        policy: &Policy,
        address: IpAddr,
        network_key: &policy::NetworkKey,
        now: Timestamp,
    ) -> policy::Protection {
        let repute = self.reputations.standing(policy, network_key, now);
        let authenticated = self
            .clients
            .has_authenticated(policy, &self.seed, address, now);
        policy::protection(policy, address, repute, authenticated)
    }

    /// Whether trust holds; if so, it is renewed.
    fn uses_trust(&self, key: &TrustKey, policy: &Policy, now: Timestamp) -> bool {
        let used = self.trust.alter(key, |record| {
            let trusted = record.is_trusted(policy, now);
            if trusted {
                *record = record.used(now);
            }
            trusted
        });
        used.unwrap_or(false)
    }

    pub(super) fn credit_trust(&self, key: TrustKey, policy: &Policy, now: Timestamp) {
        if policy.trust_after == 0 {
            return;
        }
        let credited = self
            .trust
            .update(key, |prior| (TrustRecord::credited(prior, policy, now), ()));
        if credited.is_err() {
            self.metrics.trust_unrecorded.inc();
        }
    }
}

fn judgement_of(decision: &Decision, circumstances: Circumstances) -> Judgement {
    Judgement {
        verdict: decision.verdict,
        wants_content: decision.wants_content,
        grounds: Grounds {
            attempts: decision.next.attempts,
            passes: decision.next.passes,
            extra: decision.next.extra(),
            would_wait: decision.would_wait,
            helo_hops: circumstances.helo_hops,
        },
    }
}
