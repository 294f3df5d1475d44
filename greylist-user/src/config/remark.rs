//! What a legal configuration amounts to, and what in it may surprise.

use std::time::Duration;

use ipnet::IpNet;
use nix::net::if_::if_nametoindex;

use super::duration::format;
use super::model::Config;
use super::value::Setting;
use crate::admin::MetricsListen;
use crate::host;
use crate::kernel;
use crate::milter::{Endpoint, HeaderOn};
use crate::policy::{Action, Policy};
use crate::store::Settings;

mod cluster;
mod content;
mod evidence;
mod lists;
mod punish;

impl Config {
    /// New tuples a second that the store sustains: each is held until its window closes.
    pub fn sustained_new_tuples(&self) -> f64 {
        per_window(self.store.capacity, &self.policy)
    }

    /// New messages a second of which the store can hold the fingerprint until the window closes.
    pub fn sustained_new_messages(&self) -> f64 {
        per_window(self.store.contents, &self.policy)
    }

    /// Bytes of kernel memory that the filter takes at start; 0 without an interface.
    pub fn kernel_memory(&self) -> u64 {
        if self.xdp.interfaces.is_empty() {
            return 0;
        }
        self.xdp.memory()
    }

    /// Bytes that the tables of clients and client networks take at most, as they fill.
    pub fn clients_memory(&self) -> u64 {
        self.store.clients_memory()
    }

    /// Bytes that fingerprints take at most, as they come; 0 where none are taken.
    pub fn contents_memory(&self) -> u64 {
        if self.policy.reads_anywhere() {
            self.store.contents_memory()
        } else {
            0
        }
    }

    /// Bytes that the daemon takes at most when every table is full; the kernel filter's are beside them.
    pub fn memory(&self) -> u64 {
        let store = &self.store;
        [
            store.tuples_memory(),
            self.pairs_memory(),
            self.contents_memory(),
            store.clients_memory(),
            store.trust_memory(),
            store.sentences_memory(),
            store.addresses_memory(),
            Settings::OTHER_MEMORY,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Bytes that addresses in clear take at most, as they come; 0 where none are kept.
    pub fn addresses_memory(&self) -> u64 {
        self.store.addresses_memory()
    }

    /// Bytes that pairs of sender and recipient take at most, as they come; 0 where none are kept.
    pub fn pairs_memory(&self) -> u64 {
        if self.policy.reads_anywhere() {
            self.store.pairs_memory()
        } else {
            0
        }
    }

    /// What is legal but may not be what was meant, one sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let policy = &self.policy;
        if policy.action == Action::Observe {
            remarks.push("[greylist] only observes: all mail passes".to_owned());
        }
        if policy.trust <= policy.retry_window {
            remarks.push(format!(
                "[greylist] trust of {} is not longer than the retry_window: regular senders are deferred again and again",
                format(policy.trust)
            ));
        }
        if policy.ipv4_prefix_unnamed < policy.ipv4_prefix {
            remarks.push(format!(
                "[greylist] ipv4_prefix_unnamed of {} makes larger networks of hosts without a name than ipv4_prefix of {} of named ones",
                policy.ipv4_prefix_unnamed, policy.ipv4_prefix
            ));
        }
        remarks.extend(cluster::remarks(self));
        remarks.extend(content::remarks(self));
        remarks.extend(evidence::remarks(self));
        remarks.extend(punish::remarks(policy));
        if let MetricsListen::At(address) = self.metrics.listen
            && !address.ip().is_loopback()
        {
            remarks.push(format!(
                "[metrics] listen {address}: whoever reaches it reads how much mail this host takes"
            ));
        }
        if self.milter.idle_timeout < SLOW_MESSAGE {
            remarks.push(format!(
                "[milter] idle_timeout of {} is shorter than a slow client may take for a message: its session then follows Postfix's milter_default_action",
                format(self.milter.idle_timeout)
            ));
        }
        remarks.extend(lists::remarks(self));
        if self.milter.header.is_none() && self.milter.header_on == HeaderOn::Passed {
            let what = "[milter] header_on = \"passed\" does nothing, since header is \"off\"";
            remarks.push(what.to_owned());
        }
        if !self.xdp.interfaces.is_empty() {
            remarks.extend(self.remarks_on_xdp());
        }
        remarks
    }

    fn remarks_on_xdp(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let xdp = &self.xdp;
        if xdp.action == Action::Observe {
            remarks.push("[xdp] only observes: nothing is dropped in the kernel".to_owned());
        }
        let tables = 2 * xdp.capacity as usize;
        if self.store.sentences < tables {
            remarks.push(format!(
                "[store] sentences of {} are fewer than the {} that the kernel takes memory for",
                self.store.sentences.show(),
                tables.show()
            ));
        }
        let lists = &self.policy.lists;
        let listed: Vec<_> = lists
            .allow
            .networks()
            .chain(lists.local.networks())
            .copied()
            .collect();
        let listed = IpNet::aggregate(&listed);
        let ipv4 = listed.iter().filter(|it| it.addr().is_ipv4()).count();
        if ipv4.max(listed.len() - ipv4) > kernel::ALLOWED_NETWORKS - OWN_NETWORKS {
            remarks.push(format!(
                "[lists] name more networks than the kernel has room for ({} of each address family): nobody in them is sentenced for an offence, but `punish --force` drops those beyond",
                kernel::ALLOWED_NETWORKS
            ));
        }
        remarks
    }

    /// What on this host must still be made, or is in the way of the kernel filter.
    pub fn remarks_on_this_host(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for endpoint in &self.milter.listen {
            if let Endpoint::Unix(path) = endpoint
                && let Some(directory) = path.parent().filter(|directory| !directory.exists())
            {
                remarks.push(format!(
                    "[milter] listen: there must be a directory {} when the daemon starts, which Postfix may enter",
                    directory.display()
                ));
            }
        }
        let xdp = &self.xdp;
        if xdp.interfaces.is_empty() {
            return remarks;
        }
        for interface in &xdp.interfaces {
            if if_nametoindex(interface.as_str()).is_err() {
                remarks.push(format!(
                    "[xdp] interfaces: there is no {interface} on this host"
                ));
            }
        }
        let own = host::own_addresses();
        for address in &xdp.addresses {
            if !own.contains(address) {
                remarks.push(format!(
                    "[xdp] addresses: this host does not have {address}, so nothing is dropped there"
                ));
            }
        }
        if !xdp.object.exists() {
            let object = xdp.object.display();
            remarks.push(format!(
                "[xdp] object: there is no {object}, so nothing is dropped in the kernel"
            ));
        }
        if xdp.panic_file.exists() {
            let flag = xdp.panic_file.display();
            remarks.push(format!(
                "[xdp] panic_file: while {flag} is there, nothing is dropped in the kernel"
            ));
        }
        remarks
    }
}

/// So many of `capacity` a second are held until the window closes.
fn per_window(capacity: usize, policy: &Policy) -> f64 {
    let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
    f64::from(capacity) / policy.retry_window.as_secs_f64()
}

/// As long as libmilter waits, to within a few seconds.
const SLOW_MESSAGE: Duration = Duration::from_hours(2);

/// Room for loopback, link-local, this host's addresses and its gateways.
const OWN_NETWORKS: usize = 96;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::policy::Lists;

