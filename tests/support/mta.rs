//! A milter client that plays the MTA, byte by byte, as Postfix does.
//!
//! It has a codec of its own, so that an error of greygate's cannot hide in it: it holds commands
//! back until it needs an answer, sends macros ahead of every command, and waits for exactly the
//! replies that the negotiated flags leave, a reply too many being found at the next command.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use greygate::milter::Endpoint;

/// What an MTA offers: version, actions, steps.
pub type Offer = [u32; 3];

/// What Postfix from 2.6 on offers.
pub const POSTFIX: Offer = [6, 0x1ff, 0x1f_ffff];
/// What an MTA offers that speaks version 2 and can leave nothing out.
pub const ANCIENT: Offer = [2, 0, 0];

/// A connection to a milter.
#[derive(Debug)]
pub struct Mta {
    stream: Stream,
    held: Vec<u8>,
    steps: u32,
    awaited: Vec<u8>,
}

impl Mta {
    /// Connects without a word.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let stream = match endpoint {
            Endpoint::Inet(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Stream::Inet(stream)
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
        };
        Ok(Self {
            stream,
            held: Vec::new(),
            steps: 0,
            awaited: Vec::new(),
        })
    }

    /// Connects and agrees on options; returns them too.
    pub fn negotiate(endpoint: &Endpoint, offer: Offer) -> io::Result<(Self, Offer)> {
        let mut mta = Self::connect(endpoint)?;
        mta.hold(b'O', &offer.map(u32::to_be_bytes).concat());
        mta.flush()?;
        mta.awaited.push(b'O');
        let (kind, payload) = mta.read_frame()?;
        let words = payload
            .get(..12)
            .filter(|_| kind == b'O')
            .ok_or_else(|| io::Error::other(format!("no terms but {}", Shown(kind, &payload))))?;
        let mut terms = [0; 3];
        for (term, word) in terms.iter_mut().zip(words.chunks_exact(4)) {
            *term = word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        }
        mta.steps = terms[2];
        Ok((mta, terms))
    }

    /// Agrees as Postfix does and announces a client without a verified name.
    pub fn open(endpoint: &Endpoint, client: IpAddr) -> io::Result<Self> {
        let (mut mta, _) = Self::negotiate(endpoint, POSTFIX)?;
        mta.client(&format!("[{client}]"), client)?;
        mta.helo("helo.client.example")?;
        Ok(mta)
    }

    /// Announces a client.
    pub fn client(&mut self, name: &str, address: IpAddr) -> io::Result<Answer> {
        let family = if address.is_ipv4() { '4' } else { '6' };
        self.macros(b'C', &[("j", "mx.example"), ("{daemon_name}", "smtpd")]);
        self.command(
            b'C',
            format!("{name}\0{family}\u{1f}\u{40}{address}\0").as_bytes(),
        )
    }

    /// The client has said HELO.
    pub fn helo(&mut self, argument: &str) -> io::Result<Answer> {
        self.macros(b'H', &[]);
        self.command(b'H', format!("{argument}\0").as_bytes())
    }

    /// The client has said MAIL.
    pub fn mail(&mut self, reverse_path: &str) -> io::Result<Answer> {
        self.macros(b'M', &[("{mail_addr}", reverse_path)]);
        self.command(b'M', format!("<{reverse_path}>\0SIZE=1000\0").as_bytes())
    }

    /// The client has said RCPT.
    pub fn rcpt(&mut self, recipient: &str) -> io::Result<Answer> {
        self.macros(b'R', &[("{rcpt_mailer}", "local")]);
        self.command(b'R', format!("<{recipient}>\0").as_bytes())
    }

    /// The client has said RCPT, and the MTA refuses it.
    pub fn rejected_rcpt(&mut self, recipient: &str) -> io::Result<Answer> {
        self.macros(
            b'R',
            &[("{rcpt_mailer}", "error"), ("{rcpt_host}", "5.1.1")],
        );
        self.command(b'R', format!("<{recipient}>\0").as_bytes())
    }

    /// The client has said DATA.
    pub fn data(&mut self) -> io::Result<Answer> {
        self.macros(b'T', &[("i", "4ABC123")]);
        self.command(b'T', b"")
    }

    /// A field of the header, if the milter wants to see it.
    pub fn header(&mut self, name: &str, value: &str) -> io::Result<Answer> {
        if self.steps & 0x20 != 0 {
            return Ok(Answer::none());
        }
        let blank = if self.steps & 0x10_0000 == 0 { "" } else { " " };
        self.command(b'L', format!("{name}\0{blank}{value}\0").as_bytes())
    }

    /// The header is complete, and the body is this, if the milter wants to see them.
    pub fn body(&mut self, body: &[u8]) -> io::Result<()> {
        if self.steps & 0x40 == 0 {
            self.command(b'N', b"")?;
        }
        if self.steps & 0x10 == 0 {
            for chunk in body.chunks(CHUNK) {
                self.command(b'B', chunk)?;
                self.write_full_buffers()?;
            }
        }
        Ok(())
    }

    /// The message is complete.
    pub fn end_of_message(&mut self) -> io::Result<Answer> {
        self.macros(b'E', &[("i", "4ABC123")]);
        self.command(b'E', b"")
    }

    /// The transaction is over; held like Postfix holds it.
    pub fn abort(&mut self) {
        self.hold(b'A', b"");
    }

    /// The client is gone. Returns once the milter has closed.
    pub fn quit(mut self) -> io::Result<()> {
        self.hold(b'Q', b"");
        self.flush()?;
        self.wait_for_close()
    }

    /// One command: what the flags say, an answer or none.
    pub fn command(&mut self, kind: u8, payload: &[u8]) -> io::Result<Answer> {
        self.hold(kind, payload);
        if !self.waits_after(kind) {
            return Ok(Answer::none());
        }
        self.flush()?;
        self.awaited.push(kind);
        self.read_answer()
    }

    /// The kinds of the commands that it has waited for an answer to, in order: each is a round trip.
    pub fn awaited(&self) -> String {
        String::from_utf8_lossy(&self.awaited).into_owned()
    }

    /// Macros, which are never answered.
    pub fn macros(&mut self, stage: u8, pairs: &[(&str, &str)]) {
        let mut payload = vec![stage];
        for (name, value) in pairs {
            payload.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        self.hold(b'D', &payload);
    }

    /// Adds a frame to what goes out at the next flush.
    pub fn hold(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
        self.held.extend_from_slice(&length.to_be_bytes());
        self.held.push(kind);
        self.held.extend_from_slice(payload);
    }

    /// Writes what Postfix would not hold any longer.
    fn write_full_buffers(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let full = held.len() / BUFFER * BUFFER;
        for buffer in held[..full].chunks(BUFFER) {
            self.write(buffer)?;
        }
        self.held.extend_from_slice(&held[full..]);
        Ok(())
    }

    /// Writes what is held, in one piece.
    pub fn flush(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.write(&held)
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Inet(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Inet(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Waits until the milter has closed the connection. Bytes before that are an error: they
    /// would be a reply that nobody is owed.
    pub fn wait_for_close(&mut self) -> io::Result<()> {
        let mut byte = [0];
        match self.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other(format!("unexpected byte {}", byte[0]))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Everything the milter says until it closes the connection.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match &mut self.stream {
            Stream::Inet(stream) => stream.read_to_end(&mut bytes)?,
            Stream::Unix(stream) => stream.read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }

    /// Reads actions and the status behind them.
    pub fn read_answer(&mut self) -> io::Result<Answer> {
        let mut actions = Vec::new();
        loop {
            let (kind, payload) = self.read_frame()?;
            let shown = Shown(kind, &payload).to_string();
            if b"+-2behimlpq".contains(&kind) {
                actions.push(shown);
            } else {
                return Ok(Answer {
                    actions,
                    status: shown,
                });
            }
        }
    }

    /// Reads one frame.
    pub fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.read_exact(&mut header)?;
        let [a, b, c, d, kind] = header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(1..=1_000_000).contains(&length) {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut payload = vec![0; length as usize - 1];
        self.read_exact(&mut payload)?;
        Ok((kind, payload))
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Inet(stream) => stream.read_exact(bytes),
            Stream::Unix(stream) => stream.read_exact(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Inet(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }

    /// Whether the flags leave a reply to wait for.
    fn waits_after(&self, kind: u8) -> bool {
        let waived_by = match kind {
            b'C' => 0x1000,
            b'H' => 0x2000,
            b'M' => 0x4000,
            b'R' => 0x8000,
            b'T' => 0x1_0000,
            b'U' => 0x2_0000,
            b'L' => 0x80,
            b'N' => 0x4_0000,
            b'B' => 0x8_0000,
            b'E' => 0,
            _ => return false,
        };
        self.steps & waived_by == 0
    }
}

/// What a milter answers to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Changes it asks for, each as kind byte and payload, escaped.
    pub actions: Vec<String>,
    /// The status as kind byte and payload, escaped; empty when none is waited for.
    pub status: String,
}

impl Answer {
    fn none() -> Self {
        Self {
            actions: Vec::new(),
            status: String::new(),
        }
    }

    /// Whether it is an SMTP reply 4yz.
    pub fn is_deferral(&self) -> bool {
        self.status.starts_with("y4")
    }

    /// Whether it only says: go on.
    pub fn is_continue(&self) -> bool {
        self.status == "c" && self.actions.is_empty()
    }
}

#[derive(Debug)]
enum Stream {
    Inet(TcpStream),
    Unix(UnixStream),
}

struct Shown<'a>(u8, &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.escape_ascii(), self.1.escape_ascii())
    }
}

/// Bytes of the body in one frame (Postfix, `MILTER_CHUNK_SIZE`).
const CHUNK: usize = 65_535;
/// What Postfix holds back on TCP: two segments, which on loopback are 65,483 bytes each
/// (`vstream_tweak_tcp`).
const BUFFER: usize = 130_966;
/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
