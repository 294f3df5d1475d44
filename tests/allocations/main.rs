//! What a command costs the allocator: nothing, from the frame through session, policy and store to the
//! reply, once a connection and the tables have what they need.
//!
//! A program of its own, since its allocator counts for the whole process: one test, one thread.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use greygate::{
    milter::{Context, Frame, Metrics, Session, Settings},
    policy::{Mode, Origin, Policy, Timestamp},
    store::{self, Store},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[test]
fn commands_allocate_nothing_once_warm() {
    let mut envelope = World::new(Mode::Hybrid);
    let mut content = World::new(Mode::Content);
    // Everything that is new takes its place in the tables.
    let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
    let messages: Vec<_> = (0..SESSIONS).map(message).collect();
    // A shard that is full grows at the next change even of what it holds, so all of it comes again once.
    for now in [T0, T0.after(Duration::from_secs(15))] {
        envelope.play(&sessions, now, || 0);
        content.play(&messages, now, || 0);
    }

    let profiler = dhat::Profiler::builder().testing().build();
    let blocks = || dhat::HeapStats::get().total_blocks;
    let later = T0.after(Duration::from_secs(45));
    let sessions_again = envelope.play(&sessions, later, blocks);
    let messages_again = content.play(&messages, later, blocks);
    drop(profiler);

    assert_eq!(sessions_again.deferred, 3 * SESSIONS, "each is early");
    for kind in *b"DCHMRA" {
        let blocks = sessions_again.blocks[usize::from(kind)];
        assert_eq!(blocks, 0, "'{}' allocates", char::from(kind));
    }
    assert_eq!(messages_again.deferred, SESSIONS, "at its end each");
    for kind in *b"DCHMRLBA" {
        let blocks = messages_again.blocks[usize::from(kind)];
        assert_eq!(blocks, 0, "'{}' allocates", char::from(kind));
    }
    // A message that is read has one box for its hash, from DATA on, and at its end one row of the verdicts
    // on its recipients.
    let of_messages = u64::from(SESSIONS);
    for kind in *b"TE" {
        let blocks = messages_again.blocks[usize::from(kind)];
        assert!(
            blocks <= of_messages,
            "'{}': {blocks} blocks for {of_messages} messages",
            char::from(kind)
        );
    }
}

/// A connection, and what it is judged by.
struct World {
    session: Session,
    out: Vec<u8>,
    _directory: TempDir,
}

/// What frames came to.
struct Played {
    /// Blocks allocated, by the kind of the frame.
    blocks: [u64; 256],
    /// Deferrals told.
    deferred: u32,
}

impl World {
    /// With options agreed upon, as Postfix does.
    fn new(mode: Mode) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let policy = Policy {
            mode,
            ..Policy::default()
        };
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let settings = store::Settings {
            directory: directory.path().join("store"),
            seed_file: directory.path().join("seed"),
            capacity: 20_000,
            // The list of what is to be journaled grows until somebody empties it, and keeps its room then.
            journal: store::JournalMode::Never,
            ..store::Settings::default()
        };
        let (to_kernel, _) = mpsc::channel(1);
        let metrics = Arc::default();
        let (store, _) = Store::open(settings, Arc::clone(&policy), to_kernel, metrics, T0)
            .expect("a store in an empty directory");
        let metrics = Arc::<Metrics>::default();
        let context = Context::new(&Settings::default(), Arc::new(store), metrics);
        let mut session = Session::new(Arc::new(context), policy.load_full(), Origin::ThisHost);
        let mut out = Vec::with_capacity(4_096);
        let offer = frame(b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff");
        receive(&mut session, &offer, T0, &mut out);
        Self {
            session,
            out,
            _directory: directory,
        }
    }

    /// Plays `visits` at `now`, with `count` asked around each frame.
    fn play(&mut self, visits: &[Vec<u8>], now: Timestamp, count: fn() -> u64) -> Played {
        let mut played = Played {
            blocks: [0; 256],
            deferred: 0,
        };
        for visit in visits {
            let mut bytes = visit.as_slice();
            while !bytes.is_empty() {
                self.out.clear();
                let before = count();
                let (kind, length) = receive(&mut self.session, bytes, now, &mut self.out);
                played.blocks[usize::from(kind)] += count() - before;
                played.deferred += u32::from(self.out.get(4) == Some(&b'y'));
                bytes = &bytes[length..];
            }
        }
        played
    }
}

/// Takes the first frame of `bytes`: its kind, and its length.
fn receive(session: &mut Session, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) -> (u8, usize) {
    let frame = Frame::first_of(bytes).expect("a frame").expect("whole");
    session.receive(frame, now, out).expect("in order");
    (frame.kind, frame.wire_length())
}

/// A client with two mails of two recipients and one, none of which goes further than RCPT.
fn session(number: u32) -> Vec<u8> {
    let mut bytes = client(number);
    bytes.extend(mail(number));
    bytes.extend(recipient("one"));
    bytes.extend(recipient("another"));
    bytes.extend(frame(b"A"));
    bytes.extend(mail(number));
    bytes.extend(recipient("third"));
    bytes.extend(frame(b"A"));
    bytes
}

/// A client with a message that is read.
fn message(number: u32) -> Vec<u8> {
    let mut bytes = client(number);
    bytes.extend(mail(number));
    bytes.extend(recipient("one"));
    bytes.extend(frame(b"DTi\x004ABC\0"));
    bytes.extend(frame(b"T"));
    bytes.extend(frame(b"LSubject\0Again\0"));
    bytes.extend(frame(
        format!("LMessage-ID\0<{number}@sender.example>\0").as_bytes(),
    ));
    bytes.extend(frame(&[&b"B"[..], &[b'x'; 3_000]].concat()));
    bytes.extend(frame(b"DEi\x004ABC\0"));
    bytes.extend(frame(b"E"));
    bytes.extend(frame(b"A"));
    bytes
}

fn client(number: u32) -> Vec<u8> {
    let address = Ipv4Addr::from(0xc612_0000 + number);
    let mut bytes = frame(b"DCj\0mx.example\0{daemon_addr}\x00192.0.2.1\0");
    bytes.extend(frame(
        format!("Chost{number}.client{number}.example\x004\x1f\x40{address}\0").as_bytes(),
    ));
    bytes.extend(frame(
        format!("Hhelo{number}.another{number}.example\0").as_bytes(),
    ));
    bytes
}

fn mail(number: u32) -> Vec<u8> {
    let mut bytes = frame(b"DM{mail_mailer}\0smtp\0");
    bytes.extend(frame(
        format!("M<bounce+{number}=x@sender{number}.example>\0SIZE=4000\0").as_bytes(),
    ));
    bytes
}

fn recipient(name: &str) -> Vec<u8> {
    let mut bytes = frame(b"DR{rcpt_mailer}\0local\0");
    bytes.extend(frame(format!("R<{name}@recipient.example>\0").as_bytes()));
    bytes
}

/// A frame of these bytes.
fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short");
    [&length.to_be_bytes(), content].concat()
}

const T0: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SESSIONS: u32 = 500;
