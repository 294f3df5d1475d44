//! Replies are held against a model of Postfix's reader (`milter8.c`), which knows the wire and nothing
//! of how replies are kept account of here: it offers what a Postfix of some version offers, or any MTA;
//! holds back what it writes until it has to wait; waits for exactly the commands that the agreed flags
//! leave it to wait for; and takes whatever it finds then for the answer. It must find one, one that is
//! legal there, and none more. Messages come as an MTA sends them, with an ABORT or a QUIT anywhere, and
//! commands in an order that no MTA sends.
//!
//! In the end the client goes, and the next one over the same connection hears what the first of a new
//! connection hears: nothing of a message is left behind.

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use greygate::{
    milter::{Context, Frame, HeaderOn, Metrics, Next, Session, Settings},
    policy::{Origin, Policy, Timestamp},
};

use super::judge::ByText;

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    let input = &mut Unstructured::new(bytes);
    let mta = Mta::any(input);
    let Some(mut line) = Line::open(mta) else {
        return;
    };
    while !line.milter.is_gone && !input.is_empty() {
        say_something(&mut line, input);
    }
    if !line.milter.is_gone {
        line.abort();
        line.write(b'K', b"");
        line.flush();
        line.accepts = None;
        let mut fresh = Line::open(mta).expect("it has found terms before");
        assert_eq!(
            line.say_a_message(),
            fresh.say_a_message(),
            "something was left behind"
        );
    }
}

/// One command, or a message with all that belongs to it.
fn say_something(line: &mut Line, input: &mut Unstructured<'_>) {
    let text = |input: &mut Unstructured<'_>| {
        let length = usize::from(input.arbitrary::<u8>().unwrap_or(0) % 20);
        let first = input.arbitrary::<u8>().unwrap_or(0) % 26 + b'a';
        let mut text = vec![first; length];
        text.push(0);
        text
    };
    match input.arbitrary::<u8>().unwrap_or(0) % 32 {
        0..=11 => say_a_message(line, input),
        12 => line.event(b'C', CLIENT),
        13 => line.event(b'C', b"localhost\0L\0\0/run/x\0"),
        14 => line.event(b'H', &text(input)),
        15 => line.event(b'M', b"<a@x.example>\0SIZE=42\0"),
        16 => line.event(b'M', b"<>\0"),
        17 | 18 => line.event(b'R', &text(input)),
        19 => {
            line.write(
                b'D',
                b"R{rcpt_mailer}\0error\0{rcpt_host}\x005.1.1\0{rcpt_addr}\0x\0",
            );
            line.event(b'R', &text(input));
        }
        20 => line.event(b'T', b""),
        21 => line.event(b'L', b"Subject\0 x\0"),
        22 => line.event(b'N', b""),
        23 => line.event(b'B', b"Hello.\r\n"),
        24 => line.event(b'E', b""),
        25 => line.event(b'E', b"the last piece, as Sendmail sends it"),
        26 => line.event(b'U', b"XYZZY\0"),
        27 => line.abort(),
        // STARTTLS.
        28 => {
            line.event(b'H', &text(input));
            line.abort();
            line.event(b'H', &text(input));
        }
        29 => line.quit(),
        30 => {
            line.write(b'K', b"");
            line.flush();
            line.accepts = None;
        }
        _ => line.negotiate_again(),
    }
}

/// A message in the order that Postfix keeps, which may end at every step.
fn say_a_message(line: &mut Line, input: &mut Unstructured<'_>) {
    let mut steps: Vec<(u8, Vec<u8>)> = vec![(b'M', b"<a@x.example>\0".to_vec())];
    for _ in 0..=input.arbitrary::<u8>().unwrap_or(0) % 4 {
        let length = usize::from(input.arbitrary::<u8>().unwrap_or(0) % 20);
        let first = input.arbitrary::<u8>().unwrap_or(0) % 26 + b'a';
        let mut recipient = vec![first; length];
        recipient.push(0);
        steps.push((b'R', recipient));
    }
    let content: [(u8, &[u8]); 6] = [
        (b'T', b""),
        (b'L', b"Message-ID\0 <1@x.example>\0"),
        (b'L', b"Subject\0 x\0"),
        (b'N', b""),
        (b'B', b"Hello.\r\n"),
        (b'E', b""),
    ];
    steps.extend(content.map(|(kind, payload)| (kind, payload.to_vec())));
    let shown = usize::from(input.arbitrary::<u8>().unwrap_or(0));
    // Most often all of it.
    let shown = if shown < 128 {
        steps.len()
    } else {
        shown % steps.len()
    };
    for (kind, payload) in &steps[..shown] {
        line.event(*kind, payload);
        if line.milter.is_gone || line.is_refused {
            break;
        }
    }
    line.abort();
}

