//! A small blocking SMTP client that tells what it was told.
//!
//! It behaves like a sending MTA (RFC 5321, 3.3): it offers every recipient, goes on with those
//! that were accepted, and keeps the rest for its next round. It never hides a reply: codes and
//! texts are what the server sent.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

/// How long a reply may take. Postfix slows a client by 1 s an error from the 10th on; more than
/// that is a fault.
const REPLY_PATIENCE: Duration = Duration::from_secs(20);

/// What keeps a session from going on.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// No connection within the time given: a SYN was dropped, or nobody listens.
    #[error("connecting to {server}")]
    Connect {
        /// Who was called.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("the server hung up after {after:?}")]
    HungUp {
        /// The last line sent.
        after: String,
    },
    /// The connection broke, or a reply did not come in time.
    #[error("in the SMTP session after {after:?}")]
    Io {
        /// The last line sent.
        after: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is no SMTP reply.
    #[error("not a reply: {0:?}")]
    Malformed(String),
}

impl SmtpError {
    /// Whether the connection request was never answered, which is what a dropped SYN looks like.
    pub fn is_connect_timeout(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut)
    }
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of each line, without code and separator.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it says 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it says 4yz.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// Whether it is code 451 with the enhanced status 4.7.1, which is what greylisting answers.
    pub fn is_greylisting(&self) -> bool {
        self.code == 451 && self.lines.iter().all(|line| line.starts_with("4.7.1 "))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// Where a client stands: its namespace, its address there, and whom it calls.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The namespace its connections begin in.
    pub namespace: &'a Namespace,
    /// The address they come from; port 0.
    pub source: SocketAddr,
    /// The server.
    pub server: SocketAddr,
}

impl Client<'_> {
    /// Opens a TCP connection, `patience` at most.
    pub fn connect(&self, patience: Duration) -> Result<TcpStream, SmtpError> {
        let connect = || {
            let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
            socket.bind(&self.source.into())?;
            socket.connect_timeout(&self.server.into(), patience)?;
            Ok(TcpStream::from(socket))
        };
        let server = self.server;
        self.namespace
            .run(connect)
            .map_err(|source| SmtpError::Connect { server, source })
    }

    /// Opens a session and greets the server. The HELO argument is the address literal.
    pub fn open(&self, patience: Duration) -> Result<Session, SmtpError> {
        let literal = match self.source.ip() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        self.open_as(&literal, patience)
    }

    /// Opens a session and greets the server as `helo`.
    pub fn open_as(&self, helo: &str, patience: Duration) -> Result<Session, SmtpError> {
        let stream = self.connect(patience)?;
        let greeting = |source| SmtpError::Io {
            after: String::new(),
            source,
        };
        stream
            .set_read_timeout(Some(REPLY_PATIENCE))
            .map_err(greeting)?;
        stream.set_nodelay(true).map_err(greeting)?;
        let mut session = Session {
            stream: BufReader::new(stream),
            last: String::new(),
        };
        session.reply()?;
        session.command(&format!("EHLO {helo}"))?;
        Ok(session)
    }

    /// One delivery attempt of a whole message: a session of its own, as an MTA makes it.
    pub fn attempt(&self, message: &Message, recipients: &[String]) -> Result<Round, SmtpError> {
        self.open(Duration::from_secs(3))?
            .last_attempt(message, recipients)
    }

    /// The same with a HELO argument of its own.
    pub fn attempt_as(
        &self,
        helo: &str,
        message: &Message,
        recipients: &[String],
    ) -> Result<Round, SmtpError> {
        self.open_as(helo, Duration::from_secs(3))?
            .last_attempt(message, recipients)
    }
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// The reverse-path, without angle brackets; empty is the null reverse-path.
    pub reverse_path: String,
    /// Its subject.
    pub subject: String,
    /// Its text after the header's end; one line.
    pub body: String,
    /// Its Message-ID without angle brackets.
    pub id: String,
}

impl Message {
    /// A message whose Message-ID and body are made of `word`.
    pub fn new(reverse_path: &str, word: &str) -> Self {
        Self {
            reverse_path: reverse_path.to_owned(),
            subject: "lab".to_owned(),
            body: format!("This is {word}."),
            id: format!("{word}@{}", std::process::id()),
        }
    }

