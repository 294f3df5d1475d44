//! Which attempts after a permanent failure are one too many.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::ServerMark;
use crate::policy::fixture::{ATTEMPT, T0, UNSIZED};

/// No offence at any second.
const NEVER: [u64; 0] = [];

fn at(seconds: u64) -> Timestamp {
    T0.after(Duration::from_secs(seconds))
}

fn failed(attempt: &Attempt<'_>) -> Failure {
    Failure::rejected(&Policy::default(), None, attempt, T0).0
}

/// At which of `attempts`, seconds after the failure and not rejected again, an offence was
/// complete.
fn offences<'a>(
    mut failure: Failure,
    attempts: impl IntoIterator<Item = (u64, Attempt<'a>)>,
) -> Vec<u64> {
    let policy = Policy::default();
    let mut offended = Vec::new();
    for (seconds, attempt) in attempts {
        if failure.note_attempt(&policy, &attempt, at(seconds)) {
            offended.push(seconds);
        }
    }
    offended
}

/// The same where each attempt is rejected again.
fn offences_of_rejected<'a>(attempts: impl IntoIterator<Item = (u64, Attempt<'a>)>) -> Vec<u64> {
    let policy = Policy::default();
    let mut failure = None;
    let mut offended = Vec::new();
    for (seconds, attempt) in attempts {
        let (next, offends) = Failure::rejected(&policy, failure.as_ref(), &attempt, at(seconds));
        failure = Some(next);
        if offends {
            offended.push(seconds);
        }
    }
    offended
}

fn sized(announced_size: u64) -> Attempt<'static> {
    Attempt {
        announced_size,
        ..ATTEMPT
    }
}

#[test]
fn sixth_retry_within_the_hour_is_an_offence() {
    let every = |interval: u64, count| (1..=count).map(move |it| (it * interval, ATTEMPT));
    assert_eq!(offences(failed(&ATTEMPT), every(60, 5)), NEVER);
    assert_eq!(offences(failed(&ATTEMPT), every(60, 6)), [360]);
    assert_eq!(offences(failed(&ATTEMPT), every(60, 12)), [360, 720]);
    assert_eq!(offences(failed(&ATTEMPT), every(599, 9)), [3_594]);
    assert_eq!(offences(failed(&ATTEMPT), every(600, 9)), NEVER);
    let rejected = |interval: u64, count| (0..=count).map(move |it| (it * interval, ATTEMPT));
    assert_eq!(offences_of_rejected(rejected(60, 5)), NEVER);
    assert_eq!(offences_of_rejected(rejected(60, 6)), [360]);
    assert_eq!(offences_of_rejected(rejected(20 * 60, 72)), NEVER);
}

#[test]
fn another_size_is_other_mail() {
    let jobs = (0..72).map(|it| (it * 300, sized(5_000 + it)));
    assert_eq!(offences_of_rejected(jobs), NEVER);
    let among_others = (1..60).map(|it| (it * 60, sized(5_000 + it % 12)));
    assert_eq!(offences(failed(&ATTEMPT), among_others), NEVER);
}

#[test]
fn equal_size_without_a_size_tells_nothing() {
    let unsized_tries = || (0..60).map(|it| (it * 10, UNSIZED));
    assert_eq!(offences_of_rejected(unsized_tries()), NEVER);
    assert_eq!(offences(failed(&ATTEMPT), unsized_tries()), NEVER);
    let huge = sized(u64::MAX);
    assert_eq!(failed(&huge).evidence, UNKNOWN);
}

#[test]
fn content_tells_where_no_size_was_announced() {
    let policy = Policy::default();
    let mut failure = failed(&UNSIZED);
    let wanted = failure.bearing(&policy, &UNSIZED, at(60));
    assert_eq!(wanted, Bearing::WantsContent);
    let same = Fingerprint::from_bytes([7; 16]);
    for number in 1..=5 {
        assert!(!failure.note_content(&policy, &UNSIZED, same, at(60 * number)));
        let other = Fingerprint::from_bytes([8; 16]);
        assert!(!failure.note_content(&policy, &UNSIZED, other, at(60 * number + 1)));
    }
    assert!(
        !failure.note_content(&policy, &ATTEMPT, same, at(380)),
        "it has a size"
    );
    assert!(failure.note_content(&policy, &UNSIZED, same, at(390)));
    assert_eq!(
        failed(&ATTEMPT).bearing(&policy, &UNSIZED, at(1)),
        Bearing::None
    );
}

