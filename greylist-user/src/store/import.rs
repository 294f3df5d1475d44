//! What comes in from elsewhere: records of another greygate with the same seed, and what another
//! greylister kept.
//!
//! Everything is merged into what is held, entry by entry and by the records' own rules, while mail is
//! judged. Nothing is pushed out for it: what finds no room is counted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::policy::{
    Foreign, NoCounterpart, Policy, Second, Seed, Sentence, Timestamp, trust_heard,
};

use super::codec::Row;
use super::restored::Restored;
use super::{Store, table};

/// One thing to take in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// What another greylister kept.
    Foreign(Foreign),
    /// A record as a snapshot has it, whose key was made with this store's seed.
    Kept(Row),
}

/// What became of what was to be taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What was taken in, by kind; and what was not, since it has lapsed or there is no room.
    pub counts: Restored,
    /// What these rules have no counterpart of.
    pub no_counterpart: BTreeMap<NoCounterpart, u64>,
}

impl Store {
    /// Takes in what arrives, or only says what would come of it: whether there is room, only the
    /// attempt can tell.
    pub fn import(
        &self,
        arrivals: impl IntoIterator<Item = Arrival>,
        dry_run: bool,
        now: Timestamp,
    ) -> Imported {
        let policy = self.policy.load_full();
        let mut imported = Imported::default();
        for arrival in arrivals {
            match arrival {
                // The files here hold none of them: nothing is to be wiped.
                Arrival::Kept(Row::Kept(..)) if self.kept.is_none() => {
                    imported.counts.addresses_dropped += 1;
                }
                Arrival::Kept(row) => {
                    let row = heard_by(row, now);
                    if dry_run {
                        count(&row, &policy, now, &mut imported.counts);
                    } else {
                        self.restore_row(row, &policy, now, &mut imported.counts);
                    }
                }
                Arrival::Foreign(fact) => {
                    let heard = self.hear(&fact, &policy, dry_run, now, &mut imported.counts);
                    if let Err(none) = heard {
                        *imported.no_counterpart.entry(none).or_default() += 1;
                    }
                }
            }
        }
        self.show_sizes();
        imported
    }

    /// The name of the seed that keys are made with.
    pub fn seed_fingerprint(&self) -> [u8; 16] {
        self.seed.fingerprint()
    }

    /// The seed itself, for hosts that are to have the same.
    pub(crate) fn seed_bytes(&self) -> &[u8; Seed::LENGTH] {
        self.seed.as_bytes()
    }

    /// Takes over since when there is a history, if that is longer.
    pub fn lengthen_history(&self, begun: Timestamp) {
        let _before = self.begun.fetch_min(begun.as_millis(), Ordering::Relaxed);
    }

    fn hear(
        &self,
        fact: &Foreign,
        policy: &Policy,
        dry_run: bool,
        now: Timestamp,
        counts: &mut Restored,
    ) -> Result<(), NoCounterpart> {
        if let Some((keys, heard)) = fact.trust(policy, &self.seed)? {
            if heard.has_lapsed(policy, now) {
                counts.lapsed += 1;
                return Ok(());
            }
            let hear = |key| {
                let heard = |prior: Option<&_>| trust_heard(heard, prior, policy, now);
                self.trust.update(key, |prior| (heard(prior), ()))
            };
            let has_room = dry_run || keys.into_iter().all(|key| hear(key).is_ok());
            note(has_room, &mut counts.trusted, &mut counts.over_capacity);
            return Ok(());
        }
        let tuples = fact.tuples(policy, &self.seed)?;
        let Some(alone) = fact.record(None, policy, now) else {
            return Ok(());
        };
        if alone.has_lapsed(policy, now) {
            counts.lapsed += 1;
            return Ok(());
        }
        if dry_run {
            counts.tuples += 1;
            return Ok(());
        }
        let mut has_room = true;
        for (key, tag, pair) in tuples {
            let heard = |prior: Option<&_>| fact.record(prior, policy, now).unwrap_or(alone);
            has_room &= self.tuples.update(key, |prior| (heard(prior), ())).is_ok();
            if policy.mode.reads() && !alone.has_passed() {
                // Without room for it, a pool waits as it does anywhere.
                let _: Result<(), table::Full> = self.pairs.by_tag.update(tag, |prior| {
                    let held = prior.filter(|it| !it.has_lapsed(policy, now));
                    (held.map_or(pair, |it| *it), ())
                });
            }
        }
        note(has_room, &mut counts.tuples, &mut counts.over_capacity);
        Ok(())
    }
}

