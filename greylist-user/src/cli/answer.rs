//! The daemon's answers, made readable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::funnel::funnel;
use super::listing;
use super::paper::{Paper, number};
use super::recent::recent;
use super::{cluster, list, why};
use crate::admin::{
    Answer, EvidenceFacts, Forgiven, Forgotten, Health, HistoryFacts, ImportCounts, JournalStatus,
    Reloaded, SentenceLine, Status, XdpStatus,
};
use crate::config::format_duration;
use crate::kernel::{Counter, FilterStatus, OnStatus};
use crate::policy::{Action, Identity, Mode, Who};

/// Writes an answer for a person.
pub(super) fn show(answer: &Answer, paper: &mut Paper) {
    match answer {
        Answer::Cluster(answer) => cluster::standing(answer, paper),
        Answer::Status(answer) => status(answer, paper),
        Answer::XdpStatus(answer) => xdp_status(answer, paper),
        Answer::Punished(answer) => {
            let time = seconds(answer.seconds);
            paper.line(format_args!(
                "{} is sentenced for {time}, at level {}",
                answer.client, answer.level
            ));
            if !answer.without_effect.is_empty() {
                let but = format!("but the kernel drops nothing: {}", answer.without_effect);
                paper.line(paper.bad(&but));
            }
            if !answer.spared.is_empty() {
                let spared = answer.spared.join(", ");
                paper.line(format_args!("but for {spared}"));
            }
        }
        Answer::Imported(answer) => imported(answer, paper),
        Answer::LiveChange(answer) => listing::change(answer, paper),
        Answer::LiveEntries(answer) => listing::entries(answer, paper),
        Answer::Reloaded(answer) => reloaded(answer, paper),
        Answer::Reported(answer) => {
            paper.line(format_args!("{}: {} is noted", answer.client, answer.what));
        }
        Answer::Why(answer) => why::why(answer, paper),
        Answer::Forgiven(answer) => forgiven(answer, paper),
        Answer::Forgotten(answer) => forgotten(answer, paper),
        Answer::List(answer) => list::list(answer, paper),
        Answer::Snapshot(answer) => paper.line(format_args!(
            "{} records in {} ({} bytes, {} ms)",
            number(answer.records),
            answer.file,
            number(answer.bytes),
            answer.millis
        )),
        Answer::Failed { why } | Answer::Refused { why } => paper.line(paper.bad(why)),
        Answer::Unreloaded { problems } => {
            for problem in problems {
                paper.line(paper.bad(&problem.to_string()));
            }
        }
    }
}

/// What was taken in, and what was not and why.
pub(super) fn imported(counts: &ImportCounts, paper: &mut Paper) {
    let kinds = counts.kinds().into_iter().filter(|(_, count)| *count > 0);
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{} {kind}", number(count)))
        .collect();
    if kinds.is_empty() {
        paper.row("taken in", "nothing");
    } else {
        paper.row("taken in", kinds.join(", "));
    }
    if counts.lapsed > 0 {
        paper.row("lapsed", format_args!("{} left out", number(counts.lapsed)));
    }
    if counts.addresses_dropped > 0 {
        let dropped = number(counts.addresses_dropped);
        let why = format!("{dropped} in clear left out: [store] keep_addresses is off here");
        paper.row("addresses", why);
    }
    if counts.over_capacity > 0 {
        let why = format!(
            "{} found no room and are left out; raise [store] capacity, or what bounds their kind",
            number(counts.over_capacity)
        );
        paper.row("no room", paper.bad(&why));
    }
    for (what, count) in &counts.no_counterpart {
        paper.row("left out", format_args!("{} {what}", number(*count)));
    }
}

fn reloaded(reloaded: &Reloaded, paper: &mut Paper) {
    let file = &reloaded.file;
    if reloaded.changed.is_empty() {
        paper.line(format_args!("{file} is in force; no rule changed"));
    } else {
        paper.line(format_args!("{file} is in force"));
        paper.row("changed", reloaded.changed.join(", "));
    }
    if !reloaded.restart.is_empty() {
        let keys = reloaded.restart.join(", ");
        paper.row("restart", format_args!("wanted by {keys}"));
    }
    if !reloaded.overrides.is_empty() {
        paper.row("set", reloaded.overrides.join(", "));
    }
}

fn forgiven(forgiven: &Forgiven, paper: &mut Paper) {
    if forgiven.is_nothing() {
        paper.line(format_args!(
            "{} had no sentence, no strike and no bad name",
            forgiven.client
        ));
    } else {
        paper.line(format_args!("{} is forgiven", forgiven.client));
    }
    // A sentence of a network is lifted for all in it.
    for client in &forgiven.lifted {
        if *client != forgiven.client {
            paper.line(format_args!("the sentence of {client} is lifted"));
        }
    }
    let left_off = forgiven.sentences - forgiven.lifted.len() as u64;
    if left_off > 0 {
        paper.line(format_args!("and {} more", number(left_off)));
    }
    for (count, one, many) in [
        (
            forgiven.strikes,
            "one strike counts no more",
            "strikes count no more",
        ),
        (
            forgiven.reputations,
            "the bad name of its network is cleared",
            "networks have no bad name any more",
        ),
        (
            forgiven.rejections,
            "the recipients that were refused to it are counted no more",
            "clients' refused recipients are counted no more",
        ),
        (
            forgiven.delays,
            "one mail waits no longer than others do",
            "mails wait no longer than others do",
        ),
        (
            forgiven.failures,
            "one permanent failure is forgotten",
            "permanent failures are forgotten",
        ),
        (
            forgiven.helo.into(),
            "its HELO argument is no longer remembered for relay hopping",
            "",
        ),
    ] {
        match count {
            0 => {}
            1 => paper.line(one),
            count => paper.line(format_args!("{} {many}", number(count))),
        }
    }
    for left in &forgiven.left {
        paper.line(paper.dim(&format!("left: {left}")));
    }
}

