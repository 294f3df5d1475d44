//! Floods against a store that is too small for them, on a turned clock: who queues passes at the first
//! retry after the delay, nobody passes who did not wait, and what is remembered of others stays.

use std::net::{IpAddr, Ipv4Addr};

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, PassReason, Policy, SentenceLevel, Verdict};
use greygate::store::{Shed, Store, Sweeper};

use crate::fixture::{ATTEMPT, Fixture, pass_once};

/// New tuples a second.
const RATE: u32 = 1_000;
/// A hundred seconds of the flood, if nothing else were held.
const CAPACITY: usize = 100_000;
const HONEST: u32 = 20;
/// When a usual queue tries again, in minutes since its first try.
const SCHEDULE: [u32; 4] = [5, 15, 35, 75];

#[test]
fn flood_from_ten_thousand_networks_lets_honest_senders_through_at_their_first_retry() {
    let flood = Flood {
        networks: 10_000,
        again_after: None,
    };
    let told = flood.rages();
    assert_ne!(told.shed(Shed::Share), 0);
}

#[test]
fn flood_from_one_network_leaves_room_to_record_all_others() {
    let flood = Flood {
        networks: 1,
        again_after: None,
    };
    let told = flood.rages();
    assert_ne!(told.shed(Shed::Share), 0);
    assert_eq!(told.shed(Shed::Full), 0);
    assert_eq!(told.by_trace, 0, "every honest sender had a record");
}

#[test]
fn flood_that_comes_again_early_gains_nothing() {
    let flood = Flood {
        networks: 10_000,
        again_after: Some(60),
    };
    flood.rages();
}

#[test]
fn flood_from_as_many_networks_as_tuples_lets_honest_senders_through_by_their_traces() {
    let flood = Flood {
        networks: u32::MAX,
        again_after: None,
    };
    let told = flood.rages();
    assert_ne!(
        told.shed(Shed::Full),
        0,
        "there was no room even for one each"
    );
    assert_ne!(told.by_trace, 0);
}

/// One a second, for longer: what comes again within four hours is known for it all the same.
#[test]
fn record_is_kept_for_four_hours_of_flood_and_makes_way_when_they_are_over() {
    let mut fixture = Fixture::with_known_seed(untrusting());
    fixture.settings.capacity = 1_000;
    let store = fixture.open();
    let mut sweeper = Sweeper::new(&store, fixture.clock.now());
    assert!(is_new(fixture.judge(&store, &ATTEMPT)));
    let flood = Flood {
        networks: 10_000,
        again_after: None,
    };
    let mut number = 0;
    let mut rage = |fixture: &Fixture, seconds: u32| {
        for _ in 0..seconds / 10 {
            for _ in 0..10 {
                assert!(is_deferred(flood.tries(fixture, &store, number)));
                number += 1;
            }
            fixture.wait_seconds(10);
            sweeper.round(&store, fixture.clock.now());
            assert!(store.census().tuples <= 1_000);
        }
    };
    rage(&fixture, 4 * 3_600 - 60);
    assert_eq!(fixture.metrics.count_of_shed(Shed::Age), 0);
    let record = store.find(&fixture);
    assert!(record, "its window is open, and it is kept");
    rage(&fixture, 300);
    assert_ne!(fixture.metrics.count_of_shed(Shed::Age), 0);
    assert!(!store.find(&fixture), "it never came again");
}

struct Flood {
    /// It comes from so many.
    networks: u32,
    /// Each tuple is tried once more after so many seconds.
    again_after: Option<u32>,
}

/// What the metrics say after a flood.
struct Told {
    fixture: Fixture,
    by_trace: u64,
}

impl Told {
    fn shed(&self, cause: Shed) -> u64 {
        self.fixture.metrics.count_of_shed(cause)
    }
}

