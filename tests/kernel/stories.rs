//! What has a past: rates, repetitions, generations. Each story is played twice, by the library on
//! the host and by the object in the kernel, and must end the same.

use std::net::IpAddr;

use greygate::clock;
use greylist_ebpf::abi::{Admitted, ClientEntry, Config, Counter, KernelTime, Level};
use support::{needs, requirements};

use crate::{
    cases::{CONFIG, HOUR, fresh, host, network_v6, used_up},
    frames::{DESTINATION, TCP, ipv4, syn, tagged, v4, v6, v6_chain},
    judge::{Host, Judge, Program},
};

/// A client that is let through the first time.
const CLIENT: [u8; 4] = [192, 0, 2, 7];
/// The same for IPv6.
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// Plays `$story` on the host and in the kernel.
macro_rules! on_both {
    ($story:expr) => {{
        let ((), object) = needs!(requirements::root(), requirements::xdp_object());
        let story: fn(&mut dyn Judge) = $story;
        let mut host = Host::default();
        host.configure(CONFIG);
        story(&mut host);
        let mut program = Program::load(&object);
        program.configure(CONFIG);
        story(&mut program);
    }};
}

#[test]
fn rate_lets_a_burst_through_and_drops_the_rest() {
    on_both!(|judge| {
        judge.put(host(CLIENT), fresh(Level::Rate));
        for sequence in 1..=3 {
            assert_eq!(knock(judge, sequence), Counter::Admitted);
        }
        for sequence in 4..=6 {
            assert_eq!(knock(judge, sequence), Counter::RateLimited);
        }
        let entry = judge.entry(host(CLIENT));
        assert_eq!(entry.drops, 3);
        let ahead = entry.arrival.as_nanos() - clock::kernel_now().as_nanos();
        assert!(
            (2 * HOUR..=3 * HOUR).contains(&ahead),
            "the drops were not charged: {ahead}"
        );
    });
}

#[test]
fn rate_lets_one_through_when_it_is_due() {
    on_both!(|judge| {
        let mut entry = fresh(Level::Rate);
        entry.arrival = from_now(2 * HOUR - MINUTE);
        judge.put(host(CLIENT), entry);
        assert_eq!(knock(judge, 1), Counter::Admitted);
        assert_eq!(knock(judge, 2), Counter::RateLimited);
    });
}

#[test]
fn repeated_syn_is_not_charged_six_times() {
    on_both!(|judge| {
        judge.put(host(CLIENT), fresh(Level::Rate));
        assert_eq!(knock(judge, 1), Counter::Admitted);
        let charged = judge.entry(host(CLIENT)).arrival;
        for _ in 0..Admitted::REPEATS {
            assert_eq!(knock(judge, 1), Counter::Repeated);
        }
        assert_eq!(judge.entry(host(CLIENT)).arrival, charged);
        assert_eq!(knock(judge, 1), Counter::Admitted, "charged again");
        assert_ne!(judge.entry(host(CLIENT)).arrival, charged);
        assert_eq!(knock(judge, 2), Counter::Admitted);
        assert_eq!(knock(judge, 1), Counter::RateLimited, "no longer the last");
        assert_eq!(judge.entry(host(CLIENT)).drops, 1);
    });
}

/// Where connections take turns, each SYN looks like a new one: what is counted is no less than the
/// connections, and may be more.
#[test]
fn repeated_syn_of_a_dropped_connection_is_counted_apart() {
    on_both!(|judge| {
        judge.put(host(CLIENT), used_up(Level::Block));
        assert_eq!(knock(judge, 1), Counter::Blocked);
        for _ in 0..4 {
            assert_eq!(knock(judge, 1), Counter::DroppedAgain);
        }
        for sequence in [2, 1, 2, 1] {
            assert_eq!(knock(judge, sequence), Counter::Blocked);
        }
        let entry = judge.entry(host(CLIENT));
        assert_eq!(entry.drops, 9, "each SYN");
        let longer = ClientEntry::new(Level::Block, KernelTime::from_nanos(u64::MAX));
        judge.put(host(CLIENT), longer.carrying_over(&entry));
        assert_eq!(knock(judge, 1), Counter::DroppedAgain);
    });
}

/// The same SYN read in place, behind tags, and as a copy behind options has one and the same mark.
#[test]
fn repeated_syn_is_known_in_every_form() {
    on_both!(|judge| {
        judge.put(host(CLIENT), fresh(Level::Rate));
        let plain = v4(CLIENT, TCP, &syn(1));
        assert_eq!(judge.judge(&plain).counter, Counter::Admitted);
        for frame in [
            tagged(&plain, &[0x8100]),
            tagged(&plain, &[0x88a8, 0x8100, 0x8100, 0x8100]),
            ipv4(CLIENT, TCP, 0, &[1; 8], &syn(1)),
        ] {
            assert_eq!(judge.judge(&frame).counter, Counter::Repeated);
        }

        judge.put(host(CLIENT_V6), fresh(Level::Rate));
        let chained = v6_chain(CLIENT_V6, 2);
        assert_eq!(judge.judge(&chained).counter, Counter::Admitted);
        let plain = v6(CLIENT_V6, TCP, &syn(1));
        for frame in [tagged(&plain, &[0x8100]), plain] {
            assert_eq!(judge.judge(&frame).counter, Counter::Repeated);
        }
    });
}

