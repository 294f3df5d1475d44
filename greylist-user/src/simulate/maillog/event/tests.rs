//! Lines as Postfix 3.5 to 3.9 writes them, with the addresses of documentation.

use super::*;

fn said<'a>(daemon: &'a str, message: &'a str) -> Option<Event<'a>> {
    let program = Program {
        instance: b"postfix",
        service: b"",
        daemon: daemon.as_bytes(),
        pid: 7,
    };
    Event::parse(&program, message.as_bytes())
}

fn refused<'a>(daemon: &'a str, message: &'a str) -> Refusal<'a> {
    match said(daemon, message) {
        Some(Event::Refusal(refusal)) => refusal,
        other => panic!("{other:?} of {message}"),
    }
}

#[test]
fn clients_come_with_and_without_names_and_ports() {
    for (text, name, address) in [
        (
            "connect from mail.a.example[192.0.2.7]",
            "mail.a.example",
            "192.0.2.7",
        ),
        (
            "connect from unknown[2001:db8::7]",
            "unknown",
            "2001:db8::7",
        ),
        (
            "connect from unknown[192.0.2.7]:41234",
            "unknown",
            "192.0.2.7",
        ),
        (
            "connect from a.example[::ffff:192.0.2.7]",
            "a.example",
            "192.0.2.7",
        ),
    ] {
        let Some(Event::Connect(client)) = said("smtpd", text) else {
            panic!("{text}");
        };
        assert_eq!(client.name, name.as_bytes());
        assert_eq!(client.address.to_string(), address);
    }
    assert_eq!(said("smtpd", "connect from unknown[unknown]"), None);
    let gone = "disconnect from a[192.0.2.7] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4";
    assert_eq!(said("smtpd", gone), Some(Event::Disconnect));
}

#[test]
fn refusal_of_a_recipient_tells_its_envelope() {
    let it = refused(
        "smtpd",
        "NOQUEUE: reject: RCPT from mail.a.example[192.0.2.7]: 450 4.2.0 <r@here.example>: Recipient \
         address rejected: Greylisted, see http://postgrey.schweikert.ch/help/here.example.html; \
         from=<s@a.example> to=<r@here.example> proto=ESMTP helo=<mail.a.example>",
    );
    assert_eq!((it.class, it.has_status, it.stage), (4, true, Stage::Rcpt));
    assert!(!it.by_milter && !it.authenticated);
    assert_eq!(it.reverse_path, Some(&b"s@a.example"[..]));
    assert_eq!(it.recipient, Some(&b"r@here.example"[..]));
    assert_eq!(it.helo, Some(&b"mail.a.example"[..]));
    assert!(it.text.ends_with(b"here.example.html"));
}

#[test]
fn milters_refuse_at_every_stage() {
    let rcpt = refused(
        "smtpd",
        "NOQUEUE: milter-reject: RCPT from unknown[192.0.2.7]: 451 4.7.1 Greylisted, please try again \
         later; from=<> to=<r@here.example> proto=SMTP helo=<x>",
    );
    assert!(rcpt.by_milter);
    assert_eq!(rcpt.reverse_path, Some(&b""[..]));
    let data = refused(
        "smtpd",
        "4ZhXqN2k3Wz1234: milter-reject: DATA from unknown[192.0.2.7]: 451 4.7.1 Greylisted; \
         from=<s@a.example> to=<r@here.example> proto=ESMTP helo=<x>",
    );
    assert_eq!(
        (data.stage, data.queue_id),
        (Stage::Data, Some(&b"4ZhXqN2k3Wz1234"[..]))
    );
    let end = refused(
        "cleanup",
        "3F2A01C0B7: milter-reject: END-OF-MESSAGE from mail.a.example[192.0.2.7]: 4.7.1 Try again \
         later; from=<s@a.example> to=<r@here.example> proto=ESMTP helo=<mail.a.example>",
    );
    assert_eq!(
        (end.stage, end.class, end.has_status),
        (Stage::EndOfMessage, 4, true)
    );
    let spam = refused(
        "cleanup",
        "3F2A01C0B7: milter-reject: END-OF-MESSAGE from a[192.0.2.7]: 5.7.1 Spam message rejected; \
         from=<s@a.example> to=<r@here.example> proto=ESMTP helo=<a>",
    );
    assert_eq!(spam.class, 5);
}

#[test]
fn early_refusal_may_tell_less() {
    let connect = refused(
        "smtpd",
        "NOQUEUE: reject: CONNECT from unknown[192.0.2.7]: 554 5.7.1 <unknown[192.0.2.7]>: Client host \
         rejected: Access denied; proto=SMTP",
    );
    assert_eq!((connect.stage, connect.recipient), (Stage::Before, None));
    let code_alone = refused(
        "smtpd",
        "NOQUEUE: reject: RCPT from a[192.0.2.7]: 550 no; from=<s@a.example> to=<r@b> proto=SMTP",
    );
    assert_eq!(
        (code_alone.class, code_alone.has_status, code_alone.helo),
        (5, false, None)
    );
    let login = refused(
        "smtpd",
        "NOQUEUE: reject: RCPT from a[192.0.2.7]: 554 5.7.1 no; from=<s@a.example> to=<r@b> \
         proto=ESMTP helo=<x> sasl_method=PLAIN sasl_username=<s>",
    );
    assert!(login.authenticated);
    assert_eq!(login.helo, Some(&b"x"[..]));
}

