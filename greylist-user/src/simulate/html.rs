//! The report as one page: nothing is loaded from elsewhere, nothing runs in it, and every stranger's
//! text is escaped. Each plot has a title, a description and a table of its figures beneath it.

mod plot;

use std::fmt::{Display, Write};
use std::time::Duration;

use time::OffsetDateTime;

use super::report::{Assumed, DELAY_CLASS_NAMES, Delays, GivenSentence, Outcome, Ranking, Report};
use crate::config::format_duration;
use plot::{Plot, Series};

/// The page of a report.
pub fn page(report: &Report) -> String {
    let mut page = Page::default();
    page.raw(HEAD);
    about(report, &mut page);
    shown(report, &mut page);
    if let Some(assumed) = &report.assumed {
        range(assumed, report.asked.no_retry_percent, &mut page);
    }
    sentences(report, &mut page);
    hours(report, &mut page);
    page.heading("What these figures are not");
    page.raw("<ul>\n");
    let bounds = report.bounds.iter();
    let bounds = bounds.map(|it| format!("A bound was reached: {}.", it.explain()));
    for limit in report.limits.iter().cloned().chain(bounds) {
        page.element("li", &limit);
    }
    page.raw("</ul>\n</main>\n</body>\n</html>\n");
    page.0
}

fn about(report: &Report, page: &mut Page) {
    let (log, seen, asked) = (&report.log, &report.seen, &report.asked);
    let rules = asked.config.as_deref().unwrap_or("the defaults");
    let shows = if log.shows_greylisting {
        let names = log.greylisters.iter();
        let names: Vec<_> = names
            .map(|it| format!("{} {}", it.count, it.name))
            .collect();
        format!("shown by the log: {}", names.join(", "))
    } else {
        "none in the log, so that retries are assumed".to_owned()
    };
    let period = log.since.zip(log.until);
    page.table(
        "What was read",
        &["", ""],
        &[
            row(
                "Rules",
                format_args!("{rules}: mode {}, delay {}", asked.mode, time(asked.delay)),
            ),
            row("Files", log.files.join(", ")),
            row(
                "Time",
                period.map_or_else(String::new, |(since, until)| {
                    format!("{} to {}", date(since), date(until))
                }),
            ),
            row(
                "Lines",
                format_args!(
                    "{}, of which {} are of mail and {} not understood",
                    log.lines,
                    log.understood,
                    log.unknown + log.too_long
                ),
            ),
            row("Messages as they came, each retry one", seen.messages),
            row("Attempts at a recipient", seen.attempts),
            row("Greylisting", shows),
        ],
    );
}

fn shown(report: &Report, page: &mut Page) {
    let it = &report.shown;
    page.heading("What the log shows");
    page.table(
        "Recipients, by what the rules make of the attempts in the log",
        &["", "recipients"],
        &[
            row("Passed at their first attempt", it.passed_at_once),
            row("Deferred", it.deferred),
            row("– came again and passed", it.passed_after),
            row("– never returned in the retry window", it.never_returned),
            row("– were still waiting when the log ended", it.still_waiting),
            row(
                "– were taken in by the log's host: no retry is shown",
                it.retry_not_shown,
            ),
            row(
                "Refused: sentenced, listed, or of bad reputation",
                it.refused,
            ),
            row(
                "Rejected by Postfix, as before",
                report.seen.rejected_by_postfix,
            ),
            row("Messages of which analysis is saved", it.saved_messages),
            row("Bytes of them, as far as known", it.saved_bytes),
        ],
    );
    let verdicts: Vec<_> = it
        .verdicts
        .iter()
        .map(|it| {
            vec![
                it.verdict.clone(),
                it.reason.clone(),
                it.attempts.to_string(),
            ]
        })
        .collect();
    page.table(
        "Attempts by verdict and reason",
        &["verdict", "reason", "attempts"],
        &verdicts,
    );
    if let Some(delay) = &it.delay {
        delays(
            "How long they waited, as the log shows",
            &[("shown", it, delay)],
            page,
        );
    }
    rankings("as the log shows", it, page);
}

