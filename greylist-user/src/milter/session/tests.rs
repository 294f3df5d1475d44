//! The session against a table judge, byte by byte. `reader` holds it against a model of an MTA's
//! reader.

mod content;
mod header;
mod memory;
mod mixed;
mod probes;
mod reader;
mod reading;
mod refusals;
mod table;
mod talk;
mod words;

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use super::*;
use crate::{
    milter::{
        frame::Frame,
        metrics::Stage,
        negotiate::Offer,
        settings::{HeaderOn, Settings},
    },
    policy::{DeferReason, Fingerprint, PassReason, ReadReason, Verdict},
};

use self::table::Word;
use self::talk::{ANCIENT, DEFERRED, POSTFIX, Talk, content, offer_payload, shown, waited};

#[test]
fn defers_unknown_recipient_at_rcpt() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    assert_eq!(talk.mails("a@x.example"), "");
    assert_eq!(talk.rcpts("b@y.example"), DEFERRED);
    assert_eq!(talk.asked(), ["192.0.2.7 <a@x.example> b@y.example 42"]);
}

#[test]
fn passing_message_is_accepted_at_data() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert!(!talk.session.is_between_transactions());
    assert_eq!(talk.says(b'T', b""), "a");
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.says(b'A', b""), "");
}

#[test]
fn recipient_refused_by_the_mta_is_counted_not_judged() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.says(b'D', b"R{rcpt_mailer}\0error\0");
    assert_eq!(talk.rcpts("nobody@y"), "c");
    assert!(talk.asked().is_empty());
    assert_eq!(talk.metrics.recipients_rejected.get(), 1);
    talk.says(b'D', b"R{rcpt_mailer}\0local\0");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    assert!(talk.told().is_empty(), "nobody said that it was for good");
}

#[test]
fn recipient_refused_for_good_is_told_to_the_judge() {
    for (status, sender, told) in [
        (
            "5.1.1",
            "a@x.example",
            vec!["rejected <a@x.example> nobody@y 42"],
        ),
        ("5.1.1", "", vec!["rejected <> nobody@y 42"]),
        ("4.3.2", "a@x.example", vec![]),
        ("", "a@x.example", vec![]),
    ] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails(sender);
        let macros = format!("R{{rcpt_mailer}}\0error\0{{rcpt_host}}\0{status}\0");
        talk.says(b'D', macros.as_bytes());
        assert_eq!(talk.rcpts("nobody@y"), "c");
        assert_eq!(talk.told(), told, "{status}");
        assert!(talk.asked().is_empty());
    }
}

#[test]
fn server_addresses_are_told_apart() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", PassReason::Passed)]);
    for address in [
        "192.0.2.1",
        "IPv6:2001:db8::1",
        "0.0.0.0",
        "2001:db8::1",
        "what",
        "192.0.2.1",
    ] {
        let macros = format!("C{{daemon_addr}}\0{address}\0");
        talk.says(b'D', macros.as_bytes());
        talk.greets();
        talk.mails("a@x.example");
        talk.rcpts("b@y");
        talk.says(b'K', b"");
    }
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    let servers = talk.table.servers.lock().expect("no judge panics");
    let bits: Vec<_> = servers.iter().map(|server| server.bit()).collect();
    assert_eq!(bits, [1, 2, 0, 2, 0, 1, 0]);
}

#[test]
fn session_begins_when_the_mta_connects_not_when_it_tells_so() {
    let mut talk = Talk::new(POSTFIX, &[]);
    // Postfix tells all of it with the first RCPT.
    talk.now = Timestamp::from_millis(5_000);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    talk.says(b'K', b"");
    talk.now = Timestamp::from_millis(9_000);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    let connected = talk.table.connected.lock().expect("no judge panics");
    assert_eq!(*connected, [1, 9_000], "the next client comes later");
}

#[test]
fn addresses_beyond_the_marks_are_counted() {
    let mut talk = Talk::new(POSTFIX, &[]);
    for last in 1..=18 {
        let macros = format!("C{{daemon_addr}}\0192.0.2.{last}\0");
        talk.says(b'D', macros.as_bytes());
        talk.greets();
    }
    assert_eq!(talk.metrics.servers_unmarked.get(), 3);
}

