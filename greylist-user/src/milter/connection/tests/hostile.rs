//! Peers that claim much, send little, or send everything at once.

use std::sync::Mutex;

use super::*;

/// What was written, each with the number of reads before it.
type Writes = Vec<(usize, Vec<u8>)>;

/// A peer that has sent some pieces, of which a read gives one, and has shut its side. It notes what is
/// written to it, and after which read.
struct Peer {
    pieces: std::vec::IntoIter<Vec<u8>>,
    reads: usize,
    writes: Arc<Mutex<Writes>>,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        if let Some(piece) = self.pieces.next() {
            buffer.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut writes = self.writes.lock().expect("nobody panics");
        writes.push((self.reads, bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Serves such a peer to the end: what was written, each with the number of reads before it.
fn served(pieces: Vec<Vec<u8>>) -> (Writes, &'static str) {
    let writes = Arc::default();
    let peer = Peer {
        pieces: pieces.into_iter(),
        reads: 0,
        writes: Arc::clone(&writes),
    };
    let Connection {
        session, service, ..
    } = connection();
    let mut connection = Connection::new(peer, session, service, Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let end = runtime.block_on(connection.serve());
    let writes = writes.lock().expect("nobody panics").clone();
    (writes, end.reason())
}

/// The first whole pieces of a conversation and the beginning of one more frame, of this kind.
fn claiming(kind: u8, length: u32) -> Vec<u8> {
    let mut bytes = conversation()[..17].to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes
}

proptest! {
    #[test]
    fn all_that_one_read_brings_is_answered_by_one_write(lengths in proptest::collection::vec(1..120_usize, 0..30)) {
        let bytes = conversation();
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for length in lengths {
            let (piece, left) = rest.split_at(length.min(rest.len()));
            rest = left;
            pieces.push(piece.to_vec());
        }
        pieces.push(rest.to_vec());
        pieces.retain(|piece| !piece.is_empty());
        let (writes, end) = served(pieces);
        let reads: Vec<usize> = writes.iter().map(|it| it.0).collect();
        prop_assert!(reads.is_sorted_by(|a, b| a < b), "{:?}", reads);
        let said: Vec<u8> = writes.into_iter().flat_map(|it| it.1).collect();
        prop_assert_eq!((said, Some(end)), replies([bytes.as_slice()]));
    }

    #[test]
    fn memory_grows_with_what_came_not_with_what_is_claimed(
        kind in proptest::sample::select(b"ABCDEHKLMNRTU".to_vec()),
        length in 2..CONTENT_LIMIT,
        sent in 0..3_000_usize,
        piece in 1..500_usize,
    ) {
        let mut connection = connection();
        let mut out = Vec::new();
        if connection.answer(&claiming(kind, length), &mut out).is_err() {
            // Refused on its word alone, and nothing was taken for it.
            prop_assert_eq!(connection.partial.capacity(), 0);
            return Ok(());
        }
        let sent = vec![b'x'; sent.min(length as usize - 2)];
        let mut came = 5;
        for piece in sent.chunks(piece) {
            connection.answer(piece, &mut out).expect("not whole yet");
            came += piece.len();
            let held = connection.partial.capacity();
            prop_assert!(held <= 2 * came + 64, "{} held of {} that came", held, came);
        }
    }

    #[test]
    fn dripping_does_not_renew_the_time_of_a_frame(
        kind in proptest::sample::select(b"BHLMRE".to_vec()),
        length in 20..2_000_u32,
        pieces in proptest::collection::vec(1..4_usize, 1..6),
    ) {
        let mut connection = connection();
        let mut out = Vec::new();
        let bytes = claiming(kind, length);
        connection.answer(&bytes[..17], &mut out).expect("terms");
        prop_assert_eq!(connection.wait, Wait::Silence);
        connection.answer(&bytes[17..18], &mut out).expect("a part");
        let due = connection.deadline();
        for piece in bytes[18..].chunks(1) {
            connection.answer(piece, &mut out).expect("a part");
            prop_assert_eq!((connection.wait, connection.deadline()), (Wait::Frame, due));
        }
        for piece in pieces {
            connection.answer(&b"xxx"[..piece.min(3)], &mut out).expect("a part");
            prop_assert_eq!((connection.wait, connection.deadline()), (Wait::Frame, due));
        }
    }
}

#[test]
fn no_limit_of_a_frame_is_reserved_for_thousands_of_peers_that_claim_it() {
    for kind in *b"BLM" {
        let length = if kind == b'M' { 16_384 } else { 65_536 };
        let mut connection = connection();
        connection
            .answer(&claiming(kind, length), &mut Vec::new())
            .expect("a part");
        assert!(connection.partial.capacity() <= 64, "{}", char::from(kind));
    }
}
