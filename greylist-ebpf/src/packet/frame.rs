//! How a frame is read.

use crate::abi::Counter;

/// Read access to one frame.
///
/// Two ways, for the kernel's sake: a pointer plus a number that is known when the program is
/// loaded is free, but to add a number that the packet states to it takes `CAP_PERFMON`.
pub trait Frame {
    /// A part of the frame, in place.
    type Part<'a>: Part
    where
        Self: 'a;

    /// The `N` bytes that begin at `offset`, which must be a constant; `None` when the frame ends
    /// before.
    fn part<const N: usize>(&self, offset: usize) -> Option<Self::Part<'_>>;

    /// A copy of the `N` bytes that begin at `offset`, which the frame itself states; `None` when
    /// the frame ends before.
    fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// Some bytes of a frame, read field by field. Numbers are big-endian, as on every network; `AT` is
/// where in the part they begin, and must leave room for them.
pub trait Part {
    /// One byte.
    fn u8<const AT: usize>(&self) -> u8;

    /// Two bytes.
    fn u16<const AT: usize>(&self) -> u16;

    /// Four bytes.
    fn u32<const AT: usize>(&self) -> u32;

    /// Eight bytes.
    fn u64<const AT: usize>(&self) -> u64;
}

impl Frame for [u8] {
    type Part<'a> = &'a [u8];

    fn part<const N: usize>(&self, offset: usize) -> Option<&[u8]> {
        self.get(offset..)?.get(..N)
    }

    fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

impl Part for &[u8] {
    fn u8<const AT: usize>(&self) -> u8 {
        self[AT]
    }

    fn u16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes(core::array::from_fn(|index| self[AT + index]))
    }

    fn u32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes(core::array::from_fn(|index| self[AT + index]))
    }

    fn u64<const AT: usize>(&self) -> u64 {
        u64::from_be_bytes(core::array::from_fn(|index| self[AT + index]))
    }
}

/// A copied part.
impl<const N: usize> Part for [u8; N] {
    #[inline(always)]
    fn u8<const AT: usize>(&self) -> u8 {
        self[AT]
    }

    #[inline(always)]
    fn u16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes([self[AT], self[AT + 1]])
    }

    #[inline(always)]
    fn u32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes([self[AT], self[AT + 1], self[AT + 2], self[AT + 3]])
    }

    #[inline(always)]
    fn u64<const AT: usize>(&self) -> u64 {
        u64::from_be_bytes([
            self[AT],
            self[AT + 1],
            self[AT + 2],
            self[AT + 3],
            self[AT + 4],
            self[AT + 5],
            self[AT + 6],
            self[AT + 7],
        ])
    }
}

/// The part of `N` bytes at a constant `offset`.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized, const N: usize>(
    frame: &F,
    offset: usize,
) -> Result<F::Part<'_>, Counter> {
    frame.part::<N>(offset).ok_or(Counter::Truncated)
}

/// A copy of the `N` bytes at an `offset` that the frame states.
#[inline(always)]
pub(super) fn copy<F: Frame + ?Sized, const N: usize>(
    frame: &F,
    offset: usize,
) -> Result<[u8; N], Counter> {
    frame.copied(offset).ok_or(Counter::Truncated)
}
