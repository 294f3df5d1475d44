//! The session: what follows from each command of the MTA, without I/O.
//!
//! Knows the order of commands, what must be remembered between them, when a recipient is judged
//! and how a verdict becomes a status. Leaves the verdict to a [`Judge`], the account of replies to
//! `ledger`, bytes and time to the listener.
//!
//! Deciding by the envelope, a recipient is judged at RCPT. The first ones that are pending are
//! deferred there; further ones go on, so that the client does not run into the MTA's error limit,
//! and one deferral at DATA answers for them all. A probe sender is never refused at RCPT, and its
//! recipients are judged at DATA only: one that quits before counts for nothing. RCPT is never
//! answered with ACCEPT, since that would hide the recipients to come.

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use thiserror::Error;

use crate::policy::{
    Attempt, Judge, Judgement, Origin, PassReason, Policy, ServerMark, Timestamp, Verdict,
};

use super::{
    command::{self, Command, CommandError, Connect, Path},
    envelope::Envelope,
    frame::Frame,
    ledger::{AddedHeader, Answer, Debt, LedgerError},
    log,
    macros::{AUTH_AUTHEN, Macros, QUEUE_ID, RCPT_MAILER},
    metrics::{Metrics, Stage},
    negotiate::{Needs, NegotiationError, Terms},
    reply::{HeaderName, ReplyText, Status},
    settings::Settings,
};

