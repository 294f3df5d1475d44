//! Messages to several recipients, of which some pass and some do not: who delays whom.

use super::*;

const KNOWN: (&str, PassReason) = ("known@y", PassReason::Passed);

fn policy(rcpt_deferrals: u32) -> Policy {
    Policy {
        rcpt_deferrals,
        ..Policy::default()
    }
}

#[test]
fn unknown_recipient_is_deferred_alone_where_another_passes() {
    let mut talk = Talk::new(POSTFIX, &[KNOWN]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("first@y"), DEFERRED);
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
    assert_eq!(talk.says(b'T', b""), "a", "nobody waits for its content");
    assert_eq!(talk.metrics.deferrals.at(Stage::Rcpt).get(), 2);
}

#[test]
fn unknown_recipient_is_kept_where_none_passes_yet() {
    let mut talk = Talk::new(POSTFIX, &[KNOWN]);
    talk.greets();
    assert_eq!(
        talk.sends(&["first@1", "first@2", "known@y"], &[b"x"]),
        DEFERRED
    );
    assert_eq!(talk.told().len(), 2);
}

#[test]
fn unknown_recipients_beyond_the_limit_are_kept_though_another_passes() {
    let mut talk = Talk::under(POSTFIX, &[KNOWN], policy(1));
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("first@1"), DEFERRED);
    assert_eq!(talk.rcpts("first@2"), "c");
    assert_eq!(talk.says(b'T', b""), "c");
    assert_eq!(talk.says(b'E', b"x"), DEFERRED);
    assert_eq!(talk.told(), ["judged <a@x.example> first@2 42"]);
}

#[test]
fn recipient_that_came_before_is_kept_though_another_passes() {
    for to in ["again@y", "roams@y"] {
        let mut talk = Talk::new(POSTFIX, &[KNOWN]);
        talk.reads(to, content(300));
        talk.greets();
        let answer = talk.sends(&["known@y", to], &[b"x"]);
        assert!(answer.ends_with(" | c"), "{to}: {answer}");
    }
}

#[test]
fn unknown_recipients_go_on_where_another_comes_again() {
    // What comes again, and what is said at DATA and at the end if it passes.
    for comes in ["waited@y", "again@y", "roams@y"] {
        let mut talk = Talk::new(POSTFIX, &[KNOWN, ("waited@y", waited(187))]);
        talk.reads(comes, content(300));
        talk.greets();
        talk.mails("a@x.example");
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.rcpts(comes), "c");
        assert_eq!(talk.rcpts("new@y"), "c", "beside {comes}");
        assert_eq!(talk.rcpts("first@y"), "c", "beside {comes}");
        assert_eq!(talk.rcpts("early@y"), DEFERRED, "it is on record");
        assert_eq!(talk.says(b'T', b""), "c");
        assert_eq!(talk.says(b'E', b"x"), DEFERRED);
        assert_eq!(talk.asked().len(), 5);
    }
}

#[test]
fn held_recipients_of_a_cut_round_are_deferred_at_data_if_nothing_is_to_be_read() {
    let mut talk = Talk::new(POSTFIX, &[KNOWN, ("waited@y", waited(187))]);
    talk.greets();
    talk.mails("a@x.example");
    for to in ["known@y", "waited@y", "new@1", "new@2"] {
        assert_eq!(talk.rcpts(to), "c");
    }
    assert_eq!(talk.says(b'T', b""), DEFERRED);
    assert_eq!(talk.metrics.deferrals.at(Stage::Data).get(), 1);
}

#[test]
fn unknown_recipient_before_one_that_comes_again_is_deferred_alone() {
    let mut talk = Talk::new(POSTFIX, &[("waited@y", waited(187))]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
    assert_eq!(talk.rcpts("waited@y"), "c");
    assert_eq!(talk.says(b'T', b""), "c", "a header is due");
    assert!(talk.says(b'E', b"").ends_with(" | c"));
}

#[test]
fn what_comes_again_is_of_its_own_message_only() {
    let mut talk = Talk::new(POSTFIX, &[KNOWN]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("roams@y"), "c");
    talk.says(b'A', b"");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
    assert_eq!(talk.rcpts("first@1"), "c", "none passes here");
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("first@2"), DEFERRED);
}

#[test]
fn what_a_message_may_prove_is_read_though_its_recipient_is_new_and_another_passes() {
    let mut talk = Talk::new(POSTFIX, &[KNOWN]);
    talk.greets();
    assert_eq!(talk.sends(&["known@y", "read@y"], &[b"x"]), DEFERRED);
    assert_eq!(talk.told(), ["content <a@x.example> read@y 42"]);
}
