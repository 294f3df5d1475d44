//! The session: what follows from each command of the MTA, without I/O.
//!
//! Knows the order of commands, what must be remembered between them, when a recipient is judged
//! and how a verdict becomes a status. Leaves the verdict to a [`Judge`], the account of replies to
//! `ledger`, bytes and time to the listener.
//!
//! A recipient is judged at RCPT. The first ones that are pending are deferred there; further ones
//! go on, so that the client does not run into the MTA's error limit, and one deferral at DATA
//! answers for them all. A probe sender is never refused at RCPT, and its recipients are judged at
//! DATA only: one that quits before counts for nothing. RCPT is never answered with ACCEPT, since
//! that would hide the recipients to come.
//!
//! Where the judge wants the content of a message, its recipient and DATA go on, headers and body
//! are read as they pass, and what the verdict said is told at the end of the message. All other
//! messages are ended at DATA, unless a header is due: then headers and body come too, and go
//! unread.
//!
//! A sentenced client is told 421 at the next command that is answered, RCPT, DATA or the end of the
//! message, and the MTA hangs up. MAIL, which comes before, is not answered at all: that saves every
//! other session a round trip.

mod error;
mod transaction;

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use crate::policy::{
    Attempt, Judgement, MessageHasher, Origin, Policy, RefuseReason, ServerMark, Timestamp, Verdict,
};

use super::{
    command::{self, Command, Connect, Path, parse_address},
    context::Context,
    envelope::{Due, Envelope, Place},
    frame::Frame,
    ledger::{AddedHeader, Answer, Debt, LedgerError},
    log,
    macros::{AUTH_AUTHEN, DAEMON_ADDR, Macros, QUEUE_ID},
    metrics::Stage,
    negotiate::{Needs, Terms},
    reply::Status,
};

