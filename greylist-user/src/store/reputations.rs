//! The reputations of client networks: who feeds them, and who asks.
//!
//! Knows which network's record a fact belongs to, and that of most mail nothing new is learnt: the
//! second mail of a day to a recipient is a look-up and no change. What a fact counts for is
//! `policy`'s word.
//!
//! Attempts reported by a milter peer on another host count like this host's own. The operator has
//! listed that peer, the reputation it feeds decides what that peer is answered, and no entry in the
//! kernel follows from a reputation alone.

use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::{
    Attempt, ClientNetwork, DeferReason, NetworkKey, PairKey, PassReason, Policy, RecipientMark,
    Reputation, Repute, Seed, SentencedClient, Timestamp, Verdict, Weights, verified_name,
};

use super::judge::Keyed;
use super::table::{Lot, Table, Walked};
use super::watch::{Watch, Watched};
use super::{Metrics, Store};

/// The table of reputations, and the watch that feeds it.
#[derive(Debug)]
pub(super) struct Reputations {
    pub(super) by_network: Table<NetworkKey, Reputation>,
    watch: Watch,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Hears what a filter behind made of a mail from `client`. Returns whether there was room to
    /// note it.
    ///
    /// The client network depends on the client's verified reverse name. With `name`, empty or
    /// `unknown` for a client that has none, the report counts for that network. Without it the
    /// report counts for both that the address may belong to, as far as they are on record: mail that
    /// could be reported has passed, so one of them nearly always is, and the other only if
    /// neighbours are of the other kind. If none is, it counts for both.
    pub fn report_mail(
        &self,
        client: IpAddr,
        name: Option<&[u8]>,
        spam: bool,
        now: Timestamp,
    ) -> bool {
        let policy = self.policy.load();
        let networks = match name {
            Some(name) => [ClientNetwork::of_client(&policy, client, verified_name(name)); 2],
            None => ClientNetwork::possible(&policy, client),
        };
        let keys = networks.map(|network| self.seed.network_key(network));
        self.reputations.note_report(&policy, keys, spam, now)
    }
}

