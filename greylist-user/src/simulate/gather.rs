//! From lines to mail: which client tried which recipients when, and what the log says became of it.
//!
//! A message that is taken in shows its client at once, its sender when it is queued, and its
//! recipients only when they are delivered to. So what is begun is held until it is whole, and given
//! on in the order in which it began. Everything held has a bound; an end that never comes lapses.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::greylister::Greylisters;
use super::maillog::{Client, Event, Refusal, Stage};
use super::reader::Entry;
use super::report::{Bound, LeftOut};
use crate::policy::{Timestamp, verified_name};

/// One message, or a part of one, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    /// When its first recipient of these was named.
    pub(super) time: Timestamp,
    /// When its session began, as far as is known.
    pub(super) connected: Timestamp,
    pub(super) client: IpAddr,
    /// The verified reverse name; empty if there is none.
    pub(super) name: Box<[u8]>,
    /// Empty where the log does not tell.
    pub(super) helo: Box<[u8]>,
    pub(super) reverse_path: Box<[u8]>,
    pub(super) recipients: Vec<Recipient>,
    pub(super) authenticated: bool,
    /// In the queue.
    pub(super) size: Option<u64>,
    /// Tells one message from another, where the log shows its Message-ID.
    pub(super) message_id: Option<u64>,
    /// Whether this is a message that was not counted before.
    pub(super) begins_message: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) address: Box<[u8]>,
    pub(super) fate: Fate,
}

/// What the log says became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Taken in.
    Accepted,
    /// Deferred by a greylister, or refused by a greygate before this one, so that the log shows when it
    /// comes again.
    Greylisted,
    /// Refused by somebody behind greygate: a content filter, mostly.
    RefusedBehind,
    /// Refused for good by Postfix, which greygate only hears of.
    Rejected,
}

/// What is under way in the log.
pub(super) struct Gather {
    greylisters: Greylisters,
    sessions: Bounded<Session>,
    flights: Bounded<Flight>,
    ready: BinaryHeap<Reverse<Ready>>,
    serial: u64,
    /// The latest time so far.
    latest: Timestamp,
    /// By how much a clock that was set back is put forward again.
    shift: Duration,
    /// What was left out, and why.
    pub(super) left_out: LeftOut,
    /// Deferrals by the greylister that said them.
    pub(super) greylisted: Vec<(&'static str, u64)>,
    /// How often the clock of the log was set back.
    pub(super) clock_back: u64,
    /// Lines that said something of concern.
    pub(super) understood: u64,
    pub(super) bounds: Vec<Bound>,
}

struct Session {
    connected: Timestamp,
    helo: Box<[u8]>,
    /// Of the last message refused in it.
    refused: Option<u64>,
}

/// A message that was begun.
struct Flight {
    mail: Mail,
    session: u64,
    is_queued: bool,
    expected: u64,
    seen: u64,
    refused: Option<u64>,
}

impl Gather {
    pub(super) fn new(greylisters: Greylisters) -> Self {
        Self {
            greylisters,
            sessions: Bounded::new(MOST_SESSIONS),
            flights: Bounded::new(MOST_FLIGHTS),
            ready: BinaryHeap::new(),
            serial: 0,
            latest: Timestamp::NEVER,
            shift: Duration::ZERO,
            left_out: LeftOut::default(),
            greylisted: Vec::new(),
            clock_back: 0,
            understood: 0,
            bounds: Vec::new(),
        }
    }

    /// Takes a line, and gives on the mail that is whole by it.
    pub(super) fn take(&mut self, entry: &Entry<'_>, give: &mut impl FnMut(Mail)) {
        let now = self.pass_time(entry.time);
        if let Some(event) = Event::parse(&entry.program, entry.message) {
            self.understood += 1;
            self.hear(entry, &event, now);
        }
        while let Some(key) = self.flights.older_than(now, FLIGHT_LIFE) {
            self.end_flight(key);
        }
        self.give_ready(give);
    }

