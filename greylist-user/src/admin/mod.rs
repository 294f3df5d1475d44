//! What operators may ask a running daemon, and what their monitoring may read.
//!
//! Two doors, each in a thread of its own, so that neither can hold up mail: the control socket
//! (a Unix socket, one JSON line each way) and the metrics endpoint (HTTP). Knows who may ask for
//! what; leaves doing it to [`Control`], which the daemon implements with the same entry points of
//! the store that the milter uses.
//!
//! Log words: `ordered` (info, every change with the uid that ordered it), `unpermitted` (warn),
//! `unaccepted` (warn, the system is out of descriptors) and `panicked` (error, a bug).

mod actions;
mod client;
mod control;
mod count;
mod door;
mod evidence;
mod forget;
mod forgive;
mod funnel;
mod import;
#[cfg(test)]
mod ledger;
mod list;
mod listing;
mod metrics;
mod order;
mod recent;
mod report;
mod request;
mod settings;
mod socket;
mod why;
mod xdp_status;

pub use actions::{Actions, HistoryFacts};
pub use client::{CallError, call};
pub use control::{Control, ControlError};
pub use count::Metrics;
pub use evidence::{EvidenceFacts, SourceFact};
pub use forget::{Forget, Forgotten, InvalidFingerprint, Removed, TrustOf, bits_of};
pub use forgive::{ForgiveOrder, Forgiven};
pub use funnel::{
    Amount, DroppedSyns, FateFact, FunnelCounts, FunnelFacts, GivenUp, KernelRefusals, Share,
};
pub use import::{ImportBatch, ImportCounts};
pub use list::{
    ClientRow, FingerprintRow, InvalidList, ListOrder, ListQuestion, ListRows, ListTable, Listing,
    PendingRow, SentenceRow, TrustedRow, UnknownOrder, UnknownTable,
};
pub use listing::{LiveChange, LiveEntries, LiveEntry, LiveOrder};
pub use metrics::{BoundMetrics, MetricsError, MetricsServer, counts};
pub use order::{InvalidTarget, OrderedLevel, Refusal, Target};
pub use recent::{LatencyFacts, Recent};
pub use report::{InvalidReport, Report, Reported};
pub use request::{
    Answer, Census, ClusterOrder, Health, JournalStatus, PunishOrder, Punished, Reloaded, Request,
    SnapshotWritten, Status,
};
pub use settings::{MetricsListen, MetricsSettings, Settings};
pub use socket::{BoundControl, ControlServer, SocketError};
pub use why::{
    ContentTrustFacts, Envelope, FailureFacts, HeloFact, KernelEntry, KernelFacts, ListFact,
    MailFacts, NetworkFacts, NextFacts, PairFacts, RecipientPolicyFact, ReputationFacts,
    SentenceFact, StrikeFact, TrustFacts, TupleFacts, Why, WhyQuestion,
};
pub use xdp_status::{SentenceLine, XdpStatus};
