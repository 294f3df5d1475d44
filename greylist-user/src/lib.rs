//! Greygate keeps a busy MX host standing: a greylisting milter for Postfix that holds millions
//! of tuples in memory and drops the new connections of clients that hammer in the kernel.
//!
//! The rooms, and the way of one attempt through them:
//!
//! ```text
//! MTA --bytes--> milter --Attempt--> store (holds the entry's lock) --> policy::decide
//!                  ^                   |                                   |
//!                  +---- Verdict ------+---- next Record <-----------------+
//!                                      |
//!                                   Effects --channel--> kernel (XDP maps)
//! ```
//!
//! What an attempt cannot tell of its client, `dns` is asked before it is judged, where that is wanted.
//!
//! This library is published for the binary and the integration tests only.

pub mod admin;
mod chain;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod dns;
mod host;
pub mod kernel;
pub mod log;
pub mod milter;
pub mod policy;
pub mod simulate;
mod socket_file;
pub mod store;
pub mod transfer;

/// Of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");
