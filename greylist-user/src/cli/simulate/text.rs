//! The report for people, in eighty columns: what the log shows first, what is assumed apart.

use std::time::Duration;

use crate::cli::moment::date;
use crate::cli::paper::{Paper, number};
use crate::config::format_duration;
use crate::simulate::{Assumed, DELAY_CLASS_NAMES, GivenSentence, Hour, Outcome, Ranking, Report};

/// Writes the report.
pub(super) fn show(report: &Report, paper: &mut Paper) {
    about(report, paper);
    shown(report, paper);
    if let Some(assumed) = &report.assumed {
        range(assumed, report.asked.no_retry_percent, paper);
    }
    sentences(report, paper);
    hours(&report.hours, paper);
    limits(report, paper);
}

fn about(report: &Report, paper: &mut Paper) {
    let (asked, log, seen) = (&report.asked, &report.log, &report.seen);
    let rules = asked.config.as_deref().unwrap_or("the defaults");
    paper.row(
        "rules",
        format_args!("{rules}: mode {}, delay {}", asked.mode, time(asked.delay)),
    );
    if let (Some(since), Some(until)) = (log.since, log.until) {
        paper.row("log", format_args!("{} to", date(since)));
        paper.row(
            "",
            format_args!("{} ({})", date(until), rough(until - since)),
        );
    }
    paper.row(
        "read",
        format_args!(
            "{} lines of {} files, {} of mail, {} not understood",
            number(log.lines),
            log.files.len(),
            number(log.understood),
            number(log.unknown + log.too_long),
        ),
    );
    paper.row(
        "seen",
        format_args!(
            "{} messages (each retry is one), {} attempts at a recipient",
            number(seen.messages),
            number(seen.attempts)
        ),
    );
    let greylisters: Vec<_> = log
        .greylisters
        .iter()
        .map(|it| format!("{} {}", number(it.count), it.name))
        .collect();
    let shows = if log.shows_greylisting {
        format!("the log shows it: {}", greylisters.join(", "))
    } else {
        "the log shows none, so retries are assumed".to_owned()
    };
    paper.row("greylisting", shows);
    let left = &report.left_out;
    for (count, what) in [
        (
            left.postscreen,
            "refused by postscreen, in front of greygate",
        ),
        (left.submission, "of submission services"),
        (left.local, "from this host itself"),
        (
            left.before_recipient,
            "refused before a recipient was named",
        ),
        (left.refused_for_now, "refused by Postfix for now"),
        (
            left.recipients_unknown,
            "messages of unknown sender or recipient",
        ),
        (left.outside_period, "outside of the time asked for"),
    ] {
        if count > 0 {
            paper.row("left out", format_args!("{} {what}", number(count)));
        }
    }
}

fn shown(report: &Report, paper: &mut Paper) {
    let it = &report.shown;
    heading(paper, "What the log shows");
    paper.row(
        "at once",
        recipients(it.passed_at_once, "passed at their first attempt"),
    );
    paper.row(
        "deferred",
        format_args!(
            "{} recipients, {} times",
            number(it.deferred),
            number(it.deferrals)
        ),
    );
    paper.row("  came again", recipients(it.passed_after, "passed then"));
    paper.row(
        "  never",
        recipients(it.never_returned, "never returned in the retry window"),
    );
    paper.row(
        "  waiting",
        recipients(it.still_waiting, "were still waiting when the log ended"),
    );
    paper.row(
        "  not shown",
        recipients(it.retry_not_shown, "were taken in by the log's host"),
    );
    paper.row(
        "refused",
        recipients(it.refused, "sentenced, listed, or of bad reputation"),
    );
    paper.row(
        "rejected",
        recipients(report.seen.rejected_by_postfix, "by Postfix, as before"),
    );
    paper.row(
        "analysis",
        format_args!(
            "{} of {} messages saved, {} of {} bytes known",
            number(it.saved_messages),
            number(report.seen.analysed_messages),
            number(it.saved_bytes),
            number(report.seen.analysed_bytes),
        ),
    );
    if it.read > 0 {
        paper.row(
            "read",
            format_args!("{} attempts go on to the message", number(it.read)),
        );
    }
    if let Some(delay) = it.delay {
        paper.row(
            "delay",
            format_args!(
                "half {}, 90 % {}, 99 % {}, all {}",
                time(delay.p50),
                time(delay.p90),
                time(delay.p99),
                time(delay.max)
            ),
        );
    }
    let rows: Vec<_> = it
        .verdicts
        .iter()
        .map(|it| [it.verdict.clone(), it.reason.clone(), number(it.attempts)])
        .collect();
    paper.line("");
    paper.table(["verdict", "reason", "attempts"], &rows);
    rankings(it, paper);
}

