//! The daemon as its operators see it: facts gathered from the rooms, orders carried to them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use prometheus_client::registry::Registry;

use super::lists::LiveLists;
use super::pulse::Pulse;
use super::reload::{ReloadError, Reloader};
use super::sentences::UpheldSentences;
use super::turns::Turns;
use crate::admin::{
    self, Actions, Census, ClusterOrder, Control, ControlError, DroppedSyns, EvidenceFacts, Forget,
    ForgiveOrder, Forgiven, Forgotten, FunnelCounts, FunnelFacts, Health, HistoryFacts,
    ImportBatch, ImportCounts, JournalStatus, KernelEntry, KernelFacts, ListQuestion, Listing,
    LiveChange, LiveEntries, LiveOrder, Punished, Reloaded, Removed, Report, SnapshotWritten,
    Status, Target, Why, WhyQuestion, XdpStatus,
};
use crate::chain::chain;
use crate::clock::Clock;
use crate::cluster::{Cluster, Standing};
use crate::config::{ConfigError, Problem, format_duration};
use crate::dns::Dns;
use crate::kernel::{FilterStatus, ObtainedMode, Projector, SentenceSource};
use crate::milter::{self, Endpoint};
use crate::policy::{
    Action, Entry, LiveList, Order, Persistence, Policy, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, Timestamp,
};
use crate::store::{self, ForgivenMail, JournalStanding, Store};
use crate::transfer::Item;

/// Answers for all rooms.
pub(super) struct Desk {
    pub(super) clock: Arc<dyn Clock>,
    /// Who shares, if anybody does.
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) dns: Arc<Dns>,
    /// What the kernel had dropped when the daemon started.
    pub(super) dropped_before: Option<DroppedSyns>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) list_turns: Turns,
    pub(super) lists: Arc<LiveLists>,
    pub(super) milter: Arc<milter::Metrics>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) projector: Arc<Projector>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) registry: Arc<Registry>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) restored: String,
    pub(super) sentences: Arc<UpheldSentences>,
    pub(super) snapshot_interval: Duration,
    pub(super) started: Timestamp,
    pub(super) store: Arc<Store>,
    pub(super) stored: Arc<store::Metrics>,
    /// Whether the configuration names an interface to filter on.
    pub(super) wants_filter: bool,
}

