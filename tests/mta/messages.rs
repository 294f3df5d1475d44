//! What a message may look like whose content decides: large, in chunks, or without a body.

use std::time::Duration;

use support::Error;
use support::interrupt;
use support::pool::{self, Pool};
use support::postfix::address;
use support::site::{Plan, Site};
use support::smtp::{Client, Message, Reply, Session};

use crate::{headers, send, start};

const PATIENCE: Duration = Duration::from_secs(3);

/// A moment more than both delays of [`plan`].
const INTERVAL: Duration = Duration::from_millis(2_300);

#[test]
fn message_of_20_megabytes_is_known_again_and_takes_no_memory() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan())?;
    let site = &turn.site;
    let mut pool = Pool::new(site);
    let mut message = Message::new("bob@pool.example", "a-large-message");
    let line = format!("{}\r\n", "x".repeat(76));
    message.body = line.repeat(20_000_000 / line.len());
    roam(&mut pool, &message)?;
    let before = peak(site)?;
    let mut other = message.clone();
    other.body.replace_range(10_000_000..=10_000_000, "y");

    let first = send(pool.turn(), &message, &["alice"])?;
    assert!(is_deferred_at_end(first.end.as_ref()), "{first:?}");
    interrupt::pause(INTERVAL)?;
    let changed = send(pool.turn(), &other, &["alice"])?;
    assert!(
        is_deferred_at_end(changed.end.as_ref()),
        "another: {changed:?}"
    );
    let same = send(pool.turn(), &message, &["alice"])?;
    assert!(same.is_queued(), "{same:?}");
    let grown = peak(site)?.saturating_sub(before);
    eprintln!("three times 20 MB; the daemon's peak of memory grew by {grown} kB");
    assert!(grown < 4_000, "{grown} kB");
    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    assert!(delivered.len() > 19_000_000, "{}", delivered.len());
    Ok(())
}

/// The body is the same, however it is carried.
#[test]
fn message_that_comes_again_in_chunks_passes() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan())?;
    let site = &turn.site;
    let mut pool = Pool::new(site);
    let mut message = Message::new("bob@pool.example", "a-message");
    message.body = "One line.\r\n..Another, that begins with two dots.".to_owned();
    roam(&mut pool, &message)?;
    let first = chunked(pool.turn(), &message, 7)?;
    assert!(first.is_greylisting(), "{first}");
    interrupt::pause(INTERVAL)?;
    // A dot at the beginning of a line is doubled after DATA, and not in a chunk.
    let mut stuffed = message.clone();
    stuffed.body = message.body.replace("\r\n.", "\r\n..");
    let again = send(pool.turn(), &stuffed, &["alice"])?;
    assert!(again.is_queued(), "{again:?}");
    let delivered = site.postfix().wait_for_delivery("alice", &message.id)?;
    assert!(headers(&delivered, "X-Greylist")[0].ends_with("passed by content"));
    assert!(delivered.contains("\n..Another"), "{delivered}");
    Ok(())
}

#[test]
fn bounce_in_chunks_is_deferred_and_delivered() -> Result<(), Error> {
    support::needs!(crate::equipment());
    for mode in ["envelope", "hybrid"] {
        let turn = start(&Plan {
            tweaks: format!("[greylist]\nmode = \"{mode}\"\n{DELAYS}"),
            ..Plan::default()
        })?;
        let site = &turn.site;
        let bounce = Message::new("", "a-bounce");
        let first = chunked(site.client(), &bounce, 3)?;
        assert!(first.is_greylisting(), "{mode}: {first}");
        interrupt::pause(INTERVAL)?;
        let again = chunked(site.client(), &bounce, 2)?;
        assert!(again.is_positive(), "{mode}: {again}");
        site.postfix().wait_for_delivery("alice", &bounce.id)?;
    }
    Ok(())
}

