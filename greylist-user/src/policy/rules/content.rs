//! By what a message may pass, and when: the rules of content greylisting.

use std::time::Duration;

/// By what unknown mail is told when it comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By its tuple alone, at RCPT. Costs least; pools of many addresses wait for long.
    Envelope,
    /// By its content, at end of message. Costs a transfer for each attempt.
    Content,
    /// By its tuple, and by its content where the same reverse-path and recipient come from another
    /// network.
    #[default]
    Hybrid,
}

impl Mode {
    /// The word for it in configuration and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Content => "content",
            Self::Hybrid => "hybrid",
        }
    }

    /// Whether a message can pass for its content.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Envelope)
    }
}

/// What the first pass of a message by its content makes trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentTrust {
    /// The client address, for all it sends.
    Address,
    /// The client address, for senders of that domain.
    #[default]
    Domain,
    /// Nothing.
    Off,
}

impl ContentTrust {
    /// The word for it in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Domain => "domain",
            Self::Off => "off",
        }
    }
}

/// The rules of `[content]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRules {
    /// From the first time a message was read to when it passes from any network. Default 60 s:
    /// the retry that proves a pool comes minutes later anyway.
    pub delay: Duration,
    /// How long a message that passed passes again: its recipients, split by the sender. Default
    /// 10 min. Then it is new.
    pub repeat: Duration,
    /// What its first pass earns. Default the client address for that sender's domain.
    pub trust: ContentTrust,
    /// Contacts, of one reverse-path with one recipient, from which their mail passes whatever it
    /// says. Default 6. A Message-ID that changes at each retry would never come again otherwise.
    pub contacts: u8,
    /// Least time from the first of these contacts. Default 1 h.
    pub contacts_after: Duration,
    /// Bytes of a body that are hashed; its length always is. 0, the default, means all.
    pub hash_limit: u64,
}

impl Default for ContentRules {
    fn default() -> Self {
        Self {
            delay: Duration::from_mins(1),
            repeat: Duration::from_mins(10),
            trust: ContentTrust::default(),
            contacts: 6,
            contacts_after: Duration::from_hours(1),
            hash_limit: 0,
        }
    }
}
