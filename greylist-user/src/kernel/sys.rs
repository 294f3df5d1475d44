//! The calls of bpf(2) that aya does not have: all of greygate's unsafe user-space code.
//!
//! Minimum kernel 5.9. [`detach_link`] needs `CAP_SYS_ADMIN`; the batches need no right but the
//! map's descriptor, since the kernel asked for it when the descriptor was made.
#![expect(
    unsafe_code,
    reason = "aya has no BPF_LINK_DETACH and no batches, and a system call takes a pointer"
)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Pod;

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
    // Without /proc it counts as attached: detaching twice does no harm.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    if info.lines().any(|line| line == "ifindex:\t0") {
        return Ok(false);
    }
    let fd = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    bpf(BPF_LINK_DETACH, &[fd])?;
    Ok(true)
}

/// The index of the interface that the link pinned at `path` is on; 0 when it is on none any more.
///
/// # Errors
///
/// What the kernel says, or `InvalidData` for what is no link to an interface.
pub(super) fn interface_of_link(path: &Path) -> io::Result<u32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes {
        path: path.as_ptr() as u64,
        ..PinAttributes::default()
    };
    // SAFETY: the kernel reads `path`, which ends with a zero and lives until it returns.
    let fd = unsafe { bpf_with(BPF_OBJ_GET, &mut attributes)? };
    // SAFETY: the kernel has just made the descriptor for us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("ifindex:\t"))
        .and_then(|index| index.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A map whose entries are read and written many at once.
///
/// The kernel told the sizes of key and value, so that no caller can make it write beyond a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchMap<'fd> {
    fd: BorrowedFd<'fd>,
    key_size: usize,
    value_size: usize,
}

/// How a batch ended: how much of it was done, and what stopped it.
#[derive(Debug)]
pub(super) struct Stopped {
    /// Entries done, from the first on.
    pub(super) done: usize,
    /// Why the next one was not.
    pub(super) error: io::Error,
}

/// What one look-up gave.
#[derive(Debug)]
pub(super) struct Looked {
    /// Entries at the front of the buffers.
    pub(super) count: usize,
    /// Where the next look-up goes on; `None` when this was the last.
    pub(super) next: Option<Place>,
}

/// Where in a map a look-up goes on: a bucket of a hash map, an index of an array. The kernel alone
/// knows how to read it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub(super) struct Place(u32);

