//! Messages whose content decides.

use super::*;

/// The message is known to the judge, and has waited.
fn content(seconds: u64) -> Verdict {
    let waited = Duration::from_secs(seconds);
    Verdict::Pass(PassReason::Content { waited })
}

#[test]
fn message_whose_content_decides_is_read_and_deferred_at_its_end() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("roams@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'L', b"Message-ID\0 <1@x>\0"), "");
    assert_eq!(talk.says(b'B', b"Hello\r\n"), "");
    assert!(talk.told().is_empty(), "not before it is complete");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(talk.told(), ["judged <a@x.example> roams@y 42"]);
    assert_eq!(talk.metrics.deferrals.at(Stage::EndOfMessage).get(), 1);
    assert!(talk.session.is_between_transactions());
}

#[test]
fn message_that_came_again_goes_through_and_its_pass_is_noted() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.reads("roams@y", content(300));
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("roams@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'B', b"Hello\r\n"), "");
    assert_eq!(
        talk.says(b'E', b""),
        r"hX-Greylist\x00 delayed 300 seconds by mx??evil???.example (greygate), passed by content\x00 | c"
    );
    let told = ["judged", "passed"].map(|it| format!("{it} <a@x.example> roams@y 42"));
    assert_eq!(talk.told(), told);
}
