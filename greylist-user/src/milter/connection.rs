//! One connection: bytes in, bytes out, and how long each may take.
//!
//! Knows buffers and deadlines; leaves what bytes mean to `session`. All connections of a worker
//! share two scratch buffers, since a turn (read, answer, write) never waits in the middle. What a
//! connection keeps of its own is half a frame, or half a write, while there is one: an idle
//! connection holds no buffer. Of a body chunk not even that: its pieces are handed on as they come.

use std::{
    cell::RefCell,
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::{clock::Clock, policy::Timestamp};

use super::{
    frame::{BegunBody, CONTENT_LIMIT, Frame, FrameError, HEADER_LENGTH},
    latency::{Latency, Turn},
    session::{Next, Session, SessionError},
};

/// One connection of an MTA.
pub(super) struct Connection<S> {
    stream: S,
    session: Session,
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    /// Bytes that are still to come of a body chunk whose beginning has been handed on.
    body_left: usize,
    /// The end of replies whose beginning has been written.
    unsent: Vec<u8>,
    /// What is waited for.
    wait: Wait,
    /// When that wait began.
    since: Instant,
    /// When the turn began of which the answer is still being written, if it has a verdict.
    deciding: Option<Instant>,
    /// Told to whoever drains.
    is_idle: Arc<AtomicBool>,
    latency: Latency,
}

/// How long a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a frame that has begun, for the first frame, and for a write.
    pub(super) frame: Duration,
    /// For silence between frames.
    pub(super) idle: Duration,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The MTA closed it.
    Eof,
    /// The bytes were no frame.
    Frame(FrameError),
    /// The system reported an error.
    Io(io::Error),
    /// A deadline passed.
    Late(Wait),
    /// The MTA said good-bye.
    Quit,
    /// The session could not go on.
    Session(SessionError),
}

impl End {
    /// One word for the metric.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Frame(FrameError::Http) => "http",
            Self::Frame(FrameError::Tls) => "tls",
            Self::Frame(FrameError::Empty | FrameError::TooLong { .. }) => "frame_length",
            Self::Io(_) => "io",
            Self::Late(Wait::Silence) => "idle_timeout",
            Self::Late(Wait::Frame) => "frame_timeout",
            Self::Late(Wait::Write) => "write_timeout",
            Self::Quit => "quit",
            Self::Session(error) => error.reason(),
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The end of a frame, or the first one.
    Frame,
    /// The next command, whenever it comes.
    Silence,
    /// The peer to read.
    Write,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that has just been accepted. `is_idle` will say whether it is between
    /// transactions.
    pub(super) fn new(
        stream: S,
        session: Session,
        clock: Arc<dyn Clock>,
        limits: Limits,
        is_idle: Arc<AtomicBool>,
        latency: Latency,
    ) -> Self {
        Self {
            stream,
            session,
            clock,
            limits,
            partial: Vec::new(),
            body_left: 0,
            unsent: Vec::new(),
            wait: Wait::Frame,
            since: Instant::now(),
            deciding: None,
            is_idle,
            latency,
        }
    }

    /// Serves until the end.
    pub(super) async fn serve(mut self) -> End {
        let mut alarm = pin!(sleep_until(self.deadline()));
        loop {
            let turn = poll_fn(|cx| match self.poll_turn(cx) {
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
                Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
            });
            match turn.await {
                Some(Ok(())) => {}
                Some(Err(end)) => return end,
                None if Instant::now() >= self.deadline() => return End::Late(self.wait),
                None => alarm.as_mut().reset(self.deadline()),
            }
            // An alarm that rings early is cheap; setting it anew at each turn would not be.
            if self.deadline() < alarm.deadline() {
                alarm.as_mut().reset(self.deadline());
            }
        }
    }

