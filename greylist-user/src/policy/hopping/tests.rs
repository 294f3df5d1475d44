//! Who is guilty of relay hopping, and who only stands near.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::fixture::ATTEMPT;

const T0: Timestamp = Timestamp::from_millis(1_000_000_000);
const HELO: &str = "mx.bank.example";

/// The sightings of a shelf, and the time that goes by.
struct Watch {
    policy: Policy,
    sightings: Sightings,
    now: Timestamp,
}

impl Watch {
    fn new() -> Self {
        Self {
            policy: Policy::default(),
            sightings: Sightings::EMPTY,
            now: T0,
        }
    }

    /// An attempt a second after the one before. [`None`] if it tells nothing.
    fn sees(&mut self, client: &str, name: &str, helo: &str) -> Option<Finding> {
        self.now = self.now.after(Duration::from_secs(1));
        let sighting = sighting(client, name, helo, "r@here.example", self.now)?;
        Some(self.sightings.note(&self.policy, sighting, self.now))
    }

    /// Who is guilty, if `finding` says that somebody is.
    fn suspects(&self, finding: Finding) -> Vec<Suspect> {
        let key = seed().hop_key(HELO.as_bytes(), b"r@here.example");
        let suspects = self.sightings.suspects(&self.policy, key, self.now);
        suspects.filter(|_| finding.are_strangers).collect()
    }

    /// The client addresses that an attempt with [`HELO`] shows to be guilty.
    fn guilty(&mut self, client: &str, name: &str) -> Vec<String> {
        let finding = self.sees(client, name, HELO).expect("it tells something");
        let suspects = self.suspects(finding).into_iter();
        let mut suspects: Vec<_> = suspects.map(|it| it.address.to_string()).collect();
        suspects.sort_unstable();
        suspects
    }
}

fn seed() -> Seed {
    let mut bytes = [1_u8; Seed::LENGTH];
    for at in 1..bytes.len() {
        bytes[at] = bytes[at - 1].wrapping_mul(37).wrapping_add(11);
    }
    Seed::from_bytes(bytes)
}

fn sighting(
    client: &str,
    name: &str,
    helo: &str,
    recipient: &str,
    now: Timestamp,
) -> Option<Sighting> {
    let client = client.parse().expect("an address");
    let attempt = Attempt {
        client,
        client_name: name.as_bytes(),
        helo: helo.as_bytes(),
        reverse_path: b"s@bank.example",
        recipient: recipient.as_bytes(),
        connected: now,
        ..ATTEMPT
    };
    Sighting::of(&seed(), ClientNetwork::cut(client, 32, 64), &attempt, now)
}

/// The `number`th bot: a network and a domain of its own.
fn bot(number: u8) -> (String, String) {
    (
        format!("10.0.{number}.7"),
        format!("dsl-7.isp{number}.example"),
    )
}

#[test]
fn strangers_are_guilty_from_the_fifth_on() {
    let mut watch = Watch::new();
    for number in 1..=4 {
        let (client, name) = bot(number);
        assert!(watch.guilty(&client, &name).is_empty());
    }
    for number in 5..=7 {
        let (client, name) = bot(number);
        let guilty = watch.guilty(&client, &name);
        assert_eq!(guilty.len(), usize::from(number));
        assert!(guilty.contains(&client));
    }
}

#[test]
fn hosts_of_one_domain_count_once() {
    let mut watch = Watch::new();
    for number in 1..=15 {
        let client = format!("10.0.{number}.7");
        let name = format!("out{number}.Big-Sender.example");
        let finding = watch.sees(&client, &name, HELO).expect("it tells");
        assert_eq!((finding.networks, finding.is_hopping), (1, false));
    }
}

#[test]
fn hosts_of_one_network_count_once() {
    for (first, second) in [
        ("192.0.2.7", "192.0.2.200"),
        ("192.0.2.7", "::ffff:192.0.2.8"),
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4"),
        ("192.0.2.7", "192.0.2.7"),
    ] {
        for names in [
            ["a.one.example", "b.two.example"],
            ["a.one.example", ""],
            ["", "b.two.example"],
            ["", ""],
        ] {
            let mut watch = Watch::new();
            watch.sees(first, names[0], HELO);
            let finding = watch.sees(second, names[1], HELO).expect("it tells");
            assert_eq!(finding.networks, 1, "{first} and {second}, {names:?}");
        }
    }
}

