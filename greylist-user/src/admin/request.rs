//! What is asked over the control socket, and what is answered: one JSON line each way.
//!
//! The answers are plain facts; `cli` makes them readable, and `--json` shows them as they are, so
//! their field names are an interface. Fields are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::actions::{Actions, HistoryFacts};
use super::evidence::EvidenceFacts;
use super::forget::{Forget, Forgotten};
use super::forgive::{ForgiveOrder, Forgiven};
use super::funnel::FunnelFacts;
use super::import::{ImportBatch, ImportCounts};
use super::list::{ListQuestion, Listing};
use super::listing::{LiveChange, LiveEntries, LiveOrder};
use super::order::{OrderedLevel, Target};
use super::recent::Recent;
use super::report::{Report, Reported};
use super::why::{Why, WhyQuestion};
use super::xdp_status::XdpStatus;
use crate::cluster::Standing;
use crate::config::Problem;
use crate::kernel::FilterStatus;
use crate::policy::LiveList;

/// One question to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How sharing with other hosts stands, or what is to become of it.
    Cluster {
        /// Which.
        order: ClusterOrder,
    },
    /// Forget one record.
    Forget {
        /// Which.
        what: Forget,
    },
    /// Undo every sentence that covers an address, or that lies in a network.
    Forgive(ForgiveOrder),
    /// Take in records from elsewhere.
    Import(ImportBatch),
    /// What is remembered, as a list.
    List(Box<ListQuestion>),
    /// List somebody from now on.
    LiveAdd(LiveOrder),
    /// Undo that.
    LiveRemove {
        /// Where.
        list: LiveList,
        /// The entry, as it was listed.
        entry: String,
    },
    /// What was listed so.
    LiveShow {
        /// Where.
        list: LiveList,
    },
    /// Sentence a client.
    Punish(PunishOrder),
    /// Read the configuration again, and apply it.
    Reload,
    /// Hear what became of mail behind greygate.
    Report(Report),
    /// Write a snapshot now.
    Snapshot,
    /// How the daemon is.
    Status,
    /// How a client stands, and what its next attempt would get.
    Why(WhyQuestion),
    /// How the kernel filter is.
    XdpStatus,
}

impl Request {
    /// Whether answering it changes anything, so that rights are needed.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Cluster { order } => *order != ClusterOrder::Status,
            Self::Forget { .. }
            | Self::Forgive(_)
            | Self::Import(_)
            | Self::LiveAdd(_)
            | Self::LiveRemove { .. }
            | Self::Punish(_)
            | Self::Reload
            | Self::Report(_)
            | Self::Snapshot => true,
            Self::List(_)
            | Self::LiveShow { .. }
            | Self::Status
            | Self::Why(_)
            | Self::XdpStatus => false,
        }
    }

    /// Whom or what it is about; empty when it is about nobody.
    pub(super) fn client(&self) -> String {
        match self {
            Self::Forget { what } => what.subject(),
            Self::Forgive(order) => order.target.to_string(),
            Self::Import(batch) if batch.dry_run => {
                format!("{} records, dry run", batch.items.len())
            }
            Self::Import(batch) => format!("{} records", batch.items.len()),
            Self::LiveAdd(order) => order.entry.clone(),
            Self::LiveRemove { entry, .. } => entry.clone(),
            Self::Punish(order) => order.target.to_string(),
            Self::Report(report) => report.address().to_string(),
            Self::Why(question) => question.address.to_string(),
            Self::Cluster { .. }
            | Self::List(_)
            | Self::LiveShow { .. }
            | Self::Reload
            | Self::Snapshot
            | Self::Status
            | Self::XdpStatus => String::new(),
        }
    }

    /// The word for it in log and metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Cluster { order } => order.word(),
            Self::Forget { .. } => "forget",
            Self::Forgive(_) => "forgive",
            Self::Import(_) => "import",
            Self::List(_) => "list",
            Self::LiveAdd(order) => match order.list {
                LiveList::Allow => "allow-add",
                LiveList::Deny => "deny-add",
            },
            Self::LiveRemove { list, .. } => match list {
                LiveList::Allow => "allow-remove",
                LiveList::Deny => "deny-remove",
            },
            Self::LiveShow { list } => match list {
                LiveList::Allow => "allow-list",
                LiveList::Deny => "deny-list",
            },
            Self::Punish(_) => "punish",
            Self::Reload => "reload",
            Self::Report(report) => report.word(),
            Self::Snapshot => "snapshot",
            Self::Status => "status",
            Self::Why(_) => "why",
            Self::XdpStatus => "xdp-status",
        }
    }
}

