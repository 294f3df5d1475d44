//! The manual against what the daemon says and shows.

use std::collections::BTreeSet;

use super::*;

/// All but what is registered with the log and the process, [`BEYOND`]. A metric
/// with labels is on the page only once it has counted.
#[test]
fn manual_of_operations_explains_every_metric_and_no_other() {
    let explained = explained();
    let all = without_labels(&explained);
    let plain = explained.iter().filter(|it| !it.contains('{'));
    let plain: BTreeSet<_> = plain.map(|it| (*it).to_owned()).collect();

    let shown = shown();
    let unexplained: Vec<_> = shown.difference(&all).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
    let invented: Vec<_> = plain.difference(&shown).collect();
    assert!(invented.is_empty(), "{invented:?}");
}

/// Each row of the page names metrics that there are, and each metric that tells of a limit, by what
/// such metrics are called, has its row.
#[test]
fn page_of_limits_has_a_metric_for_each_and_leaves_none_out() {
    let manual = include_str!("../../../docs/limits.md");
    let (_, table) = manual
        .split_once("| --- | --- | --- | --- |\n")
        .expect("the page has its table");
    let (table, _) = table.split_once("\n\n").expect("it has an end");
    let mut told = BTreeSet::new();
    for row in table.lines() {
        let (_, metrics) = row
            .trim_end_matches(" |")
            .rsplit_once(" | ")
            .expect("four columns");
        assert!(!metrics.is_empty(), "{row}");
        told.extend(
            metrics
                .split(", ")
                .map(|it| it.trim_matches('`').to_owned()),
        );
    }
    let explained = without_labels(&explained());
    let invented: Vec<_> = told.difference(&explained).collect();
    assert!(invented.is_empty(), "{invented:?}");
    let tells_of_a_limit = |name: &&String| {
        let name = name.strip_suffix("_total").unwrap_or(name);
        let ends = TELL_OF_A_LIMIT.iter().any(|it| name.ends_with(it));
        ends && !NO_LIMIT.contains(&name)
    };
    let left_out = explained.difference(&told).filter(tells_of_a_limit);
    let left_out: Vec<_> = left_out.collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

const TELL_OF_A_LIMIT: [&str; 20] = [
    "_accept_errors",
    "_beyond_share",
    "_capacity",
    "_crowded_out",
    "_displaced",
    "_limit",
    "_live_refused",
    "_lost",
    "_overflow",
    "_replaced",
    "_retried",
    "_shed",
    "_suppressed",
    "_turned_away",
    "_unkept",
    "_unread",
    "_unrecorded",
    "_unwatched",
    "milter_ended",
    "milter_refused",
];
/// Sessions of sentenced clients.
const NO_LIMIT: [&str; 1] = ["milter_turned_away"];

/// The metrics that the manual of operations explains, with their labels.
fn explained() -> BTreeSet<&'static str> {
    let manual = include_str!("../../../docs/operations.md");
    let (_, section) = manual
        .split_once("## What the metrics say")
        .expect("the manual has the section");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once(" | "))
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect()
}

fn without_labels(explained: &BTreeSet<&str>) -> BTreeSet<String> {
    let names = explained.iter().filter_map(|it| it.split('{').next());
    names.map(str::to_owned).collect()
}

/// The metrics that are on the page before anything has counted.
fn shown() -> BTreeSet<String> {
    let mut registry = Registry::default();
    Metrics::default().register(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("it is text");
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .chain(BEYOND.map(str::to_owned))
        .collect()
}

#[test]
fn manual_of_operations_explains_every_reason_of_a_verdict() {
    let manual = include_str!("../../../docs/operations.md");
    let (_, section) = manual
        .split_once("### The reasons of a verdict")
        .expect("the manual has the section");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let explained: BTreeSet<_> = rows
        .filter_map(|row| row.split(" | ").next().zip(row.split(" | ").nth(1)))
        .flat_map(|(verdict, reasons)| reasons.split(", ").map(move |it| (verdict, it)))
        .filter_map(|(verdict, reason)| {
            let reason = reason.strip_prefix('`')?.strip_suffix('`')?;
            Some(format!("{{verdict=\"{verdict}\",reason=\"{reason}\"}}"))
        })
        .collect();

    let mut registry = Registry::default();
    Metrics::default().register(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("it is text");
    let counted: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("verdicts_total")?.strip_suffix(" 0"))
        .map(str::to_owned)
        .collect();
    assert_eq!(explained, counted);
}

/// What is registered where the log begins, and for the process.
const BEYOND: [&str; 5] = [
    "build_info",
    "log_lines_lost_total",
    "log_lines_suppressed_total",
    "resident_memory_bytes",
    "start_timestamp_seconds",
];
