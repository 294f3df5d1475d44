//! The harness of the integration tests and of `cargo xtask lab`.
//!
//! What is here plays the world around greygate: a clock to turn, an MTA to play, namespaces to
//! throw away, a real Postfix, an SMTP client that tells what it was told. What is tested is
//! always the real thing.
//!
//! Everything made here is a guard: dropping it, also by a panic or after SIGINT, removes what it
//! stands for.

#[cfg(feature = "bench")]
pub mod bench;
pub mod bpffs;
pub mod clock;
pub mod dns;
pub mod engine;
pub mod error;
pub mod greygate;
pub mod hosts;
pub mod interrupt;
pub mod links;
pub mod load;
pub mod mta;
pub mod netns;
pub mod pool;
pub mod postfix;
pub mod process;
pub mod promises;
pub mod requirements;
pub mod site;
pub mod smtp;
pub mod story;

pub use error::Error;
