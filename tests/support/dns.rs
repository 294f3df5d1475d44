//! A DNS server that answers what a test says, or keeps silent, or lies.
//!
//! It has a codec of its own, as far as it needs one, so that an error of the library that asks cannot
//! hide in it. What it has no records of does not exist. Answers come over UDP, and over TCP for those
//! who ask there, as they are told to when an answer does not fit a datagram.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a server does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers it.
    Answer,
    /// Sends bytes that are no message, under the right id.
    Garbage,
    /// Answers it after this time.
    Late(Duration),
    /// Says that it cannot tell.
    Servfail,
    /// Says nothing.
    Silent,
    /// Answers under another id.
    WrongId,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<Zone>,
    asked: AtomicU64,
    over_tcp: AtomicU64,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Zone {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    texts: HashMap<String, String>,
    /// What every name that ends so has for an address.
    wildcards: Vec<(String, Ipv4Addr)>,
    /// The last that fits a name decides.
    manners: Vec<(String, Manner)>,
    /// Questions by name.
    asked: HashMap<String, u64>,
}

impl DnsServer {
    /// A server on loopback, at a port that is free.
    pub fn start() -> io::Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A server at `address`.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        // The port that TCP is given may be taken over UDP.
        let (listener, socket) = loop {
            let listener = TcpListener::bind(address)?;
            match UdpSocket::bind(listener.local_addr()?) {
                Ok(socket) => break (listener, socket),
                Err(error) if address.port() != 0 => return Err(error),
                Err(_) => {}
            }
        };
        let address = listener.local_addr()?;
        socket.set_read_timeout(Some(TICK))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::<Shared>::default();
        let udp = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.serve_udp(&socket))
        };
        let tcp = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.serve_tcp(&listener))
        };
        Ok(Self {
            address,
            shared,
            threads: vec![udp, tcp],
        })
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name addresses.
    ///
    /// # Panics
    ///
    /// If one is no IPv4 address.
    pub fn address_of(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|it| it.parse().expect("an address"));
        let mut zone = self.shared.zone();
        zone.addresses
            .insert(name.to_ascii_lowercase(), addresses.collect());
    }

    /// Gives a name a text.
    pub fn text_of(&self, name: &str, text: &str) {
        let mut zone = self.shared.zone();
        zone.texts
            .insert(name.to_ascii_lowercase(), text.to_owned());
    }

    /// Gives every name below `suffix` an address.
    ///
    /// # Panics
    ///
    /// If one is no IPv4 address.
    pub fn everything_below(&self, suffix: &str, address: &str) {
        let address = address.parse().expect("an address");
        self.shared
            .zone()
            .wildcards
            .push((suffix.to_owned(), address));
    }

    /// A list as it should be: 127.0.0.2 is on it, and each of `clients` with its code.
    ///
    /// # Panics
    ///
    /// If one is no IPv4 address.
    pub fn list(&self, zone: &str, clients: &[(&str, &str)]) {
        for (client, code) in [("127.0.0.2", "127.0.0.2")].iter().chain(clients) {
            let client: Ipv4Addr = client.parse().expect("an address");
            let [a, b, c, d] = client.octets();
            self.address_of(&format!("{d}.{c}.{b}.{a}.{zone}"), &[code]);
        }
    }

    /// From now on questions for names that end in `suffix` are treated so.
    pub fn behave(&self, suffix: &str, manner: Manner) {
        let mut zone = self.shared.zone();
        zone.manners.push((suffix.to_owned(), manner));
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Questions so far for names that end in `suffix`.
    pub fn asked_below(&self, suffix: &str) -> u64 {
        let zone = self.shared.zone();
        let below = zone.asked.iter().filter(|(name, _)| name.ends_with(suffix));
        below.map(|(_, count)| *count).sum()
    }

    /// Questions that came over TCP.
    pub fn asked_over_tcp(&self) -> u64 {
        self.shared.over_tcp.load(Ordering::SeqCst)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A panic in there has failed the test already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4_096];
        while !self.is_over() {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Some((reply, delay)) = self.reply(&buffer[..length], DATAGRAM) else {
                continue;
            };
            let Ok(socket) = socket.try_clone() else {
                continue;
            };
            let send = move || {
                thread::sleep(delay);
                // Whoever asked may be gone.
                let _ = socket.send_to(&reply, peer);
            };
            if delay.is_zero() {
                send();
            } else {
                thread::spawn(send);
            }
        }
    }

    fn serve_tcp(self: Arc<Self>, listener: &TcpListener) {
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self);
                    thread::spawn(move || shared.serve_stream(stream));
                }
                Err(_) => thread::sleep(TICK),
            }
        }
    }

    /// Ends with the stream.
    fn serve_stream(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).ok()?;
            self.over_tcp.fetch_add(1, Ordering::SeqCst);
            let (reply, delay) = self.reply(&query, usize::from(u16::MAX))?;
            thread::sleep(delay);
            let length = u16::try_from(reply.len()).ok()?;
            stream.write_all(&length.to_be_bytes()).ok()?;
            stream.write_all(&reply).ok()?;
        }
    }

    /// The reply to a query of one question, and when it is to be sent; none to what is none.
    fn reply(&self, query: &[u8], room: usize) -> Option<(Vec<u8>, Duration)> {
        let (name, rest) = name_at(query.get(12..)?)?;
        let question = &query[12..query.len() - rest.len() + 4];
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut zone = self.zone();
        *zone.asked.entry(name.clone()).or_default() += 1;
        let manner = zone.manner(&name);
        let id = [query[0], query[1]];
        let delay = match manner {
            Manner::Late(delay) => delay,
            _ => Duration::ZERO,
        };
        let reply = match manner {
            Manner::Silent => return None,
            Manner::Garbage => [&id[..], &[0xff; 20]].concat(),
            Manner::Servfail => message(id, SERVFAIL, question, &[], false),
            Manner::WrongId => {
                let other = [id[0] ^ 0x55, id[1]];
                zone.answer(other, &name, kind, question, room)
            }
            Manner::Answer | Manner::Late(_) => zone.answer(id, &name, kind, question, room),
        };
        Some((reply, delay))
    }
}

