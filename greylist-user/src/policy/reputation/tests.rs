//! Stories of one network, told with a turned clock.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A midnight, at the beginning of a half-life of 30 days.
const T0: Timestamp = Timestamp::from_millis(600 * 30 * 86_400_000);

fn hours(hours: u64) -> Timestamp {
    T0.after(Duration::from_hours(hours))
}

fn days(days: u64) -> Timestamp {
    hours(24 * days)
}

/// A network with one clock of its own.
struct Network {
    policy: Policy,
    record: Option<Reputation>,
}

impl Network {
    fn new() -> Self {
        Self {
            policy: Policy::default(),
            record: None,
        }
    }

    /// One that had `each_day` recipients on each of `for_days` days.
    fn relay(for_days: u64, each_day: u8) -> Self {
        let mut network = Self::new();
        for day in 0..for_days {
            network.passes_for(each_day, days(day));
        }
        network
    }

    fn passes_for(&mut self, recipients: u8, now: Timestamp) {
        for recipient in 0..recipients {
            let mark = RecipientMark::of_hash(recipient);
            let next = Reputation::after_good(self.record.as_ref(), &self.policy, mark, now);
            self.record = Some(next);
        }
    }

    fn fails_for(&mut self, recipients: u8, now: Timestamp) {
        for recipient in 0..recipients {
            let mark = RecipientMark::of_hash(recipient);
            let next = Reputation::after_bad(self.record.as_ref(), &self.policy, mark, now);
            self.record = Some(next);
        }
    }

    fn is_struck(&mut self, now: Timestamp) {
        let next = Reputation::after_strike(self.record.as_ref(), &self.policy, now);
        self.record = Some(next);
    }

    fn is_reported(&mut self, mails: u32, spam: bool, now: Timestamp) {
        for _ in 0..mails {
            let next = Reputation::after_report(self.record.as_ref(), &self.policy, spam, now);
            self.record = Some(next);
        }
    }

    fn standing(&self, now: Timestamp) -> Repute {
        self.record
            .map_or(Repute::Unknown, |record| record.standing(&self.policy, now))
    }

    fn weights(&self, now: Timestamp) -> Weights {
        let record = self.record.expect("something has counted");
        record.weights(&self.policy, now)
    }

    fn record(&self) -> Reputation {
        self.record.expect("something has counted")
    }
}

#[test]
fn good_record_takes_days_and_recipients() {
    // (days, recipients on each, asked on day, said)
    for (for_days, recipients, asked, expected) in [
        (1, 64, 1, Repute::Unknown),
        (1, 64, 20, Repute::Unknown),
        (2, 64, 9, Repute::Unknown),
        (9, 9, 9, Repute::Unknown),
        (3, 10, 2, Repute::Unknown),
        (3, 10, 3, Repute::Good),
        (10, 10, 10, Repute::Good),
        (11, 30, 11, Repute::Good), // a hundred counts, and more, in fewer than twelve days
        (14, 10, 14, Repute::Established),
    ] {
        let network = Network::relay(for_days, recipients);
        assert_eq!(
            network.standing(days(asked)),
            expected,
            "{for_days} days, {recipients} recipients, on day {asked}"
        );
    }
}

#[test]
fn three_midnights_in_a_row_are_not_three_days() {
    let mut network = Network::new();
    network.passes_for(20, hours(23));
    network.passes_for(20, hours(24));
    network.passes_for(20, hours(48));
    assert_eq!(network.record().good_days, 3);
    assert_eq!(network.standing(hours(49)), Repute::Unknown);
    assert_eq!(network.standing(hours(23 + 72)), Repute::Good);
}

#[test]
fn recipient_counts_once_a_day_for_and_against() {
    let mut network = Network::new();
    for _ in 0..1_000 {
        network.passes_for(1, T0);
        network.fails_for(1, T0);
    }
    let weights = network.weights(T0);
    assert_eq!((weights.good, weights.bad), (256, 256));
    assert!(
        network
            .record()
            .has_good_today(RecipientMark::of_hash(0), T0)
    );
    assert!(
        !network
            .record()
            .has_good_today(RecipientMark::of_hash(1), T0)
    );
    assert!(
        !network
            .record()
            .has_good_today(RecipientMark::of_hash(0), days(1))
    );
}

