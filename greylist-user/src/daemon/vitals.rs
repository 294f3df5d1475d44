//! The process itself on the page of metrics: which version, since when, how much memory.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::policy::Timestamp;

/// What is read when the page is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vitals {
    /// When the daemon started.
    pub(super) started: Timestamp,
}

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1, with the version of greygate that runs";
        let mut build = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u64).encode(build.encode_family(&labels)?)?;
        let help = "When the daemon started, in seconds since the Unix epoch";
        let name = "start_timestamp_seconds";
        let start = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(self.started.as_millis() / 1_000).encode(start)?;
        let Some(resident) = resident_memory() else {
            return Ok(());
        };
        let help = "Memory of the process that is in RAM";
        let name = "resident_memory_bytes";
        let memory = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(resident).encode(memory)
    }
}

/// The second number of `/proc/self/statm`, in bytes.
fn resident_memory() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn tells_version_start_and_memory() {
        let mut registry = Registry::with_prefix("greygate");
        let started = Timestamp::from_millis(1_800_000_000_999);
        registry.register_collector(Box::new(Vitals { started }));
        let mut page = String::new();
        encode(&mut page, &registry).expect("text is written");
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            format!("greygate_build_info{{version=\"{version}\"}} 1\n"),
            "greygate_start_timestamp_seconds 1800000000\n".to_owned(),
        ] {
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        let memory = resident_memory().expect("this is Linux");
        assert!(memory > 1 << 20, "{memory} bytes");
    }
}
