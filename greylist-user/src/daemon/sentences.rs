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
use crate::policy::{
    Entry, List, Listed, Lists, Policy, Sentence, SentenceLevel, Source, Timestamp, ranges,
};
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
        let sentences = self.store.sentences(now);
        let history = self.store.history();
        self.policy.load().uphold_all(sentences, history, now)
    }

    fn allowed(&self) -> Vec<IpNet> {
        let networks: Vec<_> = self.allowances().iter().map(|it| it.network).collect();
        IpNet::aggregate(&networks)
    }

    fn heed(&self, entries: &[kernel::Entry], now: Timestamp) {
        let knocking = entries.iter().filter(|entry| entry.drops > 0);
        // What passed all the same is no persistence, but mail that came again.
        let (dropped, passed): (Vec<&kernel::Entry>, Vec<_>) =
            knocking.partition(|entry| self.drops && entry.level != SentenceLevel::Observe);
        for (entries, dropped) in [(dropped, true), (passed, false)] {
            let readings = entries.iter().map(|entry| (entry.client, entry.drops));
            self.store.heed(readings, dropped, now);
        }
    }
}

impl UpheldSentences {
    /// How many there are.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        let policy = self.policy.load();
        let uphold = policy.upholding(self.store.history(), now);
        self.store.count_sentences(now, |it| uphold(it).is_some())
    }

    /// Who is never dropped, and why; each network once.
    pub(super) fn allowances(&self) -> Vec<Allowance> {
        let policy = self.policy.load();
        let all = |networks: Vec<IpNet>, why| networks.into_iter().map(move |it| (it, why));
        let untouchable = all(ranges::UNTOUCHABLE.into(), "loopback or link-local");
        let own = all(networks_of(host::own_addresses()), "this host");
        let gateways = all(networks_of(host::gateways()), "a gateway");
        let allow = listed(&policy.lists.allow, "[lists] allow");
        // This host's addresses and gateways of the last reload stand here too.
        let local = listed(&policy.lists.local, "[lists] local");
        let mut seen = HashSet::new();
        untouchable
            .chain(allow)
            .chain(own)
            .chain(gateways)
            .chain(local)
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

/// The networks of a list, each with the word for where it comes from.
fn listed<'l>(
    list: &'l List,
    key: &'static str,
) -> impl Iterator<Item = (IpNet, &'static str)> + use<'l> {
    list.entries()
        .iter()
        .filter_map(move |listed| match (&listed.entry, &listed.source) {
            (Entry::Client(network), Source::Live(_)) => Some((*network, "greygate allow")),
            (Entry::Client(network), _) => Some((*network, key)),
            _ => None,
        })
}

/// The operator's rules, with this host's own addresses and gateways among the local ones, which are
/// never greylisted or sentenced, and with what was ordered since.
pub(super) fn in_force(policy: &Policy, ordered: Ordered<'_>) -> Policy {
    let own = networks_of(host::own_addresses()).into_iter();
    let own = own.chain(networks_of(host::gateways()));
    let lists = &policy.lists;
    let lists = Lists {
        // What was ordered stands first: of two that name the same it is the one to be undone.
        allow: List::of(ordered.allow.iter().cloned()).with(lists.allow.entries().iter().cloned()),
        deny: List::of(ordered.deny.iter().cloned()).with(lists.deny.entries().iter().cloned()),
        local: lists.local.with(own.map(Listed::of_host)),
        ..Lists::clone(lists)
    };
    policy.with_lists(&Arc::new(lists))
}

/// What operators have ordered to be listed while the daemon runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ordered<'a> {
    pub(super) allow: &'a [Listed],
    pub(super) deny: &'a [Listed],
}

