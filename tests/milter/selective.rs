//! Selective greylisting on the wire: a real milter with a real store, which asks a DNS server that
//! answers, keeps silent, or lies. (D1, D2)

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greygate::dns::{Server, Settings};
use greygate::policy::{Identity, Mode, Policy, Who};
use support::dns::{DnsServer, Manner};
use support::mta::{Answer, Mta};

use crate::world::World;

const BLOCKLIST: &str = "block.example";
const ALLOWLIST: &str = "allow.example";
const DELAY: Duration = Duration::from_mins(4);

/// Asks `server`, with times that a test can wait for.
fn asking(server: &DnsServer) -> Settings {
    Settings {
        servers: vec![Server(server.address())],
        budget: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        pause: Duration::from_millis(100),
        ..Settings::default()
    }
}

fn blocklisting(server: &DnsServer) -> Settings {
    Settings {
        blocklists: vec![BLOCKLIST.parse().expect("a zone")],
        ..asking(server)
    }
}

fn allowlisting(server: &DnsServer) -> Settings {
    Settings {
        allowlists: vec![ALLOWLIST.parse().expect("a zone")],
        ..asking(server)
    }
}

fn suspicious() -> Policy {
    let mut policy = Policy::default();
    policy.evidence.who = Who::Suspicious;
    policy
}

fn by_spf() -> Policy {
    // In another mode the content of its message would tell a pool.
    let mut policy = Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    };
    policy.evidence.identity = Identity::Spf;
    policy
}

fn trusting(domain: &str) -> Policy {
    let mut policy = Policy::default();
    policy.evidence.spf_trusted = vec![domain.to_owned()];
    policy
}

/// A session of a server with a good name.
fn named(world: &World, client: &str) -> Mta {
    let address: IpAddr = client.parse().expect("an address");
    let mut mta = Mta::negotiate(world.inet(), support::mta::POSTFIX)
        .expect("terms")
        .0;
    mta.client("mail.sender.example", address).expect("held");
    mta.helo("mail.sender.example").expect("held");
    mta
}

/// What a mail of `from` to `to` hears at RCPT.
fn tries(mta: &mut Mta, from: &str, to: &str) -> Answer {
    mta.mail(from).expect("held");
    let answer = mta.rcpt(to).expect("an answer");
    mta.abort();
    answer
}

/// The same in a session of its own, from a server with a good name.
fn comes(world: &World, client: &str, from: &str, to: &str) -> Answer {
    let mut mta = named(world, client);
    let answer = tries(&mut mta, from, to);
    mta.quit().expect("a clean end");
    answer
}

/// Tries mail after mail, none of which was seen before, until one is answered as `is_right` wants.
fn until(world: &World, client: &str, is_right: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for number in 0.. {
        let answer = comes(
            world,
            client,
            "s@s.example",
            &format!("r{number}@y.example"),
        );
        if is_right(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
}

#[test]
fn suspicious_is_deferred_and_a_named_host_passes_at_once() {
    let server = DnsServer::start().expect("a server");
    let world = World::asking(suspicious(), asking(&server));
    assert!(comes(&world, "192.0.2.7", "s@s.example", "r@y.example").is_continue());
    // Nameless; then with a name, but greeting with an address.
    assert!(tries(&mut world.session(), "s@s.example", "r@y.example").is_deferral());
    let mut mta = named(&world, "192.0.2.8");
    mta.helo("[192.0.2.8]").expect("held");
    assert!(tries(&mut mta, "s@s.example", "r@y.example").is_deferral());
    assert_eq!(
        world.metric("milter_questions_total"),
        0,
        "nobody was asked"
    );
}

#[test]
fn suspicious_passes_in_its_window_as_everybody_did() {
    let server = DnsServer::start().expect("a server");
    let world = World::asking(suspicious(), asking(&server));
    assert!(tries(&mut world.session(), "s@s.example", "r@y.example").is_deferral());
    world.clock.advance(DELAY);
    assert!(tries(&mut world.session(), "s@s.example", "r@y.example").is_continue());
}

#[test]
fn hit_in_a_blocklist_defers() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[("192.0.2.66", "127.0.0.4")]);
    let world = World::asking(suspicious(), blocklisting(&server));
    world.wait_for_source("blocklist", true);
    assert!(comes(&world, "192.0.2.66", "s@s.example", "r@y.example").is_deferral());
    assert!(comes(&world, "192.0.2.67", "s@s.example", "r@y.example").is_continue());
}

