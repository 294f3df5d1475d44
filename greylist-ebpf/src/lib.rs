//! The contract between greygate's daemon and its XDP program.
//!
//! `no_std` and without dependencies, so that the same source is compiled into the kernel
//! program and tested on the host:
//!
//! - [`abi`]: what lies in the maps, byte for byte.
//! - [`packet`]: from a frame to a new SMTP connection, or to the reason it is none.
//! - [`gcra`]: whether one more connection is within a limit.
//! - [`verdict`]: from an entry and the kernel's time to what happens to the frame.
//!
//! It knows nothing of mail: what earns a sentence is the daemon's business.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows pointers into a frame through one function, not across calls"
)]

pub mod abi;
pub mod gcra;
pub mod packet;
pub mod verdict;
