//! Messages whose content decides.

use super::*;

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
    assert_eq!(talk.metrics.contents_read.get(), 1);
    assert_eq!(talk.metrics.deferrals.at(Stage::EndOfMessage).get(), 1);
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.says(b'E', b""), "c", "nothing is left");
    assert_eq!(talk.told().len(), 1);
}

#[test]
fn message_that_came_again_goes_through_and_its_pass_is_noted_once() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.reads("roams@y", content(300));
    talk.greets();
    let answer = talk.sends(&["roams@y"], &[b"Hello\r\n"]);
    assert!(answer.ends_with(" | c"), "{answer}");
    let told = ["judged", "passed"].map(|it| format!("{it} <a@x.example> roams@y 42"));
    assert_eq!(talk.told(), told);
    assert_eq!(talk.says(b'E', b""), "c");
    assert_eq!(talk.told(), told);
}

#[test]
fn message_id_that_the_mta_made_up_is_none() {
    let mut names = Vec::new();
    for (queue_id, header) in [
        ("4ABC", "Message-ID\0 <20260101000000.4ABC@mx.example>\0"),
        ("5DEF", "Message-ID\0 <20260101000500.5DEF@mx.example>\0"),
        ("6GHI", "X-Other\0 no Message-ID at all\0"),
        ("7JKL", "Message-ID\0 <1@sender.example>\0"),
    ] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails("a@x.example");
        talk.rcpts("roams@y");
        talk.says(b'D', format!("Ti\0{queue_id}\0").as_bytes());
        talk.says(b'T', b"");
        talk.says(b'L', header.as_bytes());
        talk.says(b'B', b"Hello\r\n");
        talk.says(b'E', b"");
        names.extend(fingerprints(&talk).iter().copied());
    }
    assert_eq!(names.len(), 4);
    assert_eq!([names[0], names[1]], [names[2]; 2]);
    assert_ne!(names[0], names[3], "the sender's own counts");
}

#[test]
fn every_recipient_is_judged_before_the_first_pass_is_noted() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.reads("roams@1", content(300));
    talk.reads("roams@2", Verdict::Pass(PassReason::ContentAgain));
    talk.greets();
    talk.sends(&["roams@1", "known@y", "roams@2"], &[b"x"]);
    let told = [
        "judged <a@x.example> roams@1 42",
        "judged <a@x.example> roams@2 42",
        "passed <a@x.example> roams@1 42",
        "passed <a@x.example> roams@2 42",
    ];
    assert_eq!(talk.told(), told);
}

#[test]
fn recipient_that_has_to_wait_defers_all_and_nothing_is_spent() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.reads("roams@1", content(300));
    talk.greets();
    let answer = talk.sends(&["known@y", "roams@1", "roams@2", "roams@3"], &[b"x"]);
    assert_eq!(answer, DEFERRED, "one for all");
    let told = talk.told();
    assert!(told.iter().all(|it| it.starts_with("judged")), "{told:?}");
    assert_eq!(told.len(), 3, "all are on record for the next round");
    assert_eq!(talk.metrics.headers_added.get(), 0);
}

#[test]
fn held_recipient_defers_what_its_content_would_let_through() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.reads("roams@y", content(300));
    talk.greets();
    assert_eq!(talk.sends(&["new@y", "roams@y"], &[b"x"]), DEFERRED);
    let told = [
        "judged <a@x.example> roams@y 42",
        "held <a@x.example> new@y 42",
    ];
    assert_eq!(talk.told(), told);
}

#[test]
fn recipient_that_waited_is_on_record_with_the_message_that_another_holds() {
    let mut talk = Talk::new(
        POSTFIX,
        &[("waited@y", waited(187)), ("known@y", PassReason::Passed)],
    );
    talk.greets();
    let to = ["known@y", "waited@y", "roams@y"];
    assert_eq!(talk.sends(&to, &[b"x"]), DEFERRED);
    let told = [
        "judged <a@x.example> roams@y 42",
        "held <a@x.example> waited@y 42",
    ];
    assert_eq!(talk.told(), told);
    talk.reads("roams@y", content(300));
    assert!(talk.sends(&to, &[b"x"]).ends_with('c'));
    assert!(
        !talk.told()[2..].iter().any(|it| it.starts_with("held")),
        "nobody waits"
    );
}

#[test]
fn evidence_is_heard_beside_what_content_decides_on() {
    let mut talk = Talk::new(POSTFIX, &[("heard@y", PassReason::Passed)]);
    talk.reads("roams@y", content(300));
    talk.greets();
    assert!(talk.sends(&["roams@y", "heard@y"], &[b"x"]).ends_with('c'));
    let told = ["content", "judged", "passed"].map(|it| {
        let to = if it == "content" {
            "heard@y"
        } else {
            "roams@y"
        };
        format!("{it} <a@x.example> {to} 42")
    });
    assert_eq!(talk.told(), told);
}

