//! What the kernel filter is told: the store's sentences under the rules of the present, and who
//! is never dropped; and what it tells of those it dropped.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::host;
use crate::kernel::{self, SentenceSource};
use crate::policy::{Policy, Sentence, Timestamp, ranges};
use crate::store::Store;

/// The store's sentences, as far as the rules of the present uphold them.
#[derive(Debug)]
pub(super) struct UpheldSentences {
    pub(super) store: Arc<Store>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    /// Whether what the kernel counts was dropped, not only would have been.
    pub(super) drops: bool,
}

impl SentenceSource for UpheldSentences {
    fn sentences(&self, now: Timestamp) -> Vec<Sentence> {
        let policy = self.policy.load();
        let stored = self.store.sentences(now).into_iter();
        stored.filter_map(|it| policy.uphold(it)).collect()
    }

    fn allowed(&self) -> Vec<IpNet> {
        let networks: Vec<_> = self.allowances().iter().map(|it| it.network).collect();
        IpNet::aggregate(&networks)
    }

    fn heed(&self, entries: &[kernel::Entry], now: Timestamp) {
        let knocking = entries.iter().filter(|entry| entry.drops > 0);
        let readings = knocking.map(|entry| (entry.client, entry.drops));
        // What passed all the same is no persistence, but mail that came again.
        self.store.heed(readings, self.drops, now);
    }
}

impl UpheldSentences {
    /// Who is never dropped, and why; each network once.
    pub(super) fn allowances(&self) -> Vec<Allowance> {
        let policy = self.policy.load();
        let own = networks_of(host::own_addresses());
        let gateways = networks_of(host::gateways());
        let all = [
            (&ranges::UNTOUCHABLE[..], "loopback or link-local"),
            (&policy.allow, "[lists] allow"),
            (&own, "this host"),
            (&gateways, "a gateway"),
            // This host's addresses and gateways of the last reload stand here too.
            (&policy.local, "[lists] local"),
        ];
        let mut seen = HashSet::new();
        all.into_iter()
            .flat_map(|(networks, why)| networks.iter().map(move |network| (*network, why)))
            .filter(|(network, _)| seen.insert(*network))
            .map(|(network, why)| Allowance { network, why })
            .collect()
    }
}

/// A network whose connections always pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) network: IpNet,
    pub(super) why: &'static str,
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.network, self.why)
    }
}

/// The operator's rules, with this host's own addresses and gateways among the local ones: they are
/// never greylisted or sentenced.
pub(super) fn in_force(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.local.extend(networks_of(host::own_addresses()));
    policy.local.extend(networks_of(host::gateways()));
    policy
}

fn networks_of(addresses: Vec<IpAddr>) -> Vec<IpNet> {
    addresses.into_iter().map(IpNet::from).collect()
}
