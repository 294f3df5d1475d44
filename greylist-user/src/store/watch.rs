//! The watch over mail that has been put off: does it come again, from anywhere?
//!
//! A reverse-path and recipient are watched from the first attempt until they pass or their time is
//! up. A pool that retries from another address has not given up, so what counts is the pair, not
//! the tuple. Knows up to four networks of each pair; leaves what follows for them to
//! `reputations`.
//!
//! Bounded: [`PAIRS`] entries of 89 bytes, 24 MB, taken as they come. A flood of bots fills it within minutes, and each entry stays for a retry
//! window. Then new pairs are not watched: nobody is credited or blamed for them, and nothing else
//! is different. What is watched already goes on. It does not survive a restart, for the same
//! price.

use std::cell::RefCell;

use crate::policy::{NetworkKey, PairKey, Policy, RecipientMark, Second, Timestamp};

use super::table::{Full, Table, Walked};

/// The table of pairs.
#[derive(Debug)]
pub(super) struct Watch {
    pairs: Table<PairKey, Watched>,
}

/// A reverse-path and recipient that have been tried and have not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The networks that tried; the first `tried` of these.
    networks: [NetworkKey; Self::NETWORKS],
    /// When the latest of them began.
    begun: Second,
    tried: u8,
    mark: RecipientMark,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        Self::of_at_most(PAIRS)
    }

    pub(super) fn of_at_most(pairs: usize) -> Self {
        Self {
            pairs: Table::growing(pairs),
        }
    }

    /// Watches the pair, which `network` has begun to try. Gives back what was watched of it before
    /// and has lapsed.
    pub(super) fn begin(
        &self,
        policy: &Policy,
        pair: PairKey,
        network: NetworkKey,
        mark: RecipientMark,
        now: Timestamp,
    ) -> Result<Option<Watched>, Full> {
        self.pairs.update(pair, |prior| match prior {
            Some(prior) if prior.is_of_the_future(policy, now) => {
                (Watched::first(network, mark, now), None)
            }
            Some(prior) if prior.has_lapsed(policy, now) => {
                (Watched::first(network, mark, now), Some(*prior))
            }
            Some(prior) => (prior.joined_by(network, now), None),
            None => (Watched::first(network, mark, now), None),
        })
    }

    /// Watches the pair no longer, and gives back what was watched.
    pub(super) fn end(&self, pair: &PairKey) -> Option<Watched> {
        self.pairs.take(pair)
    }

    /// Pairs watched.
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// How many aisles there are to sweep.
    pub(super) fn aisles(&self) -> usize {
        self.pairs.aisles()
    }

    /// Takes the pairs of aisle `number` that have lapsed at `now`.
    pub(super) fn sweep_aisle(
        &self,
        number: usize,
        policy: &Policy,
        now: Timestamp,
    ) -> (Walked, Vec<Watched>) {
        let lapsed = RefCell::new(Vec::new());
        let walked = self.pairs.retain_in_aisle(number, |watched| {
            let has_lapsed = watched.has_lapsed(policy, now);
            if has_lapsed {
                lapsed.borrow_mut().push(*watched);
            }
            !has_lapsed && !watched.is_of_the_future(policy, now)
        });
        (walked, lapsed.into_inner())
    }
}

impl Watched {
    /// Networks known of a pair. Those that come later are neither credited nor blamed.
    const NETWORKS: usize = 4;

    fn first(network: NetworkKey, mark: RecipientMark, now: Timestamp) -> Self {
        Self {
            networks: [network; Self::NETWORKS],
            begun: now.into(),
            tried: 1,
            mark,
        }
    }

    /// Those who tried.
    pub(super) fn networks(&self) -> &[NetworkKey] {
        &self.networks[..self.tried.into()]
    }

    /// The recipient.
    pub(super) fn mark(&self) -> RecipientMark {
        self.mark
    }

    /// A network that joins has a retry window of its own; so the pair is watched for longer, but at
    /// most four times.
    fn joined_by(mut self, network: NetworkKey, now: Timestamp) -> Self {
        let tried = usize::from(self.tried);
        if tried < Self::NETWORKS && !self.networks().contains(&network) {
            self.networks[tried] = network;
            self.tried += 1;
            self.begun = self.begun.max(now.into());
        }
        self
    }

    /// Whether the retry windows of all who tried are over at `now`: the one definition.
    fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        now >= Timestamp::from(self.begun).after(policy.retry_window)
    }

    /// Whether it is of a clock that was wrong and then set back. That says nothing of anybody, and
    /// must not take up room until the future is reached.
    fn is_of_the_future(&self, policy: &Policy, now: Timestamp) -> bool {
        Timestamp::from(self.begun) > now.after(policy.retry_window)
    }
}

/// Pairs watched at once. Of a thousand shards each holds some 195 then, and seldom the 224 beyond which its buckets double.
const PAIRS: usize = 200_000;

