//! What early retries cost their tuple: extra delay, and what a delivery round counts for.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    ATTEMPT, Action, Attempt, Circumstances, DeferReason, Origin, PassReason, Policy, Record,
    ServerMark, Story, T0, Verdict, decide, seconds,
};
use crate::policy::{ClientNetwork, Punish, Seed, TupleKey};

const HOPPING: Circumstances = Circumstances {
    helo_hops: true,
    reads: None,
    after_failure: false,
};

/// When retries `interval` apart pass, and what they were charged.
fn passes(policy: &Policy, interval: u64) -> (u64, u16) {
    let mut story = Story::new(policy.clone());
    let passed = (0..100_000)
        .map(|n| interval * n)
        .find(|&at| matches!(story.verdict_at(seconds(at)), Verdict::Pass(_)));
    (passed.expect("in the end"), story.extra())
}

fn punishing(punish: Punish) -> Policy {
    Policy {
        punish,
        ..Policy::default()
    }
}

/// `ATTEMPT` at the numbered address of this site.
fn at_address(number: u8) -> Attempt<'static> {
    Attempt {
        server: ServerMark::numbered(number),
        ..ATTEMPT
    }
}

#[test]
fn retries_nine_and_thirty_seconds_apart_wait_longer() {
    let policy = Policy::default();
    assert_eq!(passes(&policy, 9), (351, 171), "half of the time");
    assert_eq!(passes(&policy, 30), (330, 150), "15 s each");
    assert_eq!(passes(&policy, 60), (240, 45), "15 s each");
    assert_eq!(passes(&policy, 300), (300, 0), "none was early");
}

#[test]
fn retry_each_second_pays_half_of_its_time_though_half_a_second_is_none() {
    let mut story = Story::new(Policy::default());
    for at in 0..=300 {
        story.verdict_at(seconds(at));
        assert_eq!(u64::from(story.extra()), at / 2);
    }
    assert_eq!(passes(&Policy::default(), 1), (358, 178));
}

#[test]
fn part_of_a_second_is_added_as_one() {
    let policy = punishing(Punish {
        extra_delay: Duration::from_millis(1),
        ..Punish::default()
    });
    assert_eq!(passes(&policy, 60), (240, 3));
}

#[test]
fn two_and_seventy_seconds_by_turns_pay_by_turns() {
    let mut story = Story::new(Policy::default());
    let charged: Vec<_> = [0, 2, 72, 74, 144, 146]
        .map(|at| {
            story.verdict_at(seconds(at));
            story.extra()
        })
        .into();
    assert_eq!(charged, [0, 1, 16, 17, 32, 33]);
    let waited = seconds(216);
    assert_eq!(
        story.verdict_at(waited),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

#[test]
fn neither_different_mails_nor_mails_of_unknown_size_add() {
    for second_size in [0, 6_000] {
        let mut story = Story::new(Policy::default());
        for minute in 0..3 {
            let attempt = Attempt {
                announced_size: if minute % 2 == 0 { 5_000 } else { second_size },
                ..ATTEMPT
            };
            story.hears(&attempt, seconds(60 * minute));
        }
        assert_eq!(story.extra(), 0, "{second_size}");
    }
    let mut story = Story::new(Policy::default());
    for minute in 0..3 {
        let attempt = Attempt {
            announced_size: 0,
            ..ATTEMPT
        };
        story.hears(&attempt, seconds(60 * minute));
    }
    assert_eq!(story.extra(), 0, "never announced");
}

#[test]
fn retries_add_whoever_of_the_network_makes_or_reports_them() {
    let mut story = Story::new(Policy::default());
    for minute in 0..3 {
        let attempt = Attempt {
            client: std::net::Ipv4Addr::new(192, 0, 2, minute).into(),
            origin: Origin::AnotherHost,
            ..ATTEMPT
        };
        story.hears(&attempt, seconds(60 * u64::from(minute)));
    }
    assert_eq!(story.extra(), 30);
}

#[test]
fn observing_greylisting_adds_nothing() {
    let mut story = Story::new(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    for second in 0..60 {
        story.verdict_at(seconds(second));
    }
    assert_eq!(story.extra(), 0);
}

/// The extra delay belongs to network, reverse-path and recipient (A9).
#[test]
fn other_mail_of_the_client_does_not_wait_longer() {
    let policy = Policy::default();
    let seed = Seed::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap_or(0)));
    let mut records = BTreeMap::<TupleKey, Record>::new();
    let mut hears = |attempt: &Attempt<'_>, at: u64| {
        let key = seed.tuple_key(ClientNetwork::of(&policy, attempt), attempt);
        let now = T0.after(seconds(at));
        let circumstances = Circumstances::default();
        let decision = decide(&policy, records.get(&key), attempt, circumstances, now);
        records.insert(key, decision.next);
        decision
    };
    let to_another = Attempt {
        recipient: b"another@here.example",
        ..ATTEMPT
    };
    let from_another = Attempt {
        reverse_path: b"another@sender.example",
        ..ATTEMPT
    };
    for attempt in [ATTEMPT, to_another, from_another] {
        hears(&attempt, 0);
    }
    for at in [10, 20, 30, 40, 50, 60] {
        hears(&ATTEMPT, at);
    }
    let left = seconds(30 + 15);
    let reason = DeferReason::Early { left };
    assert_eq!(hears(&ATTEMPT, 180).verdict, Verdict::Defer(reason));
    let waited = seconds(180);
    for attempt in [to_another, from_another] {
        let reason = PassReason::Waited { waited };
        assert_eq!(hears(&attempt, 180).verdict, Verdict::Pass(reason));
    }
}