fn range(assumed: &Assumed, no_retry: (u8, u8), page: &mut Page) {
    page.heading("What is assumed");
    page.element(
        "p",
        &format!(
            "If senders come again by the model “{}”, and {} to {} % of them never, with what the log \
             shows included. Each figure lies between the two, as far as the model holds.",
            assumed.model, no_retry.0, no_retry.1
        ),
    );
    let (quick, slow) = (&assumed.quick, &assumed.slow);
    let both = |what: &str, of: fn(&Outcome) -> u64| {
        vec![what.to_owned(), of(quick).to_string(), of(slow).to_string()]
    };
    page.table(
        "Recipients and messages, assumed",
        &["assumed", "quick, few give up", "slow, many do"],
        &[
            both("Recipients passed at their first attempt", |it| {
                it.passed_at_once
            }),
            both("Recipients deferred", |it| it.deferred),
            both("– came again and passed", |it| it.passed_after),
            both("– never returned", |it| it.never_returned),
            both("Messages not analysed", |it| it.saved_messages),
            both("Bytes not analysed, as far as known", |it| it.saved_bytes),
        ],
    );
    let ends: Vec<_> = [("quick", quick), ("slow", slow)]
        .into_iter()
        .filter_map(|(name, it)| it.delay.as_ref().map(|delay| (name, it, delay)))
        .collect();
    if !ends.is_empty() {
        delays("How long they waited, assumed", &ends, page);
    }
    rankings("assumed, at the slow end", slow, page);
}

fn delays(what: &str, of: &[(&str, &Outcome, &Delays)], page: &mut Page) {
    let series: Vec<_> = of
        .iter()
        .map(|(name, outcome, _)| Series {
            name,
            values: outcome.delay_classes.clone(),
        })
        .collect();
    page.plot(&Plot {
        title: what,
        description: "Bars: recipients by how long they waited until they passed. The table beneath \
                      has the figures.",
        labels: DELAY_CLASS_NAMES.map(str::to_owned).to_vec(),
        series,
        is_stacked: false,
    });
    let mut head = vec!["waited"];
    head.extend(of.iter().map(|(name, ..)| *name));
    let mut rows: Vec<_> = DELAY_CLASS_NAMES
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let counts = of
                .iter()
                .map(|(_, it, _)| it.delay_classes.get(at).copied().unwrap_or(0).to_string());
            std::iter::once((*name).to_owned())
                .chain(counts)
                .collect::<Vec<_>>()
        })
        .collect();
    let shares: [(&str, Share); 4] = [
        ("half of them", |it| it.p50),
        ("90 %", |it| it.p90),
        ("99 %", |it| it.p99),
        ("all", |it| it.max),
    ];
    for (name, share) in shares {
        let times = of.iter().map(|(_, _, delay)| time(share(delay)));
        rows.push(std::iter::once(name.to_owned()).chain(times).collect());
    }
    page.table(what, &head, &rows);
}

fn rankings(which: &str, it: &Outcome, page: &mut Page) {
    let rows = |ranking: &Ranking, has_seconds: bool| -> Vec<Vec<String>> {
        let all = ranking.first.iter().chain(&ranking.others);
        all.map(|it| {
            let mut row = vec![it.name.clone(), it.count.to_string()];
            if has_seconds {
                row.push(time(it.seconds / it.count.max(1)));
                row.push(time(it.longest));
            }
            row
        })
        .collect()
    };
    for (what, ranking) in [
        ("Most delayed domains", &it.delayed_domains),
        ("Most delayed addresses", &it.delayed_addresses),
    ] {
        if !ranking.first.is_empty() {
            let head = ["sender", "mail", "mean", "longest"];
            page.table(&format!("{what}, {which}"), &head, &rows(ranking, true));
        }
    }
    if !it.deferred_clients.first.is_empty() {
        let what = format!("Most deferred clients, {which}");
        page.table(
            &what,
            &["client", "deferrals"],
            &rows(&it.deferred_clients, false),
        );
    }
}

fn sentences(report: &Report, page: &mut Page) {
    page.heading("Sentences, from attempts that the log shows alone");
    let told = &report.sentences;
    let rows = |given: &[GivenSentence]| -> Vec<Vec<String>> {
        let told = given.iter().take(SENTENCES).map(|it| {
            vec![
                it.client.clone(),
                it.level.clone(),
                it.reason.clone(),
                date(it.at),
                date(it.until),
                it.times.to_string(),
            ]
        });
        told.collect()
    };
    let head = ["client", "level", "reason", "first", "until", "times"];
    if told.clients == 0 {
        page.element("p", "None.");
    } else {
        page.table(
            &format!("{} clients", told.clients),
            &head,
            &rows(&told.given),
        );
    }
    if told.suspected_clients > 0 {
        let what = format!(
            "{} more, if what came again so soon was the same message",
            told.suspected_clients
        );
        page.table(&what, &head, &rows(&told.suspected));
    }
}

