//! From an offence to what follows from it, and from an operator's pardon to what it undoes.
//!
//! Knows where the past of a client lies and who has to hear of a strike; leaves what a strike costs
//! to `policy`.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::log::STRANGERS;
use crate::policy::{
    self, Accused, Attempt, ClientNetwork, Effect, Offence, Outcome, Policy, Protection, Sentence,
    SentencedClient, SharedKey, Timestamp,
};

use super::{Pardon, Store};

/// What forgiving undid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgiven {
    /// Who was forgiven.
    pub client: SentencedClient,
    /// The sentence that was lifted; [`None`] if none was in force.
    pub lifted: Option<Sentence>,
    /// The strikes of an address that counted until now; of a network, the struck hosts that did.
    pub strikes: u16,
    /// Client networks that it may belong to of which bad counts are gone.
    pub reputations: u8,
    /// Whether recipients that were refused to it had been counted.
    pub rejections: bool,
}

impl Forgiven {
    /// Whether there was anything to undo.
    fn is_news(&self) -> bool {
        self.lifted.is_some() || self.strikes > 0 || self.reputations > 0 || self.rejections
    }
}

impl Store {
    /// Undoes everything that `client` has earned: its sentence, its strikes, its part in what the
    /// network around it may be sentenced for, and what it is reputed for. That it was struck is
    /// still remembered, and counts for nothing.
    ///
    /// What is pending stays so, as it would for anybody: tuples, reverse-paths and recipients, and
    /// messages that were read are no punishment. What early retries have added to the delay of a tuple,
    /// and the failure of a message, are undone by [`forgive_mail`](Self::forgive_mail), and a HELO
    /// argument is forgotten by [`forgive_helo`](Self::forgive_helo): their keys do not tell whose they
    /// are.
    ///
    /// A network is forgiven what it was or may be sentenced for itself; its hosts keep their own
    /// strikes. [`forgive_within`](Self::forgive_within) is for all of them.
    pub fn forgive(&self, client: SentencedClient, now: Timestamp) -> Forgiven {
        let pardoned = self.pardon(client, now);
        let lifted = self.sentences.lift(client, now);
        if lifted.is_some() {
            self.metrics.sentences_forgiven.inc();
        }
        let forgiven = Forgiven { lifted, ..pardoned };
        note_forgiven(&forgiven);
        if self.settings.shares {
            // Whoever gave it may be ahead by the clock.
            let given = lifted.map_or(now, |it| it.since);
            let lifted = now.max(given);
            self.pardons.hear(Pardon { client, lifted });
        }
        // Told in any case: the kernel may still hold what the store does not.
        self.tell(Effect::Forgive(client));
        forgiven
    }

    /// Undoes everything that clients in `network` have earned, and tells of those that were
    /// sentenced or struck.
    ///
    /// Who is sentenced is known by name. Who only holds strikes is not: those are found by asking
    /// for every address and every `/24` of an IPv4 network that is no wider than a `/16`. In a wider
    /// one, and in an IPv6 network, strikes of clients without a sentence stay; those of one address
    /// can be forgiven by [`forgive`](Self::forgive).
    ///
    /// Looks at all sentences: a tenth of a second's work for a million, of which nothing that
    /// judges has to wait for more than a shard's share.
    pub fn forgive_within(&self, network: IpNet, now: Timestamp) -> Vec<Forgiven> {
        let sentenced = self.sentences.within(network);
        let mut forgiven: Vec<_> = sentenced
            .into_iter()
            .map(|client| self.forgive(client, now))
            .collect();
        for client in clients_of(network) {
            let pardoned = self.pardon(client, now);
            if pardoned.is_news() {
                note_forgiven(&pardoned);
                forgiven.push(pardoned);
            }
        }
        forgiven.retain(Forgiven::is_news);
        forgiven
    }

    /// Notes an offence of the client of `attempt`, and sentences it if that is what follows.
    pub(super) fn strike(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        offence: Offence,
        now: Timestamp,
    ) {
        // Whom a network shields is known by the address alone.
        if policy.shielding(attempt).is_some() {
            self.metrics.charged(offence, Outcome::Spared);
            return;
        }
        let network = ClientNetwork::of(policy, attempt);
        self.strike_address(policy, attempt.client, network, offence, now);
    }

    /// The same for a client that need not be the one that is judged.
    pub(super) fn strike_address(
        &self,
        policy: &Policy,
        address: IpAddr,
        network: ClientNetwork,
        offence: Offence,
        now: Timestamp,
    ) {
        let key = self.seed.network_key(network);
        let accused = Accused {
            address,
            protection: self.protection(policy, address, &key, now),
            has_passed: self.reputations.has_passed(&key),
        };
        let history = self.history();
        let charged = self
            .clients
            .strike(policy, &self.seed, &accused, offence, history, now);
        self.metrics.charged(offence, charged.outcome);
        let offence = offence.as_str();
        match charged.outcome {
            Outcome::Struck => {
                let strikes = charged.strikes;
                tracing::info!(name: "struck", target: STRANGERS, client = %address, offence, strikes, "struck");
                self.reputations.note_strike(policy, key, now);
                self.keep_client(SentencedClient::host(address));
            }
            Outcome::Observed => {
                tracing::info!(name: "would-strike", target: STRANGERS, client = %address, offence, "would-strike");
            }
            Outcome::Spared => tracing::debug!(client = %address, offence, "spared"),
            Outcome::Repeated | Outcome::TooEarly => {}
            Outcome::Unrecorded => self.note_unrecorded(),
        }
        if charged.of_network.is_err() {
            self.note_unrecorded();
        }
        let of_network = charged.of_network.ok().flatten();
        let of_network = of_network.and_then(|it| self.as_neighbours_allow(policy, it, now));
        for sentence in charged.sentence.into_iter().chain(of_network) {
            self.punish(sentence);
        }
    }

