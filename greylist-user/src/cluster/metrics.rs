//! What sharing counts. No label names a server, a node or a client.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of what is shared. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Sessions that asked what other hosts know.
    pub asked: Counter,
    /// Those for which something was found.
    pub found: Counter,
    /// Those that went on without an answer, the budget being used up.
    pub late: Counter,
    /// Those whose question failed.
    pub failed: Counter,
    /// Those that did not ask, since the circuit is open.
    pub skipped: Counter,
    /// Those that did not ask, since too many wait.
    pub overflow: Counter,
    /// Records that were told.
    pub told: Counter,
    /// Those of which the engine knew more, so that it was taken over.
    pub corrected: Counter,
    /// Records that could not be told, and wait.
    pub untold: Counter,
    /// Records given up since too many wait; what was missed is told again later.
    pub queue_overflow: Counter,
    /// Records that wait to be told.
    pub queue: Gauge,
    /// Messages of other hosts.
    pub heard: Counter,
    /// Keys that hold something that is no record of this layout.
    pub foreign: Counter,
    /// Records that were heard of and found no room.
    pub no_room: Counter,
    /// Times that all was compared with the engine anew.
    pub resyncs: Counter,
    /// Times that the circuit opened.
    pub circuit_opened: Counter,
    /// Whether the engine is asked: 1, or 0 while each host decides alone.
    pub circuit_closed: Gauge,
    /// Connections made.
    pub connections: Counter,
    /// Seconds since the latest round that was answered.
    pub lag_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers everything under names that begin with `cluster_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cluster");
        macro_rules! register {
            ($($metric:ident $help:literal)*) => {
                $(registry.register(stringify!($metric), $help, self.$metric.clone());)*
            };
        }
        register! {
            asked "Sessions that asked what other hosts know"
            found "Sessions for which something was found"
            late "Sessions that went on without an answer, the budget being used up"
            failed "Sessions whose question failed"
            skipped "Sessions that did not ask, the circuit being open"
            overflow "Sessions that did not ask, since too many wait"
            told "Records told to the engine"
            corrected "Records of which the engine knew more"
            untold "Records that could not be told, and wait"
            queue_overflow "Records given up since too many wait; all is told again later"
            queue "Records that wait to be told"
            heard "Messages of other hosts"
            foreign "Keys that hold something that is no record of this layout"
            no_room "Records heard of that found no room"
            resyncs "Times that all was compared with the engine anew"
            circuit_opened "Times that the circuit opened"
            circuit_closed "Whether the engine is asked"
            connections "Connections made"
            lag_seconds "Since the latest round that was answered"
        }
    }
}