fn range(assumed: &Assumed, no_retry: (u8, u8), paper: &mut Paper) {
    heading(paper, "What is assumed");
    let (quick, slow) = (&assumed.quick, &assumed.slow);
    let said = format!(
        "If senders come again by the model {:?}, and {} to {} % of them never, with what the log \
         shows included. Each figure lies between the two, as far as the model is right.",
        assumed.model, no_retry.0, no_retry.1
    );
    wrapped("", &said, paper);
    paper.line("");
    let count = |what: &str, of: fn(&Outcome) -> u64| {
        [what.to_owned(), number(of(quick)), number(of(slow))]
    };
    let delay = |what: &str, of: fn(&crate::simulate::Delays) -> u64| {
        let told = |outcome: &Outcome| {
            let delay = outcome.delay.as_ref().map(of);
            delay.map_or_else(|| "-".to_owned(), time)
        };
        [what.to_owned(), told(quick), told(slow)]
    };
    let rows = [
        count("passed at once", |it| it.passed_at_once),
        count("deferred recipients", |it| it.deferred),
        count("  came again and passed", |it| it.passed_after),
        count("  never returned", |it| it.never_returned),
        delay("delay of half of them", |it| it.p50),
        delay("delay of 90 %", |it| it.p90),
        delay("delay of 99 %", |it| it.p99),
        delay("longest delay", |it| it.max),
        count("messages not analysed", |it| it.saved_messages),
        count("bytes not analysed", |it| it.saved_bytes),
    ];
    paper.table(["assumed", "quick, few give up", "slow, many do"], &rows);
    if slow.delay.is_some() {
        paper.line("");
        let classes = DELAY_CLASS_NAMES.iter().enumerate();
        let rows: Vec<_> = classes
            .map(|(at, name)| {
                let of = |it: &Outcome| number(it.delay_classes.get(at).copied().unwrap_or(0));
                [(*name).to_owned(), of(quick), of(slow)]
            })
            .collect();
        paper.table(["waited, assumed", "quick", "slow"], &rows);
        paper.line("");
        paper.line("Of the slow end, assumed:");
        rankings(slow, paper);
    }
}

fn rankings(it: &Outcome, paper: &mut Paper) {
    for (ranking, what) in [
        (&it.delayed_domains, "most delayed domains"),
        (&it.delayed_addresses, "most delayed addresses"),
    ] {
        if ranking.first.is_empty() {
            continue;
        }
        let rows: Vec<_> = ranked(ranking)
            .map(|it| {
                [
                    shortened(&it.name),
                    number(it.count),
                    time(it.seconds / it.count.max(1)),
                    time(it.longest),
                ]
            })
            .collect();
        paper.line("");
        paper.table([what, "mail", "mean", "longest"], &rows);
    }
    if !it.deferred_clients.first.is_empty() {
        let rows: Vec<_> = ranked(&it.deferred_clients)
            .map(|it| [it.name.clone(), number(it.count)])
            .collect();
        paper.line("");
        paper.table(["most deferred clients", "deferrals"], &rows);
    }
}

