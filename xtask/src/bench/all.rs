//! `cargo xtask bench all`: one subject after the other, and their tables in `docs/benchmarks.md`.
//!
//! A table is replaced when its subject has been measured to the end; what fails leaves its own as it
//! was.

use std::{
    env, fs,
    time::{Duration, Instant},
};

use super::{Settings, Subject, blocks};
use crate::{
    command::{Failure, Run},
    filter, workspace,
};

/// Measures, and rewrites the tables of, those subjects.
pub(crate) fn perform(subjects: &[Subject], settings: &Settings) -> Result<(), Failure> {
    filter::needs_root("bench all")?;
    let mut failures: Vec<(Subject, Failure)> = Vec::new();
    for &subject in subjects {
        let begun = Instant::now();
        eprintln!("\n=== {} ===", subject.name());
        match measured(subject, settings).and_then(|block| put(subject, &block)) {
            Ok(()) => eprintln!("{}: {}", subject.name(), minutes(begun.elapsed())),
            Err(failure) => {
                eprintln!("{failure}");
                failures.push((subject, failure));
            }
        }
    }
    let Some((_, first)) = failures.first() else {
        return Ok(());
    };
    let names: Vec<_> = failures.iter().map(|(it, _)| it.name()).collect();
    Err(Failure::new(
        format!("the tables of before stay: {}", names.join(", ")),
        &first.why,
        format!(
            "mend it, then cargo xtask bench all --only {}",
            names.join(",")
        ),
    ))
}

/// All subjects, in the order of the page.
pub(crate) const SUBJECTS: [Subject; 5] = [
    Subject::Decide,
    Subject::Store,
    Subject::Milter,
    Subject::Cluster,
    Subject::Kernel,
];

fn measured(subject: Subject, settings: &Settings) -> Result<String, Failure> {
    let Settings { rounds, .. } = settings;
    // Before minutes are spent on it.
    place(subject)?;
    let run = subject.prepare(settings)?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let table = run.tell()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rounds = match subject {
        // Its own sample counts.
        Subject::Decide => String::new(),
        _ => format!(" {rounds} rounds,"),
    };
    Ok(format!(
        "{}, Linux {}, {}, {},{rounds} load average {} at the start:\n\n```text\n{}\n```\n",
        today()?,
        kernel.trim(),
        processor(),
        cores(),
        load.split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" "),
        table.trim_end(),
    ))
}

/// Fails while there is no place for the table of `subject`.
fn place(subject: Subject) -> Result<(), Failure> {
    let page = page()?;
    blocks::replace(&page, subject.name(), "").map_err(no_place)?;
    Ok(())
}

fn put(subject: Subject, block: &str) -> Result<(), Failure> {
    let text = blocks::replace(&page()?, subject.name(), block).map_err(no_place)?;
    workspace::write_atomically(&workspace::root().join(PAGE), text.as_bytes())
}

fn page() -> Result<String, Failure> {
    let path = workspace::root().join(PAGE);
    fs::read_to_string(&path).map_err(Failure::file("read", &path))
}

fn no_place(error: blocks::BlockError) -> Failure {
    Failure::new(
        format!("{PAGE} has no place for the table"),
        error,
        "put the two lines where the table belongs, each once",
    )
}

fn today() -> Result<String, Failure> {
    let date = Run::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .quiet()
        .capture()?;
    Ok(date.trim().to_owned())
}

/// What the processor calls itself.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let keys = ["model name", "Model", "cpu model"];
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        keys.contains(&name.trim()).then(|| value.trim().to_owned())
    });
    found.unwrap_or_else(|| env::consts::ARCH.to_owned())
}

fn cores() -> String {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => "1 core".to_owned(),
        Ok(cores) => format!("{cores} cores"),
        Err(error) => format!("cores unknown ({error})"),
    }
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

const PAGE: &str = "docs/benchmarks.md";