#[test]
fn networks_apart_are_two() {
    for (first, second) in [
        ("192.0.2.7", "192.0.3.7"),
        ("2001:db8:1:2::3", "2001:db8:1:3::3"),
    ] {
        let mut watch = Watch::new();
        watch.sees(first, "", HELO);
        let finding = watch.sees(second, "", HELO).expect("it tells");
        assert_eq!(finding.networks, 2);
    }
}

#[test]
fn unknown_make_it_hopping_and_nobody_guilty() {
    let mut watch = Watch::new();
    for number in 1..=4 {
        let (client, name) = bot(number);
        watch.guilty(&client, &name);
    }
    let finding = watch.sees("10.1.0.7", "", HELO).expect("it tells");
    assert!(finding.is_hopping);
    assert!(!finding.are_strangers, "four are known");
    let (client, name) = bot(5);
    let guilty = watch.guilty(&client, &name);
    assert_eq!(guilty.len(), 5);
    assert!(!guilty.contains(&"10.1.0.7".to_owned()), "the unknown");
}

#[test]
fn of_hosts_of_one_domain_the_latest_is_guilty() {
    let mut watch = Watch::new();
    for host in 1..=3 {
        watch.guilty(&format!("10.9.{host}.7"), &format!("h{host}.isp.example"));
    }
    let mut guilty = Vec::new();
    for number in 1..=7 {
        let (client, name) = bot(number);
        guilty = watch.guilty(&client, &name);
    }
    assert_eq!(guilty.len(), 8);
    assert!(guilty.contains(&"10.9.3.7".to_owned()));
    assert!(!guilty.contains(&"10.9.1.7".to_owned()));
}

#[test]
fn one_that_goes_with_two_adds_nothing() {
    let mut watch = Watch::new();
    watch.sees("10.0.1.7", "a.one.example", HELO);
    watch.sees("10.0.2.7", "b.two.example", HELO);
    let finding = watch.sees("10.0.1.8", "c.two.example", HELO);
    assert_eq!(finding.expect("it tells").networks, 2);
}

#[test]
fn window_closes_behind_an_attempt() {
    for (seconds, guilty) in [(29, 5), (30, 0), (31, 0)] {
        let mut watch = Watch::new();
        for number in 1..=4 {
            let (client, name) = bot(number);
            watch.guilty(&client, &name);
            watch.now = T0;
        }
        watch.now = T0.after(Duration::from_secs(seconds));
        let (client, name) = bot(5);
        assert_eq!(
            watch.guilty(&client, &name).len(),
            guilty,
            "after {seconds} s"
        );
    }
}

#[test]
fn other_helo_argument_or_recipient_is_another_matter() {
    let mut watch = Watch::new();
    for number in 1..=7 {
        let (client, name) = bot(number);
        let helo = format!("mx{number}.bank.example");
        let finding = watch.sees(&client, &name, &helo).expect("it tells");
        assert!(!finding.is_hopping, "another HELO argument");
        let recipient = format!("r{number}@here.example");
        let sighting = sighting(&client, &name, HELO, &recipient, watch.now);
        let sighting = sighting.expect("it tells");
        let finding = watch.sightings.note(&watch.policy, sighting, watch.now);
        assert!(!finding.is_hopping, "another recipient");
    }
}

#[test]
fn client_may_use_the_names_of_its_own_domain() {
    for (name, helo) in [
        ("mx.bank.example", HELO),
        ("mx.bank.example", "MX.Bank.Example."),
        ("out7.mail.bank.example", HELO),
        ("bank.example", HELO),
        ("a.mx.bank.co.uk", "bank.co.uk"),
        ("host.co.uk", "co.uk"),
        ("ec2-1.compute-1.amazonaws.com", "x.eu.amazonaws.com"),
    ] {
        let seen = sighting("192.0.2.7", name, helo, "r@here.example", T0);
        assert_eq!(seen, None, "{name} as {helo}");
    }
    for (name, helo) in [
        ("mx.notbank.example", "bank.example"),
        ("bank.example.evil.example", HELO),
        ("mx.bank.co.uk", "mx.other.co.uk"),
        ("", HELO),
        ("localhost", HELO),
    ] {
        let seen = sighting("192.0.2.7", name, helo, "r@here.example", T0);
        assert!(seen.is_some(), "{name} as {helo}");
    }
}

