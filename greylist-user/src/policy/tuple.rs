//! Turning an attempt into the keys that it is remembered by.
//!
//! Knows which fields make two attempts the same, and that the case of a domain is none of them.
//! This is the one file that hashes with a secret. What changes in a reverse-path from mail to mail
//! is left to `fold`, and where the keys are kept to `store`.
//!
//! Addresses are not kept: a key is the XXH3-128 of the normalised fields under a secret of
//! [`Seed::LENGTH`] bytes. Strangers choose what is hashed, so without the secret they could aim at
//! one shard or one key. XXH3 is no cryptographic MAC, but its hashes are shown to nobody but the
//! operator (`greygate list`), and the price of a forged collision is one mail let through without waiting.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;

use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_secret};

use super::attempt::Attempt;
use super::fold;
use super::network::ClientNetwork;
use super::registered::without_final_dot;
use super::reputation::RecipientMark;
use super::rules::ContentTrust;
use super::sentence::SentencedClient;

/// The secret that keys are made with. Hosts that share records share one seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; Self::LENGTH]);

/// What an attempt is remembered by while it is pending: client network, reverse-path and
/// recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TupleKey([u8; 16]);

/// What trust is remembered by: client network and folded reverse-path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustKey([u8; 16]);

/// What a client network's reputation is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkKey([u8; 16]);

/// What a client address, or the network around it, is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey([u8; 16]);

/// What a HELO argument is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeloKey([u8; 16]);

/// What the attempts with one HELO argument at one recipient are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HopKey([u8; 16]);

/// Which registered domain a name lies in, as far as a handful are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainMark(NonZeroU32);

/// What a reverse-path and recipient are remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairKey([u8; 16]);

/// Half of a [`PairKey`]: millions are held, and two pairs that share one cost a message one deferral
/// more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairTag([u8; 8]);

/// Which of 65,536 shares a client network belongs to: a keyed hash, so that nobody can choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkMark(u16);

/// What a permanent failure is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureKey([u8; 16]);

/// Which host of its client network a client is, as far as a sentence tells hosts apart.
///
/// A tuple belongs to a network, a sentence falls on one address: the mark says whether two
/// attempts on a tuple came from the same offender. It is made of the bits that the network lacks,
/// folded, so it names nobody by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostMark(u16);

impl Seed {
    /// Bytes of a seed: the length of secret that XXH3 uses as it is, without stretching.
    pub const LENGTH: usize = 192;