/// What an MTA is like.
#[derive(Clone, Copy)]
struct Mta {
    version: u32,
    actions: u32,
    steps: u32,
    /// It says no more of a message that was accepted. Another goes on.
    heeds_accept: bool,
    /// It hangs up on 421. Another goes on.
    heeds_421: bool,
    /// It holds back what it need not send yet. Another writes at once.
    holds_back: bool,
    rcpt_deferrals: u32,
}

impl Mta {
    fn any(input: &mut Unstructured<'_>) -> Self {
        let offers = [
            (6, 0x1ff, 0x1f_ffff),
            (6, 0x1ff, 0x1f_ffff),
            (6, 0x1ff, 0x1f_ffff),
            (4, 0x3f, 0x37f),
            (3, 0x3f, 0x17f),
            (2, 0x3f, 0x7f),
            (2, 0x3f, 0xff),
            (6, 0, 0),
        ];
        let kind = input.arbitrary::<u8>().unwrap_or(0);
        let offer = offers.get(usize::from(kind % 12)).copied();
        let (version, actions, steps) = offer.unwrap_or_else(|| {
            let mut word = || input.arbitrary::<u32>().unwrap_or(0);
            (word() % 9, word(), word())
        });
        let habits = input.arbitrary::<u8>().unwrap_or(0);
        Self {
            version,
            actions,
            steps,
            heeds_accept: habits & 1 == 0,
            heeds_421: habits & 2 == 0,
            holds_back: habits & 4 == 0,
            rcpt_deferrals: u32::from(habits >> 3) % 4,
        }
    }
}

/// An MTA's end of the line, and the milter at the other.
struct Line {
    mta: Mta,
    milter: Milter,
    /// What was agreed, as the MTA has it.
    version: u32,
    actions: u32,
    steps: u32,
    /// Written, and not sent yet.
    held: Vec<u8>,
    /// Come, and not read yet.
    come: Vec<u8>,
    /// How much more is not shown to the milter, since it has accepted it.
    accepts: Option<Accepted>,
    /// The last answer refused the message, or all of the client.
    is_refused: bool,
    /// Every answer, for comparison.
    heard: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Connection,
    Message,
}

impl Line {
    /// Negotiates. [`None`] if the milter goes, which it may do only when the version is from before
    /// 2001.
    fn open(mta: Mta) -> Option<Self> {
        let mut line = Self {
            mta,
            milter: Milter::new(mta),
            version: 0,
            actions: 0,
            steps: 0,
            held: Vec::new(),
            come: Vec::new(),
            accepts: None,
            is_refused: false,
            heard: Vec::new(),
        };
        line.write(b'O', &line.offer());
        line.flush();
        let Some((kind, payload)) = line.read() else {
            assert!(mta.version < 2, "no terms for version {}", mta.version);
            return None;
        };
        assert_eq!(kind, b'O');
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four"));
        (line.version, line.actions, line.steps) = (word(0), word(4), word(8));
        // Postfix takes any of these for a broken milter, but more steps: those it overlooks, and would
        // answer for nobody.
        assert!(line.version <= mta.version && line.version <= 6);
        assert_eq!(line.actions & !mta.actions, 0);
        assert_eq!(line.steps & !mta.steps, 0);
        are_macro_lists(&payload[12..], line.actions);
        assert!(line.come.is_empty());
        Some(line)
    }

    fn offer(&self) -> Vec<u8> {
        let words = [self.mta.version, self.mta.actions, self.mta.steps];
        words.map(u32::to_be_bytes).concat()
    }

    /// `milter8_event`: the macros whether or not the event is sent, and one wait or none.
    fn event(&mut self, kind: u8, payload: &[u8]) {
        self.is_refused = false;
        if self.milter.is_gone || self.mta.heeds_accept && self.accepts.is_some() {
            return;
        }
        let rule = RULES.iter().find(|it| it.kind == kind).expect("an event");
        self.write(b'D', &[kind]);
        if self.version < rule.since || self.steps & rule.left_out != 0 {
            return;
        }
        self.write(kind, payload);
        if self.steps & rule.unanswered == 0 {
            self.flush();
            self.hear_answer(kind);
        }
    }

