//! What a legal configuration amounts to, and what in it may surprise.

use super::duration::format;
use super::model::Config;
use crate::admin::MetricsListen;
use crate::policy::Action;

impl Config {
    /// New tuples a second that the store sustains: each is held until its window closes.
    pub fn sustained_new_tuples(&self) -> f64 {
        let capacity = u32::try_from(self.store.capacity).unwrap_or(u32::MAX);
        f64::from(capacity) / self.policy.retry_window.as_secs_f64()
    }

    /// What is legal but may not be what was meant, one sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let policy = &self.policy;
        if policy.action == Action::Observe {
            remarks.push("[greylist] only observes: all mail passes".to_owned());
        }
        if policy.punish.action == Action::Observe {
            remarks.push("[punish] only observes: nobody is blocked".to_owned());
        }
        if policy.trust <= policy.retry_window {
            remarks.push(format!(
                "[greylist] trust of {} is not longer than the retry_window: regular senders are deferred again and again",
                format(policy.trust)
            ));
        }
        if policy.punish.rapid_interval * u32::from(policy.punish.rapid_retries)
            < policy.punish.rapid_span
        {
            remarks.push(format!(
                "[punish] {} retries at most {} apart cannot span {}: it takes more of them",
                policy.punish.rapid_retries,
                format(policy.punish.rapid_interval),
                format(policy.punish.rapid_span)
            ));
        }
        if let MetricsListen::At(address) = self.metrics.listen
            && !address.ip().is_loopback()
        {
            remarks.push(format!(
                "[metrics] listen {address}: whoever reaches it reads how much mail this host takes"
            ));
        }
        for network in &policy.allow {
            if network.prefix_len() == 0 {
                remarks.push(format!("[lists] allow {network}: nobody is greylisted"));
            }
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn names_what_may_not_be_meant() {
        let mut config = Config::default();
        config.policy.punish.action = Action::Observe;
        config.policy.allow = vec!["0.0.0.0/0".parse().expect("a network")];
        config.metrics.listen = MetricsListen::At(([0, 0, 0, 0], 9892).into());
        assert_eq!(config.remarks().len(), 3);
    }
}
