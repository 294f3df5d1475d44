//! Whatever an MTA says in whatever order, it hears each answer that it waits for, and no other; and
//! whatever a judge says, a message goes through only if nobody has to wait for it.

use proptest::prelude::*;

use super::*;
use crate::milter::negotiate::step;

/// A command as it is on the wire.
type Said = (u8, &'static [u8]);

/// What an MTA may say: messages in good order with anything between them, or anything in any order.
fn commands() -> impl Strategy<Value = Vec<Said>> {
    let part = prop_oneof![4 => message(), 1 => anything().prop_map(|it| vec![it])];
    let messages = proptest::collection::vec(part, 0..6).prop_map(|parts| {
        let mut commands = vec![CONNECT];
        commands.extend(parts.concat());
        commands
    });
    prop_oneof![
        3 => messages,
        1 => proptest::collection::vec(anything(), 0..40),
    ]
}

/// A message to some recipients, of which any part may be left out.
fn message() -> impl Strategy<Value = Vec<Said>> {
    let sender = prop_oneof![3 => Just(SENDER), 1 => Just(NULL)];
    let recipients = proptest::collection::vec(recipient(), 1..6);
    let content = [(b'T', b"".as_slice()), HEADER, BODY, (b'E', b"")];
    let shown = proptest::sample::subsequence(content.to_vec(), 0..=content.len());
    let whole = prop_oneof![3 => Just(content.to_vec()), 1 => shown];
    (sender, recipients, whole).prop_map(|(sender, recipients, content)| {
        let mut said = vec![sender];
        said.extend(recipients);
        said.extend(content);
        said
    })
}

/// Those that let a message on are more frequent: one that does not is enough to end it.
fn recipient() -> impl Strategy<Value = Said> {
    let to =
        |names: &'static [&'static [u8]]| proptest::sample::select(names).prop_map(|it| (b'R', it));
    prop_oneof![
        2 => to(&[b"<known@y>\0", b"<waited@y>\0", b"<heard@y>\0"]),
        4 => to(&[b"<first@y>\0", b"<again@y>\0", b"<roams@y>\0"]),
        1 => to(&[b"<new@y>\0", b"<early@y>\0", b"<read@y>\0"]),
        1 => to(&[b"<bad@y>\0", b"<poor@y>\0", b"<sentenced@y>\0"]),
    ]
}

fn anything() -> impl Strategy<Value = Said> {
    let other = proptest::sample::select(vec![
        (b'A', b"".as_slice()),
        BODY,
        CONNECT,
        (b'D', b"M{auth_authen}\0joe\0"),
        (b'D', b"C{daemon_addr}\x00192.0.2.1\0"),
        (b'D', b"R{rcpt_mailer}\0error\0"),
        (b'D', b"R{rcpt_mailer}\0error\0{rcpt_host}\x005.1.1\0"),
        (b'D', b"Ti\0"),
        (b'E', b""),
        (b'E', b"the last piece"),
        (b'H', b"helo\0"),
        (b'K', b""),
        HEADER,
        SENDER,
        NULL,
        (b'N', b""),
        (b'T', b""),
        (b'U', b"XYZZY\0"),
    ]);
    prop_oneof![3 => other, 2 => recipient()]
}

fn offers() -> impl Strategy<Value = Offer> {
    (2..8_u32, any::<u32>(), any::<u32>()).prop_map(|(version, actions, steps)| Offer {
        version,
        actions,
        steps,
    })
}

/// What a judge may say of a message that it has read; most often that it passes, since one word to
/// the contrary is enough.
fn words_on_content() -> impl Strategy<Value = Verdict> {
    let waited = Duration::from_secs(99);
    let bad = |permanently| Verdict::Refuse(RefuseReason::BadReputation { permanently });
    prop_oneof![
        4 => Just(Verdict::Pass(PassReason::Content { waited })),
        2 => Just(Verdict::Pass(PassReason::ContentAgain)),
        1 => Just(Verdict::Pass(PassReason::Persisted { waited })),
        1 => Just(Verdict::Pass(PassReason::Waited { waited })),
        1 => Just(Verdict::Defer(DeferReason::ContentNew)),
        1 => Just(Verdict::Defer(DeferReason::ContentEarly { left: waited })),
        1 => Just(Verdict::Read(ReadReason::Mode)),
        1 => any::<bool>().prop_map(bad),
        1 => Just(Verdict::Refuse(RefuseReason::Sentenced)),
    ]
}

/// What an MTA's reader and a judge may find out from one command to the next.
#[derive(Default)]
struct Model {
    /// 421 was said: an MTA would have hung up, and hears nothing else if it did not.
    is_turned_away: bool,
    /// What ends the message was said since it began, so that nothing can be held any more.
    is_over: bool,
    /// The judge's last word on each recipient that the message would go to if it went through.
    last_words: HashMap<String, Verdict>,
    /// Recipients that the judge wants to read the message for, in the order they were named.
    to_read: Vec<String>,
}

