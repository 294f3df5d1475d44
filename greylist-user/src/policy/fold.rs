//! A reverse-path without what changes from mail to mail, or from recipient to recipient.
//!
//! Lists, relays and forwarders write counters, tags and the recipient into the reverse-path, so
//! that hardly any two mails of theirs have the same. Folding takes that out and leaves who sent.
//! Only trust is keyed by what is left: a pending tuple has the exact reverse-path, so folding too
//! much can extend trust to a neighbour in the same client network but never lets a stranger skip
//! the wait. Folding too little costs a delay. Where the two are in doubt, it folds less.
//!
//! In this order, on the local-part; lower case throughout, and whatever is taken out becomes `#`:
//!
//! 1. **BATV**: `prvs=tag=user`, and `prvs=user=tag` as some write it, become `user`; so do
//!    `msprvs1=tag=user` and `btv1==tag==user`.
//! 2. **SRS**: `SRS0=hash=time=domain=user` loses hash and time, `SRS1` those of both forwarders.
//!    The original domain and user stay, the latter folded as below.
//! 3. **`+ext`**: cut, unless the local-part begins with it.
//! 4. **VERP**: the recipient, as `local=domain` or `domain=local`, is taken out; so is, in an
//!    address that calls itself a bounce, any `local=domain` at its end.
//! 5. **Counters and tokens**, each a whole part between punctuation: numbers of four or more digits,
//!    in a bounce any number; eight or more hexadecimal digits among which is a decimal one, and the
//!    shorter groups that follow as in a UUID; twelve or more letters and digits in wild change.
//!
//! If no letter would be left, the local-part stays as it is: numbers alone are people at some
//! providers, and a domain must not become one sender. Only where the recipient was taken out, or
//! so many characters of tokens that no person has them for a name, is nothing left but `#`.

use std::ops::Range;

/// Hands the pieces of what is left of `reverse_path`, in a mail to `recipient`, to `sink`.
pub fn fold(reverse_path: &[u8], recipient: &[u8], mut sink: impl FnMut(&[u8])) {
    let sink: &mut dyn FnMut(&[u8]) = &mut sink;
    let (local_part, domain) = split(reverse_path);
    if is_plain(local_part) {
        lower_case(local_part, &mut *sink);
    } else {
        fold_local_part_of_any_kind(local_part, recipient, sink);
    }
    lower_case(domain, sink);
}

/// Whether there is nothing in a local-part that any rule below could take out: each looks for a
/// digit, or for punctuation that few names have.
fn is_plain(local_part: &[u8]) -> bool {
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphabetic() || b"-._".contains(byte);
    local_part.iter().all(is_of_a_name)
}

fn fold_local_part_of_any_kind(local_part: &[u8], recipient: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let local_part = without_tag(local_part);
    if let Some(forwarded) = Forwarded::of(local_part) {
        match forwarded.first_forwarder {
            Some(forwarder) => {
                sink(b"srs1=#=");
                lower_case(forwarder, &mut *sink);
                sink(b"==#=#=");
            }
            None => sink(b"srs0=#=#="),
        }
        lower_case(forwarded.domain, &mut *sink);
        sink(b"=");
        fold_local_part(forwarded.local_part, recipient, sink);
    } else if is_rewritten(local_part) {
        // Not as SRS has it: what would be cut here could be the whole sender.
        lower_case(local_part, &mut *sink);
    } else {
        fold_local_part(local_part, recipient, sink);
    }
}

/// The domain of a path in lower case, with its `@`; empty if it has none.
pub fn domain_of(path: &[u8]) -> Vec<u8> {
    split(path).1.to_ascii_lowercase()
}

/// Splits a path before its last `@`; without one, all of it is local-part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'@');
    path.split_at(at.unwrap_or(path.len()))
}

/// `local_part` up to its first `+`, unless it begins with it.
pub(super) fn without_extension(local_part: &[u8]) -> &[u8] {
    let extension = local_part.iter().skip(1).position(|&byte| byte == b'+');
    extension.map_or(local_part, |position| &local_part[..=position])
}