/// What is asked of sharing with other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterOrder {
    /// How it stands.
    Status,
    /// Compare everything with the engine.
    Resync,
    /// Keep apart until the next start.
    Leave,
}

impl ClusterOrder {
    /// The word for it in log and metric.
    const fn word(self) -> &'static str {
        match self {
            Self::Status => "cluster-status",
            Self::Resync => "cluster-resync",
            Self::Leave => "cluster-leave",
        }
    }
}

/// An operator's sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PunishOrder {
    /// Who.
    pub target: Target,
    /// For how long, in seconds; without it, as long as `[punish] sentence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How hard: `observe`, `rate` or `block`; without it, `block`. A block is not written out, so
    /// that a daemon which knows no levels yet understands it, and refuses any other.
    #[serde(default, skip_serializing_if = "OrderedLevel::is_default")]
    pub level: OrderedLevel,
    /// Even if it is allow-listed, local or private.
    #[serde(default)]
    pub force: bool,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Cluster`].
    Cluster(Box<Standing>),
    /// It was tried, and did not work.
    Failed {
        /// Why.
        why: String,
    },
    /// To [`Request::Forget`].
    Forgotten(Forgotten),
    /// To [`Request::Forgive`].
    Forgiven(Forgiven),
    /// To [`Request::Import`].
    Imported(ImportCounts),
    /// To [`Request::List`].
    List(Box<Listing>),
    /// To [`Request::LiveAdd`] and [`Request::LiveRemove`].
    LiveChange(LiveChange),
    /// To [`Request::LiveShow`].
    LiveEntries(LiveEntries),
    /// To [`Request::Punish`].
    Punished(Punished),
    /// It was not tried: not understood, not permitted, or not allowed by the rules.
    Refused {
        /// Why, and what to do instead.
        why: String,
    },
    /// To [`Request::Reload`].
    Reloaded(Reloaded),
    /// To [`Request::Report`].
    Reported(Reported),
    /// To [`Request::Snapshot`].
    Snapshot(SnapshotWritten),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Reload`]: the configuration is not legal, and that of before is in force.
    Unreloaded {
        /// All that is wrong.
        problems: Vec<Problem>,
    },
    /// To [`Request::Why`].
    Why(Box<Why>),
    /// To [`Request::XdpStatus`].
    XdpStatus(XdpStatus),
}

impl Answer {
    /// What became of the request, for log and metric.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Failed { .. } | Self::Unreloaded { .. } => "failed",
            Self::Refused { .. } => REFUSED,
            _ => "done",
        }
    }

    /// Why it was not done; empty when it was.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Failed { why } | Self::Refused { why } => why,
            Self::Unreloaded { .. } => "the configuration is not legal",
            _ => "",
        }
    }
}

/// The outcome of a request that was not tried.
pub(super) const REFUSED: &str = "refused";

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Greygate's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started, in seconds since the Unix epoch.
    pub started: u64,
    /// How long ago that was, in seconds.
    pub uptime: u64,
    /// Whether anything wants an operator.
    pub health: Health,
    /// Where it listens for Postfix, in the form of `smtpd_milters`.
    pub endpoints: Vec<String>,
    /// By what unknown mail is told when it comes again: `envelope`, `content` or `hybrid`.
    #[serde(default)]
    pub mode: String,
    /// What greylisting does: `enforce` or `observe`.
    pub greylist_action: String,
    /// What punishment does: `enforce` or `observe`.
    pub punish_action: String,
    /// What each consequence does.
    #[serde(default)]
    pub actions: Actions,
    /// How long greygate has been watching.
    #[serde(default)]
    pub history: HistoryFacts,
    /// What became of mail.
    #[serde(default)]
    pub funnel: FunnelFacts,
    /// Who is greylisted, and who is asked about clients.
    #[serde(default)]
    pub evidence: EvidenceFacts,
    /// What happened in the last minute.
    #[serde(default)]
    pub recent: Recent,
    /// What the store holds.
    pub store: Census,
    /// How the kernel filter is.
    pub xdp: FilterStatus,
    /// How sharing with other hosts stands; absent where this one keeps to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Standing>,
    /// Counts since the start, by the name and labels of their metric.
    pub counters: BTreeMap<String, u64>,
    /// What the command line sets above the file, as `SECTION.KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

