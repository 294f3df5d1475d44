//! Several hosts of a site that share what they remember through a real Redis.
//!
//! Every test has an engine of its own in a namespace of its own. Run by `cargo xtask test`; needs root and
//! redis-server.

mod backlog;
mod begin_anew;
mod clocks;
mod daemon;
mod delivery;
mod engine;
mod failover;
mod hosts;
mod marks;
mod merge;
mod refusals;
mod sharing;
mod stranger;
mod tls;
