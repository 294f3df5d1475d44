//! What was measured, beside what it was measured against: for people, and as JSON.

mod unit;

use std::fmt;
use std::process::ExitCode;

use serde_json::json;

use crate::error::Error;

pub use self::unit::Unit;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// What one must know to read the table.
    preface: String,
    compared: Statistic,
    lines: Vec<Line>,
    /// What the lines mean.
    legend: String,
}

/// What stands in the table, from above.
#[derive(Debug)]
enum Line {
    /// A question, which the lines below it answer.
    Heading(String),
    Row(Row),
    Spread(Spread),
    Absent(Absent),
}

/// Figures of one kind for each of several, side by side.
#[derive(Debug)]
pub struct Spread {
    /// What was measured.
    pub what: String,
    /// What stands in each column.
    pub columns: &'static [&'static str],
    /// Each with a name, and [`None`] where there is nothing to say.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// A peer that is not to be had on this machine: its lines are missing, which is no failure.
#[derive(Debug)]
pub struct Absent {
    /// Its name.
    pub what: String,
    /// What is missing, and what brings it.
    pub why: String,
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
            lines: Vec::new(),
            legend: String::new(),
        }
    }

    /// Begins a part of the table.
    pub fn heading(&mut self, question: impl Into<String>) {
        self.lines.push(Line::Heading(question.into()));
    }

    /// Adds a line.
    pub fn push(&mut self, row: Row) {
        self.lines.push(Line::Row(row));
    }

    /// Adds lines.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.lines.extend(rows.into_iter().map(Line::Row));
    }

    /// Adds figures side by side.
    pub fn spread(&mut self, spread: Spread) {
        self.lines.push(Line::Spread(spread));
    }

    /// Adds a word for a peer that is not there.
    pub fn absent(&mut self, absent: Absent) {
        self.lines.push(Line::Absent(absent));
    }

    /// Says below the table what its lines mean.
    pub fn legend(&mut self, legend: impl Into<String>) {
        self.legend = legend.into();
    }

    /// Prints what was measured, also before something failed: it is worth as much. Only a whole report of
    /// what went well is a success.
    pub fn conclude(&self, outcome: Result<(), Error>, as_json: bool) -> ExitCode {
        if as_json {
            println!("{:#}", self.json());
        } else {
            println!("{self}");
        }
        match outcome {
            Ok(()) if self.is_whole() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {}", error.chain());
                ExitCode::FAILURE
            }
        }
    }

    /// Whether every figure could be had, those of the peers that are there among them.
    pub fn is_whole(&self) -> bool {
        self.rows()
            .all(|row| row.greygate.is_ok() && row.beside.iter().all(|(_, figure)| figure.is_ok()))
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let rows = self.rows().map(|row| row.json(self.compared));
        let spreads = self.lines.iter().filter_map(|line| match line {
            Line::Spread(spread) => Some(spread.json()),
            _ => None,
        });
        let absent = self.lines.iter().filter_map(|line| match line {
            Line::Absent(absent) => Some(json!({ "what": absent.what, "why": absent.why })),
            _ => None,
        });
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "spreads": spreads.collect::<Vec<_>>(),
            "absent": absent.collect::<Vec<_>>(),
        })
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            _ => None,
        })
    }
}

