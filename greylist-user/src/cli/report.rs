//! The daemon's answers, made readable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::paper::{Paper, number};
use super::why;
use crate::admin::{Answer, Forgiven, Health, HistoryFacts, SentenceLine, Status, XdpStatus};
use crate::config::format_duration;
use crate::kernel::{Counter, FilterStatus, OnStatus};
use crate::policy::Action;

/// Writes an answer for a person.
pub(super) fn answer(answer: &Answer, paper: &mut Paper) {
    match answer {
        Answer::Status(answer) => status(answer, paper),
        Answer::XdpStatus(answer) => xdp_status(answer, paper),
        Answer::Punished(answer) => {
            let time = seconds(answer.seconds);
            paper.line(format_args!(
                "{} is sentenced for {time}, at level {}",
                answer.client, answer.level
            ));
            if !answer.without_effect.is_empty() {
                let but = format!("but nothing is dropped: {}", answer.without_effect);
                paper.line(paper.bad(&but));
            }
            if !answer.spared.is_empty() {
                let spared = answer.spared.join(", ");
                paper.line(format_args!("but for {spared}"));
            }
        }
        Answer::Reported(answer) => {
            paper.line(format_args!("{}: {} is noted", answer.client, answer.what));
        }
        Answer::Why(answer) => why::why(answer, paper),
        Answer::Forgiven(answer) if answer.sentences == 0 && answer.strikes == 0 => {
            paper.line(format_args!(
                "{} had no sentence and no strike",
                answer.client
            ));
        }
        Answer::Forgiven(answer) => forgiven(answer, paper),
        Answer::Snapshot(answer) => paper.line(format_args!(
            "{} records in {} ({} bytes, {} ms)",
            number(answer.records),
            answer.file,
            number(answer.bytes),
            answer.millis
        )),
        Answer::Failed { why } | Answer::Refused { why } => paper.line(paper.bad(why)),
    }
}

fn forgiven(forgiven: &Forgiven, paper: &mut Paper) {
    paper.line(format_args!("{} is forgiven", forgiven.client));
    // A sentence of a network is lifted for all in it.
    for client in &forgiven.lifted {
        if *client != forgiven.client {
            paper.line(format_args!("the sentence of {client} is lifted"));
        }
    }
    match forgiven.strikes {
        0 => {}
        1 => paper.line("one strike counts no more"),
        many => paper.line(format_args!("{} strikes count no more", number(many))),
    }
    let left_off = forgiven.sentences - forgiven.lifted.len() as u64;
    if left_off > 0 {
        paper.line(format_args!("and {} more", number(left_off)));
    }
}

fn status(status: &Status, paper: &mut Paper) {
    let title = format!("greygate {}", status.version);
    paper.line(format_args!(
        "{}, pid {}, up {}",
        paper.bold(&title),
        status.pid,
        seconds(status.uptime)
    ));
    health(&status.health, paper);
    paper.row("milter", status.endpoints.join(", "));
    actions(status, paper);
    history(&status.history, paper);
    let store = &status.store;
    let share = (store.tuples * 100).checked_div(store.capacity);
    paper.row(
        "tuples",
        format_args!(
            "{} of {} ({} %)",
            number(store.tuples),
            number(store.capacity),
            share.unwrap_or_default()
        ),
    );
    paper.row("trusted", number(store.trusted));
    paper.row("sentences", number(store.sentences));
    paper.row(
        "strikes",
        format_args!("{} since the start", number(strikes(&status.counters))),
    );
    paper.row(
        "clients",
        format_args!(
            "{} of {} remembered for strikes or AUTH",
            number(store.clients),
            number(store.client_capacity)
        ),
    );
    paper.row(
        "reputation",
        format_args!("of {} client networks", number(store.reputations)),
    );
    paper.row(
        "HELO",
        format_args!(
            "{} arguments remembered for relay hopping",
            number(store.hopping_helos)
        ),
    );
    match store.snapshot_age {
        Some(age) => paper.row("snapshot", format_args!("{} ago", seconds(age))),
        None => paper.row("snapshot", "none written yet"),
    }
    paper.row("restored", &store.restored);
    filter(&status.xdp, paper);
    counters(&status.counters, paper);
}

