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
    Attempt, ClientNetwork, DeferReason, NetworkKey, Origin, PassReason, Policy, RecipientMark,
    Reputation, Repute, Seed, SentencedClient, ServerMark, Timestamp, Verdict, Weights,
};

use super::table::{Table, Walked};
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
    /// `unknown` for a client that has none, the report counts for that network. Without it the report counts for
    /// both that the address may belong to, as far as they are on record: mail that could be
    /// reported has passed, so one of them nearly always is, and the other only if neighbours are of
    /// the other kind. If none is, it counts for both.
    pub fn report_mail(
        &self,
        client: IpAddr,
        name: Option<&[u8]>,
        spam: bool,
        now: Timestamp,
    ) -> bool {
        let policy = self.policy.load();
        let networks = match name {
            Some(name) => [named_network(&policy, client, name); 2],
            None => possible_networks(&policy, client),
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
    /// What passes is watched no longer. Only the first pass of a tuple speaks for the others who
    /// tried: known correspondents write all the time, and whoever forges one of them would come by
    /// good counts for nothing.
    pub(super) fn note_verdict(
        &self,
        policy: &Policy,
        seed: &Seed,
        key: NetworkKey,
        attempt: &Attempt<'_>,
        verdict: Verdict,
        now: Timestamp,
    ) {
        let mark = || seed.recipient_mark(attempt.recipient);
        match verdict {
            Verdict::Pass(PassReason::Waited { .. }) => {
                self.note_pass(policy, key, mark(), now);
                if let Some(watched) = self.end_watch(seed, attempt) {
                    for other in watched.networks().iter().filter(|it| **it != key) {
                        self.note_pass(policy, *other, watched.mark(), now);
                    }
                }
            }
            Verdict::Pass(PassReason::Passed | PassReason::Trusted) => {
                self.note_pass(policy, key, mark(), now);
                self.end_watch(seed, attempt);
            }
            // It was deferred before: until the operator chose only to observe, or elsewhere until
            // there was no room for one more tuple.
            Verdict::Pass(PassReason::Observed | PassReason::Unrecorded) => {
                self.end_watch(seed, attempt);
            }
            // A probe that is put off has nothing to come again with.
            Verdict::Defer(DeferReason::New | DeferReason::Late)
                if !policy.is_probe_sender(attempt.reverse_path) =>
            {
                let pair = seed.pair_key(attempt);
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

    /// Notes that the MTA refused a recipient for good. Backscatter and probes ask for recipients
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
    /// belong to.
    pub(super) fn forgive(&self, policy: &Policy, seed: &Seed, client: SentencedClient) {
        for network in possible_networks(policy, client.network().addr()) {
            let key = seed.network_key(network);
            if self.by_network.get(&key).is_some_and(|it| it.has_bad()) {
                self.by_network.alter(&key, |it| *it = it.forgiven());
            }
        }
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
            return self.by_network.retain_in_aisle(number, |record| {
                let makes_way = is_short && record.is_negligible(policy, now);
                !makes_way && !record.has_lapsed(policy, now)
            });
        }
        let (walked, lapsed) = self.watch.sweep_aisle(number, policy, now);
        self.blame(policy, lapsed, now);
        walked
    }

    /// Watches a reverse-path and recipient no longer, and gives what was known if it was watched.
    fn end_watch(&self, seed: &Seed, attempt: &Attempt<'_>) -> Option<Watched> {
        if self.watch.len() == 0 {
            return None;
        }
        self.watch.end(&seed.pair_key(attempt))
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

/// The networks that a client at `address` may belong to, its reverse name not being known: twice
/// the same if that makes no difference.
pub(super) fn possible_networks(policy: &Policy, address: IpAddr) -> [ClientNetwork; 2] {
    [policy.ipv4_prefix, policy.ipv4_prefix_unnamed]
        .map(|ipv4_prefix| ClientNetwork::cut(address, ipv4_prefix, policy.ipv6_prefix))
}

/// The network of a client at `address` whose verified reverse name is `name`, as Postfix tells it.
fn named_network(policy: &Policy, address: IpAddr, name: &[u8]) -> ClientNetwork {
    let attempt = Attempt {
        client: address.to_canonical(),
        client_name: match name {
            b"unknown" | [b'[', ..] => b"",
            name => name,
        },
        helo: b"",
        reverse_path: b"",
        recipient: b"",
        announced_size: 0,
        connected: Timestamp::NEVER,
        server: ServerMark::UNKNOWN,
        authenticated: false,
        origin: Origin::ThisHost,
    };
    ClientNetwork::of(policy, &attempt)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SEED: Seed = Seed::from_bytes([7; Seed::LENGTH]);
    const NEW: Verdict = Verdict::Defer(DeferReason::New);

    fn hours(hours: u64) -> Timestamp {
        T0.after(Duration::from_hours(hours))
    }

    fn key(number: u32) -> NetworkKey {
        let address = Ipv4Addr::from(0xc000_0200 + number);
        SEED.network_key(ClientNetwork::cut(address.into(), 32, 128))
    }

    fn attempt<'a>(reverse_path: &'a str, recipient: &'a str) -> Attempt<'a> {
        Attempt {
            client: Ipv4Addr::new(192, 0, 2, 7).into(),
            client_name: b"",
            helo: b"",
            reverse_path: reverse_path.as_bytes(),
            recipient: recipient.as_bytes(),
            announced_size: 0,
            connected: Timestamp::NEVER,
            server: ServerMark::UNKNOWN,
            authenticated: false,
            origin: Origin::ThisHost,
        }
    }

    fn hear(table: &Reputations, key: NetworkKey, sender: &str, verdict: Verdict, now: Timestamp) {
        let attempt = attempt(sender, "r@here.example");
        table.note_verdict(&Policy::default(), &SEED, key, &attempt, verdict, now);
    }

    fn sweep(table: &Reputations, now: Timestamp) -> usize {
        let aisles = 0..table.aisles();
        let swept = aisles.map(|aisle| table.sweep_aisle(aisle, &Policy::default(), now));
        swept.map(|walked| walked.removed).sum()
    }

    fn weights(table: &Reputations, number: u32, now: Timestamp) -> Option<(u64, u64)> {
        let record = table.by_network.get(&key(number))?;
        let weights = record.weights(&Policy::default(), now);
        Some((weights.good / 256, weights.bad / 256))
    }

    #[test]
    fn sweep_blames_every_network_whose_mail_never_came_again() {
        let table = Reputations::growing(100, Arc::default());
        for number in 0..3 {
            hear(&table, key(number), "s@a.example", NEW, T0);
        }
        hear(&table, key(3), "probe@a.example", NEW, T0);
        let waited = Duration::from_hours(1);
        let passed = Verdict::Pass(PassReason::Waited { waited });
        hear(&table, key(4), "probe@a.example", passed, hours(1));
        assert_eq!(sweep(&table, hours(23)), 0);
        assert_eq!(weights(&table, 0, hours(23)), None);
        assert_eq!(sweep(&table, hours(24)), 1);
        for number in 0..3 {
            assert_eq!(weights(&table, number, hours(24)), Some((0, 1)), "{number}");
        }
        assert_eq!(weights(&table, 3, hours(1)), Some((1, 0)));
        assert_eq!(weights(&table, 4, hours(1)), Some((1, 0)));
    }

    #[test]
    fn what_passes_without_having_waited_ends_the_watch_for_no_credit() {
        for verdict in [
            PassReason::Passed,
            PassReason::Trusted,
            PassReason::Observed,
            PassReason::Unrecorded,
        ] {
            let table = Reputations::growing(100, Arc::default());
            hear(&table, key(0), "s@a.example", NEW, T0);
            hear(
                &table,
                key(1),
                "s@a.example",
                Verdict::Pass(verdict),
                hours(1),
            );
            assert_eq!(weights(&table, 0, hours(1)), None, "{verdict:?}");
            assert_eq!(sweep(&table, hours(48)), 0, "{verdict:?}");
        }
    }

    #[test]
    fn probes_that_do_not_come_again_are_not_blamed() {
        let table = Reputations::growing(100, Arc::default());
        for sender in ["", "double-bounce@mx.example"] {
            hear(&table, key(0), sender, NEW, T0);
        }
        assert_eq!(sweep(&table, hours(48)), 0);
        assert_eq!(weights(&table, 0, hours(48)), None);
    }

    #[test]
    fn what_says_hardly_anything_makes_way_when_room_is_short() {
        let policy = Policy::default();
        let table = Reputations::growing(16, Arc::default());
        let mark = SEED.recipient_mark(b"r@here.example");
        table.note_pass(&policy, key(0), mark, T0);
        for number in 1..13 {
            table.note_bad(&policy, key(number), mark, T0);
        }
        assert_eq!(sweep(&table, hours(1)), 0, "there is room");
        for number in 13..100 {
            table.note_bad(&policy, key(number), mark, T0);
        }
        assert_eq!(table.by_network.len(), 16);
        assert_eq!(sweep(&table, hours(1)), 3, "no more than must");
        assert!(table.has_passed(&key(0)));
    }

    #[test]
    fn full_table_counts_what_it_cannot_record() {
        let metrics = Arc::<Metrics>::default();
        let table = Reputations::growing(1, Arc::clone(&metrics));
        let mark = SEED.recipient_mark(b"r@here.example");
        for number in 0..5 {
            table.note_bad(&Policy::default(), key(number), mark, T0);
        }
        assert_eq!(metrics.reputations_unrecorded.get(), 4);
        assert_eq!(weights(&table, 0, T0), Some((0, 1)));
    }

    #[test]
    fn report_feeds_the_network_on_record_or_else_both() {
        let policy = Policy::default();
        let table = Reputations::growing(100, Arc::default());
        let said = |number| {
            let record = table.by_network.get(&key(number))?;
            Some(record.weights(&policy, T0).spam / 256)
        };
        assert!(table.note_report(&policy, [key(0), key(1)], true, T0));
        assert_eq!((said(0), said(1)), (Some(1), Some(1)));
        assert!(table.note_report(&policy, [key(1), key(2)], true, T0));
        assert_eq!((said(1), said(2)), (Some(2), None));
        assert!(table.note_report(&policy, [key(2), key(2)], true, T0));
        assert_eq!(said(2), Some(1));
    }

    #[test]
    fn reports_from_many_threads_are_all_counted_and_a_recipient_once() {
        let policy = Policy::default();
        let table = Reputations::growing(100, Arc::default());
        let mark = SEED.recipient_mark(b"r@here.example");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        table.note_report(&policy, [key(0), key(0)], true, T0);
                        table.note_pass(&policy, key(0), mark, T0);
                    }
                });
            }
        });
        let weights = table.by_network.get(&key(0)).expect("it is on record");
        let weights = weights.weights(&policy, T0);
        assert_eq!(weights.good, 256);
        let reported = weights.spam / 256;
        assert!((4_000..4_016).contains(&reported), "{reported}");
    }

    #[test]
    fn address_may_belong_to_two_networks_or_one() {
        let policy = Policy::default();
        let of = |address: &str| possible_networks(&policy, address.parse().expect("an address"));
        let [wide, exact] = of("192.0.2.7");
        assert_ne!(wide, exact);
        assert_eq!(wide, of("192.0.2.8")[0]);
        assert_ne!(exact, of("192.0.2.8")[1]);
        let [one, same] = of("2001:db8:1:2::3");
        assert_eq!(one, same);
    }
}
