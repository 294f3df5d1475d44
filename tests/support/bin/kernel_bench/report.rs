//! What was measured, beside what it was measured against: for people, and as JSON.

use std::{fmt, fs};

use serde_json::json;

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// In what, and which way is better.
    pub(crate) unit: Unit,
    /// Greygate's figure, or why there is none.
    pub(crate) greygate: Figure,
    /// Those of others, each with a name.
    pub(crate) beside: Vec<(&'static str, Figure)>,
    /// What greygate is to reach.
    pub(crate) target: Option<Target>,
}

/// What several measurements gave, or why they could not be made.
pub(crate) type Figure = Result<Samples, String>;

/// Measurements of one thing, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<f64>);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds of CPU time a frame, over a program that only passes.
    NanosAFrame,
    /// Millions of frames a second.
    MegaframesASecond,
    /// Microseconds of CPU time a change.
    MicrosAChange,
    /// Seconds.
    Seconds,
    /// Bytes a sentence.
    Bytes,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// Less than the peer of this name.
    Below(&'static str),
    /// At least so many times what the peer of this name does.
    Times(f64, &'static str),
}

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// Something that it takes was not measured.
    Unknown,
}

impl Report {
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// Whether every figure could be had, the peers' among them.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows
            .iter()
            .all(|row| row.greygate.is_ok() && row.beside.iter().all(|(_, figure)| figure.is_ok()))
    }

    /// For machines.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({ "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>() })
    }
}

impl Row {
    /// Whether the target was reached, by the best measurements: what disturbs one only ever makes
    /// it worse.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let target = self.target?;
        Some(self.reached(target).map_or(Verdict::Unknown, |reached| {
            if reached {
                Verdict::Met
            } else {
                Verdict::Missed
            }
        }))
    }

    fn reached(&self, target: Target) -> Option<bool> {
        let ours = self.greygate.as_ref().ok()?.best(self.unit);
        let theirs = |peer| {
            let (_, figure) = self.beside.iter().find(|(name, _)| *name == peer)?;
            Some(figure.as_ref().ok()?.best(self.unit))
        };
        Some(match target {
            Target::AtMost(most) => ours <= most,
            Target::Below(peer) => ours < theirs(peer)?,
            Target::Times(times, peer) => ours >= times * theirs(peer)?,
        })
    }

    fn json(&self) -> serde_json::Value {
        let figure = |figure: &Figure| match figure {
            Ok(samples) => json!({
                "best": samples.best(self.unit),
                "median": samples.median(),
                "worst": samples.worst(self.unit),
                "samples": samples.0,
            }),
            Err(why) => json!({ "missing": why }),
        };
        let beside: serde_json::Map<_, _> = self
            .beside
            .iter()
            .map(|(name, it)| ((*name).to_owned(), figure(it)))
            .collect();
        json!({
            "what": self.what,
            "unit": self.unit.to_string(),
            "greygate": figure(&self.greygate),
            "beside": beside,
            "target": self.target.map(|target| target.to_string()),
            "verdict": self.verdict().map(|verdict| verdict.to_string()),
        })
    }
}

impl Samples {
    /// Nothing, when there are none.
    pub(crate) fn new(samples: Vec<f64>) -> Option<Self> {
        (!samples.is_empty()).then_some(Self(samples))
    }

    /// A thing that was measured once.
    pub(crate) fn one(sample: f64) -> Self {
        Self(vec![sample])
    }

    pub(crate) fn best(&self, unit: Unit) -> f64 {
        let sorted = self.sorted();
        sorted[if unit.more_is_better() {
            sorted.len() - 1
        } else {
            0
        }]
    }

    pub(crate) fn worst(&self, unit: Unit) -> f64 {
        let sorted = self.sorted();
        sorted[if unit.more_is_better() {
            0
        } else {
            sorted.len() - 1
        }]
    }

    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted[sorted.len() / 2]
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Unit {
    fn more_is_better(self) -> bool {
        self == Self::MegaframesASecond
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NanosAFrame => "ns",
            Self::MegaframesASecond => "M/s",
            Self::MicrosAChange => "µs",
            Self::Seconds => "s",
            Self::Bytes => "B",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Below(peer) => write!(f, "< {peer}"),
            Self::Times(times, peer) => write!(f, "≥ {times} × {peer}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unknown => "not known",
        })
    }
}

/// What one must know to read the table.
fn preface() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Greygate's kernel filter on Linux {}; indented, its peers at the same. Nanoseconds are what a\n\
         frame costs over a program that only passes; a clean client has no sentence. The best round\n\
         is compared. docs/benchmarks.md says how each line is measured.",
        kernel.trim()
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", preface())?;
        writeln!(
            f,
            "{:WHAT$} {:>9} {:>9} {:>9}",
            "", "best", "median", "worst"
        )?;
        for row in &self.rows {
            let ours = shown(&row.greygate, row.unit);
            let target = row.target.map_or_else(String::new, |it| it.to_string());
            let verdict = row.verdict().map_or_else(String::new, |it| it.to_string());
            let line = format!("{:WHAT$} {ours}  {target:TARGET$} {verdict}", row.what);
            writeln!(f, "{}", line.trim_end())?;
            for (name, figure) in &row.beside {
                let theirs = shown(figure, row.unit);
                let ratio = match (&row.greygate, figure) {
                    (Ok(ours), Ok(theirs)) => ours.best(row.unit) / theirs.best(row.unit),
                    _ => f64::NAN,
                };
                let ratio = if ratio.is_finite() {
                    format!("greygate: {ratio:.2} ×")
                } else {
                    String::new()
                };
                let line = format!("{:WHAT$} {theirs}  {ratio}", format!("  {name}"));
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

fn shown(figure: &Figure, unit: Unit) -> String {
    match figure {
        Ok(samples) => {
            let figures = [samples.best(unit), samples.median(), samples.worst(unit)];
            let [best, median, worst] = figures.map(|it| match unit {
                Unit::NanosAFrame | Unit::Bytes => format!("{it:.1}"),
                _ => format!("{it:.2}"),
            });
            format!("{best:>9} {median:>9} {worst:>9} {:3}", unit.to_string())
        }
        Err(why) => format!("not measured: {why}"),
    }
}

const WHAT: usize = 42;
const TARGET: usize = 14;
