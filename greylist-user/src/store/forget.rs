//! Forgetting for an operator: one record that was listed, the trust of one sender, and what else of a
//! client or of one mail is undone when it is forgiven.
//!
//! Knows where the records lie; leaves who may order it to `admin`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::{
    Attempt, ClientKey, ClientNetwork, ContentTrust, Evidence, Fingerprint, HeloKey, Origin,
    ServerMark, SharedKey, Timestamp, TrustKey, TupleKey,
};

use super::Store;
use super::kept::{Kept, KeptTables};
use super::table::{Key, Table};

/// What a record was that is forgotten now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgottenKind {
    /// Strikes and AUTH of a client.
    Client,
    /// Trust that a message has earned.
    ContentTrust,
    /// A message that was read.
    Fingerprint,
    /// A tuple that had passed.
    Passed,
    /// A tuple that was waiting.
    Pending,
    /// Trust that passes of tuples earn.
    Trust,
}

/// A mail of a client that is to be forgiven.
#[derive(Clone, Copy, Debug)]
pub struct ForgivenMail<'a> {
    /// The client.
    pub address: IpAddr,
    /// The reverse-path.
    pub reverse_path: &'a [u8],
    /// The recipient.
    pub recipient: &'a [u8],
}

/// What was undone of mails that were forgiven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForgivenMails {
    /// Tuples that wait no longer than others do.
    pub delays: u64,
    /// Permanent failures that retries are not counted after any more.
    pub failures: u64,
}

impl ForgottenKind {
    /// The word for answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ContentTrust => "content-trust",
            Self::Fingerprint => "fingerprint",
            Self::Passed => "passed",
            Self::Pending => "pending",
            Self::Trust => "trust",
        }
    }
}

