//! What the daemon can do for an operator.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::forget::{Forget, Forgotten};
use super::forgive::{ForgiveOrder, Forgiven};
use super::list::{ListQuestion, Listing};
use super::report::Report;
use super::request::{Health, Punished, SnapshotWritten, Status, XdpStatus};
use super::why::{Why, WhyQuestion};
use crate::policy::{Policy, SentenceLevel, SentencedClient};

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

    /// How a client stands, and what its next attempt would get. Changes nothing.
    fn why(&self, question: &WhyQuestion) -> Why;

    /// Whether anything wants an operator. Asked by monitoring every few seconds: cheap.
    fn health(&self) -> Health;

    /// The rules in force, which protect clients from orders; this host's own addresses are local.
    fn policy(&self) -> Arc<Policy>;

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

    /// What is remembered, as a list. One is made at a time; a second waits for the first.
    fn list(&self, question: &ListQuestion) -> Result<Listing, ControlError>;

    /// Hears what became of mail behind greygate.
    fn report(&self, report: &Report) -> Result<(), ControlError>;

    /// Writes a snapshot now, and returns when it is on the disk.
    fn snapshot(&self) -> Result<SnapshotWritten, ControlError>;
}

/// Why an order was not carried out; the text is shown to the operator.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ControlError(pub String);
