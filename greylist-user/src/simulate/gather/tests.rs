use super::*;
use crate::simulate::maillog::{Calendar, Line, Program};

/// What a log of these lines gives, in its order.
fn gathered(log: &str) -> (Vec<Mail>, Gather) {
    let mut gather = Gather::new(Greylisters::with([]));
    let mut mail = Vec::new();
    let mut calendar = Calendar::beginning(2026, 0);
    for line in log.lines() {
        let line = Line::parse(line.trim_start().as_bytes()).expect("it is a line");
        let entry = Entry {
            time: calendar.follow(line.stamp).expect("there is such a day"),
            host: line.host,
            program: line.program,
            message: line.message,
        };
        gather.take(&entry, &mut |it| mail.push(it));
    }
    gather.end(&mut |it| mail.push(it));
    (mail, gather)
}

fn recipients(mail: &Mail) -> Vec<(String, Fate)> {
    let told = mail.recipients.iter();
    told.map(|it| (String::from_utf8_lossy(&it.address).into_owned(), it.fate))
        .collect()
}

#[test]
fn message_is_whole_when_all_its_recipients_were_tried() {
    let (mail, gather) = gathered(
        "Nov  2 06:25:00 mx postfix/smtpd[9]: connect from mail.a.example[192.0.2.7]
         Nov  2 06:25:01 mx postfix/smtpd[9]: 3F2A01C0B7: client=mail.a.example[192.0.2.7]
         Nov  2 06:25:01 mx postfix/cleanup[10]: 3F2A01C0B7: message-id=<1@a.example>
         Nov  2 06:25:02 mx postfix/qmgr[3]: 3F2A01C0B7: from=<s@a.example>, size=4711, nrcpt=3 (queue active)
         Nov  2 06:25:02 mx postfix/lmtp[11]: 3F2A01C0B7: to=<i@here>, orig_to=<r@here>, relay=x, delay=1, status=sent (ok)
         Nov  2 06:25:02 mx postfix/lmtp[11]: 3F2A01C0B7: to=<j@here>, orig_to=<r@here>, relay=x, delay=1, status=sent (ok)
         Nov  2 06:25:03 mx postfix/smtp[12]: 3F2A01C0B7: to=<q@here>, relay=none, delay=1, status=deferred (no)
         Nov  2 06:25:09 mx postfix/qmgr[3]: 3F2A01C0B7: removed",
    );
    let [mail] = mail.as_slice() else {
        panic!("{mail:?}");
    };
    assert_eq!(
        recipients(mail),
        [
            ("r@here".to_owned(), Fate::Accepted),
            ("q@here".to_owned(), Fate::Accepted)
        ]
    );
    assert_eq!((mail.size, mail.authenticated), (Some(4711), false));
    assert_eq!(mail.time.since(mail.connected), Duration::from_secs(1));
    assert!(mail.message_id.is_some() && mail.begins_message);
    assert_eq!(gather.left_out, LeftOut::default());
}

#[test]
fn mail_comes_in_the_order_in_which_it_began() {
    let (mail, _) = gathered(
        "Nov  2 06:25:00 mx postfix/smtpd[9]: AAAAAA: client=a.example[192.0.2.7]
         Nov  2 06:25:05 mx postfix/smtpd[8]: NOQUEUE: reject: RCPT from b.example[192.0.2.8]: 450 4.2.0 Greylisted; from=<s@b> to=<r@here> proto=SMTP helo=<b>
         Nov  2 06:25:06 mx postfix/qmgr[3]: AAAAAA: from=<s@a>, size=1, nrcpt=1 (queue active)
         Nov  2 06:25:07 mx postfix/lmtp[11]: AAAAAA: to=<r@here>, relay=x, delay=1, status=sent (ok)",
    );
    let senders: Vec<_> = mail.iter().map(|it| &*it.reverse_path).collect();
    assert_eq!(senders, [&b"s@a"[..], b"s@b"]);
}

