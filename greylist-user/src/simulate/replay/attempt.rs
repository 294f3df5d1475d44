//! What an attempt is made with: one that the log shows, or one that is assumed.

use std::net::IpAddr;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::super::gather::Mail;
use crate::policy::{Attempt, Evidence, Origin, ServerMark, Timestamp, verified_name};

/// An attempt that is assumed.
pub(super) struct Retry {
    pub(super) at: Timestamp,
    pub(super) serial: u64,
    pub(super) first: Timestamp,
    pub(super) number: u32,
    pub(super) identity: u64,
    pub(super) envelope: Arc<Envelope>,
}

/// What it is made with.
pub(super) struct Envelope {
    pub(super) client: IpAddr,
    pub(super) name: Box<[u8]>,
    pub(super) helo: Box<[u8]>,
    pub(super) reverse_path: Box<[u8]>,
    pub(super) recipient: Box<[u8]>,
    /// Whose queue it is in.
    pub(super) sender: Vec<u8>,
}

pub(super) fn attempt(mail: &Mail, recipient: usize) -> Attempt<'_> {
    Attempt {
        client: mail.client,
        client_name: &mail.name,
        helo: greeting(&mail.helo, &mail.name),
        reverse_path: &mail.reverse_path,
        recipient: &mail.recipients[recipient].address,
        // Postfix logs no SIZE=, and what it says of the size in the queue is another.
        announced_size: 0,
        connected: mail.connected,
        server: ServerMark::UNKNOWN,
        authenticated: mail.authenticated,
        origin: Origin::ThisHost,
        evidence: Evidence::default(),
    }
}

/// The HELO argument; where the log does not tell it, the client's own name, which is held against
/// nobody.
pub(super) fn greeting<'a>(helo: &'a [u8], name: &'a [u8]) -> &'a [u8] {
    if helo.is_empty() {
        verified_name(name)
    } else {
        helo
    }
}

/// Whose queue a message is in: one of the sender's domain in its network.
pub(super) fn sender(mail: &Mail) -> Vec<u8> {
    let mut sender = match mail.client {
        IpAddr::V4(address) => address.octets()[..3].to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    let path = &mail.reverse_path;
    let domain = path.iter().rposition(|&byte| byte == b'@').unwrap_or(0);
    sender.extend(path[domain..].to_ascii_lowercase());
    sender
}

/// What a message is awaited by, from whatever network.
pub(super) fn pair(attempt: &Attempt<'_>) -> u64 {
    let mut hasher = Xxh3::new();
    for part in [attempt.reverse_path, attempt.recipient] {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(&part.to_ascii_lowercase());
    }
    hasher.digest()
}

impl Ord for Retry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

impl PartialOrd for Retry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Retry {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Retry {}
