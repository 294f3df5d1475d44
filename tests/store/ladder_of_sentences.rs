//! What offences come to through the whole store: strikes, the rungs of the ladder, who is spared,
//! what the sentenced are told, and what forgiving undoes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, Offence, Outcome, Policy, RefuseReason, Sentence, SentenceLevel,
    SentenceReason, SentencedClient, Timestamp, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture, listing, pass_once};

const REFUSED: Verdict = Verdict::Refuse(RefuseReason::Sentenced);
const RAPID: Offence = Offence::RapidRetries;
const HOST: &str = "192.0.2.7";

/// A store that has watched for a week, and never filled.
fn warm() -> (Fixture, Store) {
    warm_with(Policy::default())
}

fn warm_with(policy: Policy) -> (Fixture, Store) {
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    fixture.warm_up();
    (fixture, store)
}

/// What `client` sends in a session that begins now. Each session names a recipient of its own, so
/// that no tuple of an earlier one is asked.
fn session<'a>(fixture: &Fixture, client: &str, recipient: &'a str) -> Attempt<'a> {
    Attempt {
        client: address(client),
        recipient: recipient.as_bytes(),
        connected: fixture.clock.now(),
        ..ATTEMPT
    }
}

fn address(client: &str) -> IpAddr {
    client.parse().expect("an address")
}

/// Has `client` retry one message each second, in a session each, until that is an offence.
fn offend(fixture: &Fixture, store: &Store, client: &str) {
    offend_as(fixture, store, client, ATTEMPT.client_name);
}

fn offend_as(fixture: &Fixture, store: &Store, client: &str, client_name: &[u8]) {
    let recipient = format!("r{}@here.example", fixture.clock.now().as_millis());
    for _ in 0..=30 {
        let attempt = Attempt {
            client_name,
            ..session(fixture, client, &recipient)
        };
        fixture.judge(store, &attempt);
        fixture.clock.advance(Duration::from_secs(1));
    }
}

/// The sentence that `network` serves now.
fn served(fixture: &Fixture, store: &Store, network: &str) -> Option<Sentence> {
    let sentences = store.sentences(fixture.clock.now());
    let is_meant = |it: &Sentence| it.client.network().to_string() == network;
    sentences.into_iter().find(is_meant)
}

/// Whether [`HOST`] serves a sentence of `level` that lasts `length`, or up to a tenth more.
fn serves(fixture: &Fixture, store: &Store, level: SentenceLevel, length: Duration) -> bool {
    served(fixture, store, "192.0.2.7/32").is_some_and(|it| {
        let whole = it.until.since(it.since);
        it.level == level && (length..=length * 11 / 10).contains(&whole)
    })
}

fn rated(fixture: &Fixture, store: &Store) -> bool {
    serves(fixture, store, SentenceLevel::Rate, Duration::from_mins(30))
}

fn blocked_for_days(fixture: &Fixture, store: &Store, days: u64) -> bool {
    let length = Duration::from_hours(24 * days);
    serves(fixture, store, SentenceLevel::Block, length)
}

fn counted(fixture: &Fixture, outcome: Outcome) -> u64 {
    fixture.metrics.count_of_offence(RAPID, outcome)
}

#[test]
fn host_that_goes_on_is_rated_then_blocked_for_a_day_a_week_and_four_weeks() {
    let (fixture, store) = warm();
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store));
    for (hours, days) in [(1, 1), (2 * 24, 7), (8 * 24, 28), (29 * 24, 28)] {
        fixture.wait_hours(hours);
        offend(&fixture, &store, HOST);
        assert!(blocked_for_days(&fixture, &store, days), "{days} days");
    }
    assert_eq!(counted(&fixture, Outcome::Struck), 5);
}

