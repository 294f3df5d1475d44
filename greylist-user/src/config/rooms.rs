//! Stand-ins.
#![expect(missing_docs, reason = "temporary")]

pub mod store {
    use std::{path::PathBuf, time::Duration};
    #[derive(Clone, Debug, PartialEq)]
    pub struct Settings {
        pub directory: PathBuf,
        pub seed_file: PathBuf,
        pub capacity: usize,
        pub snapshot_interval: Duration,
        pub sweep_messages: u32,
        pub sweep_interval: Duration,
    }
    impl Default for Settings {
        fn default() -> Self {
            Self {
                directory: "/var/lib/greygate".into(),
                seed_file: "/var/lib/greygate/seed".into(),
                capacity: 4_000_000,
                snapshot_interval: Duration::from_mins(5),
                sweep_messages: 1500,
                sweep_interval: Duration::from_hours(12),
            }
        }
    }
}
pub mod kernel {
    use std::path::PathBuf;
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mode {
        NativePreferred,
        NativeRequired,
        Generic,
    }
    #[derive(Clone, Debug, PartialEq)]
    pub struct Settings {
        pub interfaces: Vec<String>,
        pub ports: Vec<u16>,
        pub mode: Mode,
        pub object: PathBuf,
        pub pin_directory: PathBuf,
        pub panic_file: PathBuf,
        pub capacity: u32,
    }
    impl Default for Settings {
        fn default() -> Self {
            Self {
                interfaces: vec![],
                ports: vec![25],
                mode: Mode::NativePreferred,
                object: "/usr/lib/greygate/greygate-xdp.o".into(),
                pin_directory: "/sys/fs/bpf/greygate".into(),
                panic_file: "/run/greygate/xdp-panic".into(),
                capacity: 65536,
            }
        }
    }

    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;
    #[derive(Debug, thiserror::Error)]
    #[error("stand-in")]
    pub struct FilterError;
    pub fn load(_: &Settings) -> Result<String, FilterError> {
        Err(FilterError)
    }
    pub fn unload(_: &Settings) -> Result<String, FilterError> {
        Err(FilterError)
    }
    pub fn panic(_: &Settings) -> Result<String, FilterError> {
        Err(FilterError)
    }
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

    /// The status of a filter that was attached.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct OnStatus {
        /// The interfaces of the configuration, in its order.
        pub interfaces: Vec<InterfaceStatus>,
        /// The protected ports.
        pub ports: Vec<u16>,
        /// Sentences in the kernel's IPv4 table.
        pub entries_ipv4: u64,
        /// Sentences in the kernel's IPv6 table.
        pub entries_ipv6: u64,
        /// Sentences that fit, for each address family.
        pub capacity: u32,
        /// Frames seen since the program was loaded, by what became of them; all CPUs together.
        pub frames: BTreeMap<String, u64>,
        /// New connections dropped since the program was loaded.
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
}
