//! Whatever an MTA sends, a session ends in an error or sends exactly the replies that are owed:
//! a reader that knows nothing but the negotiated flags never waits and never finds one too many.
//! And whatever a judge says, no message goes through of which its last word on a recipient was not
//! that it passes, and of those that were read all passes are noted, or none.
//!
//! Then a connection gets the same bytes whole, one by one and in pieces of other lengths. It says the
//! same each time and ends for the same reason, with at most one write for each read.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, LazyLock},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use greygate::{
    clock::Clock,
    milter::{
        Connection, Context, Frame, Latency, Limits, Metrics, Next, Service, Session, Settings,
    },
    policy::{Origin, Policy, Timestamp, Verdict},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
};

use super::judge::{ByText, Word};

/// Panics where it does not hold.
pub fn holds(bytes: &[u8]) {
    owes_what_it_sends(bytes);
    says_the_same_at_every_split(bytes);
}

fn owes_what_it_sends(bytes: &[u8]) {
    let mut session = session();
    let mut steps = 0;
    let mut is_turned_away = false;
    let mut message = Message::default();
    JUDGE.take();
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Ok(Some(frame)) = Frame::first_of(rest) {
        assert!(frame.wire_length() <= rest.len());
        rest = &rest[frame.wire_length()..];
        out.clear();
        match session.receive(frame, Timestamp::from_millis(1), &mut out) {
            Ok(Next::Command) => {}
            // Nobody can be asked under this policy.
            Ok(Next::Evidence) => unreachable!("there is nothing to ask"),
            Ok(Next::Close) | Err(_) => break,
        }
        let replies = kinds(&out);
        if frame.kind == b'O' {
            assert_eq!(replies, [b'O']);
            steps = u32::from_be_bytes(out[13..17].try_into().expect("four bytes"));
            continue;
        }
        let statuses = replies.iter().filter(|kind| **kind != b'h').count();
        assert_eq!(statuses, statuses_owed(frame.kind, steps), "{replies:?}");
        assert!(replies.iter().all(|kind| b"achy".contains(kind)));
        assert!(!replies.contains(&b'h') || frame.kind == b'E');
        assert!(!replies.contains(&b'a') || frame.kind != b'R');
        // Who was told 421 hears nothing else, should the MTA not hang up.
        let is_421 = out.get(5..8) == Some(b"421");
        if matches!(frame.kind, b'C' | b'K') {
            is_turned_away = false;
        }
        if matches!(frame.kind, b'R' | b'T' | b'E') && statuses > 0 {
            assert!(is_421 || !is_turned_away, "{replies:?}");
        }
        is_turned_away |= is_421;
        message.hear(frame.kind, &replies, JUDGE.take());
    }
}

/// The message under way, by what the judge said of it.
#[derive(Default)]
struct Message {
    /// What ends it was said.
    is_over: bool,
    /// The last word on each recipient that it would go to.
    last_words: HashMap<Vec<u8>, Verdict>,
    /// Recipients that it is to be read for, in the order they were named.
    to_read: Vec<Vec<u8>>,
}

impl Message {
    fn hear(&mut self, kind: u8, replies: &[u8], words: Vec<Word>) {
        if b"ACHKM".contains(&kind) {
            *self = Self {
                is_over: matches!(kind, b'A' | b'H'),
                ..Self::default()
            };
        }
        let mut judged = Vec::new();
        let mut passed = Vec::new();
        // A recipient that is refused at RCPT gets no mail, whatever becomes of the others.
        let is_refused = kind == b'R' && !replies.contains(&b'c');
        for word in words.into_iter().filter(|_| !is_refused) {
            match word {
                Word::OnAttempt(recipient, verdict) => {
                    if matches!(verdict, Verdict::Read(_)) {
                        self.to_read.push(recipient.clone());
                    }
                    self.last_words.insert(recipient, verdict);
                }
                Word::OnContent(recipient, verdict) => {
                    judged.push(recipient.clone());
                    self.last_words.insert(recipient, verdict);
                }
                Word::Passed(recipient) => passed.push(recipient),
            }
        }
        let ends = kind == b'E' || replies.contains(&b'a');
        let is_let_on = replies.contains(&b'a') || kind == b'E' && replies.contains(&b'c');
        if is_let_on && !self.is_over {
            let mut words = self.last_words.values();
            assert!(
                words.all(|it| matches!(it, Verdict::Pass(_))),
                "{:?}",
                self.last_words
            );
            assert_eq!(judged, self.to_read);
            assert_eq!(passed, self.to_read);
        } else {
            assert!(passed.is_empty());
            assert!(judged.is_empty() || kind == b'E' && judged == self.to_read);
        }
        self.is_over |= ends;
    }
}

