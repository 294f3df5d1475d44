//! The session: what follows from each command of the MTA, without I/O.
//!
//! Knows the order of commands, what must be remembered between them, when a recipient is judged
//! and how a verdict becomes a status. Leaves the verdict to a [`Judge`], the account of replies to
//! `ledger`, bytes and time to the listener.
//!
//! What is said of recipients is in `recipients`, what is said of a whole message, at DATA and at its
//! end, in `ending`, what is asked before either in `evidence` and `memory`, and what is known in between
//! in `transaction`.
//!
//! A sentenced client is told 421 at the next command that is answered, RCPT, DATA or the end of the
//! message, and the MTA hangs up. MAIL, which comes before, is not answered at all: that saves every
//! other session a round trip.

mod ending;
mod error;
mod evidence;
mod memory;
mod recipients;
mod transaction;

use std::{mem, net::IpAddr, sync::Arc};

use crate::policy::{Attempt, MessageHasher, Origin, Policy, RefuseReason, ServerMark, Timestamp};

use super::{
    command::{self, Command, Connect, Path, parse_address},
    context::Context,
    envelope::Envelope,
    frame::Frame,
    funnel::Course,
    ledger::{AddedHeader, Answer, Debt, LedgerError},
    macros::{AUTH_AUTHEN, DAEMON_ADDR, Macros, QUEUE_ID},
    negotiate::{Needs, Terms},
    passed::Passed,
    reply::Status,
};

pub use self::error::SessionError;
use self::memory::Memory;
use self::transaction::{Rejection, Transaction};

/// One milter connection: an SMTP session, as the MTA tells it.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    policy: Arc<Policy>,
    origin: Origin,
    terms: Terms,
    client: Option<IpAddr>,
    /// When the client came: when the MTA did, since Postfix tells connect only with the first RCPT.
    connected: Timestamp,
    /// Known from the macros of a connect to come on.
    server: ServerMark,
    envelope: Envelope,
    transaction: Option<Transaction>,
    /// What became of the transaction's message so far.
    course: Course,
    /// The message of the transaction, from DATA on, if it is to be read.
    message: Option<Box<MessageHasher>>,
    /// What other hosts were asked; nobody where there are none.
    memory: Option<Box<Memory>>,
    /// Recipients of this session that were deferred at RCPT.
    deferred: u32,
    /// A command that wants a verdict has come since this was last asked.
    has_decided: bool,
    /// The client is sentenced: everything that is answered is answered 421.
    is_turned_away: bool,
    /// From the macros of a MAIL to come.
    authenticated: bool,
    /// From the macros of a RCPT to come.
    rejection: Rejection,
}

impl Session {
    /// A session at its beginning. `origin` says what its attempts are evidence of.
    pub fn new(context: Arc<Context>, policy: Arc<Policy>, origin: Origin) -> Self {
        Self {
            context,
            policy,
            origin,
            terms: Terms::NONE,
            client: None,
            connected: Timestamp::NEVER,
            server: ServerMark::UNKNOWN,
            envelope: Envelope::default(),
            transaction: None,
            course: Course::default(),
            message: None,
            memory: None,
            deferred: 0,
            has_decided: false,
            is_turned_away: false,
            authenticated: false,
            rejection: Rejection::None,
        }
    }