    /// The seed made of these bytes, which must come from a source of randomness.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes that it was made of.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Names the seed without revealing it, so that records made under another can be told.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hasher = self.hasher(b'S');
        // XXH3 needs more than 240 bytes of input to make use of the whole secret.
        hasher.raw(&[0; 256]);
        hasher.finish()
    }

    /// The key of the tuple that `attempt` belongs to.
    pub fn tuple_key(&self, network: ClientNetwork, attempt: &Attempt<'_>) -> TupleKey {
        let mut hasher = self.hasher(b'T');
        network.feed(|piece| hasher.raw(piece));
        hasher.mailbox(attempt.reverse_path);
        hasher.mailbox(attempt.recipient);
        TupleKey(hasher.finish())
    }

    /// The key of the tuple where `domain`, for which SPF passes, stands for the client network.
    pub fn domain_tuple_key(&self, domain: &[u8], attempt: &Attempt<'_>) -> TupleKey {
        let mut hasher = self.hasher(b'V');
        hasher.domain(domain);
        hasher.mailbox(attempt.reverse_path);
        hasher.mailbox(attempt.recipient);
        TupleKey(hasher.finish())
    }

    /// The key of the trust of mail for which SPF passes for `domain`, wherever it comes from.
    pub fn domain_trust_key(&self, domain: &[u8], attempt: &Attempt<'_>) -> TrustKey {
        let mut hasher = self.hasher(b'W');
        hasher.domain(domain);
        fold::fold(attempt.reverse_path, attempt.recipient, |piece| {
            hasher.raw(piece);
        });
        TrustKey(hasher.finish())
    }

    /// The key of the trust that `attempt` may enjoy or earn.
    pub fn trust_key(&self, network: ClientNetwork, attempt: &Attempt<'_>) -> TrustKey {
        let mut hasher = self.hasher(b'R');
        network.feed(|piece| hasher.raw(piece));
        fold::fold(attempt.reverse_path, attempt.recipient, |piece| {
            hasher.raw(piece);
        });
        TrustKey(hasher.finish())
    }

    /// The key of what `network` is reputed for.
    pub fn network_key(&self, network: ClientNetwork) -> NetworkKey {
        let mut hasher = self.hasher(b'N');
        network.feed(|piece| hasher.raw(piece));
        NetworkKey(hasher.finish())
    }

    /// The key of what is remembered of `client`, one address or the network around it.
    pub fn client_key(&self, client: SentencedClient) -> ClientKey {
        let network = client.network();
        let cut = ClientNetwork::cut(network.addr(), network.prefix_len(), network.prefix_len());
        let mut hasher = self.hasher(b'C');
        cut.feed(|piece| hasher.raw(piece));
        ClientKey(hasher.finish())
    }

    /// The key of a HELO argument, in any case and with or without a final dot.
    pub fn helo_key(&self, helo: &[u8]) -> HeloKey {
        let mut hasher = self.hasher(b'H');
        hasher.lower_case(without_final_dot(helo));
        HeloKey(hasher.finish())
    }

    /// The key of a HELO argument, written one way or the other, at a recipient.
    pub fn hop_key(&self, helo: &[u8], recipient: &[u8]) -> HopKey {
        let mut hasher = self.hasher(b'O');
        hasher.mailbox(recipient);
        hasher.lower_case(without_final_dot(helo));
        HopKey(hasher.finish())
    }

    /// The mark of a registered domain, in any case.
    pub fn domain_mark(&self, domain: &[u8]) -> DomainMark {
        let mut hasher = self.hasher(b'D');
        hasher.lower_case(domain);
        let [a, b, c, d, ..] = hasher.finish();
        let bits = u32::from_le_bytes([a, b, c, d]);
        DomainMark(NonZeroU32::new(bits).unwrap_or(NonZeroU32::MIN))
    }

    /// The key of a reverse-path and recipient, whoever sends.
    pub fn pair_key(&self, attempt: &Attempt<'_>) -> PairKey {
        let mut hasher = self.hasher(b'P');
        hasher.mailbox(attempt.reverse_path);
        hasher.mailbox(attempt.recipient);
        PairKey(hasher.finish())
    }

    /// The key of the trust that a message which came again earns the client of `attempt`; [`None`]
    /// where it earns none, as for a domain that a null reverse-path does not have.
    pub fn content_trust_key(
        &self,
        scope: ContentTrust,
        attempt: &Attempt<'_>,
    ) -> Option<TrustKey> {
        let mut hasher = self.hasher(b'U');
        ClientNetwork::cut(attempt.client, 32, 128).feed(|piece| hasher.raw(piece));
        match scope {
            ContentTrust::Off => return None,
            ContentTrust::Address => hasher.raw(b"A"),
            ContentTrust::Domain => {
                let (_, domain) = fold::split(attempt.reverse_path);
                if domain.is_empty() {
                    return None;
                }
                hasher.raw(b"D");
                hasher.lower_case(domain);
            }
        }
        Some(TrustKey(hasher.finish()))
    }

    /// The key of a failure: client address, reverse-path and recipient.
    pub fn failure_key(&self, client: IpAddr, reverse_path: &[u8], recipient: &[u8]) -> FailureKey {
        let mut hasher = self.hasher(b'F');
        ClientNetwork::cut(client, 32, 128).feed(|piece| hasher.raw(piece));
        hasher.mailbox(reverse_path);
        hasher.mailbox(recipient);
        FailureKey(hasher.finish())
    }

    /// The mark of a recipient: without regard to case, and to what follows the first `+` of its
    /// local-part, so that nobody who owns one mailbox owns many recipients.
    pub fn recipient_mark(&self, recipient: &[u8]) -> RecipientMark {
        let (local_part, domain) = fold::split(recipient);
        let mut hasher = self.hasher(b'Q');
        hasher.lower_case(fold::without_extension(local_part));
        hasher.lower_case(domain);
        let [first, ..] = hasher.finish();
        RecipientMark::of_hash(first)
    }

    /// The key that messages are hashed with.
    pub(super) fn message_key(&self) -> [u8; 16] {
        let mut hasher = self.hasher(b'M');
        // As in `fingerprint`: all of the secret.
        hasher.raw(&[0; 256]);
        hasher.finish()
    }

    /// A hasher whose input begins with `kind`, so that no two kinds of key can be equal.
    fn hasher(&self, kind: u8) -> KeyHasher<'_> {
        KeyHasher::begun(&self.0, kind)
    }
}

impl PairKey {
    /// The half of it that the record of the pair is found by.
    pub fn tag(self) -> PairTag {
        PairTag(self.0.first_chunk().copied().unwrap_or_default())
    }
}

