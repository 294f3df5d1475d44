//! What is remembered of a permanent failure, for an hour: a message that was refused for good and
//! is tried again and again.
//!
//! A queue takes a 5yz for the end of it. Who goes on is broken or does not listen, but only
//! evidence says that it is the same message that comes again:
//!
//! - Equal `SIZE=` from the same client, reverse-path and recipient is one message. Another size is
//!   other mail and counts for nothing, so a newsletter to a dead address, and a monitoring job
//!   that reports every few minutes, are none. Mails made of one template can be of one size to the
//!   byte; more than five of those within an hour, from one sender to one address that refuses
//!   them, are taken for one mail.
//! - Without a size the content tells, if the MTA lets the attempt come that far: a fingerprint that
//!   repeats. Refused at RCPT and without a size, nothing tells, and nothing counts.
//! - Bounces and probes have no size that tells: a relay makes all its bounces of one template, and
//!   a thousand of them to an unknown user are what a forger did to it. One bounce that comes again
//!   and again with one Message-ID and body is as broken as any mail, so content does count.
//!
//! The failure itself may be known without its evidence, when another filter tells of it. Then the
//! next attempt is taken for the same message: a wrong guess costs nothing, since as many more of
//! exactly that one must follow.

use super::attempt::{Attempt, Origin};
use super::fingerprint::Fingerprint;
use super::rules::Policy;
use super::time::{Second, Timestamp};

/// The facts about one client, reverse-path and recipient after a 5yz of enhanced status 5.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When the message failed first.
    pub since: Second,
    /// What tells the message: its announced size, or a part of its fingerprint with the highest bit
    /// set; 0 while that is not known.
    pub evidence: u32,
    /// The latest attempt that counted.
    pub latest: Timestamp,
    /// Addresses of this site tried in the present delivery round.
    pub round: u16,
    /// Retries since, or since they last were an offence.
    pub retries: u16,
    /// Counts the lives: a failure after this one has lapsed begins the next, and so does an
    /// offence.
    pub life: u16,
}

/// What an attempt after a failure has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It is other mail.
    None,
    /// It is the same message.
    Retry,
    /// Only its content can tell.
    WantsContent,
}