    /// What is announced as `SIZE=` and sent: header and body with CRLF.
    pub fn text(&self) -> String {
        let Self {
            reverse_path,
            subject,
            body,
            id,
        } = self;
        format!(
            "From: <{reverse_path}>\r\nMessage-ID: <{id}>\r\nSubject: {subject}\r\n\r\n{body}\r\n"
        )
    }
}

/// What one delivery attempt brought.
#[derive(Clone, Debug)]
pub struct Round {
    /// The reply to MAIL.
    pub mail: Reply,
    /// Each recipient with its reply at RCPT.
    pub recipients: Vec<(String, Reply)>,
    /// The reply to DATA, when it came to that.
    pub data: Option<Reply>,
    /// The reply to the end of the message, when it came to that.
    pub end: Option<Reply>,
}

impl Round {
    /// Whether the server took responsibility for the accepted recipients.
    pub fn is_queued(&self) -> bool {
        self.end.as_ref().is_some_and(Reply::is_positive)
    }

    /// The recipients the message has been taken for.
    pub fn taken(&self) -> Vec<String> {
        if !self.is_queued() {
            return Vec::new();
        }
        self.named(Reply::is_positive)
    }

    /// The recipients to try again: answered 4yz, or accepted in a message that then was deferred.
    pub fn deferred(&self) -> Vec<String> {
        let whole = [&self.data, &self.end].into_iter().flatten();
        let all = whole.into_iter().any(Reply::is_transient);
        self.named(|reply| reply.is_transient() || (all && reply.is_positive()))
    }

    /// Whether the server has said that it hangs up.
    pub fn is_closing(&self) -> bool {
        self.replies().any(|reply| reply.code == 421)
    }

    /// How many commands were answered with an error, which is what Postfix counts.
    pub fn errors(&self) -> usize {
        self.replies().filter(|reply| reply.code >= 400).count()
    }

    /// The last reply before QUIT: what the sender would log.
    pub fn outcome(&self) -> &Reply {
        let recipients = self.recipients.last().map(|(_, reply)| reply);
        let last = self.end.as_ref().or(self.data.as_ref());
        last.or(recipients).unwrap_or(&self.mail)
    }

    fn replies(&self) -> impl Iterator<Item = &Reply> {
        let recipients = self.recipients.iter().map(|(_, reply)| reply);
        let whole = [&self.data, &self.end].into_iter().flatten();
        recipients.chain(whole).chain([&self.mail])
    }

    fn named(&self, which: impl Fn(&Reply) -> bool) -> Vec<String> {
        let chosen = self.recipients.iter().filter(|(_, reply)| which(reply));
        chosen.map(|(name, _)| name.clone()).collect()
    }
}

/// An SMTP session after the greetings.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
    last: String,
}

impl Session {
    /// Sends one line and returns the reply.
    pub fn command(&mut self, line: &str) -> Result<Reply, SmtpError> {
        self.send(line, "\r\n")?;
        self.reply()
    }

    /// Sends text as it is, a command with what belongs to it, and returns the reply.
    pub fn exchange(&mut self, text: &str) -> Result<Reply, SmtpError> {
        self.send(text, "")?;
        self.reply()
    }

    /// One mail transaction: MAIL with `SIZE=`, every recipient, and the message for those that
    /// were accepted.
    pub fn attempt(&mut self, message: &Message, to: &[String]) -> Result<Round, SmtpError> {
        let text = message.text();
        let mail = format!("MAIL FROM:<{}> SIZE={}", message.reverse_path, text.len());
        let mut round = Round {
            mail: self.command(&mail)?,
            recipients: Vec::new(),
            data: None,
            end: None,
        };
        if !round.mail.is_positive() {
            return Ok(round);
        }
        for recipient in to {
            let reply = self.command(&format!("RCPT TO:<{recipient}>"))?;
            round.recipients.push((recipient.clone(), reply));
            if round.is_closing() {
                return Ok(round);
            }
        }
        if round
            .recipients
            .iter()
            .any(|(_, reply)| reply.is_positive())
        {
            let data = self.command("DATA")?;
            let go_on = data.code == 354;
            round.data = Some(data);
            if go_on {
                self.send(&text, ".\r\n")?;
                ".".clone_into(&mut self.last);
                round.end = Some(self.reply()?);
            }
        }
        if !round.is_queued() && !round.is_closing() {
            self.command("RSET")?;
        }
        Ok(round)
    }

