//! What is carried out and what is only observed: for an operator who wants to know at one glance
//! whether anything happens to anybody.

use serde::{Deserialize, Serialize};

use crate::policy::{History, Policy, Timestamp};

/// The action of each consequence: `enforce` or `observe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actions {
    /// Deferring what is unknown: `[greylist] action`.
    pub greylist: String,
    /// Making early retries wait longer: `[punish] extra_delay_action`.
    pub extra_delay: String,
    /// What relay hopping leads to: `[punish] hopping_action`.
    pub hopping: String,
    /// Making strikes of offences: `[punish] strike_action`.
    pub strike: String,
    /// Sentencing: `[punish] action`.
    pub sentence: String,
    /// Refusing networks with a bad reputation: `[reputation] action`, `observe`, `defer` or
    /// `reject`.
    pub reputation: String,
    /// Dropping in the kernel: `[xdp] action`; empty where there is no filter.
    pub kernel: String,
}

impl Actions {
    /// Those of `policy`; the kernel's is its filter's.
    pub fn of(policy: &Policy, kernel: &str) -> Self {
        let punish = &policy.punish;
        Self {
            greylist: policy.action.as_str().to_owned(),
            extra_delay: punish.extra_delay_action.as_str().to_owned(),
            hopping: punish.hopping_action.as_str().to_owned(),
            strike: punish.strike_action.as_str().to_owned(),
            sentence: punish.action.as_str().to_owned(),
            reputation: policy.reputation.action.as_str().to_owned(),
            kernel: kernel.to_owned(),
        }
    }

    /// Each with its name for a person.
    pub fn named(&self) -> [(&'static str, &str); 7] {
        [
            ("greylisting", &self.greylist),
            ("extra delay", &self.extra_delay),
            ("hopping", &self.hopping),
            ("strikes", &self.strike),
            ("sentences", &self.sentence),
            ("reputation", &self.reputation),
            ("kernel", &self.kernel),
        ]
    }
}

/// How long greygate has been watching, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryFacts {
    /// Since when, from the Unix epoch.
    pub begun: u64,
    /// How long.
    pub age: u64,
    /// Until offences count: `[punish] grace`. 0 once they do.
    pub grace_left: u64,
    /// Until blocks are carried out, which are only observed before: `[punish] warmup`. 0 once they
    /// are.
    pub warmup_left: u64,
}

impl HistoryFacts {
    /// Of `history` at `now`.
    pub fn of(history: History, policy: &Policy, now: Timestamp) -> Self {
        let age = now.since(history.begun);
        let left = |wanted: std::time::Duration, is_over: bool| {
            // The last part of a second is not over yet.
            let left = wanted.saturating_sub(age);
            if is_over { 0 } else { left.as_secs().max(1) }
        };
        let punish = &policy.punish;
        Self {
            begun: history.begun.as_millis() / 1_000,
            age: age.as_secs(),
            grace_left: left(punish.grace, history.judges(policy, now)),
            warmup_left: left(punish.warmup, history.blocks(policy, now)),
        }
    }
}
