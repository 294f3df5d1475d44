//! Selective greylisting as plain facts: what is asked, of whom, and how they answer.

use serde::{Deserialize, Serialize};

use crate::dns::Standing;
use crate::policy::Policy;

/// Who is greylisted, and who is asked about clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvidenceFacts {
    /// `everyone` or `suspicious`; empty where an older daemon does not tell.
    pub who: String,
    /// What tuples and trust belong to: `network` or `spf`.
    pub identity: String,
    /// Who is asked; none while nothing is.
    pub sources: Vec<SourceFact>,
}

/// A list, or the servers that SPF is asked over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFact {
    /// `blocklist`, `allowlist` or `spf`.
    pub kind: String,
    /// The zone of a list, without a subscriber's key.
    pub name: String,
    /// Whether it is asked now.
    pub up: bool,
    /// Why not; empty while it has not been tested.
    pub why: String,
}

impl EvidenceFacts {
    /// The facts of these rules and sources.
    pub fn of(policy: &Policy, standings: &[Standing]) -> Self {
        let rules = &policy.evidence;
        let sources = standings.iter().map(|it| SourceFact {
            kind: it.kind.to_owned(),
            name: it.name.clone(),
            up: it.is_up,
            why: it.why.clone(),
        });
        Self {
            who: rules.who.as_str().to_owned(),
            identity: rules.identity.as_str().to_owned(),
            sources: sources.collect(),
        }
    }
}
