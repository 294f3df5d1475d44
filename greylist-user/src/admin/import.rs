//! What is taken in from elsewhere, in batches: each a line of its own, bounded, that only those may
//! send who may change anything.

use serde::{Deserialize, Serialize};

use crate::store;
use crate::transfer::Item;

/// Some records to take in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBatch {
    /// Names the seed that the records' keys were made with; absent where none has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_check: Option<String>,
    /// Since when there was a history where they come from, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_begun: Option<u64>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// The records.
    pub items: Vec<Item>,
}

impl ImportBatch {
    /// How a line begins that may be as long as [`ImportBatch::LONGEST`].
    pub(super) const BEGINS: &'static [u8] = b"{\"request\":\"import\",";
    /// Bytes of the longest line.
    pub const LONGEST: usize = 1 << 20;
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Tuples.
    pub tuples: u64,
    /// Records of trust.
    pub trusted: u64,
    /// Sentences.
    pub sentences: u64,
    /// Clients with strikes or AUTH, and networks of struck hosts.
    pub clients: u64,
    /// Reputations.
    pub reputations: u64,
    /// HELO arguments.
    pub helos: u64,
    /// Fingerprints of messages.
    pub contents: u64,
    /// Pairs of sender and recipient.
    pub pairs: u64,
    /// Records whose addresses are kept in clear.
    #[serde(default)]
    pub addresses: u64,
    /// Not taken in: addresses in clear, which are not to be kept here.
    #[serde(default)]
    pub addresses_dropped: u64,
    /// Not taken in: lapsed.
    pub lapsed: u64,
    /// Not taken in: no room.
    pub over_capacity: u64,
    /// Not taken in: the rules in force have no counterpart, by what it is.
    #[serde(default)]
    pub no_counterpart: Vec<(String, u64)>,
}

impl ImportCounts {
    /// Of what the store says.
    pub fn of(imported: &store::Imported) -> Self {
        let counts = &imported.counts;
        let none = imported.no_counterpart.iter();
        Self {
            tuples: counts.tuples,
            trusted: counts.trusted,
            sentences: counts.sentences,
            clients: counts.clients,
            reputations: counts.reputations,
            helos: counts.helos,
            contents: counts.contents,
            pairs: counts.pairs,
            addresses: counts.addresses,
            addresses_dropped: counts.addresses_dropped,
            lapsed: counts.lapsed,
            over_capacity: counts.over_capacity,
            no_counterpart: none
                .map(|(it, count)| (it.as_str().to_owned(), *count))
                .collect(),
        }
    }

    /// Adds those of another batch.
    pub fn add(&mut self, other: &Self) {
        self.tuples += other.tuples;
        self.trusted += other.trusted;
        self.sentences += other.sentences;
        self.clients += other.clients;
        self.reputations += other.reputations;
        self.helos += other.helos;
        self.contents += other.contents;
        self.pairs += other.pairs;
        self.addresses += other.addresses;
        self.addresses_dropped += other.addresses_dropped;
        self.lapsed += other.lapsed;
        self.over_capacity += other.over_capacity;
        for (what, count) in &other.no_counterpart {
            self.add_no_counterpart(what, *count);
        }
    }

    /// Adds what there is no counterpart of.
    pub fn add_no_counterpart(&mut self, what: &str, count: u64) {
        let mut known = self.no_counterpart.iter_mut();
        match known.find(|(known, _)| known == what) {
            Some((_, sum)) => *sum += count,
            None => self.no_counterpart.push((what.to_owned(), count)),
        }
    }

    /// What was taken in, in words, each kind that there was.
    pub fn kinds(&self) -> [(&'static str, u64); 9] {
        [
            ("tuples", self.tuples),
            ("records of trust", self.trusted),
            ("sentences", self.sentences),
            ("clients", self.clients),
            ("reputations", self.reputations),
            ("HELO arguments", self.helos),
            ("fingerprints", self.contents),
            ("pairs", self.pairs),
            ("addresses", self.addresses),
        ]
    }
}