impl<'fd> BatchMap<'fd> {
    /// The map behind `fd`: a hash map or an array, whose places take four bytes.
    ///
    /// # Errors
    ///
    /// What the kernel says, or `EINVAL` for a map of another kind.
    pub(super) fn new(fd: BorrowedFd<'fd>) -> io::Result<Self> {
        let mut info = MapInfo::default();
        let mut attributes = InfoAttributes {
            fd: u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
            length: u32::try_from(size_of::<MapInfo>()).map_err(io::Error::other)?,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        // SAFETY: the kernel writes `length` bytes at most to `info`, which lives until it returns.
        unsafe { bpf_with(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
        if !matches!(info.kind, BPF_MAP_TYPE_HASH | BPF_MAP_TYPE_ARRAY) || info.key_size == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self {
            fd,
            key_size: usize::try_from(info.key_size).map_err(io::Error::other)?,
            value_size: usize::try_from(info.value_size).map_err(io::Error::other)?,
        })
    }

    /// Bytes of a key.
    pub(super) fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of a value.
    pub(super) fn value_size(&self) -> usize {
        self.value_size
    }

    /// Reads entries into the buffers, as many as fit, from the map's beginning or from a place.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the next bucket of a hash map holds more than the buffers do: larger ones can
    /// go on at the same place.
    pub(super) fn look_up(
        &self,
        from: Option<Place>,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<Looked> {
        let mut next = Place::default();
        let mut attributes = BatchAttributes {
            in_place: from
                .as_ref()
                .map_or(0, |from| std::ptr::from_ref(from) as u64),
            out_place: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: self.count(keys.len(), Some(values.len()))?,
            ..self.attributes()?
        };
        // SAFETY: `count` keys and values fit into the buffers, and a place of both kinds of map
        // has the four bytes of a `Place`; all of them live until the call returns.
        let result = unsafe { bpf_with(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
        let count = usize::try_from(attributes.count).map_err(io::Error::other)?;
        match result {
            Ok(_) => Ok(Looked {
                count,
                next: Some(next),
            }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(Looked { count, next: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes entries in their order, over what is there. The kernel knows no other way here.
    pub(super) fn update<K: Pod, V: Pod>(&self, keys: &[K], values: &[V]) -> Result<(), Stopped> {
        let fits = size_of::<K>() == self.key_size && size_of::<V>() == self.value_size;
        if !fits || keys.len() != values.len() {
            return Err(Stopped::at_the_beginning(libc::EINVAL));
        }
        self.write(BPF_MAP_UPDATE_BATCH, keys, bytes_of(values).as_ptr() as u64)
    }

    /// Removes entries in their order, up to the first that is not there.
    pub(super) fn delete<K: Pod>(&self, keys: &[K]) -> Result<(), Stopped> {
        if size_of::<K>() != self.key_size {
            return Err(Stopped::at_the_beginning(libc::EINVAL));
        }
        self.write(BPF_MAP_DELETE_BATCH, keys, 0)
    }

    /// `values` points to as many values as there are keys, or is 0 where there are none.
    fn write<K: Pod>(&self, command: libc::c_long, keys: &[K], values: u64) -> Result<(), Stopped> {
        let keys = bytes_of(keys);
        let count = self.count(keys.len(), None)?;
        let mut attributes = BatchAttributes {
            keys: keys.as_ptr() as u64,
            values,
            count,
            ..self.attributes()?
        };
        // SAFETY: the kernel only reads, `count` keys and as many values, which live until the call
        // returns.
        let written = unsafe { bpf_with(command, &mut attributes) };
        written.map(drop).map_err(|error| {
            let done = attributes.count;
            Stopped {
                // Kernels before 6.8 leave the count as it was when they refuse the call itself.
                done: if done == count { 0 } else { done as usize },
                error,
            }
        })
    }

    fn attributes(&self) -> io::Result<BatchAttributes> {
        Ok(BatchAttributes {
            map: u32::try_from(self.fd.as_raw_fd()).map_err(io::Error::other)?,
            ..BatchAttributes::default()
        })
    }

    /// Entries that buffers of so many bytes hold.
    fn count(&self, keys: usize, values: Option<usize>) -> io::Result<u32> {
        let count = values.map_or(usize::MAX, |values| values / self.value_size);
        u32::try_from(count.min(keys / self.key_size)).map_err(io::Error::other)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self { done: 0, error }
    }
}

impl Stopped {
    fn at_the_beginning(errno: i32) -> Self {
        io::Error::from_raw_os_error(errno).into()
    }
}

/// Values as they lie in memory.
pub(super) fn bytes_of<T: Pod>(values: &[T]) -> &[u8] {
    // SAFETY: `Pod` promises that every byte is initialised, and the bytes live as the values do.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The value that lies in the first bytes of `bytes`; `None` when they are too few.
pub(super) fn value_of<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, `Pod` promises that any of them are a value, and an unaligned
    // read asks for no alignment.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The head of `struct bpf_map_info`.
#[derive(Default)]
#[repr(C)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
}

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` has it.
#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// `union bpf_attr` as `BPF_OBJ_GET` has it.
#[derive(Default)]
#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` as the batches have it.
#[derive(Default)]
#[repr(C)]
struct BatchAttributes {
    in_place: u64,
    out_place: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Calls bpf(2) with attributes that the kernel may write to.
///
/// # Safety
///
/// `attributes` is what `command` takes, without padding, and its pointers hold for the call.
unsafe fn bpf_with<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the caller's promise; `attributes` itself is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
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

// enum bpf_cmd and enum bpf_map_type in include/uapi/linux/bpf.h
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