impl Zone {
    fn manner(&self, name: &str) -> Manner {
        let fits = |suffix: &str| name.ends_with(suffix);
        let mut manners = self.manners.iter().rev();
        let found = manners.find(|(suffix, _)| fits(suffix));
        found.map_or(Manner::Answer, |(_, manner)| *manner)
    }

    fn answer(&self, id: [u8; 2], name: &str, kind: u16, question: &[u8], room: usize) -> Vec<u8> {
        let wildcard = self.wildcards.iter().find(|(it, _)| name.ends_with(it));
        let wildcard = wildcard.map(|(_, address)| vec![*address]);
        let addresses = self.addresses.get(name).cloned().or(wildcard);
        let text = self.texts.get(name);
        let records: Vec<_> = match kind {
            A => addresses
                .iter()
                .flatten()
                .map(|it| record(A, &it.octets()))
                .collect(),
            TXT => text
                .map(|it| record(TXT, &strings(it)))
                .into_iter()
                .collect(),
            NS if name.is_empty() => vec![record(NS, b"\x01a\x04root\x00")],
            _ => Vec::new(),
        };
        let exists = addresses.is_some() || text.is_some() || name.is_empty();
        let code = if exists { NOERROR } else { NXDOMAIN };
        let whole = message(id, code, question, &records, records.is_empty());
        if whole.len() <= room {
            return whole;
        }
        let mut cut = message(id, code, question, &[], false);
        cut[2] |= TRUNCATED;
        cut
    }
}

/// A reply: with a denial's SOA, which says how long it holds, if `is_denial`.
fn message(
    id: [u8; 2],
    code: u8,
    question: &[u8],
    records: &[Vec<u8>],
    is_denial: bool,
) -> Vec<u8> {
    let count = u16::try_from(records.len()).expect("a test has few records");
    let mut reply = id.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0, u8::from(is_denial), 0, 0]);
    reply.extend(question);
    reply.extend(records.concat());
    if is_denial {
        let mut soa = b"\x01a\x00\x01a\x00".to_vec();
        soa.extend([0; 16]);
        soa.extend(TTL.to_be_bytes());
        reply.extend(record(SOA, &soa));
    }
    reply
}

/// A record of the name in question.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a test has short records");
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(TTL.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

/// A text as strings of at most 255 bytes.
fn strings(text: &str) -> Vec<u8> {
    let pieces = text.as_bytes().chunks(255);
    pieces
        .flat_map(|it| {
            let length = u8::try_from(it.len()).expect("a piece is short");
            [&[length], it].concat()
        })
        .collect()
}

/// The name that `bytes` begin with, in lower case and without a final dot, and what follows.
fn name_at(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    loop {
        let (length, rest) = bytes.split_first()?;
        if *length == 0 {
            return Some((labels.join("."), rest));
        }
        let (label, rest) = rest.split_at_checked((*length).into())?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        bytes = rest;
    }
}

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const TXT: u16 = 16;

const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// Of the first byte of flags.
const TRUNCATED: u8 = 2;

/// What a resolver takes in one datagram today.
const DATAGRAM: usize = 1_232;
const TTL: u32 = 300;
/// How soon a server hears that it is over.
const TICK: Duration = Duration::from_millis(20);
