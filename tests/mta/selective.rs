//! Selective greylisting through a real Postfix: its names of clients, and a DNS server that lists some
//! of them, until it falls silent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use support::Error;
use support::dns::{DnsServer, Manner};
use support::interrupt;
use support::postfix::{World, address};
use support::site::{Plan, Site};
use support::smtp::{Client, Message, Round};

use crate::{deliver, headers, start};

const BLOCKLIST: &str = "block.example";

/// Where the DNS server of the MX host listens.
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353);

const TWEAKS: &str = r#"
[greylist]
delay = "2s"
who = "suspicious"
[dns]
servers = ["127.0.0.1:5353"]
blocklists = ["block.example"]
budget = "2s"
pause = "100ms"
"#;

#[test]
fn only_suspicious_mail_waits_and_mail_flows_when_the_dns_is_dead() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let named = |address: &str, name: &str| {
        let address = address.parse().expect("an address");
        (address, name.to_owned())
    };
    let turn = start(&Plan {
        world: World {
            mailboxes: vec!["alice".to_owned()],
            names: vec![
                named("198.51.100.10", "mail.sender.example"),
                named("198.51.100.11", "mail.listed.example"),
                named("203.0.113.10", "mail.other.example"),
            ],
            ..World::default()
        },
        strangers: vec!["203.0.113.10/24".to_owned()],
        tweaks: TWEAKS.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    site.mx()
        .ip(&["addr", "add", "203.0.113.1/24", "dev", "mx1"])?;
    let server = site.mx().run(|| DnsServer::at(DNS));
    let server = server.map_err(Error::io("starting a DNS server"))?;
    server.list(BLOCKLIST, &[("198.51.100.11", "127.0.0.4")]);
    wait_for_blocklist(site)?;

    // Nobody doubts it.
    let code = Message::new("login@sender.example", "a-code");
    let round = greets(site.stranger(), "mail.sender.example", &code)?;
    assert!(round.is_queued(), "{round:?}");
    let delivered = site.postfix().wait_for_delivery("alice", &code.id)?;
    assert!(headers(&delivered, "X-Greylist").is_empty(), "{delivered}");
    assert_eq!(site.greygate().tuples()?, 0, "nothing is remembered of it");

    // A good name, on a blocklist; and the same host as it calls itself by a name of nobody's.
    let listed = Message::new("login@listed.example", "from-a-listed-host");
    let round = greets(site.neighbour(), "mail.listed.example", &listed)?;
    assert!(round.outcome().is_greylisting(), "{round:?}");
    let robot = Message::new("robot@sender.example", "from-a-robot");
    let round = greets(site.stranger(), "localhost", &robot)?;
    assert!(round.outcome().is_greylisting(), "{round:?}");

    // No name at all: deferred until its time, then delivered.
    let nameless = Message::new("bob@nameless.example", "from-no-name");
    let rounds = deliver(site.client(), &nameless, &["alice"])?;
    assert!(rounds.len() > 1, "{rounds:?}");
    site.postfix().wait_for_delivery("alice", &nameless.id)?;

    // The server falls silent: whom it was not asked about yet is judged without it, and it is said.
    server.behave("", Manner::Silent);
    let other = Client {
        server: ([203, 0, 113, 1], 25).into(),
        ..site.stranger_at([203, 0, 113, 10].into())
    };
    let asked = server.asked_below(BLOCKLIST);
    let flows = Message::new("login@other.example", "mail-flows");
    let round = greets(other, "mail.other.example", &flows)?;
    assert!(round.is_queued(), "{round:?}");
    assert!(server.asked_below(BLOCKLIST) > asked, "it was asked");
    let unanswered = site
        .greygate()
        .metric(site.mx(), "greygate_dns_late_total")?;
    assert!(unanswered >= 1.0, "{unanswered}");
    site.postfix().wait_for_delivery("alice", &flows.id)?;
    Ok(())
}

/// What a message to alice hears of whom greets as `helo`.
fn greets(client: Client<'_>, helo: &str, message: &Message) -> Result<Round, Error> {
    interrupt::check()?;
    Ok(client.attempt_as(helo, message, &[address("alice")])?)
}

/// Waits until `greygate status` says that the blocklist is asked.
fn wait_for_blocklist(site: &Site) -> Result<(), Error> {
    interrupt::wait_for("word of the blocklist", Duration::from_secs(15), || {
        let status = site.greygate().ask(&["status"])?;
        let sources = status["evidence"]["sources"].as_array();
        let blocklist = sources.and_then(|it| it.iter().find(|it| it["kind"] == "blocklist"));
        let is_up = blocklist.and_then(|it| it["up"].as_bool());
        Ok((is_up == Some(true)).then_some(()))
    })
}
