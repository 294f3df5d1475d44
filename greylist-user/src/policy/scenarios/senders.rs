//! The senders of this world, each on its own schedule: how long they wait, and that none of them
//! comes to harm.

use std::time::Duration;

use proptest::prelude::*;

use super::{ATTEMPT, Action, Attempt, PassReason, Policy, Story, Verdict, seconds};
use crate::policy::{ClientNetwork, Seed};

/// When a sender that tries at these seconds passes. It commits no offence, and nothing of it is
/// read.
fn passes(policy: &Policy, schedule: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut story = Story::new(policy.clone());
    schedule.into_iter().find(|&at| {
        let decision = story.hears(&ATTEMPT, seconds(at));
        assert_eq!((decision.offence, decision.wants_content), (None, false));
        matches!(decision.verdict, Verdict::Pass(_))
    })
}

/// Exchange 2007 and 2010: four retries a minute apart, then one every quarter of an hour.
fn exchange() -> impl Iterator<Item = u64> {
    let glitches = (0..=4).map(|minute| 60 * minute);
    glitches.chain((1..96).map(|quarter| 240 + 900 * quarter))
}

/// Postfix: the first retry after 300 s, each pause twice the last, up to 4,000 s.
fn postfix() -> impl Iterator<Item = u64> {
    let mut pause = 300;
    std::iter::successors(Some(0), move |at| {
        let next = at + pause;
        pause = (2 * pause).min(4_000);
        Some(next)
    })
}

#[test]
fn exchange_passes_within_its_four_retries() {
    assert_eq!(passes(&Policy::default(), exchange()), Some(240));
    let plain = Policy {
        punish: crate::policy::Punish {
            extra_delay: Duration::ZERO,
            ..crate::policy::Punish::default()
        },
        ..Policy::default()
    };
    assert_eq!(passes(&plain, exchange()), Some(180), "a minute earlier");
}

#[test]
fn exchange_under_a_longer_delay_is_later_by_the_extra() {
    let under = |minutes| {
        let policy = Policy {
            delay: Duration::from_mins(minutes),
            ..Policy::default()
        };
        passes(&policy, exchange())
    };
    assert_eq!(under(10), Some(240 + 900), "its first quarter of an hour");
    // That retry comes after 19 min, and four early ones have added a minute.
    assert_eq!(under(18), Some(240 + 900));
    assert_eq!(under(19), Some(240 + 2 * 900));
}

#[test]
fn postfix_passes_at_its_first_retry() {
    assert_eq!(passes(&Policy::default(), postfix()), Some(300));
    let slow = Policy {
        delay: Duration::from_hours(1),
        ..Policy::default()
    };
    // Retries after 300, 900 and 2,100 s are early and add 45 s; the next comes after 4,500 s.
    assert_eq!(passes(&slow, postfix()), Some(4_500));
}

#[test]
fn slow_senders_pass_at_their_first_retry() {
    for first in [200, 285, 8 * 60, 4 * 3_600, 12 * 3_600] {
        let schedule = [0, first, 2 * first];
        assert_eq!(passes(&Policy::default(), schedule), Some(first));
    }
}

#[test]
fn ten_mails_in_twenty_seconds_are_ten_mails() {
    for size in [0, 5_000] {
        let mut story = Story::new(Policy::default());
        for mail in 0..10 {
            let alert = Attempt {
                announced_size: if size == 0 { 0 } else { size + mail },
                ..ATTEMPT
            };
            let decision = story.hears(&alert, seconds(2 * mail));
            assert_eq!((decision.offence, decision.wants_content), (None, false));
        }
        assert_eq!(story.extra(), 0);
        let waited = seconds(180);
        assert_eq!(
            story.verdict_at(waited),
            Verdict::Pass(PassReason::Waited { waited })
        );
    }
}

/// What it tries over IPv6 and then over IPv4 are two tuples, neither of which is retried early.
#[test]
fn dual_stack_sender_has_a_tuple_of_each_family() {
    let policy = Policy::default();
    let seed = Seed::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap_or(0)));
    let over_ipv6 = Attempt {
        client: "2001:db8:1:2::3".parse().expect("an address"),
        ..ATTEMPT
    };
    let key = |attempt| seed.tuple_key(ClientNetwork::of(&policy, attempt), attempt);
    assert_ne!(key(&over_ipv6), key(&ATTEMPT));
    for attempt in [over_ipv6, ATTEMPT] {
        let mut story = Story::new(policy.clone());
        for at in [0, 300] {
            assert_eq!(story.hears(&attempt, seconds(at)).offence, None);
        }
        assert_eq!(story.extra(), 0);
        assert!(story.record.is_some_and(|record| record.has_passed()));
    }
}

proptest! {
    /// Whatever the schedule, the extra delay aside: deferred until the delay is over and after the
    /// window has closed, passed in between, and from the first pass on until unused for too long.
    #[test]
    fn any_schedule_is_answered_by_its_times(
        gaps in proptest::collection::vec(
            prop_oneof![0..400_u64, 0..90_000_u64, 0..4_000_000_u64],
            1..40,
        ),
    ) {
        let mut policy = Policy::default();
        policy.punish.extra_delay_action = Action::Observe;
        let mut story = Story::new(policy.clone());
        let mut at = seconds(0);
        let mut life_began = None;
        let mut last_pass = None;
        for gap in gaps {
            at += seconds(gap);
            let age = life_began.map(|began| at.saturating_sub(began));
            let passes = match (last_pass, age) {
                (Some(last_pass), _) => at.saturating_sub(last_pass) < policy.trust,
                (None, Some(age)) => policy.delay <= age && age < policy.retry_window,
                (None, None) => false,
            };
            let verdict = story.verdict_at(at);
            prop_assert_eq!(matches!(verdict, Verdict::Pass(_)), passes, "{:?} at {:?}", verdict, at);
            if passes {
                last_pass = Some(at);
            } else if last_pass.take().is_some() || age.is_none_or(|age| age >= policy.retry_window) {
                life_began = Some(at);
            }
        }
    }
}
