//! What can go wrong while a stage is set or a scene is played.
//!
//! One enum for the whole harness: whoever reads it wants to know which step failed and what the
//! machine said, whatever part of the harness made the step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::smtp::SmtpError;

/// A step of the harness that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program ran and failed.
    #[error("`{command}` failed with {status}: {output}")]
    Command {
        /// The program with its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, standard error first.
        output: String,
    },
    /// A program could not be started, or a file or socket could not be used.
    #[error("{what}")]
    Io {
        /// What was being done, to which file, program or address.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody sent SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// A path that cannot be written into a configuration file.
    #[error("{} is not UTF-8", .0.display())]
    Path(PathBuf),
    /// An SMTP session broke off.
    #[error(transparent)]
    Smtp(#[from] SmtpError),
    /// A condition did not come true in time.
    #[error("{what} did not happen within {after:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// Something else than what had to be seen was seen.
    #[error("{what}: {seen}")]
    Unexpected {
        /// What should have been.
        what: String,
        /// What was.
        seen: String,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Something else than what had to be seen was seen.
    pub fn unexpected(what: impl Into<String>, seen: impl std::fmt::Display) -> Self {
        Self::Unexpected {
            what: what.into(),
            seen: seen.to_string(),
        }
    }

    /// The message with its causes, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
