//! What can be in the way of a kernel filter, each with its likely cause and how to mend it.
//!
//! The kernel answers with bare numbers, and the same number means different things at different
//! calls. So each step has its own table from number to sentence.

use std::{error::Error, io, path::PathBuf};

use crate::chain::chain;

/// Why a step of the kernel filter failed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The object speaks another ABI version than this daemon.
    #[error(
        "{} speaks ABI version {found} and this greygate version {expected}; install both from one build",
        path.display()
    )]
    AbiVersion {
        /// The object.
        path: PathBuf,
        /// The version it says.
        found: u32,
        /// The version of this daemon.
        expected: u32,
    },
    /// What is pinned under the name of a link of ours is something else.
    #[error(
        "{} is no link of greygate's; remove it, and restart greygate to pin here again",
        .0.display()
    )]
    AlienPin(PathBuf),
    /// A trial was asked for while pins are there.
    #[error(
        "{} holds pins already, so that there is nothing to try out; `greygate xdp unload` removes them",
        .0.display()
    )]
    AlreadyPinned(PathBuf),
    /// The kernel does not attach the program to an interface.
    #[error(
        "`{interface}` takes no program in {mode} mode: {}{hint}",
        attach_cause(source)
    )]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: &'static str,
        /// What the kind of interface has to do with it, after a semicolon; empty for nothing.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another greygate filters the interface already.
    #[error(
        "`{interface}` is already filtered by greygate (program {program}): a running daemon, or what one left pinned in another directory, which `greygate xdp unload` with its configuration removes"
    )]
    AttachedAlready {
        /// The interface.
        interface: String,
        /// The kernel's number of the program.
        program: u32,
    },
    /// The kernel attached the program in a way that would outlive the process.
    #[error(
        "`{0}` took the program without a link, which would outlive greygate; `ip link set dev {0} xdp off` removes it"
    )]
    AttachedWithoutLink(String),
    /// Another program than greygate's is on the interface; it is never replaced.
    #[error(
        "`{interface}` already has an XDP program, {program}, and greygate replaces none but its own"
    )]
    ForeignProgram {
        /// The interface.
        interface: String,
        /// The kernel's number of the program, and its name where it may be read.
        program: String,
    },
    /// The kernel's table of one address family is full.
    #[error("the kernel's table of {family} sentences is full at {capacity}; raise [xdp] capacity")]
    Full {
        /// The address family.
        family: &'static str,
        /// Entries that fit.
        capacity: u32,
    },
    /// A file or socket that the filter needs cannot be used.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel does not take the program or its maps.
    #[error("the kernel does not take {what}: {}", load_cause(source))]
    Load {
        /// The program, or which of its maps.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map in the kernel cannot be used.
    #[error("the kernel's map {map} cannot be {done}")]
    Map {
        /// The name of the map.
        map: &'static str,
        /// What was to be done with it.
        done: &'static str,
        /// What the kernel or the library said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is nothing to attach to.
    #[error("[xdp] interfaces names no interface")]
    NoInterface,
    /// The binary has no kernel filter in it.
    #[error("this greygate was built without a kernel filter (feature `xdp`)")]
    NotBuilt,
    /// The place for the pins is not on a BPF file system.
    #[error(
        "{path} is no BPF file system; `mkdir -p {path} && mount -t bpf -o mode=0700 bpf {path}` \
         makes it one, as the shipped unit does",
        path = .0.display()
    )]
    NoBpfFs(PathBuf),
    /// The program reads Ethernet frames, and would take these for something else.
    #[error(
        "the frames of `{0}` have no Ethernet header, as in most tunnels: the filter cannot read them; name the interfaces with Ethernet frames, whose clients are filtered all the same"
    )]
    NotEthernet(String),
    /// The file is no kernel program of greygate's.
    #[error("{} is not greygate's kernel program: {detail}; `cargo xtask build` makes it", path.display())]
    NotOurObject {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The kernel program cannot be read.
    #[error("the kernel program {} cannot be read", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel is older than the program needs.
    #[error(
        "this kernel, {0}, is too old for a kernel filter: 6.1 is the oldest that has all it needs"
    )]
    OldKernel(String),
    /// What is pinned cannot be read by this version.
    #[error(
        "what is pinned in {} is another version's of greygate: a start of this one takes it over, and `greygate xdp unload` takes it off",
        .0.display()
    )]
    OtherVersion(PathBuf),
    /// `greygate xdp panic` was called, and its flag is still there.
    #[error("`greygate xdp panic` forbids it; remove {} and restart greygate to filter again", .0.display())]
    Panicked(PathBuf),
    /// Another process works on the pins.
    #[error(
        "another greygate holds {}: a running daemon, which must be stopped first, or `greygate xdp load` or `unload`; `greygate xdp panic` takes the filter off in any case",
        .0.display()
    )]
    PinsLocked(PathBuf),
    /// The pins, or their directory, may have been put there by somebody else.
    #[error(
        "{} belongs to uid {owner} with mode {mode:04o}; greygate trusts pins of root and its own only, writable by nobody else",
        path.display()
    )]
    StrangeOwner {
        /// The file or directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The kernel does not swap the program in a link that is pinned; the old one filters on.
    #[error(
        "the program on `{interface}` cannot be swapped, and the old one filters on; `greygate xdp unload` takes it off"
    )]
    Swap {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Everything was attached, but what was to outlive the process would not.
    #[error("the filter cannot be pinned, so it was detached again: {0}")]
    Unpinned(String),
    /// What an earlier greygate pinned could not be taken over.
    #[error(
        "what an earlier greygate pinned filters on, and nobody rules it: its sentences end by themselves, `forgive` does not reach them, and `greygate xdp unload` takes it off; it was not taken over because"
    )]
    Unruled(#[source] Box<FilterError>),
    /// There is no such interface.
    #[error("there is no interface `{0}`")]
    UnknownInterface(String),
}

