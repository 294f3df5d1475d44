//! What an attempt before its time is to its tuple: which retries make it wait longer, and which
//! are an offence.
//!
//! **A retry is evidence, not arithmetic.** Ten alerts from one sender to one recipient in ten
//! seconds are ten mails. Two attempts on a tuple, one after the other, are one message tried twice
//! only if something says so: both announced the same `SIZE=` at MAIL, or, where none is announced,
//! what was sent at DATA had the same fingerprint. While greylisting only observes, nothing does:
//! what was let through does not come again, so the next attempt is the next mail.
//!
//! **A delivery round is one attempt.** A sender that is deferred walks all addresses of this site.
//! Attempts within [`Punish::round`] of the one that began the round, each at an address that is
//! not yet in it, change nothing but the round. [`Record::last_seen`] is when the round began, so
//! that intervals are those between rounds. What another host of the site was tried at is an address of
//! its own: see [`Record::heard`].
//!
//! **Extra delay**, the tuple's: each early retry of one message adds [`Punish::extra_delay`], but
//! no more than [`Punish::extra_delay_share`] of the time since the attempt before. It does not
//! matter which host of the network retries, nor which host of ours it asks. A second is the
//! smallest unit; shares are cut where the *sum* of them passes a whole second, so that who retries
//! each second pays a second for every two, and nobody ever more than the share of all his time.
//!
//! **An offence**, the client's: a run of [`Punish::rapid_retries`] retries of one message by one
//! host, none more than [`Punish::rapid_interval`] after the one before, over at least
//! [`Punish::rapid_span`]. Alternating pauses of 2 and 70 seconds make no run: each long one
//! begins anew, and the tuple waits 1 s and 15 s longer by turns. What another host reports breaks
//! a run and begins none, since the sentence falls on the connections of this one.
//!
//! Attempts without `SIZE=` make a run that proves nothing. The attempt with which it is as long as
//! an offence is asked for its content, and so is the next: if they are one message, they are the
//! proof. If they are two, the run was one of several mails, and begins anew; so it does when the
//! second is not shown within [`Punish::rapid_interval`]. Bounces and probes are taken for mail
//! without `SIZE=`: a relay makes all its bounces of one template, and has to send as many to one
//! mailbox as somebody forges mails of it.
//!
//! What this leaves open, on purpose, since an honest sender can look the same:
//! - A client that announces another size at each try, or announces none and changes a byte, sends
//!   different mails as far as anybody can tell. It waits its delay and is never struck.
//! - Of two mails in turns, no attempt follows one of its own kind: neither waits longer, and
//!   however fast they come there is no offence.
//! - Different mails of exactly equal size, on one tuple, at most 8 s apart for 30 s, look like one
//!   mail. Equal templates do that; the span is there so that a burst does not.
//! - A client without `SIZE=` that retries more slowly than an offence pays no extra delay, and one
//!   that leaves before DATA shows nothing.
//! - Who walks several of our addresses counts once a round. His intervals are those of his rounds,
//!   however many addresses he asks in each.
//!
//! [`Punish::round`]: super::Punish::round
//! [`Punish::extra_delay`]: super::Punish::extra_delay
//! [`Punish::extra_delay_share`]: super::Punish::extra_delay_share
//! [`Punish::rapid_interval`]: super::Punish::rapid_interval
//! [`Punish::rapid_retries`]: super::Punish::rapid_retries
//! [`Punish::rapid_span`]: super::Punish::rapid_span

use std::time::Duration;

use super::attempt::{Attempt, Origin, ServerMark};
use super::evidence::identity;
use super::fingerprint::Fingerprint;
use super::network::ClientNetwork;
use super::offence::Offence;
use super::record::Record;
use super::rules::{Action, Policy};
use super::sentence::SentencedClient;
use super::time::Timestamp;
use super::tuple::HostMark;

/// What an early retry comes to, beside its deferral.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// What its client has done, if it completed that.
    pub(super) offence: Option<Offence>,
    /// Whether only the content of the message can tell.
    pub(super) wants_content: bool,
}