    /// Takes one frame and appends the reply that is owed for it, if any, to `out`.
    ///
    /// A frame that is answered with [`Next::Evidence`] has not been taken: it comes again, once the
    /// session [has learnt](Self::learn) what it lacks.
    ///
    /// # Errors
    ///
    /// The connection must be closed: what would follow cannot be understood, or would be
    /// misunderstood.
    pub fn receive(
        &mut self,
        frame: Frame<'_>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Next, SessionError> {
        let command = Command::parse(frame)?;
        self.check_order(&command, frame.kind)?;
        if let Command::Negotiate(offer) = command {
            self.terms = Terms::agree(&Needs::GREYLISTING, offer)?;
            self.terms.encode(out);
            self.connected = now;
            return Ok(Next::Command);
        }
        if self.context.peers.is_some() && self.lacks_memory(&command, now) {
            return Ok(Next::Evidence);
        }
        if self.policy.evidence.asks() && self.lacks_evidence(&command, now) {
            return Ok(Next::Evidence);
        }
        self.go_on_from_memory();
        let debt = Debt::of(&command, &self.terms);
        self.has_decided |= matches!(
            command,
            Command::Rcpt(_) | Command::Data | Command::EndOfMessage(_)
        );
        let said = match command {
            Command::Connect(connect) => self.connect(&connect, now),
            Command::Helo(argument) => self.helo(argument),
            Command::Macros(macros) => self.macros(&macros),
            Command::Mail(path) => self.mail(&path),
            Command::Rcpt(path) => self.rcpt(&path, now),
            Command::Data => self.data(now),
            Command::Header { name, value } => {
                let said = self.begin_content(&debt, now);
                self.read_header(name, value);
                said
            }
            Command::Body(piece) => {
                let said = self.begin_content(&debt, now);
                self.read_body(piece);
                said
            }
            Command::EndOfMessage(piece) => self.end_of_message(piece, now),
            Command::Abort => self.end_transaction(),
            Command::Quit => {
                self.end_transaction();
                return Ok(Next::Close);
            }
            Command::QuitNewClient => {
                self.connected = Timestamp::NEVER;
                self.new_client()
            }
            Command::Negotiate(_) | Command::EndOfHeaders | Command::Unknown(_) => Said::Continue,
        };
        self.pay(debt, said, out)?;
        Ok(Next::Command)
    }

    /// Puts what is said into words.
    fn pay(&self, debt: Debt, said: Said, out: &mut Vec<u8>) -> Result<(), LedgerError> {
        let context = &*self.context;
        match said {
            Said::Accept => debt.pay(Answer::of(Status::Accept), out),
            Said::Continue => debt.pay(Answer::CONTINUE, out),
            Said::Deferral => debt.pay(Answer::of(Status::Reply(&context.reply)), out),
            Said::Passed(passed) => {
                let header = context.header.as_ref().map(|name| AddedHeader {
                    name,
                    passed,
                    host: &context.host,
                });
                let status = Status::Continue;
                debt.pay(Answer { status, header }, out)
            }
            Said::Refusal(reason) => {
                let replies = context.refusals.under(&self.policy);
                debt.pay(Answer::of(Status::Reply(replies.of(reason))), out)
            }
        }
    }

    /// Whether a body chunk may be received in pieces, as several, since no answer tells how many.
    pub fn takes_body_in_pieces(&self) -> bool {
        !self.terms.owe_status(&Command::Body(b""))
    }

    /// Whether a command that wants a verdict has come since this was last asked.
    pub fn has_decided(&mut self) -> bool {
        mem::take(&mut self.has_decided)
    }

    /// Whether closing now would cut no message short.
    pub fn is_between_transactions(&self) -> bool {
        self.transaction.is_none()
    }

    /// Options come first and once, and a recipient has a sender, of whom nothing is kept once the
    /// client was turned away. Everything else may come in any order: what has no transaction to
    /// belong to has no consequence either.
    fn check_order(&self, command: &Command<'_>, kind: u8) -> Result<(), SessionError> {
        let is_negotiated = self.terms != Terms::NONE;
        let in_order = match command {
            Command::Negotiate(_) => !is_negotiated,
            Command::Quit => true,
            Command::Rcpt(_) => {
                is_negotiated && (self.transaction.is_some() || self.is_turned_away)
            }
            _ => is_negotiated,
        };
        if in_order {
            Ok(())
        } else {
            Err(SessionError::OutOfOrder { kind })
        }
    }

    fn connect(&mut self, connect: &Connect<'_>, now: Timestamp) -> Said {
        let server = self.server;
        self.new_client();
        self.server = server;
        if self.connected == Timestamp::NEVER {
            self.connected = now;
        }
        self.client = connect.address;
        self.envelope.set_client_name(connect.name);
        Said::Continue
    }

    /// Said again after STARTTLS; a transaction does not survive it.
    fn helo(&mut self, argument: &[u8]) -> Said {
        self.end_transaction();
        self.envelope.set_helo(argument);
        Said::Continue
    }

