//! Why a command did not do what it was asked, and the exit code that says so.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::admin::CallError;
use crate::chain::chain;
use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// The configuration is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The daemon did not answer, or said no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was asked for failed.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
    /// What draws on a terminal has none.
    #[error(
        "standard output is no terminal to draw on; `greygate top --once` prints one screen, and `greygate top --json` a document each time"
    )]
    NoTerminal,
    /// Something wants an operator.
    #[error("{0}")]
    Unhealthy(String),
    /// The filter was tried out, and nobody confirmed it.
    #[error("{0}: the filter is detached again, and nothing is left of it")]
    Unconfirmed(String),
    /// It cannot be asked for like that.
    #[error(transparent)]
    Usage(Box<dyn Error + Send + Sync>),
    /// The answer could not be written.
    #[error("the answer cannot be written")]
    Write(#[from] io::Error),
}

impl Failure {
    /// A failure of some other room.
    pub(super) fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    /// What was asked for is not to be had, whatever the daemon would say.
    pub(super) fn usage(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Usage(Box::new(error))
    }

    /// 2 for what the operator must write differently, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::NoTerminal | Self::Usage(_) => 2,
            _ => 1,
        })
    }

    /// The failure with its causes, on one line; a configuration's problems one a line, each
    /// beginning with its place, so that editors find it.
    pub fn for_people(&self) -> String {
        match self {
            Self::Config(ConfigError::Illegal(_)) => chain(self),
            _ => format!("greygate: {}", chain(self)),
        }
    }
}
