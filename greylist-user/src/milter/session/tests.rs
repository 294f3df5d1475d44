//! The session against a table judge; `reader` holds it against a model of an MTA's reader.

mod content;
mod reader;
mod reading;
mod refusals;

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    milter::{
        metrics::{Metrics, Stage},
        negotiate::Offer,
        settings::Settings,
    },
    policy::{
        Attempt, DeferReason, Grounds, Judge, Judgement, PassReason, ReadReason, Seed, Verdict,
    },
};

/// What Postfix offers.
const POSTFIX: Offer = Offer {
    version: 6,
    actions: 0x1ff,
    steps: 0x1f_ffff,
};
/// What an MTA of 2001 offers.
const ANCIENT: Offer = Offer {
    version: 2,
    actions: 0,
    steps: 0,
};

/// Passes whom it knows, defers everybody else, and remembers whom it was asked about and what it
/// was told. It refuses what is for `sentenced@`, `bad@` and `poor@`, and wants the content of what
/// is for `read@` and `heard@`. What is for `first@`, `again@` and `roams@` has to be read, and is said
/// to have come once, twice or from elsewhere; until it knows better it defers it at its end.
#[derive(Default)]
struct Table {
    passes: HashMap<&'static str, PassReason>,
    /// What it says of a message that was read, by recipient.
    reads: Mutex<HashMap<String, Verdict>>,
    asked: Mutex<Vec<String>>,
    servers: Mutex<Vec<ServerMark>>,
    connected: Mutex<Vec<u64>>,
    /// What it was told, beginning with `content`, `judged`, `passed` or `rejected`.
    told: Mutex<Vec<String>>,
    /// The client has been sentenced since it was judged.
    sentenced: AtomicBool,
}

impl Table {
    fn verdict(&self, attempt: &Attempt<'_>, recipient: &str) -> Verdict {
        let bad = |permanently| Verdict::Refuse(RefuseReason::BadReputation { permanently });
        if let Some(reason) = self.passes.get(recipient) {
            return Verdict::Pass(*reason);
        }
        match recipient.split('@').next() {
            Some("sentenced") => Verdict::Refuse(RefuseReason::Sentenced),
            Some("bad") => bad(true),
            Some("poor") => bad(false),
            Some("first" | "again") => Verdict::Read(ReadReason::Mode),
            Some("roams") => Verdict::Read(ReadReason::Roaming),
            _ if attempt.authenticated => Verdict::Pass(PassReason::Authenticated),
            _ => Verdict::Defer(DeferReason::New),
        }
    }

    fn hear(&self, what: &str, attempt: &Attempt<'_>) {
        let from = String::from_utf8_lossy(attempt.reverse_path);
        let to = String::from_utf8_lossy(attempt.recipient);
        let line = format!("{what} <{from}> {to} {}", attempt.announced_size);
        self.told.lock().expect("no judge panics").push(line);
    }
}

