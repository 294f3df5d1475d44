//! The header that tells how a message passed.

use super::*;

#[test]
fn waited_message_gets_its_header_at_end_of_message() {
    let passes = [("b@y", waited(187)), ("c@y", waited(60))];
    let mut talk = Talk::new(POSTFIX, &passes);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(
        talk.says(b'E', b""),
        r"hX-Greylist\x00 delayed 187 seconds by mx??evil???.example (greygate), passed by tuple\x00 | c"
    );
    assert_eq!(talk.metrics.headers_added.get(), 1);
    assert_eq!(talk.says(b'E', b""), "c", "the header is added once");
}

#[test]
fn nothing_was_delayed_while_greylisting_only_observes() {
    let policy = Policy {
        action: crate::policy::Action::Observe,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[("b@y", waited(187))], policy);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a", "no header is due");
}

#[test]
fn header_without_leave_is_not_added() {
    let mut talk = Talk::new(ANCIENT, &[("b@y", waited(187))]);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'E', b""), "c");
}

#[test]
fn header_names_the_key_and_how_long_it_took() {
    let minute = Duration::from_mins(1);
    let delayed = |key: &str| {
        let words = format!("delayed 60 seconds by mx.example (greygate), passed by {key}");
        [Some(words.clone()), Some(words)]
    };
    let at_once = |key: &str| {
        let words = format!("not delayed by mx.example (greygate), passed by {key}");
        [None, Some(words)]
    };
    for (reason, expected) in [
        (PassReason::Content { waited: minute }, delayed("content")),
        (
            PassReason::Persisted { waited: minute },
            delayed("persistence"),
        ),
        (PassReason::Waited { waited: minute }, delayed("tuple")),
        (PassReason::ContentAgain, at_once("content")),
        (PassReason::ContentTrusted, at_once("content trust")),
        (PassReason::Passed, at_once("tuple")),
        (PassReason::Trusted, at_once("trust")),
        (PassReason::Allowed, [None, None]),
        (PassReason::Authenticated, [None, None]),
        (PassReason::Local, [None, None]),
        (PassReason::Observed, [None, None]),
        (PassReason::Unrecorded, [None, None]),
        (PassReason::Unsuspicious, [None, None]),
        (PassReason::Vouched, [None, None]),
    ] {
        for (header_on, expected) in [HeaderOn::Delayed, HeaderOn::Passed]
            .into_iter()
            .zip(expected)
        {
            let mut talk = marking(header_on, &[("b@y", reason)]);
            talk.mails("a@x.example");
            assert_eq!(talk.rcpts("b@y"), "c");
            let at_data = talk.says(b'T', b"");
            let Some(expected) = expected else {
                assert_eq!(at_data, "a", "nothing more needs to be shown of {reason:?}");
                continue;
            };
            assert_eq!(at_data, "c", "the header can be added at the end only");
            let answer = talk.says(b'E', b"");
            assert_eq!(answer, format!(r"hX-Greylist\x00 {expected}\x00 | c"));
        }
    }
}

#[test]
fn header_is_of_the_recipient_that_waited_longest() {
    let passes = [
        ("known@y", PassReason::Trusted),
        ("60@y", waited(60)),
        ("300@y", waited(300)),
        ("exempt@y", PassReason::Allowed),
    ];
    for (named, words) in [
        (
            ["known@y", "60@y", "300@y", "exempt@y"],
            "delayed 300 seconds",
        ),
        (
            ["300@y", "exempt@y", "60@y", "known@y"],
            "delayed 300 seconds",
        ),
        (
            ["known@y", "exempt@y", "roams@y", "60@y"],
            "delayed 90 seconds",
        ),
    ] {
        let mut talk = marking(HeaderOn::Passed, &passes);
        talk.reads("roams@y", content(90));
        let answer = talk.sends(&named, &[b"x"]);
        let key = if named.contains(&"roams@y") {
            "content"
        } else {
            "tuple"
        };
        let value = format!("{words} by mx.example (greygate), passed by {key}");
        assert_eq!(answer, format!(r"hX-Greylist\x00 {value}\x00 | c"));
        assert_eq!(talk.metrics.headers_added.get(), 1);
    }
}

#[test]
fn first_key_is_named_where_none_was_delayed() {
    let passes = [("1@y", PassReason::Trusted), ("2@y", PassReason::Passed)];
    let mut talk = marking(HeaderOn::Passed, &passes);
    let answer = talk.sends(&["1@y", "2@y"], &[]);
    assert!(answer.contains("passed by trust\\x00"), "{answer}");
}

#[test]
fn no_header_is_due_where_it_is_off() {
    let off = |settings: &mut Settings| {
        settings.header = None;
        settings.header_on = HeaderOn::Passed;
    };
    let mut talk = Talk::with(POSTFIX, &[("b@y", waited(9))], Policy::default(), off);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("b@y");
    assert_eq!(talk.says(b'T', b""), "a");
}

/// A talk of a client with a site whose header is on such mail.
fn marking(header_on: HeaderOn, passes: &[(&'static str, PassReason)]) -> Talk {
    let mut talk = Talk::with(POSTFIX, passes, Policy::default(), |settings| {
        "mx.example".clone_into(&mut settings.host);
        settings.header_on = header_on;
    });
    talk.greets();
    talk
}
