//! What is remembered of client addresses: strikes, AUTH, and the struck hosts of a network.

use std::net::IpAddr;

use crate::policy::{
    self, Accused, ClientKey, ClientRecord, History, Neighbours, Offence, Policy, Seed, Sentence,
    SentencedClient, Timestamp,
};

use super::table::Table;

/// The tables of clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) by_address: Table<ClientKey, ClientRecord>,
    pub(super) by_network: Table<ClientKey, Neighbours>,
}

impl Clients {
    /// Empty tables for `capacity` each. Memory is taken as they fill.
    pub(super) fn growing(capacity: usize) -> Self {
        Self {
            by_address: Table::growing(capacity),
            by_network: Table::growing(capacity),
        }
    }

    /// Notes that somebody at `address` has authenticated.
    pub(super) fn note_authenticated(&self, seed: &Seed, address: IpAddr, now: Timestamp) {
        let _ = (seed, address, now);
    }

    /// Whether somebody at `address`, or in its `/64`, authenticated lately.
    pub(super) fn has_authenticated(
        &self,
        policy: &Policy,
        seed: &Seed,
        address: IpAddr,
        now: Timestamp,
    ) -> bool {
        let _ = (policy, seed, address, now);
        false
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
    ) -> Vec<Sentence> {
        let key = seed.client_key(SentencedClient::host(accused.address));
        let struck = self.by_address.update(key, |prior| {
            let struck = policy::strike(policy, prior, accused, offence, history, now);
            (struck.next, struck)
        });
        struck.ok().and_then(|it| it.sentence).into_iter().collect()
    }
}