const _: () = assert!(size_of::<(PairKey, Watched)>() == 88);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::fixture::T0;

    fn hours(hours: u64) -> Timestamp {
        T0.after(Duration::from_hours(hours))
    }

    fn mark() -> RecipientMark {
        crate::policy::Seed::from_bytes([7; 192]).recipient_mark(b"r@here.example")
    }

    fn network(number: u8) -> NetworkKey {
        NetworkKey::from_bytes([number; 16])
    }

    fn pair(number: u32) -> PairKey {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[12..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
        PairKey::from_bytes(bytes)
    }

    fn begin(watch: &Watch, number: u8, now: Timestamp) -> Result<Option<Watched>, Full> {
        watch.begin(&Policy::default(), pair(1), network(number), mark(), now)
    }

    /// All that lapses in one round of the sweep.
    fn sweep(watch: &Watch, now: Timestamp) -> Vec<Watched> {
        let policy = Policy::default();
        (0..watch.aisles())
            .flat_map(|aisle| watch.sweep_aisle(aisle, &policy, now).1)
            .collect()
    }

    #[test]
    fn knows_the_first_four_networks_once_each() {
        let watch = Watch::new();
        for number in [1, 2, 2, 1, 3, 4, 5, 6] {
            assert_eq!(begin(&watch, number, T0), Ok(None));
        }
        let watched = watch.end(&pair(1)).expect("it was watched");
        assert_eq!(watched.networks(), [1, 2, 3, 4].map(network));
        assert_eq!(watched.mark(), mark());
        assert_eq!(watch.end(&pair(1)), None);
        assert_eq!(watch.len(), 0);
    }

    #[test]
    fn lapses_a_retry_window_after_the_last_that_joined() {
        let watch = Watch::new();
        assert_eq!(begin(&watch, 1, T0), Ok(None));
        assert_eq!(begin(&watch, 2, hours(20)), Ok(None));
        // Who is known already does not put it off.
        assert_eq!(begin(&watch, 1, hours(30)), Ok(None));
        assert_eq!(sweep(&watch, hours(43)), []);
        let lapsed = sweep(&watch, hours(44));
        assert_eq!(lapsed.len(), 1);
        assert_eq!(lapsed[0].networks(), [1, 2].map(network));
        assert_eq!(watch.len(), 0);
    }

    #[test]
    fn begins_anew_after_it_lapsed_and_gives_back_what_was() {
        let watch = Watch::new();
        assert_eq!(begin(&watch, 1, T0), Ok(None));
        let lapsed = begin(&watch, 2, hours(24)).expect("there is room");
        assert_eq!(lapsed.expect("it has lapsed").networks(), [network(1)]);
        let watched = watch.end(&pair(1)).expect("it is watched again");
        assert_eq!(watched.networks(), [network(2)]);
    }

    #[test]
    fn pairs_of_a_clock_that_was_set_back_are_given_up_and_nobody_is_blamed() {
        let watch = Watch::new();
        assert_eq!(begin(&watch, 1, hours(25)), Ok(None));
        assert_eq!(sweep(&watch, hours(1)), []);
        assert_eq!(watch.len(), 1, "a clock may be a little wrong");
        assert_eq!(sweep(&watch, T0), []);
        assert_eq!(watch.len(), 0);
        assert_eq!(begin(&watch, 1, hours(25)), Ok(None));
        assert_eq!(begin(&watch, 2, T0), Ok(None));
        let watched = watch.end(&pair(1)).expect("it is watched");
        assert_eq!(watched.networks(), [network(2)]);
    }

    #[test]
    fn full_watch_takes_no_pair_but_goes_on_with_those_it_has() {
        let watch = Watch::of_at_most(100);
        let policy = Policy::default();
        let refused = (0..1_000)
            .filter(|number| {
                let begun = watch.begin(&policy, pair(*number), network(1), mark(), T0);
                begun == Err(Full)
            })
            .count();
        assert_eq!((watch.len(), refused), (100, 900));
        assert_eq!(begin(&watch, 2, T0), Ok(None));
        let watched = watch.end(&pair(1)).expect("it was watched");
        assert_eq!(watched.networks(), [1, 2].map(network));
        assert_eq!(sweep(&watch, hours(24)).len(), 99);
    }

    #[test]
    fn slice_of_the_sweep_is_a_hundredth_of_the_pairs() {
        let watch = Watch::new();
        let policy = Policy::default();
        for number in 0..50_000 {
            let begun = watch.begin(&policy, pair(number), network(1), mark(), T0);
            assert_eq!(begun, Ok(None));
        }
        assert_eq!(watch.aisles(), 128);
        let (walked, lapsed) = watch.sweep_aisle(0, &policy, hours(24));
        assert!((100..1_000).contains(&walked.seen), "{}", walked.seen);
        assert_eq!(lapsed.len(), walked.seen);
    }
}