    fn macros(&mut self, macros: &Macros<'_>) -> Said {
        match macros.stage {
            command::CONNECT => self.server = self.server_of(macros),
            command::MAIL => {
                let name = macros.value(AUTH_AUTHEN);
                self.authenticated = name.is_some_and(|name| !name.is_empty());
            }
            command::RCPT => self.rejection = Rejection::of(macros),
            command::DATA | command::END_OF_MESSAGE if self.transaction.is_some() => {
                if let Some(id) = macros.value(QUEUE_ID) {
                    self.envelope.set_queue_id(id);
                }
            }
            _ => {}
        }
        Said::Continue
    }

    /// Sendmail names the address it listens at, which may be all of them.
    fn server_of(&self, macros: &Macros<'_>) -> ServerMark {
        let address = macros.value(DAEMON_ADDR).and_then(parse_address);
        let Some(address) = address.filter(|it| !it.is_unspecified()) else {
            return ServerMark::UNKNOWN;
        };
        self.context.servers.mark(address).unwrap_or_else(|| {
            self.context.metrics.servers_unmarked.inc();
            ServerMark::UNKNOWN
        })
    }

    fn mail(&mut self, path: &Path<'_>) -> Said {
        let authenticated = mem::take(&mut self.authenticated);
        self.end_transaction();
        if self.is_turned_away {
            return Said::Continue;
        }
        self.envelope.set_reverse_path(path.address);
        self.course = Course::announcing(path.announced_size());
        self.transaction = Some(Transaction {
            announced_size: path.announced_size(),
            authenticated,
            from_probe: self.policy.is_probe_sender(path.address),
            ..Transaction::default()
        });
        Said::Continue
    }

    /// `None` for a client without an address, such as a local submission: it has nothing to be
    /// greylisted by and passes.
    fn attempt<'a>(
        &'a self,
        recipient: &'a [u8],
        transaction: &Transaction,
    ) -> Option<Attempt<'a>> {
        Some(Attempt {
            client: self.client?,
            client_name: self.envelope.client_name(),
            helo: self.envelope.helo(),
            reverse_path: self.envelope.reverse_path(),
            recipient,
            announced_size: transaction.announced_size,
            connected: self.connected,
            server: self.server,
            authenticated: transaction.authenticated,
            origin: self.origin,
            evidence: transaction.evidence,
        })
    }

    /// An MTA that has not hung up on 421 hears it again.
    fn say_without_transaction(&self) -> Said {
        if self.is_turned_away {
            Said::Refusal(RefuseReason::Sentenced)
        } else {
            Said::Continue
        }
    }

    fn end_transaction(&mut self) -> Said {
        self.count_quit_probe();
        self.context
            .metrics
            .funnel
            .count(&mem::take(&mut self.course));
        self.transaction = None;
        self.message = None;
        self.authenticated = false;
        self.rejection = Rejection::None;
        self.envelope.reset();
        Said::Continue
    }

    fn count_quit_probe(&self) {
        if self
            .transaction
            .is_some_and(|it| it.has_kept && !it.is_decided)
        {
            self.context.metrics.probes_quit.inc();
        }
    }

    fn new_client(&mut self) -> Said {
        self.end_transaction();
        self.client = None;
        self.server = ServerMark::UNKNOWN;
        self.deferred = 0;
        self.memory = None;
        self.is_turned_away = false;
        self.envelope.set_client_name(b"");
        Said::Continue
    }
}

/// An MTA may hang up without a word.
impl Drop for Session {
    fn drop(&mut self) {
        self.end_transaction();
    }
}

/// What the connection does after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Close it: the MTA has said good-bye.
    Close,
    /// Wait for the next command.
    Command,
    /// Ask whom the session wants to ask, and show the frame again.
    Evidence,
}

/// What is said to a command, before it is put into words.
#[derive(Clone, Copy, Debug)]
enum Said {
    Accept,
    Continue,
    Deferral,
    /// Go on, with the header that says how it passed.
    Passed(Passed),
    Refusal(RefuseReason),
}

#[cfg(test)]
mod tests;