#[test]
fn many_mails_to_one_recipient_are_no_good_record() {
    let mut network = Network::new();
    for hour in 0..24 * 60 {
        network.passes_for(1, hours(hour));
    }
    assert_eq!(network.standing(days(60)), Repute::Unknown);
}

#[test]
fn reports_of_ham_buy_no_good_record() {
    let mut network = Network::new();
    for day in 0..30 {
        network.is_reported(1_000, false, days(day));
    }
    network.passes_for(9, days(30));
    assert_eq!(network.standing(days(30)), Repute::Unknown);
    // Nor does a small good record grow to one that shields from everything.
    let mut network = Network::relay(3, 10);
    network.is_reported(5_000, false, days(3));
    assert_eq!(network.standing(days(3)), Repute::Good);
}

#[test]
fn reports_of_spam_teach_and_those_of_ham_weigh_against_them() {
    let mut network = Network::new();
    network.is_reported(49, true, T0);
    assert_eq!(network.standing(T0), Repute::Unknown);
    network.is_reported(1, true, T0);
    assert_eq!(network.standing(T0), Repute::Bad);
    network.is_reported(2, false, T0);
    assert_eq!(network.standing(T0), Repute::Bad, "2 of 52 are below 5 %");
    network.is_reported(1, false, T0);
    assert_eq!(network.standing(T0), Repute::Unknown);
}

#[test]
fn thousands_of_reports_a_day_are_all_counted() {
    let mut network = Network::new();
    network.is_reported(5_000, true, hours(700));
    network.is_reported(300, false, hours(700));
    let weights = network.weights(hours(700));
    // Each is rounded up by less than a 256th.
    assert!((5_000..5_020).contains(&(weights.spam / 256)));
    assert!((300..302).contains(&(weights.ham / 256)));
}

#[test]
fn bad_reputation_takes_counts_and_nearly_no_good_ones() {
    // (recipients failed on each of the days, days, passed for on the last, said)
    for (failed, for_days, passed, expected) in [
        (10, 4, 0, Repute::Unknown),
        (60, 1, 0, Repute::Bad),
        (10, 6, 0, Repute::Bad),
        (60, 1, 3, Repute::Bad),
        (60, 1, 4, Repute::Unknown),
    ] {
        let mut network = Network::new();
        for day in 0..for_days {
            network.fails_for(failed, days(day));
        }
        let last = days(for_days - 1);
        network.passes_for(passed, last);
        let said = network.standing(last);
        assert_eq!(
            said, expected,
            "{failed} on {for_days} days, {passed} passed"
        );
    }
}

#[test]
fn spammer_behind_a_relay_cannot_ruin_it() {
    // A thousand good passes in five weeks, and from then on a customer who does his worst daily.
    let mut relay = Network::relay(35, 30);
    assert_eq!(relay.standing(days(35)), Repute::Established);
    for day in 35..365 {
        relay.passes_for(30, days(day));
        relay.fails_for(64, days(day));
        for hour in 0..24 {
            relay.is_struck(hours(24 * day + hour));
        }
        let said = relay.standing(hours(24 * day + 23));
        assert_eq!(said, Repute::Established, "on day {day}");
    }
}

#[test]
fn relay_that_turns_to_spam_altogether_loses_its_record() {
    let mut relay = Network::relay(35, 30);
    let lost = (35..200).find(|day| {
        relay.fails_for(64, days(*day));
        relay.is_struck(days(*day));
        !matches!(
            relay.standing(days(*day)),
            Repute::Good | Repute::Established
        )
    });
    let lost = lost.expect("it loses it");
    assert!((50..80).contains(&lost), "on day {lost}");
    // And becomes bad at last, when hardly any good count is left.
    let bad = (lost..400).find(|day| {
        relay.fails_for(64, days(*day));
        relay.standing(days(*day)) == Repute::Bad
    });
    assert!(bad.is_some());
}