/// One milter connection: an SMTP session, as the MTA tells it.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    policy: Arc<Policy>,
    origin: Origin,
    terms: Terms,
    client: Option<IpAddr>,
    connected: Timestamp,
    envelope: Envelope,
    transaction: Option<Transaction>,
    /// Recipients of this session that were refused at RCPT.
    refused: u32,
    /// From the macros of a MAIL to come.
    authenticated: bool,
    /// From the macros of a RCPT to come.
    rejected: bool,
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
            envelope: Envelope::default(),
            transaction: None,
            refused: 0,
            authenticated: false,
            rejected: false,
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
            self.terms = Terms::agree(&Needs::ENVELOPE, offer)?;
            self.terms.encode(out);
            return Ok(Next::Command);
        }
        let context = Arc::clone(&self.context);
        let answer = match command {
            Command::Connect(connect) => self.connect(&connect, now),
            Command::Helo(argument) => self.helo(argument),
            Command::Macros(macros) => self.macros(&macros),
            Command::Mail(path) => self.mail(&path),
            Command::Rcpt(path) => self.rcpt(&path, &context, now),
            Command::Data => self.data(&context, now),
            Command::EndOfMessage(_) => self.end_of_message(&context, now),
            Command::Abort => self.end_transaction(),
            Command::Quit => {
                self.end_transaction();
                return Ok(Next::Close);
            }
            Command::QuitNewClient => self.new_client(),
            Command::Negotiate(_)
            | Command::Body(_)
            | Command::EndOfHeaders
            | Command::Header { .. }
            | Command::Unknown(_) => Answer::CONTINUE,
        };
        Debt::of(&command, &self.terms).pay(answer, out)?;
        Ok(Next::Command)
    }

    /// Whether closing now would cut no message short.
    pub fn is_between_transactions(&self) -> bool {
        self.transaction.is_none()
    }

    /// Options come first and once, and a recipient has a sender. Everything else may come in any
    /// order: what has no transaction to belong to has no consequence either.
    fn check_order(&self, command: &Command<'_>, kind: u8) -> Result<(), SessionError> {
        let is_negotiated = self.terms != Terms::NONE;
        let in_order = match command {
            Command::Negotiate(_) => !is_negotiated,
            Command::Quit => true,
            Command::Rcpt(_) => is_negotiated && self.transaction.is_some(),
            _ => is_negotiated,
        };
        if in_order {
            Ok(())
        } else {
            Err(SessionError::OutOfOrder { kind })
        }
    }

    fn connect(&mut self, connect: &Connect<'_>, now: Timestamp) -> Answer<'static> {
        self.new_client();
        self.connected = now;
        self.client = connect.address;
        self.envelope.set_client_name(connect.name);
        Answer::CONTINUE
    }

    /// Said again after STARTTLS; a transaction does not survive it.
    fn helo(&mut self, argument: &[u8]) -> Answer<'static> {
        self.end_transaction();
        self.envelope.set_helo(argument);
        Answer::CONTINUE
    }

    fn macros(&mut self, macros: &Macros<'_>) -> Answer<'static> {
        match macros.stage {
            command::MAIL => {
                let name = macros.value(AUTH_AUTHEN);
                self.authenticated = name.is_some_and(|name| !name.is_empty());
            }
            command::RCPT => self.rejected = macros.value(RCPT_MAILER) == Some(b"error"),
            command::DATA | command::END_OF_MESSAGE if self.transaction.is_some() => {
                if let Some(id) = macros.value(QUEUE_ID) {
                    self.envelope.set_queue_id(id);
                }
            }
            _ => {}
        }
        Answer::CONTINUE
    }

    fn mail(&mut self, path: &Path<'_>) -> Answer<'static> {
        self.count_quit_probe();
        self.envelope.set_reverse_path(path.address);
        self.transaction = Some(Transaction {
            announced_size: path.announced_size(),
            authenticated: mem::take(&mut self.authenticated),
            from_probe: self.policy.is_probe_sender(path.address),
            has_kept: false,
            is_decided: false,
            is_held: false,
            waited: None,
        });
        Answer::CONTINUE
    }

    fn rcpt<'c>(&mut self, path: &Path<'_>, context: &'c Context, now: Timestamp) -> Answer<'c> {
        let is_rejected = mem::take(&mut self.rejected);
        let Some(transaction) = &mut self.transaction else {
            return Answer::CONTINUE;
        };
        if is_rejected {
            context.metrics.recipients_rejected.inc();
            return Answer::CONTINUE;
        }
        if transaction.from_probe {
            if self.envelope.keep_recipient(path.address) {
                transaction.has_kept = true;
                transaction.is_decided = false;
            } else {
                context.metrics.recipients_unkept.inc();
            }
            return Answer::CONTINUE;
        }
        let mut judged = *transaction;
        let is_pending = self.judge(path.address, &mut judged, now);
        if is_pending {
            if self.refused < self.policy.rcpt_deferrals {
                self.refused += 1;
                context.metrics.deferrals.at(Stage::Rcpt).inc();
                return Answer::of(Status::Defer(&context.reply));
            }
            judged.is_held = true;
        }
        self.transaction = Some(judged);
        Answer::CONTINUE
    }

    /// The last word on the envelope. With nothing pending and no header due, the MTA need show
    /// nothing more of the message.
    ///
    /// A deferral does not end the transaction, since it does not end Postfix's: the client may
    /// name more recipients, or say DATA again, and must not get through by that.
    fn data<'c>(&mut self, context: &'c Context, now: Timestamp) -> Answer<'c> {
        let Some(transaction) = self.decide(now) else {
            return Answer::CONTINUE;
        };
        if transaction.is_held {
            self.defer_message(context, Stage::Data)
        } else if self.header_due(&transaction, context).is_some() {
            Answer::CONTINUE
        } else {
            self.end_transaction();
            Answer::of(Status::Accept)
        }
    }

    /// An MTA older than milter version 4 does not tell DATA, so the envelope may be decided here.
    fn end_of_message<'c>(&mut self, context: &'c Context, now: Timestamp) -> Answer<'c> {
        let Some(transaction) = self.decide(now) else {
            return Answer::CONTINUE;
        };
        if transaction.is_held {
            let answer = self.defer_message(context, Stage::EndOfMessage);
            self.end_transaction();
            return answer;
        }
        let header = self.header_due(&transaction, context);
        if let Some(AddedHeader { waited, .. }) = header {
            context.metrics.headers_added.inc();
            log::delayed(self.envelope.queue_id(), waited);
        }
        self.end_transaction();
        Answer {
            status: Status::Continue,
            header,
        }
    }

    /// Judges what was kept for now. `None` without a transaction.
    fn decide(&mut self, now: Timestamp) -> Option<Transaction> {
        let mut decided = self.transaction?;
        if !decided.is_decided {
            decided.is_decided = true;
            for recipient in self.envelope.kept() {
                decided.is_held |= self.judge(recipient, &mut decided, now);
            }
            self.transaction = Some(decided);
        }
        Some(decided)
    }

    /// Whether `recipient` is pending. A client without an address, such as a local submission,
    /// has nothing to greylist it by and passes.
    fn judge(&self, recipient: &[u8], transaction: &mut Transaction, now: Timestamp) -> bool {
        let Some(client) = self.client else {
            self.context.metrics.recipients_without_address.inc();
            return false;
        };
        let attempt = Attempt {
            client,
            client_name: self.envelope.client_name(),
            helo: self.envelope.helo(),
            reverse_path: self.envelope.reverse_path(),
            recipient,
            announced_size: transaction.announced_size,
            connected: self.connected,
            server: ServerMark::UNKNOWN,
            authenticated: transaction.authenticated,
            origin: self.origin,
        };
        let Judgement { verdict, .. } = self.context.judge.judge(&attempt, now);
        log::judged(&attempt, verdict, self.context.addresses);
        if let Verdict::Pass(PassReason::Waited { waited }) = verdict {
            transaction.waited = transaction.waited.max(Some(waited));
        }
        matches!(verdict, Verdict::Defer(_) | Verdict::Refuse(_))
    }

    fn header_due<'c>(
        &self,
        transaction: &Transaction,
        context: &'c Context,
    ) -> Option<AddedHeader<'c>> {
        if !self.terms.may_add_headers() {
            return None;
        }
        Some(AddedHeader {
            name: context.header.as_ref()?,
            waited: transaction.waited?,
            host: &context.host,
        })
    }

    fn defer_message<'c>(&self, context: &'c Context, stage: Stage) -> Answer<'c> {
        context.metrics.deferrals.at(stage).inc();
        log::held(self.envelope.queue_id(), stage);
        Answer::of(Status::Defer(&context.reply))
    }

    fn end_transaction(&mut self) -> Answer<'static> {
        self.count_quit_probe();
        self.transaction = None;
        self.authenticated = false;
        self.rejected = false;
        self.envelope.reset();
        Answer::CONTINUE
    }

    fn count_quit_probe(&self) {
        if self
            .transaction
            .is_some_and(|it| it.has_kept && !it.is_decided)
        {
            self.context.metrics.probes_quit.inc();
        }
    }

    fn new_client(&mut self) -> Answer<'static> {
        self.end_transaction();
        self.client = None;
        self.refused = 0;
        self.envelope.set_client_name(b"");
        Answer::CONTINUE
    }
}

