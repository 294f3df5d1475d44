//! The load: many senders at once, and an operator who sentences and asks.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    books::Count,
    chance::Chance,
    chronicle::{Excuse, Known, Span},
    sender::{Desk, Sender, check_broken_off, check_lost, survived},
    visit::{Fate, Visit},
};

/// Ends every loop of the load.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    flag: AtomicBool,
    next_sender: AtomicU32,
}

impl Stop {
    pub(crate) fn now(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// Senders one after the other and many under way at once, until it is time to stop.
pub(crate) fn senders(desk: Desk<'_>, stop: &Stop, mut chance: Chance) {
    let mut under_way: Vec<Sender> = Vec::new();
    while !stop.is_set() {
        let now = Instant::now();
        let due = under_way.iter().position(|sender| sender.due <= now);
        match due {
            Some(index) => {
                let mut sender = under_way.swap_remove(index);
                sender.send(desk, &mut chance);
                if !sender.is_done() {
                    under_way.push(sender);
                }
            }
            None if under_way.len() < UNDER_WAY => {
                let number = stop.next_sender.fetch_add(1, Ordering::Relaxed);
                under_way.push(Sender::new(number, &mut chance));
                // Arrivals are spread, as strangers' are.
                thread::sleep(Duration::from_millis(chance.within(0..8)));
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The daemon's own command line, as an operator has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) socket: &'a Path,
    pub(crate) metrics: SocketAddr,
}

impl Door<'_> {
    /// Asks the control socket; what it printed, if it was answered.
    pub(crate) fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(self.binary)
            .args(arguments)
            .arg("--socket")
            .arg(self.socket)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    /// What the metrics endpoint says, whole.
    pub(crate) fn scrape(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.metrics, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text.starts_with("HTTP/1.1 200 ") && text.trim_end().ends_with("# EOF") {
            return Ok(text);
        }
        Err(io::Error::other("the metrics were cut short"))
    }
}

/// Somebody asks for the status and the metrics all the time.
pub(crate) fn readers(desk: Desk<'_>, door: Door<'_>, stop: &Stop) {
    while !stop.is_set() {
        let from = Instant::now();
        let status = door.ask(&["status", "--json"]).map(drop);
        expect_answer(desk, from, "status", status);
        for _ in 0..5 {
            let from = Instant::now();
            let scraped = door.scrape().map(drop);
            expect_answer(desk, from, "metrics", scraped);
            thread::sleep(Duration::from_millis(40));
        }
    }
}

/// An operator sentences clients; who is sentenced stays so.
pub(crate) fn operator(desk: Desk<'_>, door: Door<'_>, stop: &Stop, mut chance: Chance) {
    let mut sentenced: Vec<(IpAddr, Known)> = Vec::new();
    let mut next = 0_u32;
    while !stop.is_set() {
        let address = IpAddr::V4(Ipv4Addr::from((21 << 24) | (next << 8) | 7));
        next += 1;
        let from = Instant::now();
        let ordered = door.ask(&["punish", &address.to_string(), "--for", "7d"]);
        if ordered.is_ok() {
            sentenced.push((address, Known::at(Instant::now())));
        }
        expect_answer(desk, from, "punish", ordered.map(drop));
        for _ in 0..4 {
            if sentenced.is_empty() || stop.is_set() {
                break;
            }
            // The latest more often: it is what a kill may take.
            let index = if chance.percent(50) {
                sentenced.len() - 1
            } else {
                chance.index(sentenced.len())
            };
            let (client, known) = &mut sentenced[index];
            if !is_turned_away(desk, *client, known) {
                sentenced.swap_remove(index);
            }
            thread::sleep(Duration::from_millis(chance.within(20..120)));
        }
    }
}

/// Whether a client that was sentenced is turned away; where the session broke off, it counts as if.
fn is_turned_away(desk: Desk<'_>, client: IpAddr, known: &mut Known) -> bool {
    let visit = Visit {
        client,
        helo: "mail.sentenced.example",
        sender: "someone@sentenced.example",
        recipients: vec!["r@here.example"],
        message: "sentenced",
    };
    let from = Instant::now();
    let fates = visit.make(desk.endpoint);
    let span = Span::since(from);
    match fates.as_deref() {
        Ok([Fate::TurnedAway]) => {
            desk.books.count(Count::TurnedAway);
            survived(desk, *known, span);
            known.seen = span.from;
            true
        }
        Ok(_) => {
            check_lost(desk, *known, span, &format!("sentence of {client}"));
            false
        }
        Err(error) => {
            check_broken_off(desk, span, error, &client.to_string());
            true
        }
    }
}

fn expect_answer(desk: Desk<'_>, from: Instant, what: &str, answer: io::Result<()>) {
    desk.books.count(Count::Requests);
    let span = Span::since(from);
    if let Err(error) = answer
        && !desk.chronicle.excuses(Excuse::Away, span)
    {
        let what = format!("{what} was not answered: {error}");
        desk.books.violate(desk.chronicle, span.end(), &what);
    }
}

/// Senders that one thread has under way at most.
const UNDER_WAY: usize = 120;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