#[test]
fn strike_is_five_counts_once_a_day() {
    let mut network = Network::new();
    for hour in 0..24 {
        network.is_struck(hours(hour));
    }
    assert_eq!(
        network.weights(hours(23)).bad / 256,
        4,
        "of five, less a day"
    );
    network.is_struck(days(1));
    assert_eq!(network.weights(days(1)).bad / 256, 9);
}

#[test]
fn counts_halve_in_a_half_life() {
    let mut network = Network::new();
    network.passes_for(64, T0);
    network.is_reported(100, true, T0);
    for (day, good, spam) in [
        (0, 64, 100),
        (15, 48, 75),
        (30, 32, 50),
        (60, 16, 25),
        (300, 0, 0),
    ] {
        let weights = network.weights(days(day));
        assert_eq!(
            (weights.good / 256, weights.spam / 256),
            (good, spam),
            "on day {day}"
        );
    }
}

#[test]
fn bad_reputation_is_outlived() {
    let mut network = Network::new();
    network.fails_for(60, T0);
    assert_eq!(network.standing(days(7)), Repute::Bad);
    assert_eq!(network.standing(days(14)), Repute::Unknown);
}

#[test]
fn bad_reputation_that_cost_something_lasts_until_half_of_it_has_faded() {
    let mut network = Network::new();
    network.fails_for(50, T0);
    let mut refused = network.record();
    assert!(!refused.has_refused_today(T0));
    refused.note_refused(T0);
    assert!(refused.has_refused_today(T0));
    assert!(!refused.has_refused_today(days(1)));
    let said = |day| refused.standing(&network.policy, days(day));
    assert_eq!(network.standing(hours(1)), Repute::Unknown);
    assert_eq!((said(1), said(29)), (Repute::Bad, Repute::Bad));
    assert_eq!(said(31), Repute::Unknown);
    assert_eq!(refused.forgiven().refused_day, 0);
}

#[test]
fn lone_count_lapses_after_two_half_lives_and_the_next_begins_a_life() {
    let mut network = Network::new();
    network.passes_for(1, T0);
    let has_lapsed = |now| network.record().has_lapsed(&network.policy, now);
    assert!(!has_lapsed(days(60)));
    assert!(has_lapsed(hours(60 * 24 + 24)));
    network.passes_for(2, days(100));
    let record = network.record();
    assert_eq!((record.life, record.good_days), (2, 1));
    assert_eq!(record.recipients.count_ones(), 2);
    assert_eq!(record.since, days(100).into());
}

#[test]
fn only_a_few_bad_counts_are_negligible() {
    let policy = Policy::default();
    let mut network = Network::new();
    network.fails_for(1, T0);
    assert!(network.record().is_negligible(&policy, T0));
    network.fails_for(3, T0);
    assert!(!network.record().is_negligible(&policy, T0));
    let mut network = Network::new();
    network.passes_for(1, T0);
    assert!(!network.record().is_negligible(&policy, T0));
    let mut network = Network::new();
    network.is_reported(1, true, T0);
    assert!(!network.record().is_negligible(&policy, T0));
}

#[test]
fn clock_set_back_fades_nothing_and_restores_nothing() {
    let mut network = Network::new();
    network.passes_for(64, days(45));
    for earlier in [days(44), days(15), T0, Timestamp::NEVER] {
        assert_eq!(network.weights(earlier).good / 256, 64);
    }
}

#[test]
fn record_of_the_future_goes_on_counting_in_the_present() {
    let mut network = Network::relay(10, 12);
    let mut wrong = Network::new();
    wrong.record = network.record;
    wrong.is_struck(days(5_000));
    wrong.passes_for(12, days(5_000));
    network.record = wrong.record;
    network.passes_for(12, days(11));
    let record = network.record();
    assert_eq!((record.updated, record.life), (days(11).into(), 3));
    assert!(record.has_good_today(RecipientMark::of_hash(11), days(11)));
    network.is_struck(days(11));
    assert!(network.weights(days(11)).bad >= 5 * 256);
}

