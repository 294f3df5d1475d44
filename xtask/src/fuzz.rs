//! `cargo xtask fuzz`: what strangers or a broken disk can hand us, made up by a fuzzer.
//!
//! Installs what fuzzing takes where it can be had, looks for inputs that break what a target holds,
//! and ends with a table. What it finds on the way stays in `target/fuzz`; with `--keep` the smallest
//! inputs that reach as much join the corpus in the repository, which CI reads again.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use crate::{
    command::{Failure, Run, find},
    progress::Progress,
    workspace,
};

/// What to fuzz, and for how long.
pub(crate) struct Wish {
    /// All, if none is named.
    pub(crate) targets: Vec<String>,
    /// For each.
    pub(crate) seconds: u32,
    /// Only say which there are.
    pub(crate) list: bool,
    /// Take what was found into the corpus.
    pub(crate) keep: bool,
}

pub(crate) fn perform(wish: &Wish) -> Result<ExitCode, Failure> {
    let known = Target::all()?;
    if wish.list {
        for target in &known {
            println!("{:<14} {}", target.name, target.holds);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&known, &wish.targets)?;
    install()?;
    nightly().args(["fuzz", "build"]).args(IN_FOLDER).run()?;
    let mut rows = Vec::new();
    for target in chosen {
        rows.push(target.run(wish.seconds)?);
        if wish.keep {
            target.keep()?;
        }
    }
    println!("\n{}", table(&rows));
    let findings: Vec<&String> = rows.iter().filter_map(|it| it.finding.as_ref()).collect();
    for finding in &findings {
        println!("finding: {finding}");
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One target, as the folder of the fuzz crate has it.
struct Target {
    name: String,
    /// The first sentence of what it says of itself.
    holds: String,
}

/// How a target fared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    target: String,
    seconds: u32,
    executions: u64,
    edges: u64,
    inputs: u64,
    /// The file that breaks it.
    finding: Option<String>,
}

impl Target {
    /// Every target, by its name.
    fn all() -> Result<Vec<Self>, Failure> {
        let folder = workspace::root().join("tests/fuzz");
        let binaries = folder.join("fuzz_targets");
        let read = |path: &Path| fs::read_to_string(path).map_err(Failure::file("read", path));
        let entries = fs::read_dir(&binaries).map_err(Failure::file("read", &binaries))?;
        let mut targets = Vec::new();
        for entry in entries.map_while(Result::ok) {
            let path = entry.path();
            let Some(name) = path.file_stem().and_then(|it| it.to_str()) else {
                continue;
            };
            let body = folder.join("src").join(name).with_extension("rs");
            targets.push(Self {
                name: name.to_owned(),
                holds: first_sentence(&read(&body)?),
            });
        }
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(targets)
    }

    fn run(&self, seconds: u32) -> Result<Row, Failure> {
        let found = self.found();
        fs::create_dir_all(&found).map_err(Failure::file("create", &found))?;
        let progress = Progress::start(format!("{}: fuzzing for {seconds} s", self.name));
        let mut child = nightly()
            .args(["fuzz", "run"])
            .args(IN_FOLDER)
            .arg(&self.name)
            // What is new is written to the first.
            .args([&found, &self.corpus()])
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"])
            .quiet()
            .into_command()
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new("cannot run the fuzzer", error, "rustup show"))?;
        let mut row = Row {
            target: self.name.clone(),
            seconds,
            ..Row::default()
        };
        let mut said = Vec::new();
        let output = child.stderr.take().expect("it is piped");
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            row.take(&line);
            if !line.starts_with('#') {
                said.push(line);
            }
        }
        let status = child
            .wait()
            .map_err(|error| Failure::new("the fuzzer is lost", error, "try again"))?;
        if !status.success() {
            for line in &said[said.len().saturating_sub(TOLD)..] {
                eprintln!("{line}");
            }
            let name = &self.name;
            let unknown = || format!("{name} ended with {status}; what it said is above");
            row.finding.get_or_insert_with(unknown);
        }
        progress.done(&format!("{} executions", row.executions));
        Ok(row)
    }

    /// Takes into the corpus what reaches more than is there.
    fn keep(&self) -> Result<(), Failure> {
        nightly()
            .args(["fuzz", "run"])
            .args(IN_FOLDER)
            .arg(&self.name)
            .args([&self.corpus(), &self.found()])
            .args(["--", "-merge=1"])
            .run()
    }

    /// What the repository has.
    fn corpus(&self) -> PathBuf {
        workspace::root().join("tests/fuzz/corpus").join(&self.name)
    }

    /// What was found here.
    fn found(&self) -> PathBuf {
        workspace::target().join("fuzz").join(&self.name)
    }
}