#[test]
fn host_that_goes_quiet_is_served_again_and_after_a_month_forgiven() {
    let (fixture, store) = warm();
    offend(&fixture, &store, HOST);
    fixture.wait_hours(1);
    assert_eq!(store.sentences(fixture.clock.now()), []);
    offend(&fixture, &store, HOST);
    assert!(blocked_for_days(&fixture, &store, 1));
    fixture.wait_hours(29 * 24);
    offend(&fixture, &store, HOST);
    assert!(
        blocked_for_days(&fixture, &store, 7),
        "it was not quiet for a month"
    );
    fixture.wait_hours(30 * 24);
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store), "it begins again");
}

#[test]
fn client_with_mail_that_passed_on_record_is_blocked_for_a_day_at_most() {
    let (fixture, store) = warm();
    pass_once(&fixture, &store, &session(&fixture, HOST, "a@here.example"));
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store));
    for _ in 0..4 {
        fixture.wait_hours(2 * 24);
        offend(&fixture, &store, HOST);
        assert!(blocked_for_days(&fixture, &store, 1));
    }
}

#[test]
fn network_of_a_relay_with_a_good_record_is_not_sentenced_for_its_nameless_neighbours() {
    let (fixture, store) = warm();
    for day in 0..4 {
        for number in 0..10 {
            let sender = format!("s{day}-{number}@sender.example");
            let recipient = format!("r{day}-{number}@here.example");
            let letter = Attempt {
                reverse_path: sender.as_bytes(),
                ..session(&fixture, "192.0.2.200", &recipient)
            };
            pass_once(&fixture, &store, &letter);
        }
        fixture.wait_hours(24);
    }
    for host in 1..=6 {
        offend_as(&fixture, &store, &format!("192.0.2.{host}"), b"");
    }
    assert_eq!(counted(&fixture, Outcome::Struck), 6);
    assert_eq!(
        store.census().sentences,
        6,
        "each host, and not the network"
    );
}

#[test]
fn second_offence_while_rated_makes_a_block_of_it() {
    let (fixture, store) = warm();
    offend(&fixture, &store, HOST);
    let first = served(&fixture, &store, "192.0.2.7/32").expect("it is sentenced");
    fixture.wait_minutes(5);
    offend(&fixture, &store, HOST);
    let both = served(&fixture, &store, "192.0.2.7/32").expect("it is sentenced");
    assert_eq!(
        (both.level, both.since),
        (SentenceLevel::Block, first.since)
    );
    assert!(both.until.since(fixture.clock.now()) >= Duration::from_hours(23));
}

#[test]
fn burst_over_fifty_recipients_is_one_strike() {
    burst_is_one_strike(Policy::default());
}

#[test]
fn burst_is_one_strike_even_of_rules_without_a_span() {
    let mut policy = Policy::default();
    policy.punish.rapid_span = Duration::ZERO;
    policy.punish.rapid_retries = 30;
    burst_is_one_strike(policy);
}

