//! Stories told to the engine with a turned clock: a client tries on a schedule, and what it is
//! answered is read back.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Action, Attempt, Circumstances, Decision, DeferReason, Offence, Origin, PassReason, Policy,
    Record, ServerMark, Timestamp, Verdict, decide, exempt,
};

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// An ordinary first try.
const ATTEMPT: Attempt<'static> = Attempt {
    client: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    client_name: b"mail.sender.example",
    helo: b"mail.sender.example",
    reverse_path: b"s@sender.example",
    recipient: b"r@here.example",
    announced_size: 5_000,
    connected: Timestamp::NEVER,
    server: ServerMark::UNKNOWN,
    authenticated: false,
    origin: Origin::ThisHost,
};

/// One tuple and what is remembered of it.
struct Story {
    policy: Policy,
    record: Option<Record>,
}

impl Story {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            record: None,
        }
    }

    /// The answer to `attempt`, made `at` after the story began.
    fn hears(&mut self, attempt: &Attempt<'_>, at: Duration) -> Decision {
        let decision = decide(
            &self.policy,
            self.record.as_ref(),
            attempt,
            &Circumstances::default(),
            T0.after(at),
        );
        self.record = Some(decision.next);
        decision
    }

    fn verdict_at(&mut self, at: Duration) -> Verdict {
        self.hears(&ATTEMPT, at).verdict
    }

    /// The first offence while `attempts` arrive `interval` apart, and when it was complete.
    fn hammered<'a>(
        &mut self,
        interval: Duration,
        attempts: impl IntoIterator<Item = Attempt<'a>>,
    ) -> Option<(Offence, Duration)> {
        let mut at = Duration::ZERO;
        for attempt in attempts {
            if let Some(offence) = self.hears(&attempt, at).offence {
                return Some((offence, at));
            }
            at += interval;
        }
        None
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn defers_first_attempt() {
    let mut story = Story::new(Policy::default());
    assert_eq!(
        story.verdict_at(seconds(0)),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn passes_retry_in_window() {
    let mut story = Story::new(Policy::default());
    story.verdict_at(seconds(0));
    let waited = seconds(300);
    assert_eq!(
        story.verdict_at(seconds(300)),
        Verdict::Pass(PassReason::Waited { waited })
    );
    assert_eq!(
        story.verdict_at(seconds(301)),
        Verdict::Pass(PassReason::Passed)
    );
}

#[test]
fn early_retry_does_not_reset_the_clock() {
    let mut story = Story::new(Policy::default());
    story.verdict_at(seconds(0));
    let left = seconds(1);
    assert_eq!(
        story.verdict_at(seconds(179)),
        Verdict::Defer(DeferReason::Early { left })
    );
    let waited = seconds(180);
    assert_eq!(
        story.verdict_at(seconds(180)),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

#[test]
fn exchange_retries_a_minute_apart_and_passes() {
    let mut story = Story::new(Policy::default());
    let answers: Vec<_> = (0..=4)
        .map(|minute| story.hears(&ATTEMPT, seconds(60 * minute)))
        .collect();
    assert!(answers.iter().all(|answer| answer.offence.is_none()));
    let deferred = answers
        .iter()
        .filter(|answer| matches!(answer.verdict, Verdict::Defer(_)));
    assert_eq!(deferred.count(), 3);
    assert_eq!(
        answers[4].verdict,
        Verdict::Pass(PassReason::Passed),
        "it passed at its third retry already"
    );
    let record = story.record.expect("a record was kept");
    assert_eq!((record.attempts, record.passes), (5, 2));
}

#[test]
fn treats_late_retry_as_new() {
    let mut story = Story::new(Policy::default());
    story.verdict_at(seconds(0));
    let day = seconds(86_400);
    assert_eq!(story.verdict_at(day), Verdict::Defer(DeferReason::Late));
    let record = story.record.expect("a record was kept");
    assert_eq!(record, {
        let mut begun = Record::begun(2, T0.after(day));
        begun.run_evidence = 5_000;
        begun.run_host = record.run_host;
        begun
    });
    let waited = seconds(300);
    assert_eq!(
        story.verdict_at(day + waited),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

#[test]
fn does_not_accept_an_expired_record() {
    let mut story = Story::new(Policy::default());
    story.verdict_at(seconds(0));
    story.verdict_at(seconds(300));
    let unused_for = story.policy.trust;
    assert_eq!(
        story.verdict_at(seconds(300) + unused_for),
        Verdict::Defer(DeferReason::Late)
    );
}

#[test]
fn passed_tuple_lasts_as_long_as_it_is_used() {
    let mut story = Story::new(Policy::default());
    story.verdict_at(seconds(0));
    story.verdict_at(seconds(300));
    for month in 1..=12 {
        assert_eq!(
            story.verdict_at(Duration::from_hours(30 * 24 * month)),
            Verdict::Pass(PassReason::Passed),
            "monthly mail of month {month}"
        );
    }
}

#[test]
fn null_reverse_path_is_greylisted() {
    let mut story = Story::new(Policy::default());
    let bounce = Attempt {
        reverse_path: b"",
        ..ATTEMPT
    };
    let first = story.hears(&bounce, seconds(0));
    assert_eq!(first.verdict, Verdict::Defer(DeferReason::New));
}

#[test]
fn observing_passes_and_still_remembers() {
    let mut story = Story::new(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    assert_eq!(
        story.verdict_at(seconds(0)),
        Verdict::Pass(PassReason::Observed)
    );
    let waited = seconds(300);
    assert_eq!(
        story.verdict_at(waited),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

#[test]
fn strikes_retries_one_second_apart_after_half_a_minute() {
    let mut story = Story::new(Policy::default());
    let struck = story.hammered(seconds(1), [ATTEMPT; 60]);
    assert_eq!(struck, Some((Offence::RapidRetries, seconds(30))));
}

#[test]
fn strikes_retries_eight_seconds_apart() {
    let mut story = Story::new(Policy::default());
    let struck = story.hammered(seconds(8), [ATTEMPT; 20]);
    let (_, at) = struck.expect("eight seconds apart is hammering");
    assert_eq!(at, seconds(40), "the fifth retry");
}

#[test]
fn does_not_strike_retries_nine_seconds_apart() {
    let mut story = Story::new(Policy::default());
    assert_eq!(story.hammered(seconds(9), [ATTEMPT; 20]), None);
}

#[test]
fn does_not_strike_different_mails() {
    let mut story = Story::new(Policy::default());
    let mails = (0..60).map(|mail| Attempt {
        announced_size: 5_000 + mail,
        ..ATTEMPT
    });
    assert_eq!(story.hammered(seconds(1), mails), None);
}

#[test]
fn does_not_strike_a_burst_of_equal_mails() {
    let mut story = Story::new(Policy::default());
    assert_eq!(story.hammered(seconds(1), [ATTEMPT; 10]), None);
}

#[test]
fn does_not_strike_without_announced_size() {
    let mut story = Story::new(Policy::default());
    let unsized_mail = Attempt {
        announced_size: 0,
        ..ATTEMPT
    };
    assert_eq!(story.hammered(seconds(1), [unsized_mail; 60]), None);
}

#[test]
fn attempt_without_size_breaks_the_run() {
    let mut story = Story::new(Policy::default());
    let attempts = (0..60).map(|n| Attempt {
        announced_size: if n % 20 == 19 { 0 } else { 5_000 },
        ..ATTEMPT
    });
    assert_eq!(story.hammered(seconds(1), attempts), None);
}

#[test]
fn neighbours_in_a_network_do_not_add_up() {
    let mut story = Story::new(Policy::default());
    let attempts = (0..60_u8).map(|n| Attempt {
        client: std::net::Ipv4Addr::new(192, 0, 2, 7 + n % 2).into(),
        ..ATTEMPT
    });
    assert_eq!(story.hammered(seconds(1), attempts), None);
}

#[test]
fn does_not_strike_on_the_word_of_another_host() {
    let mut story = Story::new(Policy::default());
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    assert_eq!(story.hammered(seconds(1), [reported; 60]), None);
}

/// The sentence would fall on the whole `/64`, backup MX included.
#[test]
fn does_not_strike_the_64_of_a_local_host() {
    let policy = Policy {
        local: vec!["2001:db8:1:2::25/128".parse().expect("a network")],
        ..Policy::default()
    };
    let struck = |address: &str| {
        let attempt = Attempt {
            client: address.parse().expect("an address"),
            ..ATTEMPT
        };
        Story::new(policy.clone()).hammered(seconds(1), [attempt; 60])
    };
    assert_eq!(struck("2001:db8:1:2::bad"), None);
    assert!(struck("2001:db8:1:3::bad").is_some());
}

#[test]
fn does_not_strike_private_clients_unless_told_to() {
    let mut policy = Policy::default();
    let proxied = Attempt {
        client: std::net::Ipv4Addr::new(10, 0, 0, 7).into(),
        ..ATTEMPT
    };
    let struck = |policy: &Policy| Story::new(policy.clone()).hammered(seconds(1), [proxied; 60]);
    assert_eq!(struck(&policy), None);
    policy.punish.private = true;
    assert!(struck(&policy).is_some());
}

#[test]
fn does_not_strike_while_greylisting_observes() {
    let mut story = Story::new(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    assert_eq!(story.hammered(seconds(1), [ATTEMPT; 60]), None);
}

#[test]
fn each_offence_needs_its_own_run() {
    let mut story = Story::new(Policy::default());
    let struck = (0..=120)
        .filter(|&second| story.hears(&ATTEMPT, seconds(second)).offence.is_some())
        .collect::<Vec<_>>();
    assert_eq!(struck, [30, 60, 90, 120]);
}

proptest! {
    /// Whatever the schedule: deferred until the delay is over and after the window has closed,
    /// passed in between, and from the first pass on until unused for too long.
    #[test]
    fn any_schedule_is_answered_by_its_times(
        gaps in proptest::collection::vec(
            prop_oneof![0..400_u64, 0..90_000_u64, 0..4_000_000_u64],
            1..40,
        ),
    ) {
        let mut story = Story::new(Policy::default());
        let policy = story.policy.clone();
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

    /// No schedule with a pause of more than eight seconds after every fifth try is an offence.
    #[test]
    fn pauses_are_never_struck(pauses in proptest::collection::vec(8_001..60_000_u64, 1..10)) {
        let mut story = Story::new(Policy::default());
        let mut at = seconds(0);
        for pause in pauses {
            for _ in 0..5 {
                prop_assert_eq!(story.hears(&ATTEMPT, at).offence, None);
                at += seconds(8);
            }
            at += Duration::from_millis(pause);
        }
    }
}

#[test]
fn precedence_is_allow_then_authenticated_then_local() {
    let network = "192.0.2.0/24".parse().expect("a network");
    let allowing = Policy {
        allow: vec![network],
        local: vec![network],
        ..Policy::default()
    };
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    assert_eq!(exempt(&allowing, &authenticated), Some(PassReason::Allowed));
    let local = Policy {
        allow: Vec::new(),
        ..allowing
    };
    assert_eq!(
        exempt(&local, &authenticated),
        Some(PassReason::Authenticated)
    );
    assert_eq!(exempt(&local, &ATTEMPT), Some(PassReason::Local));
    assert_eq!(exempt(&Policy::default(), &ATTEMPT), None);
}

#[test]
fn loopback_is_always_local() {
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        let attempt = Attempt {
            client: address.parse().expect("an address"),
            ..ATTEMPT
        };
        assert_eq!(
            exempt(&Policy::default(), &attempt),
            Some(PassReason::Local),
            "{address}"
        );
    }
}
