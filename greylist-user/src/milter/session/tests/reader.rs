//! Whatever an MTA says in whatever order, it hears each answer that it waits for, and no other.

use proptest::prelude::*;

use super::*;
use crate::milter::negotiate::step;

/// Commands of an MTA in any order, with the payloads they have on the wire.
fn commands() -> impl Strategy<Value = Vec<(u8, &'static [u8])>> {
    let command = prop_oneof![
        Just((b'A', b"".as_slice())),
        Just((b'B', b"chunk".as_slice())),
        Just((b'C', b"mx\x004\x30\x39192.0.2.7\0".as_slice())),
        Just((b'D', b"M{auth_authen}\0joe\0".as_slice())),
        Just((b'D', b"C{daemon_addr}\x00192.0.2.1\0".as_slice())),
        Just((b'D', b"R{rcpt_mailer}\0error\0".as_slice())),
        Just((
            b'D',
            b"R{rcpt_mailer}\0error\0{rcpt_host}\x005.1.1\0".as_slice()
        )),
        Just((b'D', b"Ti\0".as_slice())),
        Just((b'E', b"".as_slice())),
        Just((b'E', b"the last piece".as_slice())),
        Just((b'H', b"helo\0".as_slice())),
        Just((b'K', b"".as_slice())),
        Just((b'L', b"Subject\0x\0".as_slice())),
        Just((b'M', b"<a@x.example>\0".as_slice())),
        Just((b'M', b"<>\0".as_slice())),
        Just((b'N', b"".as_slice())),
        Just((b'R', b"<new@y>\0".as_slice())),
        Just((b'R', b"<known@y>\0".as_slice())),
        Just((b'R', b"<waited@y>\0".as_slice())),
        Just((b'R', b"<read@y>\0".as_slice())),
        Just((b'R', b"<heard@y>\0".as_slice())),
        Just((b'R', b"<bad@y>\0".as_slice())),
        Just((b'R', b"<poor@y>\0".as_slice())),
        Just((b'R', b"<sentenced@y>\0".as_slice())),
        Just((b'T', b"".as_slice())),
        Just((b'U', b"XYZZY\0".as_slice())),
    ];
    proptest::collection::vec(command, 0..40)
}

fn offers() -> impl Strategy<Value = Offer> {
    (2..8_u32, any::<u32>(), any::<u32>()).prop_map(|(version, actions, steps)| Offer {
        version,
        actions,
        steps,
    })
}

/// What an MTA's reader and a judge may find out from one command to the next.
#[derive(Default)]
struct Model {
    /// 421 was said: an MTA would have hung up, and hears nothing else if it did not.
    is_turned_away: bool,
    /// What ends the message was said since it began, so that nothing can be held any more.
    is_over: bool,
}

impl Model {
    /// Whether `status`, and what the judge was `told`, may follow from a command of this kind.
    fn hears(&mut self, kind: u8, status: Option<&str>, told: &[String]) -> bool {
        match kind {
            b'C' | b'K' => *self = Self::default(),
            b'M' => self.is_over = false,
            b'A' | b'H' => self.is_over = true,
            _ => {}
        }
        let was_over = self.is_over;
        self.is_over |= kind == b'E' || status == Some("a");
        let told_in_time = told.iter().all(|line| match kind {
            b'E' => line.starts_with("content") && !was_over,
            b'R' => line.starts_with("rejected"),
            _ => false,
        });
        let answers = matches!(kind, b'R' | b'T' | b'E' | b'L' | b'B');
        let Some(status) = status else {
            return told_in_time;
        };
        let is_421 = status.starts_with("y421 4.7.0 ");
        let in_order = match kind {
            b'R' | b'T' | b'E' if self.is_turned_away => is_421,
            _ => true,
        };
        self.is_turned_away |= is_421;
        let is_legal = match status {
            "c" | "a" => true,
            status => {
                let replies = ["y421 4.7.0 ", "y451 4.7.1 ", "y550 5.7.1 "];
                answers && replies.iter().any(|codes| status.starts_with(codes))
            }
        };
        told_in_time && in_order && is_legal
    }
}