fn burst_is_one_strike(policy: Policy) {
    let (fixture, store) = warm_with(policy);
    let recipients: Vec<_> = (0..50)
        .map(|number| format!("r{number}@here.example"))
        .collect();
    for _ in 0..=30 {
        for recipient in &recipients {
            fixture.judge(&store, &session(&fixture, HOST, recipient));
        }
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert!(rated(&fixture, &store));
    assert_eq!(counted(&fixture, Outcome::Struck), 1);
    assert_eq!(counted(&fixture, Outcome::Repeated), 49);
}

#[test]
fn open_session_is_refused_and_a_new_one_only_at_level_block() {
    let (fixture, store) = warm();
    let open = session(&fixture, HOST, "open@here.example");
    fixture.clock.advance(Duration::from_secs(1));
    offend(&fixture, &store, HOST);
    let fresh = |recipient| fixture.judge(&store, &session(&fixture, HOST, recipient));
    assert_eq!(fixture.judge(&store, &open), REFUSED);
    assert!(matches!(fresh("new@here.example"), Verdict::Defer(_)));
    let neighbour = session(&fixture, "192.0.2.8", "open@here.example");
    let earlier = Attempt {
        connected: open.connected,
        ..neighbour
    };
    assert_ne!(
        fixture.judge(&store, &earlier),
        REFUSED,
        "a sentence is one address"
    );

    fixture.wait_hours(1);
    assert_ne!(fixture.judge(&store, &open), REFUSED, "it has ended");
    offend(&fixture, &store, HOST);
    assert_eq!(fixture.judge(&store, &open), REFUSED);
    assert_eq!(fresh("newer@here.example"), REFUSED);
    assert!(fixture.metrics.count_of(REFUSED) >= 3);
}

#[test]
fn operators_network_turns_its_hosts_away_and_not_the_authenticated() {
    let (fixture, store) = warm();
    let now = fixture.clock.now();
    let network: ipnet::IpNet = "192.0.2.0/24".parse().expect("a network");
    store.punish(Sentence {
        client: network.try_into().expect("it can be sentenced"),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since: now,
        until: now.after(Duration::from_hours(1)),
        persistence: greygate::policy::Persistence::default(),
    });
    let stranger = session(&fixture, "192.0.2.200", "r@here.example");
    assert_eq!(fixture.judge(&store, &stranger), REFUSED);
    let user = Attempt {
        authenticated: true,
        ..stranger
    };
    assert!(matches!(fixture.judge(&store, &user), Verdict::Pass(_)));
}

#[test]
fn nothing_is_judged_in_the_first_minute_after_a_cold_start() {
    let fixture = Fixture::new();
    let store = fixture.open();
    offend(&fixture, &store, HOST);
    assert_eq!(store.sentences(fixture.clock.now()), []);
    assert_eq!(counted(&fixture, Outcome::TooEarly), 1);
    fixture.wait_minutes(1);
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store), "that was no strike");
}

#[test]
fn block_is_observed_in_the_first_week_and_carried_out_after_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.wait_hours(6 * 24 + 12);
    offend(&fixture, &store, HOST);
    fixture.wait_hours(1);
    offend(&fixture, &store, HOST);
    assert!(blocked_for_days(&fixture, &store, 1));
    assert_eq!(fixture.metrics.sentences_observed.get(), 1);
    let upheld = || {
        let (history, now) = (store.history(), fixture.clock.now());
        let upheld = fixture
            .policy
            .load()
            .uphold_all(store.sentences(now), history, now);
        upheld.into_iter().map(|it| it.level).collect::<Vec<_>>()
    };
    assert_eq!(upheld(), [SentenceLevel::Observe]);
    let fresh = || fixture.judge(&store, &session(&fixture, HOST, "r@here.example"));
    assert_ne!(fresh(), REFUSED);
    fixture.wait_hours(12);
    assert_eq!(upheld(), [SentenceLevel::Block]);
    assert_eq!(fresh(), REFUSED);
}

#[test]
fn kernel_is_told_of_an_observed_block_as_observed() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    fixture.wait_minutes(1);
    let mut told = Vec::new();
    for _ in 0..2 {
        offend(&fixture, &store, HOST);
        fixture.wait_hours(1);
        while let Ok(effect) = fixture.effects.try_recv() {
            if let greygate::policy::Effect::Punish(sentence) = effect {
                told.push(sentence.level);
            }
        }
    }
    assert_eq!(told, [SentenceLevel::Rate, SentenceLevel::Observe]);
}

#[test]
fn observed_strikes_are_counted_and_nothing_is_remembered() {
    let mut observing = Policy::default();
    observing.punish.strike_action = Action::Observe;
    let (fixture, store) = warm_with(observing);
    for _ in 0..3 {
        offend(&fixture, &store, HOST);
        fixture.wait_hours(1);
    }
    assert_eq!(store.census().sentences, 0);
    assert_eq!(counted(&fixture, Outcome::Observed), 3);
    fixture.policy.store(Arc::default());
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store), "it is the first strike");
}