#[test]
fn score_in_an_allowlist_exempts_from_the_least_on() {
    let server = DnsServer::start().expect("a server");
    let scores = [("192.0.2.10", "127.0.5.0"), ("192.0.2.11", "127.0.5.1")];
    server.list(ALLOWLIST, &scores);
    let world = World::asking(Policy::default(), allowlisting(&server));
    world.wait_for_source("allowlist", true);
    assert!(comes(&world, "192.0.2.10", "s@s.example", "r@y.example").is_deferral());
    let mut mta = named(&world, "192.0.2.11");
    mta.mail("s@s.example").expect("held");
    assert!(mta.rcpt("r2@y.example").expect("an answer").is_continue());
    mta.data().expect("an answer");
    mta.quit().expect("a clean end");
    assert_eq!(
        world.metric(r#"milter_messages_total{fate="passed",by="vouched"}"#),
        1
    );
}

#[test]
fn spf_pass_exempts_a_listed_domain_and_no_other() {
    let server = DnsServer::start().expect("a server");
    for domain in ["bank.example", "spammer.example"] {
        server.text_of(domain, "v=spf1 ip4:192.0.2.0/25 -all");
    }
    let world = World::asking(trusting("bank.example"), asking(&server));
    world.wait_for_source("spf", true);
    assert!(comes(&world, "192.0.2.7", "s@bank.example", "r@y.example").is_continue());
    assert!(comes(&world, "198.51.100.7", "s@bank.example", "r@y.example").is_deferral());
    assert!(comes(&world, "192.0.2.7", "s@spammer.example", "r@y.example").is_deferral());
    assert_eq!(
        server.asked_below("spammer.example"),
        0,
        "it does not matter"
    );
}

#[test]
fn record_that_passes_everybody_vouches_for_nobody() {
    let server = DnsServer::start().expect("a server");
    server.text_of("open.example", "v=spf1 +all");
    let world = World::asking(trusting("open.example"), asking(&server));
    world.wait_for_source("spf", true);
    assert!(comes(&world, "198.51.100.7", "s@open.example", "r@y.example").is_deferral());
}

#[test]
fn long_record_is_read_over_tcp() {
    let server = DnsServer::start().expect("a server");
    let filler = "ip4:203.0.113.1 ".repeat(120);
    server.text_of(
        "long.example",
        &format!("v=spf1 {filler}ip4:198.51.100.7 -all"),
    );
    let world = World::asking(trusting("long.example"), asking(&server));
    world.wait_for_source("spf", true);
    assert!(comes(&world, "198.51.100.7", "s@long.example", "r@y.example").is_continue());
    assert!(server.asked_over_tcp() > 0);
}

#[test]
fn pool_under_spf_passes_at_its_first_retry_from_another_network() {
    let server = DnsServer::start().expect("a server");
    server.text_of(
        "pool.example",
        "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 -all",
    );
    let world = World::asking(by_spf(), asking(&server));
    world.wait_for_source("spf", true);
    assert!(comes(&world, "198.51.100.7", "s@pool.example", "r@y.example").is_deferral());
    world.clock.advance(DELAY);
    assert!(comes(&world, "203.0.113.9", "s@pool.example", "r@y.example").is_continue());
    // A robot that forges the domain is a client of its own.
    assert!(comes(&world, "192.0.2.66", "s@pool.example", "r@y.example").is_deferral());
}

#[test]
fn client_for_which_spf_comes_and_goes_does_not_start_anew_for_ever() {
    let server = DnsServer::start().expect("a server");
    server.text_of("flaky.example", "v=spf1 ip4:198.51.100.0/24 -all");
    let flaky = |manner| server.behave("flaky.example", manner);
    flaky(Manner::Servfail);
    let world = World::asking(by_spf(), asking(&server));
    world.wait_for_source("spf", true);
    let try_again = |client: &str| comes(&world, client, "s@flaky.example", "r@y.example");
    assert!(try_again("198.51.100.7").is_deferral());
    world.clock.advance(DELAY);
    flaky(Manner::Answer);
    // From the other half of the network, so that the failure is not remembered.
    assert!(
        try_again("198.51.100.8").is_continue(),
        "it began before SPF answered"
    );

    // The other way round: SPF passes first, then fails.
    let world = World::asking(by_spf(), asking(&server));
    world.wait_for_source("spf", true);
    let try_again = |client: &str| comes(&world, client, "s@flaky.example", "r@y.example");
    assert!(try_again("198.51.100.7").is_deferral());
    world.clock.advance(DELAY);
    flaky(Manner::Servfail);
    let deferred = (8..20).filter(|host| {
        let is_deferral = try_again(&format!("198.51.100.{host}")).is_deferral();
        world.clock.advance(DELAY);
        is_deferral
    });
    assert!(deferred.count() <= 1, "both are on record now");
}

#[test]
fn slow_dns_costs_the_budget_and_its_answer_serves_the_next() {
    let server = DnsServer::start().expect("a server");
    server.list(ALLOWLIST, &[("192.0.2.11", "127.0.5.3")]);
    let settings = Settings {
        budget: Duration::from_millis(50),
        ..allowlisting(&server)
    };
    let world = World::asking(Policy::default(), settings);
    world.wait_for_source("allowlist", true);
    server.behave(ALLOWLIST, Manner::Late(Duration::from_millis(400)));
    let begun = Instant::now();
    assert!(comes(&world, "192.0.2.11", "s@s.example", "r@y.example").is_deferral());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    world.wait_for_metric("dns_late_total", 1);
    world.wait_for_metric("dns_in_flight", 0);
    assert!(comes(&world, "192.0.2.11", "s@s.example", "r@y.example").is_continue());
    assert_eq!(world.metric(r#"dns_cached_total{kind="allowlist"}"#), 1);
}

#[test]
fn dead_dns_is_left_alone_said_and_asked_again_when_it_lives() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[("192.0.2.66", "127.0.0.4")]);
    let settings = Settings {
        budget: Duration::from_millis(20),
        timeout: Duration::from_millis(60),
        ..blocklisting(&server)
    };
    let world = World::asking(suspicious(), settings);
    world.wait_for_source("blocklist", true);
    assert_eq!(world.dns().complaints(), Vec::<String>::new());
    server.behave("", Manner::Silent);
    // Each from an address of its own, so that nothing is known of it.
    for host in 100..110 {
        let client = format!("192.0.2.{host}");
        let answer = comes(&world, &client, "s@s.example", "r@y.example");
        assert!(answer.is_continue(), "mail flows");
        world.wait_for_metric("dns_in_flight", 0);
    }
    world.wait_for_source("blocklist", false);
    assert!(world.metric(r#"dns_skipped_total{kind="blocklist"}"#) > 0);
    let complaints = world.dns().complaints().join("\n");
    assert!(
        complaints.contains("block.example does not answer in time"),
        "{complaints}"
    );
    server.behave("", Manner::Answer);
    world.wait_for_source("blocklist", true);
    until(&world, "192.0.2.66", Answer::is_deferral);
}

#[test]
fn mail_flows_past_every_kind_of_broken_server() {
    for manner in [
        Manner::Servfail,
        Manner::Garbage,
        Manner::WrongId,
        Manner::Silent,
    ] {
        let server = DnsServer::start().expect("a server");
        server.list(BLOCKLIST, &[]);
        server.behave("", manner);
        let settings = Settings {
            timeout: Duration::from_millis(100),
            ..blocklisting(&server)
        };
        let world = World::asking(suspicious(), settings);
        world.wait_for_source("blocklist", false);
        let answer = comes(&world, "192.0.2.7", "s@s.example", "r@y.example");
        assert!(answer.is_continue(), "{manner:?}");
        // Of the list, and of the servers, which may be told a moment later.
        world.wait_for_complaints(2);
        assert_eq!(world.dns().complaints().len(), 2, "{manner:?}");
    }
}

#[test]
fn list_that_has_everybody_or_nobody_or_refuses_is_not_believed() {
    for (address, says) in [
        ("127.0.0.2", "lists 127.0.0.1, and so everybody"),
        ("127.255.255.254", "refuses with 127.255.255.254"),
        ("203.0.113.80", "answers 203.0.113.80, which no list does"),
    ] {
        let server = DnsServer::start().expect("a server");
        server.everything_below(BLOCKLIST, address);
        let world = World::asking(suspicious(), blocklisting(&server));
        world.wait_for_source("blocklist", false);
        let complaints = world.dns().complaints().join("\n");
        assert!(complaints.contains(says), "{complaints}");
        let answer = comes(&world, "192.0.2.7", "s@s.example", "r@y.example");
        assert!(answer.is_continue(), "{address}");
    }
    let server = DnsServer::start().expect("a server");
    let world = World::asking(suspicious(), blocklisting(&server));
    world.wait_for_source("blocklist", false);
    let complaints = world.dns().complaints().join("\n");
    assert!(
        complaints.contains("does not list 127.0.0.2"),
        "{complaints}"
    );
}

#[test]
fn list_that_begins_to_refuse_is_no_hit_and_is_said() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[]);
    let settings = Settings {
        pause: Duration::from_hours(1),
        ..blocklisting(&server)
    };
    let world = World::asking(suspicious(), settings);
    world.wait_for_source("blocklist", true);
    server.everything_below(BLOCKLIST, "127.255.255.255");
    assert!(comes(&world, "192.0.2.7", "s@s.example", "r@y.example").is_continue());
    world.wait_for_source("blocklist", false);
    let refused = r#"dns_failures_total{kind="blocklist",reason="refused"}"#;
    assert_eq!(world.metric(refused), 1);
}

#[test]
fn senders_with_dead_domains_do_not_take_spf_from_the_others() {
    let server = DnsServer::start().expect("a server");
    server.text_of("good.example", "v=spf1 ip4:198.51.100.0/24 -all");
    server.behave("dead.example", Manner::Servfail);
    let world = World::asking(by_spf(), asking(&server));
    world.wait_for_source("spf", true);
    for number in 0..20 {
        let from = format!("s@d{number}.dead.example");
        assert!(comes(&world, "192.0.2.7", &from, "r@y.example").is_deferral());
        world.wait_for_source("spf", true);
    }
    assert_eq!(world.dns().complaints(), Vec::<String>::new());
    assert!(comes(&world, "198.51.100.7", "s@good.example", "r@y.example").is_deferral());
    world.clock.advance(DELAY);
    assert!(comes(&world, "198.51.100.7", "s@good.example", "r@y.example").is_continue());
}

#[test]
fn senders_with_silent_domains_do_not_keep_the_lists_from_being_asked() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[("192.0.2.66", "127.0.0.4")]);
    server.behave("dead.example", Manner::Silent);
    let settings = Settings {
        budget: Duration::from_millis(500),
        timeout: Duration::from_secs(30),
        in_flight: 4,
        ..blocklisting(&server)
    };
    let mut policy = by_spf();
    policy.evidence.who = Who::Suspicious;
    let world = World::asking(policy, settings);
    world.wait_for_source("spf", true);
    world.wait_for_source("blocklist", true);
    let mut robot = Mta::negotiate(world.inet(), support::mta::POSTFIX)
        .expect("terms")
        .0;
    let address = IpAddr::from([198, 51, 100, 7]);
    robot.client("unknown", address).expect("held");
    robot.helo("robot").expect("held");
    for number in 0..6 {
        let from = format!("s@d{number}.dead.example");
        assert!(tries(&mut robot, &from, "r@y.example").is_deferral());
    }
    assert_eq!(world.metric("dns_in_flight"), 2, "half, and no more");
    assert_eq!(world.metric("dns_overflow_total"), 4);
    assert!(comes(&world, "192.0.2.66", "s@s.example", "r@y.example").is_deferral());
    robot.quit().expect("a clean end");
}

