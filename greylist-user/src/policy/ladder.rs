//! What an offence costs, and for how long.

use std::net::IpAddr;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::offence::Offence;
use super::persistence::Persistence;
use super::rules::{Action, Policy};
use super::sentence::{Sentence, SentenceLevel, SentenceReason, SentencedClient};
use super::time::Timestamp;

/// What the policy asks for an offence of the client at `address`, committed at `now`.
pub(super) fn sentence(
    policy: &Policy,
    address: IpAddr,
    offence: Offence,
    now: Timestamp,
) -> Sentence {
    let client = SentencedClient::host(address);
    Sentence {
        client,
        level: match policy.punish.action {
            Action::Enforce => SentenceLevel::Block,
            Action::Observe => SentenceLevel::Observe,
        },
        reason: SentenceReason::Offence(offence),
        since: now,
        until: now.after(spread(policy.punish.sentence, client, now)),
        persistence: Persistence::default(),
    }
}

/// `length`, or up to a tenth more, so that those who are sentenced at one time, as a botnet is,
/// do not all come back at another. The same for the same client and time.
///
/// Not keyed: who finds out how long it will be has gained nothing.
fn spread(length: Duration, client: SentencedClient, since: Timestamp) -> Duration {
    let network = client.network();
    let mut hasher = Xxh3::new();
    match network.addr() {
        IpAddr::V4(address) => hasher.update(&address.octets()),
        IpAddr::V6(address) => hasher.update(&address.octets()),
    }
    hasher.update(&[network.prefix_len()]);
    hasher.update(&since.as_millis().to_le_bytes());
    let tenth = length.as_millis() / 10;
    let more = (tenth * u128::from(hasher.digest())) >> 64;
    let more = Duration::from_millis(u64::try_from(more).unwrap_or(u64::MAX));
    length
        .saturating_add(more)
        .min(Sentence::LONGEST.max(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn ends(host: u32) -> Duration {
        let client = std::net::Ipv4Addr::from(0xc000_0000 + host).into();
        spread(Duration::from_mins(30), client, T0)
    }

    #[test]
    fn sentences_of_one_moment_end_at_many() {
        let mut minutes = std::collections::BTreeMap::new();
        for host in 0..3_000 {
            let length = ends(host);
            assert!(length >= Duration::from_mins(30), "never shorter");
            assert_eq!(length, ends(host), "the same every time");
            *minutes.entry(length.as_secs() / 60).or_insert(0) += 1;
        }
        // A thousand each are expected, with a standard deviation of 26.
        assert_eq!(minutes.keys().copied().collect::<Vec<_>>(), [30, 31, 32]);
        for count in minutes.values() {
            assert!((870..1_130).contains(count), "{minutes:?}");
        }
    }

    #[test]
    fn next_sentence_of_a_client_is_spread_anew() {
        let client = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
        let length = |minute| {
            let since = T0.after(Duration::from_mins(minute));
            spread(Duration::from_mins(30), client, since)
        };
        assert_ne!(length(0), length(1));
    }

    #[test]
    fn longest_sentence_is_not_spread_beyond_itself() {
        let client = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
        assert_eq!(spread(Sentence::LONGEST, client, T0), Sentence::LONGEST);
    }
}
