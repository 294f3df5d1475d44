//! When clients were forgiven, here or at another host: what was given to them before is void, whoever
//! still tells of it.
//!
//! Kept on the disk like a sentence, so that a host that was restarted before the others heard of it still
//! knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Whether every sentence has ended by itself that it could void.
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.lifted.after(Sentence::LONGEST) <= now
    }
}

/// The latest pardon of each client.
#[derive(Debug, Default)]
pub(super) struct Pardons {
    lifted: Mutex<HashMap<SentencedClient, Timestamp>>,
    ears: Ears<SentencedClient>,
}

impl Pardons {
    /// Notes from now on for `ear` who is forgiven.
    pub(super) fn note_changes(&mut self, ear: Ear, bell: &Arc<Bell>) {
        self.ears.open(ear, bell);
    }

    /// Where that is noted for `ear`, if it is.
    pub(super) fn marks(&self, ear: Ear) -> Option<&Marks<SentencedClient>> {
        self.ears.marks(ear)
    }

    /// Takes in a pardon, and says whether it is news. Of too many, those that have lapsed make way; where none
    /// has, it is news and nothing to be remembered.
    pub(super) fn hear(&self, pardon: Pardon) -> bool {
        let Pardon { client, lifted } = pardon;
        {
            let mut known = self.lifted();
            let before = known.get(&client).copied().unwrap_or(Timestamp::NEVER);
            if lifted <= before {
                return false;
            }
            if known.len() >= MOST {
                let has_lapsed = |client, at| Pardon { client, lifted: at }.has_lapsed(lifted);
                known.retain(|client, at| !has_lapsed(*client, *at));
            }
            if known.len() >= MOST && !known.contains_key(&client) {
                return true;
            }
            known.insert(client, lifted);
        }
        self.ears.note(|| spread(client), client);
        true
    }

    /// When `client` was last forgiven, as far as is known; [`Timestamp::NEVER`] if it never was.
    pub(super) fn of(&self, client: SentencedClient) -> Timestamp {
        let known = self.lifted();
        known.get(&client).copied().unwrap_or(Timestamp::NEVER)
    }

    /// The pardon of `client`.
    pub(super) fn get(&self, client: SentencedClient) -> Option<Pardon> {
        let lifted = *self.lifted().get(&client)?;
        Some(Pardon { client, lifted })
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Pardon> {
        let known = self.lifted();
        let all = known.iter();
        all.map(|(&client, &lifted)| Pardon { client, lifted })
            .collect()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.lifted().clear();
    }

    fn lifted(&self) -> MutexGuard<'_, HashMap<SentencedClient, Timestamp>> {
        self.lifted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients of which it is known that they were forgiven.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

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
        let past_all = later.after(Sentence::LONGEST);
        let store = open(directory.path(), past_all);
        assert_eq!(store.pardons.all(), []);
    }

    #[test]
    fn later_pardon_counts_and_an_earlier_one_is_no_news() {
        let pardons = Pardons::default();
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
    }
}