#[test]
fn half_an_hour_to_an_hour_is_reachable_and_the_limit_holds() {
    for minutes in [30, 60] {
        let policy = punishing(Punish {
            extra_delay: Duration::from_mins(10),
            extra_delay_share: 150,
            extra_delay_limit: Duration::from_mins(minutes),
            ..Punish::default()
        });
        let (passed, extra) = passes(&policy, 60);
        assert_eq!(u64::from(extra), 60 * minutes);
        assert_eq!(passed, 180 + 60 * minutes, "and no later");
    }
}

#[test]
fn half_of_the_window_stays_open_whatever_is_added() {
    let policy = Policy {
        retry_window: Duration::from_mins(13),
        punish: Punish {
            extra_delay: Duration::from_hours(12),
            extra_delay_share: u16::MAX,
            extra_delay_limit: Duration::from_hours(12),
            hopping_delay: Duration::from_hours(12),
            ..Punish::default()
        },
        ..Policy::default()
    };
    assert_eq!(passes(&policy, 30), (180 + 300, 300));
    let mut roomy = Story::new(Policy {
        retry_window: Duration::from_hours(24),
        ..policy.clone()
    });
    roomy.hears_amid(HOPPING, &ATTEMPT, seconds(0));
    assert_eq!(u64::from(roomy.extra()), (24 * 3_600 - 180) / 2);
    let mut story = Story::new(policy);
    let left = seconds(180 + 300 - 1);
    story.hears_amid(HOPPING, &ATTEMPT, seconds(0));
    let early = story.hears_amid(HOPPING, &ATTEMPT, seconds(1)).verdict;
    assert_eq!(early, Verdict::Defer(DeferReason::Early { left }));
}

#[test]
fn observed_extra_delay_is_counted_and_not_waited() {
    let mut policy = Policy::default();
    policy.punish.extra_delay_action = Action::Observe;
    let mut story = Story::new(policy);
    for at in [0, 60, 120] {
        let decision = story.hears(&ATTEMPT, seconds(at));
        assert_eq!(
            decision.would_wait(&story.policy),
            Duration::ZERO,
            "it is deferred anyway"
        );
    }
    assert_eq!(story.extra(), 30);
    let waited = seconds(180);
    let passed = story.hears(&ATTEMPT, waited);
    assert_eq!(passed.verdict, Verdict::Pass(PassReason::Waited { waited }));
    assert_eq!(passed.would_wait(&story.policy), seconds(30));
    let next = story.hears(&ATTEMPT, seconds(181));
    assert_eq!(next.would_wait(&story.policy), Duration::ZERO, "once");
}

