//! What a session asks other hosts, when, and how often. What becomes of an answer that is late is tried on the
//! wire.

use std::sync::Mutex;

use super::*;
use crate::milter::context::Context;
use crate::policy::{Evidence, MessageHasher, NetworkKey, Peers, SharedKey, Tell, Told, TupleKey};

#[test]
fn recipient_that_is_new_here_is_asked_for_before_it_is_judged() {
    let (mut talk, others) = sharing(&[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.stops(b'R', b"<b@y>\0");
    assert!(talk.asked().is_empty(), "nobody has judged it yet");
    assert_eq!(talk.asks(), BUDGET);
    assert_eq!(others.questions(), [vec![tuple("b@y"), NETWORK]]);
    talk.session.learn(Evidence::default());
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    assert_eq!(talk.asked().len(), 1, "judged once");
}

#[test]
fn record_is_asked_for_once_in_a_session() {
    let (mut talk, others) = sharing(&[]);
    talk.greets();
    for message in ["first", "second"] {
        talk.mails("a@x.example");
        for recipient in ["b@y", "c@y"] {
            if message == "first" {
                talk.recalls(b'R', format!("<{recipient}>\0").as_bytes());
            }
            assert_eq!(talk.rcpts(recipient), DEFERRED);
        }
        talk.says(b'A', b"");
    }
    let questions = [vec![tuple("b@y"), NETWORK], vec![tuple("c@y")]];
    assert_eq!(others.questions(), questions);
    // Another client is somebody else.
    talk.says(b'K', b"");
    talk.greets();
    talk.mails("a@x.example");
    talk.recalls(b'R', b"<b@y>\0");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    assert_eq!(others.questions().len(), 3);
}

#[test]
fn session_goes_on_alone_where_nobody_answers() {
    let (mut talk, _) = sharing(&[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.stops(b'R', b"<b@y>\0");
    talk.asks();
    // The time is up, as the connection sees it.
    talk.session.count_unanswered();
    assert_eq!(
        talk.metrics.questions_unanswered.get(),
        0,
        "it was no witness"
    );
    talk.session.learn(Evidence::default());
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
}

#[test]
fn hosts_are_asked_first_and_then_the_witness_whose_word_alone_is_evidence() {
    let (mut talk, others) = sharing(&[]);
    let mut policy = Policy::default();
    policy.evidence.allowlists = 1;
    talk.table.wants.store(true, Ordering::Relaxed);
    talk.session = Session::new(
        Arc::clone(&talk.session.context),
        Arc::new(policy),
        Origin::ThisHost,
    );
    talk.says(b'O', &offer_payload(POSTFIX));
    talk.greets();
    talk.mails("a@x.example");
    let vouched = Evidence {
        score: Some(3),
        ..Evidence::default()
    };
    talk.stops(b'R', b"<b@y>\0");
    assert_eq!(talk.asks(), BUDGET);
    talk.session.learn(vouched);
    assert_eq!(
        talk.session.transaction.map(|it| it.evidence.score),
        Some(None)
    );
    talk.stops(b'R', b"<b@y>\0");
    assert_eq!(talk.asks(), Duration::ZERO, "nobody is there to be asked");
    talk.session.count_unanswered();
    assert_eq!(talk.metrics.questions_unanswered.get(), 1);
    talk.session.learn(vouched);
    assert_eq!(
        talk.session.transaction.map(|it| it.evidence.score),
        Some(Some(3))
    );
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    assert_eq!(others.questions().len(), 1);
}

#[test]
fn recipients_of_a_probe_are_asked_for_at_data_at_once_and_no_more_than_a_frame_may() {
    let (mut talk, others) = sharing(&[]);
    talk.greets();
    talk.mails("");
    for recipient in ["b@y", "c@y"] {
        assert_eq!(talk.rcpts(recipient), "c", "it is not judged yet");
    }
    talk.recalls(b'T', b"");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    let questions = [vec![tuple("b@y"), NETWORK, tuple("c@y")]];
    assert_eq!(others.questions(), questions);

    talk.says(b'A', b"");
    talk.mails("");
    for number in 0..600 {
        talk.rcpts(&format!("{number}@y"));
    }
    talk.recalls(b'T', b"");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(others.questions()[1].len(), 512);
}

#[test]
fn recipient_that_the_mta_refuses_is_not_asked_for() {
    let (mut talk, others) = sharing(&[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.says(b'D', b"R{rcpt_mailer}\0error\0");
    assert_eq!(talk.rcpts("nobody@y"), "c");
    assert!(others.questions().is_empty());
}

#[test]
fn content_is_asked_for_once_the_message_is_whole() {
    let (mut talk, others) = sharing(&[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.recalls(b'R', b"<first@y>\0");
    assert_eq!(talk.rcpts("first@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'B', b"Hello.\r\n"), "");
    talk.recalls(b'E', b"It is me.\r\n");
    talk.says(b'E', b"It is me.\r\n");
    let read = talk.table.fingerprints.lock().expect("no judge panics")[0];
    let asked = &others.questions()[1];
    assert_eq!(
        *asked,
        [SharedKey::Content(read.expect("it says something"))]
    );
}

/// Other hosts, who never answer: the time is up when the test says so.
#[derive(Debug, Default)]
struct Others {
    asked: Mutex<Vec<Vec<SharedKey>>>,
}

impl Others {
    fn questions(&self) -> Vec<Vec<SharedKey>> {
        self.asked.lock().expect("nobody panics").clone()
    }
}

impl Peers for Others {
    fn missing(&self, attempt: &Attempt<'_>, _: Timestamp) -> Vec<SharedKey> {
        let recipient = std::str::from_utf8(attempt.recipient).expect("text");
        vec![tuple(recipient), NETWORK]
    }

    fn missing_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        _: Timestamp,
    ) -> Option<SharedKey> {
        let network = crate::policy::ClientNetwork::of(&Policy::default(), attempt);
        message
            .fingerprint(network, attempt)
            .map(SharedKey::Content)
    }

    fn ask(&self, keys: Vec<SharedKey>, _tell: Told) {
        self.asked.lock().expect("nobody panics").push(keys);
    }

    fn budget(&self) -> Duration {
        BUDGET
    }
}

impl Talk {
    /// A frame is left for others to be asked.
    fn stops(&mut self, kind: u8, payload: &[u8]) {
        let mut out = Vec::new();
        let next = self.try_says(kind, payload, &mut out);
        assert_eq!((next, shown(&out)), (Ok(Next::Evidence), String::new()));
    }

    /// Asks them, and says how long that may take.
    fn asks(&mut self) -> Duration {
        let tell: Tell = Box::new(|_| ());
        self.session.ask(tell)
    }

    /// The same from the frame that is left to the answer.
    fn recalls(&mut self, kind: u8, payload: &[u8]) {
        self.stops(kind, payload);
        self.asks();
        self.session.learn(Evidence::default());
    }
}

/// A talk at a host that shares.
fn sharing(passes: &[(&'static str, PassReason)]) -> (Talk, Arc<Others>) {
    let mut talk = Talk::new(POSTFIX, passes);
    let others = Arc::<Others>::default();
    let context = Context::new(
        &Settings::default(),
        Arc::clone(&talk.table) as _,
        Arc::clone(&talk.metrics),
    );
    let context = context.sharing(Some(Arc::clone(&others) as _));
    talk.session = Session::new(Arc::new(context), Arc::default(), Origin::ThisHost);
    talk.says(b'O', &offer_payload(POSTFIX));
    (talk, others)
}

/// What a recipient hangs on.
fn tuple(recipient: &str) -> SharedKey {
    let mut key = [0; 16];
    key[..recipient.len()].copy_from_slice(recipient.as_bytes());
    SharedKey::Tuple(TupleKey::from_bytes(key))
}

/// And all of a client.
const NETWORK: SharedKey = SharedKey::Reputation(NetworkKey::from_bytes([7; 16]));
const BUDGET: Duration = Duration::from_millis(20);
