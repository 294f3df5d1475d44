//! The texts, as people read them.

use super::super::paper::Paper;
use super::mail::{self, because};
use super::*;
use crate::admin::{
    Actions, FailureFacts, HeloFact, HistoryFacts, KernelEntry, ListFact, MailFacts, NextFacts,
    RecipientPolicyFact, StrikeFact, TupleFacts,
};

#[test]
fn stranger_of_whom_nothing_is_known_is_deferred() {
    let stranger = Why {
        networks: ["192.0.2.7/32", "192.0.2.0/24"]
            .map(|network| NetworkFacts {
                network: network.to_owned(),
                named: network.ends_with("24"),
                repute: "unknown".to_owned(),
                protection: "none".to_owned(),
                mail: Some(MailFacts {
                    next: next("deferred", "new"),
                    ..MailFacts::default()
                }),
                ..NetworkFacts::default()
            })
            .to_vec(),
        ..base()
    };
    assert_eq!(
        on_paper(&stranger),
        "192.0.2.7 at 2026-11-22 01:41:01 UTC\n\
         strikes       none that counts\n\
         sentence      none\n\
         kernel        no entry: nothing of it is dropped\n\
         \n\
         network       192.0.2.7/32 if it has no reverse name, or one that looks dynamic\n\
         reputation    none: nothing is known of it\n\
         protected     from nothing\n\
         tuple         not seen before\n\
         trust         none\n\
         next attempt  is deferred (new): this network, sender and recipient were not seen before\n\
         \n\
         network       192.0.2.0/24 if Postfix verified a name of it such as mail.example.org\n\
         reputation    none: nothing is known of it\n\
         protected     from nothing\n\
         tuple         not seen before\n\
         trust         none\n\
         next attempt  is deferred (new): this network, sender and recipient were not seen before\n"
    );
}

#[test]
fn offender_is_told_with_all_that_it_did_and_what_it_costs() {
    let strike = |ago: u64, offence: &str| StrikeFact {
        at: NOW - ago,
        offence: offence.to_owned(),
    };
    let offender = Why {
        strikes: 2,
        strikes_until: Some(NOW + 30 * DAY - 120),
        latest_strikes: vec![strike(120, "rapid-retries"), strike(DAY, "relay-hopping")],
        neighbours: vec![NOW - 120, NOW - 3_600],
        sentences: vec![SentenceFact {
            client: "192.0.2.7".to_owned(),
            level: "block".to_owned(),
            carried_out: Some("block".to_owned()),
            reason: "rapid-retries".to_owned(),
            since: NOW - 120,
            until: NOW + DAY,
            drops: 1_234,
            lengthened: true,
        }],
        kernel: KernelFacts {
            entries: vec![KernelEntry {
                client: "192.0.2.7".to_owned(),
                level: "block".to_owned(),
                until: NOW + DAY,
                drops: 1_234,
            }],
            ..KernelFacts::default()
        },
        helo: Some(HeloFact {
            since: NOW - DAY,
            latest: NOW - DAY,
            times: 1,
            until: NOW + 60,
        }),
        networks: vec![NetworkFacts {
            network: "192.0.2.7/32".to_owned(),
            repute: "bad".to_owned(),
            reputation: Some(ReputationFacts {
                good: 1,
                bad: 70,
                ham: 0,
                spam: 12,
                updated: NOW - 120,
                good_days: 1,
                recipients: 1,
                since: None,
            }),
            protection: "none".to_owned(),
            mail: Some(MailFacts {
                tuple: Some(TupleFacts {
                    standing: "early".to_owned(),
                    first_seen: NOW - 150,
                    last_seen: NOW - 120,
                    attempts: 9,
                    opens: Some(NOW + 90),
                    lapses: NOW + DAY - 150,
                    extra: 60,
                    rapid: 3,
                    life: 2,
                    ..TupleFacts::default()
                }),
                failure: Some(FailureFacts {
                    since: NOW - 60,
                    retries: 1,
                    allowed: 5,
                    until: NOW + 3_540,
                }),
                next: next("refused", "sentenced"),
                ..MailFacts::default()
            }),
            ..NetworkFacts::default()
        }],
        ..base()
    };
    assert_eq!(on_paper(&offender), OFFENDER.join("\n"));
}