impl Spread {
    fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|(name, figures)| {
            let figures: serde_json::Map<_, _> = self
                .columns
                .iter()
                .zip(figures)
                .map(|(column, figure)| ((*column).to_owned(), json!(figure)))
                .collect();
            json!({ "name": name, "figures": figures })
        });
        json!({ "what": self.what, "rows": rows.collect::<Vec<_>>() })
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
        let ours = self.greygate.as_ref().ok()?;
        let ratio = |peer| {
            let (_, figure) = self.beside.iter().find(|(name, _)| *name == peer)?;
            Some(ours.beside(figure.as_ref().ok()?, compared, self.unit))
        };
        Some(match target {
            Target::AtMost(most) => ours.by(compared, self.unit) <= most,
            Target::Below(peer) => ratio(peer)? < 1.0,
            Target::Times(times, peer) => ratio(peer)? >= times,
            Target::AtMostTimes(times, peer) => ratio(peer)? <= times,
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

    /// How many times `theirs` this is. Where medians are compared and both were measured in the same
    /// rounds, it is the median of the rounds' ratios: what disturbs a round disturbs both.
    fn beside(&self, theirs: &Self, statistic: Statistic, unit: Unit) -> f64 {
        match statistic {
            Statistic::Median if self.0.len() == theirs.0.len() => self.over(theirs).median(),
            _ => self.by(statistic, unit) / theirs.by(statistic, unit),
        }
    }

    /// The ratios to `theirs`, round by round. Nothing is once as much as nothing.
    #[must_use]
    pub fn over(&self, theirs: &Self) -> Self {
        let rounds = self.0.iter().zip(&theirs.0);
        let ratio = |(a, b): (&f64, &f64)| match a.max(*b) {
            0.0 => 1.0,
            _ => a / b,
        };
        Self(rounds.map(ratio).collect())
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
        if !matches!(self.lines.first(), Some(Line::Heading(_) | Line::Spread(_))) {
            head(f, "", SAMPLES)?;
        }
        for (index, line) in self.lines.iter().enumerate() {
            match line {
                Line::Heading(question) => {
                    if index > 0 {
                        writeln!(f)?;
                    }
                    head(f, question, SAMPLES)?;
                }
                Line::Row(row) => row.write(f, self.compared)?,
                Line::Spread(spread) => {
                    if index > 0 {
                        writeln!(f)?;
                    }
                    spread.write(f)?;
                }
                Line::Absent(Absent { what, why }) => {
                    writeln!(f, "{:WHAT$} not to be had: {why}", format!("  {what}"))?;
                }
            }
        }
        if self.legend.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{}", self.legend)
    }
}

impl Row {
    fn write(&self, f: &mut fmt::Formatter<'_>, compared: Statistic) -> fmt::Result {
        let ours = shown(&self.greygate, self.unit);
        let target = self.target.map_or_else(String::new, |it| it.to_string());
        let verdict = self
            .verdict(compared)
            .map_or_else(String::new, |it| it.to_string());
        let line = format!("{:WHAT$} {ours}  {target:TARGET$} {verdict}", self.what);
        writeln!(f, "{}", line.trim_end())?;
        for (name, figure) in &self.beside {
            let theirs = shown(figure, self.unit);
            let ratio = match (&self.greygate, figure) {
                (Ok(ours), Ok(theirs)) => ours.beside(theirs, compared, self.unit),
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
        Ok(())
    }
}

impl Spread {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(f, &self.what, self.columns)?;
        for (name, figures) in &self.rows {
            write!(f, "{name:WHAT$}")?;
            for figure in figures {
                let text = figure.map_or_else(String::new, |it| format!("{it:.0}"));
                write!(f, " {text:>9}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn head(f: &mut fmt::Formatter<'_>, what: &str, columns: &[&str]) -> fmt::Result {
    write!(f, "{what:WHAT$}")?;
    for column in columns {
        write!(f, " {column:>9}")?;
    }
    writeln!(f)
}

fn shown(figure: &Figure, unit: Unit) -> String {
    match figure {
        Ok(samples) => {
            let figures = [samples.best(unit), samples.median(), samples.worst(unit)];
            let [best, median, worst] = figures.map(|it| unit.shown(it));
            format!("{best:>9} {median:>9} {worst:>9} {:3}", unit.to_string())
        }
        Err(why) => format!("not measured: {why}"),
    }
}

/// What is shown of several measurements.
const SAMPLES: &[&str] = &["best", "median", "worst"];
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

    #[test]
    fn nothing_beside_nothing_is_within_bounds() {
        let verdict = |ours: &[f64]| {
            let row = row(ours, &[0.0], Target::AtMostTimes(2.0, "peer"));
            row.verdict(Statistic::Median)
        };
        assert_eq!(verdict(&[0.0]), Some(Verdict::Met));
        assert_eq!(verdict(&[0.1]), Some(Verdict::Missed));
    }

    #[test]
    fn ratio_of_medians_is_that_within_a_round() {
        // The second round was disturbed for both alike.
        let row = row(
            &[10.0, 40.0, 14.0],
            &[10.0, 40.0, 10.0],
            Target::AtMostTimes(1.3, "peer"),
        );
        assert_eq!(row.verdict(Statistic::Median), Some(Verdict::Met));
        let mut report = Report::new(String::new(), Statistic::Median);
        report.push(row);
        assert!(report.to_string().contains("greygate: 1.00 ×"), "{report}");
    }

    #[test]
    fn peer_that_is_not_there_is_told_and_no_failure() {
        let mut report = Report::new(String::new(), Statistic::Median);
        report.absent(Absent {
            what: "peer".to_owned(),
            why: "no such program".to_owned(),
        });
        assert!(report.is_whole());
        assert!(report.to_string().contains("no such program"), "{report}");
        report.push(row(&[9.0], &[], Target::AtMost(10.0)));
        assert!(!report.is_whole(), "a peer that is there was not measured");
    }

    #[test]
    fn figures_side_by_side_stand_below_their_columns() {
        let mut report = Report::new("preface".to_owned(), Statistic::Median);
        report.spread(Spread {
            what: "latency".to_owned(),
            columns: &["p50", "p99"],
            rows: vec![("greygate".to_owned(), vec![Some(80.0), None])],
        });
        let text = report.to_string();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name));
        let end = |name, part: &str| {
            line(name)
                .and_then(|line| line.find(part))
                .map(|at| at + part.len())
        };
        assert_eq!(end("latency", "p50"), end("greygate", "80"), "{text}");
    }
}
