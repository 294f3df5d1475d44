//! The whole standing of a client as plain facts: the answer to `greygate why`.
//!
//! Times are seconds since the Unix epoch, lengths are seconds; what there is nothing of is absent.
//! The field names are an interface: fields are added, never renamed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::actions::{Actions, HistoryFacts};
use crate::policy::verified_name;
use crate::store::Question;

mod mail;
mod told;

pub use mail::{
    ContentTrustFacts, FailureFacts, MailFacts, NextFacts, PairFacts, TrustFacts, TupleFacts,
};

/// Of whom, and of what, an explanation is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuestion {
    /// The client address.
    pub address: IpAddr,
    /// Its verified reverse name; empty or `unknown` if it has none, absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its HELO argument; empty if that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub helo: String,
    /// The mail that is asked about, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Envelope>,
}

/// Sender and recipient of a mail, without angle brackets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The reverse-path; empty is the null reverse-path.
    pub sender: String,
    /// The forward-path.
    pub recipient: String,
}

impl Envelope {
    /// The mail, its paths with angle brackets or without.
    pub fn bare(sender: &str, recipient: &str) -> Self {
        Self {
            sender: bare(sender).to_owned(),
            recipient: bare(recipient).to_owned(),
        }
    }
}

impl WhyQuestion {
    /// The question in the words of the store.
    pub fn as_asked(&self) -> Question<'_> {
        let mail = self.mail.as_ref();
        Question {
            client: self.address,
            name: self.name.as_deref().map(|it| verified_name(it.as_bytes())),
            helo: self.helo.as_bytes(),
            mail: mail.map(|it| (it.sender.as_bytes(), it.recipient.as_bytes())),
        }
    }
}

/// The whole standing of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The client address.
    pub client: String,
    /// When this was so.
    pub now: u64,
    /// By what unknown mail is told when it comes again: `envelope`, `content` or `hybrid`.
    #[serde(default)]
    pub mode: String,
    /// Whether no further message can be remembered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contents_full: bool,
    /// Why its mail is not greylisted at all: `allowed` or `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<String>,
    /// The entries of lists that name it or the mail, the list that decides first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListFact>,
    /// The policy of the recipient that was asked about, if it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_policy: Option<RecipientPolicyFact>,
    /// Whether it, or a neighbour that a sentence would hit, is allow-listed, local or private.
    pub shielded: bool,
    /// Whether a successful AUTH shields it.
    pub authenticated: bool,
    /// The latest successful AUTH from this very address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_auth: Option<u64>,
    /// Strikes that count.
    pub strikes: u64,
    /// When they count no more, if none is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strikes_until: Option<u64>,
    /// The latest strikes, the newest first, those that count no more included.
    #[serde(default)]
    pub latest_strikes: Vec<StrikeFact>,
    /// The network around it, whose hosts hold the strikes of `neighbours`.
    pub around: String,
    /// When hosts of that network were struck last, itself included; those that count.
    #[serde(default)]
    pub neighbours: Vec<u64>,
    /// So many make a sentence of the network; 0 is never.
    pub neighbours_needed: u64,
    /// The sentences in force that cover it.
    #[serde(default)]
    pub sentences: Vec<SentenceFact>,
    /// What the kernel filter holds of it.
    pub kernel: KernelFacts,
    /// What is remembered of the HELO argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<HeloFact>,
    /// Its client network; both that it may be, where its reverse name is not known and makes a
    /// difference.
    pub networks: Vec<NetworkFacts>,
    /// Since when there is a history, and what waits for more of it.
    pub history: HistoryFacts,
    /// Which consequences are carried out.
    pub actions: Actions,
}

/// An entry of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFact {
    /// Which: `allow`, `local`, `deny`, `no_retry` or `never_trust`.
    pub list: String,
    /// The entry.
    pub entry: String,
    /// Where it stands: a file and line, or who ordered it.
    pub source: String,
    /// When it was ordered by a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// When it ends; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What was noted with the order.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The policy of a recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientPolicyFact {
    /// The pattern that names the recipient.
    pub pattern: String,
    /// Where it stands.
    pub source: String,
    /// `on` or `off`.
    pub greylist: String,
    /// By what unknown mail is told when it comes again.
    pub mode: String,
    /// How long it waits, in seconds.
    pub delay: u64,
}

/// One strike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrikeFact {
    /// When.
    pub at: u64,
    /// What for.
    pub offence: String,
}

/// A sentence in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentenceFact {
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
    pub since: u64,
    /// When it ends.
    pub until: u64,
    /// New connections that the kernel dropped, or would have.
    pub drops: u64,
    /// Whether it was made longer for them.
    pub lengthened: bool,
}

/// What the kernel filter holds of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// Why nothing is dropped, whoever is sentenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
    /// Why its connections always pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<String>,
    /// Why the kernel's table could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Its own entry, and that of the network around it.
    #[serde(default)]
    pub entries: Vec<KernelEntry>,
}

/// An entry of the kernel's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelEntry {
    /// Whose it is.
    pub client: String,
    /// `observe`, `rate` or `block`.
    pub level: String,
    /// When it ends.
    pub until: u64,
    /// New connections that were dropped, or would have been.
    pub drops: u64,
}

/// A HELO argument that relay hopping was done with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeloFact {
    /// When it was first caught.
    pub since: u64,
    /// When it was last caught.
    pub latest: u64,
    /// How often.
    pub times: u64,
    /// When it is forgotten.
    pub until: u64,
}

/// A client network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// The network.
    pub network: String,
    /// Whether this is so with a reverse name that tells a server.
    pub named: bool,
    /// What its past says: `unknown`, `bad`, `good` or `established`.
    pub repute: String,
    /// The counts behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation: Option<ReputationFacts>,
    /// What the client is protected from: `none`, `block` or `all`.
    pub protection: String,
    /// What looks suspicious about it, where only the suspicious are greylisted: `no-name`,
    /// `access-line`, `helo-no-name` or `helo-ours`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
    /// Who would be asked about its next mail, if that would be deferred: `blocklist`, `allowlist`,
    /// `spf`. What they would say is not known here: nobody was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<String>,
    /// The mail that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailFacts>,
}

/// Good and bad counts of a network, whole ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReputationFacts {
    /// Good counts, as they weigh now.
    pub good: u64,
    /// Bad counts.
    pub bad: u64,
    /// Mails that were reported as wanted.
    pub ham: u64,
    /// Mails that were reported as spam.
    pub spam: u64,
    /// The latest count.
    pub updated: u64,
    /// Days with a good count.
    pub good_days: u64,
    /// Recipients that good counts came from; at least so many.
    pub recipients: u64,
    /// The first good count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// A path without its angle brackets, as people and filters write it either way.
fn bare(path: &str) -> &str {
    path.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_that_postfix_calls_unknown_has_no_name() {
        let name = |name: Option<&str>| {
            let question = WhyQuestion {
                address: [192, 0, 2, 7].into(),
                name: name.map(str::to_owned),
                helo: String::new(),
                mail: None,
            };
            question.as_asked().name.map(<[u8]>::to_vec)
        };
        assert_eq!(name(Some("unknown")), Some(Vec::new()));
        assert_eq!(name(Some("")), Some(Vec::new()));
        let named = "mail.sender.example";
        assert_eq!(name(Some(named)), Some(named.into()));
        assert_eq!(name(None), None);
    }
}
