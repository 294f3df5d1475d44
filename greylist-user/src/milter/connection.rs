//! One connection: bytes in, bytes out, and how long each may take.
//!
//! Knows buffers and deadlines; leaves what bytes mean to `session`. All connections of a worker
//! share two scratch buffers, since a turn (read, answer, write) never waits in the middle. What a
//! connection keeps of its own is half a frame, or half a write, while there is one: an idle
//! connection holds no buffer. Of a body chunk not even that: its pieces are handed on as they come.
//!
//! A session may have to ask before it can go on. Then the frame at which it stopped is kept with what
//! came behind it, nothing more is read, and neither worker nor scratch buffer is held. It goes on when
//! the answer comes, or without one when its time is up: that ends no connection.

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
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
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    clock::Clock,
    policy::{Evidence, Timestamp},
};

use super::{
    frame::{BegunBody, CONTENT_LIMIT, Frame, FrameError, HEADER_LENGTH},
    latency::{Latency, Turn},
    session::{Next, Session, SessionError},
};

/// One connection of an MTA.
pub struct Connection<S> {
    stream: S,
    session: Session,
    service: Arc<Service>,
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
    /// The question that stands in the way of everything else; a box, since most sessions ask none.
    asking: Option<Box<Asking>>,
    /// When the turn began of which the answer waits, for a question or for the peer to take it, if it
    /// has a verdict.
    deciding: Option<Instant>,
    /// Told to whoever drains.
    is_idle: Arc<AtomicBool>,
}

/// What all connections of a worker go by. Of the worker alone, so that no other core counts who
/// holds it.
pub struct Service {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long they may take.
    pub limits: Limits,
    /// Where it is counted how long an answer took.
    pub latency: Latency,
}

/// How long a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a frame that has begun, for the first frame, and for a write.
    pub frame: Duration,
    /// For silence between frames.
    pub idle: Duration,
}

/// A question under way.
#[derive(Debug)]
struct Asking {
    answer: oneshot::Receiver<Evidence>,
    /// When the session goes on without.
    until: Instant,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
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
    pub fn reason(&self) -> &'static str {
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
pub enum Wait {
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
    pub fn new(
        stream: S,
        session: Session,
        service: Arc<Service>,
        is_idle: Arc<AtomicBool>,
    ) -> Self {
        Self {
            stream,
            session,
            service,
            partial: Vec::new(),
            body_left: 0,
            unsent: Vec::new(),
            wait: Wait::Frame,
            since: Instant::now(),
            asking: None,
            deciding: None,
            is_idle,
        }
    }

    /// Serves until the end.
    pub async fn serve(&mut self) -> End {
        let mut alarm = pin!(sleep_until(self.deadline()));
        loop {
            let turn = poll_fn(|cx| match self.poll_turn(cx) {
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
                Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
            });
            match turn.await {
                Some(Ok(())) => {}
                Some(Err(end)) => return end,
                None if Instant::now() < self.deadline() => alarm.as_mut().reset(self.deadline()),
                None if self.waits_for_answer() => {
                    // The next turn goes on without it.
                    self.session.count_unanswered();
                    self.asking = self.asking.take().map(|it| Box::new(it.given_up()));
                }
                None => return End::Late(self.wait),
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
        let evidence = match &mut self.asking {
            Some(asking) => Some(ready!(asking.poll_answer(cx))),
            None => None,
        };
        SCRATCH.with_borrow_mut(|scratch| {
            if let Some(evidence) = evidence {
                scratch.output.clear();
                let begun = self.deciding.take().unwrap_or_else(Instant::now);
                let answered = self.go_on(evidence, &mut scratch.output);
                let written = self.write(cx, &scratch.output);
                self.note_turn(begun, Turn::Waited);
                scratch.output.shrink_to(SCRATCH_LENGTH);
                return Poll::Ready(answered.and(written));
            }
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
            self.note_turn(begun, Turn::AtOnce);
            scratch.output.shrink_to(SCRATCH_LENGTH);
            Poll::Ready(answered.and(written))
        })
    }

    /// Answers every whole frame in what has come so far.
    fn answer(&mut self, read: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let now = self.service.clock.now();
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
            if self.receive(frame, now, out)? == Next::Evidence {
                self.ask();
                break;
            }
            bytes = &bytes[frame.wire_length()..];
            has_ended = true;
        }
        match BegunBody::of(bytes) {
            _ if self.asking.is_some() => self.partial.extend_from_slice(bytes),
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

    /// Asks what the session wants to know. Nobody to ask is an answer, too.
    fn ask(&mut self) {
        let (tell, answer) = oneshot::channel();
        let budget = self.session.ask(Box::new(move |evidence| {
            // Whoever asked may be gone, or have gone on.
            let _ = tell.send(evidence);
        }));
        let until = Instant::now() + budget + ANSWER_ON_ITS_WAY;
        self.asking = Some(Box::new(Asking { answer, until }));
    }

    /// Goes on where the session stopped, with the frame at which it did.
    fn go_on(&mut self, evidence: Evidence, out: &mut Vec<u8>) -> Result<(), End> {
        self.asking = None;
        self.session.learn(evidence);
        let kept = mem::take(&mut self.partial);
        // What was waited for so far was no fault of the peer's.
        self.wait_for(Wait::Silence);
        self.answer(&kept, out)
    }

    /// Whether nothing but an answer is waited for.
    fn waits_for_answer(&self) -> bool {
        self.asking.is_some() && self.unsent.is_empty()
    }

    fn receive(
        &mut self,
        frame: Frame<'_>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Next, End> {
        match self.session.receive(frame, now, out) {
            Ok(next @ (Next::Command | Next::Evidence)) => Ok(next),
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
    fn note_turn(&mut self, begun: Instant, turn: Turn) {
        if self.asking.is_some() {
            self.deciding = Some(begun);
        } else if self.session.has_decided() {
            if self.unsent.is_empty() {
                self.service.latency.count(turn, begun.elapsed());
            } else {
                self.deciding = Some(begun);
            }
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
            if self.asking.is_none()
                && let Some(begun) = self.deciding.take()
            {
                self.service.latency.count(Turn::Waited, begun.elapsed());
            }
            self.wait_for(self.between_writes());
        }
        Poll::Ready(Ok(()))
    }

    fn deadline(&self) -> Instant {
        if let Some(asking) = self.asking.as_ref().filter(|_| self.unsent.is_empty()) {
            return asking.until;
        }
        self.since
            + match self.wait {
                Wait::Frame | Wait::Write => self.service.limits.frame,
                Wait::Silence => self.service.limits.idle,
            }
    }
}

impl Asking {
    /// What was found; nothing, if whoever was asked has gone.
    fn poll_answer(&mut self, cx: &mut TaskContext<'_>) -> Poll<Evidence> {
        Pin::new(&mut self.answer)
            .poll(cx)
            .map(Result::unwrap_or_default)
    }

    /// The same with an answer that is no answer.
    fn given_up(self) -> Self {
        let (_, answer) = oneshot::channel();
        Self { answer, ..self }
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

/// What an answer may take from whoever was asked to here, beyond its own time: a loaded machine.
const ANSWER_ON_ITS_WAY: Duration = Duration::from_millis(100);

/// The longest frame, so that one read can take it whole.
const SCRATCH_LENGTH: usize = CONTENT_LIMIT as usize + HEADER_LENGTH;

#[cfg(test)]
mod tests;