impl Reputations {
    /// An empty table for `capacity` networks. Memory is taken as it fills.
    pub(super) fn growing(capacity: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            by_network: Table::growing(capacity),
            watch: Watch::new(),
            metrics,
        }
    }

    /// What is said of the network at `now`.
    pub(super) fn standing(&self, policy: &Policy, key: &NetworkKey, now: Timestamp) -> Repute {
        let found = self.by_network.get(key);
        found.map_or(Repute::Unknown, |record| record.standing(policy, now))
    }

    /// Whether the network has passes on record.
    pub(super) fn has_passed(&self, key: &NetworkKey) -> bool {
        let found = self.by_network.get(key);
        found.is_some_and(|record| record.has_passed())
    }

    /// Hears the verdict on an attempt that was neither exempt nor refused.
    ///
    /// What passes is watched no longer. Only the first pass, of a tuple or of a message, speaks for
    /// the others who tried: known correspondents write all the time, and whoever forges one of them
    /// would come by good counts for nothing.
    pub(super) fn note_verdict(
        &self,
        policy: &Policy,
        seed: &Seed,
        keyed: &Keyed<'_>,
        verdict: Verdict,
        now: Timestamp,
    ) {
        let Keyed {
            attempt,
            network_key: key,
            pair,
            ..
        } = *keyed;
        let mark = || seed.recipient_mark(attempt.recipient);
        match verdict {
            Verdict::Pass(
                PassReason::Waited { .. }
                | PassReason::Content { .. }
                | PassReason::Persisted { .. },
            ) => {
                self.note_pass(policy, key, mark(), now);
                if let Some(watched) = self.end_watch(&pair) {
                    for other in watched.networks().iter().filter(|it| **it != key) {
                        self.note_pass(policy, *other, watched.mark(), now);
                    }
                }
            }
            Verdict::Pass(
                PassReason::Passed | PassReason::Trusted | PassReason::ContentTrusted,
            ) => {
                self.note_pass(policy, key, mark(), now);
                self.end_watch(&pair);
            }
            // It was deferred before: until the operator chose only to observe, or elsewhere until
            // there was no room for one more tuple, or until others vouched for it. And of what passed
            // before nothing is learnt by its passing again, except that it was not given up.
            Verdict::Pass(
                PassReason::ContentAgain
                | PassReason::NoRetry
                | PassReason::Observed
                | PassReason::OptedOut
                | PassReason::Unrecorded
                | PassReason::Unsuspicious
                | PassReason::Vouched,
            ) => {
                self.end_watch(&pair);
            }
            // A probe that is put off has nothing to come again with.
            Verdict::Defer(DeferReason::New | DeferReason::Late) | Verdict::Read(_)
                if !policy.is_probe_sender(attempt.reverse_path) =>
            {
                match self.watch.begin(policy, pair, key, mark(), now) {
                    Ok(lapsed) => self.blame(policy, lapsed, now),
                    Err(_full) => {
                        self.metrics.pairs_unwatched.inc();
                    }
                }
            }
            _ => {}
        }
    }

    /// Notes that the MTA rejected a recipient. Backscatter and probes ask for recipients
    /// that may not exist, whoever sends them.
    pub(super) fn note_rejected(
        &self,
        policy: &Policy,
        key: NetworkKey,
        attempt: &Attempt<'_>,
        seed: &Seed,
        now: Timestamp,
    ) {
        if !policy.is_probe_sender(attempt.reverse_path) {
            let mark = seed.recipient_mark(attempt.recipient);
            self.note_bad(policy, key, mark, now);
        }
    }

    /// Notes a strike of a client that belongs to the network.
    pub(super) fn note_strike(&self, policy: &Policy, key: NetworkKey, now: Timestamp) {
        self.change(key, |prior| Reputation::after_strike(prior, policy, now));
    }

    /// Notes that mail of the network is refused for its reputation, or would be. Once a day this
    /// gives what speaks for and against it.
    pub(super) fn note_refused(
        &self,
        policy: &Policy,
        key: &NetworkKey,
        now: Timestamp,
    ) -> Option<Weights> {
        if self.by_network.get(key)?.has_refused_today(now) {
            return None;
        }
        let weights = self.by_network.alter(key, |record| {
            let is_first = !record.has_refused_today(now);
            record.note_refused(now);
            is_first.then(|| record.weights(policy, now))
        });
        weights.flatten()
    }

    /// Undoes what speaks against the networks that `client`, an address or the network around it, may
    /// belong to. Says of how many.
    pub(super) fn forgive(&self, policy: &Policy, seed: &Seed, client: SentencedClient) -> u8 {
        let mut forgiven = 0;
        for network in ClientNetwork::possible(policy, client.network().addr()) {
            let key = seed.network_key(network);
            if self.by_network.get(&key).is_some_and(|it| it.has_bad()) {
                self.by_network.alter(&key, |it| *it = it.forgiven());
                forgiven += 1;
            }
        }
        forgiven
    }

    /// Brings the gauges up to date.
    pub(super) fn show_sizes(&self) {
        let show = |size: usize| super::gauge(size as u64);
        self.metrics.reputations.set(show(self.by_network.len()));
        self.metrics.pairs_watched.set(show(self.watch.len()));
    }

    /// How many aisles there are to sweep: those of the watch, then those of the reputations.
    pub(super) fn aisles(&self) -> usize {
        self.watch.aisles() + self.by_network.aisles()
    }

    /// Sweeps aisle `number`: blames those whose mail never came again, and removes what says
    /// nothing any more. While room is short, what says hardly anything goes, too.
    pub(super) fn sweep_aisle(&self, number: usize, policy: &Policy, now: Timestamp) -> Walked {
        if let Some(number) = number.checked_sub(self.watch.aisles()) {
            let capacity = self.by_network.capacity();
            let is_short = self.by_network.len() >= capacity - capacity / 8;
            let swept = self.by_network.sweep_aisle(number, |record| {
                if is_short && record.is_negligible(policy, now) {
                    Lot::MakesWay
                } else {
                    Lot::until_it_lapses(record.has_lapsed(policy, now))
                }
            });
            return swept.0;
        }
        let (walked, lapsed) = self.watch.sweep_aisle(number, policy, now);
        self.blame(policy, lapsed, now);
        walked
    }

    /// Watches a reverse-path and recipient no longer, and gives what was known if it was watched.
    fn end_watch(&self, pair: &PairKey) -> Option<Watched> {
        if self.watch.len() == 0 {
            return None;
        }
        self.watch.end(pair)
    }

    /// A good count, one for a recipient and day.
    fn note_pass(&self, policy: &Policy, key: NetworkKey, mark: RecipientMark, now: Timestamp) {
        let found = self.by_network.get(&key);
        if !found.is_some_and(|record| record.has_good_today(mark, now)) {
            self.change(key, |prior| {
                Reputation::after_good(prior, policy, mark, now)
            });
        }
    }

    /// A bad count, one for a recipient and day.
    fn note_bad(&self, policy: &Policy, key: NetworkKey, mark: RecipientMark, now: Timestamp) {
        self.change(key, |prior| Reputation::after_bad(prior, policy, mark, now));
    }

    fn note_report(
        &self,
        policy: &Policy,
        keys: [NetworkKey; 2],
        spam: bool,
        now: Timestamp,
    ) -> bool {
        let mut noted = true;
        for key in self.on_record(keys) {
            noted &= self.change(key, |prior| {
                Reputation::after_report(prior, policy, spam, now)
            });
        }
        noted
    }

    /// All who tried `lapsed` have given it up.
    fn blame(&self, policy: &Policy, lapsed: impl IntoIterator<Item = Watched>, now: Timestamp) {
        for watched in lapsed {
            for network in watched.networks() {
                self.note_bad(policy, *network, watched.mark(), now);
            }
        }
    }

    /// Those of two networks that are on record; both if none is.
    fn on_record(&self, keys: [NetworkKey; 2]) -> impl Iterator<Item = NetworkKey> {
        let [first, second] = keys;
        let are = keys.map(|key| self.by_network.get(&key).is_some());
        let none = are == [false, false];
        let first = (are[0] || none).then_some(first);
        let second = (second != keys[0] && (are[1] || none)).then_some(second);
        first.into_iter().chain(second)
    }

    /// Changes the record of a network. Returns whether there was room for one.
    fn change(
        &self,
        key: NetworkKey,
        change: impl FnOnce(Option<&Reputation>) -> Reputation,
    ) -> bool {
        let changed = self.by_network.update(key, |prior| (change(prior), ()));
        if changed.is_err() {
            self.metrics.reputations_unrecorded.inc();
        }
        changed.is_ok()
    }
}

#[cfg(test)]
mod tests;