impl PairTag {
    /// The tag that was stored as `bytes`.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The tag as it is stored.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// Half of it is its hash, said twice: a table looks at both ends.
impl Hash for PairTag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, ..] = self.0;
        let half = u64::from(u32::from_le_bytes([a, b, c, d]));
        state.write_u64(half << 32 | half);
    }
}

impl NetworkKey {
    /// The share that the network belongs to.
    pub const fn mark(self) -> NetworkMark {
        let [a, b, ..] = self.0;
        NetworkMark(u16::from_le_bytes([a, b]))
    }
}

impl NetworkMark {
    /// How many there are.
    pub const COUNT: usize = 1 << 16;

    /// The mark as it is stored.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The mark that was stored as `bits`.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Half of it.
    pub(super) const fn part(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// The bytes are a secret and stay out of logs.
impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

impl HostMark {
    /// The mark of `client` in `network`, its client network.
    pub fn of(network: ClientNetwork, client: IpAddr) -> Self {
        Self(network.host_bits(client))
    }

    /// The mark as it is stored.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The mark that was stored as `bits`.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

macro_rules! key {
    ($key:ident) => {
        impl $key {
            /// Bytes of a key.
            pub const LENGTH: usize = 16;

            /// The key that was stored as `bytes`.
            pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
                Self(bytes)
            }

            /// The key as it is stored.
            pub const fn to_bytes(self) -> [u8; Self::LENGTH] {
                self.0
            }
        }

        /// Half of the key is its hash: it is a keyed hash already.
        impl Hash for $key {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let [a, b, c, d, e, f, g, h, ..] = self.0;
                state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
        }
    };
}

key!(TupleKey);
key!(TrustKey);
key!(NetworkKey);
key!(ClientKey);
key!(HeloKey);
key!(HopKey);
key!(PairKey);
key!(FailureKey);

/// XXH3 fed with unambiguous fields, without allocating.
///
/// What is fed is put together on the stack and hashed at once, which for the length of an ordinary
/// key costs a fifth of what setting up the streaming hasher does. Only what strangers made
/// longer than that is streamed; the hash is the same.
struct KeyHasher<'s> {
    secret: &'s [u8; Seed::LENGTH],
    input: [u8; AT_ONCE],
    length: usize,
    stream: Option<Xxh3>,
}

impl<'s> KeyHasher<'s> {
    /// Made where it will lie: moving it would cost more than hashing does.
    fn begun(secret: &'s [u8; Seed::LENGTH], kind: u8) -> Self {
        let mut input = [0; AT_ONCE];
        input[0] = kind;
        Self {
            secret,
            input,
            length: 1,
            stream: None,
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(stream) = &mut self.stream {
            stream.update(bytes);
        } else if let Some(room) = self.input.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        } else {
            let stream = self.stream.insert(Xxh3::with_secret(*self.secret));
            stream.update(&self.input[..self.length]);
            stream.update(bytes);
        }
    }

    fn lower_case(&mut self, text: &[u8]) {
        let begin = self.length;
        if self.stream.is_none() && begin + text.len() <= AT_ONCE {
            self.raw(text);
            self.input[begin..self.length].make_ascii_lowercase();
        } else {
            fold::lower_case(text, |piece| self.raw(piece));
        }
    }

    /// A domain and where it ends, in lower case.
    fn domain(&mut self, domain: &[u8]) {
        self.raw(&(domain.len() as u64).to_le_bytes());
        self.lower_case(domain);
    }

    /// As [`feed_mailbox`] feeds it, in lower case where it lies.
    fn mailbox(&mut self, path: &[u8]) {
        self.raw(&(path.len() as u64).to_le_bytes());
        let (local_part, domain) = fold::split(path);
        let begin = self.length + local_part.len();
        if self.stream.is_none() && begin + domain.len() <= AT_ONCE {
            self.raw(path);
            self.input[begin..self.length].make_ascii_lowercase();
        } else {
            self.raw(local_part);
            self.lower_case(domain);
        }
    }

    fn finish(&self) -> [u8; 16] {
        let hash = match &self.stream {
            Some(stream) => stream.digest128(),
            None => xxh3_128_with_secret(&self.input[..self.length], self.secret),
        };
        hash.to_le_bytes()
    }
}

/// Hands a reverse- or forward-path to `sink`: its length, its local-part as it is and its domain in
/// lower case (RFC 5321, 2.4).
pub(super) fn feed_mailbox(path: &[u8], mut sink: impl FnMut(&[u8])) {
    sink(&(path.len() as u64).to_le_bytes());
    let (local_part, domain) = fold::split(path);
    sink(local_part);
    fold::lower_case(domain, sink);
}

/// Bytes that are hashed at once: two mailboxes of ordinary length, with what stands around them.
const AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
