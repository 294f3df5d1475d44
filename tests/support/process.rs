//! Programs: run to their end, or kept running until their guard is dropped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::interrupt;
use crate::netns::Namespace;

/// How long a program may take to end after SIGTERM.
const TERMINATION: Duration = Duration::from_mins(1);

/// Runs a program to its end and returns what it printed; an error when it fails. It has a process
/// group of its own: a Ctrl-C on the terminal must not stop `ip` half way to what a guard removes.
pub fn run(command: &mut Command) -> Result<String, Error> {
    run_on(command, Stdio::null())
}

/// Like [`run`], with something to read.
pub fn run_on(command: &mut Command, input: impl Into<Stdio>) -> Result<String, Error> {
    let output = command
        .stdin(input)
        .process_group(0)
        .output()
        .map_err(Error::io(format!("running `{}`", line(command))))?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`run`], inside a namespace.
pub fn run_in(namespace: &Namespace, command: &mut Command) -> Result<String, Error> {
    namespace.run(|| run(command))
}

/// Copies a program to where another user finds it.
///
/// By a process of its own: a copy that this one had open for writing would stay open in whatever
/// another thread starts at that moment, and a program that is open for writing cannot be executed.
pub fn copy_program(from: &Path, to: &Path) -> Result<(), Error> {
    run(Command::new("cp").arg("--").args([from, to])).map(drop)
}

/// A program that runs until its guard is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Service {
    /// Starts `command` inside `namespace`, in a process group of its own, so that a Ctrl-C on the
    /// terminal reaches only us. What it prints is appended to `log`.
    pub fn start(namespace: &Namespace, command: &mut Command, log: &Path) -> Result<Self, Error> {
        let name = line(command);
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::io(format!("opening {}", log.display())))?;
        let errors = file
            .try_clone()
            .map_err(Error::io(format!("opening {}", log.display())))?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0);
        let child = namespace
            .spawn(command)
            .map_err(Error::io(format!("starting `{name}`")))?;
        let log = log.to_owned();
        Ok(Self { child, log, name })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log when it has ended by itself.
    pub fn check_alive(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Command {
                command: self.name.clone(),
                status,
                output: tail(&self.log, 20),
            }),
            Err(source) => Err(Error::io(format!("waiting for `{}`", self.name))(source)),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let sending = format!("sending {signal} to `{}`", self.name);
        kill(pid, signal).map_err(|errno| Error::io(sending)(errno.into()))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(mut self) -> Result<ExitStatus, Error> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it without a word (SIGKILL), as a crash would.
    pub fn kill(mut self) -> Result<ExitStatus, Error> {
        self.end(Signal::SIGKILL)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus, Error> {
        let waiting = format!("waiting for `{}`", self.name);
        if let Some(status) = self.child.try_wait().map_err(Error::io(&waiting))? {
            return Ok(status);
        }
        self.signal(signal)?;
        let ended = interrupt::settle(TERMINATION, || self.child.try_wait().transpose());
        match ended {
            Some(status) => status.map_err(Error::io(&waiting)),
            None => Err(Error::TimedOut {
                what: format!("the end of `{}` after {signal}", self.name),
                after: TERMINATION,
            }),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.end(Signal::SIGTERM).is_err() {
            // It did not end in time. Both fail only when it has ended now, which is what is wanted.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The last `lines` lines of a file, or why there are none.
pub fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(content) => {
            let text = String::from_utf8_lossy(&content);
            let all: Vec<_> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

fn check(command: &Command, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    Err(Error::Command {
        command: line(command),
        status: output.status,
        output: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpgrp;

    use super::*;

    #[test]
    fn program_that_is_run_is_out_of_reach_of_a_ctrl_c() -> Result<(), Error> {
        let script = "read -r pid name state parent group rest < /proc/$$/stat; echo $group";
        let group = run(Command::new("sh").args(["-c", script]))?;
        assert_ne!(group.trim(), getpgrp().to_string());
        assert!(group.trim().parse::<u32>().is_ok(), "{group}");
        Ok(())
    }
}
