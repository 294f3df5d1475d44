//! A whole message as a session of the milter plays it, over the store and without a wire: its
//! recipients are named, it is sent if it may be, and the sender hears an answer for each recipient.
//!
//! Which recipient is answered at RCPT, at DATA and at end of message is the session's rule, told here
//! once more in few words; what each deserves is the store's word. The session itself is tested with
//! bytes in `tests/milter`.

use std::net::IpAddr;

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, DeferReason, Judge as _, Judgement, PassReason, ReadReason, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};

/// A message in somebody's queue.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    /// Whose it is and where it comes from; its recipient is of no concern.
    pub(crate) attempt: Attempt<'a>,
    pub(crate) recipients: Vec<String>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the MTA hangs up after the first recipient that is refused, as Postfix does under
    /// stress.
    pub(crate) is_cut_short: bool,
}

/// Where a recipient was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Rcpt,
    Data,
    End,
}

/// What the sender hears of a recipient, and the word for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Delivered(&'static str),
    Deferred(Stage, &'static str),
    /// The session ended before an answer.
    Unheard,
}

impl<'a> Message<'a> {
    /// A message of `attempt` to its recipient, with a Message-ID and a body.
    pub(crate) fn of(attempt: Attempt<'a>) -> Self {
        let recipient = String::from_utf8_lossy(attempt.recipient).into_owned();
        Self {
            attempt,
            recipients: vec![recipient],
            headers: vec![("Message-ID", "<1@sender.example>".to_owned())],
            body: b"Hello.\r\n".to_vec(),
            is_cut_short: false,
        }
    }

    /// The same from another client, whose name tells a server.
    pub(crate) fn by_client(&self, client: IpAddr) -> Self {
        Self {
            attempt: Attempt {
                client,
                ..self.attempt
            },
            ..self.clone()
        }
    }

    /// The same to other recipients.
    pub(crate) fn to(&self, recipients: impl IntoIterator<Item = String>) -> Self {
        Self {
            recipients: recipients.into_iter().collect(),
            ..self.clone()
        }
    }

    /// The same with this Message-ID.
    pub(crate) fn with_id(&self, id: &str) -> Self {
        Self {
            headers: vec![("Message-ID", format!("<{id}>"))],
            ..self.clone()
        }
    }

    /// Sends it, and says what is heard of each recipient.
    pub(crate) fn sent(&self, fixture: &Fixture, store: &Store) -> Vec<Answer> {
        let mut session = Session::of(self, fixture, store);
        if session.names_recipients() {
            session.sends();
        }
        session.answers
    }

    /// Sends it to its one recipient.
    pub(crate) fn answer(&self, fixture: &Fixture, store: &Store) -> Answer {
        let answers = self.sent(fixture, store);
        let [answer] = answers.as_slice() else {
            panic!("one recipient: {answers:?}");
        };
        *answer
    }

    fn attempt_at(&self, recipient: usize) -> Attempt<'_> {
        Attempt {
            recipient: self.recipients[recipient].as_bytes(),
            ..self.attempt
        }
    }
}

struct Session<'a> {
    fixture: &'a Fixture,
    store: &'a Store,
    message: &'a Message<'a>,
    answers: Vec<Answer>,
    /// Recipients that were not refused, and what was said of them; nothing yet of a probe's.
    named: Vec<(usize, Option<Judgement>)>,
    /// Recipients that were.
    refused: u32,
}

impl<'a> Session<'a> {
    fn of(message: &'a Message<'a>, fixture: &'a Fixture, store: &'a Store) -> Self {
        Self {
            fixture,
            store,
            message,
            answers: vec![Answer::Unheard; message.recipients.len()],
            named: Vec::new(),
            refused: 0,
        }
    }

    /// RCPT. Whether the session lives on.
    fn names_recipients(&mut self) -> bool {
        let policy = self.fixture.policy.load_full();
        let from_probe = policy.is_probe_sender(self.message.attempt.reverse_path);
        for recipient in 0..self.message.recipients.len() {
            if from_probe {
                self.named.push((recipient, None));
                continue;
            }
            let judgement = self.judged(recipient);
            if self.is_refused(&judgement, policy.rcpt_deferrals) {
                self.refused += 1;
                self.answers[recipient] = Answer::Deferred(Stage::Rcpt, judgement.verdict.reason());
                if self.message.is_cut_short {
                    return false;
                }
            } else {
                self.named.push((recipient, Some(judgement)));
            }
        }
        !self.named.is_empty()
    }

