//! What happens to a frame, and under which reason it is counted.
//!
//! The whole rule of the kernel side is [`decide`], over the things it may ask of the [`Tables`];
//! the XDP program and the tests give it theirs. The default is *pass*: a frame is dropped in
//! exactly one place, and only a SYN of a client whose sentence still lasts gets there.
//!
//! The order of the questions is their price. Most connections are of clients without a sentence:
//! they cost the port and the presence, two reads of an array.

mod tables;

pub use tables::{Entry, Nearby, Tables};

use crate::{
    abi::{Admitted, Config, Counter, Dropped, KernelTime, Level, Limit},
    gcra::Conformance,
    packet::{self, Frame, NewConnection},
};

/// What the program does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`.
    Drop,
    /// `XDP_PASS`.
    Pass,
}

/// What happens to a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the program does with it.
    pub action: Action,
    /// The reason, and the counter that it raises by one.
    pub counter: Counter,
}

impl Outcome {
    const fn pass(counter: Counter) -> Self {
        Self {
            action: Action::Pass,
            counter,
        }
    }

    const fn drop(counter: Counter) -> Self {
        Self {
            action: Action::Drop,
            counter,
        }
    }
}

/// Decides on one frame.
#[inline(always)]
pub fn decide<F, T>(frame: &F, tables: &T) -> Outcome
where
    F: Frame + ?Sized,
    T: Tables,
{
    match packet::untagged(frame) {
        Some(Ok(connection)) => admit(&connection, tables),
        Some(Err(reason)) => Outcome::pass(reason),
        None => decide_tagged(frame, tables),
    }
}

/// A function of its own in the program, so that the usual frame meets short code.
#[inline(never)]
fn decide_tagged<F, T>(frame: &F, tables: &T) -> Outcome
where
    F: Frame + ?Sized,
    T: Tables,
{
    match packet::tagged(frame) {
        Ok(connection) => admit(&connection, tables),
        Err(reason) => Outcome::pass(reason),
    }
}

#[inline(always)]
fn admit<T: Tables>(connection: &NewConnection, tables: &T) -> Outcome {
    if !tables.is_protected(connection.port) {
        return Outcome::pass(Counter::OtherPort);
    }
    let client = &connection.client;
    let nearby = tables.presence(client);
    if !nearby.host && !nearby.network {
        return Outcome::pass(Counter::Clean);
    }
    let host = nearby.host.then(|| tables.host(client)).flatten();
    let network = nearby.network.then(|| tables.network(client)).flatten();
    if host.is_none() && network.is_none() {
        return Outcome::pass(Counter::Clean);
    }
    let now = tables.now();
    let Some(entry) = harder(live(host, now), live(network, now)) else {
        return Outcome::pass(Counter::Ended);
    };
    match tables.config() {
        Some(config) => judge(connection, &entry, now, config, tables),
        None => Outcome::pass(Counter::Clean),
    }
}

#[inline(always)]
fn live<E: Entry>(entry: Option<E>, now: KernelTime) -> Option<E> {
    entry.filter(|entry| now < entry.until())
}

/// The entry that decides: the harder, or the host's. A level that is not known is the mildest.
#[inline(always)]
fn harder<E: Entry>(host: Option<E>, network: Option<E>) -> Option<E> {
    match (host, network) {
        (Some(host), Some(network)) if network.level() > host.level() => Some(network),
        (Some(host), _) => Some(host),
        (None, network) => network,
    }
}

/// What a live entry means for the connection.
#[inline(always)]
fn judge<T: Tables>(
    connection: &NewConnection,
    entry: &T::Entry,
    now: KernelTime,
    config: &Config,
    tables: &T,
) -> Outcome {
    if config.flags & Config::ONLY_DESTINATIONS != 0
        && !tables.is_destination(&connection.destination)
    {
        return Outcome::pass(Counter::OtherDestination);
    }
    let generation = entry.generation();
    if (generation != config.generation || generation == Config::NO_GENERATION)
        && tables.is_allowed(&connection.client)
    {
        return Outcome::pass(Counter::Allowed);
    }
    let outcome = match entry.level() {
        None => return Outcome::pass(Counter::UnknownLevel),
        Some(Level::Observe) => Outcome::pass(Counter::Observed),
        Some(Level::Rate) => limit(
            connection,
            entry,
            now,
            &config.rate,
            Counter::Admitted,
            Counter::RateLimited,
        ),
        Some(Level::Block) => limit(
            connection,
            entry,
            now,
            &config.block,
            Counter::LetThrough,
            Counter::Blocked,
        ),
    };
    let outcome = match outcome.action {
        Action::Drop if config.flags & Config::OBSERVE != 0 => Outcome::pass(Counter::Observed),
        _ => outcome,
    };
    if outcome.action == Action::Drop || outcome.counter == Counter::Observed {
        entry.count();
        if config.event_interval != 0 {
            tables.tell(connection, outcome.counter, now, config.event_interval);
        }
    }
    outcome
}

/// Charges the connection to the entry's bucket, unless it was charged already.
///
/// Each swap is tried once. Who loses one is dropped: others of the same client are being charged
/// at this very moment, and a SYN comes again.
#[inline(always)]
fn limit<E: Entry>(
    connection: &NewConnection,
    entry: &E,
    now: KernelTime,
    limit: &Limit,
    within: Counter,
    beyond: Counter,
) -> Outcome {
    let mark = connection.mark();
    let admitted = entry.admitted();
    if admitted.is_again(mark) && entry.swap_admitted(admitted, admitted.again()) {
        return Outcome::pass(Counter::Repeated);
    }
    let arrival = entry.arrival();
    match limit.judge(arrival, now) {
        Conformance::Within(next) => {
            if entry.swap_arrival(arrival, next) {
                entry.admit(Admitted::first(mark));
                return Outcome::pass(within);
            }
        }
        Conformance::Beyond => {}
        Conformance::Astray(furthest) => {
            entry.swap_arrival(arrival, furthest);
        }
    }
    let dropped = Dropped::of(mark);
    if entry.dropped() == dropped {
        return Outcome::drop(Counter::DroppedAgain);
    }
    entry.note_dropped(dropped);
    Outcome::drop(beyond)
}

#[cfg(test)]
mod tests;
