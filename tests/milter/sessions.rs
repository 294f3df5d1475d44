//! Whole SMTP sessions, as the MTA tells them.

use std::{sync::Arc, time::Duration};

use greygate::{milter::Endpoint, policy::Policy};
use support::mta::{ANCIENT, Answer, Mta, POSTFIX};

use crate::world::{CLIENT, DELAY, World};

const DEFERRED: &str = r"y451 4.7.1 Greylisted, please try again later\x00";

/// One attempt to deliver; the answer to the last command that was said.
fn deliver(endpoint: &Endpoint, from: &str, to: &str) -> Answer {
    let mut mta = Mta::open(endpoint, CLIENT).expect("a session");
    mta.mail(from).expect("held");
    let mut answer = mta.rcpt(to).expect("an answer");
    if answer.is_continue() {
        answer = mta.data().expect("an answer");
        if answer.is_continue() {
            answer = mta.end_of_message().expect("an answer");
        }
    }
    mta.abort();
    mta.abort();
    mta.quit().expect("a clean end");
    answer
}

#[test]
fn new_recipient_is_deferred_and_its_retry_passes_with_a_header() {
    let world = World::new();
    for (endpoint, to) in [
        (world.inet(), "inet@y.example"),
        (world.unix(), "unix@y.example"),
    ] {
        assert_eq!(deliver(endpoint, "a@x.example", to).status, DEFERRED);
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(deliver(endpoint, "a@x.example", to).status, DEFERRED);
        world.clock.advance(DELAY);
        let passed = deliver(endpoint, "a@x.example", to);
        assert_eq!(
            passed.actions,
            [r"hX-Greylist\x00 delayed 240 seconds by mx.example (greygate), passed by tuple\x00"]
        );
        assert_eq!(passed.status, "c");
    }
    world.wait_for_metric(r#"milter_ended_total{reason="quit"}"#, 6);
    assert_eq!(
        world.metric(r#"milter_connections_total{listener="unix"}"#),
        3
    );
    assert_eq!(world.metric(r#"milter_deferrals_total{stage="rcpt"}"#), 4);
    assert_eq!(world.metric("milter_headers_added_total"), 2);
    world.wait_for_metric("milter_connections_open", 0);
}

#[test]
fn known_recipient_is_accepted_at_data() {
    let world = World::new();
    let answer = deliver(world.inet(), "a@x.example", "known@y.example");
    assert_eq!(answer.status, "a");
}

#[test]
fn options_agreed_with_postfix_leave_two_round_trips() {
    let world = World::new();
    let (_, terms) = Mta::negotiate(world.inet(), POSTFIX).expect("terms");
    assert_eq!(terms, [6, 0x101, 0x18_79c0]);
}

#[test]
fn recipient_refused_by_the_mta_is_not_judged_but_told() {
    let world = World::new();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    let answer = mta.rejected_rcpt("nobody@y.example").expect("an answer");
    assert!(answer.is_continue());
    mta.quit().expect("a clean end");
    assert!(world.table.seen().is_empty());
    assert_eq!(
        world.table.heard(),
        ["rejected <a@x.example> nobody@y.example"]
    );
    assert_eq!(world.metric("milter_recipients_rejected_total"), 1);
}

#[test]
fn probe_that_quits_counts_for_nothing() {
    let world = World::new();
    for sender in ["", "double-bounce@mx.example"] {
        let mut mta = world.session();
        mta.mail(sender).expect("held");
        assert!(mta.rcpt("b@y.example").expect("an answer").is_continue());
        mta.abort();
        mta.quit().expect("a clean end");
    }
    assert!(world.table.seen().is_empty());
    assert_eq!(world.metric("milter_probes_quit_total"), 2);
}

#[test]
fn bounce_is_deferred_at_data_and_passes_later() {
    let world = World::new();
    assert_eq!(deliver(world.inet(), "", "b@y.example").status, DEFERRED);
    assert_eq!(world.table.seen(), ["192.0.2.7 <> b@y.example"]);
    assert_eq!(world.metric(r#"milter_deferrals_total{stage="data"}"#), 1);
    world.clock.advance(DELAY);
    let passed = deliver(world.inet(), "", "b@y.example");
    assert_eq!(passed.actions.len(), 1, "{passed:?}");
}

#[test]
fn several_messages_in_a_session_do_not_touch_each_other() {
    let world = World::new();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    assert!(
        mta.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    assert_eq!(mta.data().expect("an answer").status, "a");
    mta.abort();
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("new@y.example").expect("an answer").is_deferral());
    mta.abort();
    mta.mail("z@x.example").expect("held");
    assert!(
        mta.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    assert_eq!(mta.data().expect("an answer").status, "a");
    mta.abort();
    mta.abort();
    mta.quit().expect("a clean end");
}

#[test]
fn starttls_repeats_helo_and_keeps_the_session() {
    let world = World::new();
    let mut mta = world.session();
    mta.abort();
    mta.helo("after-tls.example").expect("held");
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("b@y.example").expect("an answer").is_deferral());
    mta.quit().expect("a clean end");
}

#[test]
fn client_that_never_names_a_recipient_is_no_attempt() {
    let world = World::new();
    let mut mta = world.session();
    mta.abort();
    mta.quit().expect("a clean end");
    assert!(world.table.seen().is_empty());
}

#[test]
fn pending_recipients_beyond_the_limit_are_recorded_and_answered_at_data() {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    let world = World::under(policy, |_| ());
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    let mut statuses = Vec::new();
    for to in ["1@y", "known@y", "2@y", "3@y", "4@y"] {
        statuses.push(mta.rcpt(to).expect("an answer").is_deferral());
    }
    assert_eq!(statuses, [true, false, true, false, false]);
    assert_eq!(mta.data().expect("an answer").status, DEFERRED);
    assert_eq!(world.table.seen().len(), 4);
    mta.quit().expect("a clean end");
}

#[test]
fn session_keeps_the_policy_it_began_with() {
    let world = World::new();
    let mut before = world.session();
    before.flush().expect("written");
    world.wait_for_metric("milter_connections_open", 1);
    world.policy.store(Arc::new(Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    }));
    let mut after = world.session();
    for mta in [&mut before, &mut after] {
        mta.mail("a@x.example").expect("held");
    }
    assert!(before.rcpt("b@y").expect("an answer").is_deferral());
    assert!(after.rcpt("b@y").expect("an answer").is_continue());
    assert!(after.data().expect("an answer").is_deferral());
}

#[test]
fn login_counts_for_its_own_message() {
    let world = World::new();
    let mut mta = world.session();
    mta.macros(b'M', &[("{auth_authen}", "joe")]);
    mta.command(b'M', b"<a@x.example>\0").expect("held");
    assert!(mta.rcpt("b@y.example").expect("an answer").is_continue());
    mta.abort();
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("b@y.example").expect("an answer").is_deferral());
    mta.quit().expect("a clean end");
}

#[test]
fn ancient_mta_gets_an_answer_to_everything() {
    let world = World::new();
    let (mut mta, terms) = Mta::negotiate(world.inet(), ANCIENT).expect("terms");
    assert_eq!(terms, [2, 0, 0]);
    assert!(
        mta.client("mx.client.example", CLIENT)
            .expect("an answer")
            .is_continue()
    );
    assert!(mta.helo("helo").expect("an answer").is_continue());
    assert!(mta.mail("").expect("an answer").is_continue());
    assert!(mta.rcpt("b@y.example").expect("an answer").is_continue());
    let header = mta.command(b'L', b"Subject\0x\0").expect("an answer");
    assert!(header.is_deferral(), "the envelope is complete");
    mta.abort();
    assert!(mta.mail("a@x.example").expect("an answer").is_continue());
    assert!(mta.rcpt("read@y.example").expect("an answer").is_continue());
    for (kind, payload) in [
        (b'L', b"Subject\0x\0".as_slice()),
        (b'N', b""),
        (b'B', b"body"),
    ] {
        assert!(mta.command(kind, payload).expect("an answer").is_continue());
    }
    assert!(mta.end_of_message().expect("an answer").is_deferral());
    mta.quit().expect("a clean end");
}

#[test]
fn mta_that_writes_the_blank_itself_gets_a_value_without() {
    let world = World::new();
    assert!(deliver(world.inet(), "a@x.example", "b@y.example").is_deferral());
    world.clock.advance(DELAY);
    let offer = [6, 0x1ff, 0x0f_ffff];
    let (mut mta, _) = Mta::negotiate(world.inet(), offer).expect("terms");
    mta.client("[192.0.2.7]", CLIENT).expect("held");
    mta.helo("helo").expect("held");
    mta.mail("a@x.example").expect("held");
    mta.rcpt("b@y.example").expect("an answer");
    mta.data().expect("an answer");
    let answer = mta.end_of_message().expect("an answer");
    assert!(
        answer.actions[0].starts_with(r"hX-Greylist\x00delayed"),
        "{answer:?}"
    );
}

#[test]
fn header_can_be_switched_off() {
    let world = World::with(|settings| settings.header = None);
    assert!(deliver(world.inet(), "a@x.example", "b@y.example").is_deferral());
    world.clock.advance(DELAY);
    assert_eq!(
        deliver(world.inet(), "a@x.example", "b@y.example").status,
        "a"
    );
}
