//! Messages that are read to their end.

use super::*;

#[test]
fn message_that_is_to_be_read_goes_on_to_its_end_and_is_deferred_there() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("read@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'L', b"Message-ID\0 <1@x>\0"), "");
    assert_eq!(talk.says(b'B', b"Hello\r\n"), "");
    assert!(talk.told().is_empty(), "not before it is complete");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(talk.told(), ["content <a@x.example> read@y 42"]);
    assert_eq!(talk.metrics.contents_read.get(), 1);
    assert_eq!(talk.metrics.deferrals.at(Stage::EndOfMessage).get(), 1);
    assert_eq!(talk.says(b'E', b""), "c", "nothing is left");
    assert_eq!(talk.told().len(), 1);
}

#[test]
fn message_that_passes_is_read_and_gets_its_header() {
    let passes = [("heard@y", PassReason::Passed), ("b@y", waited(187))];
    let mut talk = Talk::new(POSTFIX, &passes);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("heard@y"), "c");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    let answer = talk.says(b'E', b"a last piece");
    assert!(answer.starts_with("hX-Greylist") && answer.ends_with(" | c"));
    assert_eq!(talk.told(), ["content <a@x.example> heard@y 42"]);
}

#[test]
fn each_recipient_that_wants_it_hears_the_content() {
    let passes = [("known@y", PassReason::Passed)];
    let mut talk = Talk::new(POSTFIX, &passes);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("read@1"), "c");
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("new@y"), DEFERRED, "pending, and not to be read");
    assert_eq!(talk.rcpts("read@2"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'E', b""), DEFERRED, "one for all");
    let told = ["read@1", "read@2"].map(|to| format!("content <a@x.example> {to} 42"));
    assert_eq!(talk.told(), told);
}

#[test]
fn recipient_held_beyond_the_limit_waits_for_the_end_too() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[("heard@y", PassReason::Passed)], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("new@y"), "c");
    assert_eq!(talk.rcpts("heard@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    let told = [
        "content <a@x.example> heard@y 42",
        "held <a@x.example> new@y 42",
    ];
    assert_eq!(talk.told(), told);
}

#[test]
fn message_that_is_given_up_proves_nothing() {
    for ends in [b'A', b'H', b'M', b'K', b'C'] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails("a@x.example");
        talk.rcpts("read@y");
        talk.says(b'T', b"");
        talk.says(b'B', b"Hello");
        talk.says(ends, b"mx\x004\x30\x39192.0.2.7\0");
        talk.says(b'E', b"");
        assert!(talk.told().is_empty(), "after {}", ends as char);
        assert!(talk.session.message.is_none());
    }
}

#[test]
fn content_of_a_message_that_nobody_wants_goes_unread() {
    let mut talk = Talk::new(POSTFIX, &[("b@y", waited(9))]);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "c", "a header is due");
    assert_eq!(talk.says(b'L', b"Subject\0x\0"), "");
    assert!(talk.session.message.is_none());
    assert!(talk.says(b'E', b"").starts_with("hX-Greylist"));
    assert_eq!(talk.metrics.contents_read.get(), 0);
}

#[test]
fn message_is_read_from_an_mta_that_does_not_tell_data() {
    let mut talk = Talk::new(ANCIENT, &[]);
    talk.greets();
    talk.mails("");
    assert_eq!(talk.rcpts("read@y"), "c");
    for (kind, payload) in [
        (b'L', b"Subject\0x\0".as_slice()),
        (b'N', b""),
        (b'B', b"x"),
    ] {
        assert_eq!(talk.says(kind, payload), "c");
    }
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(talk.told(), ["content <> read@y 42"]);
}

#[test]
fn refusal_at_rcpt_forgets_what_was_to_be_read() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("read@y"), "c");
    assert!(talk.rcpts("sentenced@y").starts_with("y421"));
    talk.says(b'E', b"");
    assert!(talk.told().is_empty());
}

#[test]
fn recipient_that_cannot_be_kept_is_deferred_unread() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    let long = format!("read@{}", "y".repeat(5_000));
    let kept = (0..20).filter(|_| talk.rcpts(&long) == "c").count();
    assert_eq!(kept, 20);
    assert_eq!(talk.metrics.recipients_unread.get(), 7);
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(talk.told().len(), 13);
}
