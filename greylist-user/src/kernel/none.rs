//! The filter where there is none.

use ipnet::IpNet;

use super::{Change, Entry, FilterError, FilterStatus, KernelFilter};
use crate::policy::Timestamp;

/// No filter in the kernel, and why. Every connection reaches Postfix; sentences are kept in the
/// store and shown, and nothing is dropped.
#[derive(Clone, Debug)]
pub struct NoFilter {
    why: String,
}

impl NoFilter {
    /// No filter, for the reason `why`.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

impl KernelFilter for NoFilter {
    fn apply(&mut self, _: &[Change], _: Timestamp) -> Result<(), FilterError> {
        Ok(())
    }

    fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
        Ok(Vec::new())
    }

    fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
        Ok(())
    }

    fn tend(&mut self) {}

    fn capacity(&self) -> u32 {
        0
    }

    fn status(&self) -> FilterStatus {
        FilterStatus::Off {
            why: self.why.clone(),
        }
    }
}
