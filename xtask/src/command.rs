//! Running programs: each is echoed before it runs, and a failure says what, why and how to mend
//! it.
//!
//! Leaves to the tasks which programs to run, and what a failure means for the rest of the task.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

/// Why a task could not go on, as the person in front of the terminal needs it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error: {what}\n  why:  {why}\n  mend: {mend}")]
pub(crate) struct Failure {
    /// What could not be done.
    pub(crate) what: String,
    /// What stood in the way.
    pub(crate) why: String,
    /// The command or change that mends it.
    pub(crate) mend: String,
}

impl Failure {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl fmt::Display,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            mend: mend.into(),
        }
    }

    /// For `map_err` on file operations: the system's own words are the reason.
    pub(crate) fn file(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {action} {}", path.display());
        move |error| Self::new(what, error, "give this user access to it, or free space")
    }
}

/// One program to run.
pub(crate) struct Run {
    command: Command,
    program: String,
    mend: String,
    quiet: bool,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self {
            command: Command::new(program),
            program: program.to_string_lossy().into_owned(),
            mend: "read its output above".to_owned(),
            quiet: false,
        }
    }

    /// The cargo that runs this task, at the root of the workspace.
    ///
    /// What the outer `cargo run` put into the environment for this process stays outside: it would
    /// make the inner one rebuild what did not change.
    pub(crate) fn cargo() -> Self {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        Self::new(cargo)
            .directory(&crate::workspace::root())
            .without_cargos_environment()
    }

    pub(crate) fn without_cargos_environment(mut self) -> Self {
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                self.command.env_remove(&name);
            }
        }
        self
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What mends a failure of this program; without it the advice is to read its output.
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = mend.into();
        self
    }

    /// Leaves out the echo: for probes and for steps that a spinner already names.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs it with our own input and output, and fails when it does.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let status = self.status()?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failure(status))
        }
    }

    /// Runs it with our own input and output, and hands back how it ended.
    pub(crate) fn status(&mut self) -> Result<ExitStatus, Failure> {
        self.echo();
        self.command
            .status()
            .map_err(|error| self.not_started(&error))
    }

    /// Runs it and hands back what it wrote to standard output; its standard error becomes the
    /// reason of a failure.
    pub(crate) fn capture(mut self) -> Result<String, Failure> {
        self.echo();
        let Output {
            status,
            stdout,
            stderr,
        } = self
            .command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.not_started(&error))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let mut failure = self.failure(status);
        let said = tail(&String::from_utf8_lossy(&stderr), 15);
        if !said.is_empty() {
            failure.why = format!("{}; it said:\n{said}", failure.why);
        }
        Err(failure)
    }

    /// Runs it and hands back what it wrote to standard output; its standard error, and the progress
    /// that it shows there, are ours.
    pub(crate) fn tell(mut self) -> Result<String, Failure> {
        self.echo();
        let output = self
            .command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| self.not_started(&error))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        // What was measured before it failed is worth reading.
        eprintln!("{said}");
        Err(self.failure(output.status))
    }

    /// Runs it, passes what it writes through line by line and shows each line to `see`.
    ///
    /// Standard output and standard error arrive in one stream, in the order they were written.
    pub(crate) fn watch(mut self, mut see: impl FnMut(&str)) -> Result<ExitStatus, Failure> {
        self.echo();
        let (output, input) = io::pipe().map_err(|error| self.not_started(&error))?;
        let errors = input
            .try_clone()
            .map_err(|error| self.not_started(&error))?;
        self.command
            .stdin(Stdio::null())
            .stdout(input)
            .stderr(errors);
        let mut child = self
            .command
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        // The command holds our ends of the pipe; without them it ends when the child does.
        self.command = Command::new(&self.program);
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            see(&line);
        }
        child.wait().map_err(|error| self.not_started(&error))
    }

    /// The standard library's command, for a caller that must hold the child itself.
    pub(crate) fn into_command(self) -> Command {
        self.echo();
        self.command
    }

    fn echo(&self) {
        if !self.quiet {
            let mut line = self.shown_program();
            for argument in self.command.get_args() {
                line.push(' ');
                line.push_str(&shown(&argument.to_string_lossy()));
            }
            eprintln!("$ {line}");
        }
    }

    /// The program as one would type it: cargo by its name, others by their path.
    fn shown_program(&self) -> String {
        match self.file_name() {
            cargo if cargo == "cargo" => cargo,
            _ => shown(&self.program),
        }
    }

    fn file_name(&self) -> String {
        let name = Path::new(&self.program).file_name();
        name.unwrap_or_else(|| OsStr::new(&self.program))
            .to_string_lossy()
            .into_owned()
    }

    fn failure(&self, status: ExitStatus) -> Failure {
        Failure::new(
            format!("`{}` failed", self.name()),
            status,
            self.mend.clone(),
        )
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        Failure::new(
            format!("`{}` could not be started", self.name()),
            error,
            self.mend.clone(),
        )
    }

    /// The program and its first argument that is a plain word: enough to know which step it was.
    fn name(&self) -> String {
        let program = self.file_name();
        self.command
            .get_args()
            .map(OsStr::to_string_lossy)
            .find(|argument| {
                argument.starts_with(char::is_alphabetic) && !argument.contains([':', '=', '/'])
            })
            .map_or(program.clone(), |argument| format!("{program} {argument}"))
    }
}

/// Where `program` lies: on PATH, or in the system folders that an ordinary user's PATH leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// The last `count` lines of `text`, indented to stand under a failure's first line.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("        {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// An argument as a shell would take it.
pub(crate) fn shown(argument: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(character);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_step_that_failed_and_repeats_what_it_said() {
        let failure = Run::new("sh")
            .args(["-c", "echo the disk is full >&2; exit 3"])
            .quiet()
            .mend("free some space")
            .capture()
            .expect_err("the script exits with 3");

        let text = failure.to_string();
        assert!(text.contains("`sh "), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.contains("the disk is full"), "{text}");
        assert!(text.contains("mend: free some space"), "{text}");
    }

    #[test]
    fn says_which_program_is_not_there() {
        let failure = Run::new("no-such-program-here")
            .quiet()
            .run()
            .expect_err("there is no such program");

        assert!(failure.what.contains("no-such-program-here"), "{failure}");
    }

    #[test]
    fn quotes_arguments_that_a_shell_would_split() {
        assert_eq!(shown("--release"), "--release");
        assert_eq!(shown("two words"), "'two words'");
        assert_eq!(shown("it's"), r"'it'\''s'");
        assert_eq!(shown(""), "''");
    }

    #[test]
    fn shows_only_the_end_of_long_output() {
        assert_eq!(tail("a\nb\n\nc\n", 2), "        b\n        c");
    }
}
