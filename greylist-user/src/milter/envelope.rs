//! The texts of a session and of the transaction in it, in one buffer.
//!
//! Knows where each lies and how long it lives: the client's name as long as the session, the HELO
//! argument until the next HELO, the rest as long as the transaction. One buffer, so that a
//! session costs one allocation and an idle one holds next to nothing.

/// The texts, oldest first: client name, HELO argument, reverse-path, kept recipients, queue id.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    text: Vec<u8>,
    name_end: usize,
    helo_end: usize,
    path_end: usize,
    kept_end: usize,
}

impl Envelope {
    /// A new client: everything begins anew.
    pub(super) fn set_client_name(&mut self, name: &[u8]) {
        self.text.clear();
        self.text.reserve(USUAL_LENGTH);
        self.text.extend_from_slice(name);
        self.name_end = self.text.len();
        self.helo_end = self.name_end;
        self.reset();
    }

    /// A new HELO argument, which ends the transaction.
    pub(super) fn set_helo(&mut self, helo: &[u8]) {
        self.text.truncate(self.name_end);
        self.text.extend_from_slice(helo);
        self.helo_end = self.text.len();
        self.reset();
    }

    /// A new transaction.
    pub(super) fn set_reverse_path(&mut self, path: &[u8]) {
        self.reset();
        self.text.extend_from_slice(path);
        self.path_end = self.text.len();
        self.kept_end = self.path_end;
    }

    /// Keeps a recipient until the end of the message; false when there is no room for it.
    pub(super) fn keep_recipient(&mut self, recipient: &[u8], due: Due) -> bool {
        let Ok(length) = u16::try_from(recipient.len()) else {
            return false;
        };
        if self.kept_end - self.path_end + recipient.len() > KEPT_LIMIT {
            return false;
        }
        self.text.truncate(self.kept_end);
        self.text.push(due as u8);
        self.text.extend_from_slice(&length.to_be_bytes());
        self.text.extend_from_slice(recipient);
        self.kept_end = self.text.len();
        true
    }

    /// The MTA's name for the message.
    pub(super) fn set_queue_id(&mut self, id: &[u8]) {
        self.text.truncate(self.kept_end);
        self.text.extend_from_slice(id);
    }

    /// The transaction is over.
    pub(super) fn reset(&mut self) {
        self.text.truncate(self.helo_end);
        self.text.shrink_to(IDLE_CAPACITY);
        self.path_end = self.helo_end;
        self.kept_end = self.helo_end;
    }

    pub(super) fn client_name(&self) -> &[u8] {
        &self.text[..self.name_end]
    }

    pub(super) fn helo(&self) -> &[u8] {
        &self.text[self.name_end..self.helo_end]
    }

    pub(super) fn reverse_path(&self) -> &[u8] {
        &self.text[self.helo_end..self.path_end]
    }

    /// The kept recipients for whom `due` is to come, in the order they were named.
    pub(super) fn kept(&self, due: Due) -> impl Iterator<Item = Kept<'_>> {
        let mut next = Place::FIRST;
        std::iter::from_fn(move || {
            let kept = self.next_kept(due, next)?;
            next = kept.next;
            Some(kept)
        })
    }

    /// The first recipient from `place` on for whom `due` is to come.
    pub(super) fn next_kept(&self, due: Due, place: Place) -> Option<Kept<'_>> {
        let mut rest = self.text.get(self.path_end + place.0..self.kept_end)?;
        let mut place = place;
        loop {
            let (mark, tail) = rest.split_first()?;
            let (length, tail) = tail.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (recipient, tail) = tail.split_at_checked(length)?;
            let next = Place(place.0 + PREFIX + length);
            if *mark == due as u8 {
                return Some(Kept {
                    recipient,
                    place,
                    next,
                });
            }
            rest = tail;
            place = next;
        }
    }

    /// Says what is to come for the recipient at `place` from now on.
    pub(super) fn mark(&mut self, place: Place, due: Due) {
        self.text[self.path_end + place.0] = due as u8;
    }

    /// Empty until the MTA has told it.
    pub(super) fn queue_id(&self) -> &[u8] {
        &self.text[self.kept_end..]
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }
}

