//! Stories told to the engine with a turned clock: a client tries on a schedule, and what it is
//! answered is read back.
//!
//! Here, what a tuple and the rungs above it are answered; below, the senders of this world, those
//! with many addresses, what early retries cost, and what is an offence.

mod offences;
mod pools;
mod retries;
mod senders;

use std::time::Duration;

use super::fixture::{ATTEMPT, T0, allowing, local as local_networks};
use super::{
    Action, Attempt, Circumstances, Decision, DeferReason, Fingerprint, Offence, Origin,
    PassReason, Policy, Record, ServerMark, Verdict, decide, exempt, note_content,
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
        self.hears_amid(Circumstances::default(), attempt, at)
    }

    fn hears_amid(
        &mut self,
        circumstances: Circumstances,
        attempt: &Attempt<'_>,
        at: Duration,
    ) -> Decision {
        let prior = self.record.as_ref();
        let decision = decide(&self.policy, prior, attempt, circumstances, T0.after(at));
        self.record = Some(decision.next);
        decision
    }

    /// What the tuple has been charged, in seconds.
    fn extra(&self) -> u16 {
        self.record.expect("an attempt was made").extra
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
    let left = seconds(1 + 15);
    assert_eq!(
        story.verdict_at(seconds(179)),
        Verdict::Defer(DeferReason::Early { left })
    );
    let waited = seconds(195);
    assert_eq!(
        story.verdict_at(seconds(195)),
        Verdict::Pass(PassReason::Waited { waited })
    );
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
        begun.run_attempts = 1;
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
fn precedence_is_allow_then_authenticated_then_local() {
    let allowing = Policy {
        lists: allowing(["192.0.2.0/24"]),
        ..Policy::default()
    };
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    assert_eq!(exempt(&allowing, &authenticated), Some(PassReason::Allowed));
    let local = Policy {
        lists: local_networks(["192.0.2.0/24"]),
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
