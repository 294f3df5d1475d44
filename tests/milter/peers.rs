//! Sessions that wait for other hosts of the site, who answer late, or never: each goes on in its time, nobody
//! waits with it, and no reply takes the place of another.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greygate::policy::{Attempt, MessageHasher, Peers, SharedKey, Timestamp, Told, TupleKey};
use support::interrupt;
use support::mta::Mta;

use crate::world::World;

/// A wait that a test can wait out.
const SHORT: Duration = Duration::from_millis(50);
/// One that no test waits out.
const LONG: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn session_goes_on_when_its_time_is_up_and_a_late_answer_shifts_nothing() {
    let (world, others) = asking(SHORT);
    let mut mta = world.session();
    for round in 0..5 {
        mta.mail("a@x.example").expect("held");
        let begun = Instant::now();
        let answer = mta.rcpt(&format!("new{round}@y.example")).expect("one");
        assert!(answer.is_deferral(), "{answer:?}");
        assert!(begun.elapsed() >= SHORT, "it waits for who does not answer");
        assert_eq!(others.asked(), round + 1, "asked once");
        others.answer_all();
        assert!(mta.rcpt("known@y.example").expect("one").is_continue());
        mta.abort();
    }
    mta.quit().expect("not a reply too many");
}

#[test]
fn answer_to_one_question_ends_no_wait_for_another() {
    let (world, others) = asking_of(Others {
        budget: SHORT,
        is_late: true,
        ..Others::default()
    });
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("new1@y.example").expect("one").is_deferral());
    let begun = Instant::now();
    assert!(mta.rcpt("new2@y.example").expect("one").is_deferral());
    assert!(begun.elapsed() >= SHORT, "it was the other's");
    assert_eq!(others.asked(), 2);
    mta.quit().expect("not a reply too many");
}

#[test]
fn session_goes_on_at_once_when_there_is_an_answer_or_none_can_come() {
    for how in [Others::answer_all, Others::hang_up] {
        let (world, others) = asking(LONG);
        let mut mta = world.session();
        mta.mail("a@x.example").expect("held");
        rcpt(&mut mta, "new@y.example");
        others.wait_until_asked(1);
        how(&others);
        assert!(mta.read_answer().expect("one").is_deferral());
        mta.quit().expect("not a reply too many");
    }
}

#[test]
fn what_comes_behind_a_question_is_answered_in_its_order() {
    let (world, others) = asking(LONG);
    let mut mta = world.session();
    mta.hold(b'M', b"<a@x.example>\0");
    mta.hold(b'R', b"<new1@y.example>\0");
    mta.hold(b'A', b"");
    mta.hold(b'M', b"<b@x.example>\0");
    mta.hold(b'R', b"<known@y.example>\0");
    mta.hold(b'R', b"<new2@y.example>\0");
    mta.hold(b'T', b"");
    mta.flush().expect("it is taken");
    others.wait_until_asked(1);
    assert_eq!(world.table.seen(), [""; 0], "nothing is judged yet");
    others.answer_all();
    assert!(mta.read_answer().expect("of new1").is_deferral());
    assert!(mta.read_answer().expect("of known").is_continue());
    others.wait_until_asked(2);
    others.answer_all();
    assert!(mta.read_answer().expect("of new2").is_deferral());
    let status = mta.read_answer().expect("of DATA").status;
    assert!(status == "a" || status == "c", "{status}");
    mta.quit().expect("not a reply too many");
}

#[test]
fn session_that_waits_holds_up_nobody() {
    let (world, others) = asking(LONG);
    let mut waiting = world.session();
    waiting.mail("a@x.example").expect("held");
    rcpt(&mut waiting, "new@y.example");
    others.wait_until_asked(1);
    let mut mta = world.session();
    for _ in 0..10 {
        mta.mail("b@x.example").expect("held");
        assert!(mta.rcpt("known@y.example").expect("one").is_continue());
        mta.abort();
    }
    mta.quit().expect("a clean end");
    others.answer_all();
    assert!(waiting.read_answer().expect("one").is_deferral());
    waiting.quit().expect("not a reply too many");
}

#[test]
fn client_that_is_gone_by_the_time_of_the_answer_costs_nothing() {
    let (world, others) = asking(LONG);
    // One whose MTA says so, and one whose MTA falls silent.
    for (times, last_word) in [(1, Some(b'Q')), (2, None)] {
        let mut mta = world.session();
        mta.mail("a@x.example").expect("held");
        rcpt(&mut mta, "new@y.example");
        if let Some(kind) = last_word {
            mta.hold(kind, b"");
            mta.flush().expect("it is taken");
        }
        others.wait_until_asked(times);
        drop(mta);
        others.answer_all();
        world.wait_for_metric("milter_connections_open", 0);
    }
    let mut mta = world.session();
    mta.mail("b@x.example").expect("held");
    assert!(mta.rcpt("known@y.example").expect("one").is_continue());
    mta.quit().expect("a clean end");
}

/// Other hosts, who answer when the test says so. They are asked about recipients `new…`.
#[derive(Default)]
struct Others {
    budget: Duration,
    /// Whether a question is answered when the next one is asked.
    is_late: bool,
    asked: AtomicUsize,
    waiting: Mutex<Vec<Told>>,
}

impl Others {
    /// How often they were asked.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn wait_until_asked(&self, times: usize) {
        let waited = interrupt::wait_for("the question", PATIENCE, || {
            Ok((self.asked() == times).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    fn answer_all(&self) {
        self.take_waiting().into_iter().for_each(|tell| tell());
    }

    /// Forgets who waits, as a thread does that ends.
    fn hang_up(&self) {
        drop(self.take_waiting());
    }

    fn take_waiting(&self) -> Vec<Told> {
        mem::take(&mut self.waiting.lock().expect("nobody panics"))
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Others").finish_non_exhaustive()
    }
}

impl Peers for Others {
    fn missing(&self, attempt: &Attempt<'_>, _: Timestamp) -> Vec<SharedKey> {
        let Some(rest) = attempt.recipient.strip_prefix(b"new") else {
            return Vec::new();
        };
        let mut key = [0; 16];
        key[0] = rest[0];
        vec![SharedKey::Tuple(TupleKey::from_bytes(key))]
    }

    fn missing_content(
        &self,
        _: &Attempt<'_>,
        _: &MessageHasher,
        _: Timestamp,
    ) -> Option<SharedKey> {
        None
    }

    fn ask(&self, _: Vec<SharedKey>, tell: Told) {
        if self.is_late {
            self.answer_all();
        }
        self.waiting.lock().expect("nobody panics").push(tell);
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn budget(&self) -> Duration {
        self.budget
    }
}

fn asking(budget: Duration) -> (World, Arc<Others>) {
    asking_of(Others {
        budget,
        ..Others::default()
    })
}

fn asking_of(others: Others) -> (World, Arc<Others>) {
    let others = Arc::new(others);
    (World::sharing(Arc::clone(&others) as _), others)
}

/// Says RCPT, and waits for no answer.
fn rcpt(mta: &mut Mta, recipient: &str) {
    mta.hold(b'R', format!("<{recipient}>\0").as_bytes());
    mta.flush().expect("it is taken");
}
