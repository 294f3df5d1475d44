//! Who is to be forgiven and what, and what that undid.

use serde::{Deserialize, Serialize};

use super::order::Target;
use super::request::LISTED;
use super::why::Envelope;
use crate::policy::Sentence;

/// Who is to be forgiven, and what of it that is not remembered by the client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgiveOrder {
    /// Who.
    pub target: Target,
    /// Its HELO argument, to be forgotten; empty if none is to be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub helo: String,
    /// A mail of it that waits longer than others do, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Envelope>,
}

impl ForgiveOrder {
    /// The client or network, with all that is remembered by its address.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            helo: String::new(),
            mail: None,
        }
    }
}

/// What was undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgiven {
    /// The forgiven address or network.
    pub client: String,
    /// Sentences that were lifted.
    pub sentences: u64,
    /// Strikes that count no more.
    #[serde(default)]
    pub strikes: u64,
    /// Whose they were, the first thousand.
    #[serde(default)]
    pub lifted: Vec<String>,
    /// Client networks of which bad counts are gone: what was said of them counts no more.
    #[serde(default)]
    pub reputations: u64,
    /// Clients of which refused recipients are counted no more.
    #[serde(default)]
    pub rejections: u64,
    /// Mails that wait no longer than others do.
    #[serde(default)]
    pub delays: u64,
    /// Permanent failures that retries are not counted after any more.
    #[serde(default)]
    pub failures: u64,
    /// Whether the HELO argument that was named had been remembered for relay hopping, and is not now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub helo: bool,
    /// What may be left, and how to undo it; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl Forgiven {
    /// That these, and so many strikes, were undone when `target` was to be forgiven.
    pub fn of(target: Target, lifted: &[Sentence], strikes: u64) -> Self {
        let clients = lifted.iter().map(|sentence| sentence.client.to_string());
        Self {
            client: target.to_string(),
            sentences: lifted.len() as u64,
            strikes,
            lifted: clients.take(LISTED).collect(),
            ..Self::default()
        }
    }

    /// Whether nothing was undone.
    pub fn is_nothing(&self) -> bool {
        let counts = [
            self.sentences,
            self.strikes,
            self.reputations,
            self.rejections,
            self.delays,
            self.failures,
        ];
        counts.iter().all(|count| *count == 0) && !self.helo
    }
}
