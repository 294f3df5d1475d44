//! What was measured, beside what it was measured against: for people, and as JSON.

use std::fmt;

use serde_json::json;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// What one must know to read the table.
    preface: String,
    compared: Statistic,
    rows: Vec<Row>,
}

/// Which of several measurements stands for them in ratios and verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// What disturbs a measurement only ever makes it worse.
    Best,
    /// The best may be luck.
    Median,
}

/// One line.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// In what, and which way is better.
    pub unit: Unit,
    /// Greygate's figure, or why there is none.
    pub greygate: Figure,
    /// Those of others, each with a name.
    pub beside: Vec<(&'static str, Figure)>,
    /// What greygate is to reach.
    pub target: Option<Target>,
}

/// What several measurements gave, or why they could not be made.
pub type Figure = Result<Samples, String>;

/// Measurements of one thing, at least one.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
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
    /// Microseconds of CPU time a session.
    MicrosASession,
    /// Sessions a second.
    SessionsASecond,
    /// Answers waited for in a session.
    RoundTrips,
    /// So many times something that was measured beside it.
    Times,
    /// Millions of bytes.
    Megabytes,
    /// Microseconds by the clock.
    Micros,
    /// Milliseconds.
    Millis,
    /// Nanoseconds by the clock.
    Nanos,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// Less than the peer of this name.
    Below(&'static str),
    /// At least so many times what the peer of this name does.
    Times(f64, &'static str),
    /// At most so many times what the peer of this name takes.
    AtMostTimes(f64, &'static str),
}

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// Something that it takes was not measured.
    Unknown,
}

impl Report {
    /// A table without lines.
    pub fn new(preface: String, compared: Statistic) -> Self {
        Self {
            preface,
            compared,
            rows: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds lines.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// Whether every figure could be had, the peers' among them.
    pub fn is_whole(&self) -> bool {
        self.rows
            .iter()
            .all(|row| row.greygate.is_ok() && row.beside.iter().all(|(_, figure)| figure.is_ok()))
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| row.json(self.compared));
        json!({ "rows": rows.collect::<Vec<_>>() })
    }
}

impl Row {
    /// Whether the target was reached.
    fn verdict(&self, compared: Statistic) -> Option<Verdict> {
        let target = self.target?;
        Some(
            self.reached(target, compared)
                .map_or(Verdict::Unknown, |reached| {
                    if reached {
                        Verdict::Met
                    } else {
                        Verdict::Missed
                    }
                }),
        )
    }

    fn reached(&self, target: Target, compared: Statistic) -> Option<bool> {
        let ours = self.greygate.as_ref().ok()?.by(compared, self.unit);
        let theirs = |peer| {
            let (_, figure) = self.beside.iter().find(|(name, _)| *name == peer)?;
            Some(figure.as_ref().ok()?.by(compared, self.unit))
        };
        Some(match target {
            Target::AtMost(most) => ours <= most,
            Target::Below(peer) => ours < theirs(peer)?,
            Target::Times(times, peer) => ours >= times * theirs(peer)?,
            Target::AtMostTimes(times, peer) => ours <= times * theirs(peer)?,
        })
    }

    fn json(&self, compared: Statistic) -> serde_json::Value {
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
            "verdict": self.verdict(compared).map(|verdict| verdict.to_string()),
        })
    }
}

impl Samples {
    /// Nothing, when there are none.
    pub fn new(samples: Vec<f64>) -> Option<Self> {
        (!samples.is_empty()).then_some(Self(samples))
    }

    /// A thing that was measured once.
    pub fn one(sample: f64) -> Self {
        Self(vec![sample])
    }

    fn by(&self, statistic: Statistic, unit: Unit) -> f64 {
        match statistic {
            Statistic::Best => self.best(unit),
            Statistic::Median => self.median(),
        }
    }

    fn best(&self, unit: Unit) -> f64 {
        let sorted = self.sorted();
        sorted[if unit.more_is_better() {
            sorted.len() - 1
        } else {
            0
        }]
    }

    fn worst(&self, unit: Unit) -> f64 {
        let sorted = self.sorted();
        sorted[if unit.more_is_better() {
            0
        } else {
            sorted.len() - 1
        }]
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
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
        matches!(self, Self::MegaframesASecond | Self::SessionsASecond)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Megabytes => "MB",
            Self::Millis => "ms",
            Self::NanosAFrame | Self::Nanos => "ns",
            Self::MegaframesASecond => "M/s",
            Self::Micros | Self::MicrosAChange | Self::MicrosASession => "µs",
            Self::Seconds => "s",
            Self::Bytes => "B",
            Self::SessionsASecond => "/s",
            Self::RoundTrips => "",
            Self::Times => "×",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Below(peer) => write!(f, "< {peer}"),
            Self::Times(times, peer) => write!(f, "≥ {times} × {peer}"),
            Self::AtMostTimes(times, peer) => write!(f, "≤ {times} × {peer}"),
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.preface)?;
        writeln!(
            f,
            "{:WHAT$} {:>9} {:>9} {:>9}",
            "", "best", "median", "worst"
        )?;
        for row in &self.rows {
            let ours = shown(&row.greygate, row.unit);
            let target = row.target.map_or_else(String::new, |it| it.to_string());
            let verdict = row
                .verdict(self.compared)
                .map_or_else(String::new, |it| it.to_string());
            let line = format!("{:WHAT$} {ours}  {target:TARGET$} {verdict}", row.what);
            writeln!(f, "{}", line.trim_end())?;
            for (name, figure) in &row.beside {
                let theirs = shown(figure, row.unit);
                let ratio = match (&row.greygate, figure) {
                    (Ok(ours), Ok(theirs)) => {
                        ours.by(self.compared, row.unit) / theirs.by(self.compared, row.unit)
                    }
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
                Unit::Megabytes | Unit::SessionsASecond => format!("{it:.0}"),
                Unit::NanosAFrame | Unit::Bytes | Unit::MicrosASession => format!("{it:.1}"),
                _ => format!("{it:.2}"),
            });
            format!("{best:>9} {median:>9} {worst:>9} {:3}", unit.to_string())
        }
        Err(why) => format!("not measured: {why}"),
    }
}

const WHAT: usize = 42;
const TARGET: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], theirs: &[f64], target: Target) -> Row {
        let figure = |samples: &[f64]| Samples::new(samples.to_vec()).ok_or_else(String::new);
        Row {
            what: "a session".to_owned(),
            unit: Unit::MicrosASession,
            greygate: figure(ours),
            beside: vec![("peer", figure(theirs))],
            target: Some(target),
        }
    }

    #[test]
    fn target_goes_by_the_statistic_that_is_compared() {
        let row = row(
            &[9.0, 13.1, 50.0],
            &[10.0, 10.0, 10.0],
            Target::AtMostTimes(1.3, "peer"),
        );
        assert_eq!(row.verdict(Statistic::Best), Some(Verdict::Met));
        assert_eq!(row.verdict(Statistic::Median), Some(Verdict::Missed));
    }

    #[test]
    fn target_beside_a_peer_that_was_not_measured_is_not_known() {
        let row = row(&[9.0], &[], Target::AtMostTimes(1.3, "peer"));
        assert_eq!(row.verdict(Statistic::Median), Some(Verdict::Unknown));
    }
}
