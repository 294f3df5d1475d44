//! One interface: which mode to try, what is there already, what was obtained.
//!
//! Minimum kernel 5.9, for XDP links: the attachment is held by a file descriptor, so that it ends
//! with the process however that ends. Other people's programs are never replaced.

use std::io;

use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink, loaded_programs};
use greylist_ebpf::abi;
use nix::net::if_::if_nametoindex;

use super::{
    FilterError, Mode,
    netlink::{Attached, Netlink},
};

/// The program's attachment to one interface.
#[derive(Debug)]
pub(super) struct Attachment {
    /// The interface's index.
    pub(super) index: u32,
    /// Holds the attachment; dropping it detaches.
    pub(super) link: FdLink,
    /// Why the mode that was tried first was not had.
    pub(super) why: Option<String>,
}

/// Attaches `program` to `interface` in the best mode that `mode` allows.
pub(super) fn attach(
    program: &mut Xdp,
    interface: &str,
    mode: Mode,
    netlink: &Netlink,
) -> Result<Attachment, FilterError> {
    let index = if_nametoindex(interface)
        .map_err(|_| FilterError::UnknownInterface(interface.to_owned()))?;
    refuse_occupied(interface, index, netlink)?;
    let mut attach = |mode| attach_in_mode(program, interface, index, mode);
    let (link, why) = match mode {
        Mode::Generic => (attach(XdpMode::Skb)?, None),
        Mode::NativeRequired => (attach(XdpMode::Driver)?, None),
        Mode::NativePreferred => match attach(XdpMode::Driver) {
            Ok(link) => (link, None),
            Err(error) if depends_on_the_mode(&error) => {
                (attach(XdpMode::Skb)?, Some(error.chain()))
            }
            Err(error) => return Err(error),
        },
    };
    Ok(Attachment { index, link, why })
}

fn attach_in_mode(
    program: &mut Xdp,
    interface: &str,
    index: u32,
    mode: XdpMode,
) -> Result<FdLink, FilterError> {
    let link = program
        .attach_to_if_index(index, mode)
        .map_err(|error| FilterError::Attach {
            interface: interface.to_owned(),
            mode: match mode {
                XdpMode::Driver => "native",
                _ => "generic",
            },
            source: os_error(error),
        })?;
    program
        .take_link(link)
        .ok()
        .and_then(|link| FdLink::try_from(link).ok())
        .ok_or_else(|| FilterError::AttachedWithoutLink(interface.to_owned()))
}

/// Whether another mode may succeed where this one failed.
fn depends_on_the_mode(error: &FilterError) -> bool {
    let FilterError::Attach { source, .. } = error else {
        return false;
    };
    !matches!(
        source.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::EBUSY | libc::EEXIST | libc::ENODEV)
    )
}

fn refuse_occupied(interface: &str, index: u32, netlink: &Netlink) -> Result<(), FilterError> {
    let there = netlink
        .attached(index)
        .map_err(FilterError::io(format!("asking what is on `{interface}`")))?;
    let Some(&Attached { program, .. }) = there.first() else {
        return Ok(());
    };
    Err(match program_name(program) {
        Some(name) if name == abi::PROGRAM => FilterError::AttachedAlready {
            interface: interface.to_owned(),
            program,
        },
        Some(name) => FilterError::ForeignProgram {
            interface: interface.to_owned(),
            program: format!("number {program}, `{name}`"),
        },
        None => FilterError::ForeignProgram {
            interface: interface.to_owned(),
            program: format!("number {program}"),
        },
    })
}

/// The name of a program; `None` when it may not be read, which needs `CAP_SYS_ADMIN`.
pub(super) fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
}

fn os_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        ProgramError::IOError(error) => error,
        other => io::Error::other(other),
    }
}