fn forgotten(forgotten: &Forgotten, paper: &mut Paper) {
    if forgotten.removed.is_empty() {
        paper.line(format_args!("nothing is remembered of {}", forgotten.asked));
    }
    for removed in &forgotten.removed {
        let what = match removed.what.as_str() {
            "client" => "a client, with its strikes and AUTH",
            "content-trust" => "trust that a message had earned",
            "fingerprint" => "a message that was read",
            "passed" => "a tuple that had passed",
            "pending" => "a tuple that was waiting",
            "trust" => "trust in a sender",
            other => other,
        };
        paper.line(format_args!("{} is forgotten: {what}", removed.fingerprint));
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
    recent(&status.recent, paper);
    paper.row("milter", status.endpoints.join(", "));
    // The daemon may be an older one, and not tell.
    if !status.mode.is_empty() {
        paper.row("mode", &status.mode);
    }
    if !status.overrides.is_empty() {
        paper.row("set", status.overrides.join(", "));
    }
    if let Some(standing) = &status.cluster {
        paper.row("cluster", cluster::in_a_line(standing, paper));
    }
    evidence(&status.evidence, paper);
    actions(status, paper);
    history(&status.history, paper);
    let store = &status.store;
    paper.row("tuples", filled(store.tuples, store.capacity));
    if store.content_capacity > 0 && status.mode != ENVELOPE {
        let fill = filled(store.contents, store.content_capacity);
        paper.row("fingerprints", format_args!("{fill} of messages"));
        let fill = filled(store.pairs, store.capacity);
        paper.row("pairs", format_args!("{fill} of sender and recipient"));
    }
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
    if let Some(it) = &store.journal {
        paper.row("journal", journal(it, paper));
    }
    paper.row("restored", &store.restored);
    filter(&status.xdp, paper);
    funnel(&status.funnel, paper);
    paper.fold(TERMINAL);
    counters(&status.counters, paper);
}

/// How the journal stands.
fn journal(journal: &JournalStatus, paper: &Paper) -> String {
    let synced = match journal.synced_age {
        Some(age) => format!("synced {} ago", seconds(age)),
        None => "nothing to sync since the start".to_owned(),
    };
    let lag = journal.lag;
    let each = match journal.mode.as_str() {
        "never" => {
            return "never written: a crash loses what the snapshot does not have".to_owned();
        }
        "each" => "each change",
        _ => "each second",
    };
    let trouble = match &journal.trouble {
        Some(why) => format!("; {}", paper.bad(why)),
        None if journal.incomplete => "; a snapshot is wanted".to_owned(),
        None => String::new(),
    };
    format!("{each}, {lag} ms behind, {synced}{trouble}")
}

/// Whom greylisting spares, where it spares anybody, and who is asked.
fn evidence(facts: &EvidenceFacts, paper: &mut Paper) {
    if facts.who == SUSPICIOUS {
        paper.row("who", "only the suspicious are greylisted");
    }
    if facts.identity == SPF {
        paper.row("identity", "the sender's domain, where SPF passes");
    }
    for source in &facts.sources {
        let name = match source.name.as_str() {
            "" => "for SPF",
            name => name,
        };
        let standing = match (source.up, source.why.as_str()) {
            (true, _) => paper.good("answers"),
            (false, "") => paper.bad("is being tested"),
            (false, why) => paper.bad(why),
        };
        let kind = match source.kind.as_str() {
            SPF => "DNS",
            kind => kind,
        };
        paper.row(kind, format_args!("{name} {standing}"));
    }
}

/// So many of as many as there is room for.
fn filled(held: u64, capacity: u64) -> String {
    let share = (held * 100).checked_div(capacity).unwrap_or_default();
    format!("{} of {} ({share} %)", number(held), number(capacity))
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

/// Those that have counted anything, which is seldom short enough for a narrow terminal; `--json` and the metrics endpoint have them all.
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
const SPF: &str = Identity::Spf.as_str();
const SUSPICIOUS: &str = Who::Suspicious.as_str();
const ENVELOPE: &str = Mode::Envelope.as_str();

/// Columns of the narrowest terminal in use.
const TERMINAL: usize = 80;

/// The metric of offences, and the label of those that became strikes.
const OFFENCES: &str = "greygate_offences_total{";
const STRUCK: &str = "outcome=\"struck\"";

#[cfg(test)]
pub(super) use tests::daemon as daemon_of_tests;

#[cfg(test)]
mod tests;