impl Row {
    /// What a line of libFuzzer says.
    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        if line.starts_with('#') {
            while let Some(word) = words.next() {
                let figures = match word {
                    "cov:" => &mut self.edges,
                    "corp:" => &mut self.inputs,
                    _ => continue,
                };
                let number = words
                    .next()
                    .and_then(|it| it.split('/').next()?.parse().ok());
                *figures = number.unwrap_or(*figures);
            }
        } else if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = executions.trim().parse().unwrap_or(0);
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.finding = Some(file.trim().to_owned());
        }
    }
}

fn chosen<'a>(known: &'a [Target], named: &[String]) -> Result<Vec<&'a Target>, Failure> {
    if named.is_empty() {
        return Ok(known.iter().collect());
    }
    let find = |name: &String| {
        known.iter().find(|it| it.name == *name).ok_or_else(|| {
            let all: Vec<&str> = known.iter().map(|it| it.name.as_str()).collect();
            let why = format!("there are {}", all.join(", "));
            Failure::new(
                format!("{name} is no target"),
                why,
                "cargo xtask fuzz --list",
            )
        })
    };
    named.iter().map(find).collect()
}

/// A nightly compiler, which has the instrumentation, and cargo-fuzz.
fn install() -> Result<(), Failure> {
    if find("rustup").is_none() {
        return Err(Failure::new(
            "fuzzing needs a nightly compiler",
            "there is no rustup to get one with",
            "install rustup (https://rustup.rs)",
        ));
    }
    let answers = |arguments: &[&str]| {
        let run = Run::new("rustup").args(["run", "nightly"]).args(arguments);
        run.quiet().capture().is_ok()
    };
    if !answers(&["rustc", "--version"]) {
        Run::new("rustup")
            .args(["toolchain", "install", "nightly", "--profile", "minimal"])
            .mend("it comes from the network; look whether that can be reached, and try again")
            .run()?;
    }
    if !answers(&["cargo", "fuzz", "--version"]) {
        eprintln!("cargo-fuzz is missing and is compiled, once; it takes some minutes");
        Run::cargo()
            .args(["install", "--locked", "cargo-fuzz"])
            .mend("it comes from crates.io; look whether that can be reached, and try again")
            .run()?;
    }
    Ok(())
}

/// The nightly cargo, at the root of the workspace.
fn nightly() -> Run {
    Run::new("rustup")
        .args(["run", "nightly", "cargo"])
        .directory(&workspace::root())
        .without_cargos_environment()
}

fn first_sentence(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let text = lines.collect::<Vec<_>>().join(" ");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = words.find(". ").unwrap_or(words.len());
    words[..end].trim_end_matches('.').to_owned()
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<14}{:>8}{:>13}{:>8}{:>8}  finding",
        "target", "seconds", "executions", "edges", "inputs"
    )];
    for row in rows {
        lines.push(format!(
            "{:<14}{:>8}{:>13}{:>8}{:>8}  {}",
            row.target,
            row.seconds,
            row.executions,
            row.edges,
            row.inputs,
            if row.finding.is_some() { "yes" } else { "none" }
        ));
    }
    lines.join("\n")
}

/// Where the fuzz crate lies.
const IN_FOLDER: [&str; 2] = ["--fuzz-dir", "tests/fuzz"];

/// Lines of a fuzzer's last words.
const TOLD: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_figures_of_a_run() {
        let mut row = Row::default();
        row.take("#120	INITED cov: 310 ft: 900 corp: 40/2048b exec/s: 0 rss: 60Mb");
        row.take("#4096	pulse  cov: 412 ft: 1300 corp: 55/4Kb lim: 80 exec/s: 2048 rss: 90Mb");
        row.take("stat::number_of_executed_units: 123456");
        row.take("artifact_prefix='x/'; Test unit written to x/crash-1");
        let expected = Row {
            executions: 123_456,
            edges: 412,
            inputs: 55,
            finding: Some("x/crash-1".to_owned()),
            ..Row::default()
        };
        assert_eq!(row, expected);
    }

    #[test]
    fn says_what_each_target_holds() {
        for target in Target::all().expect("the folder is there") {
            assert!(target.holds.len() > 20, "{}: {}", target.name, target.holds);
        }
        let source = "//! One. Two\n//! lines.\n\nuse x;";
        assert_eq!(first_sentence(source), "One");
    }

    #[test]
    fn a_target_that_is_none_is_told_with_those_there_are() {
        let known = Target::all().expect("the folder is there");
        let failure = chosen(&known, &["no-such".to_owned()])
            .err()
            .expect("it is none");
        assert!(failure.why.contains("milter"), "{failure}");
    }
}
