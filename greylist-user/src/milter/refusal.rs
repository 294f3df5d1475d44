//! What clients are told that are turned away: the operator's words behind greygate's codes.
//!
//! Knows the codes: 421 for the sentenced, on which the MTA hangs up, 550 or 451 for a bad
//! reputation, and for the denied. Leaves who is refused to the policy and when it is said to `session`. The contact in
//! a text is the policy's and may change with a reload, so replies are made anew when it does, not
//! for each refusal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::policy::{Policy, RefuseReason};

use super::reply::{Codes, ReplyText, ReplyTextError};

/// The words of a refusal, without codes: printable ASCII, in lines divided by a line feed. In them
/// `{contact}` stands for whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalText(String);

impl RefusalText {
    /// The default for the denied.
    pub fn for_denied() -> Self {
        Self(DENIED.to_owned())
    }

    /// The default for the sentenced.
    pub fn for_sentenced() -> Self {
        Self(SENTENCED.to_owned())
    }

    /// The default for a bad reputation.
    pub fn for_bad_reputation() -> Self {
        Self(BAD_REPUTATION.to_owned())
    }

    /// The words, with their placeholder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn reply(&self, codes: Codes, contact: &str) -> ReplyText {
        let lines = self.0.replace(PLACEHOLDER, contact);
        ReplyText::with_codes(codes, &lines)
            .expect("a refusal was checked with the longest contact there is")
    }
}

impl FromStr for RefusalText {
    type Err = ReplyTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let code = text.split(' ').next().unwrap_or_default();
        if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()) {
            let code = code.to_owned();
            return Err(ReplyTextError::CodeGiven { code });
        }
        let longest = text.replace(PLACEHOLDER, &"x".repeat(CONTACT_LIMIT));
        ReplyText::with_codes(Codes::RefusedForGood, &longest)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RefusalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is said to whom that is turned away.
#[derive(Clone, Debug)]
pub(super) struct RefusalTexts {
    pub(super) sentenced: RefusalText,
    pub(super) bad_reputation: RefusalText,
    pub(super) denied: RefusalText,
}

/// The refusals of this site, and the replies they make with the present contact.
#[derive(Debug)]
pub(super) struct Refusals {
    texts: RefusalTexts,
    host: String,
    replies: ArcSwap<Replies>,
}

impl Refusals {
    /// `host` is whose postmaster a contact without a domain belongs to.
    pub(super) fn new(texts: RefusalTexts, host: String) -> Self {
        let contact = Policy::default().punish.contact;
        let replies = Replies::new(&texts, &contact, &host);
        Self {
            texts,
            host,
            replies: ArcSwap::from_pointee(replies),
        }
    }

    /// The replies that name the contact of `policy`.
    pub(super) fn under(&self, policy: &Policy) -> Arc<Replies> {
        let contact = &policy.punish.contact;
        let present = self.replies.load_full();
        if present.contact == *contact {
            return present;
        }
        let replies = Replies::new(&self.texts, contact, &self.host);
        let replies = Arc::new(replies);
        self.replies.store(Arc::clone(&replies));
        replies
    }
}

/// Replies that name one contact.
#[derive(Debug)]
pub(super) struct Replies {
    /// As it stands in the policy.
    contact: String,
    sentenced: ReplyText,
    for_good: ReplyText,
    for_now: ReplyText,
    denied_for_good: ReplyText,
    denied_for_now: ReplyText,
}

impl Replies {
    fn new(texts: &RefusalTexts, contact: &str, host: &str) -> Self {
        let RefusalTexts {
            sentenced,
            bad_reputation,
            denied,
        } = texts;
        let shown = shown(contact, host);
        Self {
            contact: contact.to_owned(),
            sentenced: sentenced.reply(Codes::Closing, &shown),
            for_good: bad_reputation.reply(Codes::RefusedForGood, &shown),
            for_now: bad_reputation.reply(Codes::RefusedForNow, &shown),
            denied_for_good: denied.reply(Codes::RefusedForGood, &shown),
            denied_for_now: denied.reply(Codes::RefusedForNow, &shown),
        }
    }

    /// What is answered for `reason`.
    pub(super) fn of(&self, reason: RefuseReason) -> &ReplyText {
        match reason {
            RefuseReason::Sentenced => &self.sentenced,
            RefuseReason::BadReputation { permanently: true } => &self.for_good,
            RefuseReason::BadReputation { permanently: false } => &self.for_now,
            RefuseReason::Denied { permanently: true } => &self.denied_for_good,
            RefuseReason::Denied { permanently: false } => &self.denied_for_now,
        }
    }
}

