//! The harness of the integration tests.

pub mod clock;
pub mod load;
pub mod mta;