fn ranked(ranking: &Ranking) -> impl Iterator<Item = &crate::simulate::Ranked> {
    ranking.first.iter().chain(&ranking.others)
}

fn sentences(report: &Report, paper: &mut Paper) {
    let it = &report.sentences;
    heading(paper, "Sentences, from attempts that the log shows alone");
    if it.clients == 0 {
        paper.line("None.");
    } else {
        sentenced(&it.given, it.clients, paper);
    }
    if it.suspected_clients > 0 {
        paper.line("");
        paper.line("Suspected: sentenced as well if what came again so soon was the same message,");
        paper.line("of which greygate makes sure and the log says nothing:");
        sentenced(&it.suspected, it.suspected_clients, paper);
    }
}

fn sentenced(given: &[GivenSentence], clients: u64, paper: &mut Paper) {
    let rows: Vec<_> = given
        .iter()
        .take(SENTENCES)
        .map(|it| {
            [
                it.client.clone(),
                it.level.clone(),
                it.reason.clone(),
                date(it.at),
                number(it.times),
            ]
        })
        .collect();
    paper.table(["client", "level", "reason", "first", "times"], &rows);
    let more = clients.saturating_sub(rows.len() as u64);
    if more > 0 {
        paper.line(format_args!(
            "and {} more; --json tells a thousand",
            number(more)
        ));
    }
}

/// Hour by hour for two days; of more, the hours of the day.
fn hours(hours: &[Hour], paper: &mut Paper) {
    heading(paper, "By hour (UTC), as the log shows");
    let row = |name: String, it: &Hour| {
        [
            name,
            number(it.passed),
            number(it.deferred),
            number(it.refused),
        ]
    };
    let rows: Vec<_> = if hours.len() <= 48 {
        let name = |it: &Hour| date(it.at)[..13].to_owned() + "h";
        hours.iter().map(|it| row(name(it), it)).collect()
    } else {
        (0..24)
            .map(|of_day| {
                let of_day_in = |it: &&Hour| it.at / 3_600 % 24 == of_day;
                let sum = |of: fn(&Hour) -> u64| hours.iter().filter(of_day_in).map(of).sum();
                let hour = Hour {
                    at: of_day,
                    passed: sum(|it| it.passed),
                    deferred: sum(|it| it.deferred),
                    refused: sum(|it| it.refused),
                };
                row(format!("{of_day:02}h, all days"), &hour)
            })
            .collect()
    };
    paper.table(["hour", "passed", "deferred", "refused"], &rows);
}

fn limits(report: &Report, paper: &mut Paper) {
    heading(paper, "What these figures are not");
    for limit in &report.limits {
        wrapped("- ", limit, paper);
    }
    for bound in &report.bounds {
        let said = format!("A bound was reached: {}.", bound.explain());
        wrapped("- ", &said, paper);
    }
}

fn heading(paper: &mut Paper, text: &str) {
    paper.line("");
    let text = paper.bold(text);
    paper.line(text);
}

/// Text behind `lead`, broken between words.
fn wrapped(lead: &str, text: &str, paper: &mut Paper) {
    let mut line = lead.to_owned();
    let mut is_begun = false;
    for word in text.split(' ') {
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            paper.line(&line);
            line = " ".repeat(lead.chars().count());
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    paper.line(line);
}

fn recipients(count: u64, what: &str) -> String {
    format!("{} recipients {what}", number(count))
}

fn time(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

/// Without seconds, where they say nothing.
fn rough(seconds: u64) -> String {
    time(if seconds < 3_600 {
        seconds
    } else {
        seconds / 60 * 60
    })
}

/// What fits into its column.
fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let begin: String = name.chars().take(NAME - 1).collect();
    begin + "…"
}

const WIDTH: usize = 80;
/// Leaves room for three columns.
const NAME: usize = 40;
/// Sentences that are shown; `--json` tells more.
const SENTENCES: usize = 20;