/// What is carried out, and what is only observed.
fn actions(status: &Status, paper: &mut Paper) {
    let actions = status.actions.named();
    let (observed, carried_out): (Vec<_>, Vec<_>) = actions
        .into_iter()
        .filter(|(_, action)| !action.is_empty())
        .partition(|(_, action)| *action == OBSERVE);
    let carried_out = carried_out.iter().map(|(name, action)| match *action {
        ENFORCE => (*name).to_owned(),
        other => format!("{name} ({other})"),
    });
    let observed = observed.iter().map(|(name, _)| (*name).to_owned());
    for (label, named) in [
        ("enforced", carried_out.collect::<Vec<_>>()),
        ("observed", observed.collect()),
    ] {
        if !named.is_empty() {
            paper.row(label, named.join(", "));
        }
    }
}

fn history(history: &HistoryFacts, paper: &mut Paper) {
    if history.begun == 0 {
        return; // The daemon is an older one, and does not tell.
    }
    let age = seconds(history.age);
    let waits = if history.grace_left > 0 {
        let left = seconds(history.grace_left);
        format!(": nothing is an offence for another {left}")
    } else if history.warmup_left > 0 {
        let left = seconds(history.warmup_left);
        format!(": blocks are only observed for another {left}")
    } else {
        String::new()
    };
    paper.row("history", format_args!("{age}{waits}"));
}

/// Offences that became strikes.
fn strikes(counters: &BTreeMap<String, u64>) -> u64 {
    let offences = counters.range(OFFENCES.to_owned()..);
    offences
        .take_while(|(name, _)| name.starts_with(OFFENCES))
        .filter(|(name, _)| name.contains(STRUCK))
        .map(|(_, count)| *count)
        .sum()
}

/// Those that have counted anything; `--json` and the metrics endpoint have them all.
fn counters(counters: &BTreeMap<String, u64>, paper: &mut Paper) {
    let rows: Vec<_> = counters
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| [name.clone(), number(*count)])
        .collect();
    if !rows.is_empty() {
        paper.line("");
        paper.table(["counter", "since the start"], &rows);
    }
}

fn health(health: &Health, paper: &mut Paper) {
    if health.is_good() {
        paper.row("health", paper.good("good"));
    }
    for complaint in &health.complaints {
        paper.row("health", paper.bad(complaint));
    }
}

/// What the filter does, and whom it blocks.
pub(super) fn xdp_status(status: &XdpStatus, paper: &mut Paper) {
    filter(&status.filter, paper);
    if let FilterStatus::On(on) = &status.filter {
        frames(on, paper);
    }
    paper.line("");
    if status.sentences.is_empty() {
        paper.line("nobody is sentenced");
        return;
    }
    let rows: Vec<_> = status.sentences.iter().map(sentence).collect();
    paper.table(["client", "level", "reason", "left", "drops"], &rows);
    if status.sentences_left_off > 0 {
        paper.line(format_args!(
            "and {} more",
            number(status.sentences_left_off)
        ));
    }
}

/// What the kernel program has seen, the rare and telling first.
fn frames(on: &OnStatus, paper: &mut Paper) {
    let row = |counter: Counter| {
        let count = *on.frames.get(counter.name())?;
        (count > 0).then(|| {
            let name = counter.name().to_owned();
            [name, number(count), counter.about().to_owned()]
        })
    };
    let rows: Vec<_> = Counter::ALL.into_iter().rev().filter_map(row).collect();
    if !rows.is_empty() {
        paper.line("");
        paper.table(["frames", "count", "what they were"], &rows);
    }
}

fn filter(filter: &FilterStatus, paper: &mut Paper) {
    match filter {
        FilterStatus::Off { why } => {
            paper.row("kernel", format_args!("{}: {why}", paper.bad("no filter")));
        }
        FilterStatus::On(on) => filter_on(on, paper),
    }
}