    /// Gives on the rest.
    pub(super) fn end(&mut self, give: &mut impl FnMut(Mail)) {
        while let Some(key) = self.flights.oldest() {
            self.end_flight(key);
        }
        self.give_ready(give);
    }

    /// A clock that is set back would have clients hammer in an hour that they had for two.
    fn pass_time(&mut self, told: Timestamp) -> Timestamp {
        let mut now = told.after(self.shift);
        if self.latest.since(now) > OUT_OF_ORDER {
            self.clock_back += 1;
            self.shift += self.latest.since(now);
            now = self.latest;
        }
        self.latest = self.latest.max(now);
        now
    }

    fn hear(&mut self, entry: &Entry<'_>, event: &Event<'_>, now: Timestamp) {
        let program = &entry.program;
        let is_smtpd = program.daemon == b"smtpd";
        if is_smtpd && program.is_submission() {
            self.left_out.submission +=
                u64::from(matches!(event, Event::Accepting { .. } | Event::Refusal(_)));
            return;
        }
        let session = key(&[entry.host, program.instance, &program.pid.to_le_bytes()]);
        let flight = |queue_id: &[u8]| key(&[entry.host, program.instance, queue_id]);
        match *event {
            Event::Connect(_) => {
                let begun = Session {
                    connected: now,
                    helo: Box::default(),
                    refused: None,
                };
                self.bound_sessions();
                self.sessions.insert(session, now, begun);
            }
            Event::Disconnect => {
                self.sessions.remove(session);
            }
            Event::Accepting {
                queue_id,
                client,
                authenticated,
            } => self.begin(flight(queue_id), session, client, authenticated, now),
            Event::MessageId { queue_id, id } => {
                if let Some(flight) = self.flights.get(flight(queue_id)) {
                    flight.mail.message_id = Some(xxh3_64(id));
                }
            }
            Event::Queued {
                queue_id,
                reverse_path,
                size,
                recipients,
            } => {
                if let Some(flight) = self.flights.get(flight(queue_id))
                    && !flight.is_queued
                {
                    flight.is_queued = true;
                    flight.expected = recipients;
                    flight.mail.reverse_path = reverse_path.into();
                    flight.mail.size = Some(size);
                }
            }
            Event::Delivery {
                queue_id,
                recipient,
            } => {
                let key = flight(queue_id);
                let is_whole = self.flights.get(key).is_some_and(|flight| {
                    flight.seen += 1;
                    flight.note(recipient, Fate::Accepted);
                    flight.is_queued && flight.seen >= flight.expected
                });
                if is_whole {
                    self.end_flight(key);
                }
            }
            Event::Removed { queue_id } => self.end_flight(flight(queue_id)),
            Event::Postscreen => self.left_out.postscreen += 1,
            Event::Refusal(refusal) => {
                let flight = refusal.queue_id.map(flight);
                self.refuse(&refusal, flight, session, now);
            }
        }
    }

    fn begin(
        &mut self,
        key: u64,
        session: u64,
        client: Client<'_>,
        authenticated: bool,
        now: Timestamp,
    ) {
        if client.address.is_loopback() {
            self.left_out.local += 1;
            return;
        }
        let known = self.sessions.get(session);
        let mail = Mail {
            time: now,
            connected: known.as_ref().map_or(now, |it| it.connected),
            client: client.address,
            name: verified_name(client.name).into(),
            helo: known
                .as_ref()
                .map_or_else(Box::default, |it| it.helo.clone()),
            reverse_path: Box::default(),
            recipients: Vec::new(),
            authenticated,
            size: None,
            message_id: None,
            begins_message: true,
        };
        let flight = Flight {
            mail,
            session,
            is_queued: false,
            expected: 0,
            seen: 0,
            refused: known.and_then(|it| it.refused.take()),
        };
        if self.flights.is_full() {
            self.reach(Bound::Flights);
            if let Some(oldest) = self.flights.oldest() {
                self.end_flight(oldest);
            }
        }
        // Short queue ids come again.
        self.end_flight(key);
        self.flights.insert(key, now, flight);
    }

