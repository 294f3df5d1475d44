//! Where the rules of punishment make a protection void, or do nothing.

use std::time::Duration;

use super::super::duration::format;
use crate::policy::{Action, Policy, Punish};

/// What may not be meant, one sentence each.
pub(super) fn remarks(policy: &Policy) -> Vec<String> {
    let punish = &policy.punish;
    let mut remarks = Vec::new();
    only_observed(punish, &mut remarks);
    retries(punish, &mut remarks);
    sentences(punish, &mut remarks);
    protections(policy, &mut remarks);
    remarks
}

fn only_observed(punish: &Punish, remarks: &mut Vec<String>) {
    for (action, what) in [
        (punish.action, "[punish] only observes: nobody is blocked"),
        (
            punish.strike_action,
            "[punish] strike_action only observes: no offence is a strike, and none sentences anybody",
        ),
        (
            punish.extra_delay_action,
            "[punish] extra_delay_action only observes: early retries cost nothing",
        ),
        (
            punish.hopping_action,
            "[punish] hopping_action only observes: relay hopping costs nothing",
        ),
    ] {
        if action == Action::Observe {
            remarks.push(what.to_owned());
        }
    }
}

fn retries(punish: &Punish, remarks: &mut Vec<String>) {
    let adds_nothing = [
        ("extra_delay", punish.extra_delay.is_zero()),
        ("extra_delay_share", punish.extra_delay_share == 0),
        ("extra_delay_limit", punish.extra_delay_limit.is_zero()),
    ];
    for (key, _) in adds_nothing.into_iter().filter(|(_, is_zero)| *is_zero) {
        remarks.push(format!(
            "[punish] {key} is zero: early retries cost nothing"
        ));
    }
    if punish.round.is_zero() {
        let what = "[punish] round is zero: one delivery round over several MX addresses looks like as many retries";
        remarks.push(what.to_owned());
    }
    if punish.rapid_interval * u32::from(punish.rapid_retries) < punish.rapid_span {
        remarks.push(format!(
            "[punish] {} retries at most {} apart cannot span {}: it takes more of them",
            punish.rapid_retries,
            format(punish.rapid_interval),
            format(punish.rapid_span)
        ));
    }
    if !(5..=10).contains(&punish.hopping_attempts) {
        remarks.push(format!(
            "[punish] hopping_attempts of {}: 5 to 10 is what the field uses; fewer may hit an honest sender with several providers, more let small botnets go",
            punish.hopping_attempts
        ));
    }
}

fn sentences(punish: &Punish, remarks: &mut Vec<String>) {
    let mut rungs = vec![punish.sentence];
    rungs.extend(&punish.blocks);
    if !rungs.is_sorted() {
        let what = "[punish] blocks and the sentence before them do not ascend: a later strike costs less than an earlier one";
        remarks.push(what.to_owned());
    }
    if let Some(longest) = rungs.iter().max()
        && punish.forgive_after <= *longest
    {
        remarks.push(format!(
            "[punish] forgive_after of {} is not longer than a sentence of {}: strikes are forgotten while it is in force",
            format(punish.forgive_after),
            format(*longest)
        ));
    }
    if punish.neighbours == 1 {
        let what = "[punish] neighbours of 1: a whole /24 or /64 is sentenced for one host";
        remarks.push(what.to_owned());
    }
}

fn protections(policy: &Policy, remarks: &mut Vec<String>) {
    let punish = &policy.punish;
    let days = u32::from(policy.reputation.good_days);
    if punish.warmup < DAY * days {
        remarks.push(format!(
            "[punish] warmup of {} is less than the {days} days that a good record takes: blocks come before anything can shield from them",
            format(punish.warmup)
        ));
    }
    if punish.grace.is_zero() {
        let what = "[punish] grace is zero: offences count at once after a cold start, when everybody looks new";
        remarks.push(what.to_owned());
    }
    if punish.authenticated.is_zero() {
        let what =
            "[punish] authenticated is zero: a successful AUTH shields your own users from nothing";
        remarks.push(what.to_owned());
    }
}

const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_void_no_protection() {
        assert_eq!(remarks(&Policy::default()), Vec::<String>::new());
    }

    /// How a rule is changed, and a part of what is said of it.
    type Case = (fn(&mut Punish), &'static str);

    #[test]
    fn names_each_protection_that_a_value_makes_void() {
        let cases: [Case; 16] = [
            (|it| it.action = Action::Observe, "nobody is blocked"),
            (|it| it.strike_action = Action::Observe, "strike_action"),
            (
                |it| it.extra_delay_action = Action::Observe,
                "extra_delay_action",
            ),
            (|it| it.hopping_action = Action::Observe, "hopping_action"),
            (|it| it.extra_delay = Duration::ZERO, "extra_delay is zero"),
            (|it| it.extra_delay_share = 0, "extra_delay_share is zero"),
            (
                |it| it.extra_delay_limit = Duration::ZERO,
                "extra_delay_limit is zero",
            ),
            (|it| it.round = Duration::ZERO, "round is zero"),
            (|it| it.rapid_interval = DAY / 86_400, "cannot span"),
            (|it| it.hopping_attempts = 3, "5 to 10"),
            (|it| it.blocks = vec![DAY * 7, DAY], "do not ascend"),
            (|it| it.forgive_after = DAY * 28, "forgive_after of 28d"),
            (|it| it.neighbours = 1, "for one host"),
            (|it| it.warmup = Duration::ZERO, "warmup of 0s"),
            (|it| it.grace = Duration::ZERO, "grace is zero"),
            (
                |it| it.authenticated = Duration::ZERO,
                "authenticated is zero",
            ),
        ];
        for (change, expected) in cases {
            let mut policy = Policy::default();
            change(&mut policy.punish);
            let said = remarks(&policy);
            assert_eq!(said.len(), 1, "{expected}: {said:?}");
            assert!(said[0].contains(expected), "{expected}: {said:?}");
        }
    }
}
