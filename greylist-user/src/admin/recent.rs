//! What happened lately, as `status` tells it.

use serde::{Deserialize, Serialize};

/// What was counted in the last minute, or since the start if that is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recent {
    /// How long that is, in seconds; 0 where an older daemon does not tell.
    pub seconds: u64,
    /// SMTP sessions that began.
    pub sessions: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients passed.
    pub passed: u64,
    /// Recipients of clients that were refused.
    pub refused: u64,
    /// Recipients of which the message was to be read.
    pub read: u64,
    /// SYNs dropped in the kernel.
    pub dropped: u64,
    /// How long verdicts took.
    pub latency: LatencyFacts,
    /// The same for those that waited for the DNS, or for the MTA to take the answer.
    pub latency_waited: LatencyFacts,
}

/// How long turns with a verdict took, as far as the buckets of the histogram tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyFacts {
    /// How many there were.
    pub turns: u64,
    /// The time of the median, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_micros: Option<u64>,
    /// The time within which 99 of a hundred were over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_micros: Option<u64>,
}