#[test]
fn what_a_stranger_writes_into_the_line_is_not_believed() {
    let quoted = refused(
        "smtpd",
        "NOQUEUE: reject: RCPT from a[192.0.2.7]: 450 4.2.0 <\"; from=<evil> x\"@b>: Greylisted; \
         from=<s@a.example> to=<\"; from=<evil> x\"@b> proto=ESMTP helo=<x>",
    );
    assert_eq!(quoted.reverse_path, Some(&b"s@a.example"[..]));
    let helo = refused(
        "smtpd",
        "NOQUEUE: reject: RCPT from a[192.0.2.7]: 450 4.2.0 no; from=<s@a.example> to=<r@b> proto=ESMTP \
         helo=<; from=<evil@e> to=<evil@e> proto=ESMTP helo=<e>>",
    );
    assert_eq!(helo.reverse_path, Some(&b"s@a.example"[..]));
    assert_eq!(helo.recipient, Some(&b"r@b"[..]));
}

#[test]
fn message_is_followed_by_its_queue_id() {
    let accepting = said("smtpd", "3F2A01C0B7: client=mail.a.example[192.0.2.7]");
    assert!(matches!(
        accepting,
        Some(Event::Accepting {
            authenticated: false,
            ..
        })
    ));
    let login = said(
        "smtpd",
        "3F2A01C0B7: client=a[192.0.2.7]:5123, sasl_method=PLAIN, sasl_username=s@here.example",
    );
    assert!(matches!(
        login,
        Some(Event::Accepting {
            authenticated: true,
            ..
        })
    ));
    let id = said("cleanup", "3F2A01C0B7: message-id=<1@a.example>");
    assert!(matches!(
        id,
        Some(Event::MessageId {
            id: b"1@a.example",
            ..
        })
    ));
    let queued = said(
        "qmgr",
        "3F2A01C0B7: from=<s@a.example>, size=4711, nrcpt=2 (queue active)",
    );
    assert!(matches!(
        queued,
        Some(Event::Queued {
            reverse_path: b"s@a.example",
            size: 4711,
            recipients: 2,
            ..
        })
    ));
    let virtual_one = said(
        "lmtp",
        "3F2A01C0B7: to=<inner@here.example>, orig_to=<r@here.example>, relay=here[private/dovecot], \
         delay=0.2, delays=0.1/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 Ok)",
    );
    assert!(matches!(
        virtual_one,
        Some(Event::Delivery {
            recipient: b"r@here.example",
            ..
        })
    ));
    let quoted = said(
        "smtp",
        "3F2A01C0B7: to=<\"a b\"@here.example>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, \
         status=deferred (connect: refused)",
    );
    assert!(matches!(
        quoted,
        Some(Event::Delivery {
            recipient: b"\"a b\"@here.example",
            ..
        })
    ));
    assert!(matches!(
        said("qmgr", "3F2A01C0B7: removed"),
        Some(Event::Removed { .. })
    ));
}

#[test]
fn what_is_no_refusal_is_not_taken_for_one() {
    for (daemon, text) in [
        (
            "smtpd",
            "NOQUEUE: reject_warning: RCPT from a[192.0.2.7]: 450 4.2.0 no; from=<s@a> to=<r@b> proto=SMTP helo=<x>",
        ),
        (
            "smtpd",
            "NOQUEUE: filter: RCPT from a[192.0.2.7]: <r@b>: Recipient address triggers FILTER; from=<s@a> to=<r@b> proto=SMTP",
        ),
        (
            "smtpd",
            "warning: hostname a does not resolve to address 192.0.2.7",
        ),
        ("smtpd", "lost connection after RCPT from a[192.0.2.7]"),
        (
            "smtpd",
            "NOQUEUE: reject: RCPT from a[192.0.2.7]: 250 2.0.0 yes; from=<s@a> to=<r@b> proto=SMTP helo=<x>",
        ),
        (
            "cleanup",
            "3F2A01C0B7: replace: header Subject: x from a[192.0.2.7]; from=<s@a> to=<r@b> proto=SMTP helo=<x>",
        ),
        ("pickup", "3F2A01C0B7: uid=0 from=<root>"),
        (
            "anvil",
            "statistics: max connection rate 1/60s for (smtp:192.0.2.7) at Nov  2 06:25:01",
        ),
    ] {
        assert_eq!(said(daemon, text), None, "{text}");
    }
}

#[test]
fn postscreen_keeps_clients_off_before_greygate_sees_them() {
    let text = "NOQUEUE: reject: RCPT from [192.0.2.7]:41234: 450 4.3.2 Service currently unavailable; \
                from=<s@a.example>, to=<r@here.example>, proto=ESMTP, helo=<x>";
    assert_eq!(said("postscreen", text), Some(Event::Postscreen));
    assert_eq!(said("postscreen", "PASS NEW [192.0.2.7]:41234"), None);
}
