//! The way of one attempt through the store: the rungs of the ladder in their order, each with the
//! look-up it needs, and what follows from the answer.
//!
//! What an attempt deserves is `policy`'s word; this knows where the facts lie, which of them are
//! asked in which order, and who has to hear of what came of it.

use std::sync::atomic::Ordering;

use crate::log::STRANGERS;
use crate::policy::{
    self, Attempt, Circumstances, ClientNetwork, Decision, DeferReason, Fingerprint, Grounds,
    Judge, Judgement, MessageHasher, NetworkKey, Offence, PairKey, PassReason, Policy, ReadReason,
    Record, RefuseReason, Repute, Seed, SentencedClient, Standing, Timestamp, TrustKey, TupleKey,
    Verdict, Wanted,
};

use super::Store;
use super::shed::Decided;
use super::trust::never_trusts;

impl Judge for Store {
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        self.judged.fetch_add(1, Ordering::Relaxed);
        let judgement = self.judgement(&self.policy.load(), attempt, now);
        self.metrics.judged(judgement.verdict);
        judgement
    }

    fn wants(&self, attempt: &Attempt<'_>, now: Timestamp) -> Wanted {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        let wanted = policy::wanted(policy, attempt);
        if wanted.is_any() && self.would_hold(policy, attempt, now) {
            wanted
        } else {
            Wanted::default()
        }
    }

    fn turns_away(&self, attempt: &Attempt<'_>, now: Timestamp) -> bool {
        let policy = self.policy.load();
        policy::exempt(&policy, attempt).is_none() && self.is_turned_away(&policy, attempt, now)
    }

    fn message_hasher(&self) -> MessageHasher {
        self.seed
            .message_hasher(self.policy.load().content.hash_limit)
    }

    fn judge_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Judgement {
        self.read(attempt, message, now)
    }

    fn note_content_pass(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp) {
        self.note_read_pass(attempt, message, now);
    }

    fn note_held(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp) {
        self.record_read(attempt, message, now);
    }

    fn note_content(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp) {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        let network = ClientNetwork::of(policy, attempt);
        let Some(fingerprint) = message.fingerprint(network, attempt) else {
            return;
        };
        let tuple_key = self.mail_keys(policy, network, attempt, now).tuple;
        self.note_evidence(policy, &tuple_key, attempt, fingerprint, now);
    }

    fn note_rejected(&self, attempt: &Attempt<'_>, now: Timestamp) {
        let policy = self.policy.load();
        if policy::is_spared(&policy, attempt) {
            return;
        }
        let network = ClientNetwork::of(&policy, attempt);
        let network_key = self.seed.network_key(network);
        self.reputations
            .note_rejected(&policy, network_key, attempt, &self.seed, now);
        let offence = self
            .failures
            .note_rejected(&policy, &self.seed, attempt, now);
        if let Some(offence) = offence
            && !self.is_trusted(&policy, network, attempt, now)
        {
            self.strike(&policy, attempt, offence, now);
        }
    }
}

impl Store {
    /// The word on `attempt`, down the ladder of `policy`.
    fn judgement(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        if let Some(reason) = policy::exempt(policy, attempt) {
            if reason == PassReason::Authenticated {
                let noted = self
                    .clients
                    .note_authenticated(&self.seed, attempt.client, now);
                match noted {
                    Ok(()) => self.keep_client(SentencedClient::of(attempt.client)),
                    Err(_full) => self.note_unrecorded(),
                }
            }
            return Verdict::Pass(reason).into();
        }
        if let Some(reason) = self.denies(policy, attempt, now) {
            return Verdict::Refuse(reason).into();
        }
        let policy = policy.for_recipient(attempt.recipient);
        if self.is_turned_away(policy, attempt, now) {
            return Verdict::Refuse(RefuseReason::Sentenced).into();
        }
        self.failures.note_named(policy, &self.seed, attempt, now);
        let keyed = Keyed::of(&self.seed, policy, attempt);
        let repute = self.reputations.standing(policy, &keyed.network_key, now);
        if repute == Repute::Bad
            && let Some(reason) = self.refuses(policy, &keyed.network_key, attempt, now)
        {
            if reason == (RefuseReason::BadReputation { permanently: true }) {
                self.note_refused(policy, attempt, now);
            }
            return Verdict::Refuse(reason).into();
        }
        let judgement = match policy::spares_the_wait(policy, attempt) {
            Some(reason) => Verdict::Pass(reason).into(),
            None => self.trust_or_tuple(policy, &keyed, repute, now),
        };
        let verdict = judgement.verdict;
        self.reputations
            .note_verdict(policy, &self.seed, &keyed, verdict, now);
        judgement
    }

