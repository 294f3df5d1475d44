//! The kernel filter by hand, without a daemon.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::failure::Failure;
use crate::config::rooms::kernel;
use crate::config::{self, ConfigError};

/// Attaches the filter so that it outlives this command.
pub(super) fn load(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    say(json, &kernel::load(&settings).map_err(Failure::of)?)
}

/// Removes what [`load`] attached.
pub(super) fn unload(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    say(json, &kernel::unload(&settings).map_err(Failure::of)?)
}

/// Takes the filter off, whatever state the configuration is in.
pub(super) fn panic(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = match config::read_anywhere(file) {
        Ok(config) => config.xdp,
        Err(error) => {
            if !is_absent(&error) {
                eprintln!("greygate: {error}\ngreygate: going on with the default paths");
            }
            kernel::Settings::default()
        }
    };
    say(json, &kernel::panic(&settings).map_err(Failure::of)?)
}

fn is_absent(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn say(json: bool, done: &impl ToString) -> Result<(), Failure> {
    let done = done.to_string();
    if json {
        writeln!(io::stdout(), "{}", json!({ "done": done }))?;
    } else {
        writeln!(io::stdout(), "{done}")?;
    }
    Ok(())
}
