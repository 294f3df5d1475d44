//! What tells one message from another by its content, hashed while it passes and never stored.
//!
//! MD5, keyed by the seed, over the body as it comes and then what it was sent with: Message-ID,
//! exact reverse-path, recipient. Nobody can aim at a fingerprint without the seed, so that MD5's
//! known weakness, collisions made on purpose, is out of reach.
//!
//! The body comes first, so that it is hashed once for all recipients of a message; its length
//! comes last, so that it is known where the fields begin. Header fields but Message-ID are left
//! out: `Received` differs at each try, and `Date` may.

use std::hash::{Hash, Hasher};

use md5::{Digest as _, Md5};

use super::attempt::Attempt;
use super::network::ClientNetwork;
use super::tuple::{self, Seed};

/// Names one message to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The bit by which a part of a fingerprint is told from an announced size, since no mail has two
    /// gigabytes. No part is this bit alone.
    pub(super) const EVIDENCE: u32 = 1 << 31;

    /// The fingerprint that was stored as `bytes`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The fingerprint as it is stored.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// As much of it as a record keeps: enough to tell a message from the one before on a tuple.
    pub(super) const fn evidence(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        let part = u32::from_le_bytes([a, b, c, d]) | Self::EVIDENCE;
        if part == Self::EVIDENCE {
            part | 1
        } else {
            part
        }
    }
}

/// Half of it is its hash: it is a keyed hash already.
impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let half = self.0.first_chunk();
        state.write_u64(half.map_or(0, |half| u64::from_le_bytes(*half)));
    }
}

/// A message that is being read: constant memory, whatever its length.
#[derive(Clone, Debug)]
pub struct MessageHasher {
    /// What everything is hashed after.
    keyed: Md5,
    body: Md5,
    body_length: u64,
    /// Bytes of the body that are still to be hashed.
    left: u64,
    /// The first Message-ID, hashed, since strangers choose its length.
    message_id: Option<[u8; 16]>,
}

impl MessageHasher {
    fn keyed(key: [u8; 16], limit: u64) -> Self {
        let keyed = Md5::new_with_prefix(key);
        Self {
            body: keyed.clone(),
            keyed,
            body_length: 0,
            left: if limit == 0 { u64::MAX } else { limit },
            message_id: None,
        }
    }

    /// Takes the next piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        let hashed =
            usize::try_from(self.left).map_or(piece, |left| &piece[..piece.len().min(left)]);
        self.body.update(hashed);
        self.left -= hashed.len() as u64;
        self.body_length += piece.len() as u64;
    }

    /// Takes a header field; all but Message-ID are of no concern.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        let names_message = name.eq_ignore_ascii_case(b"Message-ID") && !value.is_empty();
        if names_message && self.message_id.is_none() {
            let hashed = self.keyed.clone().chain_update(value).finalize();
            self.message_id = Some(hashed.into());
        }
    }

    /// What names the message of `attempt`, from a client of `network`; [`None`] for an empty body,
    /// which names nothing.
    ///
    /// Without a Message-ID the network stands in for it: equal bodies are common.
    pub fn fingerprint(
        &self,
        network: ClientNetwork,
        attempt: &Attempt<'_>,
    ) -> Option<Fingerprint> {
        if self.body_length == 0 {
            return None;
        }
        let mut hasher = self.body.clone();
        if let Some(message_id) = self.message_id {
            hasher.update(b"I");
            hasher.update(message_id);
        } else {
            hasher.update(b"N");
            network.feed(|piece| hasher.update(piece));
        }
        tuple::feed_mailbox(attempt.reverse_path, |piece| hasher.update(piece));
        tuple::feed_mailbox(attempt.recipient, |piece| hasher.update(piece));
        hasher.update(self.body_length.to_le_bytes());
        Some(Fingerprint(hasher.finalize().into()))
    }
}