#[test]
fn observed_sentences_are_given_and_harm_nobody() {
    let mut observing = Policy::default();
    observing.punish.action = Action::Observe;
    let (fixture, store) = warm_with(observing);
    for _ in 0..3 {
        offend(&fixture, &store, HOST);
        let sentence = served(&fixture, &store, "192.0.2.7/32").expect("it is sentenced");
        assert_eq!(sentence.level, SentenceLevel::Observe);
        fixture.wait_hours(2);
        let fresh = session(&fixture, HOST, "r@here.example");
        assert_ne!(fixture.judge(&store, &fresh), REFUSED);
    }
    assert_eq!(fixture.metrics.sentences_given.get(), 3);
    assert_eq!(fixture.metrics.sentences_observed.get(), 3);
}

#[test]
fn who_authenticated_in_the_last_fortnight_is_not_struck() {
    for (user, neighbour, is_shielded) in [
        (HOST, HOST, true),
        (HOST, "192.0.2.8", false),
        ("2001:db8:1:2::3", "2001:db8:1:2::4", true),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", false),
    ] {
        let (fixture, store) = warm();
        let login = Attempt {
            authenticated: true,
            ..session(&fixture, user, "r@here.example")
        };
        fixture.judge(&store, &login);
        fixture.wait_hours(13 * 24);
        offend(&fixture, &store, neighbour);
        let sentences = store.sentences(fixture.clock.now()).len();
        assert_eq!(
            sentences,
            usize::from(!is_shielded),
            "{user} and {neighbour}"
        );
        assert_eq!(counted(&fixture, Outcome::Spared), u64::from(is_shielded));
        fixture.wait_hours(24);
        offend(&fixture, &store, neighbour);
        assert_eq!(
            store.sentences(fixture.clock.now()).len(),
            1,
            "a fortnight is over"
        );
    }
}

#[test]
fn allow_listed_local_private_and_shared_addresses_are_never_struck() {
    let listed = Policy {
        lists: listing(["192.0.2.7/32"], ["198.51.100.0/24"]),
        ..Policy::default()
    };
    let (fixture, store) = warm_with(listed);
    for client in [
        HOST,
        "198.51.100.7",
        "10.1.2.3",
        "100.64.1.2",
        "fd00::1",
        "::1",
    ] {
        offend(&fixture, &store, client);
        fixture.wait_hours(1);
    }
    assert_eq!(store.census().sentences, 0);
    assert_eq!(counted(&fixture, Outcome::Struck), 0);
}

#[test]
fn fourth_struck_host_has_its_64_or_24_sentenced() {
    for (hosts, network) in [
        (
            [
                "2001:db8:1:2::1",
                "2001:db8:1:2::2",
                "2001:db8:1:2::3",
                "2001:db8:1:2::4",
            ],
            "2001:db8:1:2::/64",
        ),
        (
            ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"],
            "192.0.2.0/24",
        ),
    ] {
        let (fixture, store) = warm();
        for (struck, host) in hosts.into_iter().enumerate() {
            assert_eq!(served(&fixture, &store, network), None, "{struck} struck");
            offend(&fixture, &store, host);
            let bits = if host.contains(':') { 128 } else { 32 };
            assert!(served(&fixture, &store, &format!("{host}/{bits}")).is_some());
            fixture.wait_hours(1);
        }
        offend(&fixture, &store, hosts[3]);
        let sentence = served(&fixture, &store, network).expect("it is sentenced");
        assert_eq!(sentence.reason, SentenceReason::Neighbours);
        assert_eq!(sentence.level, SentenceLevel::Block, "as hard as the host");
        let stranger = match sentence.client.network().addr() {
            IpAddr::V4(_) => "192.0.2.99",
            IpAddr::V6(_) => "2001:db8:1:2::99",
        };
        let fresh = session(&fixture, stranger, "r@here.example");
        assert_eq!(fixture.judge(&store, &fresh), REFUSED);
    }
}