/// What is to come for a kept recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing more.
    Nothing = 0,
    /// Its judgement.
    Judgement = 1,
    /// What the content of the message proves; its verdict stands.
    Evidence = 2,
    /// Its verdict, by the content of the message.
    Reading = 3,
    /// Word that its message was deferred for another, if it is read.
    Holding = 4,
}

/// A kept recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    pub(super) recipient: &'a [u8],
    /// Where it lies.
    pub(super) place: Place,
    /// Where the one after it would lie.
    pub(super) next: Place,
}

/// Where a kept recipient lies; good until the transaction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    pub(super) const FIRST: Self = Self(0);
}

/// Bytes before a kept recipient: what is due, and its length.
const PREFIX: usize = 3;
/// Bytes of recipients kept for one message: Postfix's 1,000 at 64 bytes each.
const KEPT_LIMIT: usize = 64 * 1024;
/// Room for the texts of an ordinary session, so that they are not moved as each comes.
const USUAL_LENGTH: usize = 192;
/// What an idle session may hold on to; longer texts give their memory back.
const IDLE_CAPACITY: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let mut envelope = Envelope::default();
        envelope.set_client_name(b"mx.example");
        envelope.set_helo(b"helo.example");
        envelope.set_reverse_path(b"a@example");
        envelope
    }

    #[test]
    fn texts_lie_side_by_side() {
        let mut envelope = envelope();
        assert!(envelope.keep_recipient(b"b@example", Due::Judgement));
        envelope.set_queue_id(b"4AB");
        assert!(envelope.keep_recipient(b"", Due::Judgement));
        envelope.set_queue_id(b"4ABC");
        assert_eq!(envelope.client_name(), b"mx.example");
        assert_eq!(envelope.helo(), b"helo.example");
        assert_eq!(envelope.reverse_path(), b"a@example");
        let kept = envelope.kept(Due::Judgement).map(|kept| kept.recipient);
        assert_eq!(kept.collect::<Vec<_>>(), [b"b@example".as_slice(), b""]);
        assert_eq!(envelope.queue_id(), b"4ABC");
    }

    #[test]
    fn nothing_of_a_transaction_outlives_it() {
        let mut envelope = envelope();
        envelope.keep_recipient(b"b@example", Due::Reading);
        envelope.set_queue_id(b"4ABC");
        envelope.reset();
        assert_eq!(envelope.helo(), b"helo.example");
        assert_eq!(envelope.reverse_path(), b"");
        assert_eq!(envelope.kept(Due::Reading).count(), 0);
        assert_eq!(envelope.queue_id(), b"");
    }

    #[test]
    fn second_helo_replaces_the_first() {
        let mut envelope = envelope();
        envelope.set_helo(b"x");
        assert_eq!(envelope.client_name(), b"mx.example");
        assert_eq!(envelope.helo(), b"x");
        assert_eq!(envelope.reverse_path(), b"");
    }

    #[test]
    fn kept_recipient_is_found_by_what_is_due() {
        let mut envelope = envelope();
        for recipient in ["1", "22", "333"] {
            assert!(envelope.keep_recipient(recipient.as_bytes(), Due::Judgement));
        }
        envelope.set_queue_id(b"4AB");
        let first = envelope.next_kept(Due::Judgement, Place::FIRST);
        let first = first.expect("three are due");
        let second = envelope.next_kept(Due::Judgement, first.next);
        let place = second.expect("two are due").place;
        envelope.mark(place, Due::Reading);
        let due = |due| {
            envelope
                .kept(due)
                .map(|kept| kept.recipient)
                .collect::<Vec<_>>()
        };
        assert_eq!(due(Due::Judgement), [b"1".as_slice(), b"333"]);
        assert_eq!(due(Due::Reading), [b"22"]);
        assert!(due(Due::Nothing).is_empty());
        assert_eq!(envelope.queue_id(), b"4AB");
    }

    #[test]
    fn kept_recipients_are_bounded_and_give_their_memory_back() {
        let mut envelope = envelope();
        let recipient = [b'x'; 1_000];
        let kept = (0..100)
            .filter(|_| envelope.keep_recipient(&recipient, Due::Reading))
            .count();
        assert_eq!(kept, 65);
        assert_eq!(envelope.kept(Due::Reading).count(), 65);
        envelope.reset();
        assert!(envelope.text.capacity() <= 2 * IDLE_CAPACITY);
    }
}