impl Flood {
    /// Tuple `number`, in the name of somebody who never wrote it.
    fn tries(&self, fixture: &Fixture, store: &Store, number: u32) -> Verdict {
        let network = number % self.networks;
        let reverse_path = format!("f{number}@forged.example");
        let recipient = format!("r{}@here.example", number % 900);
        let attempt = Attempt {
            client: Ipv4Addr::from(0x0b00_0007 + (network << 8)).into(),
            client_name: b"",
            helo: b"",
            reverse_path: reverse_path.as_bytes(),
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(store, &attempt)
    }

    /// For minutes of the turned clock, long after the store is full; with `FLOOD_MINUTES=300` for hours.
    fn rages(&self) -> Told {
        let minutes = std::env::var("FLOOD_MINUTES").map_or(8, |it| it.parse().expect("a number"));
        let mut fixture = Fixture::with_known_seed(Policy::default());
        fixture.settings.capacity = CAPACITY;
        let store = fixture.open();
        let known = known_before(&fixture, &store);
        let mut sweeper = Sweeper::new(&store, fixture.clock.now());
        let mut queue = Vec::new();
        let mut delivered = 0;
        for second in 0..minutes * 60 {
            for number in RATE * second..RATE * (second + 1) {
                let verdict = self.tries(&fixture, &store, number);
                assert!(is_deferred(verdict), "of the flood {verdict:?}");
                if let Some(number) = self.again(number) {
                    let verdict = self.tries(&fixture, &store, number);
                    assert!(is_deferred(verdict), "of the flood, again {verdict:?}");
                }
            }
            if second % 60 == 30 {
                queue.extend((0..HONEST).map(|it| Mail::new(second / 60 * HONEST + it, second)));
            }
            queue.retain(|mail: &Mail| {
                let is_due = mail.is_due(second);
                let passes = is_due && !is_deferred(mail.is_tried(&fixture, &store));
                delivered += u32::from(passes);
                let is_retry = second > mail.begun;
                assert!(!is_due || passes == is_retry, "at {second}: {mail:?}");
                !passes
            });
            fixture.wait_seconds(1);
            sweeper.round(&store, fixture.clock.now());
            let census = store.census();
            assert!(
                census.tuples <= CAPACITY && census.pairs <= CAPACITY,
                "{census:?}"
            );
        }
        assert_eq!(
            delivered,
            (minutes - SCHEDULE[0]) * HONEST,
            "at their first retry"
        );
        let unrecorded = Verdict::Pass(PassReason::Unrecorded);
        assert_eq!(fixture.metrics.count_of(unrecorded), 0);
        known.are_known_still(&fixture, &store);
        Told {
            by_trace: fixture.metrics.traces_retried.get(),
            fixture,
        }
    }

    /// Which tuple is tried again when `number` is tried first.
    fn again(&self, number: u32) -> Option<u32> {
        number.checked_sub(RATE * self.again_after?)
    }
}

/// A new correspondent with a queue.
#[derive(Debug)]
struct Mail {
    number: u32,
    begun: u32,
}

impl Mail {
    fn new(number: u32, begun: u32) -> Self {
        Self { number, begun }
    }

    fn is_due(&self, second: u32) -> bool {
        let waited = second - self.begun;
        waited == 0 || SCHEDULE.iter().any(|minutes| 60 * minutes == waited)
    }

    fn is_tried(&self, fixture: &Fixture, store: &Store) -> Verdict {
        let name = format!("mail.honest{}.example", self.number);
        let reverse_path = format!("s@honest{}.example", self.number);
        let client: IpAddr = Ipv4Addr::from(0xc612_0007 + (self.number << 8)).into();
        let attempt = Attempt {
            client,
            client_name: name.as_bytes(),
            helo: name.as_bytes(),
            reverse_path: reverse_path.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(store, &attempt)
    }
}

/// A sentence, and a sender that is trusted.
struct Known {
    sentences: usize,
    trusted: usize,
}

fn known_before(fixture: &Fixture, store: &Store) -> Known {
    pass_once(fixture, store, &ATTEMPT);
    for _ in 0..5 {
        fixture.wait_minutes(61);
        fixture.judge(store, &ATTEMPT);
    }
    let sentenced = "203.0.113.7/32".parse::<ipnet::IpNet>().expect("a network");
    let since = fixture.clock.now();
    store.punish(greygate::policy::Sentence {
        client: sentenced.try_into().expect("it can be sentenced"),
        level: SentenceLevel::Block,
        reason: greygate::policy::SentenceReason::Operator,
        since,
        until: since.after(std::time::Duration::from_hours(24)),
        persistence: greygate::policy::Persistence::default(),
    });
    let known = Known {
        sentences: store.sentences(since).len(),
        trusted: store.census().trusted,
    };
    known.are_known_still(fixture, store);
    known
}

impl Known {
    fn are_known_still(&self, fixture: &Fixture, store: &Store) {
        let trusted = Verdict::Pass(PassReason::Trusted);
        assert_eq!(fixture.judge(store, &ATTEMPT), trusted);
        assert_eq!(
            (self.sentences, store.sentences(fixture.clock.now()).len()),
            (1, 1)
        );
        assert!(store.census().trusted >= self.trusted);
    }
}

trait Find {
    /// Whether the tuple of [`ATTEMPT`] has a record.
    fn find(&self, fixture: &Fixture) -> bool;
}

impl Find for Store {
    fn find(&self, fixture: &Fixture) -> bool {
        let rows = fixture.rows(self);
        let begun = support::clock::TestClock::START;
        rows.iter().any(|row| {
            matches!(row, greygate::store::codec::Row::Tuple(_, record) if record.first_seen == begun)
        })
    }
}

fn untrusting() -> Policy {
    Policy {
        trust_after: 0,
        ..Policy::default()
    }
}

fn is_new(verdict: Verdict) -> bool {
    verdict == Verdict::Defer(greygate::policy::DeferReason::New)
}

fn is_deferred(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Defer(_) | Verdict::Read(_))
}
