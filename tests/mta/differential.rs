//! The reference implementation beside greygate: a filter of libmilter that is told what greygate decided
//! must be heard to say the same, answer by answer, by an MTA that does the same.
//!
//! What greygate decides is not its matter. How many answers are owed under the flags that were agreed on,
//! in which order and of which kind, is: one too many or too few shifts every later verdict.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use ::greygate::milter::Endpoint;
use support::mta::{ANCIENT, Answer, Mta, Offer, POSTFIX};
use support::{interrupt, needs, process, requirements};

use crate::miltertest::with_a_past;

/// What an MTA does, and what it hears.
type Story = fn(&mut Heard) -> io::Result<()>;

#[test]
fn deferred_recipients_are_answered_as_libmilter_does() {
    compare(|mta| {
        mta.begin()?;
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("new@y.example"))?;
        mta.hears(|it| it.rcpt("new2@y.example"))?;
        mta.aborts();
        Ok(())
    });
}

#[test]
fn message_that_waited_is_answered_as_libmilter_does() {
    compare(|mta| {
        mta.begin()?;
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("waited@y.example"))?;
        mta.message()
    });
}

#[test]
fn bounce_that_is_read_is_answered_as_libmilter_does() {
    compare(|mta| {
        mta.begin()?;
        mta.hears(|it| it.mail(""))?;
        mta.hears(|it| it.rcpt("bounced@y.example"))?;
        mta.message()
    });
}

#[test]
fn messages_one_after_the_other_are_answered_as_libmilter_does() {
    compare(|mta| {
        mta.begin()?;
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("other@y.example"))?;
        mta.aborts();
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rejected_rcpt("nobody@y.example"))?;
        mta.hears(|it| it.rcpt("known@y.example"))?;
        mta.message()?;
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("known@y.example"))?;
        mta.hears(|it| it.rcpt("third@y.example"))?;
        mta.message()
    });
}

#[test]
fn transactions_that_end_early_are_answered_as_libmilter_does() {
    compare(|mta| {
        mta.begin()?;
        mta.hears(|it| it.helo("again.client.example"))?;
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.aborts();
        mta.aborts();
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("known@y.example"))?;
        mta.hears(|it| it.header("Subject", "half"))?;
        mta.aborts();
        mta.hears(|it| it.mail("a@x.example"))?;
        mta.hears(|it| it.rcpt("known@y.example"))?;
        mta.message()
    });
}

/// Has the story played by greygate and then, told what greygate answered, by libmilter: to an MTA that can
/// leave answers out, and to one that cannot.
fn compare(story: Story) {
    needs!(requirements::libmilter());
    for offer in [POSTFIX, ANCIENT] {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let listen = Endpoint::Unix(directory.path().join("greygate.sock"));
        let daemon = with_a_past(listen, &state);
        let ours = Heard::of(&daemon.endpoints()[0], offer, story);
        daemon.stop();
        let reference = Reference::start(directory.path(), &ours);
        let theirs = Heard::of(&reference.endpoint, offer, story);
        assert_eq!(ours.terms[1..], theirs.terms[1..], "what was agreed on");
        assert_eq!(ours.answers, theirs.answers, "{offer:?}");
        assert!(!ours.answers.is_empty());
    }
}

/// An MTA, and the kinds of the answers that it had.
struct Heard {
    mta: Option<Mta>,
    terms: Offer,
    /// The changes of each, and its status, a letter each.
    answers: Vec<String>,
    /// The message that is told of was accepted or deferred: no more of it is shown.
    is_decided: bool,
}

impl Heard {
    fn of(endpoint: &Endpoint, offer: Offer, story: Story) -> Self {
        let (mta, terms) = Mta::negotiate(endpoint, offer).expect("it agrees on options");
        let mut heard = Self {
            mta: Some(mta),
            terms,
            answers: Vec::new(),
            is_decided: false,
        };
        story(&mut heard).unwrap_or_else(|error| panic!("{error} after {:?}", heard.answers));
        let mta = heard.mta.take().expect("it is there");
        mta.quit().expect("not an answer too many");
        heard
    }

