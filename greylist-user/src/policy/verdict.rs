//! What the policy says of an attempt, and why.
//!
//! A verdict is neither a reply (SMTP text and code) nor a milter status: `milter` makes those.

use std::time::Duration;

/// What the policy says of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer 4yz: the client must come again.
    Defer(DeferReason),
    /// Let it through.
    Pass(PassReason),
    /// Go on to the end of the message: its content decides. No answer yet.
    Read(ReadReason),
    /// Turn the client away, for what it has done.
    Refuse(RefuseReason),
}

impl Verdict {
    /// The word for what it is, in log and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Defer(_) => "deferred",
            Self::Pass(_) => "passed",
            Self::Read(_) => "read",
            Self::Refuse(_) => "refused",
        }
    }

    /// The word for why.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Defer(DeferReason::ContentEarly { .. }) => "content-early",
            Self::Defer(DeferReason::ContentNew) => "content-new",
            Self::Defer(DeferReason::Early { .. }) => "early",
            Self::Defer(DeferReason::Late) => "late",
            Self::Defer(DeferReason::New) => "new",
            Self::Pass(PassReason::Allowed) => "allowed",
            Self::Pass(PassReason::Authenticated) => "authenticated",
            Self::Pass(PassReason::Content { .. }) => "content",
            Self::Pass(PassReason::ContentAgain) => "content-again",
            Self::Pass(PassReason::ContentTrusted) => "content-trusted",
            Self::Pass(PassReason::Local) => "local",
            Self::Pass(PassReason::NoRetry) => "no-retry",
            Self::Pass(PassReason::Observed) => "observed",
            Self::Pass(PassReason::OptedOut) => "opted-out",
            Self::Pass(PassReason::Passed) => "passed",
            Self::Pass(PassReason::Persisted { .. }) => "persisted",
            Self::Pass(PassReason::Trusted) => "trusted",
            Self::Pass(PassReason::Unrecorded) => "unrecorded",
            Self::Pass(PassReason::Unsuspicious) => "unsuspicious",
            Self::Pass(PassReason::Vouched) => "vouched",
            Self::Pass(PassReason::Waited { .. }) => "waited",
            Self::Read(ReadReason::Mode) => "mode",
            Self::Read(ReadReason::Probe) => "probe",
            Self::Read(ReadReason::Roaming) => "roaming",
            Self::Refuse(RefuseReason::BadReputation { .. }) => "bad-reputation",
            Self::Refuse(RefuseReason::Denied { .. }) => "denied",
            Self::Refuse(RefuseReason::Sentenced) => "sentenced",
        }
    }
}

/// Why an attempt is deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferReason {
    /// The same message was first read so short a time ago that it may pass only after `left`.
    ContentEarly {
        /// Time until it may pass.
        left: Duration,
    },
    /// The message has not been read before, or so long ago that this does not count.
    ContentNew,
    /// The retry window has not opened yet; it opens after `left`.
    Early {
        /// Time until the window opens.
        left: Duration,
    },
    /// The last attempt is so long ago that this one begins a new life of the record.
    Late,
    /// The tuple has not been seen before.
    New,
}

/// Why an attempt passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// The operator's allow list names the client or the mail.
    Allowed,
    /// The client authenticated.
    Authenticated,
    /// The same message was read before, from whatever network, and its delay is over.
    Content {
        /// From the first attempt of its sender at its recipient to this one.
        waited: Duration,
    },
    /// The same message passed for its content some minutes ago.
    ContentAgain,
    /// The client address and the sender's domain have earned trust by a message that came again.
    ContentTrusted,
    /// The client is this host, or one the operator calls local.
    Local,
    /// A list names it as one that would not try again.
    NoRetry,
    /// Would have been deferred, had the policy's action been to enforce.
    Observed,
    /// Mail to this recipient is not greylisted.
    OptedOut,
    /// The tuple passed before.
    Passed,
    /// Reverse-path and recipient have been tried so often and so long that their mail passes,
    /// though its content never comes again.
    Persisted {
        /// From the first attempt to this one.
        waited: Duration,
    },
    /// The client and the folded reverse-path have earned trust.
    Trusted,
    /// The store is full and nothing may be shed: passed without a record, counted and alarmed.
    Unrecorded,
    /// Only who looks suspicious is greylisted, and the client does not.
    Unsuspicious,
    /// An allowlist or the SPF record of a listed domain vouches for the client.
    Vouched,
    /// The retry came in its window: the tuple passes for the first time, after `waited`.
    Waited {
        /// From the first attempt to this one.
        waited: Duration,
    },
}

/// Why a message is read before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReason {
    /// The policy's mode has content alone decide.
    Mode,
    /// The reverse-path is null or a probe's, which is not refused before.
    Probe,
    /// The same reverse-path and recipient came from another network before.
    Roaming,
}

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The reputation of its network is bad.
    BadReputation {
        /// Whether it is answered 5yz.
        permanently: bool,
    },
    /// The operator's deny list names it.
    Denied {
        /// Whether it is answered 5yz.
        permanently: bool,
    },
    /// It is sentenced, and this session is its chance to read so: 421 with a contact.
    Sentenced,
}
