//! The lists that operators change by command, as far as hosts tell each other of them.

use std::fmt;

use crate::policy::ListOrder;

/// Who keeps the lists of this host.
pub trait Lists: fmt::Debug + Send + Sync {
    /// What was ordered here since this was asked last.
    fn take_changes(&self) -> Vec<ListOrder>;

    /// The latest word on every entry.
    fn all(&self) -> Vec<ListOrder>;

    /// Takes in what was ordered elsewhere, within a second and without waiting; says whether there was room.
    fn hear(&self, order: ListOrder) -> bool;
}

/// A host whose lists no order changes.
#[derive(Clone, Copy, Debug)]
pub struct NoLists;

impl Lists for NoLists {
    fn take_changes(&self) -> Vec<ListOrder> {
        Vec::new()
    }

    fn all(&self) -> Vec<ListOrder> {
        Vec::new()
    }

    fn hear(&self, _order: ListOrder) -> bool {
        true
    }
}