    /// What the past of the client protects it from.
    pub(super) fn protection(
        &self,
        policy: &Policy,
        address: IpAddr,
        network_key: &policy::NetworkKey,
        now: Timestamp,
    ) -> Protection {
        let repute = self.reputations.standing(policy, network_key, now);
        let authenticated = self
            .clients
            .has_authenticated(policy, &self.seed, address, now);
        policy::protection(policy, address, repute, authenticated)
    }

    /// What is left of `sentence`, a network's, for those in it who were not struck: nothing if one
    /// has a good record or authenticated lately, a day at most if one has mail that passed on
    /// record.
    ///
    /// Of a `/24` each address is asked for, some 500 look-ups, when four of them have been struck. A
    /// `/64` has one AUTH and is one client network; if the rules cut it into more, nobody can ask
    /// for them all, and it is not sentenced.
    fn as_neighbours_allow(
        &self,
        policy: &Policy,
        sentence: Sentence,
        now: Timestamp,
    ) -> Option<Sentence> {
        let network = sentence.client.network();
        if matches!(network, IpNet::V6(_)) && policy.ipv6_prefix > network.prefix_len() {
            return None;
        }
        let mut has_passed = false;
        for address in std::iter::once(network.network()).chain(addresses(network)) {
            for cut in ClientNetwork::possible(policy, address) {
                let key = self.seed.network_key(cut);
                if self.protection(policy, address, &key, now) != Protection::None {
                    return None;
                }
                has_passed |= self.reputations.has_passed(&key);
            }
        }
        Some(if has_passed {
            policy::a_day_at_most(sentence)
        } else {
            sentence
        })
    }

    /// Counts a strike or an AUTH for which there was no room.
    pub(super) fn note_unrecorded(&self) {
        self.metrics.clients_unrecorded.inc();
    }

    /// Undoes what is remembered of `client` besides its sentence.
    fn pardon(&self, client: SentencedClient, now: Timestamp) -> Forgiven {
        let policy = self.policy.load();
        if let Some(outbox) = &self.outbox {
            for network in ClientNetwork::possible(&policy, client.network().addr()) {
                outbox.note_forgiven(SharedKey::Reputation(self.seed.network_key(network)));
            }
        }
        Forgiven {
            client,
            lifted: None,
            reputations: self.reputations.forgive(&policy, &self.seed, client),
            rejections: self.failures.forgive(&self.seed, client),
            strikes: self.clients.forgive(&policy, &self.seed, client, now),
        }
    }
}

fn note_forgiven(forgiven: &Forgiven) {
    let Forgiven {
        client,
        strikes,
        reputations,
        ..
    } = forgiven;
    if forgiven.is_news() {
        tracing::info!(%client, strikes, reputations, "forgiven");
    }
}

/// The clients in `network` that can be asked for one by one.
fn clients_of(network: IpNet) -> impl Iterator<Item = SentencedClient> {
    let hosts = addresses(network).map(SentencedClient::host);
    let whole = addresses(network).filter_map(move |address| {
        let [_, around] = SentencedClient::covering(address);
        let is_first = around.network().addr() == address;
        (is_first && network.contains(&around.network())).then_some(around)
    });
    hosts.chain(whole)
}

/// The addresses of an IPv4 network that is no wider than [`ASKED`]; else none.
pub(super) fn addresses(network: IpNet) -> impl Iterator<Item = IpAddr> {
    let ipv4 = match network {
        IpNet::V4(ipv4) if ipv4.prefix_len() >= ASKED => Some(ipv4),
        _ => None,
    };
    ipv4.into_iter().flat_map(|network: Ipv4Net| {
        let (first, last) = (network.network(), network.broadcast());
        (u32::from(first)..=u32::from(last)).map(|bits| Ipv4Addr::from(bits).into())
    })
}

/// Bits of the widest network whose addresses are asked for one by one.
const ASKED: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_every_address_and_network_of_sixteen_bits_and_no_more() {
        let count = |network: &str| clients_of(network.parse().expect("a network")).count();
        assert_eq!(count("192.0.2.7/32"), 1);
        assert_eq!(count("192.0.2.128/25"), 128);
        assert_eq!(count("192.0.2.0/24"), 256 + 1);
        assert_eq!(count("192.0.0.0/16"), 65_536 + 256);
        assert_eq!(count("192.0.0.0/15"), 0);
        assert_eq!(count("2001:db8::/64"), 0);
    }
}
