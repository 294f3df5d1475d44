//! The connection without a socket: bytes in, bytes out, at every split.

mod hostile;

use proptest::prelude::*;
use std::{collections::VecDeque, task::Waker};

use tokio::io::{Empty, Join, Sink, empty, join, sink};

use super::*;
use crate::{
    milter::{context::Context, metrics::Metrics, settings::Settings},
    policy::{
        Attempt, ClientNetwork, DeferReason, Judge, Judgement, MessageHasher, Origin, PassReason,
        Policy, ReadReason, Seed, Verdict, Wanted,
    },
};

/// Judges by the recipient's name, and wants to ask for the sake of those that are named.
struct Fixed {
    asks_for: &'static [&'static [u8]],
}

impl Judge for Fixed {
    fn wants(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Wanted {
        let is_named = |it: &&[u8]| attempt.recipient.starts_with(it);
        Wanted {
            allowlists: self.asks_for.iter().any(is_named),
            ..Wanted::default()
        }
    }

    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        if attempt.evidence.score == Some(3) {
            return Verdict::Pass(PassReason::Vouched).into();
        }
        if attempt.recipient.starts_with(b"known") {
            Verdict::Pass(PassReason::Passed).into()
        } else if attempt.recipient.starts_with(b"read") {
            Verdict::Read(ReadReason::Mode).into()
        } else {
            Verdict::Defer(DeferReason::New).into()
        }
    }

    fn turns_away(&self, _: &Attempt<'_>, _: Timestamp) -> bool {
        false
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    /// Defers what is not [`BODY`], and so tells what was heard of it.
    fn judge_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        _now: Timestamp,
    ) -> Judgement {
        let network = ClientNetwork::of(&Policy::default(), attempt);
        let mut expected = self.message_hasher();
        expected.body(BODY);
        if message.fingerprint(network, attempt) == expected.fingerprint(network, attempt) {
            Verdict::Pass(PassReason::ContentAgain).into()
        } else {
            Verdict::Defer(DeferReason::ContentNew).into()
        }
    }

    fn note_held(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content_pass(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_rejected(&self, _: &Attempt<'_>, _: Timestamp) {}
}

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }
}

fn connection() -> Connection<Join<Empty, Sink>> {
    connection_asking(&[])
}

fn connection_asking(asks_for: &'static [&'static [u8]]) -> Connection<Join<Empty, Sink>> {
    connection_over(join(empty(), sink()), asks_for)
}

fn connection_over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    asks_for: &'static [&'static [u8]],
) -> Connection<S> {
    let metrics = Arc::<Metrics>::default();
    let judge = Arc::new(Fixed { asks_for });
    let context = Context::new(&Settings::default(), Arc::clone(&judge) as _, metrics);
    let mut policy = Policy::default();
    policy.evidence.allowlists = u8::from(!asks_for.is_empty());
    let policy = Arc::new(policy);
    let session = Session::new(Arc::new(context), policy, Origin::ThisHost);
    let limits = Limits {
        frame: Duration::from_secs(5),
        idle: Duration::from_hours(3),
    };
    let service = Service {
        clock: judge,
        limits,
        latency: Latency::default(),
    };
    Connection::new(stream, session, Arc::new(service), Arc::default())
}

/// The body of the message that is read.
const BODY: &[u8] = b"Hello.\r\nIs it you again?\r\n";

/// What a session of two messages is, as Postfix sends it.
fn conversation() -> Vec<u8> {
    let frames: [&[u8]; 23] = [
        b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff",
        b"DC",
        b"Cmx.client.example\x004\x30\x39192.0.2.7\0",
        b"Hhelo.client.example\0",
        b"DM",
        b"M<a@x.example>\0SIZE=42\0",
        b"DR{rcpt_mailer}\0local\0",
        b"R<new@y.example>\0",
        b"R<known@y.example>\0",
        b"DTi\x004ABC\0",
        b"T",
        b"A",
        b"M<a@x.example>\0",
        b"R<read@y.example>\0",
        b"T",
        b"LSubject\0Again\0",
        b"BHello.\r\nIs it",
        b"B you again?\r\n",
        b"DEi\x004ABC\0",
        b"E",
        b"A",
        b"A",
        b"Q",
    ];
    wire(&frames)
}

fn wire(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("short");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// The replies to `pieces`, and how it ended.
fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<&'static str>) {
    let mut connection = connection();
    let mut out = Vec::new();
    for piece in pieces {
        if let Err(end) = connection.answer(piece, &mut out) {
            return (out, Some(end.reason()));
        }
    }
    (out, None)
}

/// A message of a probe sender, and one from an MTA that tells no DATA, in one session each.
fn probing() -> Vec<u8> {
    let frames: [&[u8]; 9] = [
        b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff",
        b"Cmx.client.example\x004\x30\x39192.0.2.7\0",
        b"Hhelo.client.example\0",
        b"M<>\0",
        b"R<known@y.example>\0",
        b"R<new@y.example>\0",
        b"T",
        b"A",
        b"Q",
    ];
    wire(&frames)
}

