//! Arguments in, exit code out: 0 done, 1 failed, 2 wrong usage or configuration.

use std::process::ExitCode;

use clap::Parser;
use greygate::cli::{Cli, run};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.for_people());
            failure.exit_code()
        }
    }
}