impl Seed {
    /// Begins to read a message, of whose body `limit` bytes are hashed; 0 means all.
    pub fn message_hasher(&self, limit: u64) -> MessageHasher {
        MessageHasher::keyed(self.message_key(), limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::ATTEMPT;

    const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const BODY: &[u8] = b"Hello.\r\n";
    const MESSAGE_ID: &[u8] = b"<1@sender.example>";

    fn network(address: &str) -> ClientNetwork {
        ClientNetwork::cut(address.parse().expect("an address"), 24, 64)
    }

    fn read(message_id: Option<&[u8]>, pieces: &[&[u8]]) -> MessageHasher {
        read_at_most(0, message_id, pieces)
    }

    fn read_at_most(limit: u64, message_id: Option<&[u8]>, pieces: &[&[u8]]) -> MessageHasher {
        let mut hasher = MessageHasher::keyed(KEY, limit);
        if let Some(message_id) = message_id {
            hasher.header(b"Message-ID", message_id);
        }
        for piece in pieces {
            hasher.body(piece);
        }
        hasher
    }

    fn name(hasher: &MessageHasher, attempt: &Attempt<'_>) -> Fingerprint {
        let named = hasher.fingerprint(network("192.0.2.7"), attempt);
        named.expect("the body is not empty")
    }

    fn hex(fingerprint: Option<Fingerprint>) -> String {
        let bytes = fingerprint.expect("the body is not empty").to_bytes();
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Made with Python's hashlib from the layout that `docs/decisions/0013` gives.
    #[test]
    fn is_the_md5_that_the_layout_says() {
        let v4 = network("192.0.2.7");
        let named = read(Some(MESSAGE_ID), &[BODY]);
        assert_eq!(
            hex(named.fingerprint(v4, &ATTEMPT)),
            "2e06befbab9ff15720f49ab032ce49c2"
        );
        let nameless = read(None, &[BODY]);
        assert_eq!(
            hex(nameless.fingerprint(v4, &ATTEMPT)),
            "7b9ead94145cb6b44889129968c74cba"
        );
        let bounce = Attempt {
            reverse_path: b"",
            ..ATTEMPT
        };
        assert_eq!(
            hex(nameless.fingerprint(network("2001:db8:1:2::3"), &bounce)),
            "25c9c2e6884156519524656bd3e6f04b"
        );
        let without_domain = Attempt {
            reverse_path: b"S+a@Sender.Example",
            recipient: b"postmaster",
            ..ATTEMPT
        };
        let long = read(Some(MESSAGE_ID), &[&[b'x'; 1_000]]);
        assert_eq!(
            hex(long.fingerprint(v4, &without_domain)),
            "7fa747e1fe96dae8402aad4f1589a002"
        );
    }

    /// Made likewise.
    #[test]
    fn limit_cuts_what_is_hashed_and_the_whole_length_still_counts() {
        let v4 = network("192.0.2.7");
        let at_most = |limit, body: &[u8]| {
            let cut = read_at_most(limit, Some(MESSAGE_ID), &[body]);
            hex(cut.fingerprint(v4, &ATTEMPT))
        };
        let whole = "2e06befbab9ff15720f49ab032ce49c2";
        assert_eq!(at_most(5, BODY), "0e17cd929993a57f96ecd403a0c4c4d2");
        assert_eq!(at_most(8, BODY), whole, "its length");
        assert_eq!(at_most(9, BODY), whole);
        let long = [b'x'; 1_000];
        assert_eq!(at_most(64, &long), "543dcb21c111988d16de20261c2f6beb");
        assert_eq!(
            at_most(64, &long[1..]),
            "35444f513f2c375d59e85dfce39621ab",
            "the same 64 bytes of a shorter body"
        );
    }

    /// Nothing is skipped for its size, and nothing of it is kept.
    #[test]
    fn message_of_20_mb_is_named_by_all_of_it() {
        let mut body: Vec<u8> = (0..=250).cycle().take(20 << 20).collect();
        let named = |body: &[u8]| {
            let mut hasher = read(Some(MESSAGE_ID), &[]);
            body.chunks(65_535).for_each(|piece| hasher.body(piece));
            hex(hasher.fingerprint(network("192.0.2.7"), &ATTEMPT))
        };
        assert_eq!(named(&body), "53542b41c2b62e6bd21345bc765d50d3");
        let last = body.last_mut().expect("it is not empty");
        *last ^= 1;
        assert_ne!(named(&body), "53542b41c2b62e6bd21345bc765d50d3");
    }

    #[test]
    fn empty_body_names_nothing() {
        for pieces in [&[][..], &[&b""[..], b""]] {
            let hasher = read(Some(MESSAGE_ID), pieces);
            assert_eq!(hasher.fingerprint(network("192.0.2.7"), &ATTEMPT), None);
        }
    }

    #[test]
    fn each_recipient_and_sender_has_a_name_of_its_own() {
        let hasher = read(Some(MESSAGE_ID), &[BODY]);
        let first = name(&hasher, &ATTEMPT);
        let to_another = Attempt {
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        let from_another = Attempt {
            reverse_path: b"S@sender.example",
            ..ATTEMPT
        };
        let in_another_case = Attempt {
            reverse_path: b"s@Sender.Example",
            recipient: b"r@HERE.example",
            ..ATTEMPT
        };
        assert_ne!(name(&hasher, &to_another), first);
        assert_ne!(name(&hasher, &from_another), first);
        assert_eq!(name(&hasher, &in_another_case), first);
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        fn with<'a>(reverse_path: &'a [u8], recipient: &'a [u8]) -> Attempt<'a> {
            Attempt {
                reverse_path,
                recipient,
                ..ATTEMPT
            }
        }
        let hasher = read(Some(MESSAGE_ID), &[BODY]);
        assert_ne!(
            name(&hasher, &with(b"a@b", b"c@d")),
            name(&hasher, &with(b"a@bc", b"@d"))
        );
        // What follows one body may be the end of a longer one, followed by less: only the length
        // of the body tells.
        let trailer = |reverse_path: &[u8], recipient: &[u8]| {
            let keyed = MessageHasher::keyed(KEY, 0).keyed;
            let mut bytes = b"I".to_vec();
            bytes.extend(keyed.chain_update(MESSAGE_ID).finalize());
            tuple::feed_mailbox(reverse_path, |piece| bytes.extend(piece));
            tuple::feed_mailbox(recipient, |piece| bytes.extend(piece));
            bytes
        };
        let inner = trailer(b"", b"r");
        let outer = trailer(b"", &inner);
        let (end_of_body, rest) = outer.split_at(outer.len() - inner.len());
        assert_eq!(rest, inner, "the same bytes, divided in two ways");
        let longer = read(Some(MESSAGE_ID), &[BODY, end_of_body]);
        assert_ne!(
            name(&hasher, &with(b"", &inner)),
            name(&longer, &with(b"", b"r"))
        );
    }

    #[test]
    fn network_joins_only_without_a_message_id() {
        let elsewhere = network("198.51.100.7");
        let named = read(Some(MESSAGE_ID), &[BODY]);
        assert_eq!(
            named.fingerprint(elsewhere, &ATTEMPT),
            Some(name(&named, &ATTEMPT))
        );
        for nothing in [None, Some(&b" \t"[..])] {
            let nameless = read(nothing, &[BODY]);
            assert_ne!(
                nameless.fingerprint(elsewhere, &ATTEMPT),
                Some(name(&nameless, &ATTEMPT))
            );
        }
    }

    #[test]
    fn first_message_id_counts_in_any_case_and_without_white_space() {
        let plain = name(&read(Some(MESSAGE_ID), &[BODY]), &ATTEMPT);
        let mut twice = MessageHasher::keyed(KEY, 0);
        twice.header(b"Received", b"from somewhere");
        twice.header(b"MESSAGE-id", b"\r\n\t<1@sender.example> ");
        twice.header(b"Message-ID", b"<2@sender.example>");
        twice.body(BODY);
        assert_eq!(name(&twice, &ATTEMPT), plain);
        let other = read(Some(b"<2@sender.example>"), &[BODY]);
        assert_ne!(name(&other, &ATTEMPT), plain);
    }

    #[test]
    fn another_seed_names_otherwise() {
        let named = |byte: u8| {
            let mut seed = [byte; Seed::LENGTH];
            seed[1] = byte.wrapping_add(1);
            let mut hasher = Seed::from_bytes(seed).message_hasher(0);
            hasher.body(BODY);
            name(&hasher, &ATTEMPT)
        };
        assert_eq!(named(1), named(1));
        assert_ne!(named(1), named(2));
    }

    #[test]
    fn memory_is_constant_and_the_log_shows_no_key() {
        let mut hasher = read(None, &[BODY]);
        hasher.header(b"Message-ID", &vec![b'x'; 1 << 20]);
        assert!(size_of_val(&hasher) <= 256, "nothing is on the heap");
        let shown = format!("{hasher:?}");
        assert!(!shown.contains("0, 1, 2, 3"), "{shown}");
    }

    #[test]
    fn evidence_of_a_fingerprint_is_never_the_bit_alone() {
        let of = |start: [u8; 4]| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&start);
            Fingerprint::from_bytes(bytes).evidence()
        };
        assert_eq!(of([0, 0, 0, 0]), Fingerprint::EVIDENCE | 1);
        assert_eq!(of([0, 0, 0, 0x80]), Fingerprint::EVIDENCE | 1);
        assert_eq!(of([2, 0, 0, 0]), Fingerprint::EVIDENCE | 2);
    }

    proptest! {
        /// With a limit that is reached within any of them, or not at all.
        #[test]
        fn pieces_make_no_difference(
            limit in 0..400_u64,
            body in proptest::collection::vec(any::<u8>(), 1..300),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            ends.push(body.len());
            ends.sort_unstable();
            let mut begin = 0;
            let pieces: Vec<_> = ends.into_iter().map(|end| {
                let piece = &body[begin..end];
                begin = end;
                piece
            }).collect();
            let whole = read_at_most(limit, Some(MESSAGE_ID), &[&body]);
            let pieced = read_at_most(limit, Some(MESSAGE_ID), &pieces);
            prop_assert_eq!(name(&pieced, &ATTEMPT), name(&whole, &ATTEMPT));
        }

        #[test]
        fn one_changed_byte_makes_another_message(
            body in proptest::collection::vec(any::<u8>(), 1..300),
            place: proptest::sample::Index,
            change in 1..=u8::MAX,
        ) {
            let mut changed = body.clone();
            changed[place.index(body.len())] ^= change;
            let before = read(Some(MESSAGE_ID), &[&body]);
            let after = read(Some(MESSAGE_ID), &[&changed]);
            prop_assert_ne!(name(&after, &ATTEMPT), name(&before, &ATTEMPT));
        }

        #[test]
        fn byte_beyond_the_limit_makes_no_other_message_and_one_more_does(
            body in proptest::collection::vec(any::<u8>(), 2..300),
            place: proptest::sample::Index,
            limit: proptest::sample::Index,
            change in 1..=u8::MAX,
        ) {
            let place = place.index(body.len());
            let limit = 1 + limit.index(body.len());
            let mut changed = body.clone();
            changed[place] ^= change;
            let named = |body: &[u8]| {
                let hasher = read_at_most(limit as u64, Some(MESSAGE_ID), &[body]);
                name(&hasher, &ATTEMPT)
            };
            prop_assert_eq!(named(&changed) == named(&body), place >= limit);
            changed.push(0);
            prop_assert_ne!(named(&changed), named(&body));
        }
    }
}
