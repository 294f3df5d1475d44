//! How the kernel filter is, and the sentences in force as they are shown: the answer to
//! `greygate xdp status`.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::request::LISTED;
use crate::kernel::FilterStatus;
use crate::policy::{Sentence, Timestamp};

/// How the kernel filter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpStatus {
    /// What the filter says of itself.
    pub filter: FilterStatus,
    /// The sentences in force, the longest first.
    pub sentences: Vec<SentenceLine>,
    /// How many more there are than are listed.
    #[serde(default)]
    pub sentences_left_off: u64,
}

impl XdpStatus {
    /// The filter's own status with the sentences in force at `now`, of which the first
    /// thousand are listed.
    pub fn of(filter: FilterStatus, mut sentences: Vec<Sentence>, now: Timestamp) -> Self {
        let rank = |sentence: &Sentence| (Reverse(sentence.until), sentence.client);
        let all = sentences.len();
        if all > LISTED {
            // Of a million, not all have to be sorted.
            sentences.select_nth_unstable_by_key(LISTED, rank);
            sentences.truncate(LISTED);
        }
        sentences.sort_unstable_by_key(rank);
        let lines = sentences.iter().map(|it| SentenceLine::of(it, now));
        Self::listing(filter, lines, all)
    }

    /// The filter's own status with the first thousand of `sentences`, the longest first, of which
    /// there are `all`.
    pub fn listing(
        filter: FilterStatus,
        sentences: impl Iterator<Item = SentenceLine>,
        all: usize,
    ) -> Self {
        let left_off = all.saturating_sub(LISTED);
        Self {
            filter,
            sentences: sentences.take(LISTED).collect(),
            sentences_left_off: left_off as u64,
        }
    }
}

/// One sentence as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentenceLine {
    /// The sentenced address or network.
    pub client: String,
    /// `observe`, `rate` or `block`.
    pub level: String,
    /// What it was given for.
    pub reason: String,
    /// Seconds until it ends.
    pub left: u64,
    /// New connections that the kernel dropped, or would have dropped where it only observes; as
    /// it stood up to a minute ago.
    #[serde(default)]
    pub drops: u64,
    /// Whether it was made longer for them.
    #[serde(default)]
    pub lengthened: bool,
}

impl SentenceLine {
    /// The sentence as it stands at `now`.
    pub fn of(sentence: &Sentence, now: Timestamp) -> Self {
        Self {
            client: sentence.client.to_string(),
            level: sentence.level.as_str().to_owned(),
            reason: sentence.reason.as_str().to_owned(),
            left: sentence.until.since(now).as_secs(),
            drops: sentence.persistence.drops,
            lengthened: sentence.persistence.lengthened,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{Persistence, SentenceLevel, SentenceReason};

    #[test]
    fn longest_sentences_are_listed_first_and_the_rest_is_counted() {
        let now = Timestamp::from_millis(1_000_000);
        let sentence = |host: u32| Sentence {
            client: std::net::Ipv4Addr::from(0xc000_0000 + host).into(),
            level: SentenceLevel::Block,
            reason: SentenceReason::Operator,
            since: now,
            until: now.after(Duration::from_secs(host.into())),
            persistence: Persistence::default(),
        };
        let off = FilterStatus::Off { why: String::new() };
        let status = XdpStatus::of(off, (1..=1_200).map(sentence).collect(), now);
        assert_eq!(status.sentences.len(), LISTED);
        assert_eq!(status.sentences_left_off, 200);
        assert_eq!(status.sentences[0].left, 1_200);
        assert_eq!(status.sentences[0].client, "192.0.4.176");
    }
}