impl Judge for Table {
    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        let recipient = String::from_utf8_lossy(attempt.recipient).into_owned();
        let wants_content = recipient.starts_with("read@") || recipient.starts_with("heard@");
        let verdict = self.verdict(attempt, &recipient);
        let from = String::from_utf8_lossy(attempt.reverse_path).into_owned();
        let client = attempt.client;
        let line = format!("{client} <{from}> {recipient} {}", attempt.announced_size);
        self.asked.lock().expect("no judge panics").push(line);
        self.servers
            .lock()
            .expect("no judge panics")
            .push(attempt.server);
        self.connected
            .lock()
            .expect("no judge panics")
            .push(attempt.connected.as_millis());
        Judgement {
            wants_content,
            grounds: Grounds {
                attempts: if recipient.starts_with("again@") {
                    2
                } else {
                    1
                },
                ..Grounds::default()
            },
            verdict,
        }
    }

    fn turns_away(&self, attempt: &Attempt<'_>, _: Timestamp) -> bool {
        !attempt.authenticated && self.sentenced.load(Ordering::Relaxed)
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        self.hear("judged", attempt);
        let recipient = String::from_utf8_lossy(attempt.recipient);
        let reads = self.reads.lock().expect("no judge panics");
        let verdict = reads.get(recipient.as_ref()).copied();
        let verdict = verdict.unwrap_or(Verdict::Defer(DeferReason::ContentNew));
        verdict.into()
    }

    fn note_content_pass(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {
        self.hear("passed", attempt);
    }

    fn note_content(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {
        self.hear("content", attempt);
    }

    fn note_rejected(&self, attempt: &Attempt<'_>, _: Timestamp) {
        self.hear("rejected", attempt);
    }
}

/// A session and the MTA that talks to it.
struct Talk {
    session: Session,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    now: Timestamp,
}

impl Talk {
    fn new(offer: Offer, passes: &[(&'static str, PassReason)]) -> Self {
        Self::under(offer, passes, Policy::default())
    }

    fn under(offer: Offer, passes: &[(&'static str, PassReason)], policy: Policy) -> Self {
        let table = Arc::new(Table {
            passes: passes.iter().copied().collect(),
            ..Table::default()
        });
        let metrics = Arc::new(Metrics::default());
        let settings = Settings {
            host: "mx (evil)\r\n.example".to_owned(),
            ..Settings::default()
        };
        let judge: Arc<dyn Judge> = table.clone();
        let context = Arc::new(Context::new(&settings, judge, Arc::clone(&metrics)));
        let mut talk = Self {
            session: Session::new(context, Arc::new(policy), Origin::ThisHost),
            table,
            metrics,
            now: Timestamp::from_millis(1),
        };
        let answer = talk.says(b'O', &offer_payload(offer));
        assert!(answer.starts_with('O'), "{answer}");
        talk
    }

    /// What the session answers: statuses as letters, a reply or header with its text.
    fn says(&mut self, kind: u8, payload: &[u8]) -> String {
        let mut out = Vec::new();
        self.try_says(kind, payload, &mut out).expect("in order");
        shown(&out)
    }

    fn try_says(
        &mut self,
        kind: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Next, SessionError> {
        self.session.receive(Frame { kind, payload }, self.now, out)
    }

    fn greets(&mut self) {
        self.says(b'C', b"mx.client.example\x004\x30\x39192.0.2.7\0");
        self.says(b'H', b"helo.client.example\0");
    }

    fn mails(&mut self, path: &str) -> String {
        self.says(b'M', format!("<{path}>\0SIZE=42\0").as_bytes())
    }

    fn rcpts(&mut self, path: &str) -> String {
        self.says(b'R', format!("<{path}>\0").as_bytes())
    }

    fn asked(&self) -> Vec<String> {
        self.table.asked.lock().expect("no judge panics").clone()
    }

    /// From now on the content of a message to `recipient` says so of it.
    fn reads(&self, recipient: &str, verdict: Verdict) {
        let mut reads = self.table.reads.lock().expect("no judge panics");
        reads.insert(recipient.to_owned(), verdict);
    }

    fn told(&self) -> Vec<String> {
        self.table.told.lock().expect("no judge panics").clone()
    }
}

fn offer_payload(offer: Offer) -> Vec<u8> {
    [offer.version, offer.actions, offer.steps]
        .map(u32::to_be_bytes)
        .concat()
}

fn shown(mut out: &[u8]) -> String {
    let mut shown = Vec::new();
    while let Some(frame) = Frame::first_of(out).expect("we write legal frames") {
        shown.push(format!(
            "{}{}",
            frame.kind.escape_ascii(),
            frame.payload.escape_ascii()
        ));
        out = &out[frame.wire_length()..];
    }
    assert!(out.is_empty(), "half a frame");
    shown.join(" | ")
}

fn waited(seconds: u64) -> PassReason {
    let waited = Duration::from_secs(seconds);
    PassReason::Waited { waited }
}

const DEFERRED: &str = r"y451 4.7.1 Greylisted, please try again later\x00";

#[test]
fn defers_unknown_recipient_at_rcpt() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    assert_eq!(talk.mails("a@x.example"), "");
    assert_eq!(talk.rcpts("b@y.example"), DEFERRED);
    assert_eq!(talk.asked(), ["192.0.2.7 <a@x.example> b@y.example 42"]);
}

#[test]
fn passing_message_is_accepted_at_data() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert!(!talk.session.is_between_transactions());
    assert_eq!(talk.says(b'T', b""), "a");
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.says(b'A', b""), "");
}

#[test]
fn waited_message_gets_its_header_at_end_of_message() {
    let passes = [("b@y", waited(187)), ("c@y", waited(60))];
    let mut talk = Talk::new(POSTFIX, &passes);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(
        talk.says(b'E', b""),
        r"hX-Greylist\x00 delayed 187 seconds by mx??evil???.example (greygate), passed by tuple\x00 | c"
    );
    assert_eq!(talk.metrics.headers_added.get(), 1);
    assert_eq!(talk.says(b'E', b""), "c", "the header is added once");
}

#[test]
fn recipient_refused_by_the_mta_is_counted_not_judged() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.says(b'D', b"R{rcpt_mailer}\0error\0");
    assert_eq!(talk.rcpts("nobody@y"), "c");
    assert!(talk.asked().is_empty());
    assert_eq!(talk.metrics.recipients_rejected.get(), 1);
    talk.says(b'D', b"R{rcpt_mailer}\0local\0");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    assert!(talk.told().is_empty(), "nobody said that it was for good");
}

#[test]
fn recipient_refused_for_good_is_told_to_the_judge() {
    for (status, sender, told) in [
        (
            "5.1.1",
            "a@x.example",
            vec!["rejected <a@x.example> nobody@y 42"],
        ),
        ("5.1.1", "", vec!["rejected <> nobody@y 42"]),
        ("4.3.2", "a@x.example", vec![]),
        ("", "a@x.example", vec![]),
    ] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails(sender);
        let macros = format!("R{{rcpt_mailer}}\0error\0{{rcpt_host}}\0{status}\0");
        talk.says(b'D', macros.as_bytes());
        assert_eq!(talk.rcpts("nobody@y"), "c");
        assert_eq!(talk.told(), told, "{status}");
        assert!(talk.asked().is_empty());
    }
}

#[test]
fn server_addresses_are_told_apart() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", PassReason::Passed)]);
    for address in [
        "192.0.2.1",
        "IPv6:2001:db8::1",
        "0.0.0.0",
        "2001:db8::1",
        "what",
        "192.0.2.1",
    ] {
        let macros = format!("C{{daemon_addr}}\0{address}\0");
        talk.says(b'D', macros.as_bytes());
        talk.greets();
        talk.mails("a@x.example");
        talk.rcpts("b@y");
        talk.says(b'K', b"");
    }
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    let servers = talk.table.servers.lock().expect("no judge panics");
    let bits: Vec<_> = servers.iter().map(|server| server.bit()).collect();
    assert_eq!(bits, [1, 2, 0, 2, 0, 1, 0]);
}

