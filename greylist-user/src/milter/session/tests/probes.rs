//! Senders that probe rather than send: the null reverse-path and its like.

use super::*;

#[test]
fn probe_is_never_refused_at_rcpt_and_counts_for_nothing_when_it_quits() {
    for sender in ["", "double-bounce@mx.example"] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails(sender);
        assert_eq!(talk.rcpts("b@y"), "c");
        let next = talk.try_says(b'Q', b"", &mut Vec::new());
        assert_eq!(next, Ok(Next::Close));
        assert!(talk.asked().is_empty());
        assert_eq!(talk.metrics.probes_quit.get(), 1);
    }
}

#[test]
fn bounce_is_deferred_at_data_and_every_recipient_recorded() {
    let mut talk = Talk::new(POSTFIX, &[("c@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(talk.asked().len(), 2);
    assert_eq!(talk.metrics.probes_quit.get(), 0);
}

#[test]
fn bounce_that_waited_gets_its_header() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", waited(200))]);
    talk.greets();
    talk.mails("");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "c");
    assert!(talk.says(b'E', b"").starts_with("hX-Greylist"));
    assert_eq!(talk.asked().len(), 1, "judged once");
}

#[test]
fn bounce_recipient_named_after_data_is_judged_too() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", waited(200))]);
    talk.greets();
    talk.mails("");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "c", "another milter may refuse");
    assert_eq!(talk.rcpts("new@y"), "c");
    assert_eq!(talk.says(b'T', b""), DEFERRED);
}

#[test]
fn bounce_is_read_when_its_judgement_at_data_wants_so() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("");
    for to in ["known@y", "read@y", "new@y"] {
        assert_eq!(talk.rcpts(to), "c");
    }
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.asked().len(), 3);
    assert_eq!(talk.says(b'B', b"Hello"), "");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(talk.told(), ["content <> read@y 42", "held <> new@y 42"]);
    assert_eq!(talk.asked().len(), 3, "judged once");
}

#[test]
fn probe_whose_content_decides_is_read_and_deferred_at_its_end() {
    for sender in ["", "double-bounce@mx.example"] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        for (verdict, answer) in [
            (Verdict::Defer(DeferReason::ContentNew), DEFERRED),
            (Verdict::Pass(PassReason::ContentAgain), "c"),
        ] {
            talk.reads("roams@y", verdict);
            talk.mails(sender);
            assert_eq!(talk.rcpts("roams@y"), "c");
            assert_eq!(talk.says(b'T', b""), "c");
            assert_eq!(talk.says(b'B', b"Undeliverable"), "");
            assert_eq!(talk.says(b'E', b""), answer);
        }
        let told = talk.told().len();
        assert_eq!(told, 3, "judged twice, and passed once");
    }
}

#[test]
fn probe_that_goes_away_after_data_was_an_attempt_without_a_message() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("");
    talk.rcpts("roams@y");
    assert_eq!(talk.says(b'T', b""), "c");
    talk.says(b'A', b"");
    assert_eq!(talk.asked().len(), 1);
    assert!(talk.told().is_empty());
    assert_eq!(talk.metrics.probes_quit.get(), 0);
}

#[test]
fn probe_is_not_deferred_alone_beside_recipients_that_pass() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("");
    for to in ["known@y", "first@1", "first@2", "new@y"] {
        assert_eq!(talk.rcpts(to), "c");
    }
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'E', b"x"), DEFERRED);
    assert_eq!(
        talk.told(),
        [
            "judged <> first@1 42",
            "judged <> first@2 42",
            "held <> new@y 42"
        ]
    );
}

#[test]
fn bounce_of_a_client_without_an_address_is_neither_judged_nor_a_message_of_the_funnel() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.says(b'C', b"localhost\0L\0\0/run/socket\0");
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a");
    talk.says(b'A', b"");
    assert!(talk.asked().is_empty());
    assert_eq!(talk.metrics.recipients_without_address.get(), 1);
    let seen = talk.metrics.funnel.tallies().map(|(_, it)| it.messages);
    assert_eq!(seen.iter().sum::<u64>(), 0, "{seen:?}");
}

#[test]
fn recipients_of_a_probe_beyond_what_is_kept_pass_unjudged_and_are_counted() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("");
    let long = format!("b@{}", "y".repeat(5_000));
    assert!((0..20).all(|_| talk.rcpts(&long) == "c"));
    assert_eq!(talk.metrics.recipients_unkept.get(), 7);
}
