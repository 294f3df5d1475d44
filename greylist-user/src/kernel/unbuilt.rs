//! What a greygate without the feature `xdp` answers when a kernel filter is asked for.

use super::{
    FilterError, InterfaceStatus, KernelFilter, Loaded, Panicked, Pinned, Settings, Unloaded,
};

pub(super) fn open_xdp(_: &Settings) -> Result<Box<dyn KernelFilter>, FilterError> {
    Err(FilterError::NotBuilt)
}

#[expect(clippy::unnecessary_wraps, reason = "with a kernel filter it may fail")]
pub(super) fn let_go(_: &Settings) -> Result<(), FilterError> {
    Ok(())
}

/// Loads nothing: this binary has no kernel filter.
///
/// # Errors
///
/// Always [`FilterError::NotBuilt`].
pub fn load(_: &Settings) -> Result<Loaded, FilterError> {
    Err(FilterError::NotBuilt)
}

/// Unloads nothing: this binary has no kernel filter.
///
/// # Errors
///
/// Always [`FilterError::NotBuilt`].
pub fn unload(_: &Settings) -> Result<Unloaded, FilterError> {
    Err(FilterError::NotBuilt)
}

/// Detaches nothing: this binary has no kernel filter.
///
/// # Errors
///
/// Always [`FilterError::NotBuilt`].
pub fn panic(_: &Settings) -> Result<Panicked, FilterError> {
    Err(FilterError::NotBuilt)
}

/// Tries nothing out: this binary has no kernel filter.
///
/// # Errors
///
/// Always [`FilterError::NotBuilt`].
pub fn try_out(_: &Settings) -> Result<Trial, FilterError> {
    Err(FilterError::NotBuilt)
}

/// Nothing that this binary could look at.
///
/// # Errors
///
/// Always [`FilterError::NotBuilt`].
pub fn look(_: &Settings) -> Result<Option<Pinned>, FilterError> {
    Err(FilterError::NotBuilt)
}

/// A trial, of which there is none without a kernel filter.
pub enum Trial {}

impl Trial {
    /// The interfaces that are filtered.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        match *self {}
    }

    /// Pins it.
    ///
    /// # Errors
    ///
    /// Never: there is no trial.
    pub fn keep(self) -> Result<Loaded, FilterError> {
        match self {}
    }

    /// Detaches it.
    pub fn end(self) {
        match self {}
    }
}
