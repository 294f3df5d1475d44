//! What tells one message from another by its content, hashed while it passes and never stored.
//!
//! MD5, keyed by the seed, over the body and then the fields with their lengths: Message-ID, exact
//! reverse-path and recipient. Nobody can aim at a fingerprint without the seed, so that MD5's
//! known weakness, collisions made on purpose, is out of reach.

use super::attempt::Attempt;
use super::network::ClientNetwork;
use super::tuple::Seed;

/// Names one message to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint that was stored as `bytes`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The fingerprint as it is stored.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// A message that is being read: constant memory, whatever its length.
#[derive(Clone, Debug)]
pub struct MessageHasher {}

impl MessageHasher {
    /// Takes the next piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        let _ = piece;
    }

    /// Takes a header field; all but Message-ID are of no concern.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
    }

    /// What names the message of `attempt`, from a client of `network`; [`None`] for an empty body,
    /// which names nothing.
    pub fn fingerprint(
        &self,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
    ) -> Option<Fingerprint> {
        let _ = (network, attempt);
        None
    }
}

impl Seed {
    /// Begins to read a message.
    pub fn message_hasher(&self) -> MessageHasher {
        MessageHasher {}
    }
}