#[test]
fn one_message_asks_once_for_all_its_recipients() {
    let server = DnsServer::start().expect("a server");
    server.list(ALLOWLIST, &[]);
    let world = World::asking(Policy::default(), allowlisting(&server));
    world.wait_for_source("allowlist", true);
    let before = server.asked();
    let mut mta = named(&world, "192.0.2.7");
    mta.mail("s@s.example").expect("held");
    for number in 0..5 {
        let answer = mta
            .rcpt(&format!("r{number}@y.example"))
            .expect("an answer");
        assert!(answer.is_deferral());
    }
    assert_eq!(world.metric("milter_questions_total"), 1);
    assert_eq!(server.asked() - before, 1);
}

#[test]
fn known_mail_and_exempt_mail_are_not_asked_about() {
    let server = DnsServer::start().expect("a server");
    let world = World::asking(by_spf(), asking(&server));
    world.wait_for_source("spf", true);
    assert!(comes(&world, "192.0.2.7", "s@s.example", "r@y.example").is_deferral());
    world.clock.advance(DELAY);
    assert!(comes(&world, "192.0.2.7", "s@s.example", "r@y.example").is_continue());
    let asked = world.metric("milter_questions_total");
    assert_eq!(asked, 1, "its time had come");
    assert!(comes(&world, "127.0.0.1", "s@s.example", "r@y.example").is_continue());
    assert!(comes(&world, "192.0.2.7", "s@s.example", "r@y.example").is_continue());
    assert_eq!(world.metric("milter_questions_total"), asked);
}

