//! What the rule must be told of the maps and the clock.

use crate::{
    abi::{Admitted, Config, Counter, Dropped, KernelTime, Level},
    packet::{Address, NewConnection},
};

/// What the rule asks of its surroundings, each at most once for a frame and in this order.
pub trait Tables {
    /// An entry in the map of sentences.
    type Entry: Entry;

    /// Whether new connections to `port` are judged at all.
    fn is_protected(&self, port: u16) -> bool;

    /// Which entries there may be for `client`.
    fn presence(&self, client: &Address) -> Nearby;

    /// The entry of `client` itself: `/32` or `/128`.
    fn host(&self, client: &Address) -> Option<Self::Entry>;

    /// The entry of the network `client` is in: `/24` or `/64`.
    fn network(&self, client: &Address) -> Option<Self::Entry>;

    /// The present. Asked only when there is an entry, since reading a clock has its price.
    fn now(&self) -> KernelTime;

    /// What holds for all entries; `None` lets everybody pass.
    fn config(&self) -> Option<&Config>;

    /// Whether new connections to `address` are judged, where not all are.
    fn is_destination(&self, address: &Address) -> bool;

    /// Whether `client` is in an allowed network.
    fn is_allowed(&self, client: &Address) -> bool;

    /// Takes note of a connection that was counted as dropped or observed, unless it took note of
    /// another one less than `interval` nanoseconds ago.
    fn tell(&self, connection: &NewConnection, counter: Counter, now: KernelTime, interval: u64);
}

/// Which entries there may be for a client. Said falsely it costs a look-up, no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nearby {
    /// For the address itself.
    pub host: bool,
    /// For the network it is in.
    pub network: bool,
}

/// One entry of the map of sentences, which others may change or replace at any time.
pub trait Entry {
    /// When the sentence ends.
    fn until(&self) -> KernelTime;

    /// How hard it is; `None` is a level that this build does not know.
    fn level(&self) -> Option<Level>;

    /// The generation of the tries under which it overlaps no allowed network.
    fn generation(&self) -> u16;

    /// The theoretical arrival time of the next connection.
    fn arrival(&self) -> KernelTime;

    /// Writes `next` if the arrival time is still `seen`; whether it was.
    fn swap_arrival(&self, seen: KernelTime, next: KernelTime) -> bool;

    /// The last connection that was let through.
    fn admitted(&self) -> Admitted;

    /// Writes the connection that is let through now.
    fn admit(&self, admitted: Admitted);

    /// Writes `next` if the last connection is still `seen`; whether it was.
    fn swap_admitted(&self, seen: Admitted, next: Admitted) -> bool;

    /// The last connection that a limit did not let through.
    fn dropped(&self) -> Dropped;

    /// Writes the connection that is not let through now.
    fn note_dropped(&self, dropped: Dropped);

    /// Counts one SYN that is dropped, or would be.
    fn count(&self);
}