impl Model {
    /// Whether `status`, what the judge was `told` and the `words` it gave may follow from a command
    /// of this kind.
    fn hears(
        &mut self,
        kind: u8,
        status: Option<&str>,
        told: &[String],
        words: &[Word],
    ) -> Result<(), &'static str> {
        match kind {
            b'C' | b'K' => *self = Self::default(),
            b'M' => self.begin_message(false),
            b'A' | b'H' => self.begin_message(true),
            _ => {}
        }
        // A recipient that is refused at RCPT gets no mail, whatever becomes of the others.
        if kind != b'R' || status == Some("c") {
            self.listen(words);
        }
        let was_over = self.is_over;
        let is_done = status == Some("a") || kind == b'E' && status == Some("c");
        self.is_over |= kind == b'E' || status == Some("a");
        let goes_through = is_done && !was_over;
        for (is_right, wrong) in [
            (self.is_legal(kind, status), "the status"),
            (
                is_told_in_time(kind, told, was_over),
                "when the judge is told",
            ),
            (
                self.all_pass() || !goes_through,
                "mail of which the last word is to wait",
            ),
            (
                self.is_told_of_all_or_none(kind, goes_through, told),
                "whom the judge is told of",
            ),
        ] {
            if !is_right {
                return Err(wrong);
            }
        }
        Ok(())
    }

    fn begin_message(&mut self, is_over: bool) {
        self.is_over = is_over;
        self.last_words.clear();
        self.to_read.clear();
    }

    fn listen(&mut self, words: &[Word]) {
        for word in words {
            if matches!(word.verdict, Verdict::Read(_)) && !word.of_content {
                self.to_read.push(word.recipient.clone());
            }
            self.last_words.insert(word.recipient.clone(), word.verdict);
        }
    }

    fn all_pass(&self) -> bool {
        let mut words = self.last_words.values();
        words.all(|it| matches!(it, Verdict::Pass(_)))
    }

    /// All whom the message was to be read for are judged at its end; all of them pass, or none.
    fn is_told_of_all_or_none(&self, kind: u8, goes_through: bool, told: &[String]) -> bool {
        let of = |what| -> Vec<&str> {
            told.iter()
                .filter_map(|line| line.strip_prefix(what)?.split(' ').nth(2))
                .collect()
        };
        let (judged, passed) = (of("judged"), of("passed"));
        if kind == b'E' && goes_through {
            judged == self.to_read && passed == self.to_read
        } else {
            passed.is_empty() && (judged.is_empty() || judged == self.to_read)
        }
    }

    /// Who was told 421 hears it again; what else there is has its places.
    fn is_legal(&mut self, kind: u8, status: Option<&str>) -> bool {
        let Some(status) = status else {
            return true;
        };
        let is_421 = status.starts_with("y421 4.7.0 ");
        let in_order = match kind {
            b'R' | b'T' | b'E' if self.is_turned_away => is_421,
            _ => true,
        };
        self.is_turned_away |= is_421;
        let answers = matches!(kind, b'R' | b'T' | b'E' | b'L' | b'B');
        let is_known = match status {
            "c" | "a" => true,
            status => {
                let replies = ["y421 4.7.0 ", "y451 4.7.1 ", "y550 5.7.1 "];
                answers && replies.iter().any(|codes| status.starts_with(codes))
            }
        };
        in_order && is_known
    }
}

fn is_told_in_time(kind: u8, told: &[String], was_over: bool) -> bool {
    told.iter().all(|line| match kind {
        b'E' => !was_over && !line.starts_with("rejected"),
        b'R' => line.starts_with("rejected"),
        _ => false,
    })
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
            on_content in [words_on_content(), words_on_content(), words_on_content()],
            header_on in prop_oneof![Just(HeaderOn::Delayed), Just(HeaderOn::Passed)],
        ) {
        let policy = Policy { rcpt_deferrals: limit, ..Policy::default() };
        let passes = [
            ("known@y", PassReason::Passed),
            ("waited@y", waited(9)),
            ("heard@y", PassReason::Passed),
        ];
        let mut talk = Talk::with(offer, &passes, policy, |it| it.header_on = header_on);
        for (recipient, verdict) in ["first@y", "again@y", "roams@y"].into_iter().zip(on_content) {
            talk.reads(recipient, verdict);
        }
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
            talk.table.words.lock().expect("no judge panics").clear();
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
            let words = talk.table.words.lock().expect("no judge panics").clone();
            let heard = model.hears(kind, statuses.first().copied(), told, &words);
            prop_assert_eq!(heard, Ok(()), "after {}: {} {:?} {:?}", kind as char, shown, told, words);
        }
    }

    #[test]
    fn final_verdict_leaves_what_a_fresh_transaction_has(
            commands in commands(),
            from in proptest::sample::select(vec!["", "e@x.example"]),
        ) {
        let passes = [("known@y", PassReason::Passed), ("waited@y", waited(9))];
        let mut talk = Talk::new(POSTFIX, &passes);
        for (kind, payload) in commands {
            if talk.try_says(kind, payload, &mut Vec::new()).is_err() {
                return Ok(());
            }
        }
        // No ABORT: an MTA that goes on with the next message at once.
        talk.says(b'E', b"");
        prop_assert!(talk.session.is_between_transactions());
        talk.session.deferred = 0;
        talk.session.is_turned_away = false;
        talk.greets();
        talk.mails(from);
        prop_assert_eq!(talk.rcpts("known@y"), "c");
        prop_assert_eq!(talk.says(b'T', b""), "a");
        let asked = talk.asked();
        let expected = format!("192.0.2.7 <{from}> known@y 42");
        prop_assert_eq!(asked.last(), Some(&expected));
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

const BODY: Said = (b'B', b"chunk");
const CONNECT: Said = (b'C', b"mx\x004\x30\x39192.0.2.7\0");
const HEADER: Said = (b'L', b"Subject\0x\0");
const NULL: Said = (b'M', b"<>\0");
const SENDER: Said = (b'M', b"<a@x.example>\0");