#[test]
fn session_begins_when_the_mta_connects_not_when_it_tells_so() {
    let mut talk = Talk::new(POSTFIX, &[]);
    // Postfix tells all of it with the first RCPT.
    talk.now = Timestamp::from_millis(5_000);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    talk.says(b'K', b"");
    talk.now = Timestamp::from_millis(9_000);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    let connected = talk.table.connected.lock().expect("no judge panics");
    assert_eq!(*connected, [1, 9_000], "the next client comes later");
}

#[test]
fn addresses_beyond_the_marks_are_counted() {
    let mut talk = Talk::new(POSTFIX, &[]);
    for last in 1..=18 {
        let macros = format!("C{{daemon_addr}}\0192.0.2.{last}\0");
        talk.says(b'D', macros.as_bytes());
        talk.greets();
    }
    assert_eq!(talk.metrics.servers_unmarked.get(), 2);
}

#[test]
fn probe_is_never_refused_at_rcpt_and_counts_for_nothing_when_it_quits() {
    for sender in ["", "double-bounce@mx.example"] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails(sender);
        assert_eq!(talk.rcpts("b@y"), "c");
        let next = talk.try_says(b'Q', b"", &mut Vec::new());
        assert_eq!(next, Ok(Next::Close));
        assert!(talk.asked().is_empty());
        assert_eq!(talk.metrics.probes_quit.get(), 1);
    }
}

