//! Whatever an MTA sends, a session ends in an error or sends exactly the replies that are owed:
//! a reader that knows nothing but the negotiated flags never waits and never finds one too many.
#![no_main]

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use greygate::{
    milter::{Context, Frame, Metrics, Next, Session, Settings},
    policy::{Attempt, DeferReason, Judge, Judgement, MessageHasher, Origin, PassReason, Policy, RefuseReason, Seed, Timestamp, Verdict},
};
use libfuzzer_sys::fuzz_target;

static CONTEXT: LazyLock<Arc<Context>> = LazyLock::new(|| {
    let settings = Settings::default();
    let metrics = Arc::new(Metrics::default());
    Arc::new(Context::new(&settings, Arc::new(ByLength), metrics))
});

fuzz_target!(|bytes: &[u8]| {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    let mut session = Session::new(CONTEXT.clone(), Arc::new(policy), Origin::ThisHost);
    let mut steps = 0;
    let mut is_turned_away = false;
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Ok(Some(frame)) = Frame::first_of(rest) {
        assert!(frame.wire_length() <= rest.len());
        rest = &rest[frame.wire_length()..];
        out.clear();
        match session.receive(frame, Timestamp::from_millis(1), &mut out) {
            Ok(Next::Command) => {}
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
    }
});

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

/// All verdicts there are, by the length of the recipient, and each with and without the wish to read
/// the message.
struct ByLength;

impl Judge for ByLength {
    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        let waited = Duration::from_secs(200);
        let bad = |permanently| Verdict::Refuse(RefuseReason::BadReputation { permanently });
        let verdict = match attempt.recipient.len() % 6 {
            0 => Verdict::Defer(DeferReason::New),
            1 => Verdict::Pass(PassReason::Passed),
            2 => Verdict::Pass(PassReason::Waited { waited }),
            3 => Verdict::Refuse(RefuseReason::Sentenced),
            4 => bad(true),
            _ => bad(false),
        };
        Judgement {
            wants_content: attempt.recipient.len() % 12 < 6,
            ..verdict.into()
        }
    }

    fn turns_away(&self, attempt: &Attempt<'_>, _now: Timestamp) -> bool {
        attempt.helo.len() % 5 == 4
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        Verdict::Defer(DeferReason::ContentNew).into()
    }

    fn note_content_pass(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_rejected(&self, _: &Attempt<'_>, _: Timestamp) {}
}
