//! What the milter counts.
//!
//! No label holds anything a stranger chose: every value is one of a few words in this room.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::funnel::Funnel;
use super::latency::Latency;

/// Counters and gauges of the milter.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Errors of accept(2) itself.
    pub accept_errors: Counter,
    /// Connections served, by listener: `inet` or `unix`.
    pub connections: Connections,
    /// Connections open now.
    pub connections_open: Gauge,
    /// The cap on open connections.
    pub connections_limit: Gauge,
    /// Messages of which headers and body were read to the end.
    pub contents_read: Counter,
    /// Deferrals told, by stage.
    pub deferrals: Deferrals,
    /// Connections ended, by reason: `quit` and `eof` are the MTA's way, everything else is a
    /// trouble with a name.
    pub ended: Endings,
    /// What became of each message.
    pub funnel: Funnel,
    /// How long turns with a verdict took.
    pub latency: Latency,
    /// Headers added to messages that passed.
    pub headers_added: Counter,
    /// Probe sessions that went away before DATA, and so count for nothing.
    pub probes_quit: Counter,
    /// Sessions that stopped to ask about their client.
    pub questions: Counter,
    /// Those of them that went on without hearing anything.
    pub questions_unanswered: Counter,
    /// Recipients that the MTA itself rejected.
    pub recipients_rejected: Counter,
    /// Recipients of a probe sender beyond what is kept until DATA; not judged.
    pub recipients_unkept: Counter,
    /// Recipients whose message should have been read, beyond what is kept until its end: deferred at
    /// RCPT where it decides on them, and no evidence against them where not.
    pub recipients_unread: Counter,
    /// Recipients not judged since their client has no address to judge it by.
    pub recipients_without_address: Counter,
    /// Connections closed before the first byte, by reason.
    pub refused: Family<Reason, Counter>,
    /// Replies to clients of bad reputation.
    pub refusals: Counter,
    /// Sessions at further addresses of this site than are told apart.
    pub servers_unmarked: Counter,
    /// Sessions of sentenced clients that were told 421.
    pub turned_away: Counter,
    /// Workers that did not answer when the watchdog asked last.
    pub workers_silent: Gauge,
}

impl Metrics {
    /// Registers everything under names that begin with `milter_`.
    pub fn register(&self, registry: &mut Registry) {
        self.show_zeros();
        let registry = registry.sub_registry_with_prefix("milter");
        macro_rules! register {
            ($($metric:ident $help:literal)*) => {
                $(registry.register(stringify!($metric), $help, self.$metric.clone());)*
            };
        }
        register! {
            accept_errors "Errors of accept(2) at the milter's listeners"
            connections_open "Connections open now"
            connections_limit "Cap on open connections"
            contents_read "Messages read to their end"
            headers_added "Headers added"
            probes_quit "Probe sessions that ended before DATA"
            questions "Times that a session asked about its client"
            questions_unanswered "Times that a session went on without any answer"
            recipients_rejected "Recipients refused by the MTA"
            recipients_unkept "Recipients of probe senders not judged, beyond what is kept"
            recipients_unread "Recipients whose message should have been read, beyond what is kept"
            recipients_without_address "Recipients of clients without an address, not judged"
            refused "Milter connections of MTAs closed before the first byte, by reason; not to be confused with refusals of clients"
            refusals "Replies 550 or 451 to clients of bad reputation"
            servers_unmarked "Sessions at more addresses of this site than are told apart"
            turned_away "SMTP sessions of sentenced clients, told 421"
            workers_silent "Workers that did not answer when the watchdog asked last"
        }
        let connections = self.connections.by_listener.clone();
        let help = "Milter connections served, one for each SMTP session";
        registry.register("connections", help, connections);
        let ended = self.ended.by_reason.clone();
        registry.register("ended", "Connections ended, by reason", ended);
        let deferrals = self.deferrals.by_stage.clone();
        registry.register("deferrals", "Deferrals told, by stage", deferrals);
        registry.register_with_unit(
            "verdict",
            "Time from a frame that wants a verdict, whole, to its answer, written; `waited`: for the DNS, or for the MTA to take it",
            Unit::Seconds,
            self.latency.clone(),
        );
        self.funnel.register(registry);
    }

