//! An error and its causes, in one line: for log fields, answers and people.

use std::error::Error;

/// The error's message, and after a colon that of each cause.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot write")]
    struct Outer(#[source] io::Error);

    #[test]
    fn names_every_cause() {
        let error = Outer(io::Error::other("the disk is full"));
        assert_eq!(chain(&error), "cannot write: the disk is full");
    }
}