/// Hands `text` in ASCII lower case to `sink`, in pieces that fit the stack.
pub(super) fn lower_case(text: &[u8], mut sink: impl FnMut(&[u8])) {
    let mut buffer = [0; 64];
    for piece in text.chunks(buffer.len()) {
        let lowered = &mut buffer[..piece.len()];
        lowered.copy_from_slice(piece);
        lowered.make_ascii_lowercase();
        sink(lowered);
    }
}

/// The user in a local-part that BATV has tagged; all of it where there is no tag.
fn without_tag(local_part: &[u8]) -> &[u8] {
    let tagged = TAGGING
        .iter()
        .find_map(|scheme| strip_word(local_part, scheme));
    tagged.and_then(user_of_tagged).unwrap_or(local_part)
}

/// The user in `tag=user`, or in `user=tag` where only the latter can be a tag.
fn user_of_tagged(tagged: &[u8]) -> Option<&[u8]> {
    let (tag, user) = split_once(tagged)?;
    let user = user.strip_prefix(b"=").unwrap_or(user);
    let last = tagged.iter().rposition(|&byte| byte == b'=')?;
    let (reversed_user, reversed_tag) = (&tagged[..last], &tagged[last + 1..]);
    let (user, likeness) = if tag_likeness(reversed_tag) > tag_likeness(tag) {
        (reversed_user, tag_likeness(reversed_tag))
    } else {
        (user, tag_likeness(tag))
    };
    (likeness > 0 && !user.is_empty()).then_some(user)
}

/// How much `text` looks like the tag of BATV: a key's number and a day in four digits, and six
/// hexadecimal ones; some write others of about that length.
fn tag_likeness(text: &[u8]) -> u8 {
    let (day, hash) = text.split_at(text.len().min(4));
    if text.len() == 10
        && day.iter().all(u8::is_ascii_digit)
        && hash.iter().all(u8::is_ascii_hexdigit)
    {
        2
    } else {
        u8::from(
            (9..=16).contains(&text.len())
                && text.iter().all(u8::is_ascii_alphanumeric)
                && text.iter().any(u8::is_ascii_digit),
        )
    }
}

/// Whether a local-part begins as those of SRS do.
fn is_rewritten(local_part: &[u8]) -> bool {
    [b"srs0", b"srs1"].into_iter().any(|scheme| {
        strip_word(local_part, scheme)
            .and_then(<[u8]>::first)
            .is_some_and(|separator| b"=+-".contains(separator))
    })
}

/// A local-part that a forwarder has rewritten by SRS, without what changes.
struct Forwarded<'a> {
    /// In SRS1, who forwarded first.
    first_forwarder: Option<&'a [u8]>,
    domain: &'a [u8],
    local_part: &'a [u8],
}

impl<'a> Forwarded<'a> {
    /// `SRS0=hash=time=domain=local` or `SRS1=hash=forwarder==hash=time=domain=local`, where the
    /// separator after the word, and the second of the two in a row, may be `+` or `-`.
    fn of(local_part: &'a [u8]) -> Option<Self> {
        let separated = |text: &'a [u8]| match text {
            [b'=' | b'+' | b'-', rest @ ..] => Some(rest),
            _ => None,
        };
        let (first_forwarder, rest) = if let Some(rest) = strip_word(local_part, b"srs1") {
            let (_hash, rest) = split_once(separated(rest)?)?;
            let (forwarder, rest) = split_once(rest)?;
            (Some(forwarder), separated(rest)?)
        } else {
            (None, separated(strip_word(local_part, b"srs0")?)?)
        };
        let (_hash, rest) = split_once(rest)?;
        let (_time, rest) = split_once(rest)?;
        let (domain, local_part) = split_once(rest)?;
        (!local_part.is_empty()).then_some(Self {
            first_forwarder,
            domain,
            local_part,
        })
    }
}

