//! What is remembered of client addresses: strikes, AUTH, and the struck hosts of a network.
//!
//! Bounded: who does not fit is counted, and is not punished either. So a flood of offenders frees
//! the newest of them, never the other way round.

use std::net::IpAddr;

use crate::policy::{
    self, Accused, ClientKey, ClientNetwork, ClientRecord, History, HostMark, Neighbours, Offence,
    Outcome, Policy, Protection, Seed, Sentence, SentencedClient, Timestamp,
};

use super::table::{Full, Table};

/// The tables of clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) by_address: Table<ClientKey, ClientRecord>,
    pub(super) by_network: Table<ClientKey, Neighbours>,
}

/// What an offence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) outcome: Outcome,
    /// Strikes of the client that count now, if it was struck.
    pub(super) strikes: u16,
    /// What the client is sentenced to.
    pub(super) sentence: Option<Sentence>,
    /// What the network around it is sentenced to, if nobody else in it is protected; unless there
    /// is no room to remember the network.
    pub(super) of_network: Result<Option<Sentence>, Full>,
}

impl Clients {
    /// Empty tables for `capacity` each. Memory is taken as they fill.
    pub(super) fn growing(capacity: usize) -> Self {
        Self {
            by_address: Table::growing(capacity),
            by_network: Table::growing(capacity),
        }
    }

    /// Notes that somebody at `address` has authenticated, once an hour at most: whoever does so all
    /// day costs a look and no lock that others wait for.
    pub(super) fn note_authenticated(
        &self,
        seed: &Seed,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), Full> {
        let key = seed.client_key(SentencedClient::of(address));
        let known = self.by_address.get(&key).unwrap_or(ClientRecord::EMPTY);
        if known.after_auth(now).is_none() {
            return Ok(());
        }
        self.by_address.update(key, |prior| {
            let known = *prior.unwrap_or(&ClientRecord::EMPTY);
            (known.after_auth(now).unwrap_or(known), ())
        })
    }

    /// Whether somebody at `address`, or in its `/64`, authenticated lately.
    pub(super) fn has_authenticated(
        &self,
        policy: &Policy,
        seed: &Seed,
        address: IpAddr,
        now: Timestamp,
    ) -> bool {
        let key = seed.client_key(SentencedClient::of(address));
        let known = self.by_address.get(&key);
        known.is_some_and(|known| known.has_authenticated(policy, now))
    }

    /// Notes the offence, and gives what the client, and the network around it, are sentenced to.
    pub(super) fn strike(
        &self,
        policy: &Policy,
        seed: &Seed,
        accused: &Accused,
        offence: Offence,
        history: History,
        now: Timestamp,
    ) -> Charged {
        let let_go = |outcome| Charged {
            outcome,
            strikes: 0,
            sentence: None,
            of_network: Ok(None),
        };
        if let Some(outcome) = policy::excuse(policy, accused, history, now) {
            return let_go(outcome);
        }
        let key = seed.client_key(SentencedClient::host(accused.address));
        let struck = self.by_address.update(key, |prior| {
            let struck = policy::strike(policy, prior, accused, offence, history, now);
            (struck.next, struck)
        });
        let Ok(struck) = struck else {
            return let_go(Outcome::Unrecorded);
        };
        let Some(sentence) = struck.sentence else {
            return let_go(Outcome::Repeated);
        };
        let of_network = if accused.protection == Protection::None {
            self.note_neighbour(policy, seed, accused.address, &sentence)
        } else {
            Ok(None)
        };
        Charged {
            outcome: Outcome::Struck,
            strikes: struck.next.strikes,
            sentence: Some(sentence),
            of_network,
        }
    }

    /// Undoes the strikes of `client`, an address, and its part in what its network may be sentenced
    /// for; or the latter for all hosts of `client`, a network. Gives how many strikes, or struck
    /// hosts, counted until now.
    pub(super) fn forgive(
        &self,
        policy: &Policy,
        seed: &Seed,
        client: SentencedClient,
        now: Timestamp,
    ) -> u16 {
        let address = client.network().addr();
        let [host, network] = SentencedClient::covering(address);
        let network_key = seed.client_key(network);
        if client == network {
            let forgiven = self.by_network.alter(&network_key, |known| {
                let counted = known.count(policy, now);
                *known = known.forgiven();
                counted
            });
            return forgiven.map_or(0, |counted| u16::try_from(counted).unwrap_or(u16::MAX));
        }
        self.by_network.alter(&network_key, |known| {
            *known = known.without(mark(address));
        });
        let forgiven = self.by_address.alter(&seed.client_key(host), |known| {
            let counted = known.strikes(policy, now);
            *known = known.forgiven();
            counted
        });
        forgiven.unwrap_or(0)
    }

