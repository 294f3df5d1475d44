//! What lies where once greygate is installed.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};

use super::control::{self, Facts};
use crate::{
    command::{Failure, Run},
    workspace,
};

/// Lays out under `root` what is the same on every system.
pub(super) fn lay_out(root: &Path, daemon: &Path, object: &Path) -> Result<(), Failure> {
    put(root, "usr/sbin/greygate", &read(daemon)?, PROGRAM)?;
    put(
        root,
        "usr/lib/greygate/greygate-xdp.o",
        &read(object)?,
        FILE,
    )?;
    for (from, to) in FILES {
        put(root, to, &read(&source(from))?, FILE)?;
    }
    for (from, to) in PACKED {
        put(root, to, &packed(&read(&source(from))?)?, FILE)?;
    }
    // What the source has beside the units: dashboards, alert rules, lists.
    for path in extras()? {
        put(
            root,
            &format!("{SHARED}/{}", name(&path)),
            &read(&path)?,
            FILE,
        )?;
    }
    let of_an_operator = |path: &PathBuf| !FOR_DEVELOPERS.contains(&name(path).as_str());
    for path in files_in("docs")?.into_iter().filter(of_an_operator) {
        put(
            root,
            &format!("{DOCUMENTS}/{}", name(&path)),
            &read(&path)?,
            FILE,
        )?;
    }
    Ok(())
}

/// Adds what only dpkg wants: the configuration as a file of its own, and the control files.
pub(super) fn lay_out_for_debian(root: &Path, facts: &Facts) -> Result<(), Failure> {
    let configuration = read(&source(CONFIGURATION))?;
    put(root, "etc/greygate/greygate.toml", &configuration, FILE)?;
    let overrides = read(&source("greylist-user/dist/debian/lintian-overrides"))?;
    put(
        root,
        "usr/share/lintian/overrides/greygate",
        &overrides,
        FILE,
    )?;
    let date = Run::new("date")
        .args(["-R", "-u", "-d", &format!("@{}", facts.epoch)])
        .env("LC_ALL", "C")
        .quiet()
        .capture()?;
    let changelog = facts.changelog(date.trim());
    let changelog = packed(changelog.as_bytes())?;
    put(
        root,
        &format!("{DOCUMENTS}/changelog.Debian.gz"),
        &changelog,
        FILE,
    )?;

    let files = files_below(root)?;
    let mut contents = Vec::new();
    for path in &files {
        contents.push((path.as_str(), read(&root.join(path))?));
    }
    let bytes: u64 = contents.iter().map(|(_, it)| it.len() as u64).sum();
    let sums = contents
        .iter()
        .filter(|(path, _)| !path.starts_with("etc/"))
        .map(|(path, bytes)| (*path, bytes.as_slice()));
    put(
        root,
        "DEBIAN/md5sums",
        control::md5sums(sums).as_bytes(),
        FILE,
    )?;
    put(
        root,
        "DEBIAN/conffiles",
        b"/etc/greygate/greygate.toml\n",
        FILE,
    )?;
    let control = facts.control(bytes.div_ceil(1_024));
    put(root, "DEBIAN/control", control.as_bytes(), FILE)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = read(&source(&format!("greylist-user/dist/debian/{script}")))?;
        put(root, &format!("DEBIAN/{script}"), &text, PROGRAM)?;
    }
    Ok(())
}

fn put(root: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let path = root.join(to);
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(Failure::file("make", folder))?;
    fs::write(&path, bytes).map_err(Failure::file("write", &path))?;
    set_mode(&path, mode)?;
    // Whatever umask this runs under.
    for folder in path
        .ancestors()
        .skip(1)
        .take_while(|it| it.starts_with(root))
    {
        set_mode(folder, PROGRAM)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Failure::file("set the mode of", path))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(Failure::file("read", path))
}

fn source(path: &str) -> PathBuf {
    workspace::root().join(path)
}

/// Compressed without a name and a time, so that the same text makes the same file.
fn packed(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| Failure::new("cannot compress", error, "free some memory"))
}

fn extras() -> Result<Vec<PathBuf>, Failure> {
    let mut extras = files_in("greylist-user/dist")?;
    extras.retain(|path| !FILES.iter().any(|(from, _)| source(from) == *path));
    Ok(extras)
}

/// The files of a folder of the source, sorted; not what is in folders of it.
fn files_in(folder: &str) -> Result<Vec<PathBuf>, Failure> {
    let folder = source(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Failure::file("read", &folder))? {
        let path = entry.map_err(Failure::file("read", &folder))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Every file, by its path below `root`, sorted.
fn files_below(root: &Path) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Failure::file("read", &folder))? {
            let path = entry.map_err(Failure::file("read", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(root) {
                files.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;

const SHARED: &str = "usr/share/greygate";
const DOCUMENTS: &str = "usr/share/doc/greygate";
const CONFIGURATION: &str = "greylist-user/dist/greygate.toml";

/// Documents that nobody needs who runs greygate.
const FOR_DEVELOPERS: [&str; 4] = [
    "architecture.md",
    "benchmarks.md",
    "glossary.md",
    "requirements.md",
];

/// Files as they are in the source, and where they go.
const FILES: [(&str, &str); 8] = [
    (
        "greylist-user/dist/greygate.service",
        "usr/lib/systemd/system/greygate.service",
    ),
    (
        "greylist-user/dist/greygate.socket",
        "usr/lib/systemd/system/greygate.socket",
    ),
    (
        "greylist-user/dist/greygate-bpf.service",
        "usr/lib/systemd/system/greygate-bpf.service",
    ),
    (
        "greylist-user/dist/greygate.sysusers",
        "usr/lib/sysusers.d/greygate.conf",
    ),
    (
        "greylist-user/dist/greygate.tmpfiles",
        "usr/lib/tmpfiles.d/greygate.conf",
    ),
    (CONFIGURATION, "usr/share/greygate/greygate.toml"),
    (
        "greylist-user/dist/debian/copyright",
        "usr/share/doc/greygate/copyright",
    ),
    ("README.md", "usr/share/doc/greygate/README.md"),
];

/// Files that are compressed on the way.
const PACKED: [(&str, &str); 3] = [
    ("CHANGELOG.md", "usr/share/doc/greygate/changelog.gz"),
    ("docs/man/greygate.8", "usr/share/man/man8/greygate.8.gz"),
    (
        "docs/man/greygate.toml.5",
        "usr/share/man/man5/greygate.toml.5.gz",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_is_installed_is_in_the_source() {
        for (from, _) in FILES.into_iter().chain(PACKED) {
            assert!(source(from).is_file(), "{from}");
        }
    }

    #[test]
    fn what_lies_beside_the_units_is_shared_and_nothing_twice() {
        let names: Vec<_> = extras()
            .expect("the folder is there")
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        assert!(
            !names.iter().any(|name| name.starts_with("greygate.")),
            "{names:?}"
        );
    }
}