/// An address or a link as it is; a name alone is a mailbox at `host`. What cannot stand in a reply
/// becomes `?`.
fn shown(contact: &str, host: &str) -> String {
    let contact = match contact.trim() {
        "" => "postmaster",
        contact => contact,
    };
    let whole = if contact.contains('@') || contact.contains("://") {
        contact.to_owned()
    } else {
        format!("{contact}@{host}")
    };
    let safe = |it: char| if matches!(it, ' '..='~') { it } else { '?' };
    whole.chars().take(CONTACT_LIMIT).map(safe).collect()
}

/// A cause is not named: a sentence may be for any offence, or an operator's.
const SENTENCED: &str = "Your host is limited for a while for how it behaved here; \
                         contact {contact} if this is wrong";
const BAD_REPUTATION: &str =
    "The network of your host has a bad reputation here; contact {contact} if this is wrong";
const DENIED: &str =
    "Mail from your host or sender is not taken here; contact {contact} if this is wrong";
const PLACEHOLDER: &str = "{contact}";
/// The longest mail address (RFC 5321, 4.5.3.1): local part, at sign, domain.
const CONTACT_LIMIT: usize = 64 + 1 + 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusals() -> Refusals {
        let texts = RefusalTexts {
            sentenced: RefusalText::for_sentenced(),
            bad_reputation: RefusalText::for_bad_reputation(),
            denied: RefusalText::for_denied(),
        };
        Refusals::new(texts, "mx.example".to_owned())
    }

    fn naming(contact: &str) -> Policy {
        let mut policy = Policy::default();
        contact.clone_into(&mut policy.punish.contact);
        policy
    }

    #[test]
    fn defaults_are_texts_that_would_be_taken() {
        for text in [SENTENCED, BAD_REPUTATION, DENIED] {
            assert_eq!(text.parse(), Ok(RefusalText(text.to_owned())));
        }
    }

    #[test]
    fn each_reason_has_its_codes() {
        let replies = refusals().under(&Policy::default());
        for (reason, codes) in [
            (RefuseReason::Sentenced, "421 4.7.0 Your host "),
            (
                RefuseReason::BadReputation { permanently: true },
                "550 5.7.1 The network ",
            ),
            (
                RefuseReason::BadReputation { permanently: false },
                "451 4.7.1 The network ",
            ),
            (
                RefuseReason::Denied { permanently: true },
                "550 5.7.1 Mail from ",
            ),
            (
                RefuseReason::Denied { permanently: false },
                "451 4.7.1 Mail from ",
            ),
        ] {
            let reply = replies.of(reason).as_str();
            assert!(reply.starts_with(codes), "{reply}");
            assert!(reply.contains(" postmaster@mx.example "), "{reply}");
        }
    }

    #[test]
    fn address_and_link_are_shown_as_they_are() {
        let refusals = refusals();
        for (contact, expected) in [
            ("abuse", "contact abuse@mx.example if"),
            ("help@example.org", "contact help@example.org if"),
            (
                "https://example.org/50%",
                "contact https://example.org/50% if",
            ),
            (" ", "contact postmaster@mx.example if"),
            ("a\r\nb\0\u{e9}@x", "contact a??b??@x if"),
        ] {
            let replies = refusals.under(&naming(contact));
            let reply = replies.of(RefuseReason::Sentenced).as_str();
            assert!(reply.contains(expected), "{reply}");
        }
    }

    #[test]
    fn replies_are_made_once_for_a_contact() {
        let refusals = refusals();
        let first = refusals.under(&naming("a@x"));
        assert!(Arc::ptr_eq(&first, &refusals.under(&naming("a@x"))));
        assert!(!Arc::ptr_eq(&first, &refusals.under(&naming("b@x"))));
    }

    #[test]
    fn text_with_codes_or_without_room_for_the_contact_is_refused() {
        let parse = |text: &str| text.parse::<RefusalText>();
        let code = "421".to_owned();
        let given = ReplyTextError::CodeGiven { code };
        assert_eq!(parse("421 4.7.0 Bye"), Err(given));
        let long = format!("{}{{contact}}", "x".repeat(200));
        assert_eq!(parse(&long), Err(ReplyTextError::LongLine));
        assert_eq!(parse(""), Err(ReplyTextError::EmptyLine));
        let error = parse("caf\u{e9}").expect_err("not ASCII");
        assert!(error.to_string().contains("printable"), "{error}");
        assert!(parse("No contact\nat all").is_ok());
    }

    proptest! {
        #[test]
        fn any_contact_makes_a_legal_reply(contact in "\\PC{0,400}|[\0-\u{ff}]{0,400}", host in "[a-z.?]{0,255}") {
            let text: RefusalText = "{contact}".parse().expect("a text");
            let texts = RefusalTexts {
                sentenced: text.clone(),
                bad_reputation: text.clone(),
                denied: text,
            };
            let refusals = Refusals::new(texts, host);
            let replies = refusals.under(&naming(&contact));
            prop_assert!(replies.of(RefuseReason::Sentenced).as_str().starts_with("421 4.7.0 "));
        }
    }
}