impl FilterError {
    /// For `map_err`: what was being done when the system said no.
    #[cfg(feature = "xdp")]
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The message with its causes, on one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

fn attach_cause(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => RIGHTS,
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is there, or on an interface it is joined with"
        }
        Some(libc::EOPNOTSUPP) => {
            "its driver has no XDP of this mode, or not with its present offloads (virtio_net: receive offloads on the host's side; `ethtool -K` switches lro and gro_hw)"
        }
        Some(libc::ERANGE | libc::EINVAL) => {
            "its driver refuses it; an MTU above 3,500 and large receive offload (LRO) are the usual causes"
        }
        Some(libc::ENOMEM | libc::ENOSPC) => {
            "its driver has no memory or no queues left for it: fewer channels (ethtool -L) may help, and virtio_net wants twice as many queues as CPUs"
        }
        Some(libc::ENODEV) => "the interface has gone",
        _ => "the kernel refuses it",
    }
}

fn load_cause(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => RIGHTS,
        // bpf(2): what the verifier cannot prove to be safe.
        Some(libc::EACCES) => {
            "its verifier does not accept the object; [log] level = \"debug\" shows its reasons"
        }
        Some(libc::ENOSYS) => "it is built without bpf(2)",
        Some(libc::ENOMEM) => "there is not enough memory; a smaller [xdp] capacity needs less",
        Some(libc::E2BIG) => {
            "it is too large for this kernel; 6.1 is the oldest that greygate knows"
        }
        Some(libc::EINVAL) => {
            "it is not what this kernel expects; 6.1 is the oldest that greygate knows, and [xdp] capacity must be at least 1"
        }
        _ => "the kernel refuses it",
    }
}

const RIGHTS: &str = "CAP_BPF and CAP_NET_ADMIN are needed; start greygate as root or with them";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_likely_cause_and_what_the_kernel_said() {
        let error = FilterError::Attach {
            interface: "eth0".to_owned(),
            mode: "native",
            hint: String::new(),
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        };
        let text = error.chain();
        assert!(text.contains("`eth0`"), "{text}");
        assert!(text.contains("driver has no XDP"), "{text}");
        assert!(text.contains("os error 95"), "{text}");
    }

    #[test]
    fn missing_rights_are_named() {
        let error = FilterError::Load {
            what: "the program".to_owned(),
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert!(error.chain().contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn refusal_by_the_verifier_is_no_want_of_rights() {
        let error = FilterError::Load {
            what: "the program".to_owned(),
            source: io::Error::from_raw_os_error(libc::EACCES),
        };
        assert!(error.chain().contains("verifier"));
        assert!(!error.chain().contains("CAP_BPF"));
    }
}
