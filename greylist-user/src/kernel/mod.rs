//! The kernel's table of sentences: a projection of the store, thrown away and rebuilt at will.
//!
//! ```text
//! store --effects--> projector --changes--> KernelFilter (XDP maps, or nothing)
//!   ^                   |  ^                    |
//!   +-- all sentences --+  +--- what is there --+   compared by `reconcile` once a minute
//! ```
//!
//! Knows sentences, interfaces and the ABI of `greylist-ebpf`. Nothing of tuples, mail addresses
//! or SMTP. What fails here never stops mail: without a working filter there is [`NoFilter`], which
//! says why.
//!
//! Minimum kernel 6.1, with `CAP_BPF` and `CAP_NET_ADMIN` while the program is loaded.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{Action, Sentence, SentenceLevel, SentencedClient, Timestamp};

mod error;
mod memory;
mod metrics;
mod none;
mod projector;
pub mod reconcile;
mod status;
mod time;
mod watch;

#[cfg(feature = "xdp")]
mod attach;
#[cfg(feature = "debug-log")]
mod debug_log;
#[cfg(feature = "xdp")]
mod emptied;
#[cfg(feature = "xdp")]
mod hand;
#[cfg(feature = "xdp")]
mod identity;
#[cfg(feature = "xdp")]
mod layout;
#[cfg(feature = "xdp")]
mod maps;
#[cfg(feature = "xdp")]
mod netlink;
#[cfg(feature = "xdp")]
mod object;
#[cfg(feature = "xdp")]
mod owner;
#[cfg(feature = "xdp")]
mod panic;
#[cfg(feature = "xdp")]
mod pins;
#[cfg(feature = "xdp")]
mod release;
#[cfg(feature = "xdp")]
mod sys;
#[cfg(not(feature = "xdp"))]
mod unbuilt;
#[cfg(feature = "xdp")]
mod xdp;

pub use error::FilterError;
pub use greylist_ebpf::abi::{Counter, KernelTime};
pub use metrics::Metrics;
pub use none::NoFilter;
pub use projector::Projector;
pub use status::{
    FilterStatus, InterfaceStatus, Loaded, ObtainedMode, OnStatus, Panicked, Pinned,
    PinnedSentence, Unloaded,
};
pub use time::TimeBridge;

#[cfg(feature = "xdp")]
pub use hand::{Trial, load, look, try_out, unload};
#[cfg(feature = "xdp")]
pub use panic::panic;
#[cfg(not(feature = "xdp"))]
pub use unbuilt::{Trial, load, look, panic, try_out, unload};
#[cfg(feature = "xdp")]
pub use xdp::XdpFilter;

/// The kernel side, as the rest of the daemon sees it.
///
/// A lost change is harmless: the sentence stands in the store, and the next reconciliation
/// repairs the table. A wrongly dropped client is not: an implementation may only ever drop new
/// connections, to protected ports, of clients it was told to, until the time it was told; when in
/// doubt it passes.
pub trait KernelFilter: Send {
    /// Carries `changes` out, in their order, as far as it can.
    ///
    /// # Errors
    ///
    /// The first change that failed; the others have been tried all the same.
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError>;

    /// What the kernel holds, entries that have ended among them. What is no sentence of greygate's is
    /// removed on the way.
    ///
    /// # Errors
    ///
    /// When the kernel's table cannot be read: nothing is known of what it holds.
    fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError>;

    /// What the kernel holds of `client`, ended or not.
    ///
    /// # Errors
    ///
    /// When the kernel's table cannot be read.
    fn entry(
        &mut self,
        client: SentencedClient,
        now: Timestamp,
    ) -> Result<Option<Entry>, FilterError> {
        let mut entries = self.entries(now)?.into_iter();
        Ok(entries.find(|entry| entry.client == client))
    }

    /// Makes `networks` the ones whose connections always pass, whatever sentence they are under.
    ///
    /// # Errors
    ///
    /// When one of them could not be written; the others have been tried all the same.
    fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError>;

    /// Looks after what changes by itself: attaches again to an interface that went and came back,
    /// and tells the log what the kernel sampled. Called every few seconds.
    fn tend(&mut self);

    /// Sentences that fit, for each address family; 0 where nothing is filtered.
    fn capacity(&self) -> u32;

    /// What the filter is doing and has done.
    fn status(&self) -> FilterStatus;
}

/// A change of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Write the sentence, over an older one of the same client.
    Put(Sentence),
    /// Remove the client's sentence; none there is as good.
    Remove(SentencedClient),
}

/// One entry of the kernel's table, in the words of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose sentence it is.
    pub client: SentencedClient,
    /// How hard it is.
    pub level: SentenceLevel,
    /// When it ends, by the wall clock as it stands now.
    pub until: Timestamp,
    /// New connections that were dropped, or would have been where it only observes.
    pub drops: u64,
}

/// Where all sentences stand: the store, under the rules of the present.
///
/// Each call may take its time; the projector's thread makes them about once a minute.
pub trait SentenceSource: Send + Sync {
    /// The sentences that have not ended at `now`.
    fn sentences(&self, now: Timestamp) -> Vec<Sentence>;

    /// The networks whose connections always pass.
    fn allowed(&self) -> Vec<IpNet>;

    /// Hears what the kernel's `entries` have met, as evidence. Called before
    /// [`sentences`](Self::sentences), which may follow from it.
    fn heed(&self, entries: &[Entry], now: Timestamp);
}

