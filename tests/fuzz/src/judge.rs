//! A judge that says everything there is to say, by the texts that it is shown, and notes it.

use std::{sync::Mutex, time::Duration};

use greygate::policy::{
    Attempt, DeferReason, Grounds, Judge, Judgement, MessageHasher, PassReason, ReadReason,
    RefuseReason, Seed, Timestamp, Verdict,
};

/// All verdicts there are: on an attempt by the length of the recipient, and each with and without the
/// wish to read the message, on its content by how the recipient begins.
#[derive(Default)]
pub struct ByText {
    words: Mutex<Vec<Word>>,
}

/// What the judge said, or was told.
pub enum Word {
    /// Of a recipient, at RCPT or DATA.
    OnAttempt(Vec<u8>, Verdict),
    /// Of a recipient, of a message that was read.
    OnContent(Vec<u8>, Verdict),
    /// It was told that the message passes for a recipient.
    Passed(Vec<u8>),
}

impl ByText {
    /// What was said since this was last asked.
    pub fn take(&self) -> Vec<Word> {
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
