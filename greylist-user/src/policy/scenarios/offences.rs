//! What is an offence and what is not: runs of retries, and their proof.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    ATTEMPT, Action, Attempt, Circumstances, Decision, Fingerprint, Offence, Origin, PassReason,
    Policy, ServerMark, Story, Verdict, note_content, seconds,
};

/// The same without `SIZE=`: what it is, only its content can tell.
const UNSIZED: Attempt<'static> = Attempt {
    announced_size: 0,
    ..ATTEMPT
};

impl Story {
    /// Attempts without `SIZE=`, `interval` apart from `begin` on, that each send the message which
    /// `letters` has for it, if they are asked for it. The first offence, and when.
    fn shown(
        &mut self,
        begin: Duration,
        interval: Duration,
        letters: impl IntoIterator<Item = u8>,
    ) -> Option<Duration> {
        let mut at = begin;
        for letter in letters {
            let decision = self.hears(&UNSIZED, at);
            assert_eq!(
                decision.offence, None,
                "nothing is proven before it is shown"
            );
            if decision.wants_content && self.shows(&UNSIZED, letter).is_some() {
                return Some(at);
            }
            at += interval;
        }
        None
    }

    /// What comes of it that the message of `attempt` is the one called `letter`.
    fn shows(&mut self, attempt: &Attempt<'_>, letter: u8) -> Option<Offence> {
        let record = self.record.as_mut().expect("an attempt was made");
        let fingerprint = Fingerprint::from_bytes([letter; 16]);
        note_content(&self.policy, record, attempt, fingerprint)
    }
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

#[test]
fn does_not_strike_a_local_host() {
    let policy = Policy {
        lists: crate::policy::fixture::local(["2001:db8:1:2::25/128"]),
        ..Policy::default()
    };
    let struck = |address: &str| {
        let attempt = Attempt {
            client: address.parse().expect("an address"),
            ..ATTEMPT
        };
        Story::new(policy.clone()).hammered(seconds(1), [attempt; 60])
    };
    assert_eq!(struck("2001:db8:1:2::25"), None);
    assert!(struck("2001:db8:1:2::bad").is_some(), "its neighbour is");
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

/// 2 and 70 s by turns: no run lasts, so nobody is struck. What it costs, `retries` tells.
#[test]
fn does_not_strike_two_and_seventy_seconds_by_turns() {
    let mut story = Story::new(Policy::default());
    for pair in 0..60 {
        let at = seconds(72 * pair);
        assert_eq!(story.hears(&ATTEMPT, at).offence, None);
        assert_eq!(story.hears(&ATTEMPT, at + seconds(2)).offence, None);
    }
}

#[test]
fn strikes_dozens_of_retries_a_second() {
    let mut story = Story::new(Policy::default());
    let struck = story.hammered(
        Duration::from_millis(20),
        std::iter::repeat_n(ATTEMPT, 2_000),
    );
    assert_eq!(struck, Some((Offence::RapidRetries, seconds(30))));
}

#[test]
fn strikes_who_hammers_two_addresses_by_turns() {
    let mut story = Story::new(Policy::default());
    let attempts = (0..60_u8).map(|n| Attempt {
        server: ServerMark::numbered(1 + n % 2),
        ..ATTEMPT
    });
    let struck = story.hammered(seconds(1), attempts);
    assert_eq!(struck, Some((Offence::RapidRetries, seconds(30))));
}

#[test]
fn word_of_another_host_breaks_a_run_and_begins_none() {
    let mut story = Story::new(Policy::default());
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    for at in [0, 8, 16, 24] {
        story.hears(&ATTEMPT, seconds(at));
    }
    assert_eq!(story.hears(&reported, seconds(32)).offence, None);
    let struck = (5..20)
        .map(|n| seconds(8 * n))
        .find(|&at| story.hears(&ATTEMPT, at).offence.is_some());
    assert_eq!(struck, Some(seconds(80)), "the fifth retry after 40 s");
}

#[test]
fn strikes_without_size_once_the_content_repeats() {
    let mut story = Story::new(Policy::default());
    let struck = story.shown(seconds(0), seconds(1), [b'a'; 60]);
    assert_eq!(
        struck,
        Some(seconds(31)),
        "asked for after half a minute, and proven by the next"
    );
    let again = story.shown(seconds(32), seconds(1), [b'a'; 60]);
    assert_eq!(again, Some(seconds(62)), "each offence needs its own proof");
    let mut story = Story::new(Policy::default());
    assert!(story.shown(seconds(0), seconds(8), [b'a'; 20]).is_some());
    assert_eq!(story.extra(), 4, "for the one pause that was proven");
}

#[test]
fn asks_for_no_content_before_it_could_be_an_offence() {
    let asked = |interval, attempts: u64| {
        let mut story = Story::new(Policy::default());
        (0..attempts)
            .map(|n| seconds(interval * n))
            .find(|&at| story.hears(&UNSIZED, at).wants_content)
    };
    assert_eq!(asked(1, 30), None, "a burst");
    assert_eq!(asked(9, 60), None, "a queue");
    assert_eq!(asked(8, 60), Some(seconds(40)));
    let mut sized = Story::new(Policy::default());
    assert!((0..60).all(|at| !sized.hears(&ATTEMPT, seconds(at)).wants_content));
    let mut observing = Story::new(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    assert!((0..60).all(|at| !observing.hears(&UNSIZED, seconds(at)).wants_content));
}

#[test]
fn different_content_is_different_mail() {
    let mut story = Story::new(Policy::default());
    assert_eq!(story.shown(seconds(0), seconds(1), 0..120), None);
    assert_eq!(story.extra(), 0);
}

/// Five mails to one recipient in one queue, each tried every 35 s.
#[test]
fn mails_in_turns_are_not_struck_and_hardly_read() {
    let mut story = Story::new(Policy::default());
    let mut asked = 0;
    for n in 0..25_u8 {
        let decision = story.hears(&UNSIZED, seconds(7 * u64::from(n)));
        if decision.wants_content {
            asked += 1;
            assert_eq!(story.shows(&UNSIZED, n % 5), None);
        }
    }
    assert!((1..=8).contains(&asked), "{asked} bodies");
}

/// The same with sizes: what is left open, and why.
#[test]
fn two_sizes_in_turns_are_two_mails() {
    let mut story = Story::new(Policy::default());
    let attempts = (0..60).map(|n| Attempt {
        announced_size: 5_000 + n % 2,
        ..ATTEMPT
    });
    assert_eq!(story.hammered(seconds(1), attempts), None);
    assert_eq!(story.extra(), 0);
}

#[test]
fn recipient_named_twice_in_one_transaction_proves_nothing() {
    let mut story = Story::new(Policy::default());
    let at = |second| seconds(second);
    for second in 0..=29 {
        story.hears(&UNSIZED, at(second));
    }
    for (second, letter) in [(30, b'a'), (31, b'b'), (32, b'c')] {
        story.hears(&UNSIZED, at(second));
        story.hears(&UNSIZED, at(second));
        assert_eq!(story.shows(&UNSIZED, letter), None);
        assert_eq!(story.shows(&UNSIZED, letter), None);
    }
}

#[test]
fn content_shown_too_late_proves_nothing() {
    let mut story = Story::new(Policy::default());
    story.shown(seconds(0), seconds(1), [b'a'; 31]);
    // It goes on, and leaves before DATA.
    let asked = (31..60)
        .filter(|&at| story.hears(&UNSIZED, seconds(at)).wants_content)
        .collect::<Vec<_>>();
    assert_eq!(asked, (31..=38).collect::<Vec<_>>());
    assert_eq!(story.shows(&UNSIZED, b'a'), None);
}

#[test]
fn content_counts_for_the_host_that_made_the_run() {
    let at_the_proof = || {
        let mut story = Story::new(Policy::default());
        assert_eq!(story.shown(seconds(0), seconds(1), [b'a'; 31]), None);
        assert!(story.hears(&UNSIZED, seconds(31)).wants_content);
        story
    };
    assert!(at_the_proof().shows(&UNSIZED, b'a').is_some());
    let neighbour = Attempt {
        client: std::net::Ipv4Addr::new(192, 0, 2, 8).into(),
        ..UNSIZED
    };
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..UNSIZED
    };
    for (attempt, who) in [
        (neighbour, "a neighbour"),
        (reported, "another host's client"),
        (ATTEMPT, "a message of known size"),
    ] {
        assert_eq!(at_the_proof().shows(&attempt, b'a'), None, "{who}");
    }
}

#[test]
fn content_of_a_slow_retry_proves_nothing() {
    let mut story = Story::new(Policy::default());
    for at in [0, 60, 120] {
        story.hears(&UNSIZED, seconds(at));
        assert_eq!(story.shows(&UNSIZED, b'a'), None, "at {at} s");
    }
    story.hears(&UNSIZED, seconds(180));
    assert_eq!(story.shows(&UNSIZED, b'a'), None, "it has passed");
}

#[test]
fn attempt_after_a_failure_wants_content_even_if_it_passes() {
    let after_failure = Circumstances {
        after_failure: true,
        ..Circumstances::default()
    };
    let mut story = Story::new(Policy::default());
    let first = story.hears_amid(after_failure, &UNSIZED, seconds(0));
    assert!(first.wants_content, "{first:?}");
    let retry: Decision = story.hears_amid(after_failure, &UNSIZED, seconds(300));
    let waited = seconds(300);
    assert_eq!(retry.verdict, Verdict::Pass(PassReason::Waited { waited }));
    assert!(retry.wants_content, "{retry:?}");
    assert!(!story.hears(&UNSIZED, seconds(301)).wants_content);
}

proptest! {
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

    /// Whatever the pace, mails of different sizes are nobody's offence, cost nothing, and are not
    /// read.
    #[test]
    fn different_sizes_are_never_struck(
        gaps in proptest::collection::vec(0..20_000_u64, 1..60),
    ) {
        let mut story = Story::new(Policy::default());
        let mut at = seconds(0);
        for (gap, mail) in gaps.into_iter().zip(1..) {
            let attempt = Attempt { announced_size: mail, ..ATTEMPT };
            let decision = story.hears(&attempt, at);
            prop_assert_eq!((decision.offence, decision.wants_content), (None, false));
            prop_assert_eq!(story.extra(), 0);
            at += Duration::from_millis(gap);
        }
    }
}
