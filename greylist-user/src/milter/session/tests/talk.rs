//! A session and the MTA that talks to it, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use crate::milter::context::Context;
use crate::milter::frame::Frame;
use crate::milter::metrics::Metrics;
use crate::milter::negotiate::Offer;
use crate::milter::settings::Settings;
use crate::policy::{Judge, Origin, PassReason, Policy, Timestamp, Verdict};

use super::table::Table;
use super::{Next, Session, SessionError};

/// What Postfix offers.
pub(super) const POSTFIX: Offer = Offer {
    version: 6,
    actions: 0x1ff,
    steps: 0x1f_ffff,
};
/// What an MTA of 2001 offers.
pub(super) const ANCIENT: Offer = Offer {
    version: 2,
    actions: 0,
    steps: 0,
};

/// A session and the MTA that talks to it.
pub(super) struct Talk {
    pub(super) session: Session,
    pub(super) table: Arc<Table>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) now: Timestamp,
}

impl Talk {
    pub(super) fn new(offer: Offer, passes: &[(&'static str, PassReason)]) -> Self {
        Self::under(offer, passes, Policy::default())
    }

    pub(super) fn under(
        offer: Offer,
        passes: &[(&'static str, PassReason)],
        policy: Policy,
    ) -> Self {
        Self::with(offer, passes, policy, |_| ())
    }

    /// A talk with settings that were changed.
    pub(super) fn with(
        offer: Offer,
        passes: &[(&'static str, PassReason)],
        policy: Policy,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let table = Arc::new(Table {
            passes: passes.iter().copied().collect(),
            ..Table::default()
        });
        let metrics = Arc::new(Metrics::default());
        let mut settings = Settings {
            host: "mx (evil)\r\n.example".to_owned(),
            ..Settings::default()
        };
        change(&mut settings);
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
    pub(super) fn says(&mut self, kind: u8, payload: &[u8]) -> String {
        let mut out = Vec::new();
        self.try_says(kind, payload, &mut out).expect("in order");
        shown(&out)
    }

    pub(super) fn try_says(
        &mut self,
        kind: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Next, SessionError> {
        self.session.receive(Frame { kind, payload }, self.now, out)
    }

    pub(super) fn greets(&mut self) {
        self.says(b'C', b"mx.client.example\x004\x30\x39192.0.2.7\0");
        self.says(b'H', b"helo.client.example\0");
    }

    pub(super) fn mails(&mut self, path: &str) -> String {
        self.says(b'M', format!("<{path}>\0SIZE=42\0").as_bytes())
    }

    pub(super) fn rcpts(&mut self, path: &str) -> String {
        self.says(b'R', format!("<{path}>\0").as_bytes())
    }

    /// A message to `recipients` that all go on at RCPT, and what is said at its end.
    pub(super) fn sends(&mut self, recipients: &[&str], pieces: &[&[u8]]) -> String {
        self.mails("a@x.example");
        for recipient in recipients {
            assert_eq!(self.rcpts(recipient), "c", "{recipient}");
        }
        assert_eq!(self.says(b'T', b""), "c");
        for piece in pieces {
            assert_eq!(self.says(b'B', piece), "");
        }
        self.says(b'E', b"")
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.table.asked.lock().expect("no judge panics").clone()
    }

    /// From now on the content of a message to `recipient` says so of it.
    pub(super) fn reads(&self, recipient: &str, verdict: Verdict) {
        let mut reads = self.table.reads.lock().expect("no judge panics");
        reads.insert(recipient.to_owned(), verdict);
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.table.told.lock().expect("no judge panics").clone()
    }
}

pub(super) fn offer_payload(offer: Offer) -> Vec<u8> {
    [offer.version, offer.actions, offer.steps]
        .map(u32::to_be_bytes)
        .concat()
}

pub(super) fn shown(mut out: &[u8]) -> String {
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

/// What is said of a message that was read `seconds` ago.
pub(super) fn content(seconds: u64) -> Verdict {
    let waited = Duration::from_secs(seconds);
    Verdict::Pass(PassReason::Content { waited })
}

pub(super) fn waited(seconds: u64) -> PassReason {
    let waited = Duration::from_secs(seconds);
    PassReason::Waited { waited }
}

pub(super) const DEFERRED: &str = r"y451 4.7.1 Greylisted, please try again later\x00";
