//! The rows of each list: its fields are an interface.
//!
//! What they are told from is `told`'s.

use serde::{Deserialize, Serialize};

/// A list of what is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// When this was so.
    pub now: u64,
    /// Rows that match, those that are not shown included.
    pub matched: u64,
    /// How many of them are not shown.
    pub more: u64,
    /// Whether addresses are kept beside the records: `[store] keep_addresses`.
    #[serde(default)]
    pub addresses_kept: bool,
    /// What cannot be shown, and what would keep it; one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The list, under its name.
    #[serde(flatten)]
    pub rows: ListRows,
}

/// The rows of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", content = "rows", rename_all = "snake_case")]
pub enum ListRows {
    /// Client addresses of which strikes or AUTH are remembered.
    Clients(Vec<ClientRow>),
    /// Messages that were read.
    Fingerprints(Vec<FingerprintRow>),
    /// Tuples.
    Pending(Vec<PendingRow>),
    /// Sentences in force.
    Sentences(Vec<SentenceRow>),
    /// Trust.
    Trusted(Vec<TrustedRow>),
}

impl Default for ListRows {
    fn default() -> Self {
        Self::Pending(Vec::new())
    }
}

impl ListRows {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Clients(rows) => rows.len(),
            Self::Fingerprints(rows) => rows.len(),
            Self::Pending(rows) => rows.len(),
            Self::Sentences(rows) => rows.len(),
            Self::Trusted(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRow {
    /// What it is remembered by.
    pub fingerprint: String,
    /// `early`, `in-window` or `passed`.
    pub standing: String,
    /// The first attempt.
    pub first: u64,
    /// The latest attempt.
    pub last: u64,
    /// Attempts.
    pub attempts: u64,
    /// Passes.
    pub passes: u64,
    /// What early retries have added to the delay.
    pub extra: u64,
    /// When its window opens, or opened.
    pub opens: u64,
    /// When its window closes; of one that passed, when it is forgotten.
    pub until: u64,
    /// When it first passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u64>,
    /// Who tried, where addresses are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The sender, where addresses are kept; empty is the null reverse-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The recipient, where addresses are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
}

/// Trust in a sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedRow {
    /// What it is remembered by.
    pub fingerprint: String,
    /// `passes` of tuples, or a message that came again: `content`.
    pub earned_by: String,
    /// `trusted`, or `earning` while passes are wanting, or `off` where the rules give none.
    pub standing: String,
    /// Passes that counted.
    pub passes: u64,
    /// Passes that are wanted, without a good record of the network; 0 where one message is enough.
    pub wanted: u64,
    /// The latest pass.
    pub last: u64,
    /// When it is forgotten, if it is not used.
    pub until: u64,
    /// The client network, where addresses are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The sender without what changes from mail to mail, where addresses are kept; of content, the
    /// domain with `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// A client address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// What it is remembered by.
    pub fingerprint: String,
    /// Its address, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Strikes that count.
    pub strikes: u64,
    /// The latest strike, whether it counts or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// What that was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offence: Option<String>,
    /// When its strikes count no more, if none is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The latest successful AUTH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_auth: Option<u64>,
    /// Whether that shields it.
    pub authenticated: bool,
    /// What its network is reputed to be, if the address is known: `unknown`, `good`, `established`
    /// or `bad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repute: Option<String>,
    /// The level of its sentence, if the address is known and a sentence is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
}

/// A sentence in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentenceRow {
    /// The sentenced address or network.
    pub client: String,
    /// `observe`, `rate` or `block`.
    pub level: String,
    /// What is carried out of it; absent if it is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_out: Option<String>,
    /// What it was given for.
    pub reason: String,
    /// When it was given.
    pub first: u64,
    /// When it ends.
    pub until: u64,
    /// New connections that the kernel dropped, or would have; as it stood up to a minute ago.
    pub drops: u64,
    /// Whether it was made longer for them.
    pub lengthened: bool,
}

/// A message that was read, to one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintRow {
    /// What it is remembered by.
    pub fingerprint: String,
    /// `early`, `in-window`, `passed` or `spent`.
    pub standing: String,
    /// When it was read first.
    pub first: u64,
    /// When it was read last.
    pub last: u64,
    /// How often it was read.
    pub attempts: u64,
    /// How often it passed.
    pub passes: u64,
    /// From when on it may pass.
    pub opens: u64,
    /// When it is forgotten, if it does not come again.
    pub until: u64,
    /// When it first passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u64>,
}
