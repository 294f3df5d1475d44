//! One sentence as the kernel holds it, and the little that the program writes into it.

use super::{Config, KernelTime};

/// What the kernel holds on one sentenced network.
///
/// User space writes whole entries, since the kernel knows no other way, and carries over what the
/// program wrote; the program writes [`arrival`](Self::arrival), [`drops`](Self::drops),
/// [`admitted`](Self::admitted) and [`dropped`](Self::dropped) in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ClientEntry {
    /// When the sentence ends. The kernel checks it, so a dead daemon cannot punish for ever.
    pub until: KernelTime,
    /// The theoretical arrival time of the next connection, by the GCRA (ITU-T I.371, annex A): how
    /// far it lies ahead of the present is how much of the [`Limit`](super::Limit) is used up.
    pub arrival: KernelTime,
    /// SYNs that were dropped, or would have been but for [`Level::Observe`] or
    /// [`Config::OBSERVE`]; one that comes again counts again.
    pub drops: u64,
    /// The last connection that was let through, and how often its SYN has come again.
    pub admitted: Admitted,
    pub(super) level: u8,
    /// The last connection that a limit did not let through.
    pub dropped: Dropped,
    /// The [`Config::generation`] under which user space found that the entry overlaps no allowed
    /// network; any other number makes the program ask the trie.
    pub generation: u16,
}

impl ClientEntry {
    /// An entry of `level` that lapses at `until`, that has met nobody, and whose overlap with
    /// allowed networks is not known.
    pub const fn new(level: Level, until: KernelTime) -> Self {
        Self {
            until,
            arrival: KernelTime::from_nanos(0),
            drops: 0,
            admitted: Admitted::NONE,
            level: level as u8,
            dropped: Dropped::NONE,
            generation: Config::NO_GENERATION,
        }
    }

    /// The same with what the program wrote into `prior`, which it replaces: the drops, and how much
    /// of the limit is used up unless it is another limit now.
    #[must_use]
    pub const fn carrying_over(self, prior: &Self) -> Self {
        let same_limit = self.level == prior.level;
        Self {
            drops: prior.drops,
            dropped: prior.dropped,
            arrival: if same_limit {
                prior.arrival
            } else {
                self.arrival
            },
            admitted: if same_limit {
                prior.admitted
            } else {
                self.admitted
            },
            ..self
        }
    }

    /// How hard the sentence is; `None` when a newer daemon wrote a level this build does not know.
    #[inline(always)]
    pub const fn level(&self) -> Option<Level> {
        Level::from_byte(self.level)
    }
}

/// The last connection that a limit let through, so that its SYN, sent again because the answer was
/// lost, is not charged again: 29 bits that tell it from others, and how often it came again.
///
/// Bounded, since SYNs can be forged: after [`Admitted::REPEATS`] a repetition is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Admitted(u32);

impl Admitted {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Repetitions that are free: `net.ipv4.tcp_syn_retries` of Linux is 6 (ip-sysctl).
    pub const REPEATS: u32 = 6;

    /// The connection with this mark, whose SYN has come once. Only the upper 29 bits of `mark` are
    /// kept.
    #[inline(always)]
    pub const fn first(mark: u32) -> Self {
        Self(mark & !Self::COUNT | 1)
    }

    /// Whether this is the connection with this `mark`, with a repetition left to it.
    #[inline(always)]
    pub const fn is_again(self, mark: u32) -> bool {
        (self.0 ^ mark) & !Self::COUNT == 0
            && self.0 & Self::COUNT != 0
            && self.0 & Self::COUNT <= Self::REPEATS
    }

    /// The same with one more repetition.
    #[inline(always)]
    #[must_use]
    pub const fn again(self) -> Self {
        Self(self.0 + 1)
    }

    /// As it lies in memory.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The bits that count: 1 at the first SYN, 7 when no repetition is left, 0 for nobody.
    const COUNT: u32 = 7;
}

/// The last connection that a limit did not let through, so that its SYN, sent again since nobody
/// answered, is not counted as another connection: 8 bits that tell it from others.
///
/// Of connections that all differ, one in 256 is taken for the one before. Where SYNs of several come
/// in turns, none is known again, and each counts. No more is decided by this than a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Dropped(u8);

impl Dropped {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The connection with this mark.
    #[inline(always)]
    pub const fn of(mark: u32) -> Self {
        let bits = (mark >> 24) as u8;
        Self(if bits == 0 { 1 } else { bits })
    }
}

/// How hard a sentence is, the hardest last. 0 is no level, so that a zeroed entry is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// New connections are counted and pass.
    Observe = 1,
    /// New connections beyond [`Config::rate`] are dropped.
    Rate = 2,
    /// New connections beyond [`Config::block`], a much smaller limit, are dropped.
    Block = 3,
}

impl Level {
    #[inline(always)]
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Observe),
            2 => Some(Self::Rate),
            3 => Some(Self::Block),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_has_six_free_repetitions() {
        let mark = 0xdead_beef;
        assert!(!Admitted::NONE.is_again(mark));
        assert!(!Admitted::NONE.is_again(0), "nobody is no connection");
        let mut admitted = Admitted::first(mark);
        for repetition in 0..Admitted::REPEATS {
            assert!(admitted.is_again(mark), "{repetition}");
            assert!(!admitted.is_again(mark ^ 8), "another connection");
            admitted = admitted.again();
        }
        assert!(!admitted.is_again(mark));
    }

    #[test]
    fn every_dropped_connection_is_somebody() {
        for high in 0..=0xff {
            assert_ne!(Dropped::of(high << 24), Dropped::NONE, "{high:#x}");
        }
        assert_ne!(Dropped::of(0x0200_0000), Dropped::of(0x0300_0000));
    }

    #[test]
    fn unknown_level_is_none() {
        let mut entry = ClientEntry::new(Level::Block, KernelTime::from_nanos(1));
        assert_eq!(entry.level(), Some(Level::Block));
        entry.level = 77;
        assert_eq!(entry.level(), None);
        entry.level = 0;
        assert_eq!(entry.level(), None);
    }
}
