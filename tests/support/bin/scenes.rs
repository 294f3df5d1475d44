//! The scenes of the lab: each tries one thing and looks at what became of it.
//!
//! They are played in the order of the story: later ones count on what earlier ones left, such as
//! the stranger's sentence.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::error::Error;
use support::interrupt;
use support::postfix::address;
use support::site::Site;
use support::smtp::{Client, Message, Round};
use support::story::Scene;

use crate::offences;

/// The `delay` of the configuration, and a moment more.
pub(super) const AFTER_DELAY: Duration = Duration::from_millis(8_300);

/// Between two retries of the client that hammers, and between two of the ten mails.
const SECOND: Duration = Duration::from_secs(1);

/// How long a connection may take. A dropped SYN is sent again after 1 s, so a client that is not
/// served is dropped twice in this time.
const PATIENCE: Duration = Duration::from_millis(1_500);

pub(super) fn first_attempt(
    scene: &mut Scene,
    site: &Site,
    message: &Message,
) -> Result<(), Error> {
    scene.tries(envelope(site.client(), message, "alice"));
    let round = attempt(site.client(), message, &["alice".to_owned()])?;
    let reply = round.outcome();
    scene.saw(reply);
    scene.holds("deferred with 451 4.7.1", reply.is_greylisting(), reply)
}

pub(super) fn retry(scene: &mut Scene, site: &Site, message: &Message) -> Result<(), Error> {
    scene.tries(format!(
        "the same, {:.1} s later",
        AFTER_DELAY.as_secs_f32()
    ));
    interrupt::pause(AFTER_DELAY)?;
    let round = attempt(site.client(), message, &["alice".to_owned()])?;
    scene.saw(round.outcome());
    scene.holds("queued", round.is_queued(), round.outcome())?;
    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    let header = delivered
        .lines()
        .find(|line| line.starts_with("X-Greylist:"));
    scene.saw(format!(
        "in alice's mailbox: {}",
        header.unwrap_or("no X-Greylist header")
    ));
    scene.holds(
        "delivered, with the X-Greylist header",
        header.is_some(),
        delivered.trim(),
    )
}

/// Returns the message that was hammered with.
pub(super) fn hammering(scene: &mut Scene, site: &Site) -> Result<Message, Error> {
    let stranger = site.stranger();
    let message = Message::new("mallory@hammer.example", "a-hammered-message");
    scene.tries(format!(
        "{}, SIZE={}, every second",
        envelope(stranger, &message, "alice"),
        message.text().len()
    ));
    let (deferred, reply) = offences::hammer(stranger, &message, "alice")?;
    scene.saw(format!("451 4.7.1 to {deferred} attempts, then {reply}"));
    let levels = site.greygate().levels()?;
    scene.holds(
        "the first strike: its session is ended with a contact, its new connections are limited",
        deferred > 5 && reply.code == 421 && levels == ["rate"],
        format!("{deferred} deferred, {reply}, {levels:?}"),
    )?;
    scene.tries("another session, as fast, for another recipient");
    let again = Message::new("mallory@hammer.example", "a-message-as-hammered");
    let (deferred, reply) = offences::hammer(stranger, &again, "oncall")?;
    scene.saw(format!("451 4.7.1 to {deferred} attempts, then {reply}"));
    let levels = site.greygate().levels()?;
    scene.holds(
        "the second strike: it is blocked",
        deferred > 5 && reply.code == 421 && levels == ["block"],
        format!("{deferred} deferred, {reply}, {levels:?}"),
    )?;

    let seen = || {
        let frames = site.greygate().dropped_frames()?;
        Ok::<_, Error>((sessions_from(site, stranger), frames))
    };
    let before = seen()?;
    for _ in 0..2 {
        must_time_out(stranger)?;
        interrupt::pause(SECOND)?;
    }
    let after = seen()?;
    let (sessions, frames) = (after.0 - before.0, after.1 - before.1);
    scene.saw(format!(
        "two more tries: connection timed out; {sessions} sessions in Postfix's log, {frames} frames dropped"
    ));
    let status = site.greygate().ask(&["xdp", "status"])?;
    scene.saw(format!("greygate xdp status: {}", summary(&status)));
    let sentenced = site.greygate().sentenced()?;
    scene.holds(
        "its connections are dropped in the kernel, Postfix does not see them",
        sessions == 0 && frames >= 2 && sentenced == [stranger.source.ip().to_string()],
        format!("{sessions} sessions, {frames} frames, {sentenced:?}"),
    )?;
    Ok(message)
}

pub(super) fn ten_mails(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let client = site.client();
    scene.tries(format!(
        "ten alerts of different size, one a second, alert@monitor.example -> {}",
        address("oncall")
    ));
    let sentences = site.greygate().sentenced()?;
    let mut outcomes = BTreeMap::new();
    for number in 1..=10 {
        let mut message = Message::new("alert@monitor.example", &format!("alert-{number}"));
        message.body.push_str(&"!".repeat(number));
        let round = attempt(client, &message, &["oncall".to_owned()])?;
        *outcomes.entry(round.outcome().code).or_insert(0) += 1;
        interrupt::pause(SECOND)?;
    }
    let still_served = client.open(PATIENCE).is_ok();
    let now = site.greygate().sentenced()?;
    scene.saw(format!(
        "replies {outcomes:?}; sentences before {}, after {}",
        sentences.len(),
        now.len()
    ));
    let early = outcomes.get(&451).copied().unwrap_or_default();
    scene.holds(
        "nobody is sentenced for different mails",
        still_served && now == sentences && early > 5,
        format!("{outcomes:?}, {now:?}"),
    )
}