#[test]
fn recipient_that_cannot_be_kept_is_deferred_at_rcpt_whatever_the_limit() {
    let policy = Policy {
        rcpt_deferrals: 0,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.greets();
    talk.mails("a@x.example");
    let long = format!("roams@{}", "y".repeat(5_000));
    let answers: Vec<_> = (0..15).map(|_| talk.rcpts(&long)).collect();
    assert!(answers[..13].iter().all(|it| it == "c"));
    assert_eq!(answers[13..], [DEFERRED; 2]);
    assert_eq!(talk.metrics.recipients_unread.get(), 2);
    talk.reads(&long, content(300));
    assert_eq!(talk.says(b'T', b""), "c");
    assert!(
        talk.says(b'E', b"x").ends_with('c'),
        "for those it has kept"
    );
}

#[test]
fn word_of_a_judge_that_would_read_again_is_a_deferral() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.reads("roams@y", Verdict::Read(ReadReason::Mode));
    talk.greets();
    assert_eq!(talk.sends(&["roams@y"], &[b"x"]), DEFERRED);
    assert_eq!(talk.told().len(), 1);
}

#[test]
fn client_that_its_content_gets_refused_hears_so_at_the_end() {
    let bad = RefuseReason::BadReputation { permanently: true };
    for (reason, codes) in [
        (bad, "y550 5.7.1 "),
        (RefuseReason::Sentenced, "y421 4.7.0 "),
    ] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.reads("roams@1", Verdict::Refuse(reason));
        talk.reads("roams@2", content(300));
        talk.greets();
        let answer = talk.sends(&["roams@1", "roams@2"], &[b"x"]);
        assert!(answer.starts_with(codes), "{answer}");
        let told = talk.told();
        assert!(told.iter().all(|it| it.starts_with("judged")), "{told:?}");
    }
}

#[test]
fn client_that_is_sentenced_while_it_sends_begins_no_wait() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("roams@y");
    assert_eq!(talk.says(b'T', b""), "c");
    talk.table.sentenced.store(true, Ordering::Relaxed);
    assert!(talk.says(b'E', b"x").starts_with("y421 4.7.0 "));
    assert_eq!(talk.told(), ["content <a@x.example> roams@y 42"]);
}

#[test]
fn message_that_is_given_up_is_not_judged() {
    for ends in [b'A', b'H', b'M', b'K', b'C'] {
        let mut talk = Talk::new(POSTFIX, &[]);
        talk.greets();
        talk.mails("a@x.example");
        talk.rcpts("roams@y");
        talk.says(b'T', b"");
        talk.says(b'B', b"Hello");
        talk.says(ends, b"mx\x004\x30\x39192.0.2.7\0");
        talk.says(b'E', b"");
        assert!(talk.told().is_empty(), "after {}", ends as char);
        assert!(talk.session.message.is_none());
    }
}

#[test]
fn empty_message_is_judged_where_the_mta_does_not_tell_data() {
    let mut talk = Talk::new(ANCIENT, &[]);
    talk.greets();
    talk.mails("");
    talk.rcpts("roams@y");
    assert_eq!(talk.says(b'E', b""), DEFERRED);
    assert_eq!(*fingerprints(&talk), [None], "its body is empty");
    talk.mails("");
    talk.rcpts("roams@y");
    assert_eq!(talk.says(b'E', b"the only piece"), DEFERRED);
    assert!(fingerprints(&talk)[1].is_some());
}

#[test]
fn changed_byte_makes_another_message_and_another_division_does_not() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    let messages: [&[&[u8]]; 4] = [
        &[b"Hello", b" world\r\n"],
        &[b"H", b"ello world", b"\r\n"],
        &[b"Hello", b" worle\r\n"],
        &[b"Hello", b" world\r\n", b"\r\n"],
    ];
    for pieces in messages {
        assert_eq!(talk.sends(&["roams@y"], pieces), DEFERRED);
    }
    let named = fingerprints(&talk);
    assert_eq!(named[0], named[1]);
    assert_ne!(named[0], named[2]);
    assert_ne!(named[0], named[3]);
    assert!(named.iter().all(Option::is_some));
}

#[test]
fn message_of_20_mb_is_read_whole_in_constant_memory() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    let piece = vec![b'x'; 65_535];
    for last in [b"a", b"b"] {
        talk.mails("a@x.example");
        talk.rcpts("roams@y");
        assert_eq!(talk.says(b'T', b""), "c");
        assert_eq!(talk.says(b'L', b"Message-ID\0 <1@x>\0"), "");
        let before = held(&talk.session);
        let mut out = Vec::new();
        for _ in 0..20_000_000 / piece.len() {
            talk.try_says(b'B', &piece, &mut out).expect("in order");
        }
        talk.try_says(b'B', last, &mut out).expect("in order");
        assert_eq!(held(&talk.session), before);
        assert_eq!(out.capacity(), 0, "nothing is said meanwhile");
        assert_eq!(talk.says(b'E', b""), DEFERRED);
    }
    let named = fingerprints(&talk);
    assert_ne!(named[0], named[1], "the last byte counts");
    assert!(talk.session.message.is_none());
}

/// What a session holds of memory.
fn held(session: &Session) -> usize {
    let message = session.message.as_deref().map_or(0, size_of_val);
    size_of_val(session) + session.envelope.capacity() + message
}

fn fingerprints(talk: &Talk) -> std::sync::MutexGuard<'_, Vec<Option<Fingerprint>>> {
    talk.table.fingerprints.lock().expect("no judge panics")
}
