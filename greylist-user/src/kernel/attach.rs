//! One interface: which mode to try, what is there already, what was obtained.
//!
//! Minimum kernel 5.9, for XDP links: the attachment is held by a file descriptor, so that it ends
//! with the process however that ends, unless it is pinned. Attaching and swapping need no
//! capability, only the descriptor of a loaded program. Other people's programs are never replaced.

use std::{io, path::Path};

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, LinkType, PinnedLink},
    xdp::XdpLink,
};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{
    FilterError, Mode, ObtainedMode,
    identity::{self, Identity},
    netlink::{Attached, Device, Netlink},
    pins::{self, Pins},
    sys,
};

/// The program's attachment to one interface.
#[derive(Debug)]
pub(super) struct Attachment {
    /// The interface's index.
    pub(super) index: u32,
    /// Holds the attachment; dropping it detaches, unless it is pinned.
    pub(super) link: FdLink,
    /// Whether it was there before, and only its program was swapped.
    pub(super) is_adopted: bool,
    /// Why the mode that was tried first was not had.
    pub(super) why: Option<String>,
}

/// The index of `interface`.
pub(super) fn index_of(interface: &str) -> Result<u32, FilterError> {
    if_nametoindex(interface).map_err(|_| FilterError::UnknownInterface(interface.to_owned()))
}

fn name_of(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into_owned())
}

/// Attaches `program` to `interface` in the best mode that `mode` allows.
pub(super) fn attach(
    program: &mut Xdp,
    interface: &str,
    mode: Mode,
    netlink: &Netlink,
) -> Result<Attachment, FilterError> {
    let index = index_of(interface)?;
    let device = netlink
        .device(index)
        .map_err(FilterError::io(format!("asking what is on `{interface}`")))?;
    if !device.is_ethernet {
        return Err(FilterError::NotEthernet(interface.to_owned()));
    }
    refuse_occupied(interface, &device)?;
    let mut attach = |mode| attach_in_mode(program, interface, index, mode, &device);
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
    Ok(Attachment {
        index,
        link,
        is_adopted: false,
        why,
    })
}

/// Swaps `program` into the link that is pinned at `pin`, without a frame in between that meets no
/// program. `None`, and the pin is removed, when the link is on `interface` no longer, or in a mode
/// that `mode` does not allow: then the interface is to be attached to anew.
///
/// A link that fell back to generic mode once is kept so: trying the driver again would take it off
/// first, and the driver's answer seldom changes before the machine starts anew.
pub(super) fn adopt(
    program: &mut Xdp,
    interface: &str,
    pin: &Path,
    mode: Mode,
    netlink: &Netlink,
) -> Result<Option<Attachment>, FilterError> {
    let Some((index, obtained, link)) = pinned(interface, pin, netlink)? else {
        pins::remove_file(pin)?;
        return Ok(None);
    };
    let why = match (mode, obtained) {
        (Mode::Generic, ObtainedMode::Generic)
        | (
            Mode::NativePreferred | Mode::NativeRequired,
            ObtainedMode::Native | ObtainedMode::Offloaded,
        ) => None,
        (Mode::NativePreferred, _) => Some(KEPT_GENERIC.to_owned()),
        _ => {
            tracing::info!(interface, %obtained, wanted = %mode, "reattaching");
            pins::remove_file(pin)?;
            return Ok(None);
        }
    };
    let link = XdpLink::try_from(link).map_err(|_| FilterError::AlienPin(pin.to_owned()))?;
    let link = program
        .attach_to_link(link)
        .and_then(|link| program.take_link(link))
        .map_err(|error| FilterError::Swap {
            interface: interface.to_owned(),
            source: os_error(error),
        })?;
    let link = FdLink::try_from(link)
        .map_err(|_| FilterError::AttachedWithoutLink(interface.to_owned()))?;
    Ok(Some(Attachment {
        index,
        link,
        is_adopted: true,
        why,
    }))
}

/// Gives each pinned link the name that its interface has by now: one that was renamed, or two that
/// have changed names, are taken over like others.
pub(super) fn follow_renames(pins: &Pins, netlink: &Netlink) -> Result<(), FilterError> {
    for before in pins.interfaces()? {
        let pin = pins.link(&before);
        let index = sys::interface_of_link(&pin).ok();
        let Some(now) = index.and_then(name_of).filter(|now| *now != before) else {
            continue;
        };
        // In another network namespace the index would be another interface's.
        if let Ok(Some(_)) = pinned(&now, &pin, netlink) {
            pins.rename_link(&before, &now)?;
            tracing::info!(interface = now, before, "renamed");
        }
    }
    Ok(())
}

