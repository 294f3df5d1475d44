//! What is remembered of a reverse-path and recipient, from whatever network they come.
//!
//! A pool of many addresses retries a message from another one each time: each has a tuple of its
//! own, all of them new. What the attempts share is reverse-path and recipient. So an attempt from
//! another network than the one that began, after the delay, is a **roaming retry**: its message is
//! read, and passes when its content comes again.
//!
//! **The way out**: where the content changes at each retry, as with a Message-ID that the sender
//! makes anew, it never comes again. After [`ContentRules::contacts`] contacts, of which one a minute
//! counts, and [`ContentRules::contacts_after`] since the first, it passes on reverse-path and
//! recipient. Its price: of bots that forge one sender to one recipient, one mail an hour passes.
//!
//! Knows nothing of content, see `content`, nor of tuples, see `record`. One is held for each pending
//! tuple, so it is small. It ends with the first mail that passes for its tuple, and begins anew with
//! one that passes for its content: who proved to be a pool is known for one, for a retry window.
//!
//! [`ContentRules::contacts`]: super::ContentRules::contacts
//! [`ContentRules::contacts_after`]: super::ContentRules::contacts_after

use std::time::Duration;

use super::rules::Policy;
use super::time::{Second, Timestamp};
use super::tuple::{NetworkMark, PairTag};

/// The facts about one reverse-path and recipient of which no mail has passed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRecord {
    /// The contact that began this life of the record.
    pub first_seen: Second,
    /// A part of the mark of the network that began it: two networks in 256 look the same, and
    /// then a roaming retry from the other one is taken for an ordinary one.
    pub network: u8,
    /// Contacts, one a minute.
    pub contacts: u8,
    /// The minute of the latest contact that counted, since the Unix epoch, modulo 256.
    pub minute: u8,
    /// Counts the lives: a contact after the record has lapsed begins the next one.
    pub life: u8,
}

impl PairRecord {
    /// The record of a first contact, from `network`, at `now`, in the given life.
    pub fn begun(life: u8, network: NetworkMark, now: Timestamp) -> Self {
        Self {
            first_seen: now.into(),
            network: network.part(),
            contacts: 1,
            minute: minute_of(now),
            life,
        }
    }

    /// The record after a contact from `network` at `now`.
    #[must_use]
    pub fn contacted(
        prior: Option<&Self>,
        policy: &Policy,
        network: NetworkMark,
        now: Timestamp,
    ) -> Self {
        match prior {
            None => Self::begun(1, network, now),
            Some(prior) if prior.has_lapsed(policy, now) => {
                Self::begun(prior.life.saturating_add(1), network, now)
            }
            Some(prior) if prior.minute == minute_of(now) => *prior,
            Some(prior) => Self {
                contacts: prior.contacts.saturating_add(1),
                minute: minute_of(now),
                ..*prior
            },
        }
    }

    /// The record after mail of the pair passed at `now`, coming from `network`, for what it said.
    /// Its next mail is known for a pool's.
    #[must_use]
    pub fn begun_anew(&self, network: NetworkMark, now: Timestamp) -> Self {
        Self {
            contacts: 0,
            ..Self::begun(self.life.saturating_add(1), network, now)
        }
    }

    /// Whether an attempt from `network` at `now` is a roaming retry.
    pub fn roams(&self, policy: &Policy, network: NetworkMark, now: Timestamp) -> bool {
        network.part() != self.network
            && !self.has_lapsed(policy, now)
            && self.waited(now) >= policy.delay
    }

    /// Whether its mail passes at `now` whatever it says.
    pub fn has_persisted(&self, policy: &Policy, now: Timestamp) -> bool {
        let rules = &policy.content;
        !self.has_lapsed(policy, now)
            && self.contacts >= rules.contacts
            && self.waited(now) >= rules.contacts_after
    }

    /// From the first contact to `now`.
    pub fn waited(&self, now: Timestamp) -> Duration {
        now.since(self.first_seen.into())
    }

    /// Whether the record is void at `now`: the one definition, for look-up, sweep and listing.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        let first_seen = Timestamp::from(self.first_seen);
        // As for a tuple: nobody waits until a future is reached that a wrong clock told of.
        now >= first_seen.after(policy.retry_window) || first_seen > now.after(policy.delay)
    }

    /// One record out of two of the same pair: the higher life wins; within one life the one that
    /// began first says when and where, and the one with more contacts says how many.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        let (first_seen, network) =
            (self.first_seen, self.network).min((other.first_seen, other.network));
        let (contacts, minute) = (self.contacts, self.minute).max((other.contacts, other.minute));
        Self {
            first_seen,
            network,
            contacts,
            minute,
            life: self.life,
        }
    }
}

/// The minute that `now` lies in, modulo 256: enough to tell one contact from the next, but for one
/// in 256 that is not counted.
fn minute_of(now: Timestamp) -> u8 {
    let [minute, ..] = (now.as_millis() / 60_000).to_le_bytes();
    minute
}

/// One is held for each pending tuple: a field that makes the entry larger is a decision, not an
/// accident.
const _: () = assert!(size_of::<(PairTag, PairRecord)>() == 16);
