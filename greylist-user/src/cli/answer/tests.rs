//! What a person reads.

use super::*;
use crate::admin::{
    Actions, Census, EvidenceFacts, FunnelFacts, JournalStatus, Punished, Recent, Removed,
    SourceFact,
};
use crate::kernel::{InterfaceStatus, ObtainedMode};

#[test]
fn status_reads_top_down() {
    let text = on_paper(&Answer::Status(Box::new(daemon())));
    assert_eq!(
        text,
        "greygate 0.1.0, pid 7, up 1h1m\n\
         health        good\n\
         last 30s      2.0/s sessions, recipients 1.5/s deferred, 0.5/s passed\n\
         milter        inet:127.0.0.1:8892\n\
         mode          hybrid\n\
         enforced      greylisting, extra delay, hopping, reputation (defer), kernel\n\
         observed      strikes, sentences\n\
         history       2d: blocks are only observed for another 5d\n\
         tuples        1,000,000 of 4,000,000 (25 %)\n\
         fingerprints  250,000 of 1,000,000 (25 %) of messages\n\
         pairs         80,000 of 4,000,000 (2 %) of sender and recipient\n\
         trusted       12\n\
         sentences     1\n\
         strikes       7 since the start\n\
         clients       40 of 1,000,000 remembered for strikes or AUTH\n\
         reputation    of 2,300 client networks\n\
         HELO          3 arguments remembered for relay hopping\n\
         snapshot      1m30s ago\n\
         journal       each second, 320 ms behind, synced 1s ago\n\
         restored      nothing: the first start\n\
         kernel        eth0 native\n\
         ports         25\n\
         IPv4          1 of 131,072 entries\n\
         IPv6          0 of 131,072 entries\n\
         memory        38 MB in the kernel\n\
         dropped       3,400\n\
         \n\
         counter                                                            since the start\n\
         greygate_offences_total{offence=\"rapid-retries\",outcome=\"spared\"}  2\n\
         greygate_offences_total{offence=\"rapid-retries\",outcome=\"struck\"}  3\n\
         greygate_offences_total{offence=\"relay-hopping\",outcome=\"struck\"}  4\n\
         greygate_verdicts_total                                            1,234\n"
    );
}

/// What the first greygate's daemon answers to this command line.
#[test]
fn status_of_the_first_daemon_is_shown_and_nothing_is_made_up() {
    let line = r#"{"answer":"status","version":"0.0.9","pid":7,"started":1,"uptime":60,
            "health":{"complaints":[]},"endpoints":["inet:127.0.0.1:8892"],
            "greylist_action":"enforce","punish_action":"enforce",
            "store":{"tuples":1,"capacity":10,"trusted":0,"sentences":0,"restored":"nothing"},
            "xdp":{"state":"off","why":"no root"},"counters":{}}"#;
    let answer: Answer = serde_json::from_str(line).expect("fields are only added");
    let text = on_paper(&answer);
    assert!(text.starts_with("greygate 0.0.9, pid 7, up 1m\n"), "{text}");
    for absent in ["history", "mode", "messages", "pairs"] {
        assert!(!text.contains(absent), "{text}");
    }
}

