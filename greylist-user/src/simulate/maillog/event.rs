//! What Postfix said, as far as a greylister would have to know it.
//!
//! Strangers choose addresses and HELO arguments, and Postfix writes them between angle brackets. So
//! what follows `; from=<` must have Postfix's form to its very end, or it is taken for text.

use std::net::IpAddr;

use super::{Program, number, word};

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message was taken in (smtpd, at its first recipient).
    Accepting {
        /// Its queue id.
        queue_id: &'a [u8],
        /// From whom.
        client: Client<'a>,
        /// The client logged in.
        authenticated: bool,
    },
    /// A client came.
    Connect(Client<'a>),
    /// A recipient was delivered to, or tried.
    Delivery {
        /// The message.
        queue_id: &'a [u8],
        /// The recipient as the client named it.
        recipient: &'a [u8],
    },
    /// A client left, or was lost.
    Disconnect,
    /// The Message-ID.
    MessageId {
        /// The message.
        queue_id: &'a [u8],
        /// What stands between the angle brackets.
        id: &'a [u8],
    },
    /// A client was kept off by postscreen, where greygate never sees it.
    Postscreen,
    /// The message is complete and in the queue.
    Queued {
        /// The message.
        queue_id: &'a [u8],
        /// Its reverse-path.
        reverse_path: &'a [u8],
        /// Its size there.
        size: u64,
        /// Its recipients, after aliases.
        recipients: u64,
    },
    /// Something was refused.
    Refusal(Refusal<'a>),
    /// The message left the queue.
    Removed {
        /// The message.
        queue_id: &'a [u8],
    },
}

/// A client as smtpd calls it: `name[address]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// The verified reverse name, or `unknown`.
    pub name: &'a [u8],
    /// The address.
    pub address: IpAddr,
}

/// What was refused, and with which words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The message, if it had a queue id by then.
    pub queue_id: Option<&'a [u8]>,
    /// Whether a milter said so, not Postfix.
    pub by_milter: bool,
    /// When.
    pub stage: Stage,
    /// Who.
    pub client: Client<'a>,
    /// 4 or 5.
    pub class: u8,
    /// Whether the enhanced status code, if there is one, is of that class, too.
    pub has_status: bool,
    /// The reply, codes and all.
    pub text: &'a [u8],
    /// The reverse-path.
    pub reverse_path: Option<&'a [u8]>,
    /// The recipient.
    pub recipient: Option<&'a [u8]>,
    /// The HELO argument.
    pub helo: Option<&'a [u8]>,
    /// The client logged in.
    pub authenticated: bool,
}

/// Where in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before a recipient was named.
    Before,
    /// At a recipient.
    Rcpt,
    /// At DATA.
    Data,
    /// At the end of the message.
    EndOfMessage,
}

impl<'a> Event<'a> {
    /// What `program` said in `message`; [`None`] if it is nothing of concern, or not understood.
    pub fn parse(program: &Program<'a>, message: &'a [u8]) -> Option<Self> {
        match program.daemon {
            b"smtpd" => smtpd(message),
            b"cleanup" => {
                let (queue_id, said) = queued(message)?;
                if let Some(id) = said.strip_prefix(b"message-id=") {
                    let id = id.strip_prefix(b"<").unwrap_or(id);
                    let id = id.strip_suffix(b">").unwrap_or(id);
                    return Some(Self::MessageId { queue_id, id });
                }
                refusal(Some(queue_id), said).map(Self::Refusal)
            }
            b"qmgr" | b"nqmgr" => qmgr(message),
            b"postscreen" => {
                let said = message.strip_prefix(b"NOQUEUE: reject: ")?;
                said.starts_with(b"RCPT from ").then_some(Self::Postscreen)
            }
            _ => delivery(message),
        }
    }
}

