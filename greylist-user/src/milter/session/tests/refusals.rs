//! Clients that are turned away.

use super::*;

const TURNED_AWAY: &str = r"y421 4.7.0 Your host is limited for a while for how it behaved here; contact postmaster@mx??evil???.example if this is wrong\x00";
const REFUSED: &str = r"The network of your host has a bad reputation here; contact postmaster@mx??evil???.example if this is wrong\x00";
const DENIED: &str = r"Mail from your host or sender is not taken here; contact postmaster@mx??evil???.example if this is wrong\x00";

#[test]
fn sentenced_client_is_told_421_at_rcpt_and_nothing_of_it_is_kept() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    assert_eq!(talk.mails("a@x.example"), "", "MAIL is not answered");
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.rcpts("sentenced@y"), TURNED_AWAY);
    assert!(talk.session.is_between_transactions());
    assert_eq!(talk.session.envelope.reverse_path(), b"");
    assert_eq!(talk.metrics.turned_away.get(), 1);
}

#[test]
fn sentenced_probe_is_told_421_at_data() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.greets();
    talk.mails("");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.rcpts("sentenced@y"), "c");
    assert_eq!(talk.rcpts("c@y"), "c");
    assert_eq!(talk.says(b'T', b""), TURNED_AWAY);
    assert_eq!(talk.asked().len(), 2, "the rest is not judged");
    assert_eq!(talk.metrics.probes_quit.get(), 0);
}

#[test]
fn client_that_is_sentenced_after_its_recipients_is_told_421_at_data() {
    let passes = [("known@y", PassReason::Passed), ("heard@y", waited(187))];
    for to in ["known@y", "heard@y", "read@y"] {
        let mut talk = Talk::new(POSTFIX, &passes);
        talk.greets();
        talk.mails("a@x.example");
        assert_eq!(talk.rcpts(to), "c");
        talk.table.sentenced.store(true, Ordering::Relaxed);
        assert_eq!(talk.says(b'T', b""), TURNED_AWAY, "{to}");
        assert!(talk.session.is_between_transactions());
        assert_eq!(talk.metrics.turned_away.get(), 1);
        assert_eq!(talk.asked().len(), 1, "no attempt is made of it");
    }
}

#[test]
fn client_that_is_sentenced_while_it_sends_is_told_421_at_the_end_and_its_content_is_heard() {
    let passes = [("b@y", waited(187))];
    for (to, told) in [("b@y", 0), ("read@y", 1)] {
        let mut talk = Talk::new(POSTFIX, &passes);
        talk.greets();
        talk.mails("a@x.example");
        assert_eq!(talk.rcpts(to), "c");
        assert_eq!(talk.says(b'T', b""), "c");
        talk.table.sentenced.store(true, Ordering::Relaxed);
        assert_eq!(talk.says(b'E', b"x"), TURNED_AWAY, "{to}");
        assert_eq!(talk.told().len(), told);
        assert_eq!(talk.metrics.headers_added.get(), 0);
    }
}

#[test]
fn client_that_is_protected_is_not_told_of_a_sentence() {
    let mut talk = Talk::new(POSTFIX, &[]);
    talk.table.sentenced.store(true, Ordering::Relaxed);
    talk.greets();
    talk.says(b'D', b"M{auth_authen}\0joe\0");
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("b@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a");
}

#[test]
fn mta_that_does_not_tell_data_hears_421_at_the_first_header_or_the_end() {
    for (kind, payload) in [
        (b'L', b"Subject\0x\0".as_slice()),
        (b'B', b"x"),
        (b'E', b""),
    ] {
        let mut talk = Talk::new(ANCIENT, &[]);
        talk.greets();
        talk.mails("");
        assert_eq!(talk.rcpts("sentenced@y"), "c");
        assert_eq!(talk.says(kind, payload), TURNED_AWAY);
    }
}

#[test]
fn mta_that_does_not_hang_up_hears_421_again_and_the_judge_nothing() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("sentenced@y"), TURNED_AWAY);
    assert_eq!(talk.rcpts("known@y"), TURNED_AWAY);
    assert_eq!(talk.says(b'T', b""), TURNED_AWAY);
    talk.says(b'A', b"");
    assert_eq!(talk.mails("a@x.example"), "");
    assert_eq!(talk.rcpts("known@y"), TURNED_AWAY);
    assert_eq!(talk.says(b'E', b""), TURNED_AWAY);
    assert_eq!(talk.asked().len(), 1);
    assert_eq!(talk.metrics.turned_away.get(), 1);
    talk.says(b'K', b"");
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("known@y"), "c", "another client");
}