#[test]
fn status_fits_a_narrow_terminal_but_for_the_names_of_counters() {
    let mut daemon = daemon();
    daemon.health.complaints = vec!["the store is full: new tuples leave a trace only, by which their retry is known; raise [store] capacity if it lasts".to_owned()];
    let text = on_paper(&Answer::Status(Box::new(daemon)));
    let lines = text.lines().take_while(|line| !line.starts_with("counter"));
    for line in lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn room_for_what_is_read_is_not_shown_where_nothing_is() {
    let mut daemon = daemon();
    daemon.mode = "envelope".to_owned();
    let text = on_paper(&Answer::Status(Box::new(daemon)));
    assert!(text.contains("mode          envelope\n"), "{text}");
    assert!(
        !text.contains("messages") && !text.contains("pairs"),
        "{text}"
    );
}

#[test]
fn trouble_is_named() {
    let mut daemon = daemon();
    daemon.health.complaints = vec!["the store is full".to_owned()];
    daemon.xdp = FilterStatus::Off {
        why: "no root".to_owned(),
    };
    let text = on_paper(&Answer::Status(Box::new(daemon)));
    assert!(text.contains("health        the store is full\n"), "{text}");
    assert!(
        text.contains("kernel        no filter: no root\n"),
        "{text}"
    );
    assert!(!text.contains("good"), "{text}");
}

#[test]
fn frames_are_explained_and_what_was_not_seen_is_left_out() {
    let filter = FilterStatus::On(OnStatus {
        frames: BTreeMap::from([
            ("blocked".to_owned(), 3_400),
            ("clean".to_owned(), 12),
            ("ended".to_owned(), 0),
        ]),
        ..OnStatus::default()
    });
    let text = on_paper(&Answer::XdpStatus(XdpStatus {
        filter,
        sentences: Vec::new(),
        sentences_left_off: 0,
    }));
    let frames = "\
        frames   count  what they were\n\
        blocked  3,400  new connections of blocked clients: DROPPED\n\
        clean    12     new connections of clients without a sentence: passed\n";
    assert!(text.contains(frames), "{text}");
    assert!(!text.contains("ended"), "{text}");
}

#[test]
fn sentence_without_effect_says_so() {
    let text = on_paper(&Answer::Punished(Punished {
        client: "192.0.2.7".to_owned(),
        seconds: 1_800,
        level: "block".to_owned(),
        without_effect: "the kernel filter is off".to_owned(),
        spared: Vec::new(),
    }));
    assert_eq!(
        text,
        "192.0.2.7 is sentenced for 30m, at level block\n\
         but the kernel drops nothing: the kernel filter is off\n"
    );
}

#[test]
fn filter_that_only_observes_says_so() {
    let status = |observes| {
        on_paper(&Answer::XdpStatus(XdpStatus {
            filter: FilterStatus::On(OnStatus {
                observes,
                ..OnStatus::default()
            }),
            sentences: Vec::new(),
            sentences_left_off: 0,
        }))
    };
    let row = "action        observe: what would be dropped is only counted\n";
    assert!(status(true).contains(row), "{}", status(true));
    assert!(!status(false).contains("observe"), "{}", status(false));
}

#[test]
fn networks_that_pass_all_the_same_are_named() {
    let text = on_paper(&Answer::Punished(Punished {
        client: "192.0.2.0/24".to_owned(),
        seconds: 60,
        level: "rate".to_owned(),
        spared: vec!["192.0.2.7/32 ([lists] allow)".to_owned()],
        ..Punished::default()
    }));
    assert_eq!(
        text,
        "192.0.2.0/24 is sentenced for 1m, at level rate\n\
         but for 192.0.2.7/32 ([lists] allow)\n"
    );
}

#[test]
fn forgiving_an_address_names_the_network_that_was_forgiven_with_it() {
    let text = on_paper(&Answer::Forgiven(Forgiven {
        client: "192.0.2.7".to_owned(),
        sentences: 2,
        strikes: 3,
        lifted: vec!["192.0.2.7".to_owned(), "192.0.2.0/24".to_owned()],
        reputations: 1,
        ..Forgiven::default()
    }));
    assert_eq!(
        text,
        "192.0.2.7 is forgiven\nthe sentence of 192.0.2.0/24 is lifted\n3 strikes count no more\n\
         the bad name of its network is cleared\n"
    );
    let nothing = Forgiven {
        client: "192.0.2.7".to_owned(),
        ..Forgiven::default()
    };
    assert_eq!(
        on_paper(&Answer::Forgiven(nothing)),
        "192.0.2.7 had no sentence, no strike and no bad name\n"
    );
}

#[test]
fn forgiving_a_bad_name_alone_says_so_and_what_is_left() {
    let text = on_paper(&Answer::Forgiven(Forgiven {
        client: "192.0.2.7".to_owned(),
        reputations: 2,
        delays: 1,
        helo: true,
        left: vec!["ask again".to_owned()],
        ..Forgiven::default()
    }));
    assert_eq!(
        text,
        "192.0.2.7 is forgiven\n2 networks have no bad name any more\n\
         one mail waits no longer than others do\n\
         its HELO argument is no longer remembered for relay hopping\nleft: ask again\n"
    );
}

#[test]
fn what_is_forgotten_is_named() {
    let forgotten = |removed| {
        on_paper(&Answer::Forgotten(Forgotten {
            asked: "<s@a.example> from 192.0.2.7".to_owned(),
            removed,
        }))
    };
    assert_eq!(
        forgotten(Vec::new()),
        "nothing is remembered of <s@a.example> from 192.0.2.7\n"
    );
    let removed = Removed {
        what: "trust".to_owned(),
        fingerprint: "00ff".to_owned(),
    };
    assert_eq!(
        forgotten(vec![removed]),
        "00ff is forgotten: trust in a sender\n"
    );
}

#[test]
fn sentences_are_listed_with_what_the_kernel_dropped_of_them() {
    let line = SentenceLine {
        client: "192.0.2.0/24".to_owned(),
        level: "rate".to_owned(),
        reason: "operator".to_owned(),
        left: 90,
        drops: 1_234,
        lengthened: false,
    };
    let text = on_paper(&Answer::XdpStatus(XdpStatus {
        filter: FilterStatus::On(OnStatus::default()),
        sentences: vec![line],
        sentences_left_off: 0,
    }));
    let table = "\
        client        level  reason    left   drops\n\
        192.0.2.0/24  rate   operator  1m30s  1,234\n";
    assert!(text.contains(table), "{text}");
}

fn offences(offence: &str, outcome: &str) -> String {
    format!(r#"greygate_offences_total{{offence="{offence}",outcome="{outcome}"}}"#)
}

#[test]
fn history_says_what_waits_for_more_of_it() {
    let on_paper = |grace_left, warmup_left| {
        let mut paper = Paper::new(false);
        let facts = HistoryFacts {
            begun: 1_794_827_200,
            age: 30,
            grace_left,
            warmup_left,
        };
        history(&facts, &mut paper);
        paper.into_text()
    };
    let grace = "history       30s: nothing is an offence for another 30s\n";
    assert_eq!(on_paper(30, 600), grace);
    let warmup = "history       30s: blocks are only observed for another 10m\n";
    assert_eq!(on_paper(0, 600), warmup);
    assert_eq!(on_paper(0, 0), "history       30s\n");
}

#[test]
fn status_says_who_is_asked_and_who_does_not_answer() {
    let source = |kind: &str, name: &str, up, why: &str| SourceFact {
        kind: kind.to_owned(),
        name: name.to_owned(),
        up,
        why: why.to_owned(),
    };
    let status = Status {
        evidence: EvidenceFacts {
            who: "suspicious".to_owned(),
            identity: "spf".to_owned(),
            sources: vec![
                source("blocklist", "a.example", true, ""),
                source("allowlist", "b.example", false, "does not answer in time"),
                source("spf", "", false, ""),
            ],
        },
        ..daemon()
    };
    let text = on_paper(&Answer::Status(Box::new(status)));
    let rows = "who           only the suspicious are greylisted\n\
                identity      the sender's domain, where SPF passes\n\
                blocklist     a.example answers\n\
                allowlist     b.example does not answer in time\n\
                DNS           for SPF is being tested\n";
    assert!(text.contains(rows), "{text}");
}

fn on_paper(given: &Answer) -> String {
    let mut paper = Paper::new(false);
    show(given, &mut paper);
    paper.into_text()
}

/// A daemon with something to tell of everything.
pub(in crate::cli) fn daemon() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 7,
        started: 1_795_000_000,
        uptime: 3_660,
        health: Health::default(),
        endpoints: vec!["inet:127.0.0.1:8892".to_owned()],
        mode: "hybrid".to_owned(),
        greylist_action: "enforce".to_owned(),
        punish_action: "observe".to_owned(),
        actions: Actions {
            greylist: "enforce".to_owned(),
            extra_delay: "enforce".to_owned(),
            hopping: "enforce".to_owned(),
            strike: "observe".to_owned(),
            sentence: "observe".to_owned(),
            reputation: "defer".to_owned(),
            kernel: "enforce".to_owned(),
        },
        history: HistoryFacts {
            begun: 1_794_827_200,
            age: 48 * 3_600,
            grace_left: 0,
            warmup_left: 5 * 24 * 3_600,
        },
        funnel: FunnelFacts::default(),
        evidence: EvidenceFacts::default(),
        recent: Recent {
            seconds: 30,
            sessions: 60,
            deferred: 45,
            passed: 15,
            ..Recent::default()
        },
        store: Census {
            tuples: 1_000_000,
            capacity: 4_000_000,
            trusted: 12,
            sentences: 1,
            clients: 40,
            client_capacity: 1_000_000,
            reputations: 2_300,
            hopping_helos: 3,
            contents: 250_000,
            content_capacity: 1_000_000,
            pairs: 80_000,
            snapshot_age: Some(90),
            journal: Some(JournalStatus {
                mode: "second".to_owned(),
                lag: 320,
                synced_age: Some(1),
                ..JournalStatus::default()
            }),
            restored: "nothing: the first start".to_owned(),
        },
        xdp: FilterStatus::On(OnStatus {
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                mode: ObtainedMode::Native,
                why: None,
                pinned: true,
                why_unpinned: None,
            }],
            ports: vec![25],
            entries_ipv4: 1,
            entries_ipv6: 0,
            capacity: 131_072,
            memory: 37_900_000,
            drops: 3_400,
            ..OnStatus::default()
        }),
        cluster: None,
        overrides: Vec::new(),
        counters: BTreeMap::from([
            ("greygate_verdicts_total".to_owned(), 1_234),
            (offences("rapid-retries", "struck"), 3),
            (offences("rapid-retries", "spared"), 2),
            (offences("relay-hopping", "struck"), 4),
            ("greygate_swept_total".to_owned(), 0),
        ]),
    }
}