    fn refuse(&mut self, refusal: &Refusal<'_>, flight: Option<u64>, session: u64, now: Timestamp) {
        if refusal.client.address.is_loopback() {
            self.left_out.local += 1;
            return;
        }
        if refusal.stage == Stage::Before {
            self.left_out.before_recipient += 1;
            return;
        }
        let Some(fate) = self.fate(refusal) else {
            self.left_out.refused_for_now += 1;
            return;
        };
        let ends_message = matches!(refusal.stage, Stage::Data | Stage::EndOfMessage);
        let mut flown = None;
        if let Some(key) = flight {
            flown = if ends_message {
                self.flights.remove(key)
            } else {
                let known = self.flights.get(key);
                known.map(|it| {
                    it.mail.helo = refusal.helo.unwrap_or_default().into();
                    it.refused = None;
                    it.copy()
                })
            };
        }
        let (Some(reverse_path), Some(recipient)) = (refusal.reverse_path, refusal.recipient)
        else {
            self.left_out.recipients_unknown += 1;
            return;
        };
        let sender = xxh3_64(reverse_path);
        let known = self.sessions.get(session);
        let is_further = known.as_ref().is_some_and(|it| it.refused == Some(sender));
        let connected = known.as_ref().map_or(now, |it| it.connected);
        if let Some(known) = known {
            known.helo = refusal.helo.unwrap_or_default().into();
            known.refused = Some(sender);
        }
        let begins_message = match &flown {
            Some(flight) => ends_message && flight.refused != Some(sender),
            None => !is_further,
        };
        // What was refused whole began when its first recipient was taken.
        let time = flown.as_ref().map_or(now, |it| it.mail.time);
        let message_id = flown.as_ref().and_then(|it| it.mail.message_id);
        self.ready(Mail {
            time: if ends_message { time } else { now },
            connected: flown.map_or(connected, |it| it.mail.connected),
            client: refusal.client.address,
            name: verified_name(refusal.client.name).into(),
            helo: refusal.helo.unwrap_or_default().into(),
            reverse_path: reverse_path.into(),
            recipients: vec![Recipient {
                address: recipient.into(),
                fate,
            }],
            authenticated: refusal.authenticated,
            size: None,
            message_id,
            begins_message,
        });
    }

    /// What a refusal means; [`None`] for one that Postfix will not repeat and greygate not hear.
    fn fate(&mut self, refusal: &Refusal<'_>) -> Option<Fate> {
        if refusal.class == 4
            && let Some(name) = self.greylisters.name(refusal.text)
        {
            match self.greylisted.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => self.greylisted.push((name, 1)),
            }
            return Some(Fate::Greylisted);
        }
        if refusal.by_milter && self.greylisters.refuses(refusal.text) {
            return Some(Fate::Greylisted);
        }
        if refusal.by_milter || matches!(refusal.stage, Stage::Data | Stage::EndOfMessage) {
            Some(Fate::RefusedBehind)
        } else {
            (refusal.class == 5 && refusal.has_status).then_some(Fate::Rejected)
        }
    }

    /// Gives a message on with what is known of it.
    fn end_flight(&mut self, key: u64) {
        let Some(mut flight) = self.flights.remove(key) else {
            return;
        };
        if !flight.is_queued || flight.mail.recipients.is_empty() {
            self.left_out.recipients_unknown += 1;
            return;
        }
        if flight.mail.helo.is_empty()
            && let Some(session) = self.sessions.get(flight.session)
        {
            flight.mail.helo.clone_from(&session.helo);
        }
        let sender = xxh3_64(&flight.mail.reverse_path);
        flight.mail.begins_message = flight.refused != Some(sender);
        self.ready(flight.mail);
    }

    fn ready(&mut self, mail: Mail) {
        self.serial += 1;
        self.ready.push(Reverse(Ready {
            time: mail.time,
            serial: self.serial,
            mail,
        }));
    }

