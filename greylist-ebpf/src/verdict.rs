//! What happens to a frame, and under which reason it is counted.
//!
//! The whole rule of the kernel side is [`decide`], over the three things it may ask of the
//! [`Tables`]; the XDP program and the tests give it theirs. The default is *pass*: a frame is
//! dropped in exactly one place, and only a SYN of a client whose sentence still lasts gets there.

use crate::{
    abi::{Counter, KernelTime, Level},
    packet::{self, Client, Frame, NewConnection},
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

    const BLOCKED: Self = Self {
        action: Action::Drop,
        counter: Counter::Blocked,
    };
}

/// What the rule asks of its surroundings, each at most once for a frame and in this order.
pub trait Tables {
    /// A client's entry in the map of sentences.
    type Entry: Entry;

    /// Whether new connections to `port` are judged at all.
    fn is_protected(&self, port: u16) -> bool;

    /// The entry whose network holds `client`.
    fn entry(&self, client: &Client) -> Option<Self::Entry>;

    /// The present. Asked only when there is an entry, since reading a clock has its price.
    fn now(&self) -> KernelTime;
}

/// One entry of the map of sentences, which others may replace at any time.
pub trait Entry {
    /// When the sentence ends.
    fn until(&self) -> KernelTime;

    /// How hard it is; `None` is a level that this build does not know.
    fn level(&self) -> Option<Level>;

    /// Counts one new connection that the entry has met.
    fn count(&self);
}

/// Decides on one frame.
#[inline(always)]
pub fn decide<F, T>(frame: &F, tables: &T) -> Outcome
where
    F: Frame + ?Sized,
    T: Tables,
{
    match packet::new_connection(frame) {
        Ok(connection) => admit(&connection, tables),
        Err(reason) => Outcome::pass(reason),
    }
}

#[inline(always)]
fn admit<T: Tables>(connection: &NewConnection, tables: &T) -> Outcome {
    if !tables.is_protected(connection.port) {
        return Outcome::pass(Counter::OtherPort);
    }
    let Some(entry) = tables.entry(&connection.client) else {
        return Outcome::pass(Counter::Clean);
    };
    if tables.now() >= entry.until() {
        return Outcome::pass(Counter::Ended);
    }
    match entry.level() {
        Some(Level::Block | Level::Rate) => {
            entry.count();
            Outcome::BLOCKED
        }
        Some(Level::Observe) => {
            entry.count();
            Outcome::pass(Counter::Observed)
        }
        None => Outcome::pass(Counter::UnknownLevel),
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// One client's entry, and a clock.
    struct Table {
        until: u64,
        level: Option<Level>,
        now: u64,
        met: Cell<u64>,
    }

    struct TableEntry<'a>(&'a Table);

    impl<'a> Tables for &'a Table {
        type Entry = TableEntry<'a>;

        fn is_protected(&self, port: u16) -> bool {
            port == 25
        }

        fn entry(&self, client: &Client) -> Option<TableEntry<'a>> {
            (*client == SENTENCED).then_some(TableEntry(self))
        }

        fn now(&self) -> KernelTime {
            KernelTime::from_nanos(self.now)
        }
    }

    impl Entry for TableEntry<'_> {
        fn until(&self) -> KernelTime {
            KernelTime::from_nanos(self.0.until)
        }

        fn level(&self) -> Option<Level> {
            self.0.level
        }

        fn count(&self) {
            self.0.met.set(self.0.met.get() + 1);
        }
    }

    const SENTENCED: Client = Client::V4([192, 0, 2, 7]);
    const OTHER: Client = Client::V4([192, 0, 2, 8]);

    fn table(level: Option<Level>, now: u64) -> Table {
        Table {
            until: 100,
            level,
            now,
            met: Cell::new(0),
        }
    }

    fn outcome(table: &Table, client: Client, port: u16) -> (Outcome, u64) {
        let outcome = admit(&NewConnection { client, port }, &table);
        (outcome, table.met.get())
    }

    #[test]
    fn drops_a_blocked_client_until_the_end() {
        let block = Some(Level::Block);
        assert_eq!(
            outcome(&table(block, 99), SENTENCED, 25),
            (Outcome::BLOCKED, 1)
        );
        let ended = (Outcome::pass(Counter::Ended), 0);
        assert_eq!(outcome(&table(block, 100), SENTENCED, 25), ended);
        assert_eq!(outcome(&table(block, 101), SENTENCED, 25), ended);
    }

    #[test]
    fn observed_client_passes_and_is_counted() {
        assert_eq!(
            outcome(&table(Some(Level::Observe), 0), SENTENCED, 25),
            (Outcome::pass(Counter::Observed), 1)
        );
    }

    #[test]
    fn passes_what_is_not_sentenced_or_not_protected() {
        let table = table(Some(Level::Block), 0);
        assert_eq!(
            outcome(&table, OTHER, 25),
            (Outcome::pass(Counter::Clean), 0)
        );
        assert_eq!(
            outcome(&table, SENTENCED, 22),
            (Outcome::pass(Counter::OtherPort), 0)
        );
    }

    #[test]
    fn passes_an_unknown_level() {
        assert_eq!(
            outcome(&table(None, 0), SENTENCED, 25),
            (Outcome::pass(Counter::UnknownLevel), 0)
        );
    }
}
