//! The lines of the table.

use support::bench::report::{Figure, Row, Target, Unit};

use crate::findings::Findings;

/// The lines of one size.
pub(crate) fn of(tuples: u32, alone: &Findings, whole: &Findings) -> Vec<Row> {
    let size = shown(tuples);
    let is_large = tuples >= 10_000_000;
    let mut rows = Vec::new();
    let mut row = |what: String, unit, greygate, beside, target| {
        rows.push(Row {
            what,
            unit,
            greygate,
            beside,
            target,
        });
    };
    let full = Target::AtMost(if is_large { 96.0 } else { 130.0 });
    for (with, findings) in [("", alone), (" and its pair", whole)] {
        let what = format!("{size}: a tuple{with}");
        let target = Some(full);
        row(
            what,
            Unit::Bytes,
            findings.figure("bytes at 100", 1.0),
            vec![],
            target,
        );
        let (percent, worst) = least_full(findings);
        let what = format!("  the most, when {percent} % full");
        // Room is reserved for all, so that this is the price of a table that is not full.
        row(what, Unit::Bytes, worst, vec![], None);
        let what = "  the worst insert while it grew".to_owned();
        let beside = vec![
            ("p99.9", findings.figure("insert p99.9", MILLIS_OF_NANOS)),
            ("p50", findings.figure("insert p50", MILLIS_OF_NANOS)),
        ];
        let worst = findings.figure("insert worst", MILLIS_OF_NANOS);
        row(what, Unit::Millis, worst, beside, None);
    }
    let megabytes = whole.figure("snapshot bytes", 1e-6);
    row(
        format!("{size}: a snapshot"),
        Unit::Megabytes,
        megabytes,
        vec![],
        None,
    );
    let written = vec![("its disk", whole.figure("write", 1.0))];
    row(
        "  for whom waits for it".to_owned(),
        Unit::Seconds,
        whole.figure("snapshot", 1.0),
        written,
        None,
    );
    let paced = whole.figure("time of snapshot", 1.0);
    row(
        "  at its rate".to_owned(),
        Unit::Seconds,
        paced,
        vec![],
        None,
    );
    let read = vec![("its disk", whole.figure("read", 1.0))];
    let target = is_large.then_some(Target::AtMost(5.0 * f64::from(tuples) / 1e7));
    row(
        format!("{size}: a start"),
        Unit::Seconds,
        whole.figure("open", 1.0),
        read,
        target,
    );
    let sweep = whole.figure("sweep", 1e3);
    row(
        format!("{size}: a whole sweep"),
        Unit::Millis,
        sweep,
        vec![],
        None,
    );
    let list = whole.figure("list", 1e3);
    row(
        format!("{size}: a list of all tuples"),
        Unit::Millis,
        list,
        vec![],
        None,
    );
    row(
        format!("{size}: decisions, one thread"),
        Unit::SessionsASecond,
        whole.figure("saturation", 1.0),
        vec![],
        None,
    );
    rows.extend(of_decisions(&size, whole));
    rows
}

/// What decisions take while something goes on beside them.
fn of_decisions(size: &str, whole: &Findings) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |what: String, unit, greygate, beside, target| {
        rows.push(Row {
            what,
            unit,
            greygate,
            beside,
            target,
        });
    };
    for (what, name) in BESIDE {
        let target = (name == "snapshot").then_some(Target::AtMostTimes(2.0, "idle"));
        for (quantile, target) in [
            ("p50", None),
            ("p99", target),
            ("p99.9", None),
            ("worst", None),
        ] {
            let figure = |name| micros(whole, &format!("decision {quantile} {name}"));
            let what = format!("{size}: decision, {what}, {quantile}");
            row(
                what,
                Unit::Micros,
                figure(name),
                vec![("idle", figure("idle"))],
                target,
            );
        }
        for (quantile, target) in [("p99", target), ("p99.99", None)] {
            let figure = |name| micros(whole, &format!("lock {quantile} {name}"));
            let what = format!("{size}: lock wait, {what}, {quantile}");
            row(
                what,
                Unit::Micros,
                figure(name),
                vec![("idle", figure("idle"))],
                target,
            );
        }
        let figure = |name| whole.figure(&format!("lock mean {name}"), 1.0);
        let what = format!("{size}: lock wait, {what}, mean");
        row(
            what,
            Unit::Nanos,
            figure(name),
            vec![("idle", figure("idle"))],
            None,
        );
    }
    rows
}

/// The fill, in percent, at which a tuple takes most, and what it takes then. Below a tenth a store is so
/// small that what it holds besides counts more.
fn least_full(findings: &Findings) -> (u32, Figure) {
    let fills = (10..=100).step_by(5);
    let measured = fills.filter_map(|percent| {
        let figure = findings.figure(&format!("bytes at {percent}"), 1.0).ok()?;
        Some((percent, figure))
    });
    let most = measured.max_by(|(_, a), (_, b)| a.median().total_cmp(&b.median()));
    most.map_or_else(
        || (100, Err("it was not measured".to_owned())),
        |(percent, figure)| (percent, Ok(figure)),
    )
}

fn micros(findings: &Findings, name: &str) -> Figure {
    findings.figure(name, 1e-3)
}

/// `10 M`.
pub(crate) fn shown(tuples: u32) -> String {
    match tuples {
        0..1_000_000 => format!("{} k", tuples / 1_000),
        _ => format!("{} M", tuples / 1_000_000),
    }
}

const MILLIS_OF_NANOS: f64 = 1e-6;

/// What goes on beside the decisions, and its name among the findings.
const BESIDE: [(&str, &str); 4] = [
    ("in a snapshot", "snapshot"),
    ("in a hurried one", "free snapshot"),
    ("in a sweep", "sweep"),
    ("in a list", "list"),
];
