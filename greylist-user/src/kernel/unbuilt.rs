//! What a greygate without the feature `xdp` answers when a kernel filter is asked for.

use super::{FilterError, KernelFilter, Loaded, Panicked, Settings, Unloaded};

pub(super) fn open_xdp(_: &Settings) -> Result<Box<dyn KernelFilter>, FilterError> {
    Err(FilterError::NotBuilt)
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