    /// Whether a recipient is answered 451 at once.
    fn is_refused(&self, judgement: &Judgement, at_most: u32) -> bool {
        let said = || self.named.iter().filter_map(|(_, said)| *said);
        let was_cut = said().any(|it| comes_again(&it));
        let some_pass = said().any(|it| matches!(it.verdict, Verdict::Pass(_)));
        let is_first_contact = match judgement.verdict {
            Verdict::Defer(reason) => matches!(reason, DeferReason::New | DeferReason::Late),
            Verdict::Read(_) => !comes_again(judgement),
            Verdict::Pass(_) | Verdict::Refuse(_) => false,
        };
        let may_be = match judgement.verdict {
            Verdict::Defer(_) => !judgement.wants_content,
            Verdict::Read(_) => is_first_contact && some_pass,
            Verdict::Pass(_) | Verdict::Refuse(_) => false,
        };
        may_be && !(is_first_contact && was_cut) && self.refused < at_most
    }

    /// DATA, and the message if it is wanted.
    fn sends(&mut self) {
        let mut said: Vec<_> = Vec::new();
        for (recipient, judgement) in std::mem::take(&mut self.named) {
            let judgement = judgement.unwrap_or_else(|| self.judged(recipient));
            said.push((recipient, judgement));
        }
        let is_read = |it: &Judgement| matches!(it.verdict, Verdict::Read(_));
        let is_wanted = |it: &Judgement| is_read(it) || it.wants_content;
        let stage = if said.iter().any(|(_, it)| is_wanted(it)) {
            let mut hasher = self.store.message_hasher();
            for (name, value) in &self.message.headers {
                hasher.header(name.as_bytes(), value.as_bytes());
            }
            for piece in self.message.body.chunks(65_535) {
                hasher.body(piece);
            }
            let now = self.fixture.clock.now();
            let read: Vec<_> = said
                .iter()
                .filter(|(_, it)| is_read(it))
                .map(|(recipient, _)| *recipient)
                .collect();
            for (recipient, judgement) in &mut said {
                let attempt = self.message.attempt_at(*recipient);
                if is_read(judgement) {
                    *judgement = self.store.judge_content(&attempt, &hasher, now);
                } else if judgement.wants_content {
                    self.store.note_content(&attempt, &hasher, now);
                }
            }
            if said
                .iter()
                .all(|(_, it)| matches!(it.verdict, Verdict::Pass(_)))
            {
                for recipient in read {
                    let attempt = self.message.attempt_at(recipient);
                    self.store.note_content_pass(&attempt, &hasher, now);
                }
            } else {
                for (recipient, _) in said
                    .iter()
                    .filter(|(recipient, it)| !read.contains(recipient) && waits_or_waited(it))
                {
                    let attempt = self.message.attempt_at(*recipient);
                    self.store.note_held(&attempt, &hasher, now);
                }
            }
            Stage::End
        } else {
            Stage::Data
        };
        let all_pass = said
            .iter()
            .all(|(_, it)| matches!(it.verdict, Verdict::Pass(_)));
        for (recipient, judgement) in said {
            let why = judgement.verdict.reason();
            self.answers[recipient] = if all_pass {
                Answer::Delivered(why)
            } else {
                Answer::Deferred(stage, why)
            };
        }
    }

    fn judged(&self, recipient: usize) -> Judgement {
        let attempt = self.message.attempt_at(recipient);
        self.store.judge(&attempt, self.fixture.clock.now())
    }
}

/// Whether a recipient is on record for its network alone.
fn waits_or_waited(judgement: &Judgement) -> bool {
    let is_on_record = matches!(
        judgement.verdict,
        Verdict::Defer(_) | Verdict::Pass(PassReason::Waited { .. })
    );
    is_on_record && !judgement.wants_content
}

/// Whether somebody tries this recipient who has tried it before and was deferred.
fn comes_again(judgement: &Judgement) -> bool {
    match judgement.verdict {
        Verdict::Pass(reason) => matches!(reason, PassReason::Waited { .. }),
        Verdict::Read(ReadReason::Roaming) => true,
        Verdict::Read(_) => judgement.grounds.attempts > 1,
        Verdict::Defer(_) | Verdict::Refuse(_) => false,
    }
}

/// An ordinary message.
pub(crate) fn message() -> Message<'static> {
    Message::of(ATTEMPT)
}

/// The address of member `number` of a pool, each in a network of its own.
pub(crate) fn member(number: u8) -> IpAddr {
    IpAddr::from([203, 0, number, 25])
}

/// `count` recipients of this site.
pub(crate) fn recipients(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("r{number}@here.example"))
}
