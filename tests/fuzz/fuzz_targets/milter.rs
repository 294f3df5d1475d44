//! Whatever an MTA sends, a session ends in an error or sends exactly the replies that are owed:
//! a reader that knows nothing but the negotiated flags never waits and never finds one too many.
//! And whatever a judge says, no message goes through of which its last word on a recipient was not
//! that it passes, and of those that were read all passes are noted, or none.
#![no_main]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use greygate::{
    milter::{Context, Frame, Metrics, Next, Session, Settings},
    policy::{
        Attempt, DeferReason, Grounds, Judge, Judgement, MessageHasher, Origin, PassReason, Policy,
        ReadReason, RefuseReason, Seed, Timestamp, Verdict,
    },
};
use libfuzzer_sys::fuzz_target;

static JUDGE: LazyLock<Arc<ByText>> = LazyLock::new(Arc::default);
static CONTEXT: LazyLock<Arc<Context>> = LazyLock::new(|| {
    let settings = Settings::default();
    let metrics = Arc::new(Metrics::default());
    Arc::new(Context::new(&settings, JUDGE.clone(), metrics))
});

fuzz_target!(|bytes: &[u8]| {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    let mut session = Session::new(CONTEXT.clone(), Arc::new(policy), Origin::ThisHost);
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
});

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
            assert!(words.all(|it| matches!(it, Verdict::Pass(_))), "{:?}", self.last_words);
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

/// All verdicts there are: on an attempt by the length of the recipient, and each with and without the
/// wish to read the message, on its content by how the recipient begins.
#[derive(Default)]
struct ByText {
    words: Mutex<Vec<Word>>,
}

/// What the judge said, or was told.
enum Word {
    OnAttempt(Vec<u8>, Verdict),
    OnContent(Vec<u8>, Verdict),
    Passed(Vec<u8>),
}

impl ByText {
    fn take(&self) -> Vec<Word> {
        std::mem::take(&mut self.words.lock().expect("nobody panics"))
    }

    fn note(&self, word: Word) {
        self.words.lock().expect("nobody panics").push(word);
    }
}

impl Judge for ByText {
    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        let length = attempt.recipient.len();
        let bad = |permanently| Verdict::Refuse(RefuseReason::BadReputation { permanently });
        let verdict = match length % 9 {
            0 => Verdict::Defer(DeferReason::New),
            1 => Verdict::Pass(PassReason::Passed),
            2 => Verdict::Pass(PassReason::Waited { waited: WAITED }),
            3 => Verdict::Refuse(RefuseReason::Sentenced),
            4 => bad(true),
            5 => bad(false),
            6 => Verdict::Read(ReadReason::Mode),
            7 => Verdict::Read(ReadReason::Roaming),
            _ => Verdict::Defer(DeferReason::Early { left: WAITED }),
        };
        self.note(Word::OnAttempt(attempt.recipient.to_vec(), verdict));
        Judgement {
            verdict,
            wants_content: length % 18 < 9,
            grounds: Grounds {
                attempts: attempt.recipient.last().map_or(0, |it| u16::from(it % 3)),
                ..Grounds::default()
            },
        }
    }

    fn turns_away(&self, attempt: &Attempt<'_>, _now: Timestamp) -> bool {
        attempt.helo.len() % 5 == 4
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        let verdict = match attempt.recipient.first().map_or(0, |it| it % 8) {
            0 => Verdict::Defer(DeferReason::ContentNew),
            1 => Verdict::Defer(DeferReason::ContentEarly { left: WAITED }),
            2 => Verdict::Read(ReadReason::Probe),
            3 => Verdict::Refuse(RefuseReason::Sentenced),
            4 => Verdict::Pass(PassReason::ContentAgain),
            5 => Verdict::Pass(PassReason::Persisted { waited: WAITED }),
            _ => Verdict::Pass(PassReason::Content { waited: WAITED }),
        };
        self.note(Word::OnContent(attempt.recipient.to_vec(), verdict));
        verdict.into()
    }

    fn note_held(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content_pass(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {
        self.note(Word::Passed(attempt.recipient.to_vec()));
    }

    fn note_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_rejected(&self, _: &Attempt<'_>, _: Timestamp) {}
}

const WAITED: Duration = Duration::from_secs(200);
