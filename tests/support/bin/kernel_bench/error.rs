//! What aya says, as the harness's error.

use std::{error, io};

use support::Error;

/// For `map_err`: what was being done when the kernel or aya refused.
pub(crate) fn failed<E>(what: impl Into<String>) -> impl FnOnce(E) -> Error
where
    E: error::Error + Send + Sync + 'static,
{
    let what = what.into();
    move |error| Error::io(what)(io::Error::other(error))
}

/// Something of the benchmark's own that is not there.
pub(crate) fn missing(what: impl Into<String>) -> Error {
    Error::io(what)(io::ErrorKind::NotFound.into())
}
