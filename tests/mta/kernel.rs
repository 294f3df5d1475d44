//! From a real Postfix session to a dropped packet.

use std::path::Path;
use std::time::Duration;

use support::Error;
use support::interrupt;
use support::postfix;
use support::requirements;
use support::site::{Plan, Site};
use support::smtp::{Client, Message};

use crate::{SHORT_DELAY, deliver, start};

/// Five retries of one message within two seconds are an offence here, and judged from the start.
const STRICT: &str = "[punish]\nrapid_retries = 5\nrapid_span = \"1s\"\nrapid_interval = \"5s\"\n\
     grace = \"0s\"\nwarmup = \"0s\"\n";

/// Shorter than the second after which a SYN is sent again, with some room.
const PATIENCE: Duration = Duration::from_millis(900);

#[test]
fn drops_the_connections_of_a_client_that_hammers() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let mut turn = start(&Plan {
        kernel: true,
        tweaks: STRICT.to_owned(),
        ..Plan::default()
    })?;
    let site = &mut turn.site;
    let message = Message::new("mallory@hammer.example", "a-hammered-message");
    let attempts = hammer(site.stranger(), &message)?;
    assert!(attempts > 10, "struck twice within {attempts} attempts");
    assert!(is_served(site.neighbour())?, "a sentence is one address");
    assert!(is_served(site.client())?);

    // The store remembers the sentence, and the kernel's tables are made from it again.
    site.stop_greygate()?;
    site.resume_greygate()?;
    wait_until_served(site, false)?;

    let forgiven = site.stranger().source.ip().to_string();
    site.greygate().run(&["forgive", &forgiven])?;
    wait_until_served(site, true)
}

#[test]
fn drops_an_ipv6_address_and_neither_its_neighbour_nor_the_same_host_over_ipv4() -> Result<(), Error>
{
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        tweaks: STRICT.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let message = Message::new("mallory@hammer.example", "a-hammered-message");
    hammer(site.stranger_v6(), &message)?;
    assert_eq!(site.greygate().sentenced()?, ["2001:db8:1:1::10/128"]);
    assert!(is_served(site.neighbour_v6())?, "a sentence is one address");
    assert!(is_served(site.stranger())?);
    Ok(())
}

/// An established session is none of the kernel's business. The milter ends it, and says why.
#[test]
fn session_that_is_open_is_told_421_and_the_next_one_does_not_come_about() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        tweaks: SHORT_DELAY.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    let known = Message::new("bob@sender.example", "a-message");
    deliver(site.stranger(), &known, &["alice"])?;
    let mut session = site.stranger().open(PATIENCE)?;
    let address = site.stranger().source.ip().to_string();
    site.greygate().run(&["punish", &address, "--for", "5m"])?;
    wait_until_served(site, false)?;
    session.command("MAIL FROM:<bob@sender.example>")?;
    let reply = session.command(&format!("RCPT TO:<{}>", postfix::address("alice")))?;
    assert_eq!(reply.code, 421, "{reply}");
    assert!(!is_served(site.stranger())?, "the next one is a new one");
    Ok(())
}

#[test]
fn mail_flows_without_the_object_and_status_says_so() -> Result<(), Error> {
    support::needs!(crate::equipment());
    mail_flows_although(Path::new("/nonexistent.o"), "mx0", "/nonexistent.o")
}

#[test]
fn mail_flows_without_the_interface_and_status_says_so() -> Result<(), Error> {
    let ((), object) = support::needs!(crate::equipment(), requirements::xdp_object());
    mail_flows_although(&object, "mx9", "mx9")
}

fn mail_flows_although(object: &Path, interface: &str, why: &str) -> Result<(), Error> {
    let object = object.display();
    let xdp = format!("[xdp]\ninterfaces = [\"{interface}\"]\nobject = \"{object}\"\n");
    let turn = start(&Plan {
        tweaks: xdp + SHORT_DELAY,
        ..Plan::default()
    })?;
    let site = &turn.site;
    let message = Message::new("bob@sender.example", "a-message");
    deliver(site.client(), &message, &["alice"])?;
    site.postfix().wait_for_delivery("alice", &message.id)?;
    let status = site.greygate().run(&["xdp", "status"])?;
    assert!(status.contains(why), "{status}");
    let status = site.greygate().ask(&["status"])?;
    let complaints = status["health"]["complaints"].to_string();
    assert!(complaints.contains(why), "{status}");
    Ok(())
}

#[test]
fn an_operator_punishes_and_forgives() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        ..Plan::default()
    })?;
    let site = &turn.site;
    let address = site.stranger().source.ip().to_string();
    site.greygate().run(&["punish", &address, "--for", "5m"])?;
    wait_until_served(site, false)?;
    site.greygate().run(&["forgive", &address])?;
    wait_until_served(site, true)
}