    /// Notes that the host at `address` was given `sentence`, and gives what its network is
    /// sentenced to for it.
    fn note_neighbour(
        &self,
        policy: &Policy,
        seed: &Seed,
        address: IpAddr,
        sentence: &Sentence,
    ) -> Result<Option<Sentence>, Full> {
        let [_, network] = SentencedClient::covering(address);
        let noted = self.by_network.update(seed.client_key(network), |prior| {
            let prior = prior.copied().unwrap_or_default();
            let next = prior.struck(mark(address), sentence.since);
            (next, next)
        });
        noted.map(|neighbours| neighbours.sentence(policy, network, sentence))
    }
}

/// Which host of its `/24` or `/64` the one at `address` is.
fn mark(address: IpAddr) -> HostMark {
    HostMark::of(ClientNetwork::cut(address, 24, 64), address)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use crate::policy::SentenceLevel;

    use super::*;
    use crate::policy::fixture::{OLD, T0};

    struct Court {
        clients: Clients,
        seed: Seed,
        policy: Policy,
    }

    impl Court {
        fn with_room_for(clients: usize) -> Self {
            Self {
                clients: Clients::growing(clients),
                seed: Seed::from_bytes([7; Seed::LENGTH]),
                policy: Policy::default(),
            }
        }

        /// What host `number` of a `/24`, thus protected, comes to on `day`.
        fn strikes(&self, number: u8, protection: Protection, day: u64) -> Charged {
            let accused = Accused {
                address: Ipv4Addr::new(192, 0, 2, number).into(),
                protection,
                has_passed: true,
            };
            let now = T0.after(Duration::from_hours(24 * day));
            let offence = Offence::RapidRetries;
            self.clients
                .strike(&self.policy, &self.seed, &accused, offence, OLD, now)
        }
    }

    #[test]
    fn client_with_passes_on_record_stays_at_a_day() {
        let court = Court::with_room_for(10);
        for day in 0..6 {
            let charged = court.strikes(7, Protection::None, 2 * day);
            assert_eq!(u64::from(charged.strikes), day + 1);
            let sentence = charged.sentence.expect("it is struck");
            let length = sentence.until.since(sentence.since);
            assert!(length <= Duration::from_hours(27), "{sentence:?}");
        }
    }

    #[test]
    fn host_with_a_good_record_is_rated_at_most_and_does_not_blame_its_network() {
        let court = Court::with_room_for(10);
        for host in 0..6 {
            for day in 0..3 {
                let charged = court.strikes(host, Protection::FromBlock, day);
                let sentence = charged.sentence.expect("it is struck");
                assert_eq!(sentence.level, SentenceLevel::Rate);
                assert_eq!(charged.of_network, Ok(None));
            }
        }
        assert_eq!(court.clients.by_network.len(), 0);
    }

    #[test]
    fn protected_client_leaves_no_record() {
        let court = Court::with_room_for(10);
        let charged = court.strikes(7, Protection::FromAll, 0);
        assert_eq!((charged.outcome, charged.sentence), (Outcome::Spared, None));
        assert_eq!(court.clients.by_address.len(), 0);
    }

    #[test]
    fn network_that_does_not_fit_is_told_of_and_its_host_is_sentenced() {
        let mut court = Court::with_room_for(10);
        court.clients.by_network = Table::growing(0);
        let charged = court.strikes(7, Protection::None, 0);
        assert_eq!(charged.outcome, Outcome::Struck);
        assert_eq!(charged.of_network, Err(Full));
    }

    #[test]
    fn offences_of_one_moment_in_many_sessions_are_one_strike() {
        let court = Court::with_room_for(10);
        let outcomes = std::thread::scope(|scope| {
            let session = || scope.spawn(|| court.strikes(7, Protection::None, 0).outcome);
            let sessions: Vec<_> = std::iter::repeat_with(session).take(8).collect();
            let outcomes = sessions.into_iter().map(|it| it.join().expect("no panic"));
            outcomes.collect::<Vec<_>>()
        });
        let came_to = |outcome| outcomes.iter().filter(|it| **it == outcome).count();
        assert_eq!(came_to(Outcome::Struck), 1);
        assert_eq!(came_to(Outcome::Repeated), 7);
    }

    #[test]
    fn auth_is_written_once_an_hour() {
        let court = Court::with_room_for(10);
        let address = Ipv4Addr::new(192, 0, 2, 7).into();
        let noted = |minute| {
            let now = T0.after(Duration::from_mins(minute));
            let noted = court.clients.note_authenticated(&court.seed, address, now);
            noted.expect("there is room");
            let key = court.seed.client_key(SentencedClient::of(address));
            court
                .clients
                .by_address
                .get(&key)
                .map(|it| it.authenticated)
        };
        let first = noted(0);
        assert_eq!(noted(59), first);
        assert_ne!(noted(60), first);
    }
}
