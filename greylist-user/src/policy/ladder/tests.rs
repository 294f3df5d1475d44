//! What a strike costs, and whom a sentence turns away.

use proptest::prelude::*;

use super::*;
use crate::policy::fixture::{ATTEMPT, OLD, T0, allowing};

const STRANGER: Accused = Accused {
    address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    protection: Protection::None,
    has_passed: false,
};
const KNOWN: Accused = Accused {
    has_passed: true,
    ..STRANGER
};
const GOOD: Accused = Accused {
    protection: Protection::FromBlock,
    ..KNOWN
};

/// What strikes a day apart come to: levels and whole hours, and the record.
fn climbed(
    policy: &Policy,
    accused: &Accused,
    history: History,
    strikes: u64,
) -> (Vec<(SentenceLevel, u64)>, ClientRecord) {
    let mut record = ClientRecord::EMPTY;
    let rungs = (0..strikes).map(|day| {
        let now = T0.after(DAY * u32::try_from(day).expect("few days"));
        let struck = strike(
            policy,
            Some(&record),
            accused,
            Offence::RapidRetries,
            history,
            now,
        );
        record = struck.next;
        let sentence = struck.sentence.expect("each is a strike");
        let length = sentence.until.since(sentence.since);
        // A tenth more at most.
        let hours = length.as_secs().div_ceil(3_600);
        (sentence.level, hours)
    });
    (rungs.collect(), record)
}

fn rate(rung: (SentenceLevel, u64)) -> bool {
    rung == (SentenceLevel::Rate, 1)
}

fn blocked(rung: (SentenceLevel, u64), days: u64) -> bool {
    let hours = 24 * days;
    rung.0 == SentenceLevel::Block && (hours..=hours * 11 / 10 + 1).contains(&rung.1)
}

#[test]
fn rate_then_blocks_of_a_day_a_week_and_four_weeks() {
    let (rungs, record) = climbed(&Policy::default(), &STRANGER, OLD, 6);
    assert!(rate(rungs[0]), "{rungs:?}");
    for (rung, days) in rungs[1..].iter().zip([1, 7, 28, 28, 28]) {
        assert!(blocked(*rung, days), "{days} days: {rungs:?}");
    }
    assert_eq!(record.strikes, 6);
}

#[test]
fn client_with_passes_on_record_is_blocked_for_a_day_at_most() {
    let (rungs, _) = climbed(&Policy::default(), &KNOWN, OLD, 5);
    assert!(rate(rungs[0]), "{rungs:?}");
    assert!(rungs[1..].iter().all(|rung| blocked(*rung, 1)), "{rungs:?}");
}

#[test]
fn good_record_shields_from_block_and_the_strikes_count() {
    let (rungs, record) = climbed(&Policy::default(), &GOOD, OLD, 5);
    assert!(rungs.into_iter().all(rate));
    assert_eq!(record.strikes, 5);
}

#[test]
fn block_that_is_only_observed_is_a_days_at_most() {
    let young = History { begun: T0 };
    let (rungs, _) = climbed(&Policy::default(), &STRANGER, young, 9);
    // The eighth is carried out, and the first that is felt.
    for (rung, days) in rungs[1..].iter().zip([1, 1, 1, 1, 1, 1, 1, 7]) {
        assert!(blocked(*rung, days), "{days} days: {rungs:?}");
    }
}

#[test]
fn who_was_only_observed_begins_at_the_bottom_when_it_is_carried_out() {
    let mut policy = Policy::default();
    policy.punish.action = Action::Observe;
    let (rungs, record) = climbed(&policy, &STRANGER, OLD, 6);
    let observed = |rung: &(SentenceLevel, u64)| *rung == (SentenceLevel::Observe, 1);
    assert!(rungs.iter().all(observed), "{rungs:?}");
    assert_eq!((record.strikes, record.felt), (6, 0));
    policy.punish.action = Action::Enforce;
    let now = T0.after(DAY * 7);
    let offence = Offence::RapidRetries;
    let struck = strike(&policy, Some(&record), &STRANGER, offence, OLD, now);
    let sentence = struck.sentence.expect("it is a strike");
    assert_eq!(sentence.level, SentenceLevel::Rate);
    assert_eq!((struck.next.strikes, struck.next.felt), (7, 1));
}

#[test]
fn rung_that_a_good_record_softened_is_not_felt() {
    let policy = Policy::default();
    let (_, record) = climbed(&policy, &GOOD, OLD, 5);
    assert_eq!(record.felt, 1);
}

