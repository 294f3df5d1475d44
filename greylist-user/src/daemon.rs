//! Who is plugged into whom.

use std::path::Path;

use thiserror::Error;

use crate::config::Config;

/// Runs the daemon until it is told to stop.
pub fn run(_file: &Path, _config: Config) -> Result<(), DaemonError> {
    Err(DaemonError::Unplugged)
}

/// Why the daemon does not run.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The rooms are not plugged together yet.
    #[error("the rooms are not plugged together yet")]
    Unplugged,
}
