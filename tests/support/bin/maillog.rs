//! A log as Postfix would write it, of any size, on standard output: what `greygate simulate` is
//! measured with. The same arguments give the same log.
//!
//! A third of the mail is greylisted by another greylister and comes again, the rest is taken in;
//! beside it stand logins, recipients that are rejected, filters and lines of other programs.
//!
//! ```text
//! maillog --bytes 1073741824 > /tmp/mail.log
//! greygate simulate --log /tmp/mail.log
//! ```

use std::io::{self, BufWriter, Write};

use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// How long the log is at least
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,

    /// Senders there are
    #[arg(long, default_value_t = 200_000)]
    senders: u64,

    /// Messages a second
    #[arg(long, default_value_t = 20)]
    rate: u64,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut log = Log {
        out: BufWriter::with_capacity(1 << 20, io::stdout().lock()),
        written: 0,
        number: 0,
        state: 0x9e37_79b9_7f4a_7c15,
        arguments,
        waiting: Vec::new(),
    };
    while log.written < log.arguments.bytes {
        log.message()?;
    }
    log.out.flush()
}

struct Log<W: Write> {
    out: W,
    written: u64,
    /// Messages so far.
    number: u64,
    state: u64,
    arguments: Arguments,
    /// Senders that come again, and from which message on.
    waiting: Vec<(u64, u64)>,
}

impl<W: Write> Log<W> {
    fn message(&mut self) -> io::Result<()> {
        self.number += 1;
        let due = self.waiting.iter().position(|(at, _)| *at <= self.number);
        if let Some((_, sender)) = due.map(|at| self.waiting.swap_remove(at)) {
            return self.accepted(sender);
        }
        let sender = self.next() % self.arguments.senders;
        match self.next() % 100 {
            0..35 => {
                self.greylisted(sender)?;
                // Most of them; a bounded number at once.
                if self.next() % 4 < 3 && self.waiting.len() < 4_096 {
                    let at = self.number + self.arguments.rate * (200 + self.next() % 1_000);
                    self.waiting.push((at, sender));
                }
                Ok(())
            }
            35..85 => self.accepted(sender),
            85..95 => self.rejected(sender),
            95..98 => self.line("dovecot: imap-login: Login: user=<rita>, method=PLAIN, TLS"),
            _ => self.line("postfix/anvil[66]: statistics: max cache size 9 at Nov  2 06:25:01"),
        }
    }

    fn greylisted(&mut self, sender: u64) -> io::Result<()> {
        let (name, address, from, to) = envelope(sender);
        self.line(&format!(
            "postfix/smtpd[{}]: connect from {name}[{address}]",
            pid(sender)
        ))?;
        self.line(&format!(
            "postfix/smtpd[{}]: NOQUEUE: reject: RCPT from {name}[{address}]: 450 4.2.0 <{to}>: Recipient \
             address rejected: Greylisted, see http://postgrey.schweikert.ch/help/here.example.html; \
             from=<{from}> to=<{to}> proto=ESMTP helo=<{name}>",
            pid(sender)
        ))?;
        self.line(&format!(
            "postfix/smtpd[{}]: disconnect from {name}[{address}] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4",
            pid(sender)
        ))
    }

    fn accepted(&mut self, sender: u64) -> io::Result<()> {
        let (name, address, from, to) = envelope(sender);
        let id = format!("4Z{:013X}", self.number);
        let pid = pid(sender);
        self.line(&format!(
            "postfix/smtpd[{pid}]: connect from {name}[{address}]"
        ))?;
        self.line(&format!(
            "postfix/smtpd[{pid}]: {id}: client={name}[{address}]"
        ))?;
        self.line(&format!(
            "postfix/cleanup[77]: {id}: message-id=<{}@{name}>",
            self.number
        ))?;
        let size = 1_000 + self.next() % 100_000;
        self.line(&format!(
            "postfix/qmgr[70]: {id}: from=<{from}>, size={size}, nrcpt=1 (queue active)"
        ))?;
        self.line(&format!(
            "postfix/smtpd[{pid}]: disconnect from {name}[{address}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5"
        ))?;
        self.line(&format!(
            "postfix/lmtp[80]: {id}: to=<{to}>, relay=mx[private/dovecot-lmtp], delay=0.3, \
             delays=0.2/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 <{to}> Saved)"
        ))?;
        self.line(&format!("postfix/qmgr[70]: {id}: removed"))
    }

    fn rejected(&mut self, sender: u64) -> io::Result<()> {
        let (name, address, from, _) = envelope(sender);
        self.line(&format!(
            "postfix/smtpd[{}]: NOQUEUE: reject: RCPT from {name}[{address}]: 550 5.1.1 <no@here.example>: \
             Recipient address rejected: User unknown in virtual mailbox table; from=<{from}> \
             to=<no@here.example> proto=ESMTP helo=<{name}>",
            pid(sender)
        ))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let seconds = self.number / self.arguments.rate;
        let (day, rest) = (seconds / 86_400, seconds % 86_400);
        let stamp = format!(
            "2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000+00:00 mx1 ",
            1 + day / 28 % 12,
            1 + day % 28,
            rest / 3_600,
            rest / 60 % 60,
            rest % 60,
            self.number % 1_000
        );
        self.written += (stamp.len() + text.len() + 1) as u64;
        writeln!(self.out, "{stamp}{text}")
    }

    /// The next of a sequence that looks like chance (xorshift).
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }
}

fn envelope(sender: u64) -> (String, String, String, String) {
    let host = sender % 40_000;
    let name = format!("mail{}.s{host}.example", sender % 3);
    let address = format!(
        "100.{}.{}.{}",
        64 + host / 250 / 250,
        host / 250 % 250,
        host % 250 + 1
    );
    let from = format!("user{sender}@s{host}.example");
    let to = format!("r{}@here.example", sender % 997);
    (name, address, from, to)
}

fn pid(sender: u64) -> u64 {
    1_000 + sender % 200
}
