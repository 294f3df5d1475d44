//! Who is asked about an attempt, and what is answered.

use std::time::Duration;

use super::attempt::Attempt;
use super::evidence::Wanted;
use super::fingerprint::MessageHasher;
use super::time::Timestamp;
use super::verdict::Verdict;

/// Who is asked about an attempt: the store in the daemon, a table in a test.
///
/// A wrong `Pass` costs an unwanted mail; a wrong `Defer` costs a delay. Neither loses mail, so an
/// implementation that cannot tell must answer one of the two and never block on I/O.
pub trait Judge: Send + Sync {
    /// Records the attempt and says what it deserves.
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Judgement;

    /// What to ask a witness about `attempt` before it is judged: what may change the verdict, and so
    /// nothing where it passes, or is refused, in any case. Changes nothing.
    fn wants(&self, _attempt: &Attempt<'_>, _now: Timestamp) -> Wanted {
        Wanted::default()
    }

    /// Whether the client of `attempt` would be turned away now, as [`Judge::judge`] would say, for a
    /// message whose recipients have been judged: it may have been sentenced since. Changes nothing,
    /// and is not asked for the sake of a recipient: there may be none in `attempt`.
    fn turns_away(&self, attempt: &Attempt<'_>, now: Timestamp) -> bool;

    /// Begins to read a message for recipients of which [`Verdict::Read`] or
    /// [`Judgement::wants_content`] was said.
    fn message_hasher(&self) -> MessageHasher;

    /// Reads the content of the message of `attempt`, of which [`Verdict::Read`] was said, and says
    /// what it deserves. What passes is not spent by that: it may have to wait for another recipient.
    fn judge_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Judgement;

    /// Hears that the message of `attempt` goes through, as [`Judge::judge_content`] said it may.
    fn note_content_pass(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp);

    /// Hears that the message of `attempt` was read and deferred for the sake of another recipient,
    /// while its own content decides nothing: from elsewhere it may be what it is known by.
    fn note_held(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp);

    /// Hears the content of the message that `attempt` was made with. The verdict on the attempt
    /// stands; what the content proves counts for the attempts to come.
    fn note_content(&self, attempt: &Attempt<'_>, message: &MessageHasher, now: Timestamp);

    /// Hears that the MTA itself rejected the recipient of `attempt` (5yz, enhanced status 5.x).
    fn note_rejected(&self, attempt: &Attempt<'_>, now: Timestamp);
}

/// What is said of an attempt, and on what grounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to answer.
    pub verdict: Verdict,
    /// Whether the content of the message should be read, if the MTA can be had to show it: the
    /// attempt looks like a retry, and only its content can prove it. A deferral then comes at end
    /// of message.
    pub wants_content: bool,
    /// What the verdict rests on.
    pub grounds: Grounds,
}

/// The facts behind a verdict, for the log and for `why`. All zero where no record was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// Attempts on the tuple in this life of its record, this one included.
    pub attempts: u16,
    /// Those that passed.
    pub passes: u16,
    /// What has been added to the delay of the tuple.
    pub extra: Duration,
    /// How much longer the attempt, which passes, would have had to wait if the extra delay were
    /// not only observed.
    pub would_wait: Duration,
    /// Whether the HELO argument is remembered for relay hopping.
    pub helo_hops: bool,
}

impl From<Verdict> for Judgement {
    /// A verdict that rests on no record.
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            wants_content: false,
            grounds: Grounds::default(),
        }
    }
}
