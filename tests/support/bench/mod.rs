//! What the benchmarks have in common: a table with targets, a bar while it is filled, and sessions at a
//! server whose processes are counted.

pub mod daemon;
pub mod fill;
pub mod policy_service;
pub mod progress;
pub mod report;
pub mod run;
pub mod server;
pub mod visit;