#[test]
fn what_is_not_carried_out_says_why() {
    let sentence = |carried_out: Option<&str>| SentenceFact {
        client: "192.0.2.7".to_owned(),
        level: "block".to_owned(),
        carried_out: carried_out.map(str::to_owned),
        reason: "neighbours".to_owned(),
        since: NOW,
        until: NOW + 60,
        ..SentenceFact::default()
    };
    let told = |carried_out, action: &str| {
        let mut why = base();
        why.sentences = vec![sentence(carried_out)];
        why.actions.sentence = action.to_owned();
        why.history.warmup_left = 3_600;
        on_paper(&why)
    };
    let void = told(None, "enforce");
    assert!(
        void.contains("but void: its client is allow-listed"),
        "{void}"
    );
    let observed = told(Some("observe"), "observe");
    let because = "but at level observe only: [punish] action only observes\n";
    assert!(observed.contains(because), "{observed}");
    let warming_up = told(Some("observe"), "enforce");
    let because = "but at level observe only: [punish] warmup lasts another 1h\n";
    assert!(warming_up.contains(because), "{warming_up}");
    let in_force = told(Some("block"), "enforce");
    assert!(!in_force.contains("but "), "{in_force}");
}

#[test]
fn what_spares_a_client_comes_first() {
    let spared = Why {
        exempt: Some("allowed".to_owned()),
        shielded: true,
        authenticated: true,
        last_auth: Some(NOW - DAY),
        ..base()
    };
    let text = on_paper(&spared);
    let first = "192.0.2.7 at 2026-11-22 01:41:01 UTC\n\
                 exempt        [lists] allow names it: never greylisted\n\
                 shielded      allow-listed, local or private: never sentenced for an offence\n\
                 AUTH          2026-11-21 01:41:01 UTC (24h ago): never sentenced\n";
    assert!(text.starts_with(first), "{text}");
}

#[test]
fn kernel_that_holds_an_entry_and_drops_nothing_says_why() {
    let entry = KernelEntry {
        client: "192.0.2.7".to_owned(),
        level: "rate".to_owned(),
        until: NOW + 60,
        drops: 0,
    };
    let why = Why {
        kernel: KernelFacts {
            idle: Some("[xdp] action is observe".to_owned()),
            passes: Some("192.0.2.0/24 ([lists] allow)".to_owned()),
            unreadable: None,
            entries: vec![entry],
        },
        ..base()
    };
    let text = on_paper(&why);
    assert!(
        text.contains("but it always passes: 192.0.2.0/24 ([lists] allow)\n"),
        "{text}"
    );
    assert!(
        text.contains("but the kernel drops nothing: [xdp] action is observe\n"),
        "{text}"
    );
}

