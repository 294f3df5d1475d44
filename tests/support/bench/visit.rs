//! One session of an MTA with a milter, as Postfix has it, and how it ended.

use std::{io, net::Ipv4Addr, time::Instant};

use greygate::milter::Endpoint;

use crate::mta::{Answer, Mta, POSTFIX};

/// A client that comes with a mail.
#[derive(Debug)]
pub struct Visit<'a> {
    /// Which mail: each has a sender and a Message-ID of its own.
    pub number: u32,
    /// Whose connection it is.
    pub client: Ipv4Addr,
    /// What the message says.
    pub body: &'a [u8],
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    /// How it ended.
    pub end: Outcome,
    /// How often an answer was waited for.
    pub round_trips: u32,
    /// When the answer came that decided.
    pub answered: Instant,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more was to be read.
    AcceptedAtData,
    /// 4yz.
    DeferredAtRcpt,
    /// 4yz.
    DeferredAtData,
    /// 4yz, once it was read.
    DeferredAtEnd,
    /// Once it was read.
    Passed,
    /// In none of these ways.
    Otherwise,
}

impl Visit<'_> {
    /// Plays it.
    pub fn play(&self, milter: &Endpoint) -> io::Result<Played> {
        let (mut mta, _) = Mta::negotiate(milter, POSTFIX)?;
        mta.client(&format!("[{}]", self.client), self.client.into())?;
        mta.helo(&format!("mail.sender{}.example", self.number))?;
        mta.mail(&format!("someone@sender{}.example", self.number))?;
        let end = self.transact(&mut mta)?;
        let answered = Instant::now();
        // After a message, and once more before the good-bye.
        if end != Outcome::DeferredAtRcpt {
            mta.abort();
        }
        mta.abort();
        mta.hold(b'Q', b"");
        mta.flush()?;
        Ok(Played {
            end,
            round_trips: mta.round_trips(),
            answered,
        })
    }

    fn transact(&self, mta: &mut Mta) -> io::Result<Outcome> {
        let answer = mta.rcpt("someone@recipient.example")?;
        if is_deferral(&answer) {
            return Ok(Outcome::DeferredAtRcpt);
        }
        let answer = mta.data()?;
        // Another process takes over here.
        mta.flush()?;
        if is_deferral(&answer) {
            return Ok(Outcome::DeferredAtData);
        }
        if answer.status == "a" {
            return Ok(Outcome::AcceptedAtData);
        }
        for (name, value) in HEADER {
            mta.header(name, value)?;
        }
        let message_id = format!("<{}@sender{}.example>", self.number, self.number);
        mta.header("Message-ID", &message_id)?;
        mta.body(self.body)?;
        let answer = mta.end_of_message()?;
        Ok(match answer.status.as_str() {
            _ if is_deferral(&answer) => Outcome::DeferredAtEnd,
            "c" | "a" => Outcome::Passed,
            _ => Outcome::Otherwise,
        })
    }
}

/// The client of an attempt at a mail, from 198.18.0.0/15, which is for benchmarks (RFC 2544): each
/// attempt from another network.
pub fn client(number: u32, attempt: u32) -> Ipv4Addr {
    let low = number & 0xffff;
    Ipv4Addr::from(match attempt {
        0 => 0xc612_0000 | low,
        1 => 0xc613_0000 | low,
        _ => 0xc613_0000 | (low ^ 0x8000),
    })
}

/// `bytes` of text in lines.
pub fn text(bytes: usize) -> Vec<u8> {
    let line = b"A message is as long as it is; what it says is told by nobody here.\r\n";
    line.iter().copied().cycle().take(bytes).collect()
}

fn is_deferral(answer: &Answer) -> bool {
    answer.is_deferral() || answer.status == "t"
}

/// What a mail usually brings, but for the Message-ID.
const HEADER: [(&str, &str); 9] = [
    (
        "Received",
        "from mail.sender.example (mail.sender.example [198.18.0.1])\n\tby mx.example (Postfix) with \
         ESMTPS id 4ABC123\n\tfor <someone@recipient.example>; Sun, 22 Nov 2026 04:30:00 +0000 (UTC)",
    ),
    (
        "DKIM-Signature",
        "v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; s=s1;\n\th=from:to:subject:date:\
         message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\tb=AuUoFEfDxTDkHlLXSZEpZj79LIC\
         EzHTNcPtZ+zdXOgK6BpqB7nUj2bOqFUsaIPRtGTWhXTeuIe1Vc6tHzQ==",
    ),
    ("From", "Someone <someone@sender.example>"),
    ("To", "Someone Else <someone@recipient.example>"),
    ("Subject", "What we talked about"),
    ("Date", "Sun, 22 Nov 2026 04:29:58 +0000"),
    ("MIME-Version", "1.0"),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Transfer-Encoding", "7bit"),
];