#[test]
fn bad_reputation_is_refused_at_rcpt_for_good_or_for_now() {
    let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("bad@y"), format!("y550 5.7.1 {REFUSED}"));
    assert_eq!(talk.rcpts("poor@y"), format!("y451 4.7.1 {REFUSED}"));
    assert_eq!(talk.rcpts("known@y"), "c");
    assert_eq!(talk.says(b'T', b""), "a");
    assert_eq!(talk.metrics.refusals.get(), 2);
}

#[test]
fn refusals_do_not_use_up_the_deferrals_of_a_session() {
    let policy = Policy {
        rcpt_deferrals: 1,
        ..Policy::default()
    };
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.greets();
    talk.mails("a@x.example");
    talk.rcpts("poor@y");
    assert_eq!(talk.rcpts("new@y"), DEFERRED);
}

#[test]
fn probe_of_bad_reputation_is_refused_at_data_each_time_it_is_said() {
    for (to, codes) in [("bad@y", "550 5.7.1"), ("poor@y", "451 4.7.1")] {
        let mut talk = Talk::new(POSTFIX, &[("known@y", PassReason::Passed)]);
        talk.greets();
        talk.mails("");
        assert_eq!(talk.rcpts(to), "c");
        let refused = format!("y{codes} {REFUSED}");
        assert_eq!(talk.says(b'T', b""), refused);
        assert_eq!(talk.rcpts("known@y"), "c");
        assert_eq!(talk.says(b'T', b""), refused);
        assert_eq!(talk.asked().len(), 2, "each is judged once");
    }
}

#[test]
fn refusal_names_the_contact_of_the_sessions_policy() {
    let mut policy = Policy::default();
    "https://example.org/50%".clone_into(&mut policy.punish.contact);
    let mut talk = Talk::under(POSTFIX, &[], policy);
    talk.greets();
    talk.mails("a@x.example");
    let answer = talk.rcpts("sentenced@y");
    assert!(answer.contains(" https://example.org/50%% "), "{answer}");
}

#[test]
fn denied_client_is_told_550_at_rcpt_and_one_allowed_recipient_among_others_passes_alone() {
    let mut talk = Talk::new(POSTFIX, &[("abuse@y", PassReason::Allowed)]);
    talk.greets();
    talk.mails("a@x.example");
    let refused = format!("y550 5.7.1 {DENIED}");
    assert_eq!(talk.rcpts("denied@1"), refused);
    assert_eq!(talk.rcpts("abuse@y"), "c");
    assert_eq!(talk.rcpts("denied@2"), refused);
    assert_eq!(talk.says(b'T', b""), "a");
    assert_eq!(talk.metrics.refusals.get(), 2);
}

#[test]
fn refused_probe_is_told_at_data_and_deferred_if_another_recipient_is_allowed() {
    for (recipients, told) in [
        (&["denied@y"][..], format!("y550 5.7.1 {DENIED}")),
        (&["denied@y", "known@y"], format!("y550 5.7.1 {DENIED}")),
        (&["abuse@y"], "a".to_owned()),
        (&["abuse@y", "denied@y"], DEFERRED.to_owned()),
        (&["denied@y", "abuse@y"], DEFERRED.to_owned()),
        (&["abuse@y", "sentenced@y"], DEFERRED.to_owned()),
        (&["sentenced@y", "abuse@y"], TURNED_AWAY.to_owned()),
        (&["abuse@y", "bad@y"], DEFERRED.to_owned()),
        (&["bad@y", "abuse@y"], DEFERRED.to_owned()),
        (&["bad@y", "known@y"], format!("y550 5.7.1 {REFUSED}")),
    ] {
        let passes = [
            ("abuse@y", PassReason::Allowed),
            ("known@y", PassReason::Passed),
        ];
        let mut talk = Talk::new(POSTFIX, &passes);
        talk.greets();
        talk.mails("");
        for recipient in recipients {
            assert_eq!(talk.rcpts(recipient), "c", "a probe is not refused at RCPT");
        }
        assert_eq!(talk.says(b'T', b""), told, "{recipients:?}");
    }
}

#[test]
fn message_to_an_allowed_recipient_passes_though_its_client_was_sentenced_meanwhile() {
    let mut talk = Talk::new(POSTFIX, &[("abuse@y", PassReason::Allowed)]);
    talk.greets();
    talk.mails("a@x.example");
    assert_eq!(talk.rcpts("abuse@y"), "c");
    talk.table.sentenced.store(true, Ordering::Relaxed);
    assert_eq!(talk.says(b'T', b""), "a");
}