#[test]
fn every_verdict_has_its_reason_in_plain_words() {
    use std::time::Duration;

    use crate::policy::{DeferReason, PassReason, ReadReason, RefuseReason, Verdict};

    let time = Duration::from_mins(3);
    for verdict in [
        Verdict::Defer(DeferReason::ContentEarly { left: time }),
        Verdict::Defer(DeferReason::ContentNew),
        Verdict::Defer(DeferReason::Early { left: time }),
        Verdict::Defer(DeferReason::Late),
        Verdict::Defer(DeferReason::New),
        Verdict::Pass(PassReason::Allowed),
        Verdict::Pass(PassReason::Authenticated),
        Verdict::Pass(PassReason::Content { waited: time }),
        Verdict::Pass(PassReason::ContentAgain),
        Verdict::Pass(PassReason::ContentTrusted),
        Verdict::Pass(PassReason::Local),
        Verdict::Pass(PassReason::NoRetry),
        Verdict::Pass(PassReason::Observed),
        Verdict::Pass(PassReason::OptedOut),
        Verdict::Pass(PassReason::Passed),
        Verdict::Pass(PassReason::Persisted { waited: time }),
        Verdict::Pass(PassReason::Trusted),
        Verdict::Pass(PassReason::Unrecorded),
        Verdict::Pass(PassReason::Unsuspicious),
        Verdict::Pass(PassReason::Vouched),
        Verdict::Pass(PassReason::Waited { waited: time }),
        Verdict::Read(ReadReason::Mode),
        Verdict::Read(ReadReason::Probe),
        Verdict::Read(ReadReason::Roaming),
        Verdict::Refuse(RefuseReason::BadReputation { permanently: true }),
        Verdict::Refuse(RefuseReason::Denied { permanently: true }),
        Verdict::Refuse(RefuseReason::Sentenced),
    ] {
        let facts = NextFacts {
            left: Some(180),
            waited: Some(180),
            ..next(verdict.word(), verdict.reason())
        };
        let words = because(&base(), &facts, Now(NOW));
        assert_ne!(words, verdict.reason(), "{verdict:?} is not explained");
    }
}

#[test]
fn what_an_observed_reputation_and_a_caught_helo_would_do_is_told() {
    let told = |helo_hops, would_be_refused| {
        let facts = NextFacts {
            helo_hops,
            would_be_refused,
            ..next("deferred", "new")
        };
        let mut paper = Paper::new(false);
        let known = MailFacts {
            next: facts,
            ..MailFacts::default()
        };
        mail::next(&base(), &known, Now(NOW), &mut paper);
        paper.into_text()
    };
    let slowed = "and waits longer: its HELO argument was caught at relay hopping\n";
    let refused = "and would be refused: the network's reputation is bad, and [reputation] action only observes\n";
    for (helo_hops, would_be_refused) in [(false, false), (true, false), (false, true)] {
        let text = told(helo_hops, would_be_refused);
        assert_eq!(text.contains(slowed), helo_hops, "{text}");
        assert_eq!(text.contains(refused), would_be_refused, "{text}");
    }
}

#[test]
fn every_offence_has_plain_words() {
    for known in crate::policy::Offence::ALL {
        assert_ne!(offence(known.as_str()), known.as_str(), "{known:?}");
    }
}

fn base() -> Why {
    Why {
        client: "192.0.2.7".to_owned(),
        now: NOW,
        around: "192.0.2.0/24".to_owned(),
        neighbours_needed: 4,
        actions: Actions {
            sentence: "enforce".to_owned(),
            ..Actions::default()
        },
        history: HistoryFacts {
            begun: NOW - 30 * DAY,
            age: 30 * DAY,
            ..HistoryFacts::default()
        },
        ..Why::default()
    }
}

fn next(verdict: &str, reason: &str) -> NextFacts {
    NextFacts {
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        ..NextFacts::default()
    }
}

fn on_paper(given: &Why) -> String {
    let mut paper = Paper::new(false);
    why(given, &mut paper);
    paper.into_text()
}

/// 2026-11-22 01:41:01 UTC.
const NOW: u64 = 1_795_311_661;
const DAY: u64 = 86_400;