/// Whether anything wants an operator. Also what `/health` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is wrong, one sentence each; empty is healthy.
    pub complaints: Vec<String>,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Tuples, pending and passed.
    pub tuples: u64,
    /// Most tuples it may hold.
    pub capacity: u64,
    /// Client networks with their senders that have earned trust.
    pub trusted: u64,
    /// Sentences that have not ended.
    pub sentences: u64,
    /// Client addresses of which strikes or AUTH are remembered.
    #[serde(default)]
    pub clients: u64,
    /// Most of them that may be.
    #[serde(default)]
    pub client_capacity: u64,
    /// Client networks with a reputation.
    #[serde(default)]
    pub reputations: u64,
    /// HELO arguments remembered for relay hopping.
    #[serde(default)]
    pub hopping_helos: u64,
    /// Fingerprints of messages that were read.
    #[serde(default)]
    pub contents: u64,
    /// Most of them that may be held.
    #[serde(default)]
    pub content_capacity: u64,
    /// Senders with their recipients of which mail waits, from whatever network it came.
    #[serde(default)]
    pub pairs: u64,
    /// Seconds since the last snapshot was written; none yet is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_age: Option<u64>,
    /// How the journal stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalStatus>,
    /// What was restored at the start, in a sentence.
    pub restored: String,
}

/// How the journal stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// When changes are written: `second`, `each` or `never`.
    pub mode: String,
    /// Milliseconds since the oldest change that may not be on the disk yet.
    pub lag: u64,
    /// Seconds since the latest group was synced; none since the start is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced_age: Option<u64>,
    /// Why it cannot be written; absent when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether more has changed than it could take, until the next snapshot.
    #[serde(default)]
    pub incomplete: bool,
}

/// A sentence that was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punished {
    /// The sentenced address or network.
    pub client: String,
    /// For how many seconds from now: no less than it was sentenced for already.
    pub seconds: u64,
    /// How hard: `observe`, `rate` or `block`, and no softer than an operator sentenced it already.
    #[serde(default)]
    pub level: String,
    /// Why new connections are not dropped all the same, such as a filter that is off; empty when
    /// they are.
    #[serde(default)]
    pub without_effect: String,
    /// Networks of the sentenced whose connections pass all the same, and why, such as
    /// `192.0.2.7/32: [lists] allow`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<String>,
}

/// A configuration that was read again and is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file.
    pub file: String,
    /// The keys with a new value that is obeyed from now on, such as `[greylist] delay`.
    pub changed: Vec<String>,
    /// The keys with another value than the daemon was started with, which it obeys once it is
    /// restarted, such as `[milter] listen`.
    pub restart: Vec<String>,
    /// What the command line sets above the file, as `SECTION.KEY=VALUE`.
    #[serde(default)]
    pub overrides: Vec<String>,
}

/// A snapshot that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotWritten {
    /// The file.
    pub file: String,
    /// Records in it.
    pub records: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How long writing took, in milliseconds.
    pub millis: u64,
}

