//! Who may own pins, and their directory.
//!
//! Whoever may write there rules the filter. What is trusted is root's, our own, and for root the
//! daemon's; a symbolic link never is, since anybody may write to one by its mode.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{User, geteuid};

use super::FilterError;

/// Refuses what somebody else may have put there. What does not exist is nobody's.
pub(super) fn check(path: &Path) -> Result<(), FilterError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(FilterError::io(format!("looking at {}", path.display()))(
                error,
            ));
        }
    };
    let owner = metadata.uid();
    let mode = metadata.mode() & 0o7777;
    if is_trusted(owner) && mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(FilterError::StrangeOwner {
            path: path.to_owned(),
            owner,
            mode,
        })
    }
}

/// Whether pins of this user are as good as our own: root's, and for root the daemon's, whose user
/// the package makes.
fn is_trusted(owner: u32) -> bool {
    let us = geteuid();
    let is_daemon = || {
        let daemon = User::from_name(DAEMON).ok().flatten();
        daemon.is_some_and(|daemon| daemon.uid.as_raw() == owner)
    };
    owner == 0 || owner == us.as_raw() || us.is_root() && is_daemon()
}

/// The user that the shipped unit runs the daemon as.
const DAEMON: &str = "greygate";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symbolic_link_is_nobodys_to_trust() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let link = directory.path().join("pins");
        symlink(directory.path(), &link).expect("a writable directory");
        assert!(check(directory.path()).is_ok());
        let error = check(&link).expect_err("it may lead anywhere");
        assert!(error.to_string().contains("mode 0777"), "{error}");
    }
}
