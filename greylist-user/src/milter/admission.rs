//! Admission: who may connect, and how many at once.
//!
//! Knows the peers, the users and the caps; all workers share one. Asked before the first byte is
//! read. Leaves accepting and closing to `worker`.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use nix::unistd::{Uid, User};

use crate::policy::Origin;

use super::{endpoint::Endpoint, metrics::Metrics, settings::Settings};

/// Who has connected to us: an MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// Over TCP, from this address; IPv4 where it was IPv4-mapped.
    Host(IpAddr),
    /// Over a Unix socket, with this uid.
    User(u32),
}

impl Peer {
    pub(super) fn host(address: SocketAddr) -> Self {
        Self::Host(address.ip().to_canonical())
    }

    /// What this peer's attempts are evidence of. A connection between two addresses that are the
    /// same never left this host. `local` is asked only when it matters.
    pub(super) fn origin(self, local: impl FnOnce() -> Option<SocketAddr>) -> Origin {
        let is_this_host = match self {
            Self::User(_) => true,
            Self::Host(address) => {
                address.is_loopback()
                    || local().is_some_and(|local| local.ip().to_canonical() == address)
            }
        };
        if is_this_host {
            Origin::ThisHost
        } else {
            Origin::AnotherHost
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(address) => address.fmt(f),
            Self::User(uid) => write!(f, "uid:{uid}"),
        }
    }
}

/// The rules and the count of who is in.
#[derive(Debug)]
pub(super) struct Admission {
    peers: Vec<IpNet>,
    uids: HashSet<u32>,
    connections: u32,
    connections_per_peer: u32,
    metrics: Arc<Metrics>,
    /// Held for a look-up at most; connections come and go, commands do not touch it.
    present: Mutex<Present>,
}

impl Admission {
    /// The rules in `settings`. A user that this host does not know is left out, and warned of
    /// where there is a Unix socket to speak to.
    pub(super) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        metrics.connections_limit.set(settings.connections.into());
        Self {
            peers: settings.peers.clone(),
            uids: uids(settings),
            connections: settings.connections,
            connections_per_peer: settings.connections_per_peer,
            metrics,
            present: Mutex::default(),
        }
    }

    /// Lets `peer` in for as long as the permit lives.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Result<Permit, Refusal> {
        let refusal = match peer {
            Peer::Host(address) if !self.peers.iter().any(|net| net.contains(&address)) => {
                Some(Refusal::Peer)
            }
            Peer::User(uid) if !self.uids.contains(&uid) => Some(Refusal::User),
            _ => self.enter(peer).err(),
        };
        if let Some(refusal) = refusal {
            let reason = refusal.word();
            self.metrics.count_refused(reason);
            match refusal {
                Refusal::Peer | Refusal::User => tracing::info!(%peer, reason, "refused"),
                Refusal::Connections | Refusal::ConnectionsPerPeer => {
                    tracing::debug!(%peer, reason, "refused");
                }
            }
            return Err(refusal);
        }
        self.metrics.connections_open.inc();
        Ok(Permit {
            admission: Arc::clone(self),
            peer,
        })
    }

    fn enter(&self, peer: Peer) -> Result<(), Refusal> {
        let mut present = self.lock();
        if present.all >= self.connections {
            present.alarm_at(self.connections);
            return Err(Refusal::Connections);
        }
        let count = present.by_peer.entry(peer).or_default();
        if *count >= self.connections_per_peer {
            return Err(Refusal::ConnectionsPerPeer);
        }
        *count += 1;
        present.all += 1;
        present.alarm_at(self.connections);
        Ok(())
    }

    fn leave(&self, peer: Peer) {
        let mut present = self.lock();
        present.all -= 1;
        if let Some(count) = present.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                present.by_peer.remove(&peer);
            }
        }
        present.calm_at(self.connections);
        drop(present);
        self.metrics.connections_open.dec();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may connect over a Unix socket, as far as there is one.
fn uids(settings: &Settings) -> HashSet<u32> {
    let mut uids = HashSet::from([0, Uid::effective().as_raw()]);
    let is_unix = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Unix(_));
    if !settings.listen.iter().any(is_unix) {
        return uids;
    }
    for name in &settings.users {
        match User::from_name(name) {
            Ok(Some(user)) => {
                uids.insert(user.uid.as_raw());
            }
            Ok(None) => tracing::warn!(user = name, "unknown-user"),
            Err(error) => tracing::warn!(user = name, %error, "unknown-user"),
        }
    }
    uids
}