/// Whether `attempt` is the latest that `record` knows of, at another address of ours.
pub(super) fn is_same_attempt(
    policy: &Policy,
    record: &Record,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> bool {
    let is_new_here = match attempt.server.bit() {
        // Not another host's, whichever it is.
        0 => record.round == ServerMark::ELSEWHERE,
        bit => record.round != 0 && record.round & bit == 0,
    };
    is_new_here && now.since(record.last_seen) < policy.punish.round
}

/// Notes in `record` that its latest attempt was made here, too.
pub(super) fn note_same_attempt(record: &mut Record, attempt: &Attempt<'_>) {
    record.round = match attempt.server.bit() {
        // The next one here could not be told from this one.
        0 => 0,
        bit => record.round | bit,
    };
}

/// Notes in `record`, which begins with it, the first attempt of a life.
pub(super) fn note_first(policy: &Policy, record: &mut Record, attempt: &Attempt<'_>) {
    record.round = attempt.server.bit();
    begin_run(record, Seen::of(policy, attempt));
}

/// Notes in `record` an early retry. Its number of attempts and the time of the latest are still
/// those of before.
pub(super) fn note_early(
    policy: &Policy,
    record: &mut Record,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> Noted {
    let seen = Seen::of(policy, attempt);
    let before = Evidence(record.run_evidence);
    if seen.evidence.is_size() && seen.evidence == before {
        lengthen(policy, record, record.last_seen, now);
    }
    let continues = seen.is_of_the_run(record)
        && seen.evidence.may_follow(before)
        && now.since(record.last_seen) <= policy.punish.rapid_interval;
    if !continues {
        begin_run(record, seen);
        return Noted::default();
    }
    // Tenths of the clock, not of the gap: a thousand gaps of 99 ms are 99 s.
    let tenths = (now.as_millis() / TENTH).saturating_sub(record.last_seen.as_millis() / TENTH);
    let tenths = u16::try_from(tenths).unwrap_or(u16::MAX);
    record.run_span = record.run_span.saturating_add(tenths);
    record.run_attempts = record.run_attempts.saturating_add(1);
    if before.is_content() {
        let in_time = span(record) <= policy.punish.rapid_interval;
        if !in_time {
            begin_run(record, seen);
        }
        return Noted {
            offence: None,
            wants_content: in_time,
        };
    }
    // Nobody would act on the offence of a client that is shielded.
    if !is_offence(policy, record) || policy.shields(SentencedClient::host(attempt.client)) {
        return Noted::default();
    }
    let is_proven = seen.evidence.is_size();
    if is_proven {
        begin_run(record, seen);
    }
    Noted {
        offence: is_proven.then_some(Offence::RapidRetries),
        wants_content: !is_proven,
    }
}

/// Notes in `record` that the client of its tuple uses a HELO argument that relay hopping was done
/// with.
pub(super) fn note_hopping(policy: &Policy, record: &mut Record) {
    let extra = whole_seconds(policy.punish.hopping_delay).min(usable_extra(policy));
    record.extra = record.extra.max(extra);
}

/// Notes in `record` what the message of `attempt` turned out to be. Says what its client has done,
/// if that completed it.
pub fn note_content(
    policy: &Policy,
    record: &mut Record,
    attempt: &Attempt<'_>,
    fingerprint: Fingerprint,
) -> Option<Offence> {
    let seen = Seen::of(policy, attempt);
    if record.has_passed() || !seen.is_of_the_run(record) || seen.evidence != Evidence::UNSIZED {
        return None;
    }
    let before = Evidence(record.run_evidence);
    let content = fingerprint.evidence();
    if before == Evidence::UNSIZED && is_offence(policy, record) {
        // From here on the span is the time since this message.
        record.run_evidence = content;
        record.run_span = 0;
        return None;
    }
    // No time has passed where one transaction names the recipient twice.
    if !before.is_content() || record.run_span == 0 {
        return None;
    }
    let repeats = before == Evidence(content);
    if repeats {
        let millis = u64::from(record.run_span) * TENTH;
        let earlier = record.last_seen.as_millis().saturating_sub(millis);
        lengthen(
            policy,
            record,
            Timestamp::from_millis(earlier),
            record.last_seen,
        );
    }
    begin_run(record, seen);
    repeats.then_some(Offence::RapidRetries)
}

/// The most that these rules have a tuple wait beyond the delay, in seconds, whatever was added
/// under others.
pub(super) fn most_extra(policy: &Policy) -> u16 {
    let rules = &policy.punish;
    whole_seconds(rules.extra_delay_limit.max(rules.hopping_delay)).min(usable_extra(policy))
}

/// One half of what the delay leaves of the retry window, in seconds. The other half stays open: a
/// sender that retries at all must be able to pass.
fn usable_extra(policy: &Policy) -> u16 {
    let left = policy.retry_window.saturating_sub(policy.delay);
    u16::try_from(left.as_secs() / 2).unwrap_or(u16::MAX)
}

/// Adds to the delay of `record` for a message that was tried at `earlier` and again at `later`.
fn lengthen(policy: &Policy, record: &mut Record, earlier: Timestamp, later: Timestamp) {
    let rules = &policy.punish;
    let share_at = |time: Timestamp| {
        let millis = time
            .as_millis()
            .saturating_sub(record.first_seen.as_millis());
        millis.saturating_mul(rules.extra_delay_share.into()) / (100 * 1_000)
    };
    let share = share_at(later).saturating_sub(share_at(earlier));
    // A part of a second counts as one: nothing at all would be another setting.
    let part = u64::from(rules.extra_delay.subsec_nanos() > 0);
    let most = rules.extra_delay.as_secs().saturating_add(part);
    let more = u16::try_from(most.min(share)).unwrap_or(u16::MAX);
    let limit = whole_seconds(rules.extra_delay_limit).min(usable_extra(policy));
    let longer = record.extra.saturating_add(more).min(limit);
    // Relay hopping may have brought it above the limit of early retries.
    record.extra = record.extra.max(longer);
}

/// Begins a run of `record` with the attempt that was `seen`.
fn begin_run(record: &mut Record, seen: Seen) {
    record.run_evidence = seen.evidence.0;
    record.run_host = seen.host;
    record.run_span = 0;
    record.run_attempts = seen.counts.into();
}

/// Whether the run of `record` is as long as an offence.
fn is_offence(policy: &Policy, record: &Record) -> bool {
    record.run_attempts > policy.punish.rapid_retries && span(record) >= policy.punish.rapid_span
}

fn span(record: &Record) -> Duration {
    Duration::from_millis(u64::from(record.run_span) * TENTH)
}

fn whole_seconds(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX)
}

/// What a run of retries sees of an attempt.
#[derive(Clone, Copy)]
struct Seen {
    evidence: Evidence,
    host: HostMark,
    /// Whether a run may begin with it.
    counts: bool,
}

impl Seen {
    fn of(policy: &Policy, attempt: &Attempt<'_>) -> Self {
        let evidence = Evidence::of(policy, attempt);
        let network = match identity(policy, attempt) {
            // As if of the widest class: in a narrower network there is one host, whatever its mark.
            None => ClientNetwork::cut(attempt.client, policy.ipv4_prefix, policy.ipv6_prefix),
            // Any host of any network may be on the tuple.
            Some(_) => ClientNetwork::cut(attempt.client, 0, 0),
        };
        Self {
            evidence,
            host: HostMark::of(network, attempt.client),
            counts: evidence != Evidence::NONE && attempt.origin == Origin::ThisHost,
        }
    }

    /// Whether it may belong to the run of `record`.
    fn is_of_the_run(self, record: &Record) -> bool {
        self.counts && record.run_attempts > 0 && self.host == record.run_host
    }
}

/// What tells the message of an attempt, in the 32 bits that a record has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Evidence(u32);

impl Evidence {
    /// Nothing, and nothing ever will.
    const NONE: Self = Self(0);

    /// Nothing was announced, or nothing that tells: only the content can. Not the evidence of any
    /// fingerprint.
    const UNSIZED: Self = Self(Fingerprint::EVIDENCE);

    /// What `attempt` announces.
    fn of(policy: &Policy, attempt: &Attempt<'_>) -> Self {
        if policy.action == Action::Observe {
            return Self::NONE;
        }
        match u32::try_from(attempt.announced_size) {
            Ok(size @ 1..Fingerprint::EVIDENCE)
                if !policy.is_probe_sender(attempt.reverse_path) =>
            {
                Self(size)
            }
            _ => Self::UNSIZED,
        }
    }

    fn is_size(self) -> bool {
        self != Self::NONE && self.0 < Fingerprint::EVIDENCE
    }

    fn is_content(self) -> bool {
        self.0 > Fingerprint::EVIDENCE
    }

    /// Whether an attempt that announces this may be the message that `before` was seen of.
    fn may_follow(self, before: Self) -> bool {
        self != Self::NONE && (self == before || self == Self::UNSIZED && before.is_content())
    }
}

/// Milliseconds of the unit that a run's span is counted in.
const TENTH: u64 = 100;