#[test]
fn probe_sender_is_asked_about_when_it_is_judged() {
    let server = DnsServer::start().expect("a server");
    server.list(ALLOWLIST, &[("192.0.2.11", "127.0.5.3")]);
    let world = World::asking(Policy::default(), allowlisting(&server));
    world.wait_for_source("allowlist", true);
    let mut mta = named(&world, "192.0.2.11");
    mta.mail("").expect("held");
    assert!(mta.rcpt("r@y.example").expect("an answer").is_continue());
    assert_eq!(
        world.metric("milter_questions_total"),
        0,
        "it may only probe"
    );
    let answer = mta.data().expect("an answer");
    assert!(!answer.is_deferral(), "{answer:?}");
    assert_eq!(world.metric("milter_questions_total"), 1);
}

#[test]
fn thousand_sessions_before_a_slow_server_are_bounded() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[]);
    let settings = Settings {
        budget: Duration::from_millis(300),
        timeout: Duration::from_millis(600),
        in_flight: 20,
        cache: 100,
        ..blocklisting(&server)
    };
    let world = World::asking(suspicious(), settings);
    world.wait_for_source("blocklist", true);
    server.behave(BLOCKLIST, Manner::Late(Duration::from_millis(200)));
    let mut sessions: Vec<_> = (0..1_000_u32)
        .map(|number| {
            let [.., high, low] = number.to_be_bytes();
            let mut mta = named(&world, &format!("198.18.{high}.{low}"));
            mta.mail("s@s.example").expect("held");
            mta.hold(b'R', b"<r@y.example>\0");
            mta
        })
        .collect();
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::SeqCst) {
                most = most.max(world.metric("dns_in_flight"));
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        let begun = Instant::now();
        for mta in &mut sessions {
            mta.flush().expect("a question");
        }
        for mta in &mut sessions {
            assert!(mta.read_answer().expect("an answer").is_continue());
        }
        let took = begun.elapsed();
        assert!(
            took < Duration::from_mins(1),
            "{took:?}: nobody waits for another"
        );
        is_over.store(true, Ordering::SeqCst);
        watching.join().expect("it only watches")
    });
    assert!(most <= 20, "{most} under way at once");
    assert!(world.metric("dns_overflow_total") > 0);
    assert!(world.metric("dns_cache_entries") <= 100);
}

#[test]
fn session_that_waits_is_drained() {
    let server = DnsServer::start().expect("a server");
    server.list(BLOCKLIST, &[]);
    let world = World::asking(suspicious(), blocklisting(&server));
    world.wait_for_source("blocklist", true);
    server.behave(BLOCKLIST, Manner::Late(Duration::from_millis(300)));
    let mut mta = named(&world, "192.0.2.7");
    mta.mail("s@s.example").expect("held");
    mta.hold(b'R', b"<r@y.example>\0");
    mta.flush().expect("a question");
    world.wait_for_metric("milter_questions_total", 1);
    let draining = thread::spawn(move || world.server.drain());
    assert!(mta.read_answer().expect("an answer").is_continue());
    mta.quit().expect("a clean end");
    draining.join().expect("it drains");
}