/// The network holds the stranger, the neighbour and the MX itself.
#[test]
fn an_operator_punishes_a_network_and_forgives_one_address_of_it() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        ..Plan::default()
    })?;
    let site = &turn.site;
    let network = "198.51.100.0/24";
    let refused = site.greygate().run(&["punish", network]);
    let refused = refused.expect_err("the MX lies in it").chain();
    assert!(refused.contains("insist with --force"), "{refused}");
    let answer = site
        .greygate()
        .run(&["punish", network, "--force", "--for", "5m"])?;
    assert!(answer.contains("198.51.100.1/32 (this host)"), "{answer}");
    wait_until_served(site, false)?;
    assert!(!is_served(site.neighbour())?, "the sentence is a network");
    assert!(is_served(site.client())?);
    let forgiven = site.stranger().source.ip().to_string();
    let answer = site.greygate().run(&["forgive", &forgiven])?;
    assert!(answer.contains("the sentence of 198.51.100.0/24 is lifted"));
    wait_until_served(site, true)?;
    assert!(is_served(site.neighbour())?);
    Ok(())
}

#[test]
fn a_reload_that_allows_a_client_wins_over_an_operators_sentence() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        ..Plan::default()
    })?;
    let site = &turn.site;
    let address = site.stranger().source.ip().to_string();
    site.greygate().run(&["punish", &address, "--for", "5m"])?;
    wait_until_served(site, false)?;
    let allow = format!("[lists]\nallow = [\"{address}\"]\n");
    site.greygate().reload(&[&allow])?;
    // Far less than the minute that a comparison comes after by itself.
    wait_until_served(site, true)?;
    assert_eq!(site.greygate().sentenced()?, [address.as_str()]);
    let answer = site.greygate().run(&["punish", &address, "--force"])?;
    let line = format!("{address}/32 ([lists] allow) always passes");
    assert!(answer.contains(&line), "{answer}");
    Ok(())
}

#[test]
fn a_client_at_level_rate_is_left_a_few_connections() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        ..Plan::default()
    })?;
    let site = &turn.site;
    let address = site.stranger().source.ip().to_string();
    let answer = site
        .greygate()
        .run(&["punish", &address, "--level", "rate", "--for", "5m"])?;
    assert!(answer.contains("at level rate"), "{answer}");
    let entry = || {
        let status = site.greygate().ask(&["xdp", "status"])?;
        let written = status["filter"]["entries_ipv4"].as_u64();
        Ok((written == Some(1)).then_some(()))
    };
    interrupt::wait_for("the sentence in the kernel", PATIENCE * 10, entry)?;
    let mut served = 0;
    while is_served(site.stranger())? {
        served += 1;
        assert!(served < 20, "it is never limited");
    }
    // A burst of eight; a ninth may have come when a quarter of a minute had passed.
    assert!((8..=9).contains(&served), "{served} connections");
    assert!(is_served(site.neighbour())?);
    Ok(())
}

#[test]
fn different_mails_of_one_sender_are_no_offence() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let turn = start(&Plan {
        kernel: true,
        tweaks: STRICT.to_owned(),
        ..Plan::default()
    })?;
    let site = &turn.site;
    for number in 1..=10_usize {
        let mut message = Message::new("alert@monitor.example", &format!("alert-{number}"));
        message.body = "!".repeat(number);
        let mut session = site.stranger().open(PATIENCE)?;
        let round = session.attempt(&message, &[postfix::address("alice")])?;
        assert!(round.outcome().is_greylisting(), "{round:?}");
        interrupt::pause(Duration::from_millis(300))?;
    }
    assert!(is_served(site.stranger())?);
    assert_eq!(site.greygate().sentenced()?, Vec::<String>::new());
    Ok(())
}

/// Retries `message` until no connection comes about; how many attempts were answered. The first
/// strike leaves a burst of eight connections, and they earn the second, which blocks.
fn hammer(client: Client<'_>, message: &Message) -> Result<u32, Error> {
    for attempts in 0..20 {
        match client.open(PATIENCE) {
            Ok(mut session) => {
                let round = session.attempt(message, &[postfix::address("alice")])?;
                assert!(round.outcome().is_greylisting(), "{round:?}");
                session.quit()?;
            }
            Err(error) if error.is_connect_timeout() => return Ok(attempts),
            Err(error) => return Err(error.into()),
        }
        interrupt::pause(Duration::from_millis(300))?;
    }
    Err(Error::unexpected(
        "twenty retries should be enough",
        "it is still served",
    ))
}

fn wait_until_served(site: &Site, wanted: bool) -> Result<(), Error> {
    let what = format!("served = {wanted}");
    let seen = || Ok((is_served(site.stranger())? == wanted).then_some(()));
    interrupt::wait_for(&what, Duration::from_secs(10), seen).map_err(|error| {
        let status = site.greygate().run(&["xdp", "status", "--json"]);
        let status = status.unwrap_or_else(|error| error.chain());
        let log = site.greygate().log();
        Error::unexpected(error.chain(), format!("{status}\n{log}"))
    })
}

fn is_served(client: Client<'_>) -> Result<bool, Error> {
    match client.connect(PATIENCE) {
        Ok(_) => Ok(true),
        Err(error) if error.is_connect_timeout() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
