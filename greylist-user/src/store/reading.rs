//! The end of a message that was read: what its content says of each recipient, and what follows
//! when it goes through.
//!
//! Two steps, since one reply answers for all recipients: first every fingerprint is recorded and
//! judged, then, if none of them has to wait, they pass. What passes is spent only then.
//!
//! Where content says nothing, the body being empty or there being no room for its fingerprint, the
//! envelope decides alone.

use std::time::Duration;

use crate::policy::{
    Action, Attempt, ClientNetwork, ContentStanding, DeferReason, Fingerprint, Grounds, Judgement,
    MessageHasher, NetworkMark, PairRecord, PassReason, Policy, Record, Standing, Timestamp,
    TrustRecord, Verdict,
};

use super::Store;
use super::contents::NoRoom;

impl Store {
    /// Records the message of an attempt and says what it deserves.
    pub(super) fn read(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Judgement {
        let policy = self.policy.load();
        let network = ClientNetwork::of(&policy, attempt);
        let tuple = self.tuples.get(&self.seed.tuple_key(network, attempt));
        let fingerprint = message.fingerprint(network, attempt);
        let standing = fingerprint.and_then(|fingerprint| {
            self.note_evidence(&policy, network, attempt, fingerprint, now);
            let mark = self.seed.network_key(network).mark();
            self.note_read(&policy, fingerprint, mark, now)
        });
        let said = self.said(&policy, attempt, tuple.as_ref(), standing, now);
        let verdict = match (policy.action, said) {
            (Action::Observe, Verdict::Defer(_)) => Verdict::Pass(PassReason::Observed),
            (_, said) => said,
        };
        self.metrics.judged(verdict);
        Judgement {
            verdict,
            wants_content: false,
            grounds: Grounds {
                attempts: tuple.map_or(0, |it| it.attempts),
                passes: tuple.map_or(0, |it| it.passes),
                extra: tuple.map_or(Duration::ZERO, |it| it.extra()),
                ..Grounds::default()
            },
        }
    }

    /// Lets the message of an attempt through that was read before.
    pub(super) fn note_read_pass(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) {
        let policy = self.policy.load();
        let network = ClientNetwork::of(&policy, attempt);
        let tuple_key = self.seed.tuple_key(network, attempt);
        let fingerprint = message.fingerprint(network, attempt);
        let standing = fingerprint.and_then(|it| self.known(&policy, &it, now));
        let tuple = self.tuples.get(&tuple_key);
        let verdict = self.said(&policy, attempt, tuple.as_ref(), standing, now);
        let is_first = fingerprint.is_some_and(|it| self.contents.note_pass(&it, now));
        match verdict {
            Verdict::Pass(PassReason::Content { .. }) if is_first => {
                self.trust_for_content(&policy, attempt, now);
            }
            Verdict::Pass(PassReason::Waited { .. }) => {
                self.tuples.alter(&tuple_key, |it| it.note_pass(now));
                self.credit_trust(self.seed.trust_key(network, attempt), &policy, now);
            }
            Verdict::Pass(PassReason::Persisted { .. }) => {}
            _ => return,
        }
        let network_key = self.seed.network_key(network);
        let pair = self.seed.pair_key(attempt).tag();
        self.pairs.begin_anew(&pair, network_key.mark(), now);
        self.reputations
            .note_verdict(&policy, &self.seed, network_key, attempt, verdict, now);
    }

    /// What is said of a message whose record stands at `standing`; [`None`] if content says nothing.
    fn said(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        tuple: Option<&Record>,
        standing: Option<ContentStanding>,
        now: Timestamp,
    ) -> Verdict {
        let verdict = match standing {
            Some(standing) => standing.verdict(),
            None => by_envelope(policy, tuple, now),
        };
        let pair = || self.pairs.get(&self.seed.pair_key(attempt).tag());
        match verdict {
            Verdict::Pass(PassReason::Content { waited }) => {
                let longest = pair().map_or(waited, |it| waited.max(it.waited(now)));
                Verdict::Pass(PassReason::Content { waited: longest })
            }
            Verdict::Defer(_) => persisted(policy, pair(), now).unwrap_or(verdict),
            _ => verdict,
        }
    }

    /// Records the fingerprint; [`None`] if there is no room for it.
    fn note_read(
        &self,
        policy: &Policy,
        fingerprint: Fingerprint,
        network: NetworkMark,
        now: Timestamp,
    ) -> Option<ContentStanding> {
        let noted = self.contents.note_read(policy, fingerprint, network, now);
        match noted {
            Err(NoRoom::Full) => self.metrics.contents_unrecorded.inc(),
            Err(NoRoom::Share) => self.metrics.contents_beyond_share.inc(),
            Ok(_) => 0,
        };
        noted.ok()
    }

    /// Where the record of a message stands; [`None`] if there is none.
    fn known(
        &self,
        policy: &Policy,
        fingerprint: &Fingerprint,
        now: Timestamp,
    ) -> Option<ContentStanding> {
        let standing = self.contents.standing(policy, fingerprint, now);
        (standing != ContentStanding::Lapsed).then_some(standing)
    }

    fn trust_for_content(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) {
        let Some(key) = self.seed.content_trust_key(policy.content.trust, attempt) else {
            return;
        };
        let credited = self
            .trust
            .update(key, |prior| (TrustRecord::credited(prior, policy, now), ()));
        if credited.is_err() {
            self.metrics.trust_unrecorded.inc();
        }
    }
}

/// What the tuple alone says.
fn by_envelope(policy: &Policy, tuple: Option<&Record>, now: Timestamp) -> Verdict {
    match tuple.map(|it| it.standing(policy, now)) {
        None | Some(Standing::Lapsed) => Verdict::Defer(DeferReason::New),
        Some(Standing::Early { left }) => Verdict::Defer(DeferReason::Early { left }),
        Some(Standing::InWindow { waited }) => Verdict::Pass(PassReason::Waited { waited }),
        Some(Standing::Passed) => Verdict::Pass(PassReason::Passed),
    }
}

fn persisted(policy: &Policy, pair: Option<PairRecord>, now: Timestamp) -> Option<Verdict> {
    let pair = pair.filter(|it| it.has_persisted(policy, now))?;
    let waited = pair.waited(now);
    Some(Verdict::Pass(PassReason::Persisted { waited }))
}
