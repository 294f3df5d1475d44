//! One sender and one recipient, and attempts from whatever network: what the three modes make of them,
//! with the records of tuple, pair and message beside each other as a store holds them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ATTEMPT, Action, Attempt, Circumstances, PassReason, Policy, T0, Verdict, seconds};
use crate::policy::tuple::NetworkMark;
use crate::policy::{ContentRecord, ContentStanding, Mode, PairRecord, ReadReason, Record};
use crate::policy::{decide, reads};

/// What is remembered of one sender and one recipient.
struct Story {
    policy: Policy,
    tuples: BTreeMap<u16, Record>,
    pair: Option<PairRecord>,
    messages: BTreeMap<u32, ContentRecord>,
}

impl Story {
    /// Under the rules of `mode`. What early retries cost is another story.
    fn under(mode: Mode) -> Self {
        let mut policy = Policy {
            mode,
            ..Policy::default()
        };
        policy.punish.extra_delay_action = Action::Observe;
        Self {
            policy,
            tuples: BTreeMap::new(),
            pair: None,
            messages: BTreeMap::new(),
        }
    }

    /// The answer to `attempt` with `message`, from `network`, `at` so many seconds; and what was said
    /// of its envelope.
    fn hears(
        &mut self,
        attempt: &Attempt<'_>,
        message: u32,
        network: u16,
        at: u64,
    ) -> (Verdict, Verdict) {
        let policy = &self.policy;
        let now = T0.after(seconds(at));
        let mark = NetworkMark::from_bits(network);
        let prior = self.tuples.get(&network);
        let pair = self.pair.as_ref();
        let roaming = pair.is_some_and(|it| it.roams(policy, mark, prior.is_none(), now));
        let circumstances = Circumstances {
            reads: reads(policy, attempt, roaming),
            ..Circumstances::default()
        };
        let decision = decide(policy, prior, attempt, circumstances, now);
        self.tuples.insert(network, decision.next);
        let envelope = decision.verdict;
        match envelope {
            Verdict::Defer(_) | Verdict::Read(_) => {
                let prior = self.pair.as_ref();
                let next = PairRecord::contacted(prior, policy, mark, now);
                self.pair = Some(if roaming { next.roamed() } else { next });
            }
            _ => {
                let known = self.pair.filter(|it| it.is_of_several(policy, now));
                self.pair = known.map(|it| it.begun_anew(now));
            }
        }
        if !matches!(envelope, Verdict::Read(_)) {
            return (envelope, envelope);
        }
        let prior = self.messages.get(&message);
        let standing = prior.map_or(ContentStanding::Lapsed, |it| it.standing(policy, now));
        let mut next = ContentRecord::read(prior, policy, mark, now);
        let pair = self.pair.filter(|it| it.has_persisted(policy, now));
        let answer = match (standing.verdict(), pair) {
            (Verdict::Defer(_), Some(pair)) => Verdict::Pass(PassReason::Persisted {
                waited: pair.waited(now),
            }),
            (verdict, _) => verdict,
        };
        if matches!(answer, Verdict::Pass(_)) {
            next.note_pass(now);
            self.pair = self.pair.map(|it| it.begun_anew(now));
        }
        self.messages.insert(message, next);
        (answer, envelope)
    }

    /// The first of these tries, of network and second, with which one message passes.
    fn passes(&mut self, tries: &[(u16, u64)]) -> Option<usize> {
        tries.iter().position(|&(network, at)| {
            let (answer, _) = self.hears(&ATTEMPT, 0, network, at);
            matches!(answer, Verdict::Pass(_))
        })
    }
}

/// Tries so many seconds apart, of these networks.
fn schedule(steps: &[(u16, u64)]) -> Vec<(u16, u64)> {
    let mut at = 0;
    let tries = steps.iter().map(|&(network, gap)| {
        at += gap;
        (network, at)
    });
    tries.collect()
}

prop_compose! {
    /// A pool of any size in any order, as slow or fast as senders are.
    fn tries()(
        steps in proptest::collection::vec(
            (1..40_u16, prop_oneof![60..400_u64, 60..4_000_u64, 3_600..43_200_u64]), 4..30,
        ),
    ) -> Vec<(u16, u64)> {
        schedule(&steps)
    }
}

#[test]
fn first_contact_is_answered_by_mode_and_sender() {
    let bounce = Attempt {
        reverse_path: b"",
        ..ATTEMPT
    };
    for (mode, attempt, word) in [
        (Mode::Envelope, ATTEMPT, "new"),
        (Mode::Envelope, bounce, "new"),
        (Mode::Hybrid, ATTEMPT, "new"),
        (Mode::Hybrid, bounce, "probe"),
        (Mode::Content, ATTEMPT, "mode"),
        (Mode::Content, bounce, "mode"),
    ] {
        let (_, envelope) = Story::under(mode).hears(&attempt, 0, 1, 0);
        assert_eq!(envelope.reason(), word, "{mode:?}");
    }
}