/// The link that is pinned at `pin`, and in which mode it is on `interface`; `None` when there is no
/// pin, or the link is not on the interface.
pub(super) fn pinned(
    interface: &str,
    pin: &Path,
    netlink: &Netlink,
) -> Result<Option<(u32, ObtainedMode, FdLink)>, FilterError> {
    if !pin.exists() {
        return Ok(None);
    }
    let alien = || FilterError::AlienPin(pin.to_owned());
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(|_| alien())?);
    // What is no link at all has no answer.
    let info = link.info().map_err(|_| alien())?;
    if info.link_type().ok() != Some(LinkType::Xdp) {
        return Err(alien());
    }
    let id = info.program_id();
    if matches!(identity::of(id), Identity::Foreign(_)) {
        return Err(alien());
    }
    let Ok(index) = index_of(interface) else {
        return Ok(None);
    };
    let there = netlink
        .attached(index)
        .map_err(FilterError::io(format!("asking what is on `{interface}`")))?;
    let ours = there.into_iter().find(|attached| attached.program == id);
    Ok(ours.map(|attached| (index, attached.mode, link)))
}

fn attach_in_mode(
    program: &mut Xdp,
    interface: &str,
    index: u32,
    mode: XdpMode,
    device: &Device,
) -> Result<FdLink, FilterError> {
    let link = program
        .attach_to_if_index(index, mode)
        .map_err(|error| FilterError::Attach {
            interface: interface.to_owned(),
            mode: match mode {
                XdpMode::Driver => "native",
                _ => "generic",
            },
            hint: hint(device, name_of),
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

/// What the kind of interface has to do with a refusal, as the end of a sentence.
fn hint(device: &Device, name: impl Fn(u32) -> Option<String>) -> String {
    let hint = match (device.kind.as_str(), device.member_of.as_str()) {
        ("vlan", _) => match device.parent.and_then(name) {
            Some(parent) => format!(
                "it is a VLAN of `{parent}`: name that in [xdp] interfaces, where tagged frames are judged as well"
            ),
            None => "it is a VLAN: name its parent in [xdp] interfaces".to_owned(),
        },
        (_, "bond") => "it is a member of a bond: name the bond, or all of its members, in [xdp] interfaces".to_owned(),
        ("bond", _) => "it is a bond: no member may have a program of its own, and its mode must be balance-rr, active-backup, balance-xor or 802.3ad; or else name its members in [xdp] interfaces".to_owned(),
        _ => match device.mtu {
            Some(mtu) if mtu > LINEAR_MTU => format!("its MTU is {mtu}"),
            _ => return String::new(),
        },
    };
    format!("; {hint}")
}

fn refuse_occupied(interface: &str, device: &Device) -> Result<(), FilterError> {
    let Some(&Attached { program, .. }) = device.programs.first() else {
        return Ok(());
    };
    let interface = interface.to_owned();
    Err(match identity::of(program) {
        Identity::Ours => FilterError::AttachedAlready { interface, program },
        Identity::Foreign(name) if !name.is_empty() => FilterError::ForeignProgram {
            interface,
            program: format!("number {program}, `{name}`"),
        },
        Identity::Foreign(_) | Identity::Unknown => FilterError::ForeignProgram {
            interface,
            program: format!("number {program}"),
        },
    })
}

fn os_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        ProgramError::IOError(error) => error,
        other => io::Error::other(other),
    }
}

const KEPT_GENERIC: &str = "it was pinned in this mode; `greygate xdp unload` and a restart of greygate try native mode again";
/// Up to here, most drivers have a frame in one piece.
const LINEAR_MTU: u32 = 3_500;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &str, member_of: &str) -> Device {
        Device {
            kind: kind.to_owned(),
            member_of: member_of.to_owned(),
            parent: Some(3),
            mtu: Some(1_500),
            ..Device::default()
        }
    }

    fn hint_for(device: &Device) -> String {
        hint(device, |index| (index == 3).then(|| "eth0".to_owned()))
    }

    #[test]
    fn vlan_sends_to_its_parent() {
        let hint = hint_for(&device("vlan", ""));
        assert!(hint.contains("`eth0`"), "{hint}");
        let orphan = Device {
            parent: None,
            ..device("vlan", "")
        };
        assert!(hint_for(&orphan).contains("its parent"));
    }

    #[test]
    fn bond_and_its_members_send_to_one_another() {
        let member = hint_for(&device("", "bond"));
        assert!(member.contains("name the bond"), "{member}");
        let bond = hint_for(&device("bond", ""));
        assert!(bond.contains("802.3ad"), "{bond}");
    }

    #[test]
    fn large_frames_are_named_and_plain_interfaces_need_no_hint() {
        assert_eq!(hint_for(&device("veth", "")), "");
        let jumbo = Device {
            mtu: Some(9_000),
            ..device("", "")
        };
        assert_eq!(hint_for(&jumbo), "; its MTU is 9000");
    }
}
