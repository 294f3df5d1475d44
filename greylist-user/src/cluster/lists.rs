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

    /// Whether all is to be told again since this was asked last: something found no room, and there is room now.
    fn takes_lack(&self) -> bool;
}