#[test]
fn having_waited_passes_in_every_mode_but_the_one_where_content_decides() {
    for (mode, word) in [
        (Mode::Envelope, "waited"),
        (Mode::Hybrid, "waited"),
        (Mode::Content, "mode"),
    ] {
        let mut story = Story::under(mode);
        story.hears(&ATTEMPT, 0, 1, 0);
        let (answer, envelope) = story.hears(&ATTEMPT, 1, 1, 300);
        assert_eq!(envelope.reason(), word);
        assert_eq!(matches!(answer, Verdict::Pass(_)), mode != Mode::Content);
    }
}

#[test]
fn tuple_that_passed_is_not_read_again_in_any_mode() {
    for mode in [Mode::Envelope, Mode::Hybrid, Mode::Content] {
        let mut story = Story::under(Mode::Hybrid);
        story.hears(&ATTEMPT, 0, 1, 0);
        story.hears(&ATTEMPT, 0, 1, 300);
        story.policy.mode = mode;
        let (answer, _) = story.hears(&ATTEMPT, 1, 1, 600);
        assert_eq!(answer, Verdict::Pass(PassReason::Passed), "{mode:?}");
    }
}

#[test]
fn roaming_retry_is_read_after_the_delay_and_not_before() {
    let mut story = Story::under(Mode::Hybrid);
    story.hears(&ATTEMPT, 0, 1, 0);
    let envelope = |story: &mut Story, network, at| story.hears(&ATTEMPT, 0, network, at).1;
    assert_eq!(envelope(&mut story, 2, 179).reason(), "new");
    let roaming = Verdict::Read(ReadReason::Roaming);
    assert_eq!(envelope(&mut story, 2, 180), roaming);
    assert_eq!(envelope(&mut story, 3, 180), roaming);
}

#[test]
fn pool_is_deferred_twice_and_its_next_mail_once() {
    let mut story = Story::under(Mode::Hybrid);
    let words = |story: &mut Story, message, tries: &[(u16, u64)]| {
        let answers = tries
            .iter()
            .map(|&(network, at)| story.hears(&ATTEMPT, message, network, at).0.reason());
        answers.collect::<Vec<_>>()
    };
    let first = words(&mut story, 0, &[(1, 0), (2, 300), (3, 600)]);
    assert_eq!(first, ["new", "content-new", "content"]);
    let second = words(&mut story, 1, &[(4, 4_000), (5, 4_300)]);
    assert_eq!(second, ["content-new", "content"]);
}

proptest! {
    /// Whichever of its addresses tries, and when: one try after the delay is read, and the next
    /// passes.
    #[test]
    fn any_pool_passes_at_the_second_try_after_the_delay(tries in tries()) {
        let mut story = Story::under(Mode::Hybrid);
        let begun = tries[0].1;
        let after_delay = tries.iter().position(|&(_, at)| at - begun >= 180);
        if let Some(first) = after_delay.filter(|first| first + 1 < tries.len()) {
            let passed = story.passes(&tries);
            prop_assert!(passed.is_some_and(|it| it <= first + 1), "{:?} of {:?}", passed, tries);
        }
    }

    /// What is read is read beside the tuple's rule, never instead of it.
    #[test]
    fn hybrid_is_never_later_than_the_envelope(tries in tries()) {
        let by_envelope = Story::under(Mode::Envelope).passes(&tries);
        let hybrid = Story::under(Mode::Hybrid).passes(&tries);
        if let Some(by_envelope) = by_envelope {
            prop_assert!(hybrid.is_some_and(|it| it <= by_envelope));
        }
    }

    #[test]
    fn message_passes_at_its_first_retry_after_the_content_delay_from_anywhere(tries in tries()) {
        let passed = Story::under(Mode::Content).passes(&tries);
        // The tries are a minute apart at least, and at most half a window.
        prop_assert_eq!(passed, Some(1));
    }

    /// Bots with one sender and recipient and mails of their own have the way out and nothing else,
    /// each of them trying once.
    #[test]
    fn bots_that_come_once_each_pass_no_sooner_than_the_way_out(
        gaps in proptest::collection::vec(1..600_u64, 5..60),
        mode in prop_oneof![Just(Mode::Hybrid), Just(Mode::Content)],
    ) {
        let mut story = Story::under(mode);
        let mut at = 0;
        // The first try, and then the latest pass.
        let mut since = gaps[0];
        for (number, gap) in (0..).zip(gaps) {
            at += gap;
            let (answer, _) = story.hears(&ATTEMPT, number.into(), number, at);
            if matches!(answer, Verdict::Pass(_)) {
                prop_assert_eq!(answer.reason(), "persisted");
                prop_assert!(at - since >= 3_600, "{} s after {}", at, since);
                since = at;
            }
        }
    }
}
