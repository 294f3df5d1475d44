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
            let counted = known.counted_strikes(policy, now);
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
