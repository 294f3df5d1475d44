//! The harness of the integration tests.
//!
//! What is here plays the world around greygate; what is tested is always the real thing.

pub mod requirements;