impl Store {
    /// Forgets what is remembered by these 128 bits, and says what it was: nothing, or one record.
    pub fn forget(&self, bits: [u8; 16]) -> Vec<ForgottenKind> {
        let tuple = self.forget_tuple(TupleKey::from_bytes(bits));
        let trust = self.forget_trust_of_key(TrustKey::from_bytes(bits));
        let client = self.forget_client(ClientKey::from_bytes(bits));
        let message = self.contents.forget(&Fingerprint::from_bytes(bits));
        let message = message.then_some(ForgottenKind::Fingerprint);
        [tuple, trust, client, message]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Forgets the trust that mail of `sender` has earned at `client`: that of its network, or of both
    /// that it may belong to, and that of the address for the sender's domain. A `recipient` tells where
    /// the sender's address carries it. Gives what it was, and what it was remembered by.
    pub fn forget_trust(
        &self,
        client: IpAddr,
        sender: &[u8],
        recipient: &[u8],
    ) -> Vec<(ForgottenKind, [u8; 16])> {
        let policy = self.policy.load();
        let attempt = attempt_of(client, sender, recipient);
        let networks = ClientNetwork::possible(&policy, client);
        let mut keys: Vec<_> = networks
            .into_iter()
            .map(|network| self.seed.trust_key(network, &attempt))
            .collect();
        // Whatever the scope is now: it may have been another when the trust was earned.
        for scope in [ContentTrust::Domain, ContentTrust::Address] {
            keys.extend(self.seed.content_trust_key(scope, &attempt));
        }
        let forgotten = keys.into_iter().filter_map(|key| {
            let kind = self.forget_trust_of_key(key)?;
            Some((kind, key.to_bytes()))
        });
        forgotten.collect()
    }

    /// Undoes what early retries of a mail have added to its delay, and its permanent failure.
    pub fn forgive_mail(&self, mail: &ForgivenMail<'_>) -> ForgivenMails {
        let policy = self.policy.load();
        let attempt = attempt_of(mail.address, mail.reverse_path, mail.recipient);
        let [wide, exact] = ClientNetwork::possible(&policy, mail.address);
        let both = [Some(wide), (exact != wide).then_some(exact)];
        let keys = both
            .into_iter()
            .flatten()
            .map(|network| self.seed.tuple_key(network, &attempt));
        let undone = keys.filter(|key| self.forgive_delay(key)).count();
        let failure = self
            .seed
            .failure_key(attempt.client, mail.reverse_path, mail.recipient);
        ForgivenMails {
            delays: undone as u64,
            failures: self.failures.by_message.take(&failure).map_or(0, |_| 1),
        }
    }

    /// The same of all mails of clients in `network` whose addresses are kept.
    pub fn forgive_mails_within(&self, network: IpNet) -> ForgivenMails {
        let mut all = ForgivenMails::default();
        let Some(kept) = &self.kept else {
            return all;
        };
        let mut copies = Vec::new();
        for aisle in 0..kept.tuples.aisles() {
            let is_meant = |_: &TupleKey, kept: &Kept| network.contains(&kept.client());
            kept.tuples.copy_of_aisle(aisle, is_meant, &mut copies);
            for (key, kept) in copies.drain(..) {
                let failure =
                    self.seed
                        .failure_key(kept.client().addr(), kept.sender(), kept.recipient());
                all.delays += u64::from(self.forgive_delay(&key));
                all.failures += self.failures.by_message.take(&failure).map_or(0, |_| 1);
            }
        }
        all
    }

    /// Forgets that a HELO argument was caught at relay hopping. Says whether it was remembered.
    pub fn forgive_helo(&self, helo: &[u8], now: Timestamp) -> bool {
        let key: HeloKey = self.seed.helo_key(helo);
        let policy = self.policy.load();
        let known = self.hops.helos.take(&key);
        known.is_some_and(|known| !known.has_lapsed(&policy, now))
    }

    /// Whether any HELO argument is remembered.
    pub fn remembers_helos(&self) -> bool {
        self.hops.helos.len() > 0
    }

    fn forgive_delay(&self, key: &TupleKey) -> bool {
        let waits_longer = self.tuples.get(key).is_some_and(|record| record.extra > 0);
        let is_forgiven = waits_longer
            && self
                .tuples
                .alter(key, |record| *record = record.forgiven())
                .is_some();
        if let Some(outbox) = self.outbox.as_ref().filter(|_| is_forgiven) {
            outbox.note_forgiven(SharedKey::Tuple(*key));
        }
        is_forgiven
    }

    fn forget_tuple(&self, key: TupleKey) -> Option<ForgottenKind> {
        // First: an attempt between the two would take the trace for the record.
        let had_trace = self.traces.forget(&key);
        let Some(record) = self.tuples.take(&key) else {
            return had_trace.then_some(ForgottenKind::Pending);
        };
        self.forget_kept(|kept| &kept.tuples, key);
        Some(if record.has_passed() {
            ForgottenKind::Passed
        } else {
            ForgottenKind::Pending
        })
    }

    fn forget_trust_of_key(&self, key: TrustKey) -> Option<ForgottenKind> {
        let record = self.trust.take(&key)?;
        self.forget_kept(|kept| &kept.trust, key);
        Some(if record.by_content {
            ForgottenKind::ContentTrust
        } else {
            ForgottenKind::Trust
        })
    }

    fn forget_client(&self, key: ClientKey) -> Option<ForgottenKind> {
        self.clients.by_address.take(&key)?;
        self.forget_kept(|kept| &kept.clients, key);
        Some(ForgottenKind::Client)
    }

    pub(super) fn forget_kept<K: Key>(
        &self,
        table: impl Fn(&KeptTables) -> &Table<K, Kept>,
        key: K,
    ) {
        if let Some(kept) = &self.kept {
            kept.forget(table(kept), &[key]);
        }
    }
}

/// What a key is made of.
pub(super) fn attempt_of<'a>(
    client: IpAddr,
    reverse_path: &'a [u8],
    recipient: &'a [u8],
) -> Attempt<'a> {
    Attempt {
        client: client.to_canonical(),
        client_name: b"",
        helo: b"",
        reverse_path,
        recipient,
        announced_size: 0,
        connected: Timestamp::NEVER,
        server: ServerMark::UNKNOWN,
        authenticated: false,
        origin: Origin::ThisHost,
        evidence: Evidence::default(),
    }
}