#[test]
fn end_that_never_comes_lapses_with_what_is_known() {
    let (mail, gather) = gathered(
        "Nov  2 06:25:00 mx postfix/smtpd[9]: AAAAAA: client=a.example[192.0.2.7]
         Nov  2 06:25:00 mx postfix/smtpd[9]: BBBBBB: client=a.example[192.0.2.7]
         Nov  2 06:25:01 mx postfix/qmgr[3]: AAAAAA: from=<s@a>, size=1, nrcpt=2 (queue active)
         Nov  2 06:25:02 mx postfix/lmtp[11]: AAAAAA: to=<r@here>, relay=x, delay=1, status=sent (ok)
         Nov  2 06:36:00 mx postfix/smtpd[9]: connect from a.example[192.0.2.7]",
    );
    assert_eq!(mail.len(), 1);
    assert_eq!(gather.left_out.recipients_unknown, 1);
}

#[test]
fn refusals_are_what_greygate_would_make_of_them() {
    let (mail, gather) = gathered(
        "Nov  2 06:25:00 mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from a[192.0.2.7]: 450 4.2.0 <r@here>: Greylisted; from=<s@a> to=<r@here> proto=SMTP helo=<a>
         Nov  2 06:25:01 mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from a[192.0.2.7]: 550 5.1.1 <x@here>: User unknown; from=<s@a> to=<x@here> proto=SMTP helo=<a>
         Nov  2 06:25:02 mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from a[192.0.2.7]: 450 4.1.8 <s@a>: Domain not found; from=<s@a> to=<r@here> proto=SMTP helo=<a>
         Nov  2 06:25:03 mx postfix/smtpd[9]: NOQUEUE: milter-reject: RCPT from a[192.0.2.7]: 550 5.7.1 no; from=<s@a> to=<r@here> proto=SMTP helo=<a>
         Nov  2 06:25:03 mx postfix/smtpd[9]: NOQUEUE: reject: CONNECT from a[192.0.2.7]: 554 5.7.1 no; proto=SMTP
         Nov  2 06:25:04 mx postfix/submission/smtpd[9]: NOQUEUE: reject: RCPT from a[192.0.2.7]: 550 5.7.1 no; from=<s@a> to=<r@here> proto=SMTP helo=<a>
         Nov  2 06:25:04 mx postfix/smtpd[9]: CCCCCC: client=localhost[127.0.0.1]
         Nov  2 06:25:05 mx postfix/postscreen[2]: NOQUEUE: reject: RCPT from [192.0.2.7]:4: 450 4.3.2 Service currently unavailable; from=<s@a>, to=<r@here>, proto=SMTP, helo=<a>",
    );
    let fates: Vec<_> = mail.iter().map(|it| it.recipients[0].fate).collect();
    assert_eq!(
        fates,
        [Fate::Greylisted, Fate::Rejected, Fate::RefusedBehind]
    );
    let told = LeftOut {
        submission: 1,
        postscreen: 1,
        local: 1,
        before_recipient: 1,
        refused_for_now: 1,
        ..LeftOut::default()
    };
    assert_eq!(gather.left_out, told);
    assert_eq!(gather.greylisted, [("another greylister", 1)]);
}

#[test]
fn message_refused_at_its_end_is_one_message_of_which_one_recipient_is_told() {
    let (mail, _) = gathered(
        "Nov  2 06:25:00 mx postfix/smtpd[9]: AAAAAA: client=a.example[192.0.2.7]
         Nov  2 06:25:00 mx postfix/cleanup[10]: AAAAAA: message-id=<1@a.example>
         Nov  2 06:25:03 mx postfix/cleanup[10]: AAAAAA: milter-reject: END-OF-MESSAGE from a.example[192.0.2.7]: 4.7.1 Try again later; from=<s@a> to=<r@here> proto=ESMTP helo=<a>",
    );
    let [mail] = mail.as_slice() else {
        panic!("{mail:?}");
    };
    assert_eq!(recipients(mail), [("r@here".to_owned(), Fate::Greylisted)]);
    assert!(mail.begins_message && mail.message_id.is_some());
}