/// An offender, on paper.
const OFFENDER: [&str; 26] = [
    "192.0.2.7 at 2026-11-22 01:41:01 UTC",
    "strikes       2, forgotten 2026-12-22 01:39:01 UTC (in 29d23h) unless more come",
    "              2026-11-22 01:39:01 UTC (2m ago): one message tried again and again, seconds apart",
    "              2026-11-21 01:41:01 UTC (24h ago): one HELO argument and recipient from many unrelated networks at once",
    "neighbours    2 hosts struck in 192.0.2.0/24, the latest 2026-11-22 01:39:01 UTC (2m ago); at 4 the network is sentenced",
    "sentence      of 192.0.2.7: block, for one message tried again and again, seconds apart",
    "              since 2026-11-22 01:39:01 UTC (2m ago)",
    "              until 2026-11-23 01:41:01 UTC (in 24h), lengthened since it went on knocking",
    "kernel        192.0.2.7: block, until 2026-11-23 01:41:01 UTC (in 24h), 1,234 new connections dropped",
    "HELO          remembered for relay hopping: caught once, last 2026-11-21 01:41:01 UTC (24h ago); forgotten 2026-11-22 01:42:01 UTC (in 1m)",
    "",
    "network       192.0.2.7/32",
    "reputation    bad: 1 good and 82 bad; good on 1 day, to 1 recipient; last 2026-11-22 01:39:01 UTC (2m ago)",
    "              of these 0 reported as ham, 12 as spam",
    "protected     from nothing",
    "tuple         waits: a retry passes from 2026-11-22 01:42:31 UTC (in 1m30s)",
    "              first seen 2026-11-22 01:38:31 UTC (2m30s ago)",
    "              last seen 2026-11-22 01:39:01 UTC (2m ago)",
    "              9 attempts, none passed",
    "              waits 1m longer, for early retries, or for a HELO argument caught at relay hopping",
    "              3 rapid retries in a row",
    "              lapses 2026-11-23 01:38:31 UTC (in 23h57m) if unused; life 2",
    "trust         none",
    "failure       refused for good 2026-11-22 01:40:01 UTC (1m ago); 1 retry since, 5 are no offence, until 2026-11-22 02:40:01 UTC (in 59m)",
    "next attempt  is refused (sentenced): the session is told 421 and whom to ask",
    "",
];

#[test]
fn says_what_looks_suspicious_and_that_nobody_was_asked() {
    let why = Why {
        networks: vec![NetworkFacts {
            network: "192.0.2.7/32".to_owned(),
            sign: Some("no-name".to_owned()),
            asks: vec!["allowlist".to_owned(), "spf".to_owned()],
            ..NetworkFacts::default()
        }],
        ..base()
    };
    let text = on_paper(&why);
    assert!(
        text.contains("suspicious    it has no verified reverse name\n"),
        "{text}"
    );
    let asks =
        "asks          allowlist, spf, before mail is deferred; nobody was asked for this answer\n";
    assert!(text.contains(asks), "{text}");
}

#[test]
fn entries_are_told_with_where_they_stand_and_the_recipient_with_its_rules() {
    let why = Why {
        lists: vec![
            ListFact {
                list: "allow".to_owned(),
                entry: "192.0.2.0/24".to_owned(),
                source: "ordered by uid 0".to_owned(),
                at: Some(NOW - 60),
                until: Some(NOW + DAY),
                note: "ticket 4711".to_owned(),
            },
            ListFact {
                list: "deny".to_owned(),
                entry: "from @example.org".to_owned(),
                source: "/etc/greygate/deny.list:7".to_owned(),
                ..ListFact::default()
            },
        ],
        recipient_policy: Some(RecipientPolicyFact {
            pattern: ".shop.example".to_owned(),
            source: "/etc/greygate/greygate.toml:12".to_owned(),
            greylist: "on".to_owned(),
            mode: "envelope".to_owned(),
            delay: 60,
        }),
        ..base()
    };
    let told = "listed        [lists] allow: 192.0.2.0/24, ordered by uid 0\n\
                \x20             2026-11-22 01:40:01 UTC (1m ago), until 2026-11-23 01:41:01 UTC (in 24h)\n\
                \x20             ticket 4711\n\
                listed        [lists] deny: from @example.org, /etc/greygate/deny.list:7\n\
                recipient     .shop.example (/etc/greygate/greygate.toml:12): greylisted by envelope, after 1m\n";
    let text = on_paper(&why);
    assert!(text.contains(told), "{text}");
    let off = Why {
        recipient_policy: why.recipient_policy.map(|own| RecipientPolicyFact {
            greylist: "off".to_owned(),
            ..own
        }),
        ..base()
    };
    assert!(on_paper(&off).contains("greygate.toml:12): not greylisted\n"));
}
