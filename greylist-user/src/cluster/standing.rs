//! How sharing stands, as an operator is told.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How sharing stands at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What this host is called.
    pub node: String,
    /// `single`, `sentinel` or `cluster`.
    pub mode: String,
    /// The servers that are configured.
    pub servers: Vec<String>,
    /// Whether this host shares now, and what it is waiting for if not.
    pub state: State,
    /// What the engine says it is; empty while there is none.
    pub engine: String,
    /// Whether sessions ask.
    pub circuit_closed: bool,
    /// Records that wait to be told.
    pub queued: u64,
    /// Why the engine does not take everything that it is told; [`None`] while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// Milliseconds since the latest round that was answered; [`None`] if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<u64>,
    /// Whether everything is being compared with the engine.
    pub resyncing: bool,
    /// Keys in the engine, those of others included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Bytes that the engine uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The hosts that share, this one included.
    pub nodes: Vec<Node>,
    /// Keys under the prefix that hold something else.
    pub foreign: u64,
}

/// Whether a host shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has not tried yet.
    #[default]
    Starting,
    /// There is no engine to be had, for this reason.
    Alone(String),
    /// There is one, and this host may not share in it, for this reason.
    Refused(String),
    /// An operator has it keep apart until the next start.
    Left,
    /// It does.
    Sharing,
}

/// A host that shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// Its version of greygate.
    pub version: String,
    /// Seconds since it was heard of.
    pub silent: u64,
}

/// Where the latest standing hangs.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Standing>);

impl Board {
    pub(super) fn new(standing: Standing) -> Self {
        Self(Mutex::new(standing))
    }

    pub(super) fn read(&self) -> Standing {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets the state; says whether it is another one.
    pub(super) fn turn(&self, state: State) -> bool {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever is on its way, the operator's word stands.
        let is_news = standing.state != state && standing.state != State::Left;
        if is_news {
            standing.state = state;
        }
        is_news
    }
}

impl Standing {
    /// Why nothing can be compared with the engine now; [`None`] if it can.
    pub fn apart(&self) -> Option<String> {
        match &self.state {
            State::Sharing => None,
            State::Starting => Some("this host connects to the engine still".to_owned()),
            State::Alone(_) | State::Refused(_) | State::Left => self.complaint(),
        }
    }

    /// What is wrong, in a sentence.
    pub fn complaint(&self) -> Option<String> {
        match &self.state {
            State::Starting => None,
            State::Sharing if !self.circuit_closed => Some(
                "the engine of [cluster] is too slow: sessions do not wait for it, and this host \
                 decides by what it knows itself"
                    .to_owned(),
            ),
            State::Sharing => self.untold.as_ref().map(|why| {
                format!("the engine of [cluster] does not take what this host tells it: {why}; it waits")
            }),
            State::Alone(why) => Some(format!(
                "nothing is shared with other hosts: {why}; this host decides alone"
            )),
            State::Refused(why) => Some(format!("this host may not share: {why}")),
            State::Left => Some(
                "this host keeps apart, as `greygate cluster leave` said; restart greygate to share \
                 again"
                    .to_owned(),
            ),
        }
    }
}