    fn allowing(networks: impl IntoIterator<Item = IpNet>) -> Arc<Lists> {
        Arc::new(Lists {
            allow: networks.into_iter().collect(),
            ..Lists::default()
        })
    }

    #[test]
    fn defaults_sustain_46_new_tuples_a_second() {
        let sustained = Config::default().sustained_new_tuples();
        assert!((46.2..46.4).contains(&sustained), "{sustained}");
    }

    #[test]
    fn defaults_surprise_nobody() {
        assert_eq!(Config::default().remarks(), Vec::<String>::new());
    }

    #[test]
    fn names_what_is_missing_on_this_host() {
        let mut config = Config::default();
        assert_eq!(config.remarks_on_this_host(), Vec::<String>::new());
        config.milter.listen = vec![Endpoint::Unix("/nonexistent/milter.sock".into())];
        config.xdp.interfaces = vec!["lo".to_owned(), "nosuch0".to_owned()];
        config.xdp.addresses = vec![[127, 0, 0, 1].into(), [192, 0, 2, 25].into()];
        config.xdp.object = "/nonexistent/x.o".into();
        config.xdp.panic_file = "/".into();
        let remarks = config.remarks_on_this_host();
        assert_eq!(remarks.len(), 5, "{remarks:?}");
        assert!(remarks[0].contains("/nonexistent"), "{remarks:?}");
        assert!(remarks[1].contains("nosuch0"), "{remarks:?}");
        assert!(remarks[2].contains("192.0.2.25"), "{remarks:?}");
    }

    #[test]
    fn names_what_may_not_be_meant() {
        let mut config = Config::default();
        config.policy.punish.action = Action::Observe;
        config.policy.lists = allowing(["0.0.0.0/0".parse().expect("a network")]);
        config.metrics.listen = MetricsListen::At(([0, 0, 0, 0], 9892).into());
        config.milter.idle_timeout = Duration::from_mins(1);
        config.milter.header = None;
        assert_eq!(config.remarks().len(), 4);
        config.milter.header_on = HeaderOn::Passed;
        assert_eq!(config.remarks().len(), 5);
    }

    #[test]
    fn names_what_may_not_be_meant_of_the_kernel_filter() {
        let mut config = Config::default();
        config.xdp.action = Action::Observe;
        config.store.sentences = 1_000;
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(0xc000_0000 + 2 * number));
        config.policy.lists = allowing((0..5_000).map(|it| address(it).into()));
        assert_eq!(config.remarks(), Vec::<String>::new(), "it is off");
        config.xdp.interfaces = vec!["lo".to_owned()];
        let remarks = config.remarks();
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        let fewer = "[store] sentences of 1_000 are fewer than the 262_144 that";
        assert!(remarks[1].starts_with(fewer), "{remarks:?}");
    }

    #[test]
    fn memory_of_the_kernel_is_known_before_it_is_taken() {
        let mut config = Config::default();
        assert_eq!(config.kernel_memory(), 0, "there is no filter");
        config.xdp.interfaces = vec!["lo".to_owned()];
        config.xdp.capacity = 1_000_000;
        assert_eq!(config.kernel_memory(), config.xdp.memory());
    }
}
