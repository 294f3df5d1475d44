//! What a message that was read deserves: its content, else its envelope, else the way out.
//!
//! Where content says nothing, the body being empty or there being no room for its fingerprint, the
//! envelope decides alone. Where there is no room for the pair, and so no way out, what waited long
//! enough for the envelope passes by that.
//!
//! Knows the order in which the records are asked; what each of them says is said beside it, in
//! `content`, `record` and `pair`.

use super::content::{ContentRecord, ContentStanding};
use super::pair::PairRecord;
use super::record::{Record, Standing};
use super::rules::{Action, Policy};
use super::time::Timestamp;
use super::verdict::{DeferReason, PassReason, Verdict};

/// What is remembered around a message to one recipient that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Of its tuple.
    pub tuple: Option<Record>,
    /// Where the record of the message stood before this reading; [`None`] if content says nothing.
    pub standing: Option<ContentStanding>,
    /// Of the message.
    pub message: Option<ContentRecord>,
    /// Of its reverse-path and recipient.
    pub pair: Option<PairRecord>,
}

/// What a message deserves at `now` of which this is known.
pub fn decide_content(policy: &Policy, known: &Readings, now: Timestamp) -> Verdict {
    let verdict = match known.standing {
        Some(standing) => standing.verdict(),
        None => by_envelope(policy, known, now),
    };
    match (verdict, known.pair) {
        (Verdict::Pass(PassReason::Content { waited }), pair) => {
            let pair = pair.filter(|it| !it.has_lapsed(policy, now));
            let both = pair.zip(known.message);
            let waited = both.map_or(waited, |(pair, it)| pair.waited_with(&it, now));
            Verdict::Pass(PassReason::Content { waited })
        }
        // Until the operator chose to observe, a moment ago.
        (Verdict::Defer(_), _) if policy.action == Action::Observe => {
            Verdict::Pass(PassReason::Observed)
        }
        (Verdict::Defer(_), Some(pair)) if pair.has_persisted(policy, now) => {
            let waited = pair.waited(now);
            Verdict::Pass(PassReason::Persisted { waited })
        }
        // Its content may never come again, and there was no room for the way out.
        (Verdict::Defer(_), None) => match by_envelope(policy, known, now) {
            passes @ Verdict::Pass(_) => passes,
            _ => verdict,
        },
        _ => verdict,
    }
}

/// What the tuple alone says.
fn by_envelope(policy: &Policy, known: &Readings, now: Timestamp) -> Verdict {
    match known.tuple.map(|it| it.standing(policy, now)) {
        None | Some(Standing::Lapsed) => Verdict::Defer(DeferReason::New),
        Some(Standing::Early { left }) => Verdict::Defer(DeferReason::Early { left }),
        Some(Standing::InWindow { waited }) => Verdict::Pass(PassReason::Waited { waited }),
        Some(Standing::Passed) => Verdict::Pass(PassReason::Passed),
    }
}
