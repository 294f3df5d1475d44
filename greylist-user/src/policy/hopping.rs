//! Relay hopping: one HELO argument at one recipient, from many networks that have nothing to do
//! with each other, within seconds.
//!
//! Knows which attempts tell anything, whose a client is, and how many strangers make an offence;
//! leaves to `store` where sightings are kept and who was convicted already.
//!
//! A HELO argument tells something if it could be one host's name in the DNS, and if the client is
//! not that name's own: a client whose verified name lies in the HELO argument's domain may use it.
//! The others stand for their network, cut at `/24` or `/64` whatever their class, and for the
//! registered domain of their verified name. One that has no such name is *unknown*: it may belong
//! to any of the others.
//!
//! Of the attempts in the window, each network and each registered domain counts once; the latest
//! attempt stands for both. If enough have a known domain, they are convicted, every one that
//! counted: of a domain's hosts, then, one. Others may be bots as well, but seven hosts of one
//! domain look like a pool, and a pool pays with one host at most when others abuse its name. If it
//! takes the unknown to make enough, nobody is convicted and the HELO argument is remembered all
//! the same: its tuples wait longer.

use std::net::IpAddr;

use super::attempt::Attempt;
use super::network::ClientNetwork;
use super::registered::{registered_domain, without_final_dot};
use super::rules::Policy;
use super::time::{Second, Timestamp};
use super::tuple::{DomainMark, HopKey, Seed};

/// An attempt as far as relay hopping is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// HELO argument and recipient.
    key: HopKey,
    at: Timestamp,
    /// The registered domain of the client's verified name; [`None`] if that is unknown.
    domain: Option<DomainMark>,
    client: IpAddr,
    /// Bits of the client network.
    prefix: u8,
}

/// Sightings of some HELO arguments and recipients that are kept together. What is new takes the
/// place of what is stale, so that the memory is fixed and who floods it makes it short-sighted.
///
/// Each attempt of a stranger looks through all of them. So what is looked for, a part of the key
/// and the time, lies close together, beside the sightings it is of: a quarter of the memory to
/// read.
#[derive(Debug)]
pub struct Sightings {
    tags: [u32; Self::MOST],
    times: [Timestamp; Self::MOST],
    whole: [Sighting; Self::MOST],
}

/// What a sighting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Networks that count with it, its own included.
    pub networks: u8,
    /// Whether they are enough for relay hopping.
    pub is_hopping: bool,
    /// Whether enough of them are known to be strangers, who are guilty of it then.
    pub are_strangers: bool,
    /// Whether a sighting that still counted had to give way.
    pub displaced: bool,
}

/// A client that takes part in relay hopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its address.
    pub address: IpAddr,
    /// Its client network.
    pub network: ClientNetwork,
    /// When it did.
    pub at: Timestamp,
}

/// What is remembered of a HELO argument that relay hopping was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoppingHelo {
    /// When it was first caught.
    pub since: Second,
    /// When it was last caught.
    pub latest: Second,
    /// How often, with a quiet window between.
    pub times: u16,
    /// Counts the lives.
    pub life: u16,
}

impl Sighting {
    /// No sighting: older than every window.
    const NONE: Self = Self {
        key: HopKey::from_bytes([0; HopKey::LENGTH]),
        at: Timestamp::NEVER,
        domain: None,
        client: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        prefix: 0,
    };