    /// A counter that is not there before it counts hides its first event from `increase`.
    fn show_zeros(&self) {
        for reason in ENDINGS {
            drop(self.ended.by_reason.get_or_create(&Reason { reason }));
        }
        for reason in REFUSALS {
            drop(self.refused.get_or_create(&Reason { reason }));
        }
    }

    /// Connections served so far, at all listeners.
    pub fn connections_served(&self) -> u64 {
        self.connections.inet.get() + self.connections.unix.get()
    }

    pub(super) fn count_ended(&self, reason: &'static str) {
        match reason {
            QUIT => self.ended.quit.inc(),
            reason => self.ended.by_reason.get_or_create(&Reason { reason }).inc(),
        };
    }

    pub(super) fn count_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}

/// Connections served, by listener: `inet` or `unix`. The counters are kept beside their family,
/// since finding one in it takes a lock and a hash.
#[derive(Clone, Debug)]
pub struct Connections {
    by_listener: Family<Listener, Counter>,
    /// Over TCP.
    pub inet: Counter,
    /// Over a Unix socket.
    pub unix: Counter,
}

impl Default for Connections {
    fn default() -> Self {
        let by_listener = Family::<Listener, Counter>::default();
        let counter = |listener| by_listener.get_or_create_owned(&Listener { listener });
        Self {
            inet: counter("inet"),
            unix: counter("unix"),
            by_listener,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

/// Connections ended, by reason. That of nearly all of them is kept beside its family.
#[derive(Clone, Debug)]
pub struct Endings {
    by_reason: Family<Reason, Counter>,
    quit: Counter,
}

impl Default for Endings {
    fn default() -> Self {
        let by_reason = Family::<Reason, Counter>::default();
        Self {
            quit: by_reason.get_or_create_owned(&Reason { reason: QUIT }),
            by_reason,
        }
    }
}

/// Deferrals told, by stage. The counters are kept beside their family: one is raised for each
/// recipient, and finding it in the family would take a lock.
#[derive(Clone, Debug)]
pub struct Deferrals {
    by_stage: Family<StageLabel, Counter>,
    rcpt: Counter,
    data: Counter,
    end_of_message: Counter,
}

impl Deferrals {
    pub(super) fn at(&self, stage: Stage) -> &Counter {
        match stage {
            Stage::Rcpt => &self.rcpt,
            Stage::Data => &self.data,
            Stage::EndOfMessage => &self.end_of_message,
        }
    }
}

impl Default for Deferrals {
    fn default() -> Self {
        let by_stage = Family::<StageLabel, Counter>::default();
        let counter = |stage: Stage| {
            let stage = stage.word();
            by_stage.get_or_create_owned(&StageLabel { stage })
        };
        Self {
            rcpt: counter(Stage::Rcpt),
            data: counter(Stage::Data),
            end_of_message: counter(Stage::EndOfMessage),
            by_stage,
        }
    }
}

/// At which command a deferral is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Rcpt,
    Data,
    EndOfMessage,
}

impl Stage {
    /// The word for it in log and metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::EndOfMessage => "end_of_message",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// Why something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// One word.
    pub reason: &'static str,
}

/// The MTA said good-bye.
const QUIT: &str = "quit";
/// Those that alarms are about, and the MTA's own ways.
const ENDINGS: [&str; 7] = [
    "drain",
    "eof",
    "frame_timeout",
    "idle_timeout",
    "panic",
    "quit",
    "write_timeout",
];
const REFUSALS: [&str; 5] = [
    "connections",
    "connections_per_peer",
    "descriptors",
    "peer",
    "user",
];