fn smtpd(message: &[u8]) -> Option<Event<'_>> {
    if let Some(client) = message.strip_prefix(b"connect from ") {
        return Client::parse(client).map(|(client, _)| Event::Connect(client));
    }
    if message.starts_with(b"disconnect from ") {
        return Some(Event::Disconnect);
    }
    if let Some(said) = message.strip_prefix(b"NOQUEUE: ") {
        return refusal(None, said).map(Event::Refusal);
    }
    let (queue_id, said) = queued(message)?;
    if let Some(client) = said.strip_prefix(b"client=") {
        let (client, more) = Client::parse(client)?;
        let authenticated = more
            .strip_prefix(b", sasl_")
            .is_some_and(|more| !more.is_empty());
        return Some(Event::Accepting {
            queue_id,
            client,
            authenticated,
        });
    }
    refusal(Some(queue_id), said).map(Event::Refusal)
}

fn qmgr(message: &[u8]) -> Option<Event<'_>> {
    let (queue_id, said) = queued(message)?;
    if said == b"removed" {
        return Some(Event::Removed { queue_id });
    }
    let (reverse_path, more) = until(said.strip_prefix(b"from=<")?, b">, size=")?;
    let digits = more.iter().take_while(|it| it.is_ascii_digit()).count();
    let size = number(&more[..digits])?;
    let more = more[digits..].strip_prefix(b", nrcpt=")?;
    let digits = more.iter().take_while(|it| it.is_ascii_digit()).count();
    let recipients = number(&more[..digits])?;
    Some(Event::Queued {
        queue_id,
        reverse_path,
        size,
        recipients,
    })
}

fn delivery(message: &[u8]) -> Option<Event<'_>> {
    let (queue_id, said) = queued(message)?;
    let (to, more) = until(said.strip_prefix(b"to=<")?, b">, ")?;
    find(more, b"status=")?;
    let original = more.strip_prefix(b"orig_to=<");
    let original = original.and_then(|it| until(it, b">, "));
    let recipient = original.map_or(to, |(original, _)| original);
    Some(Event::Delivery {
        queue_id,
        recipient,
    })
}

/// `reject: RCPT from name[address]: 450 4.2.0 ...; from=<> to=<> proto=ESMTP helo=<>`.
fn refusal<'a>(queue_id: Option<&'a [u8]>, said: &'a [u8]) -> Option<Refusal<'a>> {
    let (by_milter, said) = match said.strip_prefix(b"reject: ") {
        Some(said) => (false, said),
        None => (true, said.strip_prefix(b"milter-reject: ")?),
    };
    let (stage, said) = word(said)?;
    let stage = match stage {
        b"RCPT" => Stage::Rcpt,
        b"DATA" | b"BDAT" => Stage::Data,
        b"END-OF-MESSAGE" => Stage::EndOfMessage,
        b"CONNECT" | b"HELO" | b"EHLO" | b"MAIL" | b"VRFY" | b"ETRN" => Stage::Before,
        _ => return None,
    };
    let (client, said) = Client::parse(said.strip_prefix(b"from ")?)?;
    let said = said.strip_prefix(b": ")?;
    let (text, envelope) = divide(said);
    let (class, has_status) = classes(text)?;
    Some(Refusal {
        queue_id,
        by_milter,
        stage,
        client,
        class,
        has_status,
        text,
        reverse_path: envelope.reverse_path,
        recipient: envelope.recipient,
        helo: envelope.helo,
        authenticated: envelope.authenticated,
    })
}

#[derive(Default)]
struct Envelope<'a> {
    reverse_path: Option<&'a [u8]>,
    recipient: Option<&'a [u8]>,
    helo: Option<&'a [u8]>,
    authenticated: bool,
}

/// Divides the reply from what is told of the envelope: at the first `; from=<` or `; proto=` after
/// which everything has Postfix's form.
fn divide(said: &[u8]) -> (&[u8], Envelope<'_>) {
    let mut from = 0;
    while let Some(at) = find(&said[from..], b"; ").map(|at| at + from) {
        if let Some(envelope) = envelope(&said[at + 2..]) {
            return (&said[..at], envelope);
        }
        from = at + 2;
    }
    (said, Envelope::default())
}

