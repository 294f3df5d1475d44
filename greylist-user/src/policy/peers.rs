//! What other hosts of the site know, as a session asks for it.

use std::fmt;
use std::time::Duration;

use super::attempt::Attempt;
use super::fingerprint::{Fingerprint, MessageHasher};
use super::sentence::SentencedClient;
use super::time::Timestamp;
use super::tuple::{ClientKey, HeloKey, NetworkKey, PairTag, TrustKey, TupleKey};

/// Names a record that hosts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SharedKey {
    /// A client address.
    Client(ClientKey),
    /// A message that was read.
    Content(Fingerprint),
    /// A HELO argument caught at relay hopping.
    Helo(HeloKey),
    /// The struck hosts of a network.
    Neighbours(ClientKey),
    /// A reverse-path and recipient.
    Pair(PairTag),
    /// What is said of a client network.
    Reputation(NetworkKey),
    /// A sentence.
    Sentence(SentencedClient),
    /// What a sender has earned.
    Trust(TrustKey),
    /// A tuple.
    Tuple(TupleKey),
}

impl SharedKey {
    /// Whether every host is told of its record. The others are asked for when they are missed.
    pub const fn is_told(self) -> bool {
        matches!(
            self,
            Self::Client(_) | Self::Helo(_) | Self::Neighbours(_) | Self::Sentence(_)
        )
    }
}

/// Called when there is an answer, or none to be expected any more.
pub type Told = Box<dyn FnOnce() + Send>;

/// Who can be asked what other hosts know.
pub trait Peers: fmt::Debug + Send + Sync {
    /// What others may know that the verdict on `attempt` hangs on; nothing where it hangs on nothing
    /// that is missing here.
    fn missing(&self, attempt: &Attempt<'_>, now: Timestamp) -> Vec<SharedKey>;

    /// The same of the content of its message, which is whole.
    fn missing_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Option<SharedKey>;

    /// Asks without waiting. What is found is where the judge looks by the time that `tell` is called, at the
    /// latest after [`budget`](Self::budget); whoever asks goes on without when even that does not come.
    fn ask(&self, keys: Vec<SharedKey>, tell: Told);

    /// How long an answer may take.
    fn budget(&self) -> Duration;
}
