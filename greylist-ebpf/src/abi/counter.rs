//! The reasons under which frames are counted.

/// What became of a frame, one reason each: the index into the map [`map::COUNTERS`](super::map::COUNTERS).
///
/// Only frames counted as [`RateLimited`](Self::RateLimited), [`Blocked`](Self::Blocked) and
/// [`DroppedAgain`](Self::DroppedAgain) are dropped; every other one passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Neither IPv4 nor IPv6: ARP, anything else.
    NotIp,
    /// More VLAN tags than [`packet::VLAN_TAGS`].
    ///
    /// [`packet::VLAN_TAGS`]: crate::packet::VLAN_TAGS
    VlanDepth,
    /// Another protocol than TCP, ICMP and neighbour discovery among them.
    NotTcp,
    /// A later fragment: it holds no ports.
    Fragment,
    /// The frame ends inside a header.
    Truncated,
    /// A header contradicts itself: version, header length, data offset.
    Malformed,
    /// A chain of IPv6 extension headers longer than [`packet::EXTENSION_HEADERS`], or a member of
    /// it that is not known.
    ///
    /// [`packet::EXTENSION_HEADERS`]: crate::packet::EXTENSION_HEADERS
    Extensions,
    /// TCP, but no new connection: anything but SYN without ACK, RST and FIN.
    NotSyn,
    /// A new connection to a port that is not protected.
    OtherPort,
    /// A new connection of a client that is not sentenced.
    Clean,
    /// A new connection of a client whose sentence has ended.
    Ended,
    /// A new connection of a client whose entry has a level this build does not know.
    UnknownLevel,
    /// A new connection of a sentenced client to an address of this host that is not protected.
    OtherDestination,
    /// A new connection of a sentenced client that is in an allowed network.
    Allowed,
    /// A new connection at [`Level::Observe`](super::Level::Observe), or that would have been dropped but for
    /// [`Config::OBSERVE`](super::Config::OBSERVE).
    Observed,
    /// A new connection within [`Config::rate`](super::Config::rate).
    Admitted,
    /// A new connection within [`Config::block`](super::Config::block).
    LetThrough,
    /// The repeated SYN of a connection that was admitted or let through.
    Repeated,
    /// A new connection beyond [`Config::rate`](super::Config::rate), dropped.
    RateLimited,
    /// A new connection beyond [`Config::block`](super::Config::block), dropped.
    Blocked,
    /// The repeated SYN of the connection that was dropped last of the same sentence, dropped.
    DroppedAgain,
}

impl Counter {
    /// All of them, by index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::NotIp,
        Self::VlanDepth,
        Self::NotTcp,
        Self::Fragment,
        Self::Truncated,
        Self::Malformed,
        Self::Extensions,
        Self::NotSyn,
        Self::OtherPort,
        Self::Clean,
        Self::Ended,
        Self::UnknownLevel,
        Self::OtherDestination,
        Self::Allowed,
        Self::Observed,
        Self::Admitted,
        Self::LetThrough,
        Self::Repeated,
        Self::RateLimited,
        Self::Blocked,
        Self::DroppedAgain,
    ];

    /// How many there are.
    pub const COUNT: u32 = Self::DroppedAgain as u32 + 1;

    /// Its index in the map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Whether frames counted under it are dropped.
    pub const fn is_dropped(self) -> bool {
        matches!(self, Self::RateLimited | Self::Blocked | Self::DroppedAgain)
    }

    /// Its name in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::VlanDepth => "vlan_depth",
            Self::NotTcp => "not_tcp",
            Self::Fragment => "fragment",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Extensions => "extensions",
            Self::NotSyn => "not_syn",
            Self::OtherPort => "other_port",
            Self::Clean => "clean",
            Self::Ended => "ended",
            Self::UnknownLevel => "unknown_level",
            Self::OtherDestination => "other_destination",
            Self::Allowed => "allowed",
            Self::Observed => "observed",
            Self::Admitted => "admitted",
            Self::LetThrough => "let_through",
            Self::Repeated => "repeated",
            Self::RateLimited => "rate_limited",
            Self::Blocked => "blocked",
            Self::DroppedAgain => "dropped_again",
        }
    }

    /// What it counts, for an operator.
    pub const fn about(self) -> &'static str {
        match self {
            Self::NotIp => "neither IPv4 nor IPv6, such as ARP: passed",
            Self::VlanDepth => "more VLAN tags than understood: passed",
            Self::NotTcp => "another protocol than TCP: passed",
            Self::Fragment => "later fragments: passed",
            Self::Truncated => "ended inside a header: passed",
            Self::Malformed => "a header contradicts itself: passed",
            Self::Extensions => "IPv6 extension headers not understood: passed",
            Self::NotSyn => "TCP, but no new connection: passed",
            Self::OtherPort => "new connections to other ports: passed",
            Self::Clean => "new connections of clients without a sentence: passed",
            Self::Ended => "new connections of clients whose sentence has ended: passed",
            Self::UnknownLevel => "new connections at a level of another version: passed",
            Self::OtherDestination => {
                "new connections of sentenced clients to other addresses: passed"
            }
            Self::Allowed => "new connections of sentenced clients in allowed networks: passed",
            Self::Observed => "new connections that would have been dropped: passed",
            Self::Admitted => "new connections of rate-limited clients, within the rate: passed",
            Self::LetThrough => "the few new connections that blocked clients are left: passed",
            Self::Repeated => "repeated SYNs of connections that had passed: passed",
            Self::RateLimited => {
                "new connections of rate-limited clients, beyond the rate: DROPPED"
            }
            Self::Blocked => "new connections of blocked clients: DROPPED",
            Self::DroppedAgain => "repeated SYNs of connections that were dropped: DROPPED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_by_index() {
        for (index, counter) in (0..).zip(Counter::ALL) {
            assert_eq!(counter.index(), index, "{}", counter.name());
        }
    }
}