#[test]
fn pending_recipients_beyond_the_limit_are_answered_once_at_data() {
    let policy = Policy {
        rcpt_deferrals: 2,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[("known@y", PassReason::Passed)], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("1@y"), DEFERRED);
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("2@y"), DEFERRED);
    assert_eq!(talk.rcpts("3@y"), "c");
    assert_eq!(talk.rcpts("4@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(talk.asked().len(), 5, "each is recorded");
    talk.says(b'A', b"");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("5@y"), "c", "the limit is the session's");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn data_said_again_is_deferred_again() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    for sender in ["", "a@x.example"] {
        let passes = [("known@y", PassReason::Passed)];
        let mut talk = Talk::under(POSTFIX, &passes, policy.clone());
        talk.greets();
        talk.mails(sender);
        assert_eq!(talk.rcpts("b@y"), "c");
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        // Postfix's transaction is still open, and takes more recipients.
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.says(b'T', b""), DEFERRED);
        talk.says(b'A', b"");
        talk.mails("");
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.says(b'T', b""), "a", "nothing is held any more");
    }
}

#[test]
fn refused_recipient_does_not_hold_the_others() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a");
}

#[test]
fn never_refusing_at_rcpt_is_a_setting() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("1@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn login_name_is_of_its_own_transaction_only() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.says(b'D', b"M{auth_authen}\0joe\0");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
    talk.says(b'D', b"M{auth_authen}\0joe\0");
    talk.says(b'A', b"");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), DEFERRED);
}

#[test]
fn nothing_leaks_into_the_next_message() {
    let mut talk = Talk::new(
        POSTFIX,
        &[("b@y", waited(200)), ("c@y", PassReason::Passed)],
    );
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    talk.says(b'A', b"");
    talk.mails("z@x.example");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a", "no header is due here");
    assert_eq!(talk.asked()[1], "192.0.2.7 <z@x.example> c@y 42");
}

#[test]
fn second_helo_ends_the_transaction() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.says(b'H', b"again.example\0");
    assert!(talk.session.is_between_transactions());
    let error = talk.try_says(b'R', b"<b@y>\0", &mut Vec::new());
    assert_eq!(error, Err(SessionError::OutOfOrder { kind: b'R' }));
}

#[test]
fn client_without_address_passes() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.says(b'C', b"localhost\0U");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert!(talk.asked().is_empty());
}

#[test]
fn ancient_mta_is_answered_at_every_stage_and_deferred_at_the_first_header() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(ANCIENT, &[], policy);
    assert_eq!(
        talk.says(b'C', b"mx\x004\x30\x39192.0.2.7\0"),
        "c",
        "connect"
    );
    assert_eq!(talk.says(b'H', b"helo\0"), "c");
    assert_eq!(talk.mails("a@x.example"), "c");
    assert_eq!(talk.rcpts("b@y"), "c");
    // It would be DATA, had it been told.
    assert_eq!(talk.says(b'L', b"Subject\0x\0"), DEFERRED);
    assert_eq!(talk.says(b'A', b""), "");
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'E', b""), DEFERRED, "an empty message");
}

#[test]
fn ancient_mta_may_keep_what_nobody_needs() {
    let mut talk = Talk::new(ANCIENT, &[("b@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'L', b"Subject\0x\0"), "a");
}

#[test]
fn options_come_first_and_once() {
    let mut talk = Talk::new(POSTFIX, &[]);
    let again = talk.try_says(b'O', &offer_payload(POSTFIX), &mut Vec::new());
    assert_eq!(again, Err(SessionError::OutOfOrder { kind: b'O' }));
    let context = Arc::clone(&talk.session.context);
    let policy = Arc::new(Policy::default());
    talk.session = Session::new(context, policy, Origin::ThisHost);
    let early = talk.try_says(b'H', b"helo\0", &mut Vec::new());
    assert_eq!(early, Err(SessionError::OutOfOrder { kind: b'H' }));
}

#[test]
fn new_client_over_the_same_connection_begins_anew() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.says(b'K', b""), "");
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.session.envelope.helo(), b"");
    assert_eq!(talk.session.client, None);
}