    /// The sighting that `attempt` from `network` is; [`None`] if its HELO argument tells nothing,
    /// or is the client's own. The reverse-path has no part in it.
    pub fn of(
        seed: &Seed,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<Self> {
        let helo = without_final_dot(attempt.helo);
        let name = without_final_dot(attempt.client_name);
        if !is_qualified(helo) || is_within(name, helo) {
            return None;
        }
        let domain = registered_domain(name);
        if let Some(domain) = domain
            && let Some(owner) = registered_domain(helo)
            && domain.eq_ignore_ascii_case(owner)
        {
            return None;
        }
        Some(Self {
            key: seed.hop_key(helo, attempt.recipient),
            at: now,
            domain: domain.map(|domain| seed.domain_mark(domain)),
            client: attempt.client.to_canonical(),
            prefix: network.prefix(),
        })
    }

    /// The key of its HELO argument and recipient.
    pub fn key(&self) -> HopKey {
        self.key
    }

    /// Whether the two count once: they may be one owner's.
    fn goes_with(&self, other: &Self) -> bool {
        let of_one_domain = self.domain.is_some() && self.domain == other.domain;
        of_one_domain || neighbourhood(self.client) == neighbourhood(other.client)
    }

    /// A part of the key: sightings of one key have one, and hardly any others.
    fn tag(&self) -> u32 {
        tag(self.key)
    }

    fn suspect(&self) -> Suspect {
        Suspect {
            address: self.client,
            network: ClientNetwork::cut(self.client, self.prefix, self.prefix),
            at: self.at,
        }
    }
}

/// The time in which sightings count.
///
/// It reaches as far ahead as back: threads take the time before they come here, and a clock that
/// was set back must not make sightings last longer.
#[derive(Clone, Copy)]
struct Window {
    opens: Timestamp,
    closes: Timestamp,
}

impl Window {
    fn around(now: Timestamp, policy: &Policy) -> Self {
        let window = policy.punish.hopping_window;
        let before = now.since(Timestamp::NEVER).saturating_sub(window);
        Self {
            opens: Timestamp::NEVER.after(before),
            closes: now.after(window),
        }
    }

    fn holds(self, at: Timestamp) -> bool {
        at > self.opens && at < self.closes
    }
}

impl Sightings {
    /// Sightings kept.
    pub const MOST: usize = 64;
    /// Sightings kept of one HELO argument and recipient: as many as an offence may take.
    pub const MOST_OF_ONE: usize = 16;
    /// Nothing seen yet.
    pub const EMPTY: Self = Self {
        tags: [0; Self::MOST],
        times: [Timestamp::NEVER; Self::MOST],
        whole: [Sighting::NONE; Self::MOST],
    };

    /// Notes `sighting`, made at `now`, and says what it comes to.
    pub fn note(&mut self, policy: &Policy, sighting: Sighting, now: Timestamp) -> Finding {
        let window = Window::around(now, policy);
        let mut displaced = false;
        if let Some(place) = self.place_for(&sighting, window) {
            self.tags[place] = sighting.tag();
            self.times[place] = sighting.at;
            let prior = std::mem::replace(&mut self.whole[place], sighting);
            displaced = prior.key != sighting.key && window.holds(prior.at);
        }
        let (mut networks, mut known) = (0, 0);
        for it in self.counted(sighting.key, window) {
            networks += 1;
            known += u8::from(it.domain.is_some());
        }
        let enough = policy.punish.hopping_attempts;
        Finding {
            networks,
            is_hopping: networks >= enough,
            are_strangers: known >= enough,
            displaced,
        }
    }

    /// The clients with a known domain that count at `now` for one HELO argument and recipient.
    pub fn suspects(
        &self,
        policy: &Policy,
        key: HopKey,
        now: Timestamp,
    ) -> impl Iterator<Item = Suspect> {
        let counted = self.counted(key, Window::around(now, policy));
        counted
            .filter(|it| it.domain.is_some())
            .map(Sighting::suspect)
    }

    /// Those that count: no more than are kept of one, even if a longer window lets older ones
    /// count again.
    fn counted(&self, key: HopKey, window: Window) -> impl Iterator<Item = &Sighting> {
        self.counting(key, window)
            .map(|(_, it)| it)
            .take(Self::MOST_OF_ONE)
    }

    /// Those of one HELO argument and recipient that lie in the window, with their places.
    fn counting(&self, key: HopKey, window: Window) -> impl Iterator<Item = (usize, &Sighting)> {
        let wanted = tag(key);
        // Most look for what is not there, and that is told at once.
        let is_here = self.tags.contains(&wanted);
        let tags = self.tags.iter().take(if is_here { Self::MOST } else { 0 });
        let tags = tags.enumerate();
        tags.filter(move |(_, tag)| **tag == wanted)
            .map(|(place, _)| (place, &self.whole[place]))
            .filter(move |(_, it)| it.key == key && window.holds(it.at))
    }

