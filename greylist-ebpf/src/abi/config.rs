//! What holds for all sentences: how many connections get through, and under which flags.

/// How many new connections get through: one each `interval`, and after silence several at once.
/// The parameters of the GCRA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Nanoseconds from one connection to the next, in the long run.
    pub interval: u64,
    /// Nanoseconds that connections may come early.
    pub tolerance: u64,
}

impl Limit {
    /// One connection each `interval` nanoseconds, and up to `burst` at once after silence; 0 is
    /// taken for 1.
    pub const fn new(interval: u64, burst: u32) -> Self {
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_sub(1) as u64),
        }
    }
}

/// What holds for all entries. Written by user space, read by the program at a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The limit at [`Level::Rate`](super::Level::Rate).
    pub rate: Limit,
    /// The limit at [`Level::Block`](super::Level::Block).
    pub block: Limit,
    /// Least time in nanoseconds between two [`Event`](super::Event)s of one CPU; 0 for none at all.
    pub event_interval: u64,
    /// Names the content of the tries of allowed networks: raised before they grow. Never [`NO_GENERATION`](Self::NO_GENERATION).
    pub generation: u16,
    /// [`OBSERVE`](Self::OBSERVE) and [`ONLY_DESTINATIONS`](Self::ONLY_DESTINATIONS).
    pub flags: u8,
    padding: [u8; 5],
}

impl Config {
    /// Flag: nothing is dropped, whatever the level; what would have been is counted.
    pub const OBSERVE: u8 = 1;
    /// Flag: only connections to addresses in [`map::DESTINATIONS`](super::map::DESTINATIONS) are judged.
    pub const ONLY_DESTINATIONS: u8 = 2;
    /// The generation of an entry that must ask the trie.
    pub const NO_GENERATION: u16 = 0;

    /// Limits without flags and events, in `generation`.
    pub const fn new(rate: Limit, block: Limit, generation: u16) -> Self {
        Self {
            rate,
            block,
            event_interval: 0,
            generation,
            flags: 0,
            padding: [0; 5],
        }
    }
}
