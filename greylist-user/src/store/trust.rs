//! Trust: whether it holds, that using it renews it, and who is credited with a pass.
//!
//! What a pass is worth, and when trust has lapsed, is `policy`'s word; this knows under which key which trust
//! lies.

use crate::policy::{
    self, Attempt, ClientNetwork, ContentTrust, Listed, PassReason, Policy, Repute,
    SentencedClient, Timestamp, TrustKey, TrustRecord,
};

use super::Store;
use super::judge::Keyed;

impl Store {
    /// Whether trust holds that passes of tuples have earned. The recipients that the MTA refuses
    /// itself come past it. That one message came again after a minute speaks for other mail, not for
    /// a client that is rejected over and over.
    pub(super) fn is_trusted(
        &self,
        policy: &Policy,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        if never_trusts(policy, attempt).is_some() {
            return false;
        }
        let record = self.trust.get(&self.seed.trust_key(network, attempt));
        let repute = || {
            let key = self.seed.network_key(network);
            self.reputations.standing(policy, &key, now)
        };
        record.is_some_and(|record| record.is_trusted(policy, repute(), now))
    }

    /// The key of the trust that a message which came again has earned, if it holds.
    pub(super) fn content_trust(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<TrustKey> {
        if !policy.mode.reads() {
            return None;
        }
        let key = self.seed.content_trust_key(policy.content.trust, attempt)?;
        let record = self.trust.get(&key)?;
        record.is_earned_by_content(policy, now).then_some(key)
    }

    /// Whether trust holds, and which; if so, it is renewed.
    pub(super) fn uses_trust(
        &self,
        key: &TrustKey,
        policy: &Policy,
        attempt: &Attempt<'_>,
        repute: Repute,
        now: Timestamp,
    ) -> Option<PassReason> {
        let record = self.trust.get(key);
        if record.is_some_and(|it| it.is_trusted(policy, repute, now)) {
            self.trust.alter(key, |record| *record = record.used(now));
            return Some(PassReason::Trusted);
        }
        if let Some(domain) = policy::identity(policy, attempt) {
            let key = self.seed.domain_trust_key(domain, attempt);
            let record = self.trust.get(&key);
            if record.is_some_and(|it| it.is_trusted(policy, repute, now)) {
                self.trust.alter(&key, |record| *record = record.used(now));
                return Some(PassReason::Trusted);
            }
        }
        let key = self.content_trust(policy, attempt, now)?;
        self.trust.alter(&key, |record| *record = record.used(now));
        Some(PassReason::ContentTrusted)
    }

    /// Credits a pass of a tuple, where passes of tuples earn trust.
    pub(super) fn credit_trust(
        &self,
        key: TrustKey,
        keyed: &Keyed<'_>,
        policy: &Policy,
        now: Timestamp,
    ) {
        if policy.trust_after == 0 {
            return;
        }
        self.record_trust(key, |prior| TrustRecord::credited(prior, policy, now));
        let Attempt {
            reverse_path,
            recipient,
            ..
        } = *keyed.attempt;
        self.keep_trust(key, keyed.network, || {
            let mut sender = Vec::new();
            policy::fold_sender(reverse_path, recipient, |piece| {
                sender.extend_from_slice(piece);
            });
            sender
        });
    }

    /// Credits a message that came again.
    pub(super) fn credit_content(
        &self,
        key: TrustKey,
        attempt: &Attempt<'_>,
        policy: &Policy,
        now: Timestamp,
    ) {
        self.record_trust(key, |prior| {
            TrustRecord::credited(prior, policy, now).earned_by_content()
        });
        let host = ClientNetwork::cut(attempt.client, 32, 128);
        self.keep_trust(key, host, || match policy.content.trust {
            ContentTrust::Domain => policy::domain_of(attempt.reverse_path),
            ContentTrust::Address | ContentTrust::Off => Vec::new(),
        });
    }

    /// Keeps whose trust it is, if addresses are kept.
    fn keep_trust(&self, key: TrustKey, network: ClientNetwork, sender: impl FnOnce() -> Vec<u8>) {
        let Some(kept) = &self.kept else {
            return;
        };
        kept.note_trust(key, network, sender);
        if !self.trust.contains(&key) {
            kept.forget(&kept.trust, &[key]);
        }
    }

    /// Keeps which client it is, if addresses are kept.
    pub(super) fn keep_client(&self, client: SentencedClient) {
        let Some(kept) = &self.kept else {
            return;
        };
        let key = self.seed.client_key(client);
        kept.note_client(key, client);
        if !self.clients.by_address.contains(&key) {
            kept.forget(&kept.clients, &[key]);
        }
    }

    fn record_trust(
        &self,
        key: TrustKey,
        credit: impl FnOnce(Option<&TrustRecord>) -> TrustRecord,
    ) {
        let credited = self.trust.update(key, |prior| (credit(prior), ()));
        if credited.is_err() {
            self.metrics.trust_unrecorded.inc();
        }
    }
}

/// The entry by which neither client nor sender of `attempt` is ever trusted for what has passed.
pub(super) fn never_trusts<'p>(policy: &'p Policy, attempt: &Attempt<'_>) -> Option<&'p Listed> {
    policy.lists.never_trust.find(attempt)
}
