//! How many entries the lists have.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::policy::{List, LiveList, Policy};
use crate::store::ListName;

/// How many entries there are.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Metrics {
    entries: Family<Labels, Gauge>,
    live: Family<Labels, Gauge>,
    limit: Gauge,
    pub(super) refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    list: &'static str,
}

impl Metrics {
    pub(in crate::daemon) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("lists");
        let entries = self.entries.clone();
        registry.register("entries", "Entries of each list that are in force", entries);
        let live = self.live.clone();
        registry.register("live", "Those of them that were ordered by a command", live);
        let limit = self.limit.clone();
        registry.register("live_limit", "Most that may be, in each list", limit);
        let refused = self.refused.clone();
        let help = "Orders to list somebody for which there was no room, other hosts' among them";
        registry.register("live_refused", help, refused);
    }

    /// Shows the lists that are in force, and how many entries of each that orders change were ordered.
    pub(super) fn show(&self, policy: &Policy, live: impl Fn(LiveList) -> usize, limit: usize) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let of =
            |family: &Family<Labels, Gauge>, list| family.get_or_create_owned(&Labels { list });
        let lists = &policy.lists;
        for (name, list) in [
            (ListName::Allow, &lists.allow),
            (ListName::Deny, &lists.deny),
            (ListName::Local, &lists.local),
            (ListName::NeverTrust, &lists.never_trust),
            (ListName::NoRetry, &lists.no_retry),
        ] {
            let list: &List = list;
            of(&self.entries, name.as_str()).set(count(list.entries().len()));
        }
        for list in LiveList::ALL {
            of(&self.live, list.as_str()).set(count(live(list)));
        }
        self.limit.set(count(limit));
    }

    /// Entries of `list` that were ordered.
    #[cfg(test)]
    pub(super) fn live(&self, list: LiveList) -> i64 {
        let list = list.as_str();
        self.live.get_or_create_owned(&Labels { list }).get()
    }
}
