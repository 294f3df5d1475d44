//! One attempt to deliver a message, as far as it gets.

use std::net::IpAddr;

use greygate::milter::Endpoint;
use support::mta::{Answer, Mta};

/// A message on its way.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a [&'a str],
    pub(crate) id: &'a str,
    pub(crate) body: &'a [u8],
}

/// An ordinary message; its recipient is for the test to say.
pub(crate) const MESSAGE: Message<'static> = Message {
    from: "a@x.example",
    to: &["b@y.example"],
    id: "<1@x.example>",
    body: b"Hello.\r\n",
};

/// What became of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What was said of each recipient.
    pub(crate) rcpts: Vec<Answer>,
    /// What was said at DATA, if a recipient was left.
    pub(crate) data: Option<Answer>,
    /// What was said at the end, if it was shown.
    pub(crate) end: Option<Answer>,
    /// The commands that the MTA waited for an answer to.
    pub(crate) awaited: String,
}

impl Message<'_> {
    /// What becomes of it, from a client without a verified name.
    pub(crate) fn send(&self, endpoint: &Endpoint, client: &str) -> Outcome {
        let client: IpAddr = client.parse().expect("an address");
        let mut mta = Mta::open(endpoint, client).expect("a session");
        mta.mail(self.from).expect("held");
        let mut outcome = Outcome::default();
        for to in self.to {
            outcome.rcpts.push(mta.rcpt(to).expect("an answer"));
        }
        if outcome.rcpts.iter().any(Answer::is_continue) {
            let answer = mta.data().expect("an answer");
            if answer.is_continue() {
                outcome.end = Some(self.show(&mut mta));
            }
            outcome.data = Some(answer);
        }
        mta.abort();
        mta.abort();
        outcome.awaited = mta.awaited();
        mta.quit().expect("a clean end");
        outcome
    }

    fn show(&self, mta: &mut Mta) -> Answer {
        mta.hold(b'L', b"Received\0 from somewhere else each time\0");
        mta.hold(b'L', format!("Message-ID\0 {}\0", self.id).as_bytes());
        mta.hold(b'B', self.body);
        mta.end_of_message().expect("an answer")
    }
}

impl Outcome {
    /// Where it was deferred whole or for its only recipient, and `-` where it was not.
    pub(crate) fn deferred_at(&self) -> &'static str {
        let is_deferral =
            |answer: &Option<Answer>| answer.as_ref().is_some_and(Answer::is_deferral);
        if self.rcpts.iter().all(Answer::is_deferral) {
            "rcpt"
        } else if is_deferral(&self.data) {
            "data"
        } else if is_deferral(&self.end) {
            "end"
        } else {
            "-"
        }
    }

    /// The header that was added, without its name.
    pub(crate) fn header(&self) -> Option<&str> {
        let [header] = &self.end.as_ref()?.actions[..] else {
            return None;
        };
        header
            .strip_prefix(r"hX-Greylist\x00 ")?
            .strip_suffix(r"\x00")
    }

    /// Whether the MTA was told to keep the rest to itself.
    pub(crate) fn is_accepted_at_data(&self) -> bool {
        self.data.as_ref().is_some_and(|it| it.status == "a")
    }
}