fn ancient() -> Vec<u8> {
    let frames: [&[u8]; 9] = [
        b"O\0\0\0\x02\0\0\0\0\0\0\0\0",
        b"Cmx.client.example\x004\x30\x39192.0.2.7\0",
        b"Hhelo.client.example\0",
        b"M<>\0",
        b"R<new@y.example>\0",
        b"LSubject\0Again\0",
        b"BHello.\r\n",
        b"E",
        b"Q",
    ];
    wire(&frames)
}

/// The replies where the session stops to ask, and learns `evidence`; and how often it did.
fn replies_asking<'a>(
    asks_for: &'static [&'static [u8]],
    pieces: impl IntoIterator<Item = &'a [u8]>,
    evidence: Evidence,
) -> (Vec<u8>, Option<&'static str>, u32) {
    let mut connection = connection_asking(asks_for);
    let mut out = Vec::new();
    let mut stops = 0;
    for piece in pieces {
        let mut answered = connection.answer(piece, &mut out);
        // Nothing is read while it waits, and it may stop again in what came already.
        while answered.is_ok() && connection.asking.is_some() {
            stops += 1;
            answered = connection.go_on(evidence, &mut out);
        }
        if let Err(end) = answered {
            return (out, Some(end.reason()), stops);
        }
    }
    (out, None, stops)
}

#[test]
fn session_that_stops_anywhere_says_what_one_that_did_not_says() {
    for (bytes, messages) in [(conversation(), 2), (probing(), 1), (ancient(), 1)] {
        let whole = replies([bytes.as_slice()]);
        let mut most = 0;
        for asks_for in ASKING {
            for length in (1..40).chain([bytes.len()]) {
                let (out, end, stops) =
                    replies_asking(asks_for, bytes.chunks(length), Evidence::default());
                assert_eq!((out, end), whole, "{asks_for:?} by {length}");
                most = most.max(stops);
            }
            for split in 1..bytes.len() {
                let (head, tail) = bytes.split_at(split);
                let (out, end, _) = replies_asking(asks_for, [head, tail], Evidence::default());
                assert_eq!((out, end), whole, "{asks_for:?} at {split}");
            }
        }
        assert_eq!(most, messages, "one question a message");
    }
}

#[test]
fn what_was_learnt_decides_on_the_frame_that_was_left() {
    let evidence = Evidence {
        score: Some(3),
        ..Evidence::default()
    };
    let bytes = conversation();
    let (out, _, stops) = replies_asking(&[b"new"], [bytes.as_slice()], evidence);
    assert_eq!(stops, 1);
    let (deferred, _) = replies([bytes.as_slice()]);
    let deferrals = |replies: &[u8]| replies.windows(4).filter(|it| it == b"y451").count();
    assert_eq!((deferrals(&deferred), deferrals(&out)), (1, 0));
}

#[test]
fn session_that_waits_holds_no_more_than_came_and_is_not_late() {
    let bytes = conversation();
    let mut connection = connection_asking(&[b"new"]);
    let mut out = Vec::new();
    connection.answer(&bytes, &mut out).expect("in order");
    assert!(connection.asking.is_some() && connection.partial.len() < bytes.len());
    // Nobody is there to be asked: the time of the question is up at once, that of a frame is not.
    assert!(connection.deadline() < connection.since + connection.service.limits.frame);
    assert!(connection.waits_for_answer());
    let end = connection.go_on(Evidence::default(), &mut out);
    assert!(matches!(end, Err(End::Quit)));
    assert_eq!(connection.partial.capacity(), 0);
}

/// For whose sake a session may ask.
const ASKING: [&[&[u8]]; 6] = [
    &[b"new"],
    &[b"known"],
    &[b"read"],
    &[b"new", b"read"],
    &[b"known", b"read"],
    &[b"new", b"known", b"read"],
];

#[test]
fn every_split_gives_the_same_replies() {
    let bytes = conversation();
    let whole = replies([bytes.as_slice()]);
    assert_eq!(whole.1, Some("quit"));
    // At RCPT and DATA, and at the end of a message that was heard as it is.
    assert!(
        whole
            .0
            .ends_with(b"\0\0\0\x01c\0\0\0\x01a\0\0\0\x01c\0\0\0\x01c\0\0\0\x01c")
    );
    for split in 1..bytes.len() {
        let (head, tail) = bytes.split_at(split);
        assert_eq!(replies([head, tail]), whole, "split at {split}");
    }
    assert_eq!(replies(bytes.chunks(1)), whole, "byte by byte");
}