/// Then the envelope decides alone: from one network after the delay, from many never sooner.
#[test]
fn message_without_a_body_passes_by_its_envelope() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&plan())?;
    let site = &turn.site;
    let mut pool = Pool::new(site);
    let text = "From: <bob@pool.example>\r\nMessage-ID: <no-body@pool.example>\r\n\r\n";
    let (one, other) = (pool.turn(), pool.turn());
    let first = whole(one, text)?;
    assert!(first.is_greylisting(), "{first}");
    interrupt::pause(INTERVAL)?;
    for stranger in [other, pool.turn()] {
        let reply = whole(stranger, text)?;
        assert!(reply.is_greylisting(), "nothing is proven: {reply}");
    }
    interrupt::pause(INTERVAL)?;
    let again = whole(other, text)?;
    assert!(again.is_positive(), "its own tuple has waited: {again}");
    let delivered = site
        .postfix()
        .wait_for_delivery("alice", "no-body@pool.example")?;
    let header = headers(&delivered, "X-Greylist").join("\n");
    assert!(header.ends_with("passed by tuple"), "{header}");
    Ok(())
}

/// Makes the pair of a message known, so that the next address of the pool is taken for a roaming
/// retry.
fn roam(pool: &mut Pool<'_>, message: &Message) -> Result<(), Error> {
    let mut client = pool.turn().open(PATIENCE)?;
    client.command(&format!("MAIL FROM:<{}>", message.reverse_path))?;
    let reply = client.command(&format!("RCPT TO:<{}>", address("alice")))?;
    assert!(reply.is_greylisting(), "{reply}");
    client.quit()?;
    interrupt::pause(INTERVAL)
}

/// Sends a message by BDAT, in so many chunks; the reply that ended it.
fn chunked(client: Client<'_>, message: &Message, chunks: usize) -> Result<Reply, Error> {
    let mut session = client.open(PATIENCE)?;
    let reply = envelope(&mut session, &message.reverse_path)?;
    assert!(reply.is_positive(), "{reply}");
    let text = message.text();
    let size = text.len().div_ceil(chunks);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        let last = if left.is_empty() { " LAST" } else { "" };
        let reply = session.exchange(&format!("BDAT {}{last}\r\n{chunk}", chunk.len()))?;
        if !reply.is_positive() || left.is_empty() {
            session.quit()?;
            return Ok(reply);
        }
        rest = left;
    }
    Err(Error::unexpected("there should be a text", text))
}

/// Sends a text as it is; the reply that ended it.
fn whole(client: Client<'_>, text: &str) -> Result<Reply, Error> {
    let mut session = client.open(PATIENCE)?;
    let mut reply = envelope(&mut session, "bob@pool.example")?;
    if reply.is_positive() {
        reply = session.command("DATA")?;
    }
    if reply.code == 354 {
        reply = session.command(&format!("{text}."))?;
    }
    session.quit()?;
    Ok(reply)
}

/// MAIL and RCPT to alice; the last reply.
fn envelope(session: &mut Session, reverse_path: &str) -> Result<Reply, Error> {
    session.command(&format!("MAIL FROM:<{reverse_path}>"))?;
    Ok(session.command(&format!("RCPT TO:<{}>", address("alice")))?)
}

fn is_deferred_at_end(end: Option<&Reply>) -> bool {
    end.is_some_and(Reply::is_greylisting)
}

/// The most memory that the daemon ever had resident, in kilobytes.
fn peak(site: &Site) -> Result<u64, Error> {
    let pid = site.greygate().pid().expect("it runs");
    let file = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&file).map_err(Error::io(format!("reading {file}")))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    peak.and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| Error::unexpected("there should be a VmHWM", status))
}

fn plan() -> Plan {
    Plan {
        strangers: pool::addresses().collect(),
        tweaks: format!("[greylist]\n{DELAYS}"),
        ..Plan::default()
    }
}

const DELAYS: &str = "delay = \"2s\"\n[content]\ndelay = \"1s\"\n";
