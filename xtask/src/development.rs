//! The configuration that a development daemon runs with: all state under `target/run`.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use crate::{command::Failure, workspace};

/// Where the development milter listens.
pub(crate) const MILTER: &str = "inet:127.0.0.1:8892";

/// Loopback is there on every machine, and no foreign mail comes over it.
pub(crate) const DEFAULT_INTERFACE: &str = "lo";

/// Pins lie apart from those of an installed greygate on the same machine.
const PIN_DIRECTORY: &str = "/sys/fs/bpf/greygate-development";

/// Whether, and where, the development daemon filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter<'a> {
    /// Generic mode on this interface.
    On(&'a str),
    /// No kernel filter.
    Off,
}

/// Writes the configuration. The daemon makes the folders it names, with the rights it wants them
/// to have.
pub(crate) fn write(filter: Filter<'_>) -> Result<PathBuf, Failure> {
    let directory = workspace::run_directory();
    let path = directory.join("greygate.toml");
    let text = text(&directory, &workspace::object(), filter);
    workspace::write_atomically(&path, text.as_bytes())?;
    Ok(path)
}

/// Finds a mistyped interface while it can still be said before anything is built.
pub(crate) fn interface(name: &str) -> Result<(), Failure> {
    if !name.is_empty() && Path::new("/sys/class/net").join(name).exists() {
        return Ok(());
    }
    Err(Failure::new(
        format!("there is no interface {name:?}"),
        "the kernel filter is attached to one that clients come in by",
        "ip -brief link",
    ))
}

/// Finds a daemon that runs already, before its configuration is written over.
pub(crate) fn nobody_else() -> Result<(), Failure> {
    let socket = workspace::run_directory().join("control.sock");
    if UnixStream::connect(&socket).is_err() {
        return Ok(());
    }
    Err(Failure::new(
        "a development daemon runs already",
        format!("it answers at {}", socket.display()),
        "end it with Ctrl-C, or run another with --config FILE",
    ))
}

fn text(directory: &Path, object: &Path, filter: Filter<'_>) -> String {
    let interfaces = match filter {
        Filter::On(interface) => literal(interface),
        Filter::Off => String::new(),
    };
    format!(
        r#"# Written by `cargo xtask` at each start; copy it to change it.

[milter]
listen = ["{MILTER}"]

[xdp]
interfaces = [{interfaces}]
mode = "generic"
pin = false # Ctrl-C leaves nothing; `cargo xtask load` pins all the same
object = {object}
pin_directory = "{PIN_DIRECTORY}"
panic_file = {panic_file}

[store]
directory = {store}

[admin]
socket = {socket}

[metrics]
listen = "127.0.0.1:9892"
"#,
        object = literal(&object.to_string_lossy()),
        panic_file = literal(&directory.join("xdp-panic").to_string_lossy()),
        store = literal(&directory.join("store").to_string_lossy()),
        socket = literal(&directory.join("control.sock").to_string_lossy()),
    )
}

/// A TOML string, with what TOML would read otherwise escaped.
fn literal(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_state_under_the_target_folder() {
        let text = text(
            Path::new("/src/target/run"),
            Path::new("/src/target/bpf/x.o"),
            Filter::On("lo"),
        );

        assert!(text.contains("interfaces = [\"lo\"]\n"), "{text}");
        assert!(text.contains("mode = \"generic\"\n"), "{text}");
        assert!(text.contains("pin = false "), "{text}");
        assert!(
            text.contains("object = \"/src/target/bpf/x.o\"\n"),
            "{text}"
        );
        assert!(
            text.contains("panic_file = \"/src/target/run/xdp-panic\"\n"),
            "{text}"
        );
        assert!(
            text.contains("directory = \"/src/target/run/store\"\n"),
            "{text}"
        );
        assert!(
            text.contains("socket = \"/src/target/run/control.sock\"\n"),
            "{text}"
        );
        assert!(!text.contains("/var/"), "{text}");
    }

    #[test]
    fn names_no_interface_without_the_kernel() {
        let text = text(Path::new("/run"), Path::new("/x.o"), Filter::Off);

        assert!(text.contains("interfaces = []\n"), "{text}");
    }

    #[test]
    fn escapes_what_toml_would_read_otherwise() {
        assert_eq!(literal(r#"/a "b"\c"#), r#""/a \"b\"\\c""#);
    }
}
