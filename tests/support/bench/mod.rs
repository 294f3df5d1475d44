//! What the benchmarks have in common: a table with targets, and a bar while it is filled.

pub mod progress;
pub mod report;