/// More than anybody reads; an answer stays below a megabyte.
pub(super) const LISTED: usize = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::list::{ListOrder, ListTable};
    use super::super::why::Envelope;
    use super::*;
    use crate::policy::SentenceLevel;

    #[test]
    fn requests_are_what_the_manual_says() {
        let table = [
            (Request::Status, r#"{"request":"status"}"#),
            (Request::XdpStatus, r#"{"request":"xdp_status"}"#),
            (Request::Reload, r#"{"request":"reload"}"#),
            (
                Request::Import(ImportBatch::default()),
                r#"{"request":"import","dry_run":false,"items":[]}"#,
            ),
            (
                Request::Why(WhyQuestion {
                    address: [192, 0, 2, 7].into(),
                    name: None,
                    helo: "mx.example".to_owned(),
                    mail: Some(Envelope {
                        sender: "s@a.example".to_owned(),
                        recipient: "r@b.example".to_owned(),
                    }),
                }),
                r#"{"request":"why","address":"192.0.2.7","helo":"mx.example","mail":{"sender":"s@a.example","recipient":"r@b.example"}}"#,
            ),
            (
                Request::Report(Report::Spam {
                    address: [192, 0, 2, 7].into(),
                    name: Some("mx.example".to_owned()),
                }),
                r#"{"request":"report","what":"spam","address":"192.0.2.7","name":"mx.example"}"#,
            ),
            (
                Request::Report(Report::Reject {
                    address: [192, 0, 2, 7].into(),
                    mail: Envelope {
                        sender: String::new(),
                        recipient: "r@b.example".to_owned(),
                    },
                    size: None,
                }),
                r#"{"request":"report","what":"reject","address":"192.0.2.7","mail":{"sender":"","recipient":"r@b.example"}}"#,
            ),
            (
                Request::Forgive(ForgiveOrder::of("192.0.2.7".parse().expect("a target"))),
                r#"{"request":"forgive","target":"192.0.2.7"}"#,
            ),
            (
                Request::Forgive(ForgiveOrder {
                    target: "192.0.2.7".parse().expect("a target"),
                    helo: "mx.example".to_owned(),
                    mail: Some(Envelope::bare("<>", "<r@b.example>")),
                }),
                r#"{"request":"forgive","target":"192.0.2.7","helo":"mx.example","mail":{"sender":"","recipient":"r@b.example"}}"#,
            ),
            (
                Request::Forget {
                    what: Forget::Fingerprint("00ff".to_owned()),
                },
                r#"{"request":"forget","what":{"fingerprint":"00ff"}}"#,
            ),
            (
                Request::Forget {
                    what: Forget::trust([192, 0, 2, 7].into(), "<s@a.example>", ""),
                },
                r#"{"request":"forget","what":{"trust":{"address":"192.0.2.7","sender":"s@a.example"}}}"#,
            ),
            (
                Request::List(Box::new(ListQuestion {
                    network: Some("192.0.2.0/24".parse().expect("a network")),
                    least_strikes: Some(2),
                    sort: Some(ListOrder::Strikes),
                    limit: Some(10),
                    ..ListQuestion::of(ListTable::Clients)
                })),
                r#"{"request":"list","what":"clients","network":"192.0.2.0/24","least_strikes":2,"sort":"strikes","limit":10}"#,
            ),
            (
                Request::Punish(PunishOrder {
                    target: "192.0.2.7".parse().expect("a target"),
                    seconds: Some(1_800),
                    level: OrderedLevel(SentenceLevel::Rate),
                    force: false,
                }),
                r#"{"request":"punish","target":"192.0.2.7","seconds":1800,"level":"rate","force":false}"#,
            ),
        ];
        for (request, json) in table {
            assert_eq!(serde_json::to_string(&request).expect("plain data"), json);
            let read: Request = serde_json::from_str(json).expect("what was written");
            assert_eq!(read, request);
        }
    }

    #[test]
    fn order_without_a_level_is_a_block_and_a_block_is_written_without_one() {
        let json = r#"{"request":"punish","target":"192.0.2.0/24","force":false}"#;
        let request = serde_json::from_str(json);
        let Ok(Request::Punish(order)) = &request else {
            panic!("a script of before must be understood");
        };
        assert_eq!(order.level.0, SentenceLevel::Block);
        let written = serde_json::to_string(&request.expect("it was read"));
        assert_eq!(
            written.expect("plain data"),
            json,
            "an older daemon reads it"
        );
    }

    #[test]
    fn request_with_an_unknown_field_is_not_understood() {
        for json in [
            r#"{"request":"punish","target":"192.0.2.7","hours":1}"#,
            r#"{"request":"forgive","address":"192.0.2.7","all":true}"#,
            r#"{"request":"punish","target":"192.0.2.7","level":"harder"}"#,
            r#"{"request":"why","address":"192.0.2.7","hello":"mx.example"}"#,
            r#"{"request":"why","address":"192.0.2.0/24"}"#,
            r#"{"request":"report","what":"virus","address":"192.0.2.7"}"#,
            r#"{"request":"list","what":"everything"}"#,
            r#"{"request":"list","what":"pending","all":true}"#,
            r#"{"request":"shutdown"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_request(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(serde_json::from_slice::<Request>(&bytes).is_err());
        }
    }
}