#[test]
fn helo_argument_that_is_no_hosts_name_tells_nothing() {
    let long = format!("{}.example", "a.".repeat(125));
    for helo in [
        "",
        "pc",
        "pc.",
        "[192.0.2.7]",
        "[IPv6:2001:db8::1]",
        "192.0.2.7",
        "2001:db8::7",
        "::ffff:192.0.2.7",
        "localhost",
        "localhost.localdomain",
        "LocalHost.LocalDomain.",
        "exchange.firm.local",
        "nas.fritz.home.arpa",
        "server.lan",
        ".example",
        "mx..example",
        &long,
    ] {
        let seen = sighting("192.0.2.7", "a.b.example", helo, "r@here.example", T0);
        assert_eq!(seen, None, "{helo}");
    }
    for helo in [
        "mx.bank.example",
        "mx.bank.example.",
        "a-home.arpa",
        "1.2.x",
    ] {
        let seen = sighting("192.0.2.7", "a.b.example", helo, "r@here.example", T0);
        assert!(seen.is_some(), "{helo}");
    }
}

#[test]
fn crowd_on_one_pair_leaves_the_others_their_room() {
    let mut watch = Watch::new();
    for number in 1..=4 {
        let (client, name) = bot(number);
        watch.guilty(&client, &name);
    }
    for crowd in 0..10_000_u32 {
        let client = IpAddr::from((0x0b00_0000 + (crowd << 8)).to_be_bytes()).to_string();
        let other = sighting(&client, "", HELO, "other@here.example", watch.now);
        let other = other.expect("it tells");
        let finding = watch.sightings.note(&watch.policy, other, watch.now);
        assert!(usize::from(finding.networks) <= Sightings::MOST_OF_ONE);
        assert!(!finding.displaced);
    }
    let (client, name) = bot(5);
    assert_eq!(watch.guilty(&client, &name).len(), 5);
}

#[test]
fn known_take_the_place_of_the_unknown_and_not_the_other_way() {
    let mut watch = Watch::new();
    watch.policy.punish.hopping_attempts = 16;
    for number in 1..=20 {
        watch.sees(&format!("10.1.{number}.7"), "", HELO);
    }
    for number in 1..=15 {
        let (client, name) = bot(number);
        assert!(watch.guilty(&client, &name).is_empty());
        watch.now = T0.after(Duration::from_secs(20));
    }
    watch.sees("10.2.0.7", "", HELO);
    let (client, name) = bot(16);
    assert_eq!(watch.guilty(&client, &name).len(), 16);
}

#[test]
fn stalest_gives_way_and_that_is_told_if_it_counted() {
    let mut watch = Watch::new();
    let mut displaced = Vec::new();
    for number in 0..70_u64 {
        let recipient = format!("r{number}@here.example");
        let seen = sighting("192.0.2.7", "", HELO, &recipient, watch.now);
        let finding = watch
            .sightings
            .note(&watch.policy, seen.expect("it tells"), watch.now);
        displaced.push(finding.displaced);
    }
    assert_eq!(displaced.iter().filter(|it| **it).count(), 6);
    watch.now = T0.after(Duration::from_mins(1));
    let (client, name) = bot(1);
    let finding = watch.sees(&client, &name, HELO).expect("it tells");
    assert!(!finding.displaced, "what was stale counted no more");
}

#[test]
fn clock_set_back_blinds_nobody() {
    let mut watch = Watch::new();
    for number in 0..64 {
        let recipient = format!("r{number}@here.example");
        let seen = sighting("192.0.2.7", "", HELO, &recipient, watch.now);
        watch
            .sightings
            .note(&watch.policy, seen.expect("it tells"), watch.now);
    }
    watch.now = Timestamp::from_millis(T0.as_millis() / 2);
    let mut guilty = Vec::new();
    for number in 1..=5 {
        let (client, name) = bot(number);
        guilty = watch.guilty(&client, &name);
    }
    assert_eq!(guilty.len(), 5);
}

#[test]
fn guilty_client_is_named_with_its_own_network() {
    let mut watch = Watch::new();
    let mut last = None;
    for number in 1..=5 {
        let (client, name) = bot(number);
        last = watch.sees(&client, &name, HELO);
    }
    let guilty = watch.suspects(last.expect("it tells"));
    assert_eq!(guilty.len(), 5);
    for suspect in guilty {
        assert_eq!(
            suspect.network,
            ClientNetwork::cut(suspect.address, 32, 64),
            "as it was at the attempt"
        );
    }
}