#[test]
fn queue_ids_and_processes_of_two_instances_and_hosts_are_not_confused() {
    let (mail, _) = gathered(
        "Nov  2 06:25:00 one postfix/smtpd[9]: AAAAAA: client=a.example[192.0.2.7]
         Nov  2 06:25:00 one postfix-in/smtpd[9]: AAAAAA: client=b.example[192.0.2.8]
         Nov  2 06:25:00 two postfix/smtpd[9]: AAAAAA: client=c.example[192.0.2.9]
         Nov  2 06:25:01 two postfix/qmgr[3]: AAAAAA: from=<s@c>, size=1, nrcpt=1 (queue active)
         Nov  2 06:25:01 one postfix/qmgr[3]: AAAAAA: from=<s@a>, size=1, nrcpt=1 (queue active)
         Nov  2 06:25:01 one postfix-in/qmgr[3]: AAAAAA: from=<s@b>, size=1, nrcpt=1 (queue active)
         Nov  2 06:25:02 one postfix/lmtp[4]: AAAAAA: to=<r@here>, relay=x, status=sent (ok)
         Nov  2 06:25:02 two postfix/lmtp[4]: AAAAAA: to=<r@here>, relay=x, status=sent (ok)
         Nov  2 06:25:02 one postfix-in/lmtp[4]: AAAAAA: to=<r@here>, relay=x, status=sent (ok)",
    );
    let mut told: Vec<_> = mail
        .iter()
        .map(|it| {
            (
                it.client.to_string(),
                String::from_utf8_lossy(&it.reverse_path).into_owned(),
            )
        })
        .collect();
    told.sort();
    let pair = |client: &str, sender: &str| (client.to_owned(), sender.to_owned());
    assert_eq!(
        told,
        [
            pair("192.0.2.7", "s@a"),
            pair("192.0.2.8", "s@b"),
            pair("192.0.2.9", "s@c")
        ]
    );
}

#[test]
fn clock_set_back_has_nobody_hammer() {
    let line = |time: &str| {
        format!(
            "{time} mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from a[192.0.2.7]: 450 4.2.0 Greylisted; from=<s@a> to=<r@here> proto=SMTP helo=<a>\n"
        )
    };
    let log = [
        "Oct 25 02:50:00",
        "Oct 25 02:59:00",
        "Oct 25 02:00:00",
        "Oct 25 02:10:00",
    ];
    let (mail, gather) = gathered(&log.map(line).concat());
    let minutes: Vec<_> = mail
        .iter()
        .map(|it| it.time.since(mail[0].time).as_secs() / 60)
        .collect();
    assert_eq!(minutes, [0, 9, 9, 19]);
    assert_eq!(gather.clock_back, 1);
}

#[test]
fn sessions_and_messages_under_way_are_bounded() {
    let mut held = Bounded::new(3);
    for key in 0..100 {
        if held.is_full() {
            let oldest = held.oldest().expect("it is full");
            held.remove(oldest);
        }
        held.insert(key, Timestamp::from_millis(key), ());
        assert!(held.by_key.len() <= 3 && held.order.len() <= 7);
    }
    assert_eq!(held.oldest_time(), Some(Timestamp::from_millis(97)));
}

#[test]
fn what_is_begun_and_never_ends_is_bounded_and_told_once() {
    let mut gather = Gather::new(Greylisters::with([]));
    let mut given = 0;
    for number in 0..70_000_u32 {
        let program = Program {
            instance: b"postfix",
            service: b"",
            daemon: b"smtpd",
            pid: number,
        };
        let queued = format!("{number:06X}: client=a.example[192.0.2.7]");
        for message in ["connect from a.example[192.0.2.7]", &queued] {
            let entry = Entry {
                time: Timestamp::from_millis(1_800_000_000_000 + u64::from(number)),
                host: b"mx",
                program,
                message: message.as_bytes(),
            };
            gather.take(&entry, &mut |_| given += 1);
        }
    }
    assert_eq!(gather.bounds, [Bound::Sessions, Bound::Flights]);
    assert_eq!(gather.sessions.by_key.len(), MOST_SESSIONS);
    assert_eq!(gather.flights.by_key.len(), MOST_FLIGHTS);
    let left_out = gather.left_out.recipients_unknown;
    assert_eq!((given, left_out), (0, 70_000 - MOST_FLIGHTS as u64));
}
