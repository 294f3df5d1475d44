//! The two calls of bpf(2) that aya does not have: all of greygate's unsafe user-space code.
//!
//! Minimum kernel 5.9. Needs `CAP_SYS_ADMIN`.
#![expect(
    unsafe_code,
    reason = "aya has no BPF_LINK_DETACH, and a system call takes a pointer"
)]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Detaches the link with this number from its interface, whoever holds or pins it. Returns
/// whether it was attached: a link that was detached before lives as long as somebody holds it.
///
/// # Errors
///
/// What the kernel says: `ENOENT` when there is no such link (any more), `EPERM` without rights.
pub(super) fn detach_link(id: u32) -> io::Result<bool> {
    let fd = bpf(BPF_LINK_GET_FD_BY_ID, &[id, 0, 0])?;
    // SAFETY: the kernel has just made the descriptor for us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    if info.lines().any(|line| line == "ifindex:\t0") {
        return Ok(false);
    }
    let fd = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    bpf(BPF_LINK_DETACH, &[fd])?;
    Ok(true)
}

/// Calls bpf(2) with the head of a `union bpf_attr`; the kernel takes what is not given as zero.
fn bpf(command: libc::c_long, attributes: &[u32]) -> io::Result<i32> {
    // SAFETY: both commands only read `attributes`, as many bytes of it as the last argument says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

// enum bpf_cmd in include/uapi/linux/bpf.h
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;
