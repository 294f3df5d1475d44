//! What was measured, beside what it was measured against: for people, and as JSON.

use std::fmt;

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
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unknown => "not known",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<WHAT$} {:>9} {:>9} {:>9}     {:<TARGET$} ",
            "", "best", "median", "worst", "target"
        )?;
        for row in &self.rows {
            write!(f, "{}", padded(&row.what, WHAT))?;
            line(f, &row.greygate, row.unit)?;
            if let (Some(target), Some(verdict)) = (row.target, row.verdict()) {
                write!(f, "  {} {verdict}", padded(&target.to_string(), TARGET))?;
            }
            writeln!(f)?;
            for (name, figure) in &row.beside {
                write!(f, "{}", padded(&format!("  {name}"), WHAT))?;
                line(f, figure, row.unit)?;
                if let (Ok(ours), Ok(theirs)) = (&row.greygate, figure) {
                    let ratio = ours.best(row.unit) / theirs.best(row.unit);
                    write!(f, "  greygate: {ratio:.2} ×")?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, figure: &Figure, unit: Unit) -> fmt::Result {
    match figure {
        Ok(samples) => {
            let digits = if unit == Unit::NanosAFrame || unit == Unit::Bytes {
                1
            } else {
                2
            };
            let (best, median, worst) = (samples.best(unit), samples.median(), samples.worst(unit));
            write!(
                f,
                " {best:>9.digits$} {median:>9.digits$} {worst:>9.digits$} "
            )?;
            write!(f, "{}", padded(&unit.to_string(), 3))
        }
        Err(why) => write!(f, " not measured: {why}"),
    }
}

/// `text` with blanks up to `width` characters; the formatter counts bytes of `×` and `µ` as well.
fn padded(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(blanks))
}

const WHAT: usize = 52;
const TARGET: usize = 14;
