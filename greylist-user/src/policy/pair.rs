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
//! A slow sender takes longer than a retry window for so many contacts, so each of them keeps the
//! record for one more: who comes again within a window each time gets there.
//!
//! Knows nothing of what a message says, see `content`, nor of tuples, see `record`. One is held for
//! each pending tuple, so it is small. It ends with the first mail that passes for its tuple, and
//! begins anew with one that passes for its content: who proved to be a pool is known for one, for a
//! retry window. Its mail is read at once, whichever of its networks sends it, or what passes first
//! would keep what is queued beside it waiting. So is that of one whose tuple passed after another of
//! its networks had come.
//!
//! [`ContentRules::contacts`]: super::ContentRules::contacts
//! [`ContentRules::contacts_after`]: super::ContentRules::contacts_after

use std::time::Duration;

use super::content::ContentRecord;
use super::rules::Policy;
use super::time::{Second, Timestamp};
use super::tuple::{NetworkMark, PairTag};

/// The facts about one reverse-path and recipient of which no mail has passed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRecord {
    /// The contact that began this life of the record, to the second that it lies in.
    pub first_seen: Second,
    /// A part of the mark of the network that began it: two networks in 256 look the same, and
    /// then the second attempt of the other one is taken for its own retry. Two values are no
    /// network's: 0 is of a pool that is known for one, 1 says that another network has come.
    pub network: u8,
    /// Contacts, one a minute.
    pub contacts: u8,
    /// The minute of the latest contact that counted, since the Unix epoch, modulo 256.
    pub minute: u8,
    /// Counts the lives: a contact after the record has lapsed begins the next one.
    pub life: u8,
}

impl PairRecord {
    /// Whichever network comes is another one.
    const ANY: u8 = 0;
    /// More than one has come.
    const SEVERAL: u8 = 1;

