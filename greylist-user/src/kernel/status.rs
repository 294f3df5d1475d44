//! What the kernel filter tells of itself: to `status`, to the metrics, and as the answers of
//! `greygate xdp status | load | unload | panic`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What the kernel filter is doing and has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FilterStatus {
    /// Nothing is filtered.
    Off {
        /// The reason, for a person.
        why: String,
    },
    /// A program was attached.
    On(OnStatus),
}

impl FilterStatus {
    /// Why no connection is dropped on any interface; [`None`] when some may be.
    pub fn nothing_dropped_because(&self) -> Option<String> {
        match self {
            Self::Off { why } => Some(why.clone()),
            Self::On(on) => {
                let is_on = |interface: &&InterfaceStatus| interface.mode != ObtainedMode::Detached;
                match on.interfaces.iter().find(is_on) {
                    Some(_) => on.observes.then(|| OBSERVES.to_owned()),
                    None => on.interfaces.iter().find_map(|it| it.why.clone()),
                }
            }
        }
    }
}

/// The status of a filter that was attached. What another version does not tell has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnStatus {
    /// The interfaces of the configuration, in its order.
    pub interfaces: Vec<InterfaceStatus>,
    /// The protected ports.
    pub ports: Vec<u16>,
    /// Whether what would be dropped is only counted, at every level: `[xdp] action`.
    pub observes: bool,
    /// Sentences in the kernel's IPv4 table.
    pub entries_ipv4: u64,
    /// Sentences in the kernel's IPv6 table.
    pub entries_ipv6: u64,
    /// Sentences that fit, for each address family.
    pub capacity: u32,
    /// Sentences in force for which there was no room at the last comparison.
    pub crowded_out: u64,
    /// Networks whose connections always pass, in both families; one within another is not counted.
    pub allowed_networks: u64,
    /// Allowed networks for which the kernel has no room.
    pub allowed_crowded_out: u64,
    /// Bytes of kernel memory that the maps take.
    pub memory: u64,
    /// Frames seen since the maps were made, by what became of them; all CPUs together.
    pub frames: BTreeMap<String, u64>,
    /// SYNs dropped since the maps were made; one that comes again counts again.
    pub drops: u64,
}

/// One interface of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// How greygate's program runs there, read back from the kernel.
    pub mode: ObtainedMode,
    /// Why nothing is attached, or why it is not the mode that was asked for first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Whether the attachment outlives the daemon.
    #[serde(default)]
    pub pinned: bool,
    /// Why it does not, where it should: `[xdp] pin`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why_unpinned: Option<String>,
}

/// Where in an interface's receive path a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObtainedMode {
    /// Nowhere: greygate's program is not attached.
    Detached,
    /// In the network stack.
    Generic,
    /// In the driver.
    Native,
    /// In the network card.
    Offloaded,
}

impl ObtainedMode {
    /// The word for status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Generic => "generic",
            Self::Native => "native",
            Self::Offloaded => "offloaded",
        }
    }
}

impl std::fmt::Display for ObtainedMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What `load` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The interfaces that are filtered now.
    pub interfaces: Vec<InterfaceStatus>,
    /// Where the pins are.
    pub directory: PathBuf,
    /// Sentences in the kernel's tables, of both address families together.
    pub entries: u64,
    /// Sentences that fit, for each address family.
    pub capacity: u32,
    /// Bytes that the maps take of the kernel's memory.
    pub memory: u64,
}

/// What is pinned and filters without a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Where the pins are.
    pub directory: PathBuf,
    /// What the filter has done.
    pub filter: FilterStatus,
    /// The sentences in the kernel, the longest first.
    pub sentences: Vec<PinnedSentence>,
}

/// A sentence as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedSentence {
    /// The sentenced network.
    pub client: String,
    /// `block`, `rate` or `observe`.
    pub level: String,
    /// Seconds until it ends; 0 when it has ended and nobody has removed it.
    pub left: u64,
    /// New connections that were dropped, or would have been where it only observes.
    pub drops: u64,
}

/// What `unload` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unloaded {
    /// The pins that were removed, by file name; none when nothing was loaded.
    pub pins: Vec<String>,
    /// Where they were.
    pub directory: PathBuf,
}

/// What `panic` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Panicked {
    /// The flag that forbids attaching until it is removed.
    pub flag: PathBuf,
    /// Interfaces' attachments that were ended.
    pub detached: usize,
    /// Pins that were removed, by file name.
    pub pins: Vec<String>,
}

const OBSERVES: &str = "[xdp] action is observe: what would be dropped is only counted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_its_state_in_json() {
        let off = FilterStatus::Off {
            why: "no root".to_owned(),
        };
        let json = serde_json::to_string(&off).expect("plain values");
        assert_eq!(json, r#"{"state":"off","why":"no root"}"#);
        let on = FilterStatus::On(OnStatus {
            interfaces: vec![eth0()],
            ..OnStatus::default()
        });
        let json = serde_json::to_string(&on).expect("plain values");
        assert!(
            json.starts_with(
                r#"{"state":"on","interfaces":[{"name":"eth0","mode":"native","pinned":true}],"ports":[]"#
            ),
            "{json}"
        );
        let back: FilterStatus = serde_json::from_str(&json).expect("what was written");
        assert_eq!(back, on);
    }

    #[test]
    fn status_of_a_daemon_that_tells_less_is_understood() {
        let json = r#"{"state":"on","interfaces":[],"ports":[25]}"#;
        let FilterStatus::On(on) = serde_json::from_str(json).expect("it is understood") else {
            panic!("it is on");
        };
        assert_eq!((on.ports, on.memory, on.observes), (vec![25], 0, false));
    }

    #[test]
    fn filter_that_only_observes_drops_nothing() {
        let status = |observes| {
            FilterStatus::On(OnStatus {
                interfaces: vec![eth0()],
                observes,
                ..OnStatus::default()
            })
        };
        assert_eq!(status(false).nothing_dropped_because(), None);
        let why = status(true).nothing_dropped_because().unwrap_or_default();
        assert!(why.starts_with("[xdp] action is observe"), "{why}");
    }

    fn eth0() -> InterfaceStatus {
        InterfaceStatus {
            name: "eth0".to_owned(),
            mode: ObtainedMode::Native,
            why: None,
            pinned: true,
            why_unpinned: None,
        }
    }
}