    /// Gives on what began before everything that is still under way.
    fn give_ready(&mut self, give: &mut impl FnMut(Mail)) {
        let until = self
            .flights
            .oldest_time()
            .unwrap_or(Timestamp::from_millis(u64::MAX));
        while let Some(Reverse(first)) = self.ready.peek() {
            let is_crowded = self.ready.len() > MOST_READY;
            if is_crowded {
                self.reach(Bound::Flights);
            } else if first.time > until {
                break;
            }
            if let Some(Reverse(first)) = self.ready.pop() {
                give(first.mail);
            }
        }
    }

    fn reach(&mut self, bound: Bound) {
        if !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
    }

    fn bound_sessions(&mut self) {
        if self.sessions.is_full()
            && let Some(oldest) = self.sessions.oldest()
        {
            self.sessions.remove(oldest);
            self.reach(Bound::Sessions);
        }
    }
}

impl Flight {
    fn note(&mut self, recipient: &[u8], fate: Fate) {
        let recipients = &mut self.mail.recipients;
        let is_known = recipients.iter().any(|it| *it.address == *recipient);
        if !is_known && recipients.len() < MOST_RECIPIENTS {
            recipients.push(Recipient {
                address: recipient.into(),
                fate,
            });
        }
    }

    /// What a refusal within it needs to know.
    fn copy(&self) -> Self {
        Self {
            mail: Mail {
                recipients: Vec::new(),
                ..self.mail.clone()
            },
            ..*self
        }
    }
}

struct Ready {
    time: Timestamp,
    serial: u64,
    mail: Mail,
}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.serial).cmp(&(other.time, other.serial))
    }
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Ready {}

/// A map that knows which of its entries is the oldest.
struct Bounded<T> {
    by_key: HashMap<u64, (u64, T)>,
    order: VecDeque<(Timestamp, u64, u64)>,
    serial: u64,
    most: usize,
}

impl<T> Bounded<T> {
    fn new(most: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            most,
        }
    }

    fn is_full(&self) -> bool {
        self.by_key.len() >= self.most
    }

    fn insert(&mut self, key: u64, now: Timestamp, value: T) {
        self.serial += 1;
        self.by_key.insert(key, (self.serial, value));
        self.order.push_back((now, key, self.serial));
        // What ended long ago stays in the order until it comes to the front.
        if self.order.len() > 2 * self.most {
            let by_key = &self.by_key;
            self.order
                .retain(|(_, key, serial)| by_key.get(key).is_some_and(|(it, _)| it == serial));
        }
    }

    fn get(&mut self, key: u64) -> Option<&mut T> {
        self.by_key.get_mut(&key).map(|(_, value)| value)
    }

    fn remove(&mut self, key: u64) -> Option<T> {
        self.by_key.remove(&key).map(|(_, value)| value)
    }

    fn oldest(&mut self) -> Option<u64> {
        self.front().map(|(_, key)| key)
    }

    fn oldest_time(&mut self) -> Option<Timestamp> {
        self.front().map(|(time, _)| time)
    }

    fn older_than(&mut self, now: Timestamp, age: Duration) -> Option<u64> {
        let (time, key) = self.front()?;
        (now.since(time) > age).then_some(key)
    }

    fn front(&mut self) -> Option<(Timestamp, u64)> {
        while let Some((time, key, serial)) = self.order.front() {
            let lives = self.by_key.get(key).is_some_and(|(it, _)| it == serial);
            if lives {
                return Some((*time, *key));
            }
            self.order.pop_front();
        }
        None
    }
}

fn key(parts: &[&[u8]]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

/// Sessions under way at once. Postfix has as many smtpd processes; an end may be lost.
const MOST_SESSIONS: usize = 65_536;
/// Messages that are not whole yet.
const MOST_FLIGHTS: usize = 65_536;
/// Messages that wait for older ones to be whole.
const MOST_READY: usize = 262_144;
/// Recipients of one message; Postfix's default limit.
const MOST_RECIPIENTS: usize = 1_000;
/// After this a message is given on with the recipients that are known: it waits in the queue.
const FLIGHT_LIFE: Duration = Duration::from_mins(10);
/// Lines of several processes, or hosts, may be out of order by so much.
const OUT_OF_ORDER: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests;
