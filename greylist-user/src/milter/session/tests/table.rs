//! A judge simple enough to know by heart.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::policy::{
    Attempt, ClientNetwork, DeferReason, Fingerprint, Grounds, Judge, Judgement, MessageHasher,
    PassReason, Policy, ReadReason, RefuseReason, Seed, ServerMark, Timestamp, Verdict, Wanted,
};

/// Passes whom it knows, defers everybody else, and remembers whom it was asked about and what it
/// was told. It refuses what is for `sentenced@`, `bad@`, `poor@` and `denied@`, and wants the content of what
/// is for `read@` and `heard@`. What is for `first@`, `again@` and `roams@` has to be read, and is said
/// to have come once, twice or from elsewhere; at its end it is deferred, unless `reads` says otherwise.
/// `early@` has come before and not waited.
#[derive(Default)]
pub(super) struct Table {
    pub(super) passes: HashMap<&'static str, PassReason>,
    /// What it says of a message that was read, by recipient.
    pub(super) reads: Mutex<HashMap<String, Verdict>>,
    /// Each word it gave on a recipient, in their order.
    pub(super) words: Mutex<Vec<Word>>,
    /// What names each message that it read.
    pub(super) fingerprints: Mutex<Vec<Option<Fingerprint>>>,
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) servers: Mutex<Vec<ServerMark>>,
    pub(super) connected: Mutex<Vec<u64>>,
    /// What it was told, beginning with `content`, `judged`, `passed` or `rejected`.
    pub(super) told: Mutex<Vec<String>>,
    /// The client has been sentenced since it was judged.
    pub(super) sentenced: AtomicBool,
    /// What allowlists say of the client is wanted.
    pub(super) wants: AtomicBool,
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
            Some("denied") => Verdict::Refuse(RefuseReason::Denied { permanently: true }),
            Some("early") => Verdict::Defer(DeferReason::Early {
                left: Duration::from_secs(9),
            }),
            Some("first" | "again") => Verdict::Read(ReadReason::Mode),
            Some("roams") => Verdict::Read(ReadReason::Roaming),
            _ if attempt.authenticated => Verdict::Pass(PassReason::Authenticated),
            _ => Verdict::Defer(DeferReason::New),
        }
    }

    fn give(&self, recipient: &str, verdict: Verdict, of_content: bool) {
        let mut words = self.words.lock().expect("no judge panics");
        words.push(Word {
            recipient: recipient.to_owned(),
            verdict,
            of_content,
        });
    }

    fn hear(&self, what: &str, attempt: &Attempt<'_>) {
        let from = String::from_utf8_lossy(attempt.reverse_path);
        let to = String::from_utf8_lossy(attempt.recipient);
        let line = format!("{what} <{from}> {to} {}", attempt.announced_size);
        self.told.lock().expect("no judge panics").push(line);
    }
}

impl Judge for Table {
    fn wants(&self, _: &Attempt<'_>, _: Timestamp) -> Wanted {
        Wanted {
            allowlists: self.wants.load(Ordering::Relaxed),
            ..Wanted::default()
        }
    }

    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        let recipient = String::from_utf8_lossy(attempt.recipient).into_owned();
        let wants_content = recipient.starts_with("read@") || recipient.starts_with("heard@");
        let verdict = self.verdict(attempt, &recipient);
        self.give(&recipient, verdict, false);
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

    fn judge_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        _: Timestamp,
    ) -> Judgement {
        self.hear("judged", attempt);
        let network = ClientNetwork::of(&Policy::default(), attempt);
        let fingerprint = message.fingerprint(network, attempt);
        let mut fingerprints = self.fingerprints.lock().expect("no judge panics");
        fingerprints.push(fingerprint);
        let recipient = String::from_utf8_lossy(attempt.recipient);
        let reads = self.reads.lock().expect("no judge panics");
        let verdict = reads.get(recipient.as_ref()).copied();
        let verdict = verdict.unwrap_or(Verdict::Defer(DeferReason::ContentNew));
        self.give(&recipient, verdict, true);
        verdict.into()
    }

    fn note_held(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {
        self.hear("held", attempt);
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

/// What the table said of a recipient.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) recipient: String,
    pub(super) verdict: Verdict,
    /// Once its message was read.
    pub(super) of_content: bool,
}
