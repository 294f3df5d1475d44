//! When clients were forgiven, here or at another host: what was given to them before is void, whoever
//! still tells of it.
//!
//! Kept on the disk like a sentence, so that a host that was restarted before the others heard of it still
//! knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::policy::{Sentence, SentencedClient, Timestamp};

use super::changes::{Bell, Ear, Ears, Marks};
use super::sentences::spread;

/// That a client was forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pardon {
    /// Who.
    pub client: SentencedClient,
    /// When: what was given until then is void.
    pub lifted: Timestamp,
}

impl Pardon {
    /// As it is taken in at `now`: a clock that was ahead must not forgive for years.
    pub(super) fn heard_at(self, now: Timestamp) -> Self {
        let lifted = self.lifted.min(now.after(CLOCKS_DIFFER));
        Self { lifted, ..self }
    }

    /// Whether every sentence has ended by itself that it could void.
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.lifted.after(Sentence::LONGEST) <= now
    }
}

/// The latest pardon of each client.
#[derive(Debug)]
pub(super) struct Pardons {
    known: Mutex<Known>,
    /// Most of them: as many as there may be sentences.
    most: usize,
    given_up: Counter,
    ears: Ears<SentencedClient>,
}

/// Pardons by whom they are of, and by their age.
#[derive(Debug, Default)]
struct Known {
    lifted: HashMap<SentencedClient, Timestamp>,
    by_age: BTreeSet<(Timestamp, SentencedClient)>,
}

impl Pardons {
    /// None yet, with room for `most`.
    pub(super) fn growing(most: usize, given_up: Counter) -> Self {
        Self {
            known: Mutex::default(),
            most,
            given_up,
            ears: Ears::default(),
        }
    }

    /// Notes from now on for `ear` who is forgiven.
    pub(super) fn note_changes(&mut self, ear: Ear, bell: &Arc<Bell>) {
        self.ears.open(ear, bell);
    }

    /// Where that is noted for `ear`, if it is.
    pub(super) fn marks(&self, ear: Ear) -> Option<&Marks<SentencedClient>> {
        self.ears.marks(ear)
    }

    /// Takes in a pardon, and says whether it is news. Of too many the earliest goes.
    pub(super) fn hear(&self, pardon: Pardon) -> bool {
        let Pardon { client, lifted } = pardon;
        {
            let mut known = self.known();
            let before = known.of(client);
            if lifted <= before {
                return false;
            }
            known.by_age.remove(&(before, client));
            known.by_age.insert((lifted, client));
            known.lifted.insert(client, lifted);
            if known.lifted.len() > self.most {
                known.forget_earliest();
                self.given_up.inc();
            }
        }
        self.ears.note(|| spread(client), client);
        true
    }

    /// When `client` was last forgiven, as far as is known; [`Timestamp::NEVER`] if it never was.
    pub(super) fn of(&self, client: SentencedClient) -> Timestamp {
        self.known().of(client)
    }

    /// The pardon of `client`.
    pub(super) fn get(&self, client: SentencedClient) -> Option<Pardon> {
        let lifted = *self.known().lifted.get(&client)?;
        Some(Pardon { client, lifted })
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Pardon> {
        let known = self.known();
        let all = known.lifted.iter();
        all.map(|(&client, &lifted)| Pardon { client, lifted })
            .collect()
    }

    /// Forgets those that have lapsed at `now`.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut known = self.known();
        let has_lapsed = |(lifted, client): (Timestamp, SentencedClient)| {
            Pardon { client, lifted }.has_lapsed(now)
        };
        while known.by_age.first().copied().is_some_and(has_lapsed) {
            known.forget_earliest();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.known() = Known::default();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(&self, client: SentencedClient) -> Timestamp {
        self.lifted
            .get(&client)
            .copied()
            .unwrap_or(Timestamp::NEVER)
    }

    fn forget_earliest(&mut self) {
        if let Some((_, client)) = self.by_age.pop_first() {
            self.lifted.remove(&client);
        }
    }
}

/// How far the clocks of hosts may differ.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;
    use crate::policy::fixture::T0;
    use crate::policy::{Persistence, SentenceLevel, SentenceReason};
    use crate::store::{Settings, Shared, SharedSentence, Store};

    fn client(number: u8) -> SentencedClient {
        SentencedClient::from(std::net::Ipv4Addr::new(192, 0, 2, number))
    }

    fn block() -> Sentence {
        Sentence {
            client: client(7),
            level: SentenceLevel::Block,
            reason: SentenceReason::Operator,
            since: T0,
            until: T0.after(Duration::from_hours(1)),
            persistence: Persistence::default(),
        }
    }

    fn open(directory: &Path, now: Timestamp) -> Store {
        let settings = Settings {
            directory: directory.to_owned(),
            seed_file: directory.join("seed"),
            capacity: 1_000,
            shares: true,
            ..Settings::default()
        };
        let (effects, _nobody) = mpsc::channel(1);
        let opened = Store::open(settings, Arc::default(), effects, Arc::default(), now);
        opened.expect("the directory is writable").0
    }

    #[test]
    fn pardon_that_others_have_not_heard_of_outlives_a_restart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let later = T0.after(Duration::from_secs(9));
        let store = open(directory.path(), T0);
        store.punish(block()).expect("there is room");
        store.forgive(client(7), later);
        store.sync_journal(later).expect("the disk has room");
        drop(store);
        for reads in ["the journal", "a snapshot"] {
            let store = open(directory.path(), later);
            store.absorb(
                Shared::Sentence(SharedSentence {
                    client: client(7),
                    lifted: Timestamp::NEVER,
                    given: Some(block()),
                }),
                later,
            );
            assert_eq!(store.sentences(later), [], "{reads} tells that it is void");
            let mut told = Vec::new();
            store.for_each_told(|it| told.push(it));
            let expected = Shared::Sentence(SharedSentence {
                client: client(7),
                lifted: later,
                given: None,
            });
            assert_eq!(told, [expected], "others are told of it still");
            store.snapshot(later).expect("the disk has room");
        }
        let wrong = later.after(Duration::from_hours(365 * 24));
        let store = open(directory.path(), later);
        store.forgive(client(7), wrong);
        store.sync_journal(later).expect("the disk has room");
        drop(store);
        let store = open(directory.path(), later);
        let heard = later.after(CLOCKS_DIFFER);
        assert_eq!(store.pardons.of(client(7)), heard, "a clock was wrong");
        store.snapshot(later).expect("the disk has room");
        drop(store);
        let past_all = heard.after(Sentence::LONGEST);
        let store = open(directory.path(), past_all);
        assert_eq!(store.pardons.all(), []);
    }

    #[test]
    fn later_pardon_counts_and_of_too_many_the_earliest_goes() {
        let pardons = Pardons::growing(2, Counter::default());
        let of = |number, seconds| Pardon {
            client: client(number),
            lifted: T0.after(Duration::from_secs(seconds)),
        };
        assert!(pardons.hear(of(1, 5)));
        assert!(!pardons.hear(of(1, 5)));
        assert!(!pardons.hear(of(1, 4)));
        assert!(pardons.hear(of(1, 6)));
        assert_eq!(pardons.of(client(1)), of(1, 6).lifted);
        assert_eq!(pardons.of(client(2)), Timestamp::NEVER);
        assert!(pardons.hear(of(2, 5)));
        assert!(pardons.hear(of(3, 7)), "the earliest makes way");
        assert_eq!(pardons.of(client(2)), Timestamp::NEVER);
        pardons.sweep(of(1, 6).lifted.after(Sentence::LONGEST));
        assert_eq!(pardons.all(), [of(3, 7)]);
    }
}