/// What the operator wants of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The interfaces that clients come in by. Default none: no kernel filter.
    pub interfaces: Vec<String>,
    /// The TCP ports whose new connections may be dropped. Default 25 alone; submission ports
    /// serve customers, so adding them is the operator's explicit choice.
    pub ports: Vec<u16>,
    /// This host's addresses that are protected. Default none, which means all of them.
    pub addresses: Vec<IpAddr>,
    /// Whether what is to be dropped is dropped, or only counted, at every level. Default enforce.
    pub action: Action,
    /// How to attach.
    pub mode: Mode,
    /// Connections a minute at level rate. Default 4; one of them may come at any time.
    pub rate: u32,
    /// Connections at once after silence, at level rate. Default 8.
    pub rate_burst: u32,
    /// Time from one connection that gets through at level block to the next. Default 1 h.
    pub block_interval: Duration,
    /// Whether program and maps are pinned, so that they outlive the daemon. Default yes.
    pub pin: bool,
    /// The kernel program. Default where the package installs it.
    pub object: PathBuf,
    /// Where links and maps are pinned; on a mounted bpffs. Default `/run/greygate-bpf/pins`, on the
    /// one that the shipped unit mounts: systemd keeps `/sys/fs/bpf` to root.
    pub pin_directory: PathBuf,
    /// The flag that `panic` leaves: while it exists, nothing is attached. Default
    /// `/var/lib/greygate/xdp-panic`, which a reboot does not remove.
    pub panic_file: PathBuf,
    /// Sentences per address family. Default 131,072: the memory is taken at start, 31 MB
    /// for both families together.
    pub capacity: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            ports: vec![25],
            addresses: Vec::new(),
            action: Action::Enforce,
            mode: Mode::default(),
            rate: 4,
            rate_burst: 8,
            block_interval: Duration::from_hours(1),
            pin: true,
            object: PathBuf::from("/usr/lib/greygate/greygate-xdp.o"),
            pin_directory: PathBuf::from("/run/greygate-bpf/pins"),
            panic_file: PathBuf::from("/var/lib/greygate/xdp-panic"),
            capacity: 131_072,
        }
    }
}

/// Addresses of this host that can be protected one by one.
pub const DESTINATIONS: usize = greylist_ebpf::abi::DESTINATIONS as usize;

/// Networks of each address family that can be made always to pass.
pub const ALLOWED_NETWORKS: usize = greylist_ebpf::abi::ALLOWED_NETWORKS as usize;

/// How to attach to an interface. The mode obtained is shown in the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the driver, or else in the network stack: the default, since a slower filter is better
    /// than none.
    #[default]
    NativePreferred,
    /// In the driver or not at all: for sites that would rather know.
    NativeRequired,
    /// In the network stack, after the packet has cost its memory. Works on every interface.
    Generic,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        match name {
            "native-preferred" => Ok(Self::NativePreferred),
            "native-required" => Ok(Self::NativeRequired),
            "generic" => Ok(Self::Generic),
            _ => Err(UnknownMode(name.to_owned())),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NativePreferred => "native-preferred",
            Self::NativeRequired => "native-required",
            Self::Generic => "generic",
        })
    }
}

/// A word that names no [`Mode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of native-preferred, native-required, generic")]
pub struct UnknownMode(String);

/// Opens the kernel filter that `settings` ask for. Never fails: whatever is in the way is logged
/// once and becomes a [`NoFilter`] that says so, and mail flows.
///
/// What is pinned (`[xdp] pin`) outlives the filter and the process, and the next one takes it over,
/// or takes it off where no interface is configured any more.
/// What is not ends with them, however they end. Needs its rights in the calling thread, and only
/// while it runs; the network namespace is that thread's.
pub fn open(settings: &Settings) -> Box<dyn KernelFilter> {
    if settings.interfaces.is_empty() {
        let why = match let_go(settings) {
            Ok(()) => OFF.to_owned(),
            Err(error) => format!("{OFF}; but what is pinned filters on: {}", error.chain()),
        };
        tracing::info!(why, "unfiltered");
        return Box::new(NoFilter::new(why));
    }
    match open_xdp(settings) {
        Ok(filter) => filter,
        Err(error) => {
            let why = error.chain();
            tracing::warn!(why, "unfiltered");
            Box::new(NoFilter::new(why))
        }
    }
}

#[cfg(feature = "xdp")]
use hand::let_go;

#[cfg(feature = "xdp")]
fn open_xdp(settings: &Settings) -> Result<Box<dyn KernelFilter>, FilterError> {
    Ok(Box::new(XdpFilter::open(settings)?))
}

#[cfg(not(feature = "xdp"))]
use unbuilt::{let_go, open_xdp};

const OFF: &str = "off by configuration: [xdp] interfaces is empty";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interface_means_no_filter() {
        let settings = Settings {
            pin_directory: PathBuf::from("/nonexistent/pins"),
            ..Settings::default()
        };
        let FilterStatus::Off { why } = open(&settings).status() else {
            panic!("nothing can be attached without an interface");
        };
        assert_eq!(why, OFF);
    }

    #[test]
    fn missing_object_means_no_filter() {
        let settings = Settings {
            interfaces: vec!["lo".to_owned()],
            object: PathBuf::from("/nonexistent/greygate-xdp.o"),
            panic_file: PathBuf::from("/nonexistent/xdp-panic"),
            ..Settings::default()
        };
        let FilterStatus::Off { why } = open(&settings).status() else {
            panic!("nothing can be attached without an object");
        };
        if cfg!(feature = "xdp") {
            assert!(why.contains("/nonexistent/greygate-xdp.o"), "{why}");
        }
    }

    #[test]
    fn mode_is_read_as_it_is_written() {
        for mode in [Mode::NativePreferred, Mode::NativeRequired, Mode::Generic] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("native".parse::<Mode>().is_err());
    }
}
