//! Peers that no MTA should be: slow, dripping, half open, talking nonsense, or merely very many.
//!
//! Each is ended by the daemon or by itself; none may keep anything.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{chance::Chance, ground::MILTER};

/// One of each kind, `rounds` times, one after the other.
pub(crate) fn misbehave(chance: &mut Chance, rounds: u32) -> io::Result<()> {
    for _ in 0..rounds {
        match chance.within(0..5) {
            0 => drips()?,
            1 => is_half_open()?,
            2 => talks_nonsense(chance)?,
            3 => promises_too_much()?,
            _ => hangs_up(chance)?,
        }
    }
    Ok(())
}

/// Connections that agree on options and say nothing more, from several addresses of loopback; as many as could be had.
pub(crate) fn idle(wanted: usize) -> Vec<TcpStream> {
    let mut idle = Vec::with_capacity(wanted);
    for number in 0..wanted {
        // A cap for each peer leaves room for others.
        let host = u8::try_from(2 + number / A_PEER).unwrap_or(u8::MAX);
        // Who has agreed on options may be silent for hours; who has not, for a moment.
        let greeted = connect(Ipv4Addr::new(127, 0, 9, host)).and_then(|mut stream| {
            stream.write_all(&OPTIONS)?;
            Ok(stream)
        });
        match greeted {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
    }
    idle
}

/// How many of these connections the daemon still holds open.
pub(crate) fn still_open(idle: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| {
        let mut byte = [0];
        let waits = stream.set_nonblocking(true).is_ok();
        let is_open = match stream.peek(&mut byte) {
            Ok(length) => length > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        waits && is_open
    };
    idle.iter().filter(is_open).count()
}

/// A frame byte by byte, too slowly: the daemon hangs up.
fn drips() -> io::Result<()> {
    let mut stream = TcpStream::connect(MILTER)?;
    let deadline = Instant::now() + PATIENCE;
    for byte in OPTIONS.iter().cycle() {
        if stream.write_all(&[*byte]).is_err() || has_ended(&stream) {
            return Ok(());
        }
        if Instant::now() > deadline {
            break;
        }
        thread::sleep(Duration::from_millis(150));
    }
    Err(io::Error::other("a dripping peer was borne"))
}

/// Half a frame, and then nothing: the daemon hangs up.
fn is_half_open() -> io::Result<()> {
    let mut stream = TcpStream::connect(MILTER)?;
    let _hung_up = stream.write_all(&OPTIONS[..7]);
    let _gone = stream.shutdown(Shutdown::Write);
    hears_the_end(stream)
}

fn talks_nonsense(chance: &mut Chance) -> io::Result<()> {
    let mut stream = TcpStream::connect(MILTER)?;
    let length = chance.within(20..4_000);
    let bytes: Vec<_> = (0..length)
        .map(|_| u8::try_from(chance.within(0..256)).unwrap_or(0))
        .collect();
    let _hung_up = stream.write_all(&bytes);
    let _gone = stream.shutdown(Shutdown::Write);
    hears_the_end(stream)
}

/// The head of a frame of four gigabytes.
fn promises_too_much() -> io::Result<()> {
    let mut stream = TcpStream::connect(MILTER)?;
    let _hung_up = stream.write_all(&[0xff, 0xff, 0xff, 0xff, b'O', 0, 0]);
    hears_the_end(stream)
}

/// A good beginning, and away without a word.
fn hangs_up(chance: &mut Chance) -> io::Result<()> {
    let mut stream = TcpStream::connect(MILTER)?;
    let length = chance.index(OPTIONS.len() + 1);
    stream.write_all(&OPTIONS[..length])?;
    drop(stream);
    Ok(())
}

fn hears_the_end(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other("a peer without sense was borne"))
        }
        _ => Ok(()),
    }
}

fn has_ended(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let ended = stream.set_nonblocking(true).is_ok() && matches!(stream.peek(&mut byte), Ok(0));
    let _blocks = stream.set_nonblocking(false);
    ended
}

fn connect(from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&MILTER.into(), PATIENCE)?;
    Ok(socket.into())
}

/// The options that Postfix opens with.
const OPTIONS: [u8; 17] = [
    0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff,
];
/// How many connections each address of loopback opens.
const A_PEER: usize = 2_500;
/// The daemon gives a frame a second here.
const PATIENCE: Duration = Duration::from_secs(8);
