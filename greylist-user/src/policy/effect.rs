//! What follows from a decision outside the store, as plain values.
//!
//! Effects travel through a channel, so that the milter path never waits for the kernel. A lost
//! effect is harmless: the sentences in the store are the truth, and reconciliation repairs it.

use super::sentence::{Sentence, SentencedClient};

/// A change of the sentences that the kernel's table should follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A sentence was undone.
    Forgive(SentencedClient),
    /// A sentence was given or changed.
    Punish(Sentence),
}
