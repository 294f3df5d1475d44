//! Where the two doors are, and who may come in.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// What `[admin]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The control socket. Default `/run/greygate/control.sock`.
    pub socket: PathBuf,
    /// The group whose members may ask, but not change; empty is the daemon's own group.
    pub group: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/greygate/control.sock"),
            group: String::new(),
        }
    }
}

/// What `[metrics]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Where Prometheus finds the metrics.
    pub listen: MetricsListen,
}

/// Where the metrics endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// On this address and port; port 0 takes a free one.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl Default for MetricsListen {
    fn default() -> Self {
        Self::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 9892)))
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}
