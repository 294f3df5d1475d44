//! What was measured, by name, and how it comes from one process to another.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::bench::report::{Figure, Samples};
use support::{Error, interrupt};

/// Figures, each measured once or more often.
#[derive(Debug, Default)]
pub(crate) struct Findings(BTreeMap<String, Vec<f64>>);

impl Findings {
    /// One more measurement.
    pub(crate) fn push(&mut self, name: impl Into<String>, figure: impl Into<f64>) {
        self.0.entry(name.into()).or_default().push(figure.into());
    }

    /// A time, in seconds.
    pub(crate) fn took(&mut self, name: impl Into<String>, time: Duration) {
        self.push(name, time.as_secs_f64());
    }

    /// Those of another process, too.
    pub(crate) fn extend(&mut self, others: Self) {
        for (name, figures) in others.0 {
            self.0.entry(name).or_default().extend(figures);
        }
    }

    /// What was measured under this name, so many times as large.
    pub(crate) fn figure(&self, name: &str, times: f64) -> Figure {
        let figures = self.0.get(name);
        let scaled = figures.map(|it| it.iter().map(|figure| figure * times).collect());
        scaled
            .and_then(Samples::new)
            .ok_or_else(|| "it was not measured".to_owned())
    }

    /// For the process that asked.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }

    fn of_json(text: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let mut findings = Self::default();
        for (name, figures) in value.as_object()? {
            for figure in figures.as_array()? {
                findings.push(name, figure.as_f64()?);
            }
        }
        Some(findings)
    }
}

/// What this program finds as `part`, alone in a process.
pub(crate) fn of_process(
    part: &str,
    tuples: u32,
    rounds: u32,
    directory: &Path,
) -> Result<Findings, Error> {
    let what = format!("the process that measures {part}");
    let program = std::env::current_exe().map_err(Error::io("this program's file"))?;
    let mut process = Command::new(program)
        .args(["--rounds", &rounds.to_string(), "--directory"])
        .arg(directory)
        .args([part, &tuples.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io(what.clone()))?;
    let ended = interrupt::wait_for(&what, LONGEST, || {
        process.try_wait().map_err(Error::io(what.clone()))
    });
    if ended.is_err() {
        // It keeps nothing but the directory, which goes with its guard once nobody writes there.
        let _ = process.kill();
    }
    // What it says is a line or two, which no pipe is too small for.
    let process = process
        .wait_with_output()
        .map_err(Error::io(what.clone()))?;
    if !ended?.success() {
        return Err(Error::unexpected(what, process.status));
    }
    let told = String::from_utf8_lossy(&process.stdout);
    Findings::of_json(&told).ok_or_else(|| Error::unexpected(what, told.trim()))
}

/// Of the largest size on a slow machine.
const LONGEST: Duration = Duration::from_hours(6);