/// How many statuses a reader of the MTA's kind waits for after a command, by the flags alone.
fn statuses_expected(kind: u8, steps: u32) -> usize {
    let waived_by = match kind {
        b'C' => step::NO_REPLY_CONNECT,
        b'H' => step::NO_REPLY_HELO,
        b'M' => step::NO_REPLY_MAIL,
        b'U' => step::NO_REPLY_UNKNOWN,
        b'L' => step::NO_REPLY_HEADER,
        b'N' => step::NO_REPLY_END_OF_HEADERS,
        b'B' => step::NO_REPLY_BODY,
        b'R' | b'T' | b'E' => 0,
        _ => return 0,
    };
    usize::from(steps & waived_by == 0)
}

/// The terms in the answer to an offer, as the MTA reads them.
fn granted(out: &[u8]) -> Offer {
    let frame = Frame::first_of(out).expect("legal").expect("whole");
    Offer::parse(frame.payload).expect("terms")
}

proptest! {
    #[test]
    fn every_status_owed_is_sent_and_no_other(
            offer in offers(),
            commands in commands(),
            limit in 0..3_u32,
            sentenced_before in 0..60_usize,
        ) {
        let policy = Policy { rcpt_deferrals: limit, ..Policy::default() };
        let passes = [
            ("known@y", PassReason::Passed),
            ("waited@y", waited(9)),
            ("heard@y", PassReason::Passed),
        ];
        let mut talk = Talk::under(offer, &passes, policy);
        let context = Arc::clone(&talk.session.context);
        talk.session = Session::new(context, Arc::clone(&talk.session.policy), Origin::ThisHost);
        let mut out = Vec::new();
        talk.try_says(b'O', &offer_payload(offer), &mut out).expect("terms");
        let terms = granted(&out);
        prop_assert_eq!(terms.actions & !offer.actions, 0);
        prop_assert_eq!(terms.steps & !offer.steps, 0);
        prop_assert!(terms.version <= offer.version && terms.version <= 6);
        let mut model = Model::default();
        for (index, (kind, payload)) in commands.into_iter().enumerate() {
            if index == sentenced_before {
                talk.table.sentenced.store(true, Ordering::Relaxed);
            }
            out.clear();
            let told_before = talk.told().len();
            match talk.try_says(kind, payload, &mut out) {
                Ok(_) => {}
                Err(SessionError::OutOfOrder { kind: b'R' }) => break,
                Err(error) => prop_assert!(false, "{}", error),
            }
            let shown = shown(&out);
            let frames: Vec<&str> = shown.split(" | ").filter(|it| !it.is_empty()).collect();
            let (actions, statuses): (Vec<&str>, Vec<&str>) =
                frames.iter().partition(|it| it.starts_with('h'));
            prop_assert_eq!(statuses.len(), statuses_expected(kind, terms.steps), "after {}: {}", kind as char, shown);
            prop_assert!(actions.is_empty() || (kind == b'E' && terms.actions & 1 != 0));
            prop_assert!(kind != b'R' || shown != "a", "ACCEPT at RCPT hides the other recipients");
            let told = &talk.told()[told_before..];
            prop_assert!(model.hears(kind, statuses.first().copied(), told), "after {}: {} {:?}", kind as char, shown, told);
        }
    }

    #[test]
    fn abort_leaves_what_a_fresh_transaction_has(commands in commands()) {
        let passes = [("known@y", PassReason::Passed), ("waited@y", waited(9))];
        let mut talk = Talk::new(POSTFIX, &passes);
        for (kind, payload) in commands {
            if talk.try_says(kind, payload, &mut Vec::new()).is_err() {
                break;
            }
        }
        talk.says(b'A', b"");
        prop_assert!(talk.session.is_between_transactions());
        talk.session.deferred = 0;
        talk.session.is_turned_away = false;
        talk.greets();
        talk.mails("fresh@x.example");
        prop_assert_eq!(talk.rcpts("known@y"), "c");
        prop_assert_eq!(talk.says(b'T', b""), "a");
        let asked = talk.asked();
        let last = asked.last().map(String::as_str);
        prop_assert_eq!(last, Some("192.0.2.7 <fresh@x.example> known@y 42"));
    }
}
