//! Which XDP program is on an interface, and what kind of interface it is, asked of the kernel
//! through route netlink.
//!
//! The answer is the truth about every way of attaching (link, netlink, another process), where
//! our own records only know what we did. Minimum kernel 4.13 for program numbers.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};

use super::status::ObtainedMode;

/// A route netlink socket. It stays in the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// A program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// The kernel's number of the program.
    pub(super) program: u32,
    /// Where it runs.
    pub(super) mode: ObtainedMode,
}

/// An interface, as far as it matters to whoever attaches a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// Whether its frames have an Ethernet header.
    pub(super) is_ethernet: bool,
    /// The programs on it: none, or one for each mode in use.
    pub(super) programs: Vec<Attached>,
    /// What it is, such as `vlan`, `bond` or `veth`; empty for hardware.
    pub(super) kind: String,
    /// What it is a member of, such as `bond`; empty for nothing.
    pub(super) member_of: String,
    /// The index of the interface it is built upon, such as a VLAN's parent.
    pub(super) parent: Option<u32>,
    /// The largest frame it takes.
    pub(super) mtu: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        // The kernel answers before `send` returns; the time limit is for a kernel gone wrong.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self { socket })
    }

    /// The programs on the interface with this index: none, or one for each mode in use.
    pub(super) fn attached(&self, interface: u32) -> io::Result<Vec<Attached>> {
        Ok(self.device(interface)?.programs)
    }

    /// The interface with this index.
    pub(super) fn device(&self, interface: u32) -> io::Result<Device> {
        send(
            self.socket.as_raw_fd(),
            &link_request(interface),
            MsgFlags::empty(),
        )?;
        let mut answer = vec![0; 32 * 1024];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        parse_link(&answer[..length])
    }
}

fn link_request(interface: u32) -> [u8; 32] {
    let mut request = [0; 32];
    request[..4].copy_from_slice(&32_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request[20..24].copy_from_slice(&interface.to_ne_bytes());
    request
}

fn parse_link(message: &[u8]) -> io::Result<Device> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "netlink answer cut short");
    let kind = u16_at(message, 4).ok_or_else(cut)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = u32_at(message, 16).ok_or_else(cut)?.cast_signed();
        return Err(io::Error::from_raw_os_error(-errno));
    }
    if kind != libc::RTM_NEWLINK {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("netlink answer of kind {kind}"),
        ));
    }
    let hardware = u16_at(message, HARDWARE).ok_or_else(cut)?;
    let attributes = message.get(HEADERS..).ok_or_else(cut)?;
    let number = |kind| attribute(attributes, kind).and_then(|value| u32_at(value, 0));
    let info = attribute(attributes, IFLA_LINKINFO).unwrap_or_default();
    Ok(Device {
        // The loopback makes itself an Ethernet header.
        is_ethernet: matches!(hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK),
        programs: attribute(attributes, IFLA_XDP)
            .map(parse_xdp)
            .unwrap_or_default(),
        kind: word(info, IFLA_INFO_KIND),
        member_of: word(info, IFLA_INFO_SLAVE_KIND),
        parent: number(IFLA_LINK),
        mtu: number(IFLA_MTU),
    })
}

/// A text among `attributes`; empty when it is not there.
fn word(attributes: &[u8], kind: u16) -> String {
    let text = attribute(attributes, kind).unwrap_or_default();
    String::from_utf8_lossy(text)
        .trim_end_matches('\0')
        .to_owned()
}

fn parse_xdp(xdp: &[u8]) -> Vec<Attached> {
    let program = |kind| attribute(xdp, kind).and_then(|value| u32_at(value, 0));
    [
        (IFLA_XDP_DRV_PROG_ID, ObtainedMode::Native),
        (IFLA_XDP_SKB_PROG_ID, ObtainedMode::Generic),
        (IFLA_XDP_HW_PROG_ID, ObtainedMode::Offloaded),
    ]
    .into_iter()
    .filter_map(|(kind, mode)| program(kind).map(|program| Attached { program, mode }))
    .collect()
}

/// The value of the first attribute of `kind` in a run of them.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? & NLA_TYPE_MASK == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// `nlmsghdr` and `ifinfomsg`.
const HEADERS: usize = 32;
/// `ifi_type`, in the latter.
const HARDWARE: usize = 18;

const NLM_F_REQUEST: u16 = 1;
/// The two upper bits of an attribute's kind are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

// include/uapi/linux/if_link.h
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loopback_can_be_asked() {
        // Whatever is attached to it, index 1 is the loopback of any network namespace.
        let netlink = Netlink::open().expect("netlink needs no rights");
        let loopback = netlink.device(1).expect("the loopback exists");
        assert!(loopback.is_ethernet, "{loopback:?}");
    }

    #[test]
    fn unknown_interface_is_an_error_of_the_kernel() {
        let netlink = Netlink::open().expect("netlink needs no rights");
        let error = netlink.attached(0x7fff_ffff).expect_err("no such index");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn reads_the_program_of_each_mode() {
        let mut xdp = Vec::new();
        put(&mut xdp, 2, &[4]); // IFLA_XDP_ATTACHED: several
        put(&mut xdp, IFLA_XDP_DRV_PROG_ID, &77_u32.to_ne_bytes());
        put(&mut xdp, IFLA_XDP_SKB_PROG_ID, &78_u32.to_ne_bytes());
        let mut message = vec![0; HEADERS];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        put(&mut message, 3, b"eth0\0");
        put(&mut message, IFLA_XDP | 0x8000, &xdp);
        let device = parse_link(&message).expect("a well-formed answer");
        assert_eq!(
            device.programs,
            [
                Attached {
                    program: 77,
                    mode: ObtainedMode::Native
                },
                Attached {
                    program: 78,
                    mode: ObtainedMode::Generic
                },
            ]
        );
    }

    #[test]
    fn reads_what_an_interface_is() {
        let mut info = Vec::new();
        put(&mut info, IFLA_INFO_KIND, b"vlan\0");
        put(&mut info, IFLA_INFO_SLAVE_KIND, b"bond\0");
        let mut message = vec![0; HEADERS];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message[HARDWARE..HARDWARE + 2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        put(&mut message, IFLA_MTU, &9_000_u32.to_ne_bytes());
        put(&mut message, IFLA_LINK, &3_u32.to_ne_bytes());
        put(&mut message, IFLA_LINKINFO | 0x8000, &info);
        let device = parse_link(&message).expect("a well-formed answer");
        assert_eq!(
            device,
            Device {
                is_ethernet: true,
                programs: Vec::new(),
                kind: "vlan".to_owned(),
                member_of: "bond".to_owned(),
                parent: Some(3),
                mtu: Some(9_000),
            }
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_link(&bytes);
        }
    }

    fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("short values");
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
}