fn note(has_room: bool, kept: &mut u64, over_capacity: &mut u64) {
    *(if has_room { kept } else { over_capacity }) += 1;
}

/// The row as it can have been by `now`. A clock that was wrong there must not hold mail up here, let a
/// sentence last for years, or a trust for ever.
pub(super) fn heard_by(row: Row, now: Timestamp) -> Row {
    let second = Second::from(now);
    match row {
        Row::Client(key, mut it) => {
            it.authenticated = it.authenticated.min(second);
            for strike in it.latest.iter_mut().flatten() {
                strike.at = strike.at.min(second);
            }
            Row::Client(key, it)
        }
        Row::Content(key, mut it) => {
            it.first_seen = it.first_seen.min(now);
            it.last_seen = it.last_seen.min(second);
            it.passed = it.passed.min(second);
            Row::Content(key, it)
        }
        Row::Helo(key, mut it) => {
            it.since = it.since.min(second);
            it.latest = it.latest.min(second);
            Row::Helo(key, it)
        }
        Row::Neighbours(key, mut it) => {
            for host in &mut it.hosts {
                host.struck = host.struck.min(second);
            }
            Row::Neighbours(key, it)
        }
        Row::Pair(key, mut it) => {
            it.first_seen = it.first_seen.min(second);
            Row::Pair(key, it)
        }
        Row::Reputation(key, it) => Row::Reputation(key, it.heard_by(now)),
        Row::Sentence(mut it) => {
            it.since = it.since.min(now);
            it.until = it.until.min(it.since.after(Sentence::LONGEST));
            Row::Sentence(it)
        }
        Row::Trust(key, mut it) => {
            it.counted = it.counted.min(now);
            it.last_used = it.last_used.min(now);
            Row::Trust(key, it)
        }
        Row::Tuple(key, mut it) => {
            it.first_seen = it.first_seen.min(now);
            it.last_seen = it.last_seen.min(now);
            it.passed = it.passed.min(second);
            Row::Tuple(key, it)
        }
        Row::Gone(_) | Row::Kept(..) | Row::Pardon(_) | Row::Unknown => row,
    }
}

/// Counts what would be taken in of `row`.
fn count(row: &Row, policy: &Policy, now: Timestamp, counts: &mut Restored) {
    let (has_lapsed, kept) = match row {
        Row::Client(_, record) => (record.has_lapsed(policy, now), &mut counts.clients),
        Row::Content(_, record) => (record.has_lapsed(policy, now), &mut counts.contents),
        Row::Helo(_, record) => (record.has_lapsed(policy, now), &mut counts.helos),
        Row::Kept(..) => (false, &mut counts.addresses),
        Row::Neighbours(_, record) => (record.has_lapsed(policy, now), &mut counts.clients),
        Row::Pair(_, record) => (record.has_lapsed(policy, now), &mut counts.pairs),
        Row::Reputation(_, record) => (record.has_lapsed(policy, now), &mut counts.reputations),
        Row::Sentence(sentence) => (sentence.has_ended(now), &mut counts.sentences),
        Row::Trust(_, record) => (record.has_lapsed(policy, now), &mut counts.trusted),
        Row::Tuple(_, record) => (record.has_lapsed(policy, now), &mut counts.tuples),
        // The word of a store on its own disk, and nothing to take in.
        Row::Gone(_) | Row::Pardon(_) | Row::Unknown => (false, &mut counts.unknown),
    };
    *(if has_lapsed { &mut counts.lapsed } else { kept }) += 1;
}