#[test]
fn blocks_are_what_the_policy_says_and_none_leaves_rate() {
    let mut policy = Policy::default();
    policy.punish.blocks = vec![DAY * 2];
    let (rungs, _) = climbed(&policy, &STRANGER, OLD, 3);
    assert!(blocked(rungs[1], 2) && blocked(rungs[2], 2), "{rungs:?}");
    policy.punish.blocks.clear();
    let (rungs, _) = climbed(&policy, &STRANGER, OLD, 3);
    assert!(rungs.into_iter().all(rate));
    policy.punish.blocks = vec![Sentence::LONGEST * 2];
    let (rungs, _) = climbed(&policy, &STRANGER, OLD, 2);
    assert_eq!(
        rungs[1],
        (SentenceLevel::Block, 28 * 24),
        "nothing is longer"
    );
}

#[test]
fn offences_of_one_burst_are_one_strike() {
    let policy = Policy::default();
    let struck = |prior: Option<&ClientRecord>, offence, now| {
        strike(&policy, prior, &STRANGER, offence, OLD, now)
    };
    let first = struck(None, Offence::RapidRetries, T0);
    for (offence, seconds) in [(Offence::RapidRetries, 0), (Offence::RelayHopping, 29)] {
        let now = T0.after(Duration::from_secs(seconds));
        let repeated = struck(Some(&first.next), offence, now);
        assert_eq!((repeated.next, repeated.sentence), (first.next, None));
    }
    let later = T0.after(policy.punish.rapid_span);
    let second = struck(Some(&first.next), Offence::RapidRetries, later);
    assert_eq!(second.next.strikes, 2);
    assert!(second.sentence.is_some());
}

#[test]
fn sentence_is_of_the_one_address() {
    let accused = Accused {
        address: "2001:db8::7".parse().expect("an address"),
        ..STRANGER
    };
    let struck = strike(
        &Policy::default(),
        None,
        &accused,
        Offence::RelayHopping,
        OLD,
        T0,
    );
    let sentence = struck.sentence.expect("it is the first");
    assert_eq!(sentence.client.to_string(), "2001:db8::7/128");
    assert_eq!(
        sentence.reason,
        SentenceReason::Offence(Offence::RelayHopping)
    );
}

#[test]
fn excuses_are_protection_a_young_history_and_observing() {
    let policy = Policy::default();
    let excused =
        |policy: &Policy, accused: &Accused, history| excuse(policy, accused, history, T0);
    assert_eq!(excused(&policy, &STRANGER, OLD), None);
    assert_eq!(excused(&policy, &GOOD, OLD), None);
    let protected = Accused {
        protection: Protection::FromAll,
        ..STRANGER
    };
    assert_eq!(excused(&policy, &protected, OLD), Some(Outcome::Spared));
    let young = History { begun: T0 };
    assert_eq!(excused(&policy, &STRANGER, young), Some(Outcome::TooEarly));
    let mut observing = policy.clone();
    observing.punish.strike_action = Action::Observe;
    assert_eq!(excused(&observing, &STRANGER, OLD), Some(Outcome::Observed));
}

/// Whether a session that began `connected` after the sentence is turned away an hour later.
fn turns_away_after(
    policy: &Policy,
    level: SentenceLevel,
    reason: SentenceReason,
    history: History,
    connected: Timestamp,
) -> bool {
    let sentence = Sentence {
        client: SentencedClient::host(STRANGER.address),
        level,
        reason,
        since: T0,
        until: T0.after(DAY),
        persistence: Persistence::default(),
    };
    let attempt = Attempt {
        client: STRANGER.address,
        connected,
        ..ATTEMPT
    };
    let now = T0.after(Duration::from_hours(1));
    turns_away(policy, &sentence, &attempt, history, now)
}

#[test]
fn open_session_is_turned_away_and_a_new_one_at_block_only() {
    let policy = Policy::default();
    let before = Timestamp::from_millis(T0.as_millis() - 1_000);
    let (rate, block) = (SentenceLevel::Rate, SentenceLevel::Block);
    let earned = SentenceReason::Offence(Offence::RapidRetries);
    for reason in [earned, SentenceReason::Neighbours, SentenceReason::Operator] {
        let turned = |level, connected| turns_away_after(&policy, level, reason, OLD, connected);
        assert!(turned(rate, before));
        assert!(!turned(rate, T0.after(Duration::from_secs(1))));
        assert!(turned(block, before));
        assert!(turned(block, T0.after(Duration::from_secs(1))));
        assert!(!turned(SentenceLevel::Observe, before));
        assert!(
            !turned(rate, Timestamp::NEVER),
            "nobody knows when it began"
        );
        assert!(turned(block, Timestamp::NEVER));
    }
}