fn hours(report: &Report, page: &mut Page) {
    page.heading("By hour");
    let shown = &report.hours[report.hours.len().saturating_sub(HOURS)..];
    let of = |name: &'static str, values: Vec<u64>| Series { name, values };
    page.plot(&Plot {
        title: "Recipients by hour, as the log shows (UTC)",
        description: "Stacked bars: how many passed, were deferred and were refused in each hour. The \
                      table beneath has the figures.",
        labels: shown.iter().map(|it| date(it.at)[5..13].to_owned() + "h").collect(),
        series: vec![
            of("passed", shown.iter().map(|it| it.passed).collect()),
            of("deferred", shown.iter().map(|it| it.deferred).collect()),
            of("refused", shown.iter().map(|it| it.refused).collect()),
        ],
        is_stacked: true,
    });
    let rows: Vec<_> = shown
        .iter()
        .map(|it| {
            let counts = [it.passed, it.deferred, it.refused].map(|it| it.to_string());
            let mut row = vec![date(it.at)[..13].to_owned() + "h"];
            row.extend(counts);
            row
        })
        .collect();
    page.raw("<details><summary>Figures by hour</summary>\n");
    page.table(
        "Recipients by hour",
        &["hour", "passed", "deferred", "refused"],
        &rows,
    );
    page.raw("</details>\n");
    if shown.len() < report.hours.len() {
        page.element("p", "The last 31 days are shown; the JSON report has all.");
    }
}

/// One share of a distribution.
type Share = fn(&Delays) -> u64;

/// Text that is being written. Everything but `raw` is escaped.
#[derive(Default)]
struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn element(&mut self, tag: &str, text: &str) {
        let text = escaped(text);
        writeln!(self.0, "<{tag}>{text}</{tag}>").expect(CANNOT_FAIL);
    }

    fn heading(&mut self, text: &str) {
        self.element("h2", text);
    }

    fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        self.raw("<div class=\"wide\"><table>");
        self.element("caption", caption);
        if head.iter().any(|it| !it.is_empty()) {
            self.raw("<thead><tr>");
            for cell in head {
                let cell = escaped(cell);
                write!(self.0, "<th scope=\"col\">{cell}</th>").expect(CANNOT_FAIL);
            }
            self.raw("</tr></thead>\n");
        }
        self.raw("<tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let cell = escaped(cell);
                let (open, close) = match at {
                    0 => ("<th scope=\"row\">", "</th>"),
                    _ => ("<td>", "</td>"),
                };
                write!(self.0, "{open}{cell}{close}").expect(CANNOT_FAIL);
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table></div>\n");
    }

    fn plot(&mut self, plot: &Plot<'_>) {
        if let Some(svg) = plot.drawn() {
            self.raw("<figure>");
            self.raw(&svg);
            self.raw("</figure>\n");
        }
    }
}

fn row(what: &str, value: impl Display) -> Vec<String> {
    vec![what.to_owned(), value.to_string()]
}

/// Text that means itself in HTML, between tags and in attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn time(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

/// A time by the calendar, in UTC.
fn date(at: u64) -> String {
    let told = i64::try_from(at).ok();
    let told = told.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let told = told.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (told.date(), told.to_hms());
    format!(
        "{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>greygate simulate</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; background: Canvas; color: CanvasText; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; font-weight: bold; padding: .25rem 0; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8886; font-weight: normal; }
thead th { font-weight: bold; }
tbody td { font-variant-numeric: tabular-nums; }
tbody th { overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; color: CanvasText; }
</style>
</head>
<body>
<main>
<h1>What greygate would have done</h1>
"#;

/// Sentences on the page; the JSON report tells more.
const SENTENCES: usize = 200;
/// A month of them.
const HOURS: usize = 31 * 24;

const CANNOT_FAIL: &str = "writing to a String cannot fail";

#[cfg(test)]
mod tests;
