//! Admission: who may connect, and how many at once.
//!
//! Knows the peers, the users and the caps; all workers share one. Asked before the first byte is
//! read. Leaves accepting and closing to `worker`.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use nix::unistd::{Uid, User};

use crate::log::STRANGERS;
use crate::policy::Origin;

use super::{complaint::Complaint, endpoint::Endpoint, metrics::Metrics, settings::Settings};

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

impl Display for Peer {
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
    /// Strangers that were turned away.
    complaint: Complaint,
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
            complaint: Complaint::default(),
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
            // A full house has been told of by its alarm.
            let is_stranger = matches!(refusal, Refusal::Peer | Refusal::User);
            if is_stranger && self.complaint.is_due() {
                tracing::info!(name: "refused", target: STRANGERS, %peer, reason, "refused");
            } else {
                tracing::debug!(%peer, reason, "refused");
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
        if present.all.open >= self.connections {
            return Err(Refusal::Connections);
        }
        let of_peer = present.by_peer.entry(peer).or_default();
        if of_peer.open >= self.connections_per_peer {
            return Err(Refusal::ConnectionsPerPeer);
        }
        of_peer.enter(&peer, self.connections_per_peer);
        present.all.enter(&"all", self.connections);
        Ok(())
    }

    fn leave(&self, peer: Peer) {
        let mut present = self.lock();
        present.all.leave(&"all", self.connections);
        if let Some(of_peer) = present.by_peer.get_mut(&peer) {
            of_peer.leave(&peer, self.connections_per_peer);
            if of_peer.open == 0 {
                present.by_peer.remove(&peer);
            }
        }
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
    all: Places,
    by_peer: HashMap<Peer, Places>,
}

/// Places that are taken, under one cap.
#[derive(Debug, Default)]
struct Places {
    open: u32,
    is_alarmed: bool,
}

impl Places {
    /// Takes one. Says once that the cap is near, and again only after there was calm between.
    fn enter(&mut self, peer: &dyn Display, cap: u32) {
        self.open += 1;
        let open = self.open;
        if !self.is_alarmed && u64::from(open) * 10 >= u64::from(cap) * 8 {
            self.is_alarmed = true;
            tracing::warn!(name: "connections-near-cap", target: STRANGERS, %peer, open, cap, "connections-near-cap");
        }
    }

    /// Gives one back.
    fn leave(&mut self, peer: &dyn Display, cap: u32) {
        self.open -= 1;
        let open = self.open;
        if self.is_alarmed && u64::from(open) * 10 < u64::from(cap) * 6 {
            self.is_alarmed = false;
            tracing::info!(name: "connections-calm", target: STRANGERS, %peer, open, cap, "connections-calm");
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
        let mut places = Places::default();
        let enter = |places: &mut Places| places.enter(&"a test", 10);
        let leave = |places: &mut Places| places.leave(&"a test", 10);
        for _ in 0..7 {
            enter(&mut places);
        }
        let mut alarmed_after = |change: &dyn Fn(&mut Places)| {
            change(&mut places);
            places.is_alarmed
        };
        assert!(alarmed_after(&enter), "8 of 10");
        assert!(alarmed_after(&leave), "7 of 10");
        assert!(alarmed_after(&leave), "6 of 10");
        assert!(!alarmed_after(&leave), "5 of 10");
        assert!(!alarmed_after(&enter), "6 of 10");
    }

    #[test]
    fn peer_near_its_own_cap_is_an_alarm_though_there_is_room_for_others() {
        let admission = admission(100, 5);
        let seated = [0; 4].map(|_| admission.admit(peer("192.0.2.1")).expect("a place"));
        let present = admission.lock();
        assert!(!present.all.is_alarmed);
        assert!(present.by_peer[&peer("192.0.2.1")].is_alarmed);
        drop(present);
        drop(seated);
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
