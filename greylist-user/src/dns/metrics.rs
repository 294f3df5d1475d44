//! What asking counts. A label says which kind of source, never which, and nothing of a client: the
//! name of a zone may hold a subscriber's key.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::source::Kind;

/// Counters and gauges of the DNS. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Questions that went out.
    pub asked: Family<KindLabel, Counter>,
    /// Those answered out of the cache.
    pub cached: Family<KindLabel, Counter>,
    /// Those that another session had asked and nobody had answered yet.
    pub joined: Family<KindLabel, Counter>,
    /// Questions without an answer, by why.
    pub failures: Family<FailureLabels, Counter>,
    /// Those not asked since who would be asked is left alone.
    pub skipped: Family<KindLabel, Counter>,
    /// Questions not asked since too many wait or are under way.
    pub overflow: Counter,
    /// Sessions that were told only a part, since the budget was used up.
    pub late: Counter,
    /// Questions under way.
    pub in_flight: Gauge,
    /// Answers kept.
    pub cache_entries: Gauge,
    /// Lists and servers that are left alone, for not answering or for lying.
    pub down: Gauge,
}

impl Metrics {
    /// Registers everything under names that begin with `dns_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("dns");
        macro_rules! register {
            ($($metric:ident $help:literal)*) => {
                $(registry.register(stringify!($metric), $help, self.$metric.clone());)*
            };
        }
        register! {
            asked "Questions that went out, by kind of source"
            cached "Questions answered out of the cache"
            joined "Questions that were under way already"
            failures "Questions without an answer, by why"
            skipped "Questions not asked since the source is left alone"
            overflow "Questions not asked since too many are under way"
            late "Sessions told only a part, the budget being used up"
            in_flight "Questions under way"
            cache_entries "Answers kept"
            down "Lists and servers that are left alone"
        }
    }

    pub(super) fn count(counters: &Family<KindLabel, Counter>, kind: Kind) {
        let kind = kind.word();
        counters.get_or_create(&KindLabel { kind }).inc();
    }

    pub(super) fn count_failure(&self, kind: Kind, reason: &'static str) {
        let kind = kind.word();
        self.failures
            .get_or_create(&FailureLabels { kind, reason })
            .inc();
    }
}

/// Which kind of source: `blocklist`, `allowlist` or `spf`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// Which kind of source failed, and how: `timeout`, `error`, `refused` or `nonsense`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    kind: &'static str,
    reason: &'static str,
}
