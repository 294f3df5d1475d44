//! Other rules than those of the run, laid over them by a reload, and what a stranger meets under each.

use std::time::Duration;

use super::visit::Fate;

/// Other rules, and what becomes of a stranger by them, at first and after a while.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) text: &'static str,
    pub(crate) first: Fate,
    pub(crate) wait: Duration,
    pub(crate) then: Fate,
}

/// Rules that others may want, laid over those of the run.
pub(crate) const RULES: [Rules; 4] = [
    Rules {
        text: "[greylist]\naction = \"observe\"\n",
        first: Fate::Passed,
        wait: Duration::ZERO,
        then: Fate::Passed,
    },
    Rules {
        text: "[greylist]\ndelay = \"1m\"\n",
        first: Fate::Deferred,
        wait: Duration::from_millis(1_300),
        then: Fate::Deferred,
    },
    Rules {
        text: "[greylist]\nmode = \"content\"\n",
        first: Fate::DeferredAtEnd,
        wait: Duration::from_millis(600),
        then: Fate::Passed,
    },
    Rules {
        text: "[greylist]\nmode = \"envelope\"\ndelay = \"250ms\"\n",
        first: Fate::Deferred,
        wait: Duration::from_millis(400),
        then: Fate::Passed,
    },
];