    /// The rungs of trust, of evidence and of the tuple.
    fn trust_or_tuple(
        &self,
        policy: &Policy,
        keyed: &Keyed<'_>,
        repute: Repute,
        now: Timestamp,
    ) -> Judgement {
        let attempt = keyed.attempt;
        let trust_key = never_trusts(policy, attempt)
            .is_none()
            .then(|| self.seed.trust_key(keyed.network, attempt));
        let excused = trust_key
            .and_then(|key| self.uses_trust(&key, policy, attempt, repute, now))
            .or_else(|| policy::excused(policy, attempt));
        if let Some(reason) = excused {
            return Verdict::Pass(reason).into();
        }
        let keys = self.mail_keys(policy, keyed.network, attempt, now);
        let judgement = self.judge_tuple(policy, keyed, keys.tuple, now);
        if let Verdict::Pass(PassReason::Waited { .. } | PassReason::Passed) = judgement.verdict
            && let Some(by_network) = trust_key
        {
            self.credit_trust(keys.trust.unwrap_or(by_network), keyed, policy, now);
        }
        judgement
    }

    /// Whether the deny list turns `attempt` away, or only would. One that it refuses for good has
    /// failed: who goes on retrying it is no mail queue.
    fn denies(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<RefuseReason> {
        let (_, reason) = policy::denial(policy, attempt)?;
        match reason {
            None => {
                self.metrics.would_deny.inc();
            }
            Some(RefuseReason::Denied { permanently: true }) => {
                self.note_refused(policy, attempt, now);
            }
            Some(_) => {}
        }
        reason
    }

    /// Hears what the message of an attempt turned out to be: it may prove what the attempt looked
    /// like.
    pub(super) fn note_evidence(
        &self,
        policy: &Policy,
        tuple_key: &TupleKey,
        attempt: &Attempt<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) {
        let offence = self
            .tuples
            .alter(tuple_key, |record| {
                policy::note_content(policy, record, attempt, fingerprint)
            })
            .flatten();
        let after_failure =
            self.failures
                .note_content(policy, &self.seed, attempt, fingerprint, now);
        for offence in offence.into_iter().chain(after_failure) {
            self.strike(policy, attempt, offence, now);
        }
    }

    /// Whether a bad reputation turns `attempt` away, or only would.
    fn refuses(
        &self,
        policy: &Policy,
        network_key: &NetworkKey,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<RefuseReason> {
        let refusal = policy::refusal(policy, Repute::Bad);
        if refusal.is_none() {
            self.metrics.would_refuse.inc();
        }
        if let Some(weights) = self.reputations.note_refused(policy, network_key, now) {
            tracing::info!(
                name: "bad-reputation",
                target: STRANGERS,
                client = %attempt.client,
                action = policy.reputation.action.as_str(),
                good = (weights.good + weights.ham) / 256,
                bad = (weights.bad + weights.spam) / 256,
                "bad-reputation"
            );
        }
        refusal
    }

    /// The rung of the tuple, and the offences that show there.
    fn judge_tuple(
        &self,
        policy: &Policy,
        keyed: &Keyed<'_>,
        tuple_key: TupleKey,
        now: Timestamp,
    ) -> Judgement {
        let Keyed {
            attempt, network, ..
        } = *keyed;
        let hopped = self.hops.note(policy, &self.seed, network, attempt, now);
        for (address, network) in hopped.struck {
            self.strike_address(policy, address, network, Offence::RelayHopping, now);
        }
        let failed = self.failures.note_attempt(policy, &self.seed, attempt, now);
        let circumstances = Circumstances {
            helo_hops: hopped.helo_hops,
            after_failure: failed.wants_content,
            reads: policy::reads(policy, attempt, false),
        };
        let decide =
            |prior: Option<&Record>| policy::decide(policy, prior, attempt, circumstances, now);
        let decided = self.decide_tuple(policy, attempt, tuple_key, decide, now);
        if let (Decided::Recorded(decision), Some(kept)) = (&decided, &self.kept) {
            kept.note_tuple(tuple_key, attempt, decision.next.attempts == 1);
            // Removed at the same moment: what nobody would remove stays for ever.
            if !self.tuples.contains(&tuple_key) {
                kept.forget(&kept.tuples, &[tuple_key]);
            }
        }
        // What came of a failure stands, whether or not there is room for the tuple.
        let early = match &decided {
            Decided::Recorded(decision) => decision.offence,
            Decided::Shed(_) | Decided::Nowhere => None,
        };
        for offence in early.into_iter().chain(failed.offence) {
            self.strike(policy, attempt, offence, now);
        }
        let (decision, is_recorded) = match decided {
            Decided::Recorded(decision) => (decision, true),
            Decided::Shed(decision) => (decision, false),
            Decided::Nowhere => return Verdict::Pass(PassReason::Unrecorded).into(),
        };
        let roams = self.note_pair(policy, keyed, decision.verdict, is_recorded, now);
        let decision = decision.roaming(policy, attempt, roams);
        let judgement = judgement_of(&decision, circumstances, policy);
        if !judgement.grounds.would_wait.is_zero() {
            self.metrics.would_wait.inc();
        }
        judgement
    }

    /// Whether `attempt` would get as far as its tuple and be held there, or would be if greylisting did
    /// more than observe. Changes nothing.
    pub(super) fn would_hold(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        if policy::exempt(policy, attempt).is_some()
            || policy::denial(policy, attempt).is_some_and(|(_, refusal)| refusal.is_some())
            || policy::spares_the_wait(policy, attempt).is_some()
            || self.is_turned_away(policy, attempt, now)
        {
            return false;
        }
        let network = ClientNetwork::of(policy, attempt);
        let network_key = self.seed.network_key(network);
        let repute = self.reputations.standing(policy, &network_key, now);
        if policy::refusal(policy, repute).is_some() {
            return false;
        }
        if never_trusts(policy, attempt).is_none() {
            let trust = self.trust.get(&self.seed.trust_key(network, attempt));
            if trust.is_some_and(|it| it.is_trusted(policy, repute, now))
                || self.content_trust(policy, attempt, now).is_some()
            {
                return false;
            }
        }
        let tuple = self.find_tuple(&self.seed.tuple_key(network, attempt), now);
        match tuple.map(|it| it.standing(policy, now)) {
            None | Some(Standing::Early { .. } | Standing::Lapsed) => true,
            Some(Standing::InWindow { .. }) => {
                policy::reads(policy, attempt, false) == Some(ReadReason::Mode)
            }
            Some(Standing::Passed) => false,
        }
    }

    /// What the tuple of `attempt`, and the trust that it earns, are remembered by.
    ///
    /// Where a domain stands for the client network, a tuple that began under the network, while there
    /// was no word of SPF, goes on under it: it does not wait anew. Whatever SPF says from one attempt
    /// to the next, each of the two is on record from its first attempt on, and so a client waits
    /// twice at most.
    pub(super) fn mail_keys(
        &self,
        policy: &Policy,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> MailKeys {
        let by_network = MailKeys {
            tuple: self.seed.tuple_key(network, attempt),
            trust: None,
        };
        let Some(domain) = policy::identity(policy, attempt) else {
            return by_network;
        };
        let by_domain = MailKeys {
            tuple: self.seed.domain_tuple_key(domain, attempt),
            trust: Some(self.seed.domain_trust_key(domain, attempt)),
        };
        let has_begun = |key| {
            let tuple = self.find_tuple(key, now);
            tuple.is_some_and(|it| it.standing(policy, now) != Standing::Lapsed)
        };
        if has_begun(&by_network.tuple) && !has_begun(&by_domain.tuple) {
            by_network
        } else {
            by_domain
        }
    }

    /// Notes what `verdict`, which the tuple gave, means to reverse-path and recipient. They are asked
    /// after the tuple, and only if it has something to tell them. Where the tuple was not recorded for
    /// want of room, none is begun either. Says whether the attempt was a roaming retry.
    fn note_pair(
        &self,
        policy: &Policy,
        keyed: &Keyed<'_>,
        verdict: Verdict,
        may_begin: bool,
        now: Timestamp,
    ) -> bool {
        if !policy.mode.reads() {
            return false;
        }
        let tag = keyed.pair.tag();
        match verdict {
            Verdict::Defer(_) | Verdict::Read(_) => {
                let mark = keyed.network_key.mark();
                let is_new = verdict == Verdict::Defer(DeferReason::New);
                if may_begin {
                    self.pairs
                        .note_contact(policy, tag, mark, is_new, &self.metrics, now)
                } else {
                    self.pairs.note_known(policy, tag, mark, is_new, now)
                }
            }
            Verdict::Pass(PassReason::Waited { .. }) => {
                self.pairs.end(policy, tag, now);
                false
            }
            _ => false,
        }
    }

    /// Whether a sentence has the session of `attempt` turned away: at level block always, so that
    /// the one connection let through an hour hears why; at any level if the session is older than
    /// the sentence.
    pub(super) fn is_turned_away(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        let history = self.history();
        SentencedClient::covering(attempt.client)
            .into_iter()
            .filter_map(|client| self.sentences.of(client, now))
            .any(|sentence| policy::turns_away(policy, &sentence, attempt, history, now))
    }

    /// Notes that the attempt is answered 5yz by this program itself. The message has failed, but
    /// that says nothing of its recipient.
    fn note_refused(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) {
        if let Some(offence) = self.failures.note_refused(policy, &self.seed, attempt, now) {
            self.strike(policy, attempt, offence, now);
        }
    }
}

/// What one mail is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MailKeys {
    pub(super) tuple: TupleKey,
    /// [`None`] is the trust in the client network.
    pub(super) trust: Option<TrustKey>,
}

/// An attempt, and the keys that more than one table asks for: each is hashed once.
#[derive(Clone, Copy)]
pub(super) struct Keyed<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) network: ClientNetwork,
    pub(super) network_key: NetworkKey,
    pub(super) pair: PairKey,
}

impl<'a> Keyed<'a> {
    pub(super) fn of(seed: &Seed, policy: &Policy, attempt: &'a Attempt<'a>) -> Self {
        let network = ClientNetwork::of(policy, attempt);
        Self {
            attempt,
            network,
            network_key: seed.network_key(network),
            pair: seed.pair_key(attempt),
        }
    }
}

/// What is said of an attempt of which `decision` was made.
pub(super) fn judgement_of(
    decision: &Decision,
    circumstances: Circumstances,
    policy: &Policy,
) -> Judgement {
    Judgement {
        verdict: decision.verdict,
        wants_content: decision.wants_content,
        grounds: Grounds {
            attempts: decision.next.attempts,
            passes: decision.next.passes,
            extra: decision.next.extra(),
            would_wait: decision.would_wait(policy),
            helo_hops: circumstances.helo_hops,
        },
    }
}