fn filter_on(on: &OnStatus, paper: &mut Paper) {
    for interface in &on.interfaces {
        let mode = interface.mode.to_string();
        match &interface.why {
            Some(why) => paper.row("kernel", format_args!("{} {mode}: {why}", interface.name)),
            None => paper.row("kernel", format_args!("{} {mode}", interface.name)),
        }
        if let Some(why) = &interface.why_unpinned {
            paper.row("unpinned", format_args!("{}: {why}", interface.name));
        }
    }
    let ports: Vec<_> = on.ports.iter().map(u16::to_string).collect();
    paper.row("ports", ports.join(", "));
    if on.observes {
        paper.row("action", "observe: what would be dropped is only counted");
    }
    let capacity = number(on.capacity.into());
    for (family, entries) in [("IPv4", on.entries_ipv4), ("IPv6", on.entries_ipv6)] {
        paper.row(
            family,
            format_args!("{} of {capacity} entries", number(entries)),
        );
    }
    let megabytes = number(on.memory.div_ceil(1_000_000));
    paper.row("memory", format_args!("{megabytes} MB in the kernel"));
    paper.row("dropped", number(on.drops));
}

fn sentence(line: &SentenceLine) -> [String; 5] {
    [
        line.client.clone(),
        line.level.clone(),
        line.reason.clone(),
        seconds(line.left),
        number(line.drops),
    ]
}

pub(super) fn seconds(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

const ENFORCE: &str = Action::Enforce.as_str();
const OBSERVE: &str = Action::Observe.as_str();

/// The metric of offences, and the label of those that became strikes.
const OFFENCES: &str = "greygate_offences_total{";
const STRUCK: &str = "outcome=\"struck\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Actions, Census, Punished};
    use crate::kernel::{InterfaceStatus, ObtainedMode};

    #[test]
    fn status_reads_top_down() {
        let text = on_paper(&Answer::Status(Box::new(daemon())));
        assert_eq!(
            text,
            "greygate 0.1.0, pid 7, up 1h1m\n\
             health        good\n\
             milter        inet:127.0.0.1:8892\n\
             enforced      greylisting, extra delay, hopping, reputation (defer), kernel\n\
             observed      strikes, sentences\n\
             history       2d: blocks are only observed for another 5d\n\
             tuples        1,000,000 of 4,000,000 (25 %)\n\
             trusted       12\n\
             sentences     1\n\
             strikes       7 since the start\n\
             clients       40 of 1,000,000 remembered for strikes or AUTH\n\
             reputation    of 2,300 client networks\n\
             HELO          3 arguments remembered for relay hopping\n\
             snapshot      1m30s ago\n\
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
        assert!(!text.contains("history"), "{text}");
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
             but nothing is dropped: the kernel filter is off\n"
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
        }));
        assert_eq!(
            text,
            "192.0.2.7 is forgiven\nthe sentence of 192.0.2.0/24 is lifted\n3 strikes count no more\n"
        );
        let nothing = Forgiven {
            client: "192.0.2.7".to_owned(),
            ..Forgiven::default()
        };
        assert_eq!(
            on_paper(&Answer::Forgiven(nothing)),
            "192.0.2.7 had no sentence and no strike\n"
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

    fn on_paper(given: &Answer) -> String {
        let mut paper = Paper::new(false);
        answer(given, &mut paper);
        paper.into_text()
    }

    fn daemon() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            pid: 7,
            started: 1_795_000_000,
            uptime: 3_660,
            health: Health::default(),
            endpoints: vec!["inet:127.0.0.1:8892".to_owned()],
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
            store: Census {
                tuples: 1_000_000,
                capacity: 4_000_000,
                trusted: 12,
                sentences: 1,
                clients: 40,
                client_capacity: 1_000_000,
                reputations: 2_300,
                hopping_helos: 3,
                snapshot_age: Some(90),
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
            counters: BTreeMap::from([
                ("greygate_verdicts_total".to_owned(), 1_234),
                (offences("rapid-retries", "struck"), 3),
                (offences("rapid-retries", "spared"), 2),
                (offences("relay-hopping", "struck"), 4),
                ("greygate_swept_total".to_owned(), 0),
            ]),
        }
    }
}