/// Folds a local-part that nobody rewrote or tagged.
fn fold_local_part(local_part: &[u8], recipient: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let local_part = without_extension(local_part);
    let embedded = embedded_address(local_part, recipient);
    let is_bounce = embedded.is_some() || names_bounce(local_part);
    let (before, after) = match &embedded {
        Some(embedded) => (&local_part[..embedded.start], &local_part[embedded.end..]),
        None => (local_part, &b""[..]),
    };
    let parts = |text| Parts {
        rest: text,
        is_bounce,
        after_token: false,
    };
    if embedded.is_none() && !parts(local_part).tell_a_sender() {
        lower_case(local_part, sink);
        return;
    }
    parts(before).write(sink);
    if embedded.is_some() {
        sink(b"#");
    }
    parts(after).write(sink);
}

/// Where an address, `recipient` or another, stands in a local-part.
fn embedded_address(local_part: &[u8], recipient: &[u8]) -> Option<Range<usize>> {
    let mut separators = 0;
    let mut at = 0;
    // Strangers choose both texts: an end to it keeps the work linear.
    while at < local_part.len() && separators < SEPARATORS_TRIED {
        if !AT_SIGNS.contains(&local_part[at]) {
            at += 1;
            continue;
        }
        let run = local_part[at..]
            .iter()
            .take_while(|byte| AT_SIGNS.contains(byte));
        let (before, after) = (&local_part[..at], at + run.count());
        let found = embedded_recipient(before, &local_part[after..], recipient)
            .or_else(|| embedded_other(before, &local_part[after..]));
        if let Some((start, length)) = found {
            return Some(start..after + length);
        }
        separators += 1;
        at = after;
    }
    None
}

/// Whether `recipient` ends `before` and begins `after` a separator, its parts in either order:
/// where it begins in the former, and its length in the latter.
fn embedded_recipient(before: &[u8], after: &[u8], recipient: &[u8]) -> Option<(usize, usize)> {
    let (local_part, domain) = split(recipient);
    let domain = domain.get(1..)?;
    let ends = |part: &[u8]| {
        let start = before.len().checked_sub(part.len())?;
        (!part.is_empty() && before[start..].eq_ignore_ascii_case(part)).then_some(start)
    };
    let begins = |part: &[u8]| {
        let found = after.get(..part.len())?;
        let next = after.get(part.len());
        let ends_there = next.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        (!part.is_empty() && ends_there && found.eq_ignore_ascii_case(part)).then_some(part.len())
    };
    let in_order = ends(local_part).zip(begins(domain));
    in_order.or_else(|| ends(domain).zip(begins(local_part)))
}

/// The same for any address, of which the domain ends the local-part: only a bounce has another's
/// than its sender's in there.
fn embedded_other(before: &[u8], after: &[u8]) -> Option<(usize, usize)> {
    let start = before
        .iter()
        .rposition(|byte| b"-=*~/".contains(byte))
        .map_or(0, |position| position + 1);
    let is_embedded = start < before.len() && is_domain(after) && names_bounce(&before[..start]);
    is_embedded.then_some((start, after.len()))
}

/// Whether `text` reads as a domain of at least two labels.
fn is_domain(text: &[u8]) -> bool {
    let mut labels = text.rsplit(|&byte| byte == b'.');
    let top = labels.next().unwrap_or_default();
    let is_label = |label: &[u8]| {
        let mut bytes = label.iter();
        !label.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let mut others = labels.peekable();
    top.len() >= 2
        && top.iter().all(u8::is_ascii_alphabetic)
        && others.peek().is_some()
        && others.all(is_label)
}

/// Whether a part of the local-part says that it takes bounces.
fn names_bounce(local_part: &[u8]) -> bool {
    let mut parts = local_part.split(|&byte| !is_of_name(byte));
    parts.any(|part| is_bounce_word(without_number(part)))
}

fn is_bounce_word(text: &[u8]) -> bool {
    // Most parts are not, and are told by their first letter.
    let begins = text
        .first()
        .is_some_and(|first| b"brsv".contains(&first.to_ascii_lowercase()));
    begins
        && BOUNCE_WORDS
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

/// `part` without the digits at its end.
fn without_number(part: &[u8]) -> &[u8] {
    let digits = part.iter().rev().take_while(|byte| byte.is_ascii_digit());
    &part[..part.len() - digits.count()]
}

/// The parts of a text, and the punctuation between them.
struct Parts<'a> {
    rest: &'a [u8],
    is_bounce: bool,
    /// The part before was a token that folds, as may be the first group of a UUID.
    after_token: bool,
}

/// One part, and how much of it stays.
struct Part<'a> {
    kept: &'a [u8],
    /// Characters that fold.
    folded: usize,
    /// Whether they are a token rather than a number.
    is_token: bool,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let is_name = is_of_name(*self.rest.first()?);
        let length = self
            .rest
            .iter()
            .take_while(|&&byte| is_of_name(byte) == is_name)
            .count();
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        let (kept, is_token) = if is_name {
            self.kept_of(text)
        } else {
            self.after_token &= text == b"-";
            (text, false)
        };
        if is_name {
            self.after_token = is_token;
        }
        Some(Part {
            kept,
            folded: text.len() - kept.len(),
            is_token,
        })
    }
}