#[test]
fn newer_rules_hold_for_what_was_added_before() {
    let mut story = Story::new(Policy::default());
    for at in [0, 60, 120] {
        story.verdict_at(seconds(at));
    }
    let record = story.record.expect("an attempt was made");
    let mut policy = Policy::default();
    assert_eq!(record.delay(&policy), seconds(210));
    policy.punish.extra_delay_limit = seconds(10);
    policy.punish.hopping_delay = seconds(0);
    assert_eq!(record.delay(&policy), seconds(190));
    policy.punish.extra_delay_action = Action::Observe;
    assert_eq!(record.delay(&policy), seconds(180));
}

#[test]
fn tuple_of_a_hopping_helo_waits_a_quarter_of_an_hour() {
    let mut new = Story::new(Policy::default());
    new.hears_amid(HOPPING, &ATTEMPT, seconds(0));
    let left = seconds(180 + 900 + 15 - 600);
    assert_eq!(
        new.verdict_at(seconds(600)),
        Verdict::Defer(DeferReason::Early { left }),
        "the tuple pays, by whatever name its client comes next"
    );
    let mut waiting = Story::new(Policy::default());
    waiting.verdict_at(seconds(0));
    let retry = waiting.hears_amid(HOPPING, &ATTEMPT, seconds(600));
    assert_eq!(retry.verdict, Verdict::Defer(DeferReason::Early { left }));
    assert!(matches!(
        waiting.verdict_at(seconds(1_100)),
        Verdict::Pass(_)
    ));
    let next = waiting.hears_amid(HOPPING, &ATTEMPT, seconds(1_200));
    assert_eq!(next.verdict, Verdict::Pass(PassReason::Passed));
}

#[test]
fn delivery_round_over_five_addresses_is_one_attempt() {
    let mut story = Story::new(Policy::default());
    let verdicts: Vec<_> = (0..5_u8)
        .map(|n| story.hears(&at_address(n + 1), seconds(2 * u64::from(n))))
        .collect();
    assert!(
        verdicts
            .iter()
            .all(|it| matches!(it.verdict, Verdict::Defer(_)))
    );
    assert!(
        verdicts
            .iter()
            .all(|it| it.offence.is_none() && !it.wants_content)
    );
    let record = story.record.expect("an attempt was made");
    assert_eq!(
        (record.attempts, record.extra, record.round),
        (1, 0, 0b1_1111)
    );
    assert_eq!(record.last_seen, T0, "when the round began");
    // The next round, a minute later, is a retry, once.
    for n in 0..5_u8 {
        story.hears(&at_address(n + 1), seconds(60 + u64::from(n)));
    }
    let record = story.record.expect("an attempt was made");
    assert_eq!((record.attempts, record.extra), (2, 15));
}

/// Three hosts of one site, each with its own record: what one has written the next reads before it judges,
/// as if the engine between them were as fast as that. At each host the MTA may or may not tell its address.
#[test]
fn delivery_round_over_three_hosts_is_one_attempt() {
    for told in [true, false] {
        let attempt = if told { at_address(1) } else { ATTEMPT };
        let mut hosts: [Story; 3] = std::array::from_fn(|_| Story::new(Policy::default()));
        let mut shared: Option<Record> = None;
        for round in 0..3 {
            for (n, host) in (0..).zip(&mut hosts) {
                host.record = match (host.record, shared) {
                    (Some(held), Some(known)) => Some(held.heard(known.elsewhere())),
                    (held, known) => held.or(known.map(Record::elsewhere)),
                };
                let said = host.hears(&attempt, seconds(60 * round + n));
                assert!(said.offence.is_none() && !said.wants_content);
                let held = host.record.expect("an attempt was made");
                shared = Some(shared.map_or(held, |known| known.merge(held)));
            }
        }
        let record = shared.expect("attempts were made");
        assert_eq!(record.attempts, 3, "one a round, address told: {told}");
        assert_eq!(record.first_seen, T0);
    }
}

