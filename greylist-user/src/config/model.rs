//! Every key of the file: its section, range, default and the reason for it.
//!
//! The one declaration that reading and printing share. The defaults themselves are those of the
//! rooms' `Settings` and of `Policy`.

use std::ops::RangeBounds;
use std::time::Duration;

use super::value::Setting;
use crate::policy::Policy;
use crate::{admin, cluster as sharing, dns, kernel, log, milter, store};

mod cluster;
mod content;
mod dns_keys;
mod lists;
mod punish;
mod recipients;
mod rules;

pub(super) use lists::{Each, ListSettings, NoRetry};
pub(super) use recipients::{Greylisted, RecipientRules, Switch};

/// Everything the operator can set. Immutable: a reload replaces it whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where and how Postfix is heard.
    pub milter: milter::Settings,
    /// The rules: `[greylist]`, `[content]`, `[punish]`, `[reputation]`, `[lists]` and `[[recipients]]`.
    pub policy: Policy,
    /// What `[lists]` says, of which the policy's lists are made.
    pub lists: ListSettings,
    /// Whether the recipients are greylisted that no rules of their own name.
    pub(super) greylisted: Greylisted,
    /// The rules of some recipients, of which policies are made.
    pub(super) recipients: Vec<RecipientRules>,
    /// The kernel filter.
    pub xdp: kernel::Settings,
    /// Whether ports of submission, which serve customers, may be protected. Default no.
    pub submission: bool,
    /// Whom to ask about clients.
    pub dns: dns::Settings,
    /// What is remembered, and where.
    pub store: store::Settings,
    /// With whom it is shared.
    pub cluster: sharing::Settings,
    /// The control socket.
    pub admin: admin::Settings,
    /// The metrics endpoint.
    pub metrics: admin::MetricsSettings,
    /// The log.
    pub log: log::Settings,
}

/// A table that may stand any number of times.
pub(super) trait Table: Clone {
    /// One that says something, for people to begin with.
    fn example(&self) -> Self;

    /// Shows every key to `visitor`.
    fn visit(&mut self, visitor: &mut impl Visitor);

