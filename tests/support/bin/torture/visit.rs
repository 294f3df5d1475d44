//! One SMTP session, told to the daemon as Postfix tells it, and what came of each recipient.
//!
//! A reply too few is a time-out here, a reply too many an unexpected byte at the end, a reply of an
//! unknown kind or a permanent refusal an error: all of them are the daemon's fault, unless it was
//! ended meanwhile.

use std::{io, net::IpAddr};

use greygate::milter::Endpoint;
use support::mta::{Answer, Mta, POSTFIX};

/// Who sends what to whom.
#[derive(Clone, Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) client: IpAddr,
    pub(crate) helo: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) recipients: Vec<&'a str>,
    /// Tells its message from others.
    pub(crate) message: &'a str,
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// 4yz at RCPT.
    Deferred,
    /// 4yz at DATA or at the end of the message, with the others that were left.
    DeferredAtEnd,
    /// It goes through.
    Passed,
    /// 421: its client is sentenced.
    TurnedAway,
}

impl Visit<'_> {
    /// What became of each recipient, in order.
    pub(crate) fn make(&self, endpoint: &Endpoint) -> io::Result<Vec<Fate>> {
        let (mut mta, _) = Mta::negotiate(endpoint, POSTFIX)?;
        for answer in [
            mta.client(&format!("[{}]", self.client), self.client)?,
            mta.helo(self.helo)?,
            mta.mail(self.sender)?,
        ] {
            if kind(&answer)? == Kind::Hangup {
                mta.abort();
                mta.quit()?;
                return Ok(vec![Fate::TurnedAway; self.recipients.len()]);
            }
        }
        let mut fates = Vec::new();
        for recipient in &self.recipients {
            fates.push(match kind(&mta.rcpt(recipient)?)? {
                Kind::Go | Kind::Accept => Fate::Passed,
                Kind::Defer => Fate::Deferred,
                Kind::Hangup => Fate::TurnedAway,
            });
        }
        if fates.contains(&Fate::Passed) {
            let end = match self.rest(&mut mta)? {
                Kind::Go | Kind::Accept => Fate::Passed,
                Kind::Defer => Fate::DeferredAtEnd,
                Kind::Hangup => Fate::TurnedAway,
            };
            for fate in fates.iter_mut().filter(|fate| **fate == Fate::Passed) {
                *fate = end;
            }
        }
        mta.abort();
        mta.quit()?;
        Ok(fates)
    }

    /// DATA and the message, as far as the milter wants to see it.
    fn rest(&self, mta: &mut Mta) -> io::Result<Kind> {
        let id = format!("<{}@{}>", self.message, self.helo);
        let body = format!("This is message {}.\r\n", self.message);
        let data = kind(&mta.data()?)?;
        if data != Kind::Go {
            return Ok(data);
        }
        for (name, value) in [("From", self.sender), ("Message-ID", id.as_str())] {
            let header = kind(&mta.header(name, value)?)?;
            if header != Kind::Go {
                return Ok(header);
            }
        }
        mta.body(body.as_bytes())?;
        kind(&mta.end_of_message()?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Accept,
    Defer,
    Go,
    Hangup,
}

/// What a reply says to Postfix. A permanent one is an error: mail is never refused here.
fn kind(answer: &Answer) -> io::Result<Kind> {
    let status = answer.status.as_str();
    Ok(match status {
        "" | "c" => Kind::Go,
        "a" => Kind::Accept,
        "t" => Kind::Defer,
        _ if status.starts_with("y421 ") => Kind::Hangup,
        _ if status.starts_with("y4") => Kind::Defer,
        _ => return Err(io::Error::other(format!("the reply {status:?}"))),
    })
}