/// What all sessions share.
pub struct Context {
    judge: Arc<dyn Judge>,
    metrics: Arc<Metrics>,
    reply: ReplyText,
    header: Option<HeaderName>,
    host: String,
    addresses: log::Addresses,
}

impl Context {
    /// What sessions need of `settings`.
    pub fn new(settings: &Settings, judge: Arc<dyn Judge>, metrics: Arc<Metrics>) -> Self {
        Self {
            judge,
            metrics,
            reply: settings.reply.clone(),
            header: settings.header.clone(),
            host: header_safe(&settings.host),
            addresses: settings.addresses,
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("reply", &self.reply)
            .field("header", &self.header)
            .field("host", &self.host)
            .finish_non_exhaustive()
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

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The frame is no command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An answer was refused by the ledger: a bug of ours, kept from doing harm.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No terms were found.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// A command that cannot come here.
    #[error("command '{}' out of order", kind.escape_ascii())]
    OutOfOrder {
        /// The kind byte.
        kind: u8,
    },
}

impl SessionError {
    /// One word for the metric.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Command(CommandError::Malformed { .. }) => "malformed",
            Self::Command(CommandError::UnknownKind { .. }) => "unknown_command",
            Self::Ledger(_) => "ledger",
            Self::Negotiation(_) => "version",
            Self::OutOfOrder { .. } => "order",
        }
    }
}

/// What is known of the mail transaction under way, beside its texts.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state: every combination is legal"
)]
struct Transaction {
    announced_size: u64,
    authenticated: bool,
    /// Its recipients are judged at DATA.
    from_probe: bool,
    /// At least one recipient waits to be judged.
    has_kept: bool,
    /// All recipients named so far have been judged.
    is_decided: bool,
    /// A pending recipient was not refused at RCPT, so the message is deferred.
    is_held: bool,
    /// How long the longest wait of a recipient was that passes after waiting.
    waited: Option<Duration>,
}

/// A host name as it may stand in a header; anything else becomes `?`.
fn header_safe(host: &str) -> String {
    let safe = |it: char| {
        if it.is_ascii_alphanumeric() || ".-_[]:".contains(it) {
            it
        } else {
            '?'
        }
    };
    host.chars().take(HOST_LIMIT).map(safe).collect()
}

/// The longest domain name.
const HOST_LIMIT: usize = 255;

#[cfg(test)]
mod tests;