/// What Postfix writes at once lies there at once: that is a system call to read it, and one to answer
/// all that is owed. Where nothing is owed nothing is written.
#[test]
fn round_trip_is_one_read_and_one_write() {
    let bursts: [(&[&[u8]], u32); 6] = [
        (&[b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"], 1),
        (
            &[
                b"DC",
                b"Cmx.client.example\x004\x30\x39192.0.2.7\0",
                b"Hhelo.client.example\0",
                b"DM",
                b"M<a@x.example>\0SIZE=42\0",
                b"DR{rcpt_mailer}\0local\0",
                b"R<new@y.example>\0",
            ],
            1,
        ),
        (&[b"DR{rcpt_mailer}\0local\0", b"R<read@y.example>\0"], 1),
        (&[b"DTi\x004ABC\0", b"T"], 1),
        (
            &[b"LSubject\0Again\0", b"BHello.\r\n", b"DEi\x004ABC\0", b"E"],
            1,
        ),
        (&[b"A", b"A"], 0),
    ];
    let mut connection = connection_over(Counted::default(), &[]);
    let mut cx = TaskContext::from_waker(Waker::noop());
    for (frames, writes) in bursts {
        connection.stream = Counted::default();
        connection.stream.to_read.push_back(wire(frames));
        while let Poll::Ready(turn) = connection.poll_turn(&mut cx) {
            turn.expect("in order");
        }
        let calls = (connection.stream.reads, connection.stream.writes);
        assert_eq!(calls, (1, writes), "{frames:?}");
    }
}

/// A stream that counts what would be system calls: the runtime makes none where nothing lies ready.
#[derive(Default)]
struct Counted {
    to_read: VecDeque<Vec<u8>>,
    reads: u32,
    writes: u32,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(bytes) = self.to_read.pop_front() else {
            return Poll::Pending;
        };
        self.reads += 1;
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn idle_connection_holds_no_buffer() {
    let mut connection = connection();
    let bytes = conversation();
    let mut out = Vec::new();
    for piece in bytes[..bytes.len() - 5].chunks(7) {
        connection.answer(piece, &mut out).expect("in order");
    }
    assert_eq!(connection.partial.capacity(), 0);
    assert_eq!(connection.wait, Wait::Silence);
}

#[test]
fn body_chunk_is_not_kept() {
    let mut connection = connection();
    let mut out = Vec::new();
    connection
        .answer(&conversation()[..17], &mut out)
        .expect("terms");
    let mut chunk = b"\0\x01\0\0B".to_vec();
    chunk.resize(5 + 65_535, b'x');
    for piece in chunk.repeat(20).chunks(50_000) {
        connection.answer(piece, &mut out).expect("in order");
        assert!(connection.partial.len() < HEADER_LENGTH);
    }
    assert_eq!(
        (connection.body_left, connection.partial.capacity()),
        (0, 0)
    );
    assert_eq!(connection.wait, Wait::Silence);
}

#[test]
fn body_chunk_is_kept_where_each_is_answered() {
    let mut connection = connection();
    let mut out = Vec::new();
    let ancient = b"\0\0\0\x0dO\0\0\0\x02\0\0\0\0\0\0\0\0";
    connection.answer(ancient, &mut out).expect("terms");
    out.clear();
    connection
        .answer(b"\0\0\0\x03Ba", &mut out)
        .expect("a part");
    assert_eq!((connection.body_left, out.as_slice()), (0, &b""[..]));
    connection.answer(b"b", &mut out).expect("whole");
    assert_eq!(out, b"\0\0\0\x01c");
}

#[test]
fn time_of_a_body_chunk_runs_from_its_first_byte() {
    let mut connection = connection();
    let mut out = Vec::new();
    connection
        .answer(&conversation()[..17], &mut out)
        .expect("terms");
    connection
        .answer(b"\0\0\0\x04Ba", &mut out)
        .expect("a part");
    let began = connection.since;
    connection.answer(b"b", &mut out).expect("a part");
    assert_eq!((connection.wait, connection.since), (Wait::Frame, began));
    connection.answer(b"c", &mut out).expect("the end");
    assert_eq!(connection.wait, Wait::Silence);
    connection
        .answer(b"\0\0\0\x03Ba", &mut out)
        .expect("a part");
    let second = connection.since;
    connection
        .answer(b"b\0\0\0\x03Ba", &mut out)
        .expect("the next");
    assert!(connection.wait == Wait::Frame && connection.since >= second);
    assert_eq!(connection.body_left, 1);
}

#[test]
fn time_of_a_frame_runs_from_its_first_byte() {
    let mut connection = connection();
    assert_eq!(connection.wait, Wait::Frame, "the first frame is due");
    let bytes = conversation();
    let mut out = Vec::new();
    let began = connection.since;
    connection.answer(&bytes[..3], &mut out).expect("a part");
    assert_eq!((connection.wait, connection.since), (Wait::Frame, began));
    connection.answer(&bytes[3..17], &mut out).expect("whole");
    assert_eq!(connection.wait, Wait::Silence);
    connection.answer(&bytes[17..20], &mut out).expect("a part");
    let began = connection.since;
    assert_eq!(connection.wait, Wait::Frame);
    connection.answer(&bytes[20..21], &mut out).expect("a part");
    assert_eq!((connection.wait, connection.since), (Wait::Frame, began));
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_word_not_a_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        replies(pieces.iter().map(Vec::as_slice));
    }

    #[test]
    fn any_damage_to_a_conversation_is_survived(at in 0..360_usize, byte in any::<u8>(), split in 1..100_usize) {
        let mut bytes = conversation();
        let at = at % bytes.len();
        bytes[at] = byte;
        let whole = replies([bytes.as_slice()]);
        prop_assert_eq!(replies(bytes.chunks(split)), whole);
    }
}