/// The kind bytes of the frames in `out`, which must be whole.
fn kinds(mut out: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while !out.is_empty() {
        let frame = Frame::first_of(out).expect("legal").expect("whole");
        kinds.push(frame.kind);
        out = &out[frame.wire_length()..];
    }
    kinds
}

/// What the flags leave of replies.
fn statuses_owed(kind: u8, steps: u32) -> usize {
    let waived_by = match kind {
        b'C' => 0x1000,
        b'H' => 0x2000,
        b'M' => 0x4000,
        b'R' => 0x8000,
        b'T' => 0x1_0000,
        b'U' => 0x2_0000,
        b'L' => 0x80,
        b'N' => 0x4_0000,
        b'B' => 0x8_0000,
        b'E' => 0,
        _ => return 0,
    };
    usize::from(steps & waived_by == 0)
}

fn says_the_same_at_every_split(bytes: &[u8]) {
    let whole = said_to([bytes]);
    let lengths = bytes.iter().rev().map(|it| usize::from(*it) + 1);
    let mut rest = bytes;
    let pieces = lengths.map_while(|length| {
        let (piece, left) = rest.split_at(rest.len().min(length));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(said_to(pieces), whole, "in pieces");
    if bytes.len() <= 2_048 {
        assert_eq!(said_to(bytes.chunks(1)), whole, "byte by byte");
    }
}

/// What a connection says to these reads, and why it ends.
fn said_to<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, &'static str) {
    let (stream, written) = Peer::sending(pieces);
    let limits = Limits {
        frame: Duration::from_mins(1),
        idle: Duration::from_mins(1),
    };
    let service = Service {
        clock: Arc::new(Still),
        limits,
        latency: Latency::default(),
    };
    let mut connection = Connection::new(stream, session(), Arc::new(service), Arc::default());
    let end = RUNTIME.with(|it| it.block_on(connection.serve()));
    let written = written.take();
    (written, end.reason())
}

/// An MTA that has sent all it will, and then shuts its side.
struct Peer {
    reads: std::vec::IntoIter<Vec<u8>>,
    written: Rc<RefCell<Vec<u8>>>,
    /// Whether it was written to since it was last read.
    has_heard: bool,
}

impl Peer {
    fn sending<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Self, Rc<RefCell<Vec<u8>>>) {
        // One read takes no more than the longest frame.
        let reads = pieces.into_iter().flat_map(|it| it.chunks(60_000));
        let reads: Vec<Vec<u8>> = reads.map(<[u8]>::to_vec).collect();
        let written = Rc::default();
        let peer = Self {
            reads: reads.into_iter(),
            written: Rc::clone(&written),
            has_heard: true,
        };
        (peer, written)
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.has_heard = false;
        if let Some(piece) = self.reads.next() {
            buffer.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!self.has_heard, "one read is answered with one write");
        self.has_heard = true;
        self.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A clock that stands.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }
}

fn session() -> Session {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    Session::new(CONTEXT.clone(), Arc::new(policy), Origin::ThisHost)
}

static JUDGE: LazyLock<Arc<ByText>> = LazyLock::new(Arc::default);
static CONTEXT: LazyLock<Arc<Context>> = LazyLock::new(|| {
    let settings = Settings::default();
    let metrics = Arc::new(Metrics::default());
    Arc::new(Context::new(&settings, JUDGE.clone(), metrics))
});

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime for one thread");
}