    /// One mail transaction, and goodbye.
    fn last_attempt(mut self, message: &Message, to: &[String]) -> Result<Round, SmtpError> {
        let round = self.attempt(message, to)?;
        if !round.is_closing() {
            self.quit()?;
        }
        Ok(round)
    }

    /// Says goodbye and waits for the answer.
    pub fn quit(mut self) -> Result<Reply, SmtpError> {
        self.command("QUIT")
    }

    fn send(&mut self, text: &str, end: &str) -> Result<(), SmtpError> {
        text.lines()
            .next()
            .unwrap_or_default()
            .clone_into(&mut self.last);
        // One write, so that no command waits for the acknowledgement of its first half.
        let bytes = [text.as_bytes(), end.as_bytes()].concat();
        let written = self.stream.get_mut().write_all(&bytes);
        written.map_err(|source| self.broken(source))
    }

    fn reply(&mut self) -> Result<Reply, SmtpError> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line);
            if read.map_err(|source| self.broken(source))? == 0 {
                let after = self.last.clone();
                return Err(SmtpError::HungUp { after });
            }
            let malformed = || SmtpError::Malformed(line.clone());
            let (code, text, is_last) = parse_line(&line).ok_or_else(malformed)?;
            lines.push(text.to_owned());
            if is_last {
                return Ok(Reply { code, lines });
            }
        }
    }

    fn broken(&self, source: io::Error) -> SmtpError {
        let after = self.last.clone();
        match source.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                SmtpError::HungUp { after }
            }
            _ => SmtpError::Io { after, source },
        }
    }
}

/// The code, the text and whether the reply ends with this line (RFC 5321, 4.2).
fn parse_line(line: &str) -> Option<(u16, &str, bool)> {
    let (code, rest) = line.trim_end().split_at_checked(3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (text, is_last) = match rest.split_at_checked(1) {
        None => ("", true),
        Some((" ", text)) => (text, true),
        Some(("-", text)) => (text, false),
        Some(_) => return None,
    };
    Some((code.parse().ok()?, text, is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_a_reply() {
        assert_eq!(
            parse_line("250-PIPELINING\r\n"),
            Some((250, "PIPELINING", false))
        );
        assert_eq!(
            parse_line("451 4.7.1 Later\r\n"),
            Some((451, "4.7.1 Later", true))
        );
        assert_eq!(parse_line("250\r\n"), Some((250, "", true)));
        for line in ["", "25", "+50 Ok", "250+Ok", "SSH-2.0-x"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }

    #[test]
    fn retries_those_answered_4yz_when_the_others_were_taken() {
        let round = round(&[("ann", 250), ("ben", 451), ("cat", 550)], 354, 250);
        assert_eq!(round.taken(), ["ann"]);
        assert_eq!(round.deferred(), ["ben"]);
        assert_eq!(round.errors(), 2);
    }

    #[test]
    fn retries_accepted_recipients_of_a_deferred_message_too() {
        let round = round(&[("ann", 250), ("ben", 451), ("cat", 550)], 354, 451);
        assert_eq!(round.taken(), [""; 0]);
        assert_eq!(round.deferred(), ["ann", "ben"]);
        assert_eq!(round.outcome().code, 451);
    }

    fn round(recipients: &[(&str, u16)], data: u16, end: u16) -> Round {
        let reply = |code| Reply {
            code,
            lines: Vec::new(),
        };
        let recipients = recipients
            .iter()
            .map(|(name, code)| ((*name).to_owned(), reply(*code)));
        Round {
            mail: reply(250),
            recipients: recipients.collect(),
            data: Some(reply(data)),
            end: Some(reply(end)),
        }
    }
}