/// A place among the open connections, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    peer: Peer,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.leave(self.peer);
    }
}

/// Why a connection is closed before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All places are taken.
    Connections,
    /// All places of this peer are taken.
    ConnectionsPerPeer,
    /// The address is in none of the peers' networks.
    Peer,
    /// The user is not among those who may.
    User,
}

impl Refusal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerPeer => "connections_per_peer",
            Self::Peer => "peer",
            Self::User => "user",
        }
    }
}

#[derive(Debug, Default)]
struct Present {
    all: u32,
    by_peer: HashMap<Peer, u32>,
    is_alarmed: bool,
}

impl Present {
    /// Says once that the cap is near; says it again only after there was calm between.
    fn alarm_at(&mut self, cap: u32) {
        if !self.is_alarmed && u64::from(self.all) * 10 >= u64::from(cap) * 8 {
            self.is_alarmed = true;
            tracing::warn!(open = self.all, cap, "connections-near-cap");
        }
    }

    fn calm_at(&mut self, cap: u32) {
        if self.is_alarmed && u64::from(self.all) * 10 < u64::from(cap) * 6 {
            self.is_alarmed = false;
            tracing::info!(open = self.all, cap, "connections-calm");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: u32, connections_per_peer: u32) -> Arc<Admission> {
        let settings = Settings {
            peers: vec!["192.0.2.0/24".parse().expect("a network")],
            users: vec!["no-such-user-here".to_owned()],
            connections,
            connections_per_peer,
            ..Settings::default()
        };
        Arc::new(Admission::new(&settings, Arc::default()))
    }

    fn peer(address: &str) -> Peer {
        Peer::host(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    #[test]
    fn strangers_are_refused() {
        let admission = admission(9, 9);
        let stranger = admission.admit(peer("198.51.100.1"));
        assert_eq!(stranger.expect_err("no peer"), Refusal::Peer);
        let other = admission.admit(Peer::User(Uid::effective().as_raw() + 4_711));
        assert_eq!(other.expect_err("no user"), Refusal::User);
        assert!(admission.admit(peer("::ffff:192.0.2.1")).is_ok());
        assert!(admission.admit(Peer::User(0)).is_ok());
    }

    #[test]
    fn caps_hold_and_places_come_back() {
        let admission = admission(3, 2);
        let first = admission.admit(peer("192.0.2.1")).expect("a place");
        let second = admission.admit(peer("192.0.2.1")).expect("a place");
        let third = admission.admit(peer("192.0.2.1")).expect_err("peer's cap");
        assert_eq!(third, Refusal::ConnectionsPerPeer);
        let other = admission.admit(peer("192.0.2.2")).expect("a place");
        let fifth = admission.admit(peer("192.0.2.3")).expect_err("the cap");
        assert_eq!(fifth, Refusal::Connections);
        assert_eq!(admission.metrics.connections_open.get(), 3);
        drop((first, second, other));
        assert_eq!(admission.metrics.connections_open.get(), 0);
        assert!(admission.lock().by_peer.is_empty());
    }

    #[test]
    fn alarm_has_hysteresis() {
        let mut present = Present::default();
        let mut alarmed_at = |all| {
            present.all = all;
            present.alarm_at(10);
            present.calm_at(10);
            present.is_alarmed
        };
        let course = [7, 8, 7, 6, 5, 7, 8].map(&mut alarmed_at);
        assert_eq!(course, [false, true, true, true, false, false, true]);
    }

    #[test]
    fn only_this_host_is_evidence() {
        let local = || Some(SocketAddr::from(([192, 0, 2, 1], 8892)));
        assert_eq!(peer("192.0.2.1").origin(local), Origin::ThisHost);
        assert_eq!(peer("192.0.2.2").origin(local), Origin::AnotherHost);
        assert_eq!(peer("127.0.0.9").origin(|| None), Origin::ThisHost);
        assert_eq!(Peer::User(89).origin(|| None), Origin::ThisHost);
    }
}
