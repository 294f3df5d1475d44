//! Kinds of message: who is measured at each, and what greygate is to reach.

use support::bench::{report::Target, visit::Outcome};

use crate::peers::{FLOOR, LIBMILTER, SILENT};

/// A session with a message of this kind.
#[derive(Debug)]
pub(crate) struct Kind {
    /// In the table.
    pub(crate) what: &'static str,
    /// Bytes of the message's body.
    pub(crate) body: usize,
    /// Visits of the same mail before the one that is measured, each from another network.
    pub(crate) before: u32,
    /// How the measured one ends at greygate.
    pub(crate) end: Outcome,
    /// Sessions of a round.
    pub(crate) sessions: u32,
    /// Who is measured beside it.
    pub(crate) peers: &'static [&'static str],
    /// For the CPU time.
    pub(crate) target: Option<Target>,
    /// For what it takes more than [`FLOOR`], in times of what hashing the body takes.
    pub(crate) hashes: Option<Target>,
}

/// All kinds, in the table's order.
pub(crate) const KINDS: [Kind; 3] = [
    Kind {
        what: "4 KiB read, deferred",
        body: 4 << 10,
        before: 1,
        end: Outcome::DeferredAtEnd,
        sessions: 3_000,
        peers: &[FLOOR, SILENT, LIBMILTER],
        target: Some(Target::AtMostTimes(1.3, FLOOR)),
        hashes: None,
    },
    Kind {
        what: "4 KiB read, passed by content",
        body: 4 << 10,
        before: 2,
        end: Outcome::Passed,
        sessions: 3_000,
        peers: &[FLOOR],
        target: None,
        hashes: None,
    },
    Kind {
        what: "1 MiB read, deferred",
        body: 1 << 20,
        before: 1,
        end: Outcome::DeferredAtEnd,
        sessions: 300,
        peers: &[FLOOR, SILENT, LIBMILTER],
        target: None,
        hashes: Some(Target::AtMost(1.2)),
    },
];
