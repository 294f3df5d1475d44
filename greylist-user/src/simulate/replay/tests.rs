use super::*;
use crate::simulate::gather::Recipient;
use crate::simulate::model::Queues;

const T0: Timestamp = Timestamp::from_millis(1_793_600_000_000);

fn at(seconds: u64) -> Timestamp {
    T0.after(Duration::from_secs(seconds))
}

fn mail(time: Timestamp, fate: Fate) -> Mail {
    Mail {
        time,
        connected: time,
        client: [192, 0, 2, 7].into(),
        name: Box::from(&b"mail.a.example"[..]),
        helo: Box::from(&b"mail.a.example"[..]),
        reverse_path: Box::from(&b"s@a.example"[..]),
        recipients: vec![Recipient {
            address: Box::from(&b"r@here.example"[..]),
            fate,
        }],
        authenticated: false,
        size: Some(1_000),
        message_id: None,
        begins_message: true,
    }
}

fn replay(purpose: Purpose) -> Replay {
    let settings = Settings {
        capacity: 10_000,
        ..Settings::default()
    };
    Replay::new(purpose, &settings, &Policy::default(), T0, true)
}

fn played(purpose: Purpose, mail: &[Mail]) -> Finished {
    let mut replay = replay(purpose);
    for mail in mail {
        replay.take(mail);
    }
    replay.end()
}

fn assumed(end: End, no_retry: u8) -> Purpose {
    let queues = Queues::Postfix;
    Purpose::Assumed(
        Model {
            queues,
            no_retry: (no_retry, no_retry),
        },
        end,
    )
}

#[test]
fn retry_that_the_log_shows_waits_as_long_as_it_shows() {
    let log = [
        mail(at(0), Fate::Greylisted),
        mail(at(60), Fate::Greylisted),
        mail(at(400), Fate::Accepted),
    ];
    let outcome = played(Purpose::Shown, &log).outcome;
    assert_eq!(
        (outcome.deferred, outcome.deferrals, outcome.passed_after),
        (1, 2, 1)
    );
    assert_eq!(outcome.delay.map(|it| it.max), Some(400));
    assert_eq!((outcome.retry_not_shown, outcome.never_returned), (0, 0));
}

#[test]
fn what_passes_here_before_it_does_in_the_log_is_not_tried_again() {
    let log = [
        mail(at(0), Fate::Greylisted),
        mail(at(200), Fate::Greylisted),
        mail(at(500), Fate::Greylisted),
        mail(at(1_000), Fate::Accepted),
        mail(at(5_000), Fate::Accepted),
    ];
    let outcome = played(Purpose::Shown, &log).outcome;
    assert_eq!(outcome.delay.map(|it| it.max), Some(200));
    assert_eq!(outcome.not_repeated, 2);
    assert_eq!(outcome.passed_at_once, 1, "the next message: {outcome:?}");
}

#[test]
fn who_never_returns_is_told_from_who_may_yet() {
    let other = Mail {
        reverse_path: Box::from(&b"t@a.example"[..]),
        ..mail(at(2 * 86_400), Fate::Greylisted)
    };
    let outcome = played(Purpose::Shown, &[mail(at(0), Fate::Greylisted), other]).outcome;
    assert_eq!((outcome.never_returned, outcome.still_waiting), (1, 1));
}

#[test]
fn mail_that_was_taken_in_comes_again_only_as_assumed() {
    let log = [mail(at(0), Fate::Accepted)];
    let shown = played(Purpose::Shown, &log).outcome;
    assert_eq!(
        (shown.retry_not_shown, shown.passed_after, shown.delay),
        (1, 0, None)
    );
    let quick = played(assumed(End::Quick, 0), &log).outcome;
    assert_eq!(
        (quick.passed_after, quick.delay.map(|it| it.max)),
        (1, Some(300))
    );
    let slow = played(assumed(End::Slow, 0), &log).outcome;
    assert_eq!(slow.delay.map(|it| it.max), Some(600));
    let never = played(assumed(End::Slow, 100), &log).outcome;
    assert_eq!((never.never_returned, never.passed_after), (1, 0));
    assert_eq!((never.saved_messages, never.saved_bytes), (1, 1_000));
    assert_eq!((slow.saved_messages, shown.saved_messages), (0, 0));
}

#[test]
fn pool_passes_by_its_message_from_another_network() {
    let from = |time, network: u8, fate| Mail {
        client: [203, 0, network, 25].into(),
        name: Box::default(),
        ..mail(time, fate)
    };
    let log = [
        from(at(0), 1, Fate::Greylisted),
        from(at(300), 2, Fate::Greylisted),
        from(at(600), 3, Fate::Accepted),
    ];
    let outcome = played(Purpose::Shown, &log).outcome;
    assert_eq!(outcome.delay.map(|it| it.max), Some(600), "{outcome:?}");
    assert_eq!(outcome.read, 2);
    assert_eq!(outcome.retry_not_shown, 0);
}

/// One message every two seconds for half a minute and a little, as a hammering client has it.
fn hammering() -> Vec<Mail> {
    (0..18)
        .map(|number| mail(at(100 + 2 * number), Fate::Greylisted))
        .collect()
}

#[test]
fn hammering_is_suspected_since_no_log_proves_it_the_same_message() {
    assert!(played(Purpose::Shown, &hammering()).sentences.is_empty());
    let suspected = played(Purpose::Suspected, &hammering()).sentences;
    let [sentence] = suspected.as_slice() else {
        panic!("{suspected:?}");
    };
    assert_eq!(
        (
            sentence.client.as_str(),
            sentence.reason.as_str(),
            sentence.level.as_str()
        ),
        ("192.0.2.7", "rapid-retries", "rate")
    );
    assert!(sentence.at >= at(100).as_millis() / 1_000);
}

#[test]
fn recipients_that_postfix_rejects_bring_the_sentence_that_the_log_shows() {
    let log: Vec<_> = (0..300)
        .map(|number: u64| Mail {
            recipients: vec![Recipient {
                address: format!("nobody{number}@here.example").into_bytes().into(),
                fate: Fate::Rejected,
            }],
            ..mail(at(100 + number), Fate::Rejected)
        })
        .collect();
    let sentences = played(Purpose::Shown, &log).sentences;
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    assert_eq!(sentences[0].reason, "rejected-recipients");
}

#[test]
fn nobody_is_sentenced_for_what_is_assumed() {
    let exchange = Purpose::Assumed(
        Model {
            queues: Queues::Exchange,
            no_retry: (0, 0),
        },
        End::Quick,
    );
    let log: Vec<_> = (0..200)
        .map(|number: u64| Mail {
            reverse_path: format!("s{number}@a.example").into_bytes().into(),
            ..mail(at(number), Fate::Accepted)
        })
        .collect();
    let finished = played(exchange, &log);
    assert!(finished.sentences.is_empty(), "{:?}", finished.sentences);
    assert!(finished.outcome.deferrals > 200);
}

#[test]
fn strangers_text_does_not_reach_a_terminal_as_orders() {
    assert_eq!(harmless(b"a\x1b[31m@b\n"), "a\u{fffd}[31m@b\u{fffd}");
    assert_eq!(
        harmless("\u{202e}gro.elpmaxe".as_bytes()),
        "\u{fffd}gro.elpmaxe"
    );
    assert_eq!(harmless("jürgen@b".as_bytes()), "jürgen@b");
}