#[test]
fn first_connection_of_a_blocked_client_passes_when_it_is_due() {
    on_both!(|judge| {
        let mut entry = fresh(Level::Block);
        entry.arrival = from_now(HOUR);
        judge.put(host(CLIENT), entry);
        assert_eq!(knock(judge, 1), Counter::Blocked);
        assert_eq!(knock(judge, 2), Counter::Blocked);

        entry.arrival = clock_start();
        judge.put(host(CLIENT), entry);
        assert_eq!(knock(judge, 3), Counter::LetThrough);
        assert_eq!(knock(judge, 3), Counter::Repeated);
        assert_eq!(knock(judge, 4), Counter::Blocked);
        assert_eq!(judge.entry(host(CLIENT)).drops, 1);
    });
}

#[test]
fn debt_of_a_harder_limit_shrinks_to_what_this_one_can_owe() {
    on_both!(|judge| {
        judge.put(host(CLIENT), used_up(Level::Rate));
        assert_eq!(knock(judge, 1), Counter::RateLimited);
        let arrival = judge.entry(host(CLIENT)).arrival;
        assert!(arrival <= from_now(3 * HOUR), "{arrival:?}");
        assert_eq!(knock(judge, 2), Counter::RateLimited);
        assert_eq!(judge.entry(host(CLIENT)).arrival, arrival);
    });
}

#[test]
fn under_observation_all_is_computed_and_nothing_dropped() {
    on_both!(|judge| {
        judge.configure(flagged(Config::OBSERVE));
        judge.put(host(CLIENT), fresh(Level::Rate));
        for sequence in 1..=3 {
            assert_eq!(knock(judge, sequence), Counter::Admitted);
        }
        assert_eq!(knock(judge, 4), Counter::Observed);
        assert_eq!(judge.entry(host(CLIENT)).drops, 1);
        judge.put(network_v6(CLIENT_V6), used_up(Level::Block));
        let frame = v6(CLIENT_V6, TCP, &syn(1));
        assert_eq!(judge.judge(&frame).counter, Counter::Observed);

        judge.configure(CONFIG);
        assert_eq!(knock(judge, 5), Counter::RateLimited);
        let another = v6(CLIENT_V6, TCP, &syn(2));
        assert_eq!(judge.judge(&another).counter, Counter::Blocked);
    });
}

#[test]
fn only_listed_destinations_are_judged_where_some_are() {
    on_both!(|judge| {
        judge.put(host(CLIENT), used_up(Level::Block));
        assert_eq!(knock(judge, 1), Counter::Blocked);
        judge.configure(flagged(Config::ONLY_DESTINATIONS));
        assert_eq!(knock(judge, 2), Counter::OtherDestination);
        judge.destination(IpAddr::from([198, 51, 100, 2]));
        assert_eq!(knock(judge, 3), Counter::OtherDestination);
        judge.destination(IpAddr::from(DESTINATION));
        assert_eq!(knock(judge, 4), Counter::Blocked);
    });
}

#[test]
fn raised_generation_makes_every_older_entry_ask_the_trie() {
    on_both!(|judge| {
        judge.put(host(CLIENT), used_up(Level::Block));
        judge.allow("192.0.2.0/28".parse().expect("a network"));
        assert_eq!(knock(judge, 1), Counter::Blocked, "it vouched for itself");
        let mut next = CONFIG;
        next.generation += 1;
        judge.configure(next);
        assert_eq!(knock(judge, 2), Counter::Allowed);
        assert_eq!(judge.entry(host(CLIENT)).drops, 1);
    });
}

/// A daemon that died before it wrote the settings throttles nobody.
#[test]
fn without_settings_everybody_passes() {
    on_both!(|judge| {
        judge.configure(Config::default());
        judge.put(host(CLIENT), fresh(Level::Rate));
        judge.put(network_v6(CLIENT_V6), fresh(Level::Block));
        for sequence in 1..=100 {
            assert_eq!(knock(judge, sequence), Counter::Admitted);
            let frame = v6(CLIENT_V6, TCP, &syn(sequence));
            assert_eq!(judge.judge(&frame).counter, Counter::LetThrough);
        }
    });
}

#[test]
fn entry_replaced_by_a_longer_one_goes_on_where_it_was() {
    on_both!(|judge| {
        judge.put(host(CLIENT), fresh(Level::Rate));
        for sequence in 1..=4 {
            knock(judge, sequence);
        }
        let prior = judge.entry(host(CLIENT));
        let longer = ClientEntry::new(Level::Rate, KernelTime::from_nanos(u64::MAX));
        judge.put(host(CLIENT), longer.carrying_over(&prior));
        assert_eq!(knock(judge, 3), Counter::Repeated);
        assert_eq!(knock(judge, 5), Counter::RateLimited);
        assert_eq!(judge.entry(host(CLIENT)).drops, 2);
    });
}

/// What becomes of a connection of [`CLIENT`] that no other one resembles.
fn knock(judge: &mut dyn Judge, sequence: u32) -> Counter {
    judge.judge(&v4(CLIENT, TCP, &syn(sequence))).counter
}

fn flagged(flags: u8) -> Config {
    let mut config = CONFIG;
    config.flags = flags;
    config
}

fn from_now(nanos: u64) -> KernelTime {
    KernelTime::from_nanos(clock::kernel_now().as_nanos() + nanos)
}

fn clock_start() -> KernelTime {
    KernelTime::from_nanos(0)
}

const MINUTE: u64 = HOUR / 60;