#[test]
fn nobody_is_turned_away_by_what_is_only_observed_or_shielded_now() {
    let earned = SentenceReason::Offence(Offence::RapidRetries);
    let block = SentenceLevel::Block;
    let young = History { begun: T0 };
    let policy = Policy::default();
    assert!(!turns_away_after(&policy, block, earned, young, T0));
    assert!(turns_away_after(
        &policy,
        block,
        SentenceReason::Operator,
        young,
        T0
    ));
    let allowing = Policy {
        lists: allowing([&format!("{}/32", STRANGER.address)]),
        ..Policy::default()
    };
    assert!(!turns_away_after(&allowing, block, earned, OLD, T0));
    let mut observing = Policy::default();
    observing.punish.action = Action::Observe;
    assert!(!turns_away_after(&observing, block, earned, OLD, T0));
}

#[test]
fn clock_that_was_set_back_turns_no_session_away_at_level_rate() {
    let policy = Policy::default();
    let sentence = Sentence {
        client: SentencedClient::host(STRANGER.address),
        level: SentenceLevel::Rate,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since: T0.after(Duration::from_mins(10)),
        until: T0.after(Duration::from_mins(40)),
        persistence: Persistence::default(),
    };
    let attempt = Attempt {
        client: STRANGER.address,
        connected: T0,
        ..ATTEMPT
    };
    assert!(!turns_away(
        &policy,
        &sentence,
        &attempt,
        OLD,
        T0.after(Duration::from_mins(1))
    ));
}

fn ends(host: u32) -> Duration {
    let client = std::net::Ipv4Addr::from(0xc000_0000 + host).into();
    spread(Duration::from_mins(30), client, T0)
}

#[test]
fn sentences_of_one_moment_end_at_many() {
    let mut minutes = std::collections::BTreeMap::new();
    for host in 0..3_000 {
        let length = ends(host);
        assert!(length >= Duration::from_mins(30), "never shorter");
        assert_eq!(length, ends(host), "the same every time");
        *minutes.entry(length.as_secs() / 60).or_insert(0) += 1;
    }
    // A thousand each are expected, with a standard deviation of 26.
    assert_eq!(minutes.keys().copied().collect::<Vec<_>>(), [30, 31, 32]);
    for count in minutes.values() {
        assert!((870..1_130).contains(count), "{minutes:?}");
    }
}

#[test]
fn next_sentence_of_a_client_is_spread_anew() {
    let client = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
    let length = |minute| {
        let since = T0.after(Duration::from_mins(minute));
        spread(Duration::from_mins(30), client, since)
    };
    assert_ne!(length(0), length(1));
}

#[test]
fn longest_sentence_is_not_spread_beyond_itself() {
    let client = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
    assert_eq!(spread(Sentence::LONGEST, client, T0), Sentence::LONGEST);
}

proptest! {
    /// Whatever comes when: half a minute between two strikes, no block without two of them
    /// within a month, and nothing beyond the longest.
    #[test]
    fn no_schedule_of_offences_climbs_faster_than_the_ladder(
        pauses in proptest::collection::vec(
            prop_oneof![0..40_u64, 0..7_200_u64, 0..4_000_000_u64],
            1..30,
        ),
    ) {
        let policy = Policy::default();
        let mut record = ClientRecord::EMPTY;
        let mut now = T0;
        let mut strikes: Vec<Timestamp> = Vec::new();
        for pause in pauses {
            now = now.after(Duration::from_secs(pause));
            let struck = strike(&policy, Some(&record), &STRANGER, Offence::RapidRetries, OLD, now);
            record = struck.next;
            let Some(sentence) = struck.sentence else {
                let latest = strikes.last().expect("one was struck for");
                prop_assert!(now.since(*latest) < policy.punish.rapid_span);
                continue;
            };
            let prior = strikes.last().map(|latest| now.since(*latest));
            prop_assert!(prior.is_none_or(|it| it >= policy.punish.rapid_span));
            let in_a_row = prior.is_some_and(|it| it < policy.punish.forgive_after);
            prop_assert_eq!(sentence.level == SentenceLevel::Block, in_a_row);
            prop_assert!(sentence.until.since(sentence.since) <= Sentence::LONGEST);
            strikes.push(now);
        }
    }
}
