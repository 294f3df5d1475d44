//! The frame: four bytes of length in network order, one kind byte, a payload.
//!
//! Knows where one frame ends and the next begins, and how long each kind may be. Leaves the
//! meaning of kinds and payloads to `command`. A length is judged as soon as it is there, so
//! nothing is ever reserved on the word of a peer.

use thiserror::Error;

/// One whole frame, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which command this is.
    pub kind: u8,
    /// What follows the kind byte.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes of this frame on the wire.
    pub fn wire_length(&self) -> usize {
        HEADER_LENGTH + self.payload.len()
    }

    /// The first frame of `bytes`, or `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// A length that no frame may have. What follows it cannot be understood any more.
    pub fn first_of(bytes: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let Some(prefix) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix);
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > CONTENT_LIMIT {
            return Err(FrameError::foreign_or_long(*prefix));
        }
        let Some(&kind) = bytes.get(LENGTH_BYTES) else {
            return Ok(None);
        };
        if length > limit_of(kind) {
            return Err(FrameError::TooLong { length });
        }
        let end = LENGTH_BYTES + length as usize;
        let payload = bytes.get(HEADER_LENGTH..end);
        Ok(payload.map(|payload| Self { kind, payload }))
    }

    /// The frame that a piece of a body chunk would be.
    pub(super) fn body(piece: &'a [u8]) -> Self {
        Self {
            kind: BODY,
            payload: piece,
        }
    }
}

/// A body chunk whose end has not come: its pieces need not be kept until it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BegunBody<'a> {
    /// What has come of it.
    pub(super) piece: &'a [u8],
    /// Bytes that are still to come.
    pub(super) left: usize,
}

impl<'a> BegunBody<'a> {
    /// What `bytes` are the beginning of, in which [`Frame::first_of`] has found no whole frame.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
        let (kind, piece) = rest.split_first()?;
        let length = u32::from_be_bytes(*prefix) as usize;
        let left = length.checked_sub(rest.len())?;
        (*kind == BODY).then_some(Self { piece, left })
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The length is zero, so not even a kind byte would follow.
    #[error("frame of length zero")]
    Empty,
    /// An HTTP request came to the milter port.
    #[error("an HTTP request, not a milter frame")]
    Http,
    /// A TLS handshake came to the milter port.
    #[error("a TLS handshake, not a milter frame")]
    Tls,
    /// The length is beyond what the kind of frame may have.
    #[error("frame of {length} bytes is too long")]
    TooLong {
        /// The length claimed.
        length: u32,
    },
}

impl FrameError {
    /// Tells what port scanners send from a length that is merely too great.
    fn foreign_or_long(prefix: [u8; LENGTH_BYTES]) -> Self {
        match &prefix {
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"CONN" | b"PRI " => Self::Http,
            [0x16, 0x03, ..] => Self::Tls,
            _ => Self::TooLong {
                length: u32::from_be_bytes(prefix),
            },
        }
    }
}

/// Appends a frame to `out`. The payload is written by `write_payload`, so that it needs no
/// buffer of its own.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, write_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(kind);
    write_payload(out);
    let length = u32::try_from(out.len() - start - LENGTH_BYTES)
        .expect("a reply is made of bounded texts, far below 4 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Greatest length field of a frame of this kind.
const fn limit_of(kind: u8) -> u32 {
    match kind {
        BODY | b'E' | b'L' => CONTENT_LIMIT,
        _ => COMMAND_LIMIT,
    }
}

/// The kind of a body chunk.
const BODY: u8 = b'B';
/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;
/// Bytes before the payload.
pub(super) const HEADER_LENGTH: usize = LENGTH_BYTES + 1;
/// A body chunk is at most 65,535 bytes (Postfix, libmilter), also where it comes with the end of
/// the message; a header is less. With the kind byte and one to spare.
pub(super) const CONTENT_LIMIT: u32 = 65_537;
/// Everything else is made of SMTP command lines and macros.
const COMMAND_LIMIT: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_frame_and_its_length() {
        let bytes = b"\0\0\0\x03Hab\0\0\0\x01Q";
        let frame = Frame::first_of(bytes).expect("legal").expect("whole");
        assert_eq!(frame.kind, b'H');
        assert_eq!(frame.payload, b"ab");
        let rest = &bytes[frame.wire_length()..];
        let next = Frame::first_of(rest).expect("legal").expect("whole");
        assert_eq!(
            next,
            Frame {
                kind: b'Q',
                payload: b""
            }
        );
    }

    #[test]
    fn part_of_a_frame_is_incomplete_not_wrong() {
        let whole = b"\0\0\0\x03Hab";
        for end in 0..whole.len() {
            assert_eq!(Frame::first_of(&whole[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn zero_length_is_refused() {
        assert_eq!(Frame::first_of(b"\0\0\0\0"), Err(FrameError::Empty));
    }

    #[test]
    fn length_is_refused_before_the_payload_arrives() {
        let error = FrameError::TooLong { length: 65_538 };
        assert_eq!(Frame::first_of(b"\0\x01\0\x02"), Err(error));
        let error = FrameError::TooLong { length: 16_385 };
        assert_eq!(Frame::first_of(b"\0\0\x40\x01M"), Err(error));
        assert_eq!(Frame::first_of(b"\0\0\x40\x01B"), Ok(None));
    }

    #[test]
    fn port_scanners_are_told_apart() {
        assert_eq!(Frame::first_of(b"GET / HTTP/1.1"), Err(FrameError::Http));
        assert_eq!(
            Frame::first_of(b"\x16\x03\x01\x02\0\x01"),
            Err(FrameError::Tls)
        );
    }

    #[test]
    fn begun_body_says_what_came_and_what_is_to_come() {
        let begun = |bytes| BegunBody::of(bytes).map(|it| (it.piece, it.left));
        assert_eq!(begun(b"\0\0\0\x04Bab"), Some((b"ab".as_slice(), 1)));
        assert_eq!(begun(b"\0\0\0\x04B"), Some((b"".as_slice(), 3)));
        assert_eq!(begun(b"\0\0\0\x04"), None);
        assert_eq!(begun(b"\0\0\0\x04Lab"), None);
        assert_eq!(begun(b"\0\0\0\x04Eab"), None);
    }

    #[test]
    fn put_writes_what_first_of_reads() {
        let mut out = b"before".to_vec();
        put(&mut out, b'y', |out| out.extend_from_slice(b"451"));
        let frame = Frame::first_of(&out[6..]).expect("legal").expect("whole");
        assert_eq!((frame.kind, frame.payload), (b'y', b"451".as_slice()));
        assert_eq!(frame.wire_length(), out.len() - 6);
    }
}