impl<'a> Parts<'a> {
    /// What stays of a part, and whether it is a token.
    fn kept_of(&self, part: &'a [u8]) -> (&'a [u8], bool) {
        let stem = without_number(part);
        let is_hex = part.iter().all(u8::is_ascii_hexdigit);
        let is_token = if is_hex && part.len() >= 8 {
            part.iter().any(u8::is_ascii_digit)
        } else {
            (is_hex && part.len() >= 4 && self.after_token)
                || (part.len() >= 12 && changes(part) >= 4)
        };
        let is_number = stem.is_empty() && (part.len() >= 4 || self.is_bounce);
        if is_token || is_number {
            (b"", is_token)
        } else if is_bounce_word(stem) {
            (stem, false)
        } else {
            (part, false)
        }
    }

    /// Whether what stays of all parts tells a sender: a letter, or tokens of such a length that
    /// a machine made them.
    fn tell_a_sender(self) -> bool {
        let mut token_length = 0;
        for part in self {
            if part.kept.iter().any(|&byte| is_letter(byte)) {
                return true;
            }
            token_length += if part.is_token { part.folded } else { 0 };
        }
        token_length >= MACHINE_MADE
    }

    /// Hands what stays to `sink`, in as few pieces as can be.
    fn write(self, sink: &mut dyn FnMut(&[u8])) {
        let text = self.rest;
        let (mut from, mut at) = (0, 0);
        for part in self {
            let kept = at + part.kept.len();
            at = kept + part.folded;
            if part.folded > 0 {
                lower_case(&text[from..kept], &mut *sink);
                sink(b"#");
                from = at;
            }
        }
        lower_case(&text[from..], sink);
    }
}

/// How often letters and digits take turns.
fn changes(part: &[u8]) -> usize {
    part.windows(2)
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count()
}

/// Whether `byte` belongs to a part rather than between two: letters, those beyond ASCII too, and
/// digits.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_digit() || is_letter(byte)
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

/// `text` after `word`, in any case.
fn strip_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = text.split_at_checked(word.len())?;
    begin.eq_ignore_ascii_case(word).then_some(rest)
}

/// A field that is not empty, and what follows its `=`.
fn split_once(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'=')?;
    (at > 0).then(|| (&text[..at], &text[at + 1..]))
}

/// What tagged local-parts begin with: the word of BATV and those of two makers.
const TAGGING: [&[u8]; 3] = [b"prvs=", b"msprvs1=", b"btv1=="];

/// What parts of a bounce address are called.
const BOUNCE_WORDS: [&[u8]; 8] = [
    b"bounce", b"bounces", b"bnc", b"bo", b"return", b"returns", b"sentto", b"verp",
];

/// What stands for the `@` of an address in a local-part.
const AT_SIGNS: &[u8] = b"=*~";

/// Separators of a local-part that are looked around for an address.
const SEPARATORS_TRIED: usize = 8;

/// Characters of tokens that nobody has for a name: a UUID has 32.
const MACHINE_MADE: usize = 20;

#[cfg(test)]
mod tests;