    /// Reads up to the answer, which is the last there is.
    fn hear_answer(&mut self, kind: u8) {
        loop {
            let Some((answer, payload)) = self.read() else {
                let is_gone = self.milter.is_gone;
                assert!(
                    is_gone,
                    "the MTA waits for ever after {:?}",
                    char::from(kind)
                );
                return;
            };
            self.heard.push((answer, payload.clone()));
            match answer {
                b'h' | b'i' => {
                    assert_eq!(kind, b'E', "a change before the end of the message");
                    assert_ne!(self.actions & 1, 0, "a header without leave");
                    is_header(&payload);
                    continue;
                }
                b'c' => {}
                b'a' => {
                    assert_ne!(kind, b'R', "the recipients to come would not be shown");
                    self.accepts = Some(match kind {
                        b'C' | b'H' => Accepted::Connection,
                        _ => Accepted::Message,
                    });
                }
                b'y' => {
                    is_strict_reply(&payload);
                    let is_heard = matches!(kind, b'M' | b'R' | b'T' | b'L' | b'B' | b'E');
                    assert!(is_heard, "Postfix would close after {:?}", char::from(kind));
                    self.is_refused = kind != b'R';
                    if payload.starts_with(b"421") && self.mta.heeds_421 {
                        self.abort();
                        self.quit();
                    }
                }
                other => panic!("{:?} after {:?}", char::from(other), char::from(kind)),
            }
            assert!(
                self.come.is_empty(),
                "an answer too many after {:?}",
                char::from(kind)
            );
            return;
        }
    }

    /// Nothing is waited for. What was accepted is forgotten, unless it was the connection.
    fn abort(&mut self) {
        if self.milter.is_gone {
            return;
        }
        self.write(b'A', b"");
        if self.accepts == Some(Accepted::Message) {
            self.accepts = None;
        }
    }

    fn quit(&mut self) {
        if !self.milter.is_gone {
            self.write(b'Q', b"");
            self.flush();
            assert!(self.milter.is_gone, "it has been said good-bye");
        }
    }

    /// No MTA does it. The milter may answer, or go.
    fn negotiate_again(&mut self) {
        self.write(b'O', &self.offer());
        self.flush();
        if let Some((kind, _)) = self.read() {
            assert_eq!(kind, b'O');
        } else {
            assert!(self.milter.is_gone, "the MTA waits for ever");
        }
        assert!(self.come.is_empty());
    }

    fn write(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(1 + payload.len()).expect("short");
        self.held.extend_from_slice(&length.to_be_bytes());
        self.held.push(kind);
        self.held.extend_from_slice(payload);
        if !self.mta.holds_back && kind == b'D' {
            self.flush();
        }
    }

    /// Sends all that is held. Nothing may lie there unread before, as it would be taken for the answer
    /// to this.
    fn flush(&mut self) {
        assert!(self.come.is_empty(), "an answer that nobody waits for");
        let held = std::mem::take(&mut self.held);
        self.milter.hear(&held, &mut self.come);
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let prefix = self.come.first_chunk::<4>()?;
        let end = 4 + u32::from_be_bytes(*prefix) as usize;
        let frame: Vec<u8> = self.come.drain(..end).collect();
        Some((frame[4], frame[5..].to_vec()))
    }

    /// A client with one message to two recipients, and what is answered.
    fn say_a_message(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.heard.clear();
        let said: [(u8, &[u8]); 9] = [
            (b'C', CLIENT),
            (b'H', b"mx\0"),
            (b'M', b"<b@x.example>\0"),
            (b'R', b"a\0"),
            (b'R', b"bbbbbb\0"),
            (b'T', b""),
            (b'L', b"Subject\0 x\0"),
            (b'B', b"Hello.\r\n"),
            (b'E', b""),
        ];
        for (kind, payload) in said {
            self.event(kind, payload);
        }
        std::mem::take(&mut self.heard)
    }
}

/// The milter, as far as it is told.
struct Milter {
    session: Session,
    is_gone: bool,
}

impl Milter {
    fn new(mta: Mta) -> Self {
        let policy = Policy {
            rcpt_deferrals: mta.rcpt_deferrals,
            ..Policy::default()
        };
        Self {
            session: Session::new(CONTEXT.clone(), Arc::new(policy), Origin::ThisHost),
            is_gone: false,
        }
    }

