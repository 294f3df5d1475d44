//! Whether this process could use the paths that the configuration names.
//!
//! Only looks: making directories and sockets is left to the rooms that own them. The kernel
//! filter's paths are not looked at, since mail flows without them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::unistd::{AccessFlags, Group, Uid, eaccess};

use super::document::Document;
use super::model::Config;
use crate::milter::Endpoint;

/// Refuses paths that cannot be used, at the line that names them.
pub(super) fn check(config: &Config, document: &mut Document<'_>) {
    let mut judge = |section, key, result: Result<(), String>| {
        if let Err(what) = result {
            document.refuse(section, key, &what);
        }
    };
    judge("store", "directory", directory(&config.store.directory));
    let seed = &config.store.seed_file;
    // One that will be made in the directory needs what the directory needs.
    if seed.exists() || seed.parent() != Some(&config.store.directory) {
        judge("store", "seed_file", file(seed));
    }
    for endpoint in &config.milter.listen {
        if let Endpoint::Unix(path) = endpoint {
            judge("milter", "listen", milter_socket(path));
        }
    }
    judge("admin", "socket", socket(&config.admin.socket));
    judge("admin", "group", group(&config.admin.group));
}

/// A directory that exists and can be written, or can be made.
fn directory(path: &Path) -> Result<(), String> {
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) if !found.is_dir() => {
                return Err(format!(
                    "{} is no directory; name another",
                    ancestor.display()
                ));
            }
            Ok(_) => return writable(ancestor),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => {
                return Err(format!(
                    "{} cannot be looked at: {error}",
                    ancestor.display()
                ));
            }
        }
    }
    Err(format!("{} has no directory above it", path.display()))
}

fn file(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(format!("{} is no plain file; name another", path.display()))
        }
        Ok(_) => eaccess(path, AccessFlags::R_OK)
            .map_err(|error| format!("{} cannot be read: {error}", path.display())),
        Err(_) => parent(path),
    }
}

fn socket(path: &Path) -> Result<(), String> {
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "{} is too long for a socket; the system takes at most {LONGEST_SOCKET_PATH} bytes",
            path.display()
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(format!(
            "{} exists and is no socket; remove it or name another",
            path.display()
        )),
        _ => parent(path),
    }
}

/// One that is there may be handed over by systemd, which then needs nothing of us; where it is not,
/// the start says what is in the way.
fn milter_socket(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        _ => socket(path),
    }
}

fn parent(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(parent) => directory(parent),
        None => Err(format!("{} is no file; name one", path.display())),
    }
}

fn writable(directory: &Path) -> Result<(), String> {
    eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
        format!(
            "{} cannot be written by uid {}: {}; change its owner or name another",
            directory.display(),
            Uid::effective(),
            error.desc().to_lowercase()
        )
    })
}

fn group(name: &str) -> Result<(), String> {
    match Group::from_name(name) {
        Ok(None) if !name.is_empty() => Err(format!(
            "there is no group {name:?} here; make it with `groupadd --system {name}`, or write \"\""
        )),
        // A directory service that is down at boot must not keep mail waiting.
        _ => Ok(()),
    }
}

/// `sun_path` of `unix(7)`, less its closing zero.
const LONGEST_SOCKET_PATH: usize = 107;