#[test]
fn network_in_which_mail_has_passed_is_blocked_for_a_day_at_most() {
    for (passes, days) in [(false, 7), (true, 1)] {
        let (fixture, store) = warm();
        if passes {
            let neighbour = Attempt {
                client_name: b"",
                ..session(&fixture, "192.0.2.200", "r@here.example")
            };
            pass_once(&fixture, &store, &neighbour);
        }
        for host in ["192.0.2.8", "192.0.2.9", "192.0.2.10"] {
            offend_as(&fixture, &store, host, b"");
        }
        for _ in 0..3 {
            fixture.wait_hours(48);
            offend_as(&fixture, &store, HOST, b"");
        }
        assert!(blocked_for_days(&fixture, &store, 7), "the host itself");
        let network = served(&fixture, &store, "192.0.2.0/24").expect("it is sentenced");
        let whole = network.until.since(network.since);
        let length = Duration::from_hours(24 * days);
        assert!(
            (length..=length * 11 / 10).contains(&whole),
            "{days} days: {whole:?}"
        );
    }
}

#[test]
fn ipv6_network_that_the_rules_cut_into_many_is_not_sentenced() {
    for (ipv6_prefix, is_sentenced) in [(64, true), (65, false), (128, false)] {
        let (fixture, store) = warm_with(Policy {
            ipv6_prefix,
            ..Policy::default()
        });
        for host in 1..=5 {
            offend(&fixture, &store, &format!("2001:db8:1:2::{host}"));
        }
        assert_eq!(counted(&fixture, Outcome::Struck), 5);
        let network = served(&fixture, &store, "2001:db8:1:2::/64");
        assert_eq!(network.is_some(), is_sentenced, "/{ipv6_prefix}");
    }
}

#[test]
fn one_host_struck_four_times_is_no_network() {
    let (fixture, store) = warm();
    for _ in 0..4 {
        offend(&fixture, &store, HOST);
        fixture.wait_hours(29 * 24);
    }
    assert_eq!(counted(&fixture, Outcome::Struck), 4);
    assert_eq!(served(&fixture, &store, "192.0.2.0/24"), None);
}

#[test]
fn network_in_which_somebody_authenticated_or_is_listed_is_not_sentenced() {
    let listing = Policy {
        lists: listing(["192.0.2.250/32"], []),
        ..Policy::default()
    };
    for (policy, authenticates) in [(Policy::default(), true), (listing, false)] {
        let (fixture, store) = warm_with(policy);
        let user = Attempt {
            authenticated: authenticates,
            ..session(&fixture, "192.0.2.200", "r@here.example")
        };
        fixture.judge(&store, &user);
        for host in 1..=6 {
            offend(&fixture, &store, &format!("192.0.2.{host}"));
        }
        assert_eq!(counted(&fixture, Outcome::Struck), 6);
        assert_eq!(served(&fixture, &store, "192.0.2.0/24"), None);
    }
}

#[test]
fn full_table_of_clients_strikes_nobody_and_counts_it() {
    let mut fixture = Fixture::new();
    fixture.settings.clients = 1;
    let store = fixture.open();
    fixture.warm_up();
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store));
    offend(&fixture, &store, "198.51.100.7");
    assert_eq!(served(&fixture, &store, "198.51.100.7/32"), None);
    assert_eq!(counted(&fixture, Outcome::Unrecorded), 1);
    let login = Attempt {
        authenticated: true,
        ..session(&fixture, "203.0.113.7", "r@here.example")
    };
    assert!(matches!(fixture.judge(&store, &login), Verdict::Pass(_)));
    assert_eq!(fixture.metrics.clients_unrecorded.get(), 2);
    fixture.wait_hours(1);
    offend(&fixture, &store, HOST);
    assert!(
        blocked_for_days(&fixture, &store, 1),
        "who is held is judged as ever"
    );
}