pub use self::error::SessionError;
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
    /// The message of the transaction, from DATA on, if its content is wanted.
    message: Option<Box<MessageHasher>>,
    /// Recipients of this session that were deferred at RCPT.
    deferred: u32,
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
            message: None,
            deferred: 0,
            is_turned_away: false,
            authenticated: false,
            rejection: Rejection::None,
        }
    }

    /// Takes one frame and appends the reply that is owed for it, if any, to `out`.
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
        let debt = Debt::of(&command, &self.terms);
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
            Command::EndOfMessage(piece) => {
                self.read_body(piece);
                self.end_of_message(now)
            }
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
            Said::Delayed(waited) => {
                let header = context.header.as_ref().map(|name| AddedHeader {
                    name,
                    waited,
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
        self.transaction = Some(Transaction {
            announced_size: path.announced_size(),
            authenticated,
            from_probe: self.policy.is_probe_sender(path.address),
            ..Transaction::default()
        });
        Said::Continue
    }

    fn rcpt(&mut self, path: &Path<'_>, now: Timestamp) -> Said {
        let rejection = mem::take(&mut self.rejection);
        let Some(mut transaction) = self.transaction else {
            return self.say_without_transaction();
        };
        if rejection != Rejection::None {
            self.hear_rejection(rejection, path.address, &transaction, now);
            return Said::Continue;
        }
        if transaction.from_probe {
            if self.envelope.keep_recipient(path.address, Due::Judgement) {
                transaction.has_kept = true;
                transaction.is_decided = false;
                self.transaction = Some(transaction);
            } else {
                self.context.metrics.recipients_unkept.inc();
            }
            return Said::Continue;
        }
        let Some(judgement) = self.judge(path.address, &transaction, now) else {
            return Said::Continue;
        };
        if let Verdict::Refuse(reason) = judgement.verdict {
            return self.refuse(reason);
        }
        if judgement.wants_content {
            transaction.wants_content |= self.keep_for_content(path.address);
        }
        let goes_on = judgement.wants_content || self.deferred >= self.policy.rcpt_deferrals;
        if matches!(judgement.verdict, Verdict::Defer(_)) && !goes_on {
            self.deferred += 1;
            self.context.metrics.deferrals.at(Stage::Rcpt).inc();
            return Said::Deferral;
        }
        transaction.take(judgement.verdict);
        self.transaction = Some(transaction);
        Said::Continue
    }

    /// The MTA refuses this recipient itself, and does not heed what is answered.
    fn hear_rejection(
        &self,
        rejection: Rejection,
        recipient: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) {
        self.context.metrics.recipients_rejected.inc();
        if rejection == Rejection::ForGood
            && let Some(attempt) = self.attempt(recipient, transaction)
        {
            log::rejected(&attempt, self.context.addresses);
            self.context.judge.note_rejected(&attempt, now);
        }
    }

    /// False when there is no room for one more; then it is only not read for this recipient.
    fn keep_for_content(&mut self, recipient: &[u8]) -> bool {
        let is_kept = self.envelope.keep_recipient(recipient, Due::Content);
        if !is_kept {
            self.context.metrics.recipients_unread.inc();
        }
        is_kept
    }

    /// The last word on the envelope. With nothing pending, nothing to be read and no header due,
    /// the MTA need show nothing more of the message.
    ///
    /// A deferral does not end the transaction, since it does not end Postfix's: the client may
    /// name more recipients, or say DATA again, and must not get through by that.
    fn data(&mut self, now: Timestamp) -> Said {
        self.message = None;
        let Some(transaction) = self.decide(now) else {
            return self.say_without_transaction();
        };
        if let Some(reason) = self.refusal_of(&transaction, now) {
            self.refuse(reason)
        } else if transaction.wants_content {
            self.message = Some(Box::new(self.context.judge.message_hasher()));
            Said::Continue
        } else if transaction.is_held {
            self.defer_message(Stage::Data)
        } else if self.header_due(&transaction).is_some() {
            Said::Continue
        } else {
            self.end_transaction();
            Said::Accept
        }
    }

    /// An MTA older than milter version 4 does not tell DATA. It waits for an answer to each header
    /// instead, and the first one is as good a place: the envelope is complete.
    fn begin_content(&mut self, debt: &Debt, now: Timestamp) -> Said {
        match self.transaction {
            Some(transaction) if !transaction.is_decided && debt.owes_status() => self.data(now),
            _ => Said::Continue,
        }
    }

    fn read_header(&mut self, name: &[u8], value: &[u8]) {
        if let Some(message) = &mut self.message {
            message.header(name, value);
        }
    }

    fn read_body(&mut self, piece: &[u8]) {
        if let Some(message) = &mut self.message {
            message.body(piece);
        }
    }

    /// What the message proves is heard for all recipients; then it is answered once, as their
    /// verdicts said. What it proves of the client is told from its next command on. The envelope may
    /// be decided only here, where nothing of an empty message came before.
    fn end_of_message(&mut self, now: Timestamp) -> Said {
        let Some(transaction) = self.decide(now) else {
            return self.say_without_transaction();
        };
        let refusal = self.refusal_of(&transaction, now);
        if let Some(message) = self.message.take() {
            self.note_content(&message, &transaction, now);
        }
        let said = if let Some(reason) = refusal {
            self.refuse(reason)
        } else if transaction.is_held {
            self.defer_message(Stage::EndOfMessage)
        } else if let Some(waited) = self.header_due(&transaction) {
            self.context.metrics.headers_added.inc();
            log::delayed(self.envelope.queue_id(), waited);
            Said::Delayed(waited)
        } else {
            Said::Continue
        };
        self.end_transaction();
        said
    }

    fn note_content(&self, message: &MessageHasher, transaction: &Transaction, now: Timestamp) {
        self.context.metrics.contents_read.inc();
        log::read(self.envelope.queue_id());
        for kept in self.envelope.kept(Due::Content) {
            if let Some(attempt) = self.attempt(kept.recipient, transaction) {
                self.context.judge.note_content(&attempt, message, now);
            }
        }
    }

    /// Why the message is refused whole, whatever was said of its recipients: one of them may have got
    /// the client sentenced, or another session has.
    fn refusal_of(&self, transaction: &Transaction, now: Timestamp) -> Option<RefuseReason> {
        if transaction.refusal.is_some() {
            return transaction.refusal;
        }
        let attempt = self.attempt(b"", transaction)?;
        if !self.context.judge.turns_away(&attempt, now) {
            return None;
        }
        let reason = RefuseReason::Sentenced;
        let judgement = Verdict::Refuse(reason).into();
        log::judged(&attempt, &judgement, self.context.addresses);
        Some(reason)
    }

    /// Judges what was kept for now. `None` without a transaction.
    ///
    /// The first refusal is the message's: it is the client that is refused, not a recipient.
    fn decide(&mut self, now: Timestamp) -> Option<Transaction> {
        let mut decided = self.transaction?;
        decided.is_decided = true;
        let mut place = Place::FIRST;
        while decided.refusal.is_none()
            && let Some(kept) = self.envelope.next_kept(Due::Judgement, place)
        {
            let judgement = self.judge(kept.recipient, &decided, now);
            let marked = kept.place;
            place = kept.next;
            let wants_content = judgement.is_some_and(|it| it.wants_content);
            decided.wants_content |= wants_content;
            if let Some(judgement) = judgement {
                decided.take(judgement.verdict);
            }
            let due = if wants_content {
                Due::Content
            } else {
                Due::Nothing
            };
            self.envelope.mark(marked, due);
        }
        self.transaction = Some(decided);
        Some(decided)
    }

    fn judge(
        &self,
        recipient: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) -> Option<Judgement> {
        let Some(attempt) = self.attempt(recipient, transaction) else {
            self.context.metrics.recipients_without_address.inc();
            return None;
        };
        let judgement = self.context.judge.judge(&attempt, now);
        log::judged(&attempt, &judgement, self.context.addresses);
        Some(judgement)
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
        })
    }

    /// How long the message waited, if a header is to say so.
    fn header_due(&self, transaction: &Transaction) -> Option<Duration> {
        let may_say = self.context.header.is_some() && self.terms.may_add_headers();
        transaction.waited.filter(|_| may_say)
    }

    fn defer_message(&self, stage: Stage) -> Said {
        self.context.metrics.deferrals.at(stage).inc();
        log::held(self.envelope.queue_id(), stage);
        Said::Deferral
    }

    /// A sentenced client is heard no more; another keeps its transaction, as Postfix does.
    fn refuse(&mut self, reason: RefuseReason) -> Said {
        match reason {
            RefuseReason::Sentenced => {
                self.context.metrics.turned_away.inc();
                self.is_turned_away = true;
                self.end_transaction();
            }
            RefuseReason::BadReputation { .. } => {
                self.context.metrics.refusals.inc();
            }
        }
        Said::Refusal(reason)
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
        self.is_turned_away = false;
        self.envelope.set_client_name(b"");
        Said::Continue
    }
}

/// What the connection does after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Close it: the MTA has said good-bye.
    Close,
    /// Wait for the next command.
    Command,
}

/// What is said to a command, before it is put into words.
#[derive(Clone, Copy, Debug)]
enum Said {
    Accept,
    Continue,
    Deferral,
    /// Go on, with the header that says so.
    Delayed(Duration),
    Refusal(RefuseReason),
}

#[cfg(test)]
mod tests;