    /// Where `sighting` belongs; [`None`] if it adds nothing to those that it is counted with.
    ///
    /// No two that are counted go with each other, so that their number is that of the strangers.
    fn place_for(&self, sighting: &Sighting, window: Window) -> Option<usize> {
        let mut of_one = 0;
        let mut akin = None;
        // The place, and what it is worth: the least goes first.
        let mut least_of_one = (0, (true, LAST));
        for (place, it) in self.counting(sighting.key, window) {
            of_one += 1;
            let worth = (it.domain.is_some(), it.at);
            if worth < least_of_one.1 {
                least_of_one = (place, worth);
            }
            if it.goes_with(sighting) && akin.replace(place).is_some() {
                // One's network and another's domain: both stand already.
                return None;
            }
        }
        let place = match akin {
            Some(akin) => akin,
            None if of_one >= Self::MOST_OF_ONE => least_of_one.0,
            None => return Some(self.stalest(window)),
        };
        // What is known does not give way to what is not.
        let loses = self.whole[place].domain.is_some() && sighting.domain.is_none();
        (!loses).then_some(place)
    }

    /// The place of one that counts no more; where all do, of the oldest.
    fn stalest(&self, window: Window) -> usize {
        let mut stalest = (0, LAST);
        for (place, &at) in self.times.iter().enumerate() {
            if !window.holds(at) {
                return place;
            }
            if at < stalest.1 {
                stalest = (place, at);
            }
        }
        stalest.0
    }
}

impl HoppingHelo {
    /// What is remembered once the HELO argument is caught at `now`, `prior` having been before.
    #[must_use]
    pub fn caught(prior: Option<&Self>, policy: &Policy, now: Timestamp) -> Self {
        let begun = |life| Self {
            since: now.into(),
            latest: now.into(),
            times: 1,
            life,
        };
        let Some(prior) = prior else {
            return begun(1);
        };
        if prior.has_lapsed(policy, now) {
            return begun(prior.life.saturating_add(1));
        }
        let is_new = now.since(prior.latest.into()) >= policy.punish.hopping_window;
        Self {
            latest: prior.latest.max(now.into()),
            times: prior.times.saturating_add(is_new.into()),
            ..*prior
        }
    }

    /// Whether it is forgotten at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        !self.latest.is_within(policy.punish.hopping_memory, now)
    }

    /// One record out of two of the same HELO argument: the higher life wins; within one life first
    /// is the smaller, everything else the larger.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        Self {
            since: self.since.min(other.since),
            latest: self.latest.max(other.latest),
            times: self.times.max(other.times),
            life: self.life,
        }
    }
}

/// Whether `helo` could be one host's name in the DNS, and nobody else's: not a single label, not
/// an address, bracketed or bare, and not a name that every site may give.
pub(super) fn is_qualified(helo: &[u8]) -> bool {
    let mut labels = helo.rsplit(|&byte| byte == b'.');
    let last = labels.next().unwrap_or_default();
    let is_local = LOCAL.iter().any(|name| is_within(helo, name));
    helo.len() <= LONGEST_NAME
        && helo.contains(&b'.')
        && !helo.starts_with(b"[")
        && !helo.contains(&b':')
        && !last.is_empty()
        && !last.iter().all(u8::is_ascii_digit)
        && labels.all(|label| !label.is_empty())
        && !is_local
}

/// Whether `name` is `domain` or lies below it.
fn is_within(name: &[u8], domain: &[u8]) -> bool {
    let Some(start) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    name[start..].eq_ignore_ascii_case(domain) && (start == 0 || name[start - 1] == b'.')
}

/// The part of `key` that its sightings are looked for by.
fn tag(key: HopKey) -> u32 {
    let [a, b, c, d, ..] = key.to_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The network that counts once, whatever the client's class.
fn neighbourhood(client: IpAddr) -> ClientNetwork {
    ClientNetwork::cut(client, 24, 64)
}

/// Below these, names are unique within a site at most (RFC 6761, 6762 and 8375, ICANN's
/// `internal`), or are what installers put there.
const LOCAL: [&[u8]; 11] = [
    b"corp",
    b"home",
    b"home.arpa",
    b"internal",
    b"intranet",
    b"invalid",
    b"lan",
    b"local",
    b"localdomain",
    b"localhost",
    b"private",
];

/// Later than every sighting.
const LAST: Timestamp = Timestamp::from_millis(u64::MAX);

/// Bytes of the longest name as it is written (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 253;

const _: () = assert!(size_of::<Sighting>() == 48);

#[cfg(test)]
mod tests;