#[test]
fn forged_syns_of_a_day_lengthen_once_and_raise_no_rung() {
    let (fixture, store) = warm();
    offend(&fixture, &store, HOST);
    fixture.wait_hours(1);
    offend(&fixture, &store, HOST);
    let block = served(&fixture, &store, "192.0.2.7/32").expect("it is sentenced");
    for hour in 1..=24 {
        fixture.wait_hours(1);
        let forged = [(block.client, hour * 1_000_000)];
        store.heed(forged, true, fixture.clock.now());
    }
    let longer = served(&fixture, &store, "192.0.2.7/32").expect("it is longer");
    assert_eq!(longer.level, block.level);
    assert_eq!(longer.until, block.until.after(Duration::from_hours(24)));
    assert_eq!(fixture.metrics.sentences_lengthened.get(), 1);
    assert_eq!(counted(&fixture, Outcome::Struck), 2);
    fixture.wait_hours(48);
    assert_eq!(store.sentences(fixture.clock.now()), []);
    offend(&fixture, &store, HOST);
    assert!(
        blocked_for_days(&fixture, &store, 7),
        "the third rung, no further"
    );
}

#[test]
fn forgiving_an_address_undoes_sentence_strikes_and_its_part_in_the_network() {
    let (fixture, store) = warm();
    for host in ["192.0.2.8", "192.0.2.9", "192.0.2.10"] {
        offend(&fixture, &store, host);
    }
    offend(&fixture, &store, HOST);
    fixture.wait_hours(1);
    offend(&fixture, &store, HOST);
    let now = fixture.clock.now();
    let forgiven =
        SentencedClient::covering(address(HOST)).map(|client| store.forgive(client, now));
    assert_eq!(
        forgiven.map(|it| it.strikes),
        [2, 3],
        "the others of the network"
    );
    assert!(
        forgiven.iter().all(|it| it.lifted.is_some()),
        "{forgiven:?}"
    );
    assert_eq!(store.sentences(now), []);

    fixture.wait_minutes(1);
    offend(&fixture, &store, HOST);
    assert!(rated(&fixture, &store), "it is the first strike");
    assert_eq!(served(&fixture, &store, "192.0.2.0/24"), None);
    fixture.wait_hours(1);
    offend(&fixture, &store, "192.0.2.8");
    let neighbour = served(&fixture, &store, "192.0.2.8/32").expect("it is sentenced");
    assert_eq!(
        neighbour.level,
        SentenceLevel::Block,
        "its own strikes were not forgiven"
    );
    let again = store.forgive(SentencedClient::host(address("198.51.100.1")), now);
    assert_eq!((again.strikes, again.lifted), (0, None));
}

#[test]
fn forgiving_a_network_reaches_strikes_without_a_sentence() {
    let (fixture, store) = warm();
    for host in ["192.0.2.7", "192.0.2.8", "198.51.100.7"] {
        offend(&fixture, &store, host);
    }
    fixture.wait_hours(1);
    let within = |network: &str| {
        let network = network.parse().expect("a network");
        let forgiven = store.forgive_within(network, fixture.clock.now());
        let mut told: Vec<_> = forgiven
            .iter()
            .map(|it| (it.client.to_string(), it.strikes, it.lifted.is_some()))
            .collect();
        told.sort();
        told
    };
    let told = |client: &str, strikes| (client.to_owned(), strikes, false);
    assert_eq!(within("192.0.2.8/32"), [told("192.0.2.8", 1)]);
    assert_eq!(within("192.0.0.0/16"), [told("192.0.2.7", 1)]);
    assert_eq!(within("192.0.0.0/16"), []);
    assert_eq!(within("198.51.100.0/24"), [told("198.51.100.7", 1)]);
}

#[test]
fn session_of_unknown_beginning_is_not_refused_at_level_rate() {
    let (fixture, store) = warm();
    offend(&fixture, &store, HOST);
    let unknown = Attempt {
        connected: Timestamp::NEVER,
        ..session(&fixture, HOST, "r@here.example")
    };
    assert_ne!(fixture.judge(&store, &unknown), REFUSED);
}
