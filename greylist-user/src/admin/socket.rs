//! The control socket: who may come in, and for what.
//!
//! A thread of its own with bounded connections, time and line length. The file's mode and group
//! decide who may ask; who may change anything is decided by `SO_PEERCRED`, which the kernel
//! fills in and the client cannot. Every change is logged with the uid that ordered it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, Uid};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener as TokioListener, UnixStream};
use tokio::time::timeout;

use super::control::Control;
use super::count::Metrics;
use super::door::Door;
use super::import::ImportBatch;
use super::listing;
use super::report::Reported;
use super::request::{Answer, REFUSED, Request};
use super::settings::Settings;
use crate::log::STRANGERS;
use crate::socket_file::{Named, Obstacle, SocketFile};

/// The running control socket. Dropping it, or [`ControlServer::stop`], closes and removes it.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    _file: SocketFile,
    /// Closed after the socket's file is gone.
    _door: Door,
}

/// A control socket that has its place and is not answered yet: whoever asks waits.
#[derive(Debug)]
pub struct BoundControl {
    path: PathBuf,
    listener: UnixListener,
    file: SocketFile,
}

impl ControlServer {
    /// Makes the socket. Starts no thread, and is all that may take a right: the socket's group.
    ///
    /// A socket left behind by a daemon that died is replaced; anything else in its place, a
    /// living daemon above all, is an error.
    pub fn bind(settings: &Settings) -> Result<BoundControl, SocketError> {
        let path = settings.socket.clone();
        let broken = |source| SocketError::Bind(path.clone(), source);
        let group = group_id(&settings.group)?;
        if let Some(directory) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o750);
            builder.create(directory).map_err(broken)?;
        }
        let named = Named::at(&path).map_err(|obstacle| match obstacle {
            Obstacle::InUse => SocketError::InUse(path.clone()),
            Obstacle::NotASocket => SocketError::NoSocket(path.clone()),
            Obstacle::System(source) => broken(source),
        })?;
        if let Some(group) = group {
            named.give_to_group(group).map_err(broken)?;
        }
        let (listener, file) = named.listen(BACKLOG).map_err(broken)?;
        Ok(BoundControl {
            path,
            listener,
            file,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes and removes the socket, and waits for its thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl BoundControl {
    /// Answers, in a thread of its own.
    pub fn serve(
        self,
        control: Arc<dyn Control>,
        metrics: Arc<Metrics>,
    ) -> Result<ControlServer, SocketError> {
        let Self {
            path,
            listener,
            file,
        } = self;
        let door = Door::open(
            "control",
            Arc::clone(&metrics),
            || TokioListener::from_std(listener),
            move |stream| serve(stream, Arc::clone(&control), Arc::clone(&metrics)),
        )
        .map_err(|source| SocketError::Bind(path.clone(), source))?;
        Ok(ControlServer {
            path,
            _file: file,
            _door: door,
        })
    }
}

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The socket could not be made.
    #[error("the control socket {} cannot be made", .0.display())]
    Bind(PathBuf, #[source] io::Error),
    /// Another daemon lives there.
    #[error("another daemon answers at {}; stop it, or name another [admin] socket", .0.display())]
    InUse(PathBuf),
    /// `[admin] group` names no group of this host.
    #[error("there is no group {0:?} for the control socket; make it with `groupadd --system {0}`")]
    NoGroup(String),
    /// Something else has that name.
    #[error("{} exists and is no socket; remove it, or name another [admin] socket", .0.display())]
    NoSocket(PathBuf),
}

fn group_id(name: &str) -> Result<Option<u32>, SocketError> {
    if name.is_empty() {
        return Ok(None);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        _ => Err(SocketError::NoGroup(name.to_owned())),
    }
}

/// One question, one answer.
async fn serve(mut stream: UnixStream, control: Arc<dyn Control>, metrics: Arc<Metrics>) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let uid = credentials.uid();
    let answer = match timeout(QUESTION_TIME, read_line(&mut stream, uid)).await {
        Ok(Ok(line)) => {
            tokio::task::spawn_blocking(move || answer(&line, uid, &*control, &metrics))
                .await
                .unwrap_or_else(|_| Answer::Failed {
                    why: "the daemon met a bug at this; its log has the place".to_owned(),
                })
        }
        Ok(Err(refused)) => refused,
        Err(_) => refused("no whole line came within five seconds"),
    };
    let mut line = serde_json::to_vec(&answer).expect("answers are plain data");
    line.push(b'\n');
    // A client that went away does not want the answer.
    let _ = timeout(ANSWER_TIME, stream.write_all(&line)).await;
}

async fn read_line(stream: &mut UnixStream, uid: u32) -> Result<Vec<u8>, Answer> {
    let mut line = Vec::with_capacity(256);
    loop {
        let seen = line.len();
        match stream.read_buf(&mut line).await {
            Ok(0) | Err(_) => return Err(refused("the line ended before its line feed")),
            Ok(_) => {}
        }
        if let Some(end) = line[seen..].iter().position(|byte| *byte == b'\n') {
            line.truncate(seen + end);
            return Ok(line);
        }
        let is_import = may_change(uid) && line.starts_with(ImportBatch::BEGINS);
        let longest = if is_import {
            ImportBatch::LONGEST
        } else {
            LONGEST_QUESTION
        };
        if line.len() > longest {
            return Err(refused("the line is longer than any request"));
        }
    }
}

/// What `uid` is answered to one line.
fn answer(line: &[u8], uid: u32, control: &dyn Control, metrics: &Metrics) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            metrics.asked("unknown", REFUSED);
            // The command line may be newer than the daemon, which a restart mends.
            let version = env!("CARGO_PKG_VERSION");
            return refused(format!(
                "the request is not understood by the running greygate {version}: {error}"
            ));
        }
    };
    let word = request.word();
    if request.is_change() && !may_change(uid) {
        metrics.asked(word, REFUSED);
        tracing::warn!(name: "unpermitted", target: STRANGERS, uid, request = word, "unpermitted");
        return refused("only root and the daemon's own user may change anything");
    }
    let answer = obey(&request, uid, control);
    let outcome = answer.outcome();
    metrics.asked(word, outcome);
    if request.is_change() {
        let client = request.client();
        let why = answer.why();
        // A content filter reports each mail, which is no news; nor is each batch of an import, which
        // begins with an empty one.
        let is_one_of_many = match &request {
            Request::Import(batch) => !batch.items.is_empty(),
            Request::Report(_) => true,
            _ => false,
        };
        if is_one_of_many {
            tracing::debug!(uid, request = word, client, outcome, why, "ordered");
        } else {
            tracing::info!(uid, request = word, client, outcome, why, "ordered");
        }
    }
    answer
}