    /// The record of a first contact, from `network`, at `now`, in the given life.
    pub fn begun(life: u8, network: NetworkMark, now: Timestamp) -> Self {
        Self {
            first_seen: now.into(),
            network: part_of(network),
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

    /// The record after a roaming retry.
    #[must_use]
    pub fn roamed(self) -> Self {
        Self {
            network: self.network.min(Self::SEVERAL),
            ..self
        }
    }

    /// The record after mail of the pair passed at `now`, as a pool's. What it sends next is known for
    /// that.
    #[must_use]
    pub fn begun_anew(&self, now: Timestamp) -> Self {
        Self {
            first_seen: now.into(),
            network: Self::ANY,
            contacts: 0,
            minute: minute_of(now),
            life: self.life.saturating_add(1),
        }
    }

    /// Whether mail of the pair has come from more than one network, as far as it is known at `now`.
    pub fn is_of_several(&self, policy: &Policy, now: Timestamp) -> bool {
        self.network <= Self::SEVERAL && !self.has_lapsed(policy, now)
    }

    /// Whether the pair is known for a pool's at `now`.
    pub fn is_of_a_pool(&self, policy: &Policy, now: Timestamp) -> bool {
        self.network == Self::ANY && !self.has_lapsed(policy, now)
    }

    /// Whether an attempt from `network` at `now` is a roaming retry, or of a known pool. One whose
    /// tuple `is_new` is from a network that cannot have begun the record.
    pub fn roams(
        &self,
        policy: &Policy,
        network: NetworkMark,
        is_new: bool,
        now: Timestamp,
    ) -> bool {
        let is_elsewhere = is_new || part_of(network) != self.network;
        let is_retry = is_elsewhere && self.waited(now) >= policy.delay;
        (is_retry || self.network == Self::ANY) && !self.has_lapsed(policy, now)
    }

    /// Whether its mail passes at `now` whatever it says.
    pub fn has_persisted(&self, policy: &Policy, now: Timestamp) -> bool {
        let rules = &policy.content;
        !self.has_lapsed(policy, now)
            && self.contacts >= rules.contacts
            && self.waited(now) >= rules.contacts_after
    }

    /// How long the mail that `message` is of has waited at `now`: since the first contact. What a
    /// known pool sends is read at once, long after the record began.
    pub fn waited_with(&self, message: &ContentRecord, now: Timestamp) -> Duration {
        let read = now.since(message.first_seen);
        if self.network == Self::ANY {
            read
        } else {
            read.max(self.waited(now))
        }
    }

    /// From what began it to `now`: a first contact, or a mail that passed.
    pub fn waited(&self, now: Timestamp) -> Duration {
        now.since(self.first_seen.into())
    }

    /// Whether the record is void at `now`: the one definition, for look-up, sweep and listing.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        // As for a tuple: nobody waits until a future is reached that a wrong clock told of.
        let is_ahead = Timestamp::from(self.first_seen) > now.after(policy.delay);
        is_ahead || now >= self.lapses(policy)
    }

    /// When the record lapses if nothing more is heard of its pair.
    pub fn lapses(&self, policy: &Policy) -> Timestamp {
        let time = policy.contacts_window(self.contacts);
        Timestamp::from(self.first_seen).after(time)
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

/// What is kept of a network's mark: neither of the two values that say something else.
fn part_of(network: NetworkMark) -> u8 {
    network.part().saturating_add(PairRecord::SEVERAL + 1)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::T0;

    const HERE: NetworkMark = NetworkMark::from_bits(1);
    const THERE: NetworkMark = NetworkMark::from_bits(2);

    fn after(seconds: u64) -> Timestamp {
        T0.after(Duration::from_secs(seconds))
    }

    fn hours(hours: u64) -> u64 {
        hours * 3_600
    }

    /// The record after contacts at these seconds.
    fn contacted(policy: &Policy, seconds: impl IntoIterator<Item = u64>) -> PairRecord {
        let record = seconds.into_iter().fold(None, |record, at| {
            let next = PairRecord::contacted(record.as_ref(), policy, HERE, after(at));
            Some(next)
        });
        record.expect("there was a contact")
    }

    #[test]
    fn roams_from_another_network_after_the_delay_until_it_lapses() {
        let policy = Policy::default();
        let begun = PairRecord::begun(1, HERE, T0);
        let roams = |network, seconds| begun.roams(&policy, network, false, after(seconds));
        let delay = policy.delay.as_secs();
        assert!(!roams(THERE, 0));
        assert!(!roams(THERE, delay - 1));
        assert!(roams(THERE, delay));
        assert!(roams(THERE, hours(24) - 1));
        assert!(!roams(THERE, hours(24)));
        assert!(!roams(HERE, delay));
    }

    #[test]
    fn networks_that_look_the_same_are_told_apart_by_what_is_remembered_of_them() {
        let policy = Policy::default();
        let begun = PairRecord::begun(1, HERE, T0);
        let alike = NetworkMark::from_bits(HERE.to_bits() | 0x100);
        assert!(!begun.roams(&policy, alike, false, after(300)));
        // Nothing is remembered of its tuple, as of that of the network that began.
        assert!(begun.roams(&policy, alike, true, after(300)));
        assert!(!begun.roams(&policy, alike, true, after(179)));
        // The next of the pool is seen for what it is.
        let next = PairRecord::contacted(Some(&begun), &policy, alike, after(300));
        assert!(next.roams(&policy, THERE, false, after(600)));
    }

    #[test]
    fn one_contact_counts_a_minute() {
        let policy = Policy::default();
        let minute = 60 - T0.as_millis() / 1_000 % 60;
        let hammered = contacted(&policy, 0..minute);
        assert_eq!(hammered.contacts, 1);
        assert_eq!(contacted(&policy, 0..=minute).contacts, 2);
        let each_second = contacted(&policy, 0..600);
        assert_eq!(each_second.contacts, 11, "the minutes it touched");
        assert_eq!(each_second.first_seen, T0.into());
    }

    #[test]
    fn way_out_opens_at_the_sixth_contact_and_an_hour_and_not_before() {
        let policy = Policy::default();
        let opens = |schedule: &[u64]| {
            let now = after(*schedule.last().expect("a contact"));
            contacted(&policy, schedule.iter().copied()).has_persisted(&policy, now)
        };
        let quarter = 15 * 60;
        assert!(!opens(&[0, 60, 120, 180, 240, 300]), "6 in five minutes");
        assert!(!opens(&[0, 60, 120, 180, 240, 300, 3_599]), "7 in the hour");
        assert!(opens(&[0, 60, 120, 180, 240, 300, 3_600]));
        assert!(!opens(&[0, quarter, 2 * quarter, 3 * quarter, 4 * quarter]));
        assert!(opens(&[0, 900, 1_800, 2_700, 3_600, 4_500]));
        assert!(!opens(&[0, 3_600]), "twice in an hour");
    }

    #[test]
    fn slow_sender_gets_out_too() {
        let policy = Policy::default();
        for pause in [hours(4), hours(5), hours(12), hours(24) - 1] {
            let schedule = (0..6).map(|number| number * pause);
            let record = contacted(&policy, schedule);
            assert!(
                record.has_persisted(&policy, after(5 * pause)),
                "each {pause} s: {record:?}"
            );
        }
        let daily = contacted(&policy, (0..6).map(|number| number * hours(24)));
        assert_eq!((daily.contacts, daily.life), (1, 6), "new each day");
    }

    #[test]
    fn contacts_keep_it_for_no_more_windows_than_count() {
        let policy = Policy::default();
        let hammered = contacted(&policy, (0..200).map(|minute| 60 * minute));
        assert_eq!(hammered.contacts, 200);
        let last = after(hours(6 * 24));
        assert!(hammered.has_lapsed(&policy, last));
        assert!(!hammered.has_lapsed(&policy, after(hours(6 * 24) - 1)));
        let mut at_once = policy;
        at_once.content.contacts = 0;
        assert!(!hammered.has_lapsed(&at_once, after(hours(24) - 1)));
        assert!(hammered.has_lapsed(&at_once, after(hours(24))));
    }

    #[test]
    fn pool_that_passed_is_known_for_one_and_waits_for_the_way_out_again() {
        let policy = Policy::default();
        let record = contacted(&policy, (0..10).map(|number| 600 * number));
        let passed = after(6_000);
        let anew = record.begun_anew(passed);
        assert_eq!((anew.life, anew.contacts), (record.life + 1, 0));
        assert_eq!(anew.first_seen, passed.into());
        for network in [HERE, THERE, NetworkMark::from_bits(0)] {
            assert!(
                anew.roams(&policy, network, false, passed),
                "what is queued beside it is not kept waiting"
            );
        }
        assert!(anew.is_of_a_pool(&policy, passed));
        assert!(!record.is_of_a_pool(&policy, passed));
        let day_later = after(6_000 + hours(24));
        assert!(!anew.roams(&policy, HERE, true, day_later));
        assert!(!anew.is_of_a_pool(&policy, day_later));
        assert!(!anew.has_persisted(&policy, after(6_000 + 7_200)));
        assert_eq!(record.merge(anew), anew, "it is the later life");
    }

    #[test]
    fn pair_that_roamed_is_of_several_networks_and_not_yet_a_pools() {
        let policy = Policy::default();
        let begun = PairRecord::begun(1, NetworkMark::from_bits(0), T0);
        assert!(!begun.is_of_several(&policy, T0));
        let roamed = begun.roamed();
        assert!(roamed.is_of_several(&policy, T0));
        assert!(!roamed.is_of_a_pool(&policy, T0));
        assert!(roamed.roams(&policy, NetworkMark::from_bits(0), false, after(180)));
        assert!(!roamed.is_of_several(&policy, after(hours(24))));
        let known = roamed.begun_anew(after(600));
        assert_eq!(known.roamed(), known);
        assert!(known.is_of_several(&policy, after(600)));
    }

    #[test]
    fn mail_of_a_known_pool_has_waited_since_it_was_read() {
        let policy = Policy::default();
        let read_at = |seconds: &[u64]| {
            let record = seconds.iter().fold(None, |record, &at| {
                let next = ContentRecord::read(record.as_ref(), &policy, HERE, after(at));
                Some(next)
            });
            record.expect("it was read")
        };
        let pair = contacted(&policy, [0, 300, 600]);
        let waited = pair.waited_with(&read_at(&[300, 600]), after(600));
        assert_eq!(waited, Duration::from_mins(10), "with what came before");
        let known = pair.begun_anew(after(600));
        let known = [4_000, 4_300].into_iter().fold(known, |known, at| {
            PairRecord::contacted(Some(&known), &policy, HERE, after(at))
        });
        let waited = known.waited_with(&read_at(&[4_000, 4_300]), after(4_300));
        assert_eq!(waited, Duration::from_mins(5));
    }

    #[test]
    fn lapsed_record_begins_anew() {
        let policy = Policy::default();
        let begun = PairRecord::begun(1, HERE, T0);
        let late = after(hours(24));
        let next = PairRecord::contacted(Some(&begun), &policy, THERE, late);
        assert_eq!(next, PairRecord::begun(2, THERE, late));
    }

    #[test]
    fn record_from_the_future_is_void() {
        let policy = Policy::default();
        let ahead = PairRecord {
            contacts: 200,
            ..PairRecord::begun(1, HERE, after(hours(24 * 365)))
        };
        assert!(ahead.has_lapsed(&policy, T0));
        assert!(!ahead.roams(&policy, THERE, true, T0));
        assert!(!ahead.has_persisted(&policy, T0));
        let next = PairRecord::contacted(Some(&ahead), &policy, THERE, T0);
        assert_eq!(next, PairRecord::begun(2, THERE, T0));
    }

    #[test]
    fn counts_saturate() {
        let policy = Policy::default();
        let most = PairRecord {
            contacts: u8::MAX,
            life: u8::MAX,
            ..PairRecord::begun(1, HERE, T0)
        };
        let next = PairRecord::contacted(Some(&most), &policy, HERE, after(60));
        assert_eq!(next.contacts, u8::MAX);
        assert_eq!(most.begun_anew(after(60)).life, u8::MAX);
        let late = PairRecord::contacted(Some(&most), &policy, HERE, after(hours(24 * 7)));
        assert_eq!((late.contacts, late.life), (1, u8::MAX));
    }

    prop_compose! {
        /// Small ranges, so that equal lives and times are common.
        fn record()(
            first_seen in 1u32..4, network in 0u8..3, contacts in 0u8..3, minute in 0u8..3,
            life in 1u8..3,
        ) -> PairRecord {
            PairRecord {
                first_seen: Second::from_seconds(first_seen),
                network,
                contacts,
                minute,
                life,
            }
        }
    }

    proptest! {
        #[test]
        fn merging_knows_no_order(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
            prop_assert_eq!(a.merge(a), a);
        }

        #[test]
        fn higher_life_wins_whole(a in record(), b in record()) {
            let next = PairRecord { life: 3, ..b };
            prop_assert_eq!(a.merge(next), next);
        }

        /// Whoever comes again within a window each time, and not in the minute of 256 that is not
        /// told from the one before.
        #[test]
        fn anybody_gets_out_at_the_sixth_contact_or_an_hour_after_the_first(
            gaps in proptest::collection::vec(
                prop_oneof![60..900_u64, 60..15_000_u64, 15_600..86_400_u64], 5..12,
            ),
        ) {
            let policy = Policy::default();
            let mut schedule = vec![0];
            for gap in gaps {
                schedule.push(schedule.last().copied().unwrap_or(0) + gap);
            }
            let apart = schedule.windows(2).all(|two| {
                minute_of(after(two[0])) != minute_of(after(two[1]))
            });
            prop_assume!(apart);
            for (number, &at) in schedule.iter().enumerate() {
                let record = contacted(&policy, schedule[..=number].iter().copied());
                let expected = number >= 5 && at >= 3_600;
                prop_assert_eq!(record.has_persisted(&policy, after(at)), expected, "{:?}", record);
                prop_assert_eq!(record.first_seen, Second::from(T0));
                if expected {
                    // What comes later keeps it no longer.
                    break;
                }
            }
        }
    }
}
