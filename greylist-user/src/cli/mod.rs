//! The command line: what may be asked of greygate, and how the answer looks.
//!
//! Knows arguments, exit codes and the shape of what is printed. What a running daemon must do is
//! asked over the control socket; only `xdp load`, `unload` and `panic` work without one.

mod answer;
mod args;
mod check_config;
mod cluster;
mod commands;
mod export;
mod failure;
mod funnel;
mod import;
mod list;
mod listing;
mod moment;
mod paper;
mod progress;
mod recent;
mod reports;
mod simulate;
mod top;
mod why;
mod xdp;

pub use args::{Cli, Command, XdpCommand};
pub use commands::run;
pub use failure::Failure;
pub use paper::wants_colour;
