//! The kernel filter by hand, without a daemon.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::failure::Failure;
use crate::config::{self, ConfigError};
use crate::kernel;

/// Attaches the filter so that it outlives this command.
pub(super) fn load(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    let loaded = kernel::load(&settings).map_err(Failure::of)?;
    say(json, &loaded, || {
        format!(
            "filtering {}; pinned in {}",
            loaded.interfaces.join(", "),
            loaded.directory.display()
        )
    })
}

/// Removes what [`load`] attached.
pub(super) fn unload(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    let unloaded = kernel::unload(&settings).map_err(Failure::of)?;
    say(json, &unloaded, || {
        let directory = unloaded.directory.display();
        if unloaded.pins.is_empty() {
            format!("nothing was loaded in {directory}")
        } else {
            format!("removed {} from {directory}", unloaded.pins.join(", "))
        }
    })
}

/// Takes the filter off, whatever state the configuration is in.
pub(super) fn panic(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = match config::read_anywhere(file) {
        Ok(config) => config.xdp,
        Err(error) => {
            if !is_absent(&error) {
                eprintln!("{error}\ngreygate: going on with the default paths");
            }
            kernel::Settings::default()
        }
    };
    let panicked = kernel::panic(&settings).map_err(|error| {
        if settings.panic_file.exists() {
            let flag = settings.panic_file.display();
            eprintln!("greygate: left {flag}: nothing new is attached until it is removed");
        }
        Failure::of(error)
    })?;
    say(json, &panicked, || {
        format!(
            "detached from {} interfaces, removed {} pins; nothing is attached until {} is removed",
            panicked.detached,
            panicked.pins.len(),
            panicked.flag.display()
        )
    })
}

fn is_absent(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn say(json: bool, done: &impl Serialize, words: impl Fn() -> String) -> Result<(), Failure> {
    if json {
        let done = serde_json::to_string(done).expect("what was done is plain data");
        writeln!(io::stdout(), "{done}")?;
    } else {
        writeln!(io::stdout(), "{}", words())?;
    }
    Ok(())
}