    fn begin(&mut self) -> io::Result<()> {
        let client: IpAddr = [192, 0, 2, 7].into();
        self.hears(|it| it.client("mx.client.example", client))?;
        self.hears(|it| it.helo("helo.client.example"))
    }

    /// DATA, a message with a body of two chunks as far as it is wanted, and what Postfix says after it.
    fn message(&mut self) -> io::Result<()> {
        let [version, _, steps] = self.terms;
        if version >= KNOWS_DATA {
            self.shows(Mta::data)?;
        }
        self.shows(|it| it.header("From", "a@x.example"))?;
        self.shows(|it| it.header("Message-ID", "<1@x.example>"))?;
        if steps & NO_END_OF_HEADER == 0 {
            self.shows(|it| it.command(b'N', b""))?;
        }
        if steps & NO_BODY == 0 {
            self.shows(|it| it.command(b'B', &[b'a'; 9_000]))?;
            self.shows(|it| it.command(b'B', b"the end\r\n"))?;
        }
        self.shows(Mta::end_of_message)?;
        self.aborts();
        Ok(())
    }

    fn aborts(&mut self) {
        self.mta().abort();
        self.is_decided = false;
    }

    /// The next of a message, unless it is decided.
    fn shows(&mut self, what: impl FnOnce(&mut Mta) -> io::Result<Answer>) -> io::Result<()> {
        if self.is_decided {
            return Ok(());
        }
        let before = self.answers.len();
        self.hears(what)?;
        let new = self.answers[before..].last();
        self.is_decided = new.is_some_and(|answer| !answer.ends_with('c'));
        Ok(())
    }

    fn hears(&mut self, what: impl FnOnce(&mut Mta) -> io::Result<Answer>) -> io::Result<()> {
        let Answer { actions, status } = what(self.mta())?;
        let kinds = actions
            .iter()
            .chain([&status])
            .filter_map(|it| it.chars().next());
        let answer: String = kinds.collect();
        if !answer.is_empty() {
            self.answers.push(answer);
        }
        Ok(())
    }

    fn mta(&mut self) -> &mut Mta {
        self.mta.as_mut().expect("it is there until it quits")
    }

    /// What a filter is told to answer, a letter each.
    fn script(&self) -> String {
        let letter = |answer: &String| match answer.as_str() {
            "a" => 'a',
            "c" => 'c',
            "hc" => 'h',
            "y" => 't',
            other => panic!("{other} is not in the reference's vocabulary"),
        };
        self.answers.iter().map(letter).collect()
    }
}

/// The filter of libmilter, while it runs.
struct Reference {
    process: Child,
    endpoint: Endpoint,
}

impl Reference {
    fn start(directory: &Path, told: &Heard) -> Self {
        let program = directory.join("scripted");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/libmilter_scripted.c");
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
        compile.arg(&program).arg(source);
        compile.args(["-lmilter", "-lpthread"]);
        process::run(&mut compile).expect("it compiles");
        let socket = directory.join("scripted.sock");
        let [_, actions, steps] = told.terms;
        let process = Command::new(program)
            .arg(format!("unix:{}", socket.display()))
            .args([actions.to_string(), steps.to_string(), told.script()])
            .spawn()
            .expect("it starts");
        let endpoint = Endpoint::Unix(socket);
        let reference = Self { process, endpoint };
        let listens = || Mta::connect(&reference.endpoint).ok().map(drop);
        interrupt::settle(PATIENCE, listens).expect("it listens");
        reference
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The version from which an MTA tells of DATA, and steps that are left out (`mfdef.h`).
const KNOWS_DATA: u32 = 4;
const NO_END_OF_HEADER: u32 = 0x40;
const NO_BODY: u32 = 0x10;
const PATIENCE: Duration = Duration::from_secs(20);