fn may_change(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}

fn obey(request: &Request, uid: u32, control: &dyn Control) -> Answer {
    let done = match request {
        Request::LiveAdd(order) => match order.entry(&control.policy()) {
            Ok(entry) => control.live_add(order, &entry, uid).map(Answer::LiveChange),
            Err(refusal) => return refused(refusal),
        },
        Request::LiveRemove { list, entry } => match listing::entry(entry) {
            Ok(entry) => control.live_remove(*list, &entry).map(Answer::LiveChange),
            Err(refusal) => return refused(refusal),
        },
        Request::LiveShow { list } => return Answer::LiveEntries(control.live_show(*list)),
        Request::Cluster { order } => control
            .cluster(*order)
            .map(|standing| Answer::Cluster(Box::new(standing))),
        Request::Status => return Answer::Status(Box::new(control.status())),
        Request::Why(question) => return Answer::Why(Box::new(control.why(question))),
        Request::XdpStatus => return Answer::XdpStatus(control.xdp_status()),
        Request::Forget { what } => match what.check() {
            Ok(()) => control.forget(what).map(Answer::Forgotten),
            Err(invalid) => return refused(invalid.to_string()),
        },
        Request::Forgive(order) => control.forgive(order).map(Answer::Forgiven),
        Request::Import(batch) => control.import(batch).map(Answer::Imported),
        Request::List(question) => match question.check() {
            Ok(()) => control
                .list(question)
                .map(|listing| Answer::List(Box::new(listing))),
            Err(invalid) => return refused(invalid.to_string()),
        },
        Request::Report(report) => match report.check() {
            Ok(()) => control
                .report(report)
                .map(|()| Answer::Reported(Reported::of(report))),
            Err(invalid) => return refused(invalid.to_string()),
        },
        Request::Reload => {
            return match control.reload() {
                Ok(reloaded) => Answer::Reloaded(reloaded),
                Err(problems) => Answer::Unreloaded { problems },
            };
        }
        Request::Snapshot => control.snapshot().map(Answer::Snapshot),
        Request::Punish(order) => {
            let policy = control.policy();
            match order.client(&policy) {
                Ok(client) => {
                    let duration = order
                        .seconds
                        .map_or(policy.punish.sentence, Duration::from_secs);
                    control
                        .punish(client, order.level.0, duration)
                        .map(Answer::Punished)
                }
                Err(refusal) => return refused(refusal.to_string()),
            }
        }
    };
    done.unwrap_or_else(|error| Answer::Failed {
        why: error.to_string(),
    })
}

fn refused(why: impl Into<String>) -> Answer {
    Answer::Refused { why: why.into() }
}

/// Connections that wait to be accepted; sixteen are served at once.
const BACKLOG: i32 = 128;

/// The longest request but an import is some hundred bytes.
const LONGEST_QUESTION: usize = 4_096;

/// A client writes its line at once.
const QUESTION_TIME: Duration = Duration::from_secs(5);

/// A client reads its answer at once.
const ANSWER_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