    /// Hears on which line each key stands; one that is not set, on that of the table.
    fn note_lines(&mut self, line_of: &dyn Fn(&'static str) -> usize);
}

/// Is shown every key in the order of the file, with the place of its value.
pub(super) trait Visitor {
    /// The keys that follow stand in this section.
    fn section(&mut self, name: &'static str, about: &str);

    /// A table that may stand any number of times. Each begins as `template`.
    fn repeated<T: Table>(
        &mut self,
        name: &'static str,
        about: &str,
        template: &T,
        target: &mut Vec<T>,
    );

    /// A key of which every value of its type is legal.
    fn key<T: Setting>(&mut self, name: &'static str, target: &mut T, why: &str);

    /// A key of which the values within `bounds` are legal.
    fn bounded<T: Setting + PartialOrd>(
        &mut self,
        name: &'static str,
        target: &mut T,
        bounds: impl RangeBounds<T>,
        why: &str,
    );
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            milter: milter::Settings::default(),
            policy: Policy::default(),
            lists: ListSettings::default(),
            greylisted: Greylisted::default(),
            recipients: Vec::new(),
            dns: dns::Settings::default(),
            xdp: kernel::Settings::default(),
            submission: false,
            store: store::Settings::default(),
            cluster: sharing::Settings::default(),
            admin: admin::Settings::default(),
            metrics: admin::MetricsSettings::default(),
            log: log::Settings::default(),
        };
        let lists = super::lists::shipped(&config.lists);
        config.policy = config.policy.with_lists(&lists.into());
        config
    }
}

impl Config {
    /// Shows every key to `visitor`.
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        self.visit_milter(visitor);
        self.visit_greylist(visitor);
        content::visit(&mut self.policy.content, visitor);
        punish::visit(&mut self.policy.punish, visitor);
        rules::visit_reputation(&mut self.policy.reputation, visitor);
        lists::visit(&mut self.lists, &mut self.policy.deny, visitor);
        recipients::visit(&self.policy, &mut self.recipients, visitor);
        self.visit_dns(visitor);
        self.visit_xdp(visitor);
        self.visit_store(visitor);
        cluster::visit(&mut self.cluster, visitor);
        self.visit_doors(visitor);
    }

    fn visit_milter(&mut self, v: &mut impl Visitor) {
        let milter = &mut self.milter;
        v.section("milter", "Where and how Postfix is heard.");
        v.key(
            "listen",
            &mut milter.listen,
            "Where Postfix finds greygate, in the form of smtpd_milters.",
        );
        v.key(
            "peers",
            &mut milter.peers,
            "Networks of the MTAs that may speak to the inet listeners; others are closed before \
             the first byte. Loopback, since a milter peer is believed about who the client is. A \
             listener that is not loopback needs others named; what is named here stands alone, \
             so name loopback too where this host's own Postfix connects by it.",
        );
        v.key(
            "users",
            &mut milter.users,
            "Users that may speak to the unix listeners, beside root and the daemon's own; the \
             socket belongs to the group of the first. Postfix's, as Debian and most others name it.",
        );
        v.bounded(
            "workers",
            &mut milter.workers,
            0..=1_024,
            "Threads that serve sessions; 0 is one for every two cores.",
        );
        v.bounded(
            "connections",
            &mut milter.connections,
            1..=1_000_000,
            "Connections at once, of all peers. One above is closed at once, and Postfix follows \
             its milter_default_action. Postfix opens one for each of its smtpd processes, of \
             which default_process_limit allows 100; busy hosts raise it to a few thousand.",
        );
        v.bounded(
            "connections_per_peer",
            &mut milter.connections_per_peer,
            1..=1_000_000,
            "Connections at once from one address, so that one MX cannot take them all.",
        );
        v.bounded(
            "frame_timeout",
            &mut milter.frame_timeout,
            Duration::from_millis(100)..=Duration::from_mins(10),
            "A frame that has begun must be whole after this. Postfix writes a frame at once; \
             seconds mean a stuck peer.",
        );
        v.bounded(
            "idle_timeout",
            &mut milter.idle_timeout,
            Duration::from_secs(1)..=Duration::from_hours(48),
            "Silence between frames that is still legal: Postfix says nothing while a slow client \
             sends its message, and is not told of a connection that was closed meanwhile. A \
             little longer than libmilter's two hours, which MTAs have lived with.",
        );
        v.bounded(
            "drain",
            &mut milter.drain,
            Duration::ZERO..=Duration::from_mins(10),
            "How long sessions may finish when the daemon stops, before they are closed.",
        );
        v.key(
            "reply",
            &mut milter.reply,
            "The reply that defers: a code 4yz but not 421, an enhanced status code, and a text, \
             which senders' queues and bounces show to people.",
        );
        v.key(
            "reply_sentenced",
            &mut milter.reply_sentenced,
            "What a sentenced client is told behind 421 4.7.0, before Postfix hangs up. {contact} \
             stands for [punish] contact.",
        );
        v.key(
            "reply_denied",
            &mut milter.reply_denied,
            "What is said behind 550 5.7.1 or 451 4.7.1 to whom [lists] deny names. {contact} stands for \
             [punish] contact.",
        );
        v.key(
            "reply_refused",
            &mut milter.reply_refused,
            "What a client is told behind 550 5.7.1 or 451 4.7.1 whose network is refused for its \
             reputation. {contact} stands for [punish] contact.",
        );
        v.key(
            "header",
            &mut milter.header,
            "Name of the header that tells how long a message waited, and what it passed by, or \"off\".",
        );
        v.key(
            "header_on",
            &mut milter.header_on,
            "Which mail gets it: \"delayed\", what was deferred before it passed; or \"passed\", also what \
             was not. Then Postfix shows greygate all that passes, to its end. Mail that is exempt gets \
             none.",
        );
    }

    fn visit_xdp(&mut self, v: &mut impl Visitor) {
        let xdp = &mut self.xdp;
        v.section(
            "xdp",
            "The kernel filter that drops new connections of the sentenced.",
        );
        v.key(
            "interfaces",
            &mut xdp.interfaces,
            "Interfaces to filter, such as [\"eth0\"]. None, so that nothing is attached to a \
             network card that nobody named.",
        );
        v.key(
            "ports",
            &mut xdp.ports,
            "TCP ports of this host that are protected: 25, where strangers' mail comes in. 2525 \
             may be added, and 465 and 587 with submission = true; no other port can be.",
        );
        v.key(
            "submission",
            &mut self.submission,
            "Whether 465 and 587 may be named in ports. They serve your own users, who share \
             addresses with offenders and have no queue that tries again.",
        );
        v.key(
            "addresses",
            &mut xdp.addresses,
            "Addresses of this host that are protected, such as [\"192.0.2.25\"]. None means all: \
             name some only where others of this host shall never be filtered.",
        );
        v.key(
            "action",
            &mut xdp.action,
            "\"enforce\" drops; \"observe\" counts what would have been dropped, at every level, \
             an operator's orders too.",
        );
        v.bounded(
            "rate",
            &mut xdp.rate,
            1..=6_000,
            "New connections a minute of a client at level rate. Four let any mail queue retry, and \
             no hammering pays.",
        );
        v.bounded(
            "rate_burst",
            &mut xdp.rate_burst,
            1..=1_000,
            "New connections at once of a client at level rate that was silent: a delivery round \
             opens a few in parallel.",
        );
        v.bounded(
            "block_interval",
            &mut xdp.block_interval,
            Duration::from_secs(1)..=Duration::from_hours(28 * 24),
            "Time from one new connection of a client at level block that gets through to the \
             next. One an hour, so that who is sentenced by mistake hears of it and whom to ask: the \
             session is answered 421. After `forgive` its queue delivers.",
        );
        v.key(
            "mode",
            &mut xdp.mode,
            "\"native-preferred\" runs in the driver and falls back to generic; \
             \"native-required\" runs in the driver or not at all; \"generic\" works on every \
             interface, more slowly.",
        );
        v.key(
            "object",
            &mut xdp.object,
            "The compiled kernel program. Without it mail flows, and nothing is dropped.",
        );
        v.key(
            "pin_directory",
            &mut xdp.pin_directory,
            "Where program and maps are pinned: a directory in a BPF file system that greygate's \
             user may use. The shipped unit mounts one on /run/greygate-bpf; on most hosts \
             /sys/fs/bpf is root's alone.",
        );
        v.key(
            "pin",
            &mut xdp.pin,
            "Whether they are pinned, so that a daemon that is stopped or upgraded leaves the \
             filter on, in which sentences end on time; `greygate xdp unload` takes it off. If \
             false, it goes with the daemon.",
        );
        v.key(
            "panic_file",
            &mut xdp.panic_file,
            "While this file exists nothing is attached; `greygate xdp panic` makes it.",
        );
        v.bounded(
            "capacity",
            &mut xdp.capacity,
            1..=16_000_000,
            "Sentences the kernel holds, for IPv4 and for IPv6 each; the memory is taken at \
             start, and `check-config` says how much it is.",
        );
    }

    fn visit_store(&mut self, v: &mut impl Visitor) {
        let store = &mut self.store;
        v.section("store", "What is remembered, and where.");
        v.key(
            "directory",
            &mut store.directory,
            "Where snapshots are kept; made with mode 0700 if it is missing.",
        );
        v.key(
            "seed_file",
            &mut store.seed_file,
            "The secret that fingerprints are keyed with, made at the first start. Hosts that \
             shall share records start with the same one. Unset, it is the file \"seed\" in the \
             directory.",
        );
        v.bounded(
            "capacity",
            &mut store.capacity,
            1_000..=2_000_000_000,
            "Tuples held at most, some 96 bytes each with what is remembered of their sender and \
             recipient. `check-config` says how many new ones a \
             second that sustains.",
        );
        v.bounded(
            "sentences",
            &mut store.sentences,
            1_000..=64_000_000,
            "Sentences held at most, some 200 bytes each. More offenders than that go free, and are \
             counted.",
        );
        v.bounded(
            "clients",
            &mut store.clients,
            1_000..=64_000_000,
            "Client addresses of which strikes or AUTH are remembered at most, and client networks \
             of which a reputation is. Only those that did one or the other are in there. \
             `check-config` says how much memory that can take.",
        );
        v.bounded(
            "contents",
            &mut store.contents,
            1_000..=64_000_000,
            "Fingerprints of messages held at most. What finds no room is judged by its envelope alone, \
             and counted. `check-config` says how much memory that can take.",
        );
        v.bounded(
            "contents_per_network",
            &mut store.contents_per_network,
            1..,
            "Those of them that one client network may begin, so that a flood from one cannot take all \
             the room; fewer, the fuller it is.",
        );
        v.key(
            "keep_addresses",
            &mut store.keep_addresses,
            "Whether client, sender and recipient are kept in clear beside tuples, trust and clients, so \
             that `greygate list` shows them and filters by them. Otherwise they are remembered by keyed \
             hashes alone. They are personal data: in memory, and in the snapshots (mode 0600), for as \
             long as the record and no longer; `check-config` says how much memory it can take. Switched \
             off, they are gone from the disk with the first snapshot after the restart.",
        );
        v.key(
            "journal",
            &mut store.journal,
            "When changes are written to the journal and synced, which is what a crash or a power cut \
             loses: `second` within a second, `each` as soon as the disk can, `never` not at all, so \
             that what is newer than the latest snapshot is lost. No answer waits for it.",
        );
        v.bounded(
            "snapshot_interval",
            &mut store.snapshot_interval,
            Duration::from_secs(1)..=Duration::from_hours(24),
            "Time between snapshots. A start reads the latest and the journals since: the longer, the \
             more of them. Without a journal a crash loses at most this.",
        );
        v.key(
            "snapshot_rate",
            &mut store.snapshot_rate,
            "Bytes a second that a periodic snapshot is written at, so that the mail queue has the rest of \
             the disk; 0 is no limit. The last one at the end, and one that an operator waits for, take \
             what they get.",
        );
        self.visit_sweep(v);
    }

    /// The rest of `[store]`: when memory is given back.
    fn visit_sweep(&mut self, v: &mut impl Visitor) {
        let store = &mut self.store;
        v.bounded(
            "sweep_messages",
            &mut store.sweep_messages,
            1..,
            "Messages after which memory of lapsed records is returned. Lapsed records never \
             count, swept or not.",
        );
        v.bounded(
            "sweep_interval",
            &mut store.sweep_interval,
            Duration::from_secs(1)..=Duration::from_hours(30 * 24),
            "Time after which it is returned on a quiet host.",
        );
        v.bounded(
            "contents_sweep",
            &mut store.contents_sweep,
            Duration::from_secs(1)..=Duration::from_hours(30 * 24),
            "How long the fingerprint of a message is held at most after it has lapsed, on a quiet host too: \
             they lapse sooner than tuples do.",
        );
    }

    fn visit_doors(&mut self, v: &mut impl Visitor) {
        v.section(
            "admin",
            "The control socket of `greygate status` and its like.",
        );
        v.key(
            "socket",
            &mut self.admin.socket,
            "Where it is. Changes are for root and the daemon's own user alone.",
        );
        v.key(
            "group",
            &mut self.admin.group,
            "The group whose members may ask for the status; \"\" is the daemon's own.",
        );

        v.section("metrics", "Counters in Prometheus' text form, and /health.");
        v.key(
            "listen",
            &mut self.metrics.listen,
            "Where they are served, or \"off\". Loopback: whoever reaches it reads how much mail \
             this host takes, though no address or domain.",
        );

        v.section(
            "log",
            "Lines on standard error; under systemd, in the journal.",
        );
        v.key(
            "level",
            &mut self.log.level,
            "\"error\", \"warn\", \"info\", \"debug\" or \"trace\".",
        );
        v.key(
            "addresses",
            &mut self.log.addresses,
            "How much of a mail address is written: \"full\", so that a question about a mail can \
             be answered; \"domain\"; or \"hash\", which only tells that two are the same.",
        );
        v.key(
            "to",
            &mut self.log.to,
            "\"stderr\", which systemd hands to the journal too; or \"journal\", the journal's own \
             socket, so that each value is a field that journalctl can search.",
        );
        v.key(
            "format",
            &mut self.log.format,
            "\"text\", a word and key=value; or \"json\", one object a line for programs.",
        );
        v.key(
            "verdicts",
            &mut self.log.verdicts,
            "Which verdicts are a line at level info: \"all\", one for each recipient, so that any \
             question about a mail can be answered; \"passed\", what passed after it had waited; or \
             \"none\". A refusal is always one.",
        );
        v.key(
            "rate",
            &mut self.log.rate,
            "Lines a second of one word that strangers can cause, and five seconds' worth at once, so \
             that no flood fills the disk; what is left out is counted. 0 is no limit.",
        );
    }
}