#[test]
fn round_ends_with_its_time_or_at_an_address_that_was_tried() {
    let attempts = |second: &Attempt<'_>, at| {
        let mut story = Story::new(Policy::default());
        story.hears(&at_address(1), seconds(0));
        story.hears(second, at);
        story.record.expect("an attempt was made").attempts
    };
    assert_eq!(attempts(&at_address(2), Duration::from_millis(9_999)), 1);
    assert_eq!(attempts(&at_address(2), seconds(10)), 2, "it is over");
    assert_eq!(attempts(&at_address(1), seconds(1)), 2, "tried again");
    assert_eq!(attempts(&ATTEMPT, seconds(1)), 2, "nobody knows where");
    let mut story = Story::new(Policy::default());
    story.policy.punish.round = Duration::ZERO;
    story.hears(&at_address(1), seconds(0));
    story.hears(&at_address(2), seconds(0));
    let record = story.record.expect("an attempt was made");
    assert_eq!(record.attempts, 2, "no rounds by configuration");
}

#[test]
fn round_that_meets_the_open_window_passes() {
    let mut story = Story::new(Policy::default());
    story.hears(&ATTEMPT, seconds(0));
    let different = |number| Attempt {
        announced_size: 9,
        ..at_address(number)
    };
    story.hears(&different(1), Duration::from_millis(179_500));
    let waited = Duration::from_millis(180_500);
    assert_eq!(
        story.hears(&different(2), waited).verdict,
        Verdict::Pass(PassReason::Waited { waited })
    );
}

prop_compose! {
    fn rules()(
        extra_delay in 0..2_000_000_u64, share: u16, limit in 0..43_200_u64, window in 200..86_400_u64,
    ) -> Policy {
        Policy {
            retry_window: seconds(window),
            punish: Punish {
                extra_delay: Duration::from_millis(extra_delay),
                extra_delay_share: share,
                extra_delay_limit: seconds(limit),
                ..Punish::default()
            },
            ..Policy::default()
        }
    }
}

proptest! {
    /// On any schedule of one message: no retry adds more than it may, all together no more than
    /// their share of the time, and no more than the limit; half of the window stays open; and the
    /// beginning never moves.
    #[test]
    fn extra_delay_stays_in_its_bounds(
        policy in rules(),
        gaps in proptest::collection::vec(prop_oneof![0..1_500_u64, 0..400_000_u64], 1..60),
    ) {
        let mut story = Story::new(policy.clone());
        let mut at = Duration::ZERO;
        story.verdict_at(at);
        for gap in gaps {
            at += Duration::from_millis(gap);
            let before = story.record.expect("it began");
            story.verdict_at(at);
            let record = story.record.expect("it goes on");
            if record.life != before.life {
                break;
            }
            let rules = &policy.punish;
            prop_assert_eq!(record.first_seen, T0);
            prop_assert!(record.extra >= before.extra);
            prop_assert!(record.extra() < before.extra() + rules.extra_delay + seconds(1));
            let share = at.as_millis() * u128::from(rules.extra_delay_share) / 100;
            prop_assert!(record.extra().as_millis() <= share);
            prop_assert!(record.extra() <= rules.extra_delay_limit);
            let half = policy.retry_window.saturating_sub(policy.delay) / 2;
            prop_assert!(record.delay(&policy) + half <= policy.retry_window);
        }
    }

    /// Who keeps retrying at all passes, and not later than the delay, the most that may be added,
    /// and one interval of his.
    #[test]
    fn who_keeps_retrying_passes(
        policy in rules(),
        gaps in proptest::collection::vec(1_000..400_000_u64, 1..8),
    ) {
        let mut story = Story::new(policy.clone());
        let longest = Duration::from_millis(gaps.iter().copied().max().unwrap_or_default());
        prop_assume!(longest <= policy.retry_window.saturating_sub(policy.delay) / 2);
        let mut at = Duration::ZERO;
        let mut gaps = gaps.into_iter().cycle();
        while !matches!(story.verdict_at(at), Verdict::Pass(_)) {
            at += Duration::from_millis(gaps.next().unwrap_or_default());
            prop_assert!(at < policy.retry_window, "{:?}", story.record);
        }
        prop_assert!(at < policy.delay + policy.punish.extra_delay_limit + longest);
    }
}
