//! What the daemon can do for an operator.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::forget::{Forget, Forgotten};
use super::forgive::{ForgiveOrder, Forgiven};
use super::import::{ImportBatch, ImportCounts};
use super::list::{ListQuestion, Listing};
use super::listing::{LiveChange, LiveEntries, LiveOrder};
use super::report::Report;
use super::request::{ClusterOrder, Health, Punished, Reloaded, SnapshotWritten, Status};
use super::why::{Why, WhyQuestion};
use super::xdp_status::XdpStatus;
use crate::cluster::Standing;
use crate::config::Problem;
use crate::policy::{Entry, LiveList, Policy, SentenceLevel, SentencedClient};

/// What the daemon can do for an operator.
///
/// Called from the admin threads, never from one that serves mail; a call may take as long as
/// writing a snapshot takes. Who asks has been found to have the right, and an order to obey the
/// rules, before any of these is called.
pub trait Control: Send + Sync {
    /// How the daemon is.
    fn status(&self) -> Status;

    /// How the kernel filter is.
    fn xdp_status(&self) -> XdpStatus;

    /// How sharing with other hosts stands, once the order is under way.
    fn cluster(&self, order: ClusterOrder) -> Result<Standing, ControlError>;

    /// How a client stands, and what its next attempt would get. Changes nothing.
    fn why(&self, question: &WhyQuestion) -> Why;

    /// Whether anything wants an operator. Asked by monitoring every few seconds: cheap.
    fn health(&self) -> Health;

    /// The rules in force, which protect clients from orders; this host's own addresses are local.
    fn policy(&self) -> Arc<Policy>;

    /// Lists `entry`, as `order` of this user says.
    fn live_add(
        &self,
        order: &LiveOrder,
        entry: &Entry,
        uid: u32,
    ) -> Result<LiveChange, ControlError>;

    /// Undoes that.
    fn live_remove(&self, list: LiveList, entry: &Entry) -> Result<LiveChange, ControlError>;

    /// What was listed so.
    fn live_show(&self, list: LiveList) -> LiveEntries;

    /// Sentences the client, as an operator's order.
    fn punish(
        &self,
        client: SentencedClient,
        level: SentenceLevel,
        duration: Duration,
    ) -> Result<Punished, ControlError>;

    /// Removes one record of those that are listed.
    fn forget(&self, what: &Forget) -> Result<Forgotten, ControlError>;

    /// Undoes every sentence that covers the address, or lies in the network, and what else is to be.
    fn forgive(&self, order: &ForgiveOrder) -> Result<Forgiven, ControlError>;

    /// Takes in records from elsewhere, all of the batch or none of it.
    fn import(&self, batch: &ImportBatch) -> Result<ImportCounts, ControlError>;

    /// What is remembered, as a list. One is made at a time; a second waits for the first.
    fn list(&self, question: &ListQuestion) -> Result<Listing, ControlError>;

    /// Hears what became of mail behind greygate.
    fn report(&self, report: &Report) -> Result<(), ControlError>;

    /// Reads the configuration again and applies it, or says all that is wrong and changes nothing.
    fn reload(&self) -> Result<Reloaded, Vec<Problem>>;

    /// Writes a snapshot now, and returns when it is on the disk.
    fn snapshot(&self) -> Result<SnapshotWritten, ControlError>;
}

/// Why an order was not carried out; the text is shown to the operator.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ControlError(pub String);
