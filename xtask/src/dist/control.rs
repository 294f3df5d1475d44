//! What the Debian package says of itself: pure, from a few facts.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};

use crate::command::Failure;

/// What differs from one package to the next.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) architecture: &'static str,
    pub(super) maintainer: String,
    /// What the program itself needs; what the scripts need is the same for all.
    pub(super) depends: String,
    /// Seconds since 1970.
    pub(super) epoch: u64,
}

impl Facts {
    pub(super) fn file_name(&self) -> String {
        format!("greygate_{}_{}.deb", self.version, self.architecture)
    }

    /// The file `control`; `kibibytes` is what is installed.
    pub(super) fn control(&self, kibibytes: u64) -> String {
        let Self {
            version,
            architecture,
            maintainer,
            depends,
            ..
        } = self;
        format!(
            "\
Package: greygate
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {kibibytes}
Depends: {depends}, {OF_THE_SCRIPTS}
Section: mail
Priority: optional
Description: greylisting milter for Postfix that drops hammering clients
 Greygate defers the first attempt of an unknown combination of client
 network, sender and recipient, lets a retry pass once the delay is over, and
 remembers who behaves. A client that hammers is sentenced, and its
 connections are dropped in the kernel before Postfix sees them.
 .
 All state is in memory, with snapshots on disk; there is no database to run.
"
        )
    }

    /// The changelog of the package; what changed in the program is in the program's own. `date` is
    /// that of `date -R`.
    pub(super) fn changelog(&self, date: &str) -> String {
        let Self {
            version,
            maintainer,
            ..
        } = self;
        format!(
            "\
greygate ({version}) unstable; urgency=medium

  * Built by `cargo xtask dist`; what changed is in changelog.gz beside this.

 -- {maintainer}  {date}
"
        )
    }
}

/// The version as dpkg orders it: a tilde sorts before the end, so that `1.0.0-rc.1` comes before
/// `1.0.0`.
pub(super) fn debian_version(version: &str, revision: u32) -> String {
    format!("{}-{revision}", version.replacen('-', "~", 1))
}

/// Debian's name for what Rust calls `architecture`.
pub(super) fn debian_architecture(architecture: &str) -> Result<&'static str, Failure> {
    ARCHITECTURES
        .into_iter()
        .find_map(|(rust, debian)| (rust == architecture).then_some(debian))
        .ok_or_else(|| {
            Failure::new(
                "the Debian package cannot be made",
                format!("Debian's name for {architecture} is not known"),
                "add it to ARCHITECTURES in xtask/src/dist/control.rs",
            )
        })
}

/// The file `md5sums`: each path without its leading slash, with what is in it.
pub(super) fn md5sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut text = String::new();
    for (path, bytes) in files {
        for byte in Md5::digest(bytes) {
            let _infallible = write!(text, "{byte:02x}");
        }
        let _infallible = writeln!(text, "  {path}");
    }
    text
}

/// The user that the socket is for comes with Postfix; users and directories are made from what
/// systemd reads.
const OF_THE_SCRIPTS: &str = "postfix, \
    systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles";

const ARCHITECTURES: [(&str, &str); 4] = [
    ("x86_64", "amd64"),
    ("aarch64", "arm64"),
    ("riscv64", "riscv64"),
    ("powerpc64", "ppc64el"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: debian_version("0.1.0", 2),
            architecture: "amd64",
            maintainer: "A B <a@b.example>".to_owned(),
            depends: "libc6 (>= 2.34)".to_owned(),
            epoch: 0,
        }
    }

    #[test]
    fn version_of_a_candidate_comes_before_the_release() {
        assert_eq!(debian_version("1.0.0", 1), "1.0.0-1");
        assert_eq!(debian_version("1.0.0-rc.1", 3), "1.0.0~rc.1-3");
    }

    #[test]
    fn control_file_names_version_size_and_needs() {
        let control = facts().control(33_000);
        for line in [
            "Version: 0.1.0-2",
            "Architecture: amd64",
            "Maintainer: A B <a@b.example>",
            "Installed-Size: 33000",
        ] {
            assert!(control.lines().any(|it| it == line), "{line}\n{control}");
        }
        assert!(control.contains("\nDepends: libc6 (>= 2.34), postfix, "));
        assert!(control.ends_with(".\n"), "dpkg wants the last line feed");
        assert_eq!(facts().file_name(), "greygate_0.1.0-2_amd64.deb");
    }

    #[test]
    fn sums_are_those_of_md5sum() {
        let files = [("usr/a", &b"abc"[..]), ("usr/b", &b""[..])];
        assert_eq!(
            md5sums(files),
            "900150983cd24fb0d6963f7d28e17f72  usr/a\nd41d8cd98f00b204e9800998ecf8427e  usr/b\n"
        );
    }

    #[test]
    fn changelog_ends_with_who_and_when() {
        let date = "Thu, 01 Jan 1970 00:00:00 +0000";
        let changelog = facts().changelog(date);
        assert!(changelog.starts_with("greygate (0.1.0-2) unstable"));
        assert!(changelog.ends_with(&format!(" -- A B <a@b.example>  {date}\n")));
    }

    #[test]
    fn architecture_that_debian_calls_otherwise_is_translated() {
        assert_eq!(debian_architecture("x86_64").ok(), Some("amd64"));
        let failure = debian_architecture("pdp11").expect_err("Debian has none");
        assert!(failure.to_string().contains("pdp11"), "{failure}");
    }
}
