//! Bots in a flood of strangers, and a watch that does not grow.

use super::*;
use crate::policy::fixture::ATTEMPT;

const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

struct Watch {
    policy: Policy,
    seed: Seed,
    hops: Hops,
    metrics: Arc<Metrics>,
    now: Timestamp,
}

impl Watch {
    fn new() -> Self {
        let metrics = Arc::<Metrics>::default();
        let mut bytes = [1_u8; Seed::LENGTH];
        for at in 1..bytes.len() {
            bytes[at] = bytes[at - 1].wrapping_mul(37).wrapping_add(11);
        }
        Self {
            policy: Policy::default(),
            seed: Seed::from_bytes(bytes),
            hops: Hops::new(Arc::clone(&metrics)),
            metrics,
            now: T0,
        }
    }

    fn sees(&self, client: u32, name: &str, helo: &str, recipient: &str) -> Hopped {
        let client = IpAddr::from(client.to_be_bytes());
        let attempt = Attempt {
            client,
            client_name: name.as_bytes(),
            helo: helo.as_bytes(),
            reverse_path: b"s@bank.example",
            recipient: recipient.as_bytes(),
            connected: self.now,
            ..ATTEMPT
        };
        let network = ClientNetwork::cut(client, 32, 64);
        self.hops
            .note(&self.policy, &self.seed, network, &attempt, self.now)
    }

    /// The `number`th bot of a network and a domain of its own.
    fn sees_bot(&self, number: u32, helo: &str, recipient: &str) -> Hopped {
        let name = format!("dsl-7.isp{number}.example");
        self.sees(0x0b00_0007 + (number << 8), &name, helo, recipient)
    }

    /// Bots that share nothing but a HELO argument and a recipient: how many are convicted.
    fn sees_botnet(&self, helo: &str, recipient: &str) -> usize {
        let bots = 0..7;
        bots.map(|bot| self.sees_bot(bot, helo, recipient).struck.len())
            .sum()
    }

    /// For a minute, `attempts` of strangers with a HELO argument and a recipient each, and in
    /// the last third of it a botnet's: how many of its bots are convicted.
    fn sees_botnet_in_flood(&mut self, attempts: u32) -> usize {
        let begun = self.now;
        let mut bots = 0..7;
        let mut convicted = 0;
        for number in 0..attempts {
            self.now = begun.after(Duration::from_mins(1) * number / attempts);
            let is_bots_turn = number % (attempts / 21) == 0 && number >= attempts / 3 * 2;
            if let Some(bot) = is_bots_turn.then(|| bots.next()).flatten() {
                let hopped = self.sees_bot(bot, "mx.bank.example", "r@here.example");
                convicted += hopped.struck.len();
            }
            let helo = format!("h{number}.flood.example");
            let recipient = format!("r{number}@here.example");
            self.sees(number, "", &helo, &recipient);
        }
        assert_eq!(bots.next(), None, "all had their turn");
        convicted
    }
}

#[test]
fn botnet_is_caught_in_a_flood_up_to_the_rate_that_is_stated() {
    let mut watch = Watch::new();
    assert_eq!(watch.sees_botnet_in_flood(60 * 2_500), 7);
    assert_eq!(watch.metrics.hops_displaced.get(), 0);
}

#[test]
fn flood_of_a_million_costs_sight_and_says_so() {
    let mut watch = Watch::new();
    assert_eq!(watch.sees_botnet_in_flood(1_000_000), 0);
    let held = SIGHTING_SHELVES * Sightings::MOST;
    let displaced = watch.metrics.hops_displaced.get();
    assert_eq!(displaced, 1_000_007 - held as u64);
    assert_eq!(watch.hops.helos.len(), 0);
    watch.now = watch.now.after(Duration::from_secs(30));
    assert_eq!(watch.sees_botnet("mx.bank.example", "r@here.example"), 7);
}

#[test]
fn client_is_convicted_once_in_a_window_of_however_many_recipients() {
    let mut watch = Watch::new();
    assert_eq!(watch.sees_botnet("mx.bank.example", "r1@here.example"), 7);
    for recipient in ["r2@here.example", "r3@here.example"] {
        assert_eq!(watch.sees_botnet("mx.bank.example", recipient), 0);
    }
    watch.now = T0.after(Duration::from_secs(29));
    assert_eq!(watch.sees_botnet("mx.bank.example", "r4@here.example"), 0);
    watch.now = T0.after(Duration::from_secs(30));
    assert_eq!(watch.sees_botnet("mx.bank.example", "r5@here.example"), 7);
}

#[test]
fn conviction_of_the_future_is_one_of_a_clock_that_was_set_back() {
    let mut watch = Watch::new();
    assert_eq!(watch.sees_botnet("mx.bank.example", "r@here.example"), 7);
    watch.now = Timestamp::from_millis(T0.as_millis() / 2);
    assert_eq!(watch.sees_botnet("mx.bank.example", "r@here.example"), 7);
}

#[test]
fn full_of_helo_arguments_it_makes_room_of_those_that_lapsed() {
    let mut watch = Watch::new();
    for number in 0..HELOS {
        let key = watch.seed.helo_key(format!("h{number}").as_bytes());
        assert!(watch.hops.remember(&watch.policy, key, watch.now));
    }
    assert_eq!(watch.sees_botnet("mx.bank.example", "r@here.example"), 7);
    assert_eq!(watch.metrics.helos_unrecorded.get(), 3, "the strikes stand");
    let slowed = watch.sees(1, "", "mx.bank.example", "r@here.example");
    assert!(!slowed.helo_hops);
    watch.now = T0.after(watch.policy.punish.hopping_memory);
    assert_eq!(watch.sees_botnet("mx.bank.example", "r@here.example"), 7);
    assert_eq!(watch.hops.helos.len(), 1);
    let slowed = watch.sees(1, "", "mx.bank.example", "r@here.example");
    assert!(slowed.helo_hops);
}

#[test]
fn threads_that_meet_on_a_pair_convict_each_client_once() {
    let watch = Watch::new();
    let convicted = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let bots = (0..12).cycle().take(1_200);
                    let struck = bots.map(|bot| {
                        let hopped = watch.sees_bot(bot, "mx.bank.example", "r@here.example");
                        hopped.struck.len()
                    });
                    struck.sum::<usize>()
                })
            })
            .collect();
        let convicted = threads.into_iter().map(|it| it.join().expect("no panic"));
        convicted.sum::<usize>()
    });
    assert_eq!(convicted, 12);
}