proptest! {
    /// Whatever comes in whatever order, those who are guilty are strangers to each other, enough
    /// of them, and were there in the window.
    #[test]
    fn guilty_are_enough_strangers_of_the_window(
        attempts in proptest::collection::vec((0..12_u8, 0..12_u8, 0..4_u8, 0..9_u64, 20..60_u64), 1..200),
        enough in 3..=16_u8,
    ) {
        let mut policy = Policy::default();
        policy.punish.hopping_attempts = enough;
        let mut sightings = Sightings::EMPTY;
        let mut now = T0;
        for (network, domain, pair, seconds, window) in attempts {
            policy.punish.hopping_window = Duration::from_secs(window);
            now = now.after(Duration::from_secs(seconds));
            let name = match domain {
                0..3 => String::new(),
                _ => format!("host.isp{domain}.example"),
            };
            let client = format!("10.0.{network}.{domain}");
            let recipient = format!("r{pair}@here.example");
            let seen = sighting(&client, &name, HELO, &recipient, now).expect("it tells");
            let finding = sightings.note(&policy, seen, now);
            let guilty: Vec<_> = sightings.suspects(&policy, seen.key(), now).collect();
            prop_assert_eq!(finding.are_strangers, guilty.len() >= enough.into());
            prop_assert!(guilty.len() <= finding.networks.into());
            prop_assert!(finding.is_hopping || !finding.are_strangers);
            for suspect in guilty {
                prop_assert!(now.since(suspect.at) < policy.punish.hopping_window);
            }
        }
    }

    /// With a window that stays the same, no two that count go with each other.
    #[test]
    fn no_two_that_count_are_one_owners(
        attempts in proptest::collection::vec((0..20_u8, 0..20_u8, 0..4_u64), 1..200),
    ) {
        let policy = Policy::default();
        let mut sightings = Sightings::EMPTY;
        let mut now = T0;
        for (network, domain, seconds) in attempts {
            now = now.after(Duration::from_secs(seconds));
            let name = format!("host.isp{domain}.example");
            let client = format!("10.0.{network}.7");
            let seen = sighting(&client, &name, HELO, "r@here.example", now).expect("it tells");
            sightings.note(&policy, seen, now);
            let window = Window::around(now, &policy);
            let counted = sightings.whole.iter();
            let counted: Vec<_> = counted.filter(|it| window.holds(it.at)).collect();
            for (place, one) in counted.iter().enumerate() {
                for other in &counted[place + 1..] {
                    prop_assert!(!one.goes_with(other), "{one:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in remembered(), b in remembered(), c in remembered(),
    ) {
        prop_assert_eq!(a.merge(b), b.merge(a));
        prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        prop_assert_eq!(a.merge(a), a);
    }
}

fn remembered() -> impl Strategy<Value = HoppingHelo> {
    (0..4_u64, 0..4_u64, 0..4_u16, 0..3_u16).prop_map(|(since, latest, times, life)| HoppingHelo {
        since: Timestamp::from_millis(since * 1_000).into(),
        latest: Timestamp::from_millis(latest * 1_000).into(),
        times,
        life,
    })
}

#[test]
fn helo_argument_is_forgotten_a_day_after_it_was_last_caught() {
    let policy = Policy::default();
    let hours = |hours| T0.after(Duration::from_hours(hours));
    let first = HoppingHelo::caught(None, &policy, T0);
    let second = HoppingHelo::caught(Some(&first), &policy, hours(20));
    assert_eq!((second.times, second.life), (2, 1));
    assert_eq!(second.since, first.since);
    assert!(!second.has_lapsed(&policy, hours(43)));
    assert!(second.has_lapsed(&policy, hours(44)));
    let third = HoppingHelo::caught(Some(&second), &policy, hours(44));
    assert_eq!((third.times, third.life), (1, 2));
    assert_eq!(third.since, hours(44).into());
}

#[test]
fn helo_argument_of_a_clock_that_was_set_back_is_forgotten() {
    let policy = Policy::default();
    let caught = HoppingHelo::caught(None, &policy, T0.after(Duration::from_hours(24)));
    assert!(!caught.has_lapsed(&policy, T0.after(Duration::from_hours(1))));
    assert!(caught.has_lapsed(&policy, T0));
}

#[test]
fn attempts_of_one_burst_are_caught_once() {
    let policy = Policy::default();
    let mut helo = HoppingHelo::caught(None, &policy, T0);
    for seconds in 1..100 {
        let now = T0.after(Duration::from_secs(seconds));
        helo = HoppingHelo::caught(Some(&helo), &policy, now);
    }
    assert_eq!(helo.times, 1);
    assert_eq!(helo.latest, T0.after(Duration::from_secs(99)).into());
}