#[test]
fn forgiving_leaves_what_was_good() {
    let mut network = Network::relay(13, 12);
    network.fails_for(64, days(13));
    network.is_struck(days(13));
    network.is_reported(500, true, days(13));
    assert_eq!(network.standing(days(13)), Repute::Unknown);
    let before = network.record();
    network.record = Some(before.forgiven());
    assert_eq!(network.standing(days(13)), Repute::Established);
    let weights = network.weights(days(13));
    assert_eq!((weights.bad, weights.spam), (0, 0));
    assert_eq!(
        before.merge(network.record(), &network.policy),
        network.record()
    );
}

#[test]
fn refuses_as_the_operator_wants() {
    let mut policy = Policy::default();
    for (action, expected) in [
        (Refusing::Observe, None),
        (Refusing::Defer, Some(false)),
        (Refusing::Reject, Some(true)),
    ] {
        policy.reputation.action = action;
        let expected = expected.map(|permanently| RefuseReason::BadReputation { permanently });
        assert_eq!(refusal(&policy, Repute::Bad), expected);
        for other in [Repute::Unknown, Repute::Good, Repute::Established] {
            assert_eq!(refusal(&policy, other), None);
        }
    }
}

#[test]
fn merging_a_stale_copy_again_and_again_revives_nothing() {
    let mut network = Network::new();
    network.passes_for(64, T0);
    let stale = network.record();
    for day in 1..=90 {
        network.passes_for(1, days(day));
        let merged = network.record().merge(stale, &network.policy);
        assert_eq!(merged, network.record());
    }
    assert!(network.weights(days(90)).good / 256 < 64);
}

prop_compose! {
    /// Small ranges, so that equal lives, days and half-lives are common.
    fn reputation()(
        maps in [0u64..4, 0u64..4, 0u64..4],
        counts in proptest::array::uniform4(0u32..2_000),
        updated in 0u32..5, since in 0u32..4,
        days in [0u16..3, 0u16..3, 0u16..3],
        good_days in 0u8..3, life in 1u8..3,
    ) -> Reputation {
        let [recipients, recipients_today, bad_today] = maps;
        let [good, bad, ham, spam] = counts;
        let [day, struck_day, refused_day] = days;
        Reputation {
            recipients, recipients_today, bad_today,
            good, bad, ham, spam,
            updated: Second::from_seconds(updated * 700_000),
            since: Second::from_seconds(since),
            day, struck_day, refused_day, good_days, life,
        }
    }
}

/// Half-lives shorter than the records are apart, so that merging halves.
fn policies() -> impl Strategy<Value = Policy> {
    (1u64..3_000_000).prop_map(|half_life| {
        let mut policy = Policy::default();
        policy.reputation.half_life = Duration::from_secs(half_life);
        policy
    })
}

proptest! {
    #[test]
    fn merging_is_commutative(p in policies(), a in reputation(), b in reputation()) {
        prop_assert_eq!(a.merge(b, &p), b.merge(a, &p));
    }

    #[test]
    fn merging_is_associative(
        p in policies(), a in reputation(), b in reputation(), c in reputation(),
    ) {
        prop_assert_eq!(a.merge(b, &p).merge(c, &p), a.merge(b.merge(c, &p), &p));
    }

    #[test]
    fn merging_is_idempotent(p in policies(), a in reputation(), b in reputation()) {
        prop_assert_eq!(a.merge(a, &p), a);
        prop_assert_eq!(a.merge(b, &p).merge(b, &p), a.merge(b, &p));
    }

    #[test]
    fn many_counts_in_any_order_of_time_neither_overflow_nor_turn_negative(
        events in proptest::collection::vec((0u8..5, any::<u8>(), any::<u32>()), 1..60),
    ) {
        let mut network = Network::new();
        for (kind, recipient, seconds) in events {
            let now = Second::from_seconds(seconds).into();
            let prior = network.record.as_ref();
            let mark = RecipientMark::of_hash(recipient);
            let policy = &network.policy;
            network.record = Some(match kind {
                0 => Reputation::after_good(prior, policy, mark, now),
                1 => Reputation::after_bad(prior, policy, mark, now),
                2 => Reputation::after_strike(prior, policy, now),
                3 => Reputation::after_report(prior, policy, true, now),
                _ => Reputation::after_report(prior, policy, false, now),
            });
            let weights = network.weights(now);
            prop_assert!(weights.all() <= 60 * 5 * 2 * 256);
        }
    }
}
