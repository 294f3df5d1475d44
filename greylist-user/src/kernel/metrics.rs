//! The kernel room's counters for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use greylist_ebpf::abi;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{FilterStatus, ObtainedMode};

/// What the projector and the kernel program count.
#[derive(Debug, Default)]
pub struct Metrics {
    frames: Family<Reason, Counter<u64, AtomicU64>>,
    entries: Family<AddressFamily, Gauge<u64, AtomicU64>>,
    capacity: Gauge<u64, AtomicU64>,
    memory: Gauge<u64, AtomicU64>,
    allowed: Gauge<u64, AtomicU64>,
    allowed_crowded_out: Gauge<u64, AtomicU64>,
    attached: Family<Attached, Gauge<u64, AtomicU64>>,
    pinned: Family<Interface, Gauge<u64, AtomicU64>>,
    /// SYNs dropped, as the filter told of them last.
    dropped: AtomicU64,
    /// Sentences that were found missing or unexpected in a table that had been left right.
    pub(super) drifted: Counter,
    /// Sentences for which the kernel's table has no room.
    pub(super) crowded_out: Gauge<u64, AtomicU64>,
    /// Entries that a reconciliation found missing, wrong or too much.
    pub(super) repaired: Counter,
    /// Writes to, and readings of, the kernel's table that failed.
    pub(super) failures: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressFamily {
    family: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attached {
    interface: String,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Interface {
    interface: String,
}

impl Metrics {
    /// Registers everything under `xdp_`; the registry adds the product's prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("xdp");
        registry.register(
            "frames",
            "Frames seen by the kernel program, by what became of them; only `rate_limited`, `blocked` and `dropped_again` ones were dropped",
            self.frames.clone(),
        );
        registry.register(
            "entries",
            "Sentences in the kernel's table",
            self.entries.clone(),
        );
        registry.register(
            "capacity",
            "Sentences that fit into the kernel's table, for each address family",
            self.capacity.clone(),
        );
        registry.register(
            "memory_bytes",
            "Kernel memory that the maps take",
            self.memory.clone(),
        );
        registry.register(
            "allowed",
            "Networks in the kernel whose connections always pass",
            self.allowed.clone(),
        );
        registry.register(
            "allowed_crowded_out",
            "Allowed networks for which the kernel has no room",
            self.allowed_crowded_out.clone(),
        );
        registry.register(
            "attached",
            "1 for the mode in which the program runs on an interface",
            self.attached.clone(),
        );
        registry.register(
            "pinned",
            "1 where the program on an interface outlives the daemon",
            self.pinned.clone(),
        );
        registry.register(
            "crowded_out",
            "Sentences for which the kernel's table has no room",
            self.crowded_out.clone(),
        );
        registry.register(
            "drifted",
            "Sentences found missing or unexpected in a kernel table that had been left right: somebody else writes to it",
            self.drifted.clone(),
        );
        registry.register(
            "repaired",
            "Changes that reconciliation made to the kernel's table",
            self.repaired.clone(),
        );
        registry.register(
            "failures",
            "Operations on the kernel's table that failed",
            self.failures.clone(),
        );
    }

    /// SYNs dropped since the maps were made, as of some seconds ago.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes over what the filter says of itself.
    pub(crate) fn follow(&self, status: &FilterStatus) {
        self.attached.clear();
        self.pinned.clear();
        let FilterStatus::On(status) = status else {
            return;
        };
        self.dropped.store(status.drops, Ordering::Relaxed);
        for counter in abi::Counter::ALL {
            let reason = Reason {
                reason: counter.name(),
            };
            let frames = status.frames.get(reason.reason).copied().unwrap_or(0);
            // The kernel holds the count; this one only shows it.
            self.frames
                .get_or_create(&reason)
                .inner()
                .store(frames, Ordering::Relaxed);
        }
        for (family, entries) in [("ipv4", status.entries_ipv4), ("ipv6", status.entries_ipv6)] {
            self.entries
                .get_or_create(&AddressFamily { family })
                .set(entries);
        }
        self.capacity.set(status.capacity.into());
        self.memory.set(status.memory);
        self.allowed.set(status.allowed_networks);
        self.allowed_crowded_out.set(status.allowed_crowded_out);
        for interface in &status.interfaces {
            let attached = Attached {
                interface: interface.name.clone(),
                mode: interface.mode.name(),
            };
            let runs = interface.mode != ObtainedMode::Detached;
            self.attached.get_or_create(&attached).set(runs.into());
            let pinned = Interface {
                interface: interface.name.clone(),
            };
            self.pinned
                .get_or_create(&pinned)
                .set(interface.pinned.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::kernel::{InterfaceStatus, OnStatus};

    #[test]
    fn shows_what_the_filter_says() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("greygate");
        metrics.register(&mut registry);
        metrics.follow(&FilterStatus::On(OnStatus {
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                mode: ObtainedMode::Native,
                why: None,
                pinned: true,
                why_unpinned: None,
            }],
            frames: [("blocked".to_owned(), 7)].into(),
            entries_ipv6: 3,
            capacity: 10,
            memory: 8_388_608,
            allowed_networks: 5,
            allowed_crowded_out: 2,
            ..OnStatus::default()
        }));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string");
        for line in [
            r#"greygate_xdp_frames_total{reason="blocked"} 7"#,
            r#"greygate_xdp_frames_total{reason="clean"} 0"#,
            r#"greygate_xdp_entries{family="ipv6"} 3"#,
            "greygate_xdp_capacity 10",
            "greygate_xdp_memory_bytes 8388608",
            "greygate_xdp_allowed 5",
            "greygate_xdp_allowed_crowded_out 2",
            r#"greygate_xdp_attached{interface="eth0",mode="native"} 1"#,
            r#"greygate_xdp_pinned{interface="eth0"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