    /// One turn: what is still to be written, or else read, answer, write.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), End>> {
        if !self.unsent.is_empty() {
            return self.poll_unsent(cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch.input);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).map_err(End::Io)?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Err(End::Eof));
            }
            scratch.output.clear();
            let begun = Instant::now();
            let answered = self.answer(read, &mut scratch.output);
            let written = self.write(cx, &scratch.output);
            self.note_turn(begun);
            scratch.output.shrink_to(SCRATCH_LENGTH);
            Poll::Ready(answered.and(written))
        })
    }

    /// Answers every whole frame in what has come so far.
    fn answer(&mut self, read: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let now = self.clock.now();
        let mut bytes = read;
        let mut has_ended = false;
        if self.body_left > 0 {
            let (piece, rest) = read.split_at(read.len().min(self.body_left));
            self.receive(Frame::body(piece), now, out)?;
            self.body_left -= piece.len();
            has_ended = self.body_left == 0;
            bytes = rest;
        }
        let joined;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            joined = mem::take(&mut self.partial);
            bytes = joined.as_slice();
        }
        while let Some(frame) = Frame::first_of(bytes).map_err(End::Frame)? {
            bytes = &bytes[frame.wire_length()..];
            self.receive(frame, now, out)?;
            has_ended = true;
        }
        match BegunBody::of(bytes) {
            Some(body) if self.session.takes_body_in_pieces() => {
                self.receive(Frame::body(body.piece), now, out)?;
                self.body_left = body.left;
            }
            _ => self.partial.extend_from_slice(bytes),
        }
        self.await_next(has_ended);
        let is_idle = self.session.is_between_transactions();
        self.is_idle.store(is_idle, Ordering::Relaxed);
        Ok(())
    }

    fn receive(&mut self, frame: Frame<'_>, now: Timestamp, out: &mut Vec<u8>) -> Result<(), End> {
        match self.session.receive(frame, now, out) {
            Ok(Next::Command) => Ok(()),
            Ok(Next::Close) => Err(End::Quit),
            Err(error) => Err(End::Session(error)),
        }
    }

    /// A frame's time runs from its first byte; more of the same frame does not renew it.
    fn await_next(&mut self, has_ended: bool) {
        let wait = self.between_writes();
        if wait == Wait::Silence || has_ended || self.wait == Wait::Silence {
            self.wait_for(wait);
        }
    }

    /// What is waited for when nothing is to be written.
    fn between_writes(&self) -> Wait {
        if self.partial.is_empty() && self.body_left == 0 {
            Wait::Silence
        } else {
            Wait::Frame
        }
    }

    fn wait_for(&mut self, wait: Wait) {
        self.wait = wait;
        self.since = Instant::now();
    }

    /// Writes all replies of a turn at once; keeps what the peer does not take.
    fn write(&mut self, cx: &mut TaskContext<'_>, out: &[u8]) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        let written = match Pin::new(&mut self.stream).poll_write(cx, out) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Err(End::Io(error)),
            Poll::Pending => 0,
        };
        if written < out.len() {
            self.unsent.extend_from_slice(&out[written..]);
            self.wait_for(Wait::Write);
        }
        Ok(())
    }

    /// Counts a turn that had a verdict, once its answer is written.
    fn note_turn(&mut self, begun: Instant) {
        if !self.session.has_decided() {
            return;
        }
        if self.unsent.is_empty() {
            self.latency.count(Turn::AtOnce, begun.elapsed());
        } else {
            self.deciding = Some(begun);
        }
    }

    /// Nothing is read from a peer that does not read.
    fn poll_unsent(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), End>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, &self.unsent);
        let written = ready!(write).map_err(End::Io)?;
        if written == 0 {
            return Poll::Ready(Err(End::Io(io::ErrorKind::WriteZero.into())));
        }
        self.unsent.drain(..written);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            if let Some(begun) = self.deciding.take() {
                self.latency.count(Turn::Waited, begun.elapsed());
            }
            self.wait_for(self.between_writes());
        }
        Poll::Ready(Ok(()))
    }

    fn deadline(&self) -> Instant {
        self.since
            + match self.wait {
                Wait::Frame | Wait::Write => self.limits.frame,
                Wait::Silence => self.limits.idle,
            }
    }
}

/// The buffers that the connections of one worker share.
struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; SCRATCH_LENGTH].into_boxed_slice(),
        output: Vec::with_capacity(4_096),
    });
}

/// The longest frame, so that one read can take it whole.
const SCRATCH_LENGTH: usize = CONTENT_LIMIT as usize + HEADER_LENGTH;

#[cfg(test)]
mod tests;
