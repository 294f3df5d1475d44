//! The lines of the table: one host that shares, and beside it three, and one that shares with nobody.

use support::bench::report::{Figure, Report, Row, Target, Unit};

use crate::{
    contenders::{ALONE, Contenders, Kind, ONE, THREE},
    cost::{Cost, Sharing},
};

/// What was measured, in lines.
pub(crate) fn tell(found: &Contenders, report: &mut Report) {
    let hits: Kind = |it| &it.hits;
    report.heading("a local hit");
    report.push(Row {
        target: Some(Target::AtMostTimes(1.1, ALONE)),
        ..of_all(found, hits, MICROSECONDS)
    });
    report.push(of_all(found, hits, THE_REST));
    report.extend(of_sharing(found, hits, &OF_A_HIT));
    report.push(of_all(found, hits, RATE));

    let misses: Kind = |it| &it.misses;
    report.heading("a new mail");
    report.push(of_all(found, misses, MICROSECONDS));
    report.push(of_all(found, misses, THE_REST));
    report.extend(of_sharing(found, misses, &OF_A_MISS));
    report.push(of_all(found, misses, RATE));

    let offered: Kind = |it| &it.offered;
    report.heading("the answer to it, at a quarter");
    let quantiles: [Part; 2] = [
        ("p50", Unit::Micros, |it| waited(it, 0.5)),
        ("p99", Unit::Micros, |it| waited(it, 0.99)),
    ];
    for part in quantiles {
        report.push(of_all(found, offered, part));
        let (quantile, unit, waited) = part;
        for (name, of) in [(ONE, ""), (THREE, ", three that share")] {
            report.push(Row {
                what: format!("{quantile}, added{of}"),
                unit,
                greygate: found.added(name, offered, waited),
                beside: Vec::new(),
                target: None,
            });
        }
    }
    report.extend(of_sharing(found, offered, &[UNANSWERED]));
    report.push(of_all(found, offered, RATE));

    let quiet: Kind = |it| &it.quiet;
    report.heading("a host's second without mail");
    report.push(of_all(found, quiet, MICROSECONDS));
    report.extend(of_sharing(found, quiet, &OF_A_SECOND));
}

fn of_all(found: &Contenders, kind: Kind, (what, unit, part): Part) -> Row {
    row(what, unit, &[ALONE, THREE], |name| {
        found.of(name, kind, |it| Some(part(it)))
    })
}

fn of_sharing(
    found: &Contenders,
    kind: Kind,
    parts: &[PartOfSharing],
) -> impl Iterator<Item = Row> {
    parts.iter().map(move |(what, unit, part)| {
        row(what, *unit, &[THREE], |name| {
            found.of(name, kind, |it| it.sharing.as_ref().map(part))
        })
    })
}

fn row(what: &str, unit: Unit, beside: &[&'static str], figure: impl Fn(&str) -> Figure) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        greygate: figure(ONE),
        beside: beside.iter().map(|name| (*name, figure(name))).collect(),
        target: None,
    }
}

/// Microseconds within which so many were answered.
#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn waited(cost: &Cost, quantile: f64) -> f64 {
    cost.latency.value_at_quantile(quantile) as f64 / 1e3
}

/// A line, and which figure it tells.
type Part = (&'static str, Unit, fn(&Cost) -> f64);
/// The same, of those that share.
type PartOfSharing = (&'static str, Unit, fn(&Sharing) -> f64);

const MICROSECONDS: Part = ("microseconds", Unit::MicrosASession, |it| it.session);
const THE_REST: Part = (
    "without the thread that shares",
    Unit::MicrosASession,
    |it| it.session - it.sharing.map_or(0.0, |it| it.thread),
);
const RATE: Part = ("sessions a second", Unit::SessionsASecond, |it| it.rate);

const THREAD: PartOfSharing = ("the thread that shares", Unit::MicrosASession, |it| {
    it.thread
});
const REDIS: PartOfSharing = ("Redis", Unit::MicrosASession, |it| it.engine);
const CHANGES: PartOfSharing = ("changes", Unit::EachSession, |it| it.changes);
const UNANSWERED: PartOfSharing = ("questions without an answer", Unit::EachSession, |it| {
    it.unanswered
});
const TO_REDIS: PartOfSharing = ("a change, bytes to Redis", Unit::Bytes, |it| {
    it.told.to_engine / it.changes
});
const FROM_REDIS: PartOfSharing = ("a change, bytes from Redis", Unit::Bytes, |it| {
    it.told.from_engine / it.changes
});

const ASKED: PartOfSharing = ("questions, bytes to Redis", Unit::Bytes, |it| {
    it.questions.to_engine
});
const ANSWERED: PartOfSharing = ("questions, bytes from Redis", Unit::Bytes, |it| {
    it.questions.from_engine
});

/// Nothing is asked, so that what is spent is spent on changes.
const OF_A_HIT: [PartOfSharing; 7] = [
    THREAD,
    REDIS,
    CHANGES,
    (
        "a change, the thread that shares",
        Unit::MicrosAChange,
        |it| it.thread / it.changes,
    ),
    ("a change, Redis", Unit::MicrosAChange, |it| {
        it.engine / it.changes
    }),
    TO_REDIS,
    FROM_REDIS,
];
const OF_A_MISS: [PartOfSharing; 10] = [
    THREAD,
    REDIS,
    CHANGES,
    ("changes told a second", Unit::ChangesASecond, |it| it.pace),
    TO_REDIS,
    FROM_REDIS,
    ("questions", Unit::EachSession, |it| it.asked),
    UNANSWERED,
    ASKED,
    ANSWERED,
];
/// Rounds for news, and signs of life.
const OF_A_SECOND: [PartOfSharing; 4] = [THREAD, REDIS, ASKED, ANSWERED];
