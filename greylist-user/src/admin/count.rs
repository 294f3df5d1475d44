//! What happens at the doors, counted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What happens at the doors.
#[derive(Debug, Default)]
pub struct Metrics {
    complaints: Gauge,
    requests: Family<Asked, Counter>,
    turned_away: Family<At, Counter>,
    accept_errors: Family<At, Counter>,
}

impl Metrics {
    /// Registers everything under `admin_`; the registry adds the product's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "complaints",
            "Things that want an operator, as /health and `greygate status` name them; 0 is healthy",
            self.complaints.clone(),
        );
        let registry = registry.sub_registry_with_prefix("admin");
        registry.register(
            "requests",
            "Requests at the control socket, by what became of them",
            self.requests.clone(),
        );
        registry.register(
            "turned_away",
            "Connections to the control socket or the metrics endpoint closed at once because too many were open; no mail is concerned",
            self.turned_away.clone(),
        );
        registry.register(
            "accept_errors",
            "Connections to the control socket or the metrics endpoint that the system could not hand over",
            self.accept_errors.clone(),
        );
    }

    pub(super) fn asked(&self, request: &'static str, outcome: &'static str) {
        self.requests
            .get_or_create(&Asked { request, outcome })
            .inc();
    }

    pub(super) fn complaints(&self, number: usize) {
        self.complaints
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(super) fn turned_away(&self, door: &'static str) {
        self.turned_away.get_or_create(&At { door }).inc();
    }

    pub(super) fn accept_error(&self, door: &'static str) {
        self.accept_errors.get_or_create(&At { door }).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    request: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    door: &'static str,
}