fn networks_of(addresses: Vec<IpAddr>) -> Vec<IpNet> {
    addresses.into_iter().map(IpNet::from).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::sync::mpsc;

    use super::*;
    use crate::kernel::Entry as KernelEntry;
    use crate::policy::fixture::networks_of as networks_of_texts;
    use crate::policy::{Offence, Order, Persistence, SentenceReason, SentencedClient};
    use crate::store::Settings;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn sentences(drops: bool) -> (UpheldSentences, TempDir) {
        let directory = TempDir::new().expect("there is room for a directory");
        let settings = Settings {
            directory: directory.path().to_owned(),
            seed_file: directory.path().join("seed"),
            capacity: 1_000,
            ..Settings::default()
        };
        let policy = Arc::new(ArcSwap::from_pointee(in_force(
            &Policy {
                lists: Arc::new(Lists {
                    allow: networks_of_texts(["198.51.100.0/24"]),
                    local: networks_of_texts(["198.51.100.7/32"]),
                    ..Lists::default()
                }),
                ..Policy::default()
            },
            Ordered::default(),
        )));
        let (effects, _nobody) = mpsc::channel(1);
        let (store, _) = Store::open(settings, Arc::clone(&policy), effects, Arc::default(), NOW)
            .expect("the directory is writable");
        let store = Arc::new(store);
        let sentences = UpheldSentences {
            store,
            policy,
            drops,
        };
        (sentences, directory)
    }

    #[test]
    fn loopback_link_local_this_host_and_the_lists_always_pass() {
        let (sentences, _directory) = sentences(true);
        let allowed = sentences.allowed();
        let mut expected: Vec<IpNet> = ["127.0.0.1", "::1", "169.254.1.1", "fe80::1"]
            .map(|address| IpNet::from(address.parse::<IpAddr>().expect("an address")))
            .to_vec();
        expected.extend(networks_of(host::own_addresses()));
        expected.extend(networks_of(host::gateways()));
        expected.push("198.51.100.0/24".parse().expect("a network"));
        for network in expected {
            let is_allowed = allowed.iter().any(|it| it.contains(&network));
            assert!(is_allowed, "{network} in {allowed:?}");
        }
        let stranger: IpNet = "192.0.2.7/32".parse().expect("a network");
        assert!(!allowed.iter().any(|it| it.contains(&stranger)));
    }

    #[test]
    fn each_allowance_says_which_line_gave_it() {
        let (sentences, _directory) = sentences(true);
        let said: Vec<_> = sentences
            .allowances()
            .iter()
            .map(ToString::to_string)
            .collect();
        for line in [
            "127.0.0.0/8 (loopback or link-local)",
            "198.51.100.0/24 ([lists] allow)",
            "198.51.100.7/32 ([lists] local)",
        ] {
            assert!(said.iter().any(|it| it == line), "{line} in {said:?}");
        }
    }

    #[test]
    fn what_was_ordered_to_be_allowed_passes_in_the_kernel_and_a_name_or_sender_does_not() {
        let (sentences, _directory) = sentences(true);
        let order = Arc::new(Order {
            at: NOW,
            uid: 0,
            until: None,
            note: String::new(),
        });
        let ordered = ["192.0.2.0/24", ".example.org", "from @example.org"].map(|text| Listed {
            entry: text.parse().expect("an entry"),
            source: Source::Live(Arc::clone(&order)),
        });
        let policy = in_force(
            &Policy::default(),
            Ordered {
                allow: &ordered,
                deny: &[],
            },
        );
        assert_eq!(policy.lists.allow.entries().len(), 3);
        sentences.policy.store(Arc::new(policy));
        let told: Vec<_> = sentences
            .allowances()
            .iter()
            .map(ToString::to_string)
            .collect();
        let ours = told.iter().filter(|it| it.ends_with("(greygate allow)"));
        assert_eq!(ours.collect::<Vec<_>>(), ["192.0.2.0/24 (greygate allow)"]);
        let network: IpNet = "192.0.2.0/24".parse().expect("a network");
        assert!(sentences.allowed().contains(&network));
    }

    #[test]
    fn block_is_given_to_the_kernel_as_observed_until_the_warm_up_is_over() {
        let (sentences, _directory) = sentences(true);
        let warmup = sentences.policy.load().punish.warmup;
        sentences.store.punish(Sentence {
            client: SentencedClient::of([192, 0, 2, 7].into()),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: NOW,
            until: NOW.after(warmup * 2),
            persistence: Persistence::default(),
        });
        let levels_at = |now| {
            let upheld = sentences.sentences(now).into_iter();
            upheld.map(|it| it.level).collect::<Vec<_>>()
        };
        assert_eq!(levels_at(NOW), [SentenceLevel::Observe]);
        assert_eq!(levels_at(NOW.after(warmup)), [SentenceLevel::Block]);
        assert_eq!(sentences.count(NOW), 1);
    }

    #[test]
    fn what_the_kernel_only_observes_lengthens_no_sentence() {
        let (rate, observe) = (SentenceLevel::Rate, SentenceLevel::Observe);
        for (drops, level, minutes) in [(true, rate, 20), (true, observe, 10), (false, rate, 10)] {
            let (sentences, _directory) = sentences(drops);
            let client = SentencedClient::of([192, 0, 2, 7].into());
            let until = NOW.after(Duration::from_mins(10));
            sentences.store.punish(Sentence {
                client,
                level: rate,
                reason: SentenceReason::Offence(Offence::RapidRetries),
                since: NOW,
                until,
                persistence: Persistence::default(),
            });
            let entry = KernelEntry {
                client,
                level,
                until,
                drops: 500,
            };
            sentences.heed(&[entry], NOW);
            let [held] = sentences.sentences(NOW)[..] else {
                panic!("one is sentenced");
            };
            assert_eq!(held.persistence.drops, 500);
            assert_eq!(sentences.count(NOW), 1);
            assert_eq!(sentences.count(held.until), 0);
            assert_eq!(held.until, NOW.after(Duration::from_mins(minutes)));
        }
    }
}