impl Control for Desk {
    fn status(&self) -> Status {
        let now = self.clock.now();
        let policy = self.policy.load();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started.as_millis() / 1_000,
            uptime: now.since(self.started).as_secs(),
            health: self.health(),
            endpoints: self.endpoints.iter().map(Endpoint::to_string).collect(),
            mode: policy.mode.as_str().to_owned(),
            greylist_action: policy.action.as_str().to_owned(),
            punish_action: policy.punish.action.as_str().to_owned(),
            actions: self.actions(&policy),
            history: HistoryFacts::of(self.store.history(), &policy, now),
            funnel: self.funnel(),
            evidence: EvidenceFacts::of(&policy, &self.dns.standings()),
            recent: self.pulse.recent(now),
            store: self.census(now),
            xdp: self.projector.status(),
            cluster: self.cluster.as_ref().map(|it| it.standing()),
            counters: admin::counts(&self.registry),
            overrides: self.reloader.overrides(),
        }
    }

    fn xdp_status(&self) -> XdpStatus {
        let now = self.clock.now();
        XdpStatus::of(self.projector.status(), self.sentences.sentences(now), now)
    }

    fn cluster(&self, order: ClusterOrder) -> Result<Standing, ControlError> {
        let Some(cluster) = &self.cluster else {
            let why = "this host keeps to itself: [cluster] names no servers";
            return Err(ControlError(why.to_owned()));
        };
        match order {
            ClusterOrder::Status => {}
            ClusterOrder::Resync => {
                // Whatever it is, a host that shares again compares all anyway.
                if let Some(why) = cluster.standing().apart() {
                    return Err(ControlError(format!("nothing was compared: {why}")));
                }
                cluster.resync();
            }
            ClusterOrder::Leave => cluster.leave(),
        }
        Ok(cluster.standing())
    }

    fn why(&self, question: &WhyQuestion) -> Why {
        let now = self.clock.now();
        let policy = self.policy.load();
        let recipient = question.mail.as_ref();
        let recipient = recipient.map_or(&b""[..], |it| it.recipient.as_bytes());
        if let Some(cluster) = &self.cluster {
            let mail = question.mail.as_ref();
            let mail = mail.map(|it| (it.sender.as_bytes(), it.recipient.as_bytes()));
            cluster.recall(self.store.missing_of(question.address, mail));
        }
        let explanation = self.store.explain(&question.as_asked(), now);
        let kernel = self.kernel_facts(question.address, now);
        let actions = self.actions(&policy);
        Why::of(
            question.address,
            &explanation,
            kernel,
            actions,
            // The mail that is asked about is told by its recipient's.
            policy.for_recipient(recipient),
            now,
        )
    }

    fn import(&self, batch: &ImportBatch) -> Result<ImportCounts, ControlError> {
        let now = self.clock.now();
        let ours = u128::from_be_bytes(self.store.seed_fingerprint());
        let is_ours = |check: &str| u128::from_str_radix(check, 16) == Ok(ours);
        let check = batch.seed_check.as_deref();
        if check.is_some_and(|check| !is_ours(check)) {
            let why = "its keys were made with another seed, so that nothing in it could be found here; \
                       give this host that seed ([store] seed_file) while it begins anew, or export from \
                       a host with this one's";
            return Err(ControlError(why.to_owned()));
        }
        if check.is_none() && batch.items.iter().any(Item::has_key) {
            let why = "it does not say with which seed its keys were made (seed_check)";
            return Err(ControlError(why.to_owned()));
        }
        let arrivals = batch.items.iter().cloned().map(Item::into_arrival);
        let arrivals: Result<Vec<_>, _> = arrivals.collect();
        let arrivals = arrivals.map_err(|error| ControlError(error.to_string()))?;
        let imported = self.store.import(arrivals, batch.dry_run, now);
        if !batch.dry_run {
            if let Some(begun) = batch.history_begun.filter(|it| *it > 0) {
                self.store.lengthen_history(Timestamp::from_millis(begun));
            }
            if imported.counts.sentences > 0 {
                self.projector.refresh();
            }
        }
        Ok(ImportCounts::of(&imported))
    }

    fn report(&self, report: &Report) -> Result<(), ControlError> {
        let now = self.clock.now();
        let address = report.address();
        let is_noted = match report {
            Report::Ham { name, .. } | Report::Spam { name, .. } => {
                let name = name.as_deref().map(str::as_bytes);
                let spam = matches!(report, Report::Spam { .. });
                self.store.report_mail(address, name, spam, now)
            }
            Report::Reject { mail, size, .. } => {
                let (sender, recipient) = (mail.sender.as_bytes(), mail.recipient.as_bytes());
                self.store
                    .report_reject(address, sender, recipient, *size, now)
            }
        };
        if is_noted {
            Ok(())
        } else {
            let why = "there is no room to remember it: too many networks with a reputation ([store] \
                       clients), or too many failures within the hour";
            Err(ControlError(why.to_owned()))
        }
    }

    fn health(&self) -> Health {
        let mut complaints = Vec::new();
        let census = self.store.census();
        if census.tuples >= census.capacity {
            complaints.push(
                "the store is full: new tuples leave a trace only, by which their retry is known; raise \
                 [store] capacity if it lasts"
                    .to_owned(),
            );
        }
        if self.policy.load().reads_anywhere() && census.contents >= census.content_capacity {
            complaints.push(
                "the store remembers all the messages it may: a pool of addresses waits until one of \
                 them comes again; raise [store] contents"
                    .to_owned(),
            );
        }
        if census.clients >= census.client_capacity {
            complaints.push(
                "the store remembers all the clients it may: further strikes and AUTH are \
                 forgotten; raise [store] clients"
                    .to_owned(),
            );
        }
        if census.sentences >= census.sentence_capacity {
            complaints.push(
                "the store holds all the sentences it may: offenders go free; raise [store] \
                 sentences"
                    .to_owned(),
            );
        }
        complaints.extend(self.store.journal_standing().as_ref().and_then(behind));
        let taken = census.last_snapshot.map(Timestamp::from_millis);
        let since = taken.max(Some(self.started)).unwrap_or_default();
        complaints.extend(overdue(
            self.clock.now().since(since),
            self.snapshot_interval,
        ));
        complaints.extend(self.dns.complaints());
        let standing = self.cluster.as_ref().map(|it| it.standing());
        complaints.extend(standing.and_then(|it| it.complaint()));
        if !self.projector.is_at_work() {
            complaints.push(
                "the projector has panicked, which is a bug: neither sentences nor forgiveness \
                 reach the kernel; restart greygate"
                    .to_owned(),
            );
        }
        match self.projector.status() {
            FilterStatus::Off { why } if self.wants_filter => {
                complaints.push(format!("nothing is filtered in the kernel: {why}"));
            }
            FilterStatus::Off { .. } => {}
            FilterStatus::On(on) => {
                if on.crowded_out > 0 {
                    complaints.push(format!(
                        "the kernel's table has no room for {} sentences, those with the least time \
                         left; raise [xdp] capacity",
                        on.crowded_out
                    ));
                }
                for interface in on.interfaces {
                    if interface.mode == ObtainedMode::Detached {
                        let why = interface.why.unwrap_or_default();
                        complaints.push(format!("{} is not filtered: {why}", interface.name));
                    }
                }
            }
        }
        Health { complaints }
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    fn punish(
        &self,
        client: SentencedClient,
        level: SentenceLevel,
        duration: Duration,
    ) -> Result<Punished, ControlError> {
        let now = self.clock.now();
        let order = Sentence {
            client,
            level,
            reason: SentenceReason::Operator,
            since: now,
            until: now.after(duration),
            persistence: Persistence::default(),
        };
        let Some(given) = self.store.punish(order) else {
            let why =
                "too many sentences are in force; forgive somebody, or raise [store] sentences";
            return Err(ControlError(why.to_owned()));
        };
        let network = client.network();
        let allowances = self.sentences.allowances();
        let passes = allowances.iter().find(|it| it.network.contains(&network));
        let spared = allowances.iter().filter(|it| network.contains(&it.network));
        let idle = self.projector.status().nothing_dropped_because();
        let without_effect = passes
            .map(|it| format!("{it} always passes in the kernel"))
            .or(idle);
        Ok(Punished {
            client: client.to_string(),
            seconds: given.until.since(now).as_secs(),
            level: given.level.as_str().to_owned(),
            without_effect: without_effect.unwrap_or_default(),
            spared: match passes {
                Some(_) => Vec::new(),
                None => spared.take(SPARED).map(ToString::to_string).collect(),
            },
        })
    }

    fn forget(&self, what: &Forget) -> Result<Forgotten, ControlError> {
        let (asked, removed) = match what {
            Forget::Fingerprint(text) => {
                let bits = admin::bits_of(text).map_err(|error| ControlError(error.to_string()))?;
                let kinds = self.store.forget(bits).into_iter();
                let removed = kinds.map(|kind| Removed::of(kind, bits)).collect();
                (text.to_ascii_lowercase(), removed)
            }
            Forget::Trust(of) => {
                let (sender, recipient) = (of.sender.as_bytes(), of.recipient.as_bytes());
                let trust = self.store.forget_trust(of.address, sender, recipient);
                let removed = trust
                    .into_iter()
                    .map(|(kind, bits)| Removed::of(kind, bits));
                let asked = format!("<{}> from {}", of.sender, of.address);
                (asked, removed.collect())
            }
        };
        Ok(Forgotten { asked, removed })
    }

    fn forgive(&self, order: &ForgiveOrder) -> Result<Forgiven, ControlError> {
        let now = self.clock.now();
        let target = order.target;
        if let (Some(cluster), Target::Address(address)) = (&self.cluster, target) {
            let mail = order.mail.as_ref();
            let mail = mail.map(|it| (it.sender.as_bytes(), it.recipient.as_bytes()));
            cluster.recall(self.store.missing_of(address, mail));
        }
        let named = |client| self.store.forgive(client, now);
        let (forgiven, network): (Vec<store::Forgiven>, _) = match target {
            Target::Address(address) => {
                let forgiven = SentencedClient::covering(address).map(named).into();
                (forgiven, IpNet::from(address.to_canonical()))
            }
            Target::Network(network) => {
                // First, and whether the store has it or not: the kernel may.
                let itself = SentencedClient::try_from(network).ok().map(named);
                let within = self.store.forgive_within(network.trunc(), now);
                (itself.into_iter().chain(within).collect(), network.trunc())
            }
        };
        let mut mails = self.store.forgive_mails_within(network);
        let mut helo = false;
        let mut left = Vec::new();
        match (&order.mail, target) {
            (Some(mail), Target::Address(address)) => {
                let mail = self.store.forgive_mail(&ForgivenMail {
                    address,
                    reverse_path: mail.sender.as_bytes(),
                    recipient: mail.recipient.as_bytes(),
                });
                mails.delays += mail.delays;
                mails.failures += mail.failures;
            }
            (None, _) if !self.store.keeps_addresses() => left.push(MAILS_LEFT.to_owned()),
            _ => {}
        }
        if !order.helo.is_empty() {
            helo = self.store.forgive_helo(order.helo.as_bytes(), now);
        } else if self.store.remembers_helos() {
            left.push(HELO_LEFT.to_owned());
        }
        let lifted: Vec<_> = forgiven.iter().filter_map(|it| it.lifted).collect();
        // Of a network, hosts are counted, which hold the strikes themselves.
        let is_host = |network: IpNet| network.prefix_len() == network.max_prefix_len();
        let hosts = forgiven.iter().filter(|it| is_host(it.client.network()));
        let strikes = hosts.map(|it| u64::from(it.strikes)).sum();
        let count = |of: fn(&store::Forgiven) -> u64| forgiven.iter().map(of).sum();
        Ok(Forgiven {
            reputations: count(|it| it.reputations.into()),
            rejections: count(|it| it.rejections.into()),
            delays: mails.delays,
            failures: mails.failures,
            helo,
            left,
            ..Forgiven::of(target, &lifted, strikes)
        })
    }

    fn list(&self, question: &ListQuestion) -> Result<Listing, ControlError> {
        let _turn = self.list_turns.take().ok_or_else(|| {
            let why = "several lists are being made already; ask again when they are";
            ControlError(why.to_owned())
        })?;
        let policy = self.policy.load_full();
        let now = self.clock.now();
        Ok(Listing::of(&self.store, question, &policy, now))
    }

    fn live_add(
        &self,
        order: &LiveOrder,
        entry: &Entry,
        uid: u32,
    ) -> Result<LiveChange, ControlError> {
        let now = self.clock.now();
        let ordered = Order {
            at: now,
            uid,
            until: order
                .seconds
                .map(|seconds| now.after(Duration::from_secs(seconds))),
            note: order.note.clone(),
        };
        let changed = self.lists.add(order.list, entry, ordered);
        self.projector.refresh();
        changed.map_err(|error| ControlError(error.to_string()))
    }

    fn live_remove(&self, list: LiveList, entry: &Entry) -> Result<LiveChange, ControlError> {
        let changed = self.lists.remove(list, entry, self.clock.now());
        self.projector.refresh();
        changed.map_err(|error| ControlError(error.to_string()))
    }

    fn live_show(&self, list: LiveList) -> LiveEntries {
        self.lists.show(list, self.clock.now())
    }

    fn reload(&self) -> Result<Reloaded, Vec<Problem>> {
        self.reloader.reload().map_err(|error| match error {
            ReloadError::Config(ConfigError::Illegal(problems)) => problems,
            ReloadError::Config(ConfigError::Unreadable { path, source }) => vec![Problem {
                file: path,
                line: 0,
                text: format!("cannot be read: {source}; check who may read it"),
            }],
            no_file @ ReloadError::NoFile => vec![Problem {
                file: "configuration".into(),
                line: 0,
                text: no_file.to_string(),
            }],
        })
    }

    fn snapshot(&self) -> Result<SnapshotWritten, ControlError> {
        let begun = self.clock.now();
        let report = self
            .store
            .snapshot(begun)
            .map_err(|error| ControlError(chain(&error)))?;
        let took = self.clock.now().since(begun);
        Ok(SnapshotWritten {
            file: report.file.display().to_string(),
            records: report.records,
            bytes: report.bytes,
            millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl Desk {
    fn actions(&self, policy: &Policy) -> Actions {
        let kernel = match self.projector.status() {
            FilterStatus::Off { .. } => "",
            FilterStatus::On(on) if on.observes => Action::Observe.as_str(),
            FilterStatus::On(_) => Action::Enforce.as_str(),
        };
        Actions::of(policy, kernel)
    }

    /// What the kernel filter holds of `client`.
    fn kernel_facts(&self, client: IpAddr, now: Timestamp) -> KernelFacts {
        let covering = SentencedClient::covering(client).into_iter();
        let found: Result<Vec<_>, _> = covering
            .filter_map(|client| self.projector.entry(client, now).transpose())
            .collect();
        let (entries, unreadable) = match found {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        let client = IpNet::from(client.to_canonical());
        let allowances = self.sentences.allowances();
        let passes = allowances.iter().find(|it| it.network.contains(&client));
        KernelFacts {
            idle: self.projector.status().nothing_dropped_because(),
            passes: passes.map(ToString::to_string),
            unreadable,
            // One that has ended is removed within a minute, and drops nothing meanwhile.
            entries: entries
                .iter()
                .filter(|entry| entry.until > now)
                .map(KernelEntry::of)
                .collect(),
        }
    }

    fn funnel(&self) -> FunnelFacts {
        let before = self.dropped_before.unwrap_or_default();
        let syns = DroppedSyns::of(&self.projector.status()).map(|it| it.since(before));
        FunnelFacts::of(&FunnelCounts {
            since: self.started.as_millis() / 1_000,
            fates: self.milter.funnel.tallies(),
            unsized_messages: self.milter.funnel.unsized_messages(),
            tuples: self.stored.tuples_given_up.get(),
            contents: self.stored.contents_given_up.get(),
            syns,
        })
    }

    fn census(&self, now: Timestamp) -> Census {
        let census = self.store.census();
        let age = |taken| now.since(Timestamp::from_millis(taken)).as_secs();
        Census {
            tuples: census.tuples as u64,
            capacity: census.capacity as u64,
            trusted: census.trusted as u64,
            sentences: self.sentences.count(now) as u64,
            clients: census.clients as u64,
            client_capacity: census.client_capacity as u64,
            reputations: census.reputations as u64,
            hopping_helos: census.hopping_helos as u64,
            contents: census.contents as u64,
            content_capacity: census.content_capacity as u64,
            pairs: census.pairs as u64,
            snapshot_age: census.last_snapshot.map(age),
            journal: self.store.journal_standing().map(|it| JournalStatus {
                mode: it.mode.as_str().to_owned(),
                lag: u64::try_from(it.lag.as_millis()).unwrap_or(u64::MAX),
                synced_age: it.synced.map(age),
                trouble: it.trouble,
                incomplete: it.incomplete,
            }),
            restored: self.restored.clone(),
        }
    }
}

/// What there is to say when no snapshot was written for `age`, one being due each `interval`.
fn overdue(age: Duration, interval: Duration) -> Option<String> {
    (age > interval * MISSED + LONG_WRITE).then(|| {
        let age = format_duration(Duration::from_secs(age.as_secs()));
        format!("no snapshot was written for {age}: journals grow, or without one a crash loses what is new; see snapshot-failed in the log")
    })
}

/// What there is to say of a journal that does not keep up.
fn behind(journal: &JournalStanding) -> Option<String> {
    if let Some(why) = &journal.trouble {
        let since = format_duration(Duration::from_secs(journal.lag.as_secs()));
        return Some(format!(
            "the journal cannot be written: a crash would lose what is new, of {since} now; {why}"
        ));
    }
    (journal.lag > LONG_WRITE).then(|| {
        let since = format_duration(Duration::from_secs(journal.lag.as_secs()));
        format!("the journal is {since} behind: the disk is slow, or its thread has ended")
    })
}

/// What forgiving a client does not reach by its address.
const MAILS_LEFT: &str = "a single mail that waits longer for its early retries, or is counted after a \
     permanent failure, is remembered by a hash: name its SENDER and RECIPIENT, too";
const HELO_LEFT: &str =
    "HELO arguments are remembered for relay hopping: if the client's is one, name it by --helo";
/// Networks that an answer names: more than a `/24` is likely to have.
const SPARED: usize = 100;
/// Snapshots that may fail before anybody is called.
const MISSED: u32 = 3;
/// Writing a full store to a slow disk.
const LONG_WRITE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_that_fail_again_and_again_are_a_complaint() {
        let interval = Duration::from_mins(5);
        assert_eq!(overdue(Duration::from_mins(16), interval), None);
        let complaint = overdue(Duration::from_mins(17), interval).expect("three were missed");
        assert!(complaint.contains("for 17m:"), "{complaint}");
    }
}