impl Failure {
    /// The failure of `attempt`, refused at `now`, `prior` being what was remembered; and whether
    /// this was one retry too many.
    pub fn refused(
        policy: &Policy,
        prior: Option<&Self>,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> (Self, bool) {
        let evidence = announced(policy, attempt);
        match prior {
            Some(prior) if !prior.has_lapsed(policy, now) => {
                let mut next = *prior;
                let offends = next.retried(policy, evidence, attempt, now);
                (next, offends)
            }
            _ => (
                Self::begun(prior, evidence, attempt.server.bit(), now),
                false,
            ),
        }
    }

    /// The failure of a message of which another filter tells, its size if that is known. What is
    /// remembered and has not lapsed stands: the attempt has been counted when it was made.
    pub fn reported(
        policy: &Policy,
        prior: Option<&Self>,
        size: Option<u64>,
        now: Timestamp,
    ) -> Self {
        match prior {
            Some(prior) if !prior.has_lapsed(policy, now) => *prior,
            _ => Self::begun(prior, size.map_or(UNKNOWN, of_size), 0, now),
        }
    }

    /// What `attempt`, made at `now` and not refused by the MTA, has to do with it.
    pub fn bearing(&self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> Bearing {
        if attempt.origin == Origin::AnotherHost || self.has_lapsed(policy, now) {
            return Bearing::None;
        }
        let is_size = self.evidence != UNKNOWN && self.evidence & OF_CONTENT == 0;
        match announced(policy, attempt) {
            UNKNOWN if is_size => Bearing::None,
            UNKNOWN => Bearing::WantsContent,
            size if self.evidence == UNKNOWN || self.evidence == size => Bearing::Retry,
            _ => Bearing::None,
        }
    }

    /// Notes an attempt that may be a [retry](Bearing::Retry). Says whether it was one too many.
    pub fn note_attempt(&mut self, policy: &Policy, attempt: &Attempt<'_>, now: Timestamp) -> bool {
        self.bearing(policy, attempt, now) == Bearing::Retry
            && self.retried(policy, announced(policy, attempt), attempt, now)
    }

    /// Notes the content of an attempt that [nothing else](Bearing::WantsContent) can tell. Says
    /// whether it was one retry too many.
    pub fn note_content(
        &mut self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> bool {
        self.bearing(policy, attempt, now) == Bearing::WantsContent
            && self.retried(policy, of_content(fingerprint), attempt, now)
    }

    /// Whether it counts no more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        has_lapsed(self.since, policy, now)
    }

    /// One record out of two of the same failure, from two hosts: the higher life wins. Within one,
    /// since is the smaller, latest the larger with its round, and retries the larger with the
    /// evidence that they were counted by.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let (latest, round) = (self.latest, self.round).max((other.latest, other.round));
        let (retries, evidence) =
            (self.retries, self.evidence).max((other.retries, other.evidence));
        Self {
            since: self.since.min(other.since),
            evidence,
            latest,
            round,
            retries,
            life: self.life,
        }
    }

    fn begun(prior: Option<&Self>, evidence: u32, round: u16, now: Timestamp) -> Self {
        Self {
            since: now.into(),
            evidence,
            latest: now,
            round,
            retries: 0,
            life: prior.map_or(1, |prior| prior.life.saturating_add(1)),
        }
    }

    /// Counts an attempt of the message that `evidence` tells, if it is this one, and not the same
    /// delivery round at another of our addresses. Says whether it was one too many; then as many
    /// again must follow until the next is.
    fn retried(
        &mut self,
        policy: &Policy,
        evidence: u32,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> bool {
        if self.evidence == UNKNOWN {
            self.evidence = evidence;
        }
        if evidence == UNKNOWN || self.evidence != evidence {
            return false;
        }
        let server = attempt.server.bit();
        let in_round = self.round != 0 && now.since(self.latest) < policy.punish.round;
        if in_round && server != 0 && self.round & server == 0 {
            self.round |= server;
            return false;
        }
        self.round = server;
        self.latest = self.latest.max(now);
        self.retries = self.retries.saturating_add(1);
        let offends = self.retries > policy.punish.rejected_retries;
        if offends {
            self.retries = 0;
            self.life = self.life.saturating_add(1);
        }
        offends
    }
}

/// Whether a refusal of `attempt` says anything of its client: not on the word of another host, and
/// not of bounces and probes, which a forger has sent to whom he made up.
pub fn counts_refusals(policy: &Policy, attempt: &Attempt<'_>) -> bool {
    attempt.origin == Origin::ThisHost && !policy.is_probe_sender(attempt.reverse_path)
}

/// Whether the window that began at `since` is over at `now`, or lies in the future as after
/// a clock was set back.
pub(super) fn has_lapsed(since: Second, policy: &Policy, now: Timestamp) -> bool {
    let since = Timestamp::from(since);
    let window = policy.punish.rejected_window;
    now.since(since) >= window || since.since(now) >= window
}

/// What the announced size of `attempt` tells of its message.
fn announced(policy: &Policy, attempt: &Attempt<'_>) -> u32 {
    if counts_refusals(policy, attempt) {
        of_size(attempt.announced_size)
    } else {
        UNKNOWN
    }
}

fn of_size(size: u64) -> u32 {
    let size = u32::try_from(size).unwrap_or(UNKNOWN);
    if size & OF_CONTENT == 0 {
        size
    } else {
        UNKNOWN
    }
}

fn of_content(fingerprint: Fingerprint) -> u32 {
    let [a, b, c, d, ..] = fingerprint.to_bytes();
    u32::from_le_bytes([a, b, c, d]) | OF_CONTENT
}

/// Evidence that tells nothing.
const UNKNOWN: u32 = 0;

/// Tells evidence of content from a size: no mail has two gigabytes.
const OF_CONTENT: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::ServerMark;

    const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

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

    const UNSIZED: Attempt<'static> = Attempt {
        announced_size: 0,
        ..ATTEMPT
    };

    /// No offence at any second.
    const NEVER: [u64; 0] = [];

    fn at(seconds: u64) -> Timestamp {
        T0.after(Duration::from_secs(seconds))
    }

    fn failed(attempt: &Attempt<'_>) -> Failure {
        Failure::refused(&Policy::default(), None, attempt, T0).0
    }

    /// At which of `attempts`, seconds after the failure and not refused again, an offence was
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

    /// The same where each attempt is refused again.
    fn offences_of_refused<'a>(attempts: impl IntoIterator<Item = (u64, Attempt<'a>)>) -> Vec<u64> {
        let policy = Policy::default();
        let mut failure = None;
        let mut offended = Vec::new();
        for (seconds, attempt) in attempts {
            let (next, offends) =
                Failure::refused(&policy, failure.as_ref(), &attempt, at(seconds));
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
        let refused = |interval: u64, count| (0..=count).map(move |it| (it * interval, ATTEMPT));
        assert_eq!(offences_of_refused(refused(60, 5)), NEVER);
        assert_eq!(offences_of_refused(refused(60, 6)), [360]);
        assert_eq!(offences_of_refused(refused(20 * 60, 72)), NEVER);
    }

    #[test]
    fn another_size_is_other_mail() {
        let jobs = (0..72).map(|it| (it * 300, sized(5_000 + it)));
        assert_eq!(offences_of_refused(jobs), NEVER);
        let among_others = (1..60).map(|it| (it * 60, sized(5_000 + it % 12)));
        assert_eq!(offences(failed(&ATTEMPT), among_others), NEVER);
    }

    #[test]
    fn equal_size_without_a_size_tells_nothing() {
        let unsized_tries = || (0..60).map(|it| (it * 10, UNSIZED));
        assert_eq!(offences_of_refused(unsized_tries()), NEVER);
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
        assert_eq!(offences_of_refused(first), NEVER);
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
            assert!(!counts_refusals(&policy, &bounce));
            assert_eq!(offences_of_refused((0..500).map(|it| (it, bounce))), NEVER);
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
        let failure = Failure::refused(&policy, None, &ATTEMPT, at(7_200)).0;
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
}
