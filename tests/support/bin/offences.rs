//! The scenes of offences: who is struck, and who only looks as if.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use support::error::Error;
use support::interrupt;
use support::postfix::{World, address};
use support::site::Site;
use support::smtp::{Client, Message, Reply};
use support::story::Scene;

use crate::scenes::{AFTER_DELAY, attempt, envelope};

/// Bots, and virtual machines of one cloud: as many as nobody takes for chance.
const HOSTS: u16 = 7;

/// The subject that the site's content filter rejects.
pub(super) const FORBIDDEN: &str = "forbidden";

/// What the site knows of the world for these scenes: bots with unrelated names, and a cloud.
pub(super) fn world() -> World {
    let bots = ["alder", "birch", "cedar", "elm", "fir", "hazel", "larch"];
    let bots = (1..=HOSTS)
        .zip(bots)
        .map(|(number, tree)| (bot(number), format!("mail.{tree}.example")));
    let machines = (1..=HOSTS).map(|number| {
        let name = format!("vm{number}.cloud.example");
        (machine(number), name)
    });
    World {
        names: bots.chain(machines).collect(),
        forbidden_subject: Some(FORBIDDEN.to_owned()),
        ..World::default()
    }
}

/// The addresses that these scenes are played from.
pub(super) fn addresses() -> impl Iterator<Item = String> {
    let hosts = (1..=HOSTS).flat_map(|number| [bot(number), machine(number)]);
    let all = hosts.chain([wrong_number(), spammer()]);
    all.map(|address| format!("{address}/48"))
}

/// A sentence for the bots, each in a network of its own, with a name of its own.
pub(super) fn botnet(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let hosts: Vec<_> = (1..=HOSTS).map(bot).collect();
    let struck = hop(scene, site, &hosts, "mx.botnet.example")?;
    let why =
        site.greygate()
            .run(&["why", &hosts[0].to_string(), "--name", "mail.alder.example"])?;
    scene.saw(format!("greygate why {}:\n{}", hosts[0], why.trim_end()));
    scene.holds(
        "all of them are struck",
        struck == hosts.len(),
        format!("{struck} of {}", hosts.len()),
    )
}

/// The same from one cloud, whose names have one registered domain: it is one sender with many
/// addresses.
pub(super) fn cloud(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let hosts: Vec<_> = (1..=HOSTS).map(machine).collect();
    let struck = hop(scene, site, &hosts, "mx.tenant.example")?;
    scene.holds("none of them is", struck == 0, struck)
}

/// Retries of a message for an unknown recipient, and of one that the content filter has rejected.
pub(super) fn after_rejection(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let caller = site.stranger_at(wrong_number());
    let message = Message::new("sales@pushy.example", "an-offer");
    scene.tries(envelope(caller, &message, "nobody"));
    let mut replies = Vec::new();
    for _ in 0..6 {
        replies.push(
            attempt(caller, &message, &["nobody".to_owned()])?
                .outcome()
                .code,
        );
    }
    let after_five = is_sentenced(site, caller)?;
    let last = attempt(caller, &message, &["nobody".to_owned()])?;
    replies.push(last.outcome().code);
    let after_six = is_sentenced(site, caller)?;
    scene.saw(format!(
        "RCPT {replies:?}; sentenced after 5 retries: {after_five}, after 6: {after_six}"
    ));
    scene.holds(
        "six retries after a 550 at RCPT are an offence, five are not",
        replies.iter().all(|code| *code == 550) && !after_five && after_six,
        last.outcome(),
    )?;

    let spammer = site.stranger_at(spammer());
    let mut message = Message::new("sales@pushier.example", "another-offer");
    FORBIDDEN.clone_into(&mut message.subject);
    let alice = ["alice".to_owned()];
    scene.tries(envelope(spammer, &message, "alice"));
    let first = attempt(spammer, &message, &alice)?;
    scene.saw(first.outcome());
    interrupt::pause(AFTER_DELAY)?;
    let rejected = attempt(spammer, &message, &alice)?;
    scene.saw(format!("after the delay: {}", rejected.outcome()));
    let ip = spammer.source.ip().to_string();
    let bytes = message.text().len().to_string();
    let (from, to) = (message.reverse_path.as_str(), address("alice"));
    let report = ["report", "reject", &ip, from, &to, "--size", &bytes];
    scene.tries(format!("the filter runs greygate {}", report.join(" ")));
    site.greygate().run(&report)?;
    let mut after_five = false;
    for retry in 1..=6 {
        attempt(spammer, &message, &alice)?;
        if retry == 5 {
            after_five = is_sentenced(site, spammer)?;
        }
    }
    let after_six = is_sentenced(site, spammer)?;
    scene.saw(format!(
        "sentenced after 5 retries: {after_five}, after 6: {after_six}"
    ));
    scene.holds(
        "so are six after a rejection at end of message",
        rejected.outcome().code / 100 == 5 && !after_five && after_six,
        rejected.outcome(),
    )
}

/// Lets each of `hosts` try alice under one HELO argument, and says how many are sentenced then.
fn hop(scene: &Scene, site: &Site, hosts: &[IpAddr], helo: &str) -> Result<usize, Error> {
    scene.tries(format!(
        "EHLO {helo} from {} addresses in as many networks, to {}",
        hosts.len(),
        address("alice")
    ));
    let mut replies = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        interrupt::check()?;
        let from = format!("offer{number}@shop{number}.example");
        let message = Message::new(&from, &format!("hop-{number}"));
        let client = site.stranger_at(*host);
        let round = client.attempt_as(helo, &message, &[address("alice")])?;
        replies.push(round.outcome().code);
    }
    let sentenced = site.greygate().sentenced()?;
    let struck = |host: &&IpAddr| sentenced.contains(&format!("{host}/128"));
    let struck = hosts.iter().filter(struck).count();
    scene.saw(format!("replies {replies:?}; {struck} sentenced"));
    Ok(struck)
}

/// Tries `message` each second in one session until the server hangs up. Returns how often it was
/// deferred, and the last reply.
pub(super) fn hammer(
    client: Client<'_>,
    message: &Message,
    mailbox: &str,
) -> Result<(usize, Reply), Error> {
    let mut session = client.open(Duration::from_secs(3))?;
    for deferred in 0..HAMMERING {
        interrupt::check()?;
        let round = session.attempt(message, &[address(mailbox)])?;
        let reply = round.outcome();
        if round.is_closing() {
            return Ok((deferred, reply.clone()));
        }
        if !reply.is_greylisting() {
            return Err(Error::unexpected("every attempt should be deferred", reply));
        }
        interrupt::pause(Duration::from_secs(1))?;
    }
    Err(Error::unexpected("it should be struck by now", HAMMERING))
}

fn is_sentenced(site: &Site, client: Client<'_>) -> Result<bool, Error> {
    let client = format!("{}/128", client.source.ip());
    Ok(site.greygate().sentenced()?.contains(&client))
}

fn bot(number: u16) -> IpAddr {
    host(0xb0 + number)
}

fn machine(number: u16) -> IpAddr {
    host(0xc0 + number)
}

fn wrong_number() -> IpAddr {
    host(0xd1)
}

fn spammer() -> IpAddr {
    host(0xd2)
}

/// A host in a `/64` of its own.
fn host(network: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, 0x25).into()
}

/// More attempts than any strike of the lab's needs.
const HAMMERING: usize = 15;
