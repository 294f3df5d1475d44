//! A daemon of the tests: it keeps the orders it was given, and nothing else of a daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::actions::{Actions, HistoryFacts};
use super::control::{Control, ControlError};
use super::evidence::EvidenceFacts;
use super::forget::{Forget, Forgotten};
use super::forgive::{ForgiveOrder, Forgiven};
use super::funnel::FunnelFacts;
use super::import::{ImportBatch, ImportCounts};
use super::list::{ListQuestion, ListRows, Listing, PendingRow};
use super::listing::{LiveChange, LiveEntries, LiveOrder};
use super::recent::Recent;
use super::report::Report;
use super::request::{Census, ClusterOrder, Health, Punished, Reloaded, SnapshotWritten, Status};
use super::why::{Why, WhyQuestion};
use super::xdp_status::XdpStatus;
use crate::cluster::Standing;
use crate::config::Problem;
use crate::kernel::FilterStatus;
use crate::policy::{Entry, LiveList, Policy, SentenceLevel, SentencedClient};

/// Remembers every change that was ordered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    changes: Mutex<Vec<String>>,
    complaints: Mutex<Vec<String>>,
}

impl Ledger {
    /// What was ordered so far, in order.
    pub(super) fn changes(&self) -> Vec<String> {
        self.changes.lock().expect("no test panics in here").clone()
    }

    /// From now on something is wrong.
    pub(super) fn complain(&self, complaint: &str) {
        let mut complaints = self.complaints.lock().expect("no test panics in here");
        complaints.push(complaint.to_owned());
    }

    fn note(&self, change: String) {
        self.changes
            .lock()
            .expect("no test panics in here")
            .push(change);
    }
}

impl Control for Ledger {
    fn status(&self) -> Status {
        Status {
            version: "0.0.0".to_owned(),
            pid: std::process::id(),
            started: 0,
            uptime: 0,
            health: self.health(),
            endpoints: Vec::new(),
            mode: "hybrid".to_owned(),
            greylist_action: "enforce".to_owned(),
            punish_action: "enforce".to_owned(),
            actions: Actions::default(),
            history: HistoryFacts::default(),
            funnel: FunnelFacts::default(),
            evidence: EvidenceFacts::default(),
            recent: Recent::default(),
            store: Census::default(),
            xdp: self.xdp_status().filter,
            cluster: None,
            counters: BTreeMap::new(),
            overrides: Vec::new(),
        }
    }

    fn cluster(&self, order: ClusterOrder) -> Result<Standing, ControlError> {
        self.note(format!("cluster {order:?}"));
        Ok(Standing::default())
    }

    fn xdp_status(&self) -> XdpStatus {
        XdpStatus {
            filter: FilterStatus::Off {
                why: "this is a test".to_owned(),
            },
            sentences: Vec::new(),
            sentences_left_off: 0,
        }
    }

    fn why(&self, question: &WhyQuestion) -> Why {
        Why {
            client: question.address.to_string(),
            ..Why::default()
        }
    }

    fn list(&self, question: &ListQuestion) -> Result<Listing, ControlError> {
        Ok(Listing {
            matched: question.rows() as u64,
            rows: ListRows::Pending(vec![PendingRow::default(); question.rows()]),
            ..Listing::default()
        })
    }

    fn report(&self, report: &Report) -> Result<(), ControlError> {
        self.note(format!("{} {}", report.word(), report.address()));
        Ok(())
    }

    fn health(&self) -> Health {
        let complaints = self.complaints.lock().expect("no test panics in here");
        Health {
            complaints: complaints.clone(),
        }
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy::default())
    }

    fn punish(
        &self,
        client: SentencedClient,
        level: SentenceLevel,
        duration: Duration,
    ) -> Result<Punished, ControlError> {
        let level = level.as_str();
        self.note(format!("punish {client} {level} {}", duration.as_secs()));
        Ok(Punished {
            client: client.to_string(),
            seconds: duration.as_secs(),
            level: level.to_owned(),
            ..Punished::default()
        })
    }

    fn forget(&self, what: &Forget) -> Result<Forgotten, ControlError> {
        self.note(format!("forget {}", what.subject()));
        Ok(Forgotten::default())
    }

    fn forgive(&self, order: &ForgiveOrder) -> Result<Forgiven, ControlError> {
        let target = order.target;
        self.note(format!("forgive {target}"));
        Ok(Forgiven {
            client: target.to_string(),
            sentences: 1,
            lifted: vec![target.to_string()],
            ..Forgiven::default()
        })
    }

    fn live_add(
        &self,
        order: &LiveOrder,
        entry: &Entry,
        uid: u32,
    ) -> Result<LiveChange, ControlError> {
        self.note(format!("{} {entry} by {uid}", order.list));
        Ok(LiveChange::default())
    }

    fn live_remove(&self, list: LiveList, entry: &Entry) -> Result<LiveChange, ControlError> {
        self.note(format!("{list} no more {entry}"));
        Ok(LiveChange::default())
    }

    fn live_show(&self, _list: LiveList) -> LiveEntries {
        LiveEntries::default()
    }

    fn import(&self, batch: &ImportBatch) -> Result<ImportCounts, ControlError> {
        self.note(format!("import {}", batch.items.len()));
        Ok(ImportCounts::default())
    }

    fn reload(&self) -> Result<Reloaded, Vec<Problem>> {
        self.note("reload".to_owned());
        Err(vec![Problem {
            file: "greygate.toml".into(),
            line: 3,
            text: "no".to_owned(),
        }])
    }

    fn snapshot(&self) -> Result<SnapshotWritten, ControlError> {
        self.note("snapshot".to_owned());
        Err(ControlError("the disk is full".to_owned()))
    }
}
