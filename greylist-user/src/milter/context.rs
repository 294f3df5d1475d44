//! What all sessions share: who judges, what is counted, and the words of this site.

use std::sync::Arc;

use crate::policy::{Judge, Peers, Witness};

use super::log;
use super::metrics::Metrics;
use super::refusal::{RefusalTexts, Refusals};
use super::reply::{HeaderName, ReplyText};
use super::servers::Servers;
use super::settings::{HeaderOn, Settings};

/// What all sessions share.
pub struct Context {
    pub(super) judge: Arc<dyn Judge>,
    /// Who is asked about clients; [`None`] if nobody can be.
    pub(super) witness: Option<Arc<dyn Witness>>,
    /// Who is asked what other hosts know; [`None`] where there are none.
    pub(super) peers: Option<Arc<dyn Peers>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reply: ReplyText,
    pub(super) refusals: Refusals,
    pub(super) header: Option<HeaderName>,
    pub(super) header_on: HeaderOn,
    pub(super) host: String,
    pub(super) telling: log::Telling,
    pub(super) servers: Servers,
}

impl Context {
    /// What sessions need of `settings`.
    pub fn new(settings: &Settings, judge: Arc<dyn Judge>, metrics: Arc<Metrics>) -> Self {
        let host = header_safe(&settings.host);
        Self {
            judge,
            witness: None,
            peers: None,
            metrics,
            reply: settings.reply.clone(),
            refusals: Refusals::new(
                RefusalTexts {
                    sentenced: settings.reply_sentenced.clone(),
                    bad_reputation: settings.reply_refused.clone(),
                    denied: settings.reply_denied.clone(),
                },
                host.clone(),
            ),
            header: settings.header.clone(),
            header_on: settings.header_on,
            host,
            telling: log::Telling {
                addresses: settings.addresses,
                verdicts: settings.verdicts,
            },
            servers: Servers::default(),
        }
    }

    /// The same with somebody to ask about clients.
    #[must_use]
    pub fn asking(self, witness: Option<Arc<dyn Witness>>) -> Self {
        Self { witness, ..self }
    }

    /// The same with somebody to ask what other hosts know.
    #[must_use]
    pub fn sharing(self, peers: Option<Arc<dyn Peers>>) -> Self {
        Self { peers, ..self }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("reply", &self.reply)
            .field("refusals", &self.refusals)
            .field("header", &self.header)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// A host name as it may stand in a header; anything else becomes `?`.
fn header_safe(host: &str) -> String {
    let safe = |it: char| {
        if it.is_ascii_alphanumeric() || ".-_[]:".contains(it) {
            it
        } else {
            '?'
        }
    };
    host.chars().take(HOST_LIMIT).map(safe).collect()
}

/// The longest domain name.
const HOST_LIMIT: usize = 255;
