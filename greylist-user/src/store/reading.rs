//! The end of a message that was read: what its content says of each recipient, and what follows
//! when it goes through.
//!
//! Two steps, since one reply answers for all recipients: first every fingerprint is recorded and
//! judged, then, if none of them has to wait, they pass. What passes is spent only then.
//!
//! What a message deserves is `policy`'s word; this knows where the facts lie.

use std::time::Duration;

use crate::policy::{
    self, Attempt, ContentStanding, Fingerprint, Grounds, Judgement, MessageHasher, NetworkMark,
    PassReason, Policy, Readings, Record, Timestamp, TupleKey, Verdict,
};

use super::Store;
use super::contents::{NoRoom, PassOrder};
use super::judge::Keyed;
use super::trust::never_trusts;

impl Store {
    /// Records the message of an attempt and says what it deserves. A deferral is counted here; a
    /// pass only when it comes to one.
    pub(super) fn read(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Judgement {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        let keyed = Keyed::of(&self.seed, policy, attempt);
        let network = keyed.network;
        let tuple_key = self.mail_keys(policy, network, attempt, now).tuple;
        let tuple = self.find_tuple(&tuple_key, now);
        let fingerprint = message.fingerprint(network, attempt);
        let standing = fingerprint.and_then(|fingerprint| {
            self.note_evidence(policy, &tuple_key, attempt, fingerprint, now);
            self.note_read(policy, fingerprint, keyed.network_key.mark(), now)
        });
        let verdict = self.said(policy, &keyed, tuple, fingerprint, standing, now);
        if !matches!(verdict, Verdict::Pass(_)) {
            self.metrics.judged(verdict);
        }
        Judgement {
            verdict,
            wants_content: false,
            grounds: Grounds {
                attempts: tuple.map_or(0, |it| it.attempts),
                passes: tuple.map_or(0, |it| it.passes),
                extra: tuple.map_or(Duration::ZERO, |it| it.extra()),
                helo_hops: self.hops.slows(policy, &self.seed, network, attempt, now),
                ..Grounds::default()
            },
        }
    }

    /// Records the message of an attempt on which it decides nothing.
    pub(super) fn record_read(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) {
        let policy = self.policy.load();
        let policy = policy.for_recipient(attempt.recipient);
        if !policy.mode.reads() {
            return;
        }
        let keyed = Keyed::of(&self.seed, policy, attempt);
        if let Some(fingerprint) = message.fingerprint(keyed.network, attempt) {
            self.note_read(policy, fingerprint, keyed.network_key.mark(), now);
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
        let policy = policy.for_recipient(attempt.recipient);
        let keyed = Keyed::of(&self.seed, policy, attempt);
        let keys = self.mail_keys(policy, keyed.network, attempt, now);
        let tuple = self.find_tuple(&keys.tuple, now);
        let fingerprint = message.fingerprint(keyed.network, attempt);
        let standing = fingerprint.and_then(|it| self.known(policy, &it, now));
        let said = self.said(policy, &keyed, tuple, fingerprint, standing, now);
        // Whatever it passes for: what is sent again within minutes need not wait again.
        let passed = fingerprint.map_or(PassOrder::Again, |it| self.contents.note_pass(&it, now));
        let verdict = match said {
            // Another session was first, of however many that were told the same at one moment.
            Verdict::Pass(PassReason::Content { .. }) if passed == PassOrder::Again => {
                Verdict::Pass(PassReason::ContentAgain)
            }
            Verdict::Pass(PassReason::Waited { .. }) if self.note_tuple_pass(&keys.tuple, now) => {
                said
            }
            Verdict::Pass(PassReason::Waited { .. }) => Verdict::Pass(PassReason::Passed),
            _ => said,
        };
        let tag = keyed.pair.tag();
        match verdict {
            Verdict::Pass(PassReason::Content { .. }) => {
                if passed == PassOrder::First {
                    self.trust_for_content(policy, attempt, now);
                }
                self.pairs.begin_anew(tag, now);
            }
            Verdict::Pass(PassReason::Persisted { .. }) => self.pairs.begin_anew(tag, now),
            Verdict::Pass(PassReason::Waited { .. } | PassReason::Passed) => {
                if never_trusts(policy, attempt).is_none() {
                    let by_network = || self.seed.trust_key(keyed.network, attempt);
                    self.credit_trust(keys.trust.unwrap_or_else(by_network), &keyed, policy, now);
                }
                self.pairs.end(policy, tag, now);
            }
            Verdict::Pass(_) => {}
            Verdict::Defer(_) | Verdict::Read(_) | Verdict::Refuse(_) => return,
        }
        self.metrics.judged(verdict);
        // A template that is sent for ever speaks for the others who tried it once, and no more.
        let heard = match verdict {
            Verdict::Pass(PassReason::Content { .. }) if passed != PassOrder::First => {
                Verdict::Pass(PassReason::ContentAgain)
            }
            _ => verdict,
        };
        self.reputations
            .note_verdict(policy, &self.seed, &keyed, heard, now);
    }

    /// What is said of a message whose record stands at `standing`; [`None`] if content says nothing.
    fn said(
        &self,
        policy: &Policy,
        keyed: &Keyed<'_>,
        tuple: Option<Record>,
        fingerprint: Option<Fingerprint>,
        standing: Option<ContentStanding>,
        now: Timestamp,
    ) -> Verdict {
        let known = Readings {
            tuple,
            standing,
            message: fingerprint.and_then(|it| self.contents.by_message.get(&it)),
            pair: self.pairs.get(keyed.pair.tag()),
        };
        policy::decide_content(policy, &known, now)
    }

    /// Notes a pass of a tuple that has waited. Says whether it is the first.
    fn note_tuple_pass(&self, key: &TupleKey, now: Timestamp) -> bool {
        let noted = self.tuples.alter(key, |record| {
            let is_first = !record.has_passed();
            record.note_pass(now);
            is_first
        });
        noted.unwrap_or(false)
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
        (!standing.is_over()).then_some(standing)
    }

    /// Null and probe senders earn none: they are read without having roamed, and anybody may put any
    /// domain behind a probe's name.
    fn trust_for_content(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) {
        let is_probe = policy.is_probe_sender(attempt.reverse_path);
        if is_probe || never_trusts(policy, attempt).is_some() {
            return;
        }
        let Some(key) = self.seed.content_trust_key(policy.content.trust, attempt) else {
            return;
        };
        self.credit_content(key, attempt, policy, now);
    }
}