#[test]
fn bounce_is_deferred_at_data_and_every_recipient_recorded() {
    let mut talk = Talk::new(POSTFIX, &[("c@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(talk.asked().len(), 2);
    assert_eq!(talk.metrics.probes_quit.get(), 0);
}

#[test]
fn bounce_that_waited_gets_its_header() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", waited(200))]);
    talk.greets();
    talk.mails("");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "c");
    assert!(talk.says(b'E', b"").starts_with("hX-Greylist"));
    assert_eq!(talk.asked().len(), 1, "judged once");
}

#[test]
fn pending_recipients_beyond_the_limit_are_answered_once_at_data() {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[("known@y", PassReason::Passed)], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("1@y"), DEFERRED);
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("2@y"), DEFERRED);
    assert_eq!(talk.rcpts("3@y"), "c");
    assert_eq!(talk.rcpts("4@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(talk.asked().len(), 5, "each is recorded");
    talk.says(b'A', b"");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("5@y"), "c", "the limit is the session's");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn data_said_again_is_deferred_again() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    for sender in ["", "a@x.example"] {
        let passes = [("known@y", PassReason::Passed)];
        let mut talk = Talk::under(POSTFIX, &passes, policy.clone());
        talk.greets();
        talk.mails(sender);
        assert_eq!(talk.rcpts("b@y"), "c");
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        // Postfix's transaction is still open, and takes more recipients.
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        talk.says(b'A', b"");
        talk.mails("");
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.says(b'T', b""), "a", "nothing is held any more");
    }
}

#[test]
fn bounce_recipient_named_after_data_is_judged_too() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", waited(200))]);
    talk.greets();
    talk.mails("");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "c", "another milter may refuse");
    assert_eq!(talk.rcpts("new@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn refused_recipient_does_not_hold_the_others() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a");
}

#[test]
fn never_refusing_at_rcpt_is_a_setting() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("1@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn login_name_is_of_its_own_transaction_only() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.says(b'D', b"M{auth_authen}\0joe\0");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    talk.says(b'D', b"M{auth_authen}\0joe\0");
    talk.says(b'A', b"");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
}

#[test]
fn nothing_leaks_into_the_next_message() {
    let mut talk = Talk::new(
        POSTFIX,
        &[("b@y", waited(200)), ("c@y", PassReason::Passed)],
    );
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    talk.says(b'A', b"");
    talk.mails("z@x.example");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a", "no header is due here");
    assert_eq!(talk.asked()[1], "192.0.2.7 <z@x.example> c@y 42");
}

#[test]
fn second_helo_ends_the_transaction() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.says(b'H', b"again.example\0");
    assert!(talk.session.is_between_transactions());
    let error = talk.try_says(b'R', b"<b@y>\0", &mut Vec::new());
    assert_eq!(error, Err(SessionError::OutOfOrder { kind: b'R' }));
}

#[test]
fn client_without_address_passes() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.says(b'C', b"localhost\0U");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert!(talk.asked().is_empty());
}

#[test]
fn ancient_mta_is_answered_at_every_stage_and_deferred_at_the_first_header() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(ANCIENT, &[], policy);
    assert_eq!(
        talk.says(b'C', b"mx\x004\x30\x39192.0.2.7\0"),
        "c",
        "connect"
    );
    assert_eq!(talk.says(b'H', b"helo\0"), "c");
    assert_eq!(talk.mails("a@x.example"), "c");
    assert_eq!(talk.rcpts("b@y"), "c");
    // It would be DATA, had it been told.
    assert_eq!(talk.says(b'L', b"Subject\0x\0"), DEFERRED);
    assert_eq!(talk.says(b'A', b""), "");
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'E', b""), DEFERRED, "an empty message");
}

#[test]
fn ancient_mta_may_keep_what_nobody_needs() {
    let mut talk = Talk::new(ANCIENT, &[("b@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'L', b"Subject\0x\0"), "a");
}

#[test]
fn header_without_leave_is_not_added() {
    let mut talk = Talk::new(ANCIENT, &[("b@y", waited(187))]);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'E', b""), "c");
}

#[test]
fn options_come_first_and_once() {
    let mut talk = Talk::new(POSTFIX, &[]);
    let again = talk.try_says(b'O', &offer_payload(POSTFIX), &mut Vec::new());
    assert_eq!(again, Err(SessionError::OutOfOrder { kind: b'O' }));
    let context = Arc::clone(&talk.session.context);
    let policy = Arc::new(Policy::default());
    talk.session = Session::new(context, policy, Origin::ThisHost);
    let early = talk.try_says(b'H', b"helo\0", &mut Vec::new());
    assert_eq!(early, Err(SessionError::OutOfOrder { kind: b'H' }));
}

#[test]
fn new_client_over_the_same_connection_begins_anew() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.says(b'K', b""), "");
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.session.envelope.helo(), b"");
    assert_eq!(talk.session.client, None);
}