pub(super) fn others_are_served(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    must_time_out(site.stranger())?;
    scene.saw(format!(
        "{}: connection timed out",
        site.stranger().source.ip()
    ));
    let message = Message::new("bob@sender.example", "another-message");
    scene.tries(envelope(site.client(), &message, "alice"));
    let known = attempt(site.client(), &message, &["alice".to_owned()])?;
    scene.saw(known.outcome());
    let message = Message::new("carol@neighbour.example", "a-message-from-next-door");
    scene.tries(envelope(site.neighbour(), &message, "alice"));
    let neighbour = attempt(site.neighbour(), &message, &["alice".to_owned()])?;
    scene.saw(neighbour.outcome());
    scene.holds(
        "a known client passes at once, the neighbour is greylisted like anybody",
        known.is_queued() && neighbour.outcome().is_greylisting(),
        format!("{} and {}", known.outcome(), neighbour.outcome()),
    )
}

pub(super) fn other_port(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let shell = SocketAddr::from(([198, 51, 100, 1], 22));
    let listener = site.mx().run(|| TcpListener::bind(shell));
    let listener = listener.map_err(Error::io(format!("listening on {shell}")))?;
    let client = Client {
        server: shell,
        ..site.stranger()
    };
    scene.tries(format!(
        "{} -> port 22, and port 25 at the same moment",
        client.source.ip()
    ));
    let mut stream = client.connect(PATIENCE)?;
    let io = |source| Error::io(format!("talking to {shell}"))(source);
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    let (mut served, peer) = listener.accept().map_err(io)?;
    served.write_all(b"SSH-2.0-lab\r\n").map_err(io)?;
    drop(served);
    let mut banner = String::new();
    stream.read_to_string(&mut banner).map_err(io)?;
    scene.saw(format!("port 22: {:?} to {}", banner.trim(), peer.ip()));
    must_time_out(site.stranger())?;
    scene.saw("port 25: connection timed out");
    scene.holds(
        "only mail is refused",
        banner == "SSH-2.0-lab\r\n",
        banner.trim(),
    )
}

pub(super) fn forgive(scene: &mut Scene, site: &Site, message: &Message) -> Result<(), Error> {
    let stranger = site.stranger();
    let ip = stranger.source.ip().to_string();
    scene.tries(format!("greygate forgive {ip}"));
    scene.saw(site.greygate().run(&["forgive", &ip])?.trim());
    // The kernel follows the store through a channel, within a moment.
    let began = Instant::now();
    interrupt::wait_for(
        "a connection of the forgiven client",
        Duration::from_secs(10),
        || match stranger.connect(PATIENCE) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.is_connect_timeout() => Ok(None),
            Err(error) => Err(error.into()),
        },
    )?;
    scene.saw(format!("a connection after {:.1?}", began.elapsed()));
    let round = attempt(stranger, message, &["alice".to_owned()])?;
    let reply = round.outcome();
    scene.saw(reply);
    let served = reply.is_positive() || reply.is_greylisting();
    scene.holds(
        "it is served again",
        served && site.greygate().sentenced()?.is_empty(),
        reply,
    )
}

pub(super) fn restart(scene: &mut Scene, site: &mut Site) -> Result<(), Error> {
    scene.tries("SIGTERM, then greygate serve again");
    let before = site.greygate().tuples()?;
    site.stop_greygate()?;
    site.resume_greygate()?;
    let after = site.greygate().tuples()?;
    scene.saw(format!("{before} tuples before, {after} after"));
    let message = Message::new("bob@sender.example", "a-message-after-the-restart");
    scene.tries(envelope(site.client(), &message, "alice"));
    let round = attempt(site.client(), &message, &["alice".to_owned()])?;
    scene.saw(round.outcome());
    scene.holds(
        "tuples are remembered: what passed before passes at once",
        round.is_queued() && before > 0 && before == after,
        round.outcome(),
    )
}

pub(super) fn attempt(
    client: Client<'_>,
    message: &Message,
    to: &[String],
) -> Result<Round, Error> {
    interrupt::check()?;
    let recipients: Vec<_> = to.iter().map(|mailbox| address(mailbox)).collect();
    let mut round = client.attempt(message, &recipients)?;
    // Mailboxes are what the story speaks of.
    for (recipient, _) in &mut round.recipients {
        if let Some((mailbox, _)) = recipient.split_once('@') {
            *recipient = mailbox.to_owned();
        }
    }
    Ok(round)
}

fn must_time_out(client: Client<'_>) -> Result<(), Error> {
    interrupt::check()?;
    match client.connect(PATIENCE) {
        Err(error) if error.is_connect_timeout() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Error::unexpected(
            "a sentenced client should get no connection",
            format!("{} got one", client.source.ip()),
        )),
    }
}

pub(super) fn envelope(client: Client<'_>, message: &Message, mailbox: &str) -> String {
    let Message {
        reverse_path, id, ..
    } = message;
    let recipient = address(mailbox);
    let ip = client.source.ip();
    let from = if reverse_path.is_empty() {
        "<>"
    } else {
        reverse_path
    };
    format!("{from} -> {recipient} from {ip}, Message-ID {id}")
}

/// What `greygate xdp status` says, without what the kernel counted nothing for.
fn summary(status: &Value) -> String {
    let frames = status["filter"]["frames"].as_object();
    let counted = frames.into_iter().flatten();
    let counted: Vec<_> = counted
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let sentences = &status["sentences"];
    format!("sentences {sentences}, frames: {}", counted.join(", "))
}

/// How many SMTP sessions of this client Postfix has seen.
fn sessions_from(site: &Site, client: Client<'_>) -> usize {
    let mark = format!(": connect from unknown[{}]", client.source.ip());
    site.postfix().log().matches(&mark).count()
}