    fn hear(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !self.is_gone
            && let Some(frame) = Frame::first_of(bytes).expect("an MTA writes frames")
        {
            bytes = &bytes[frame.wire_length()..];
            let next = self.session.receive(frame, Timestamp::from_millis(1), out);
            self.is_gone = !matches!(next, Ok(Next::Command));
        }
        JUDGE.take();
    }
}

/// What Postfix demands of a reply from 3.12 on: each line with the same code, a blank behind the last
/// and a dash behind all others, an enhanced code of the same class, one NUL and no other, and no
/// single percent sign.
fn is_strict_reply(payload: &[u8]) {
    let text = payload.strip_suffix(b"\0").expect("one NUL at the end");
    let text = std::str::from_utf8(text).expect("ASCII");
    let code = &text[..3];
    assert!(
        matches!(code.as_bytes(), [b'4' | b'5', b'0'..=b'9', b'0'..=b'9']),
        "{text}"
    );
    let count = text.split("\r\n").count();
    for (number, line) in text.split("\r\n").enumerate() {
        let divider = if number + 1 == count { " " } else { "-" };
        let rest = line
            .strip_prefix(code)
            .and_then(|it| it.strip_prefix(divider));
        let rest = rest.unwrap_or_else(|| panic!("{line:?} of {text:?}"));
        assert!(
            rest.starts_with(&code[..1]) && rest[1..].starts_with('.'),
            "{line:?}"
        );
        assert!(
            rest.bytes()
                .all(|it| it.is_ascii() && !it.is_ascii_control()),
            "{line:?}"
        );
        assert!(!rest.replace("%%", "").contains('%'), "{line:?}");
    }
}

/// A name and a value, each with its NUL.
fn is_header(payload: &[u8]) {
    let parts: Vec<&[u8]> = payload.split(|byte| *byte == 0).collect();
    assert!(
        matches!(parts[..], [[_, ..], _, []]),
        "{}",
        payload.escape_ascii()
    );
}

/// Lists of macros follow the three numbers only where they may be chosen: a stage, and a text.
fn are_macro_lists(mut rest: &[u8], actions: u32) {
    const CHOOSE: u32 = 0x100;
    assert!(rest.is_empty() || actions & CHOOSE != 0);
    while let Some((stage, names)) = rest.split_first_chunk::<4>() {
        assert!(u32::from_be_bytes(*stage) <= 6);
        let end = names
            .iter()
            .position(|byte| *byte == 0)
            .expect("a text ends");
        rest = &names[end + 1..];
    }
    assert!(rest.is_empty());
}

/// When an event is sent, and when it is waited for (Postfix `milter8.c`, Sendmail `mfdef.h`).
struct Rule {
    kind: u8,
    /// The first version that has it.
    since: u32,
    /// The step that leaves it out.
    left_out: u32,
    /// The step that leaves its answer out.
    unanswered: u32,
}

const fn rule(kind: u8, since: u32, left_out: u32, unanswered: u32) -> Rule {
    Rule {
        kind,
        since,
        left_out,
        unanswered,
    }
}

const RULES: [Rule; 10] = [
    rule(b'B', 2, 0x10, 0x8_0000),
    rule(b'C', 2, 0x01, 0x1000),
    rule(b'E', 2, 0, 0),
    rule(b'H', 2, 0x02, 0x2000),
    rule(b'L', 2, 0x20, 0x80),
    rule(b'M', 2, 0x04, 0x4000),
    rule(b'N', 2, 0x40, 0x4_0000),
    rule(b'R', 2, 0x08, 0x8000),
    rule(b'T', 4, 0x200, 0x1_0000),
    rule(b'U', 3, 0x100, 0x2_0000),
];

const CLIENT: &[u8] = b"mx.x.example\x004\x30\x39192.0.2.7\0";

static JUDGE: LazyLock<Arc<ByText>> = LazyLock::new(Arc::default);
static CONTEXT: LazyLock<Arc<Context>> = LazyLock::new(|| {
    let settings = Settings {
        header_on: HeaderOn::Passed,
        ..Settings::default()
    };
    let metrics = Arc::new(Metrics::default());
    Arc::new(Context::new(&settings, JUDGE.clone(), metrics))
});