/// `from=<a> to=<b> proto=ESMTP helo=<c>`, of which each may be missing but one.
fn envelope(text: &[u8]) -> Option<Envelope<'_>> {
    let mut envelope = Envelope::default();
    let mut rest = text;
    if let Some(more) = rest.strip_prefix(b"from=<") {
        // The end of an address is the first at which Postfix's next word stands.
        let next: &[&[u8]] = &[b"> to=<", b"> proto="];
        let ends = next.iter().filter_map(|it| find(more, it));
        let end = ends.min()?;
        // Then it began in the reply's text, which names a stranger's address.
        if find(&more[..end], b"; from=<").is_some() {
            return None;
        }
        envelope.reverse_path = Some(&more[..end]);
        rest = &more[end + 2..];
    }
    if let Some(more) = rest.strip_prefix(b"to=<") {
        let end = find(more, b"> proto=")?;
        envelope.recipient = Some(&more[..end]);
        rest = &more[end + 2..];
    }
    let more = rest.strip_prefix(b"proto=")?;
    let (protocol, more) = word(more).unwrap_or((more, b""));
    if protocol.is_empty() || !protocol.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    rest = more;
    if let Some(more) = rest.strip_prefix(b"helo=<") {
        let end = match find(more, b"> sasl_") {
            Some(end) => end,
            None => more.strip_suffix(b">")?.len(),
        };
        envelope.helo = Some(&more[..end]);
        rest = more[end + 1..].trim_ascii_start();
    }
    envelope.authenticated = rest.starts_with(b"sasl_");
    (rest.is_empty() || envelope.authenticated).then_some(envelope)
}

/// The class of a reply: of its code, or of its enhanced status code where cleanup leaves the code
/// out; and whether an enhanced status code says the same.
fn classes(text: &[u8]) -> Option<(u8, bool)> {
    let (first, more) = word(text).unwrap_or((text, b""));
    let of_status = |status: &[u8]| match status {
        [class @ (b'4' | b'5'), b'.', digit, ..] if digit.is_ascii_digit() => Some(class - b'0'),
        _ => None,
    };
    if let Some(class) = of_status(first) {
        return Some((class, true));
    }
    let [class @ (b'4' | b'5'), ten, one] = *first else {
        return None;
    };
    let is_code = ten.is_ascii_digit() && one.is_ascii_digit();
    let class = class - b'0';
    is_code.then_some((class, of_status(more) == Some(class)))
}

impl<'a> Client<'a> {
    /// Reads `name[address]` or `name[address]:port`, and gives what comes after it.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (name, rest) = until(text, b"[")?;
        let (address, rest) = until(rest, b"]")?;
        let address = std::str::from_utf8(address).ok()?;
        let address = address.strip_prefix("IPv6:").unwrap_or(address);
        let address: IpAddr = address.parse().ok()?;
        let rest = match rest {
            [b':', port @ ..] => {
                let digits = port.iter().take_while(|it| it.is_ascii_digit()).count();
                if digits == 0 { rest } else { &port[digits..] }
            }
            _ => rest,
        };
        let address = address.to_canonical();
        let is_named = !name.is_empty() && !name.contains(&b' ');
        is_named.then_some((Self { name, address }, rest))
    }
}

/// A queue id, short or long, and what is said of the message.
fn queued(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (queue_id, said) = until(message, b": ")?;
    let is_id = matches!(queue_id.len(), 5..=32) && queue_id.iter().all(u8::is_ascii_alphanumeric);
    is_id.then_some((queue_id, said))
}

/// What stands before the first `end`, and after it.
fn until<'a>(text: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = find(text, end)?;
    Some((&text[..at], &text[at + end.len()..]))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|it| it == wanted)
}

#[cfg(test)]
mod tests;