#[test]
fn failure_of_unknown_size_takes_the_next_attempts() {
    let policy = Policy::default();
    let reported = Failure::reported(&policy, None, None, T0);
    let five = (1..=5).map(|it| (it * 60, ATTEMPT));
    assert_eq!(offences(reported, five), NEVER);
    let six = (1..=6).map(|it| (it * 60, ATTEMPT));
    assert_eq!(offences(reported, six), [360]);
    let wrong_guess = std::iter::once((30, sized(99)));
    let retries = (1..=20).map(|it| (30 + it * 60, ATTEMPT));
    assert_eq!(offences(reported, wrong_guess.chain(retries)), NEVER);
}

#[test]
fn report_of_what_is_remembered_counts_nothing() {
    let policy = Policy::default();
    let failure = failed(&ATTEMPT);
    let again = Failure::reported(&policy, Some(&failure), Some(5_000), at(60));
    assert_eq!(again, failure);
    let later = Failure::reported(&policy, Some(&failure), Some(6_000), at(3_600));
    assert_eq!((later.life, later.evidence), (2, 6_000));
}

#[test]
fn delivery_round_over_five_addresses_is_one_retry() {
    let round = |begin: u64| {
        (1..=5).map(move |number| {
            let server = ServerMark::numbered(number);
            (begin + u64::from(number), Attempt { server, ..ATTEMPT })
        })
    };
    let rounds = |count| (1..=count).flat_map(move |it| round(it * 300));
    assert_eq!(offences(failed(&ATTEMPT), rounds(5)), NEVER);
    assert_eq!(offences(failed(&ATTEMPT), rounds(6)), [1_801]);
    let first = (0..5).flat_map(|it| round(it * 300));
    assert_eq!(offences_of_rejected(first), NEVER);
    let one_address = round(0).map(|(seconds, _)| (seconds, ATTEMPT));
    let again = Attempt {
        server: ServerMark::numbered(1),
        ..ATTEMPT
    };
    assert_eq!(
        offences(failed(&again), one_address.chain([(7, again)])),
        [7]
    );
}

#[test]
fn another_hosts_word_is_no_evidence() {
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    let tries = (1..60).map(|it| (it * 10, reported));
    assert_eq!(offences(failed(&ATTEMPT), tries), NEVER);
    let policy = Policy::default();
    let unknown = Failure::reported(&policy, None, None, T0);
    assert_eq!(unknown.bearing(&policy, &reported, at(1)), Bearing::None);
}

#[test]
fn bounces_and_probes_are_told_by_content_alone() {
    let policy = Policy::default();
    for reverse_path in [&b""[..], b"double-bounce@relay.example"] {
        let bounce = Attempt {
            reverse_path,
            ..ATTEMPT
        };
        assert!(!counts_rejections(&policy, &bounce));
        assert_eq!(offences_of_rejected((0..500).map(|it| (it, bounce))), NEVER);
        let mut failure = failed(&bounce);
        let same = Fingerprint::from_bytes([7; 16]);
        let offended: Vec<u64> = (1..=6)
            .filter(|&it| failure.note_content(&policy, &bounce, same, at(it * 60)))
            .collect();
        assert_eq!(offended, [6]);
    }
}

#[test]
fn clock_set_back_frees_what_lies_in_the_future() {
    let policy = Policy::default();
    let failure = Failure::rejected(&policy, None, &ATTEMPT, at(7_200)).0;
    assert!(failure.has_lapsed(&policy, T0));
    assert!(!failure.has_lapsed(&policy, at(7_190)));
    assert!(failure.has_lapsed(&policy, at(10_800)));
}

prop_compose! {
    /// Small ranges, so that equal lives and times are common.
    fn failure()(
        since in 0u64..3, evidence in 0u32..3, latest in 0u64..3,
        round in 0u16..3, retries in 0u16..3, life in 1u16..3,
    ) -> Failure {
        Failure {
            since: Timestamp::from_millis(since * 1_000).into(),
            evidence,
            latest: Timestamp::from_millis(latest),
            round,
            retries,
            life,
        }
    }
}

proptest! {
    #[test]
    fn merging_is_commutative(a in failure(), b in failure()) {
        prop_assert_eq!(a.merge(b), b.merge(a));
    }

    #[test]
    fn merging_is_associative(a in failure(), b in failure(), c in failure()) {
        prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
    }

    #[test]
    fn merging_is_idempotent(a in failure(), b in failure()) {
        prop_assert_eq!(a.merge(a), a);
        prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
    }
}
