//! What `greygate list` shows of a real store, and what `forget` and `forgive` leave of it.

use std::time::Duration;

use greygate::admin::{
    ClientRow, FingerprintRow, ListOrder, ListQuestion, ListRows, ListTable, Listing, PendingRow,
    SentenceRow, TrustedRow, bits_of,
};
use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, Judge as _, Offence, Persistence, Policy, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, Verdict,
};
use greygate::store::{ForgivenMail, ForgottenKind, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};

fn list(fixture: &Fixture, store: &Store, question: &ListQuestion) -> Listing {
    question.check().expect("it can be answered");
    let (policy, now) = (fixture.policy.load(), fixture.clock.now());
    Listing::of(store, question, &policy, now)
}

fn pending(fixture: &Fixture, store: &Store, question: ListQuestion) -> Vec<PendingRow> {
    let question = ListQuestion {
        what: ListTable::Pending,
        ..question
    };
    match list(fixture, store, &question).rows {
        ListRows::Pending(rows) => rows,
        other => panic!("{other:?}: tuples were asked for"),
    }
}

fn trusted(fixture: &Fixture, store: &Store) -> Vec<TrustedRow> {
    match list(fixture, store, &ListQuestion::of(ListTable::Trusted)).rows {
        ListRows::Trusted(rows) => rows,
        other => panic!("{other:?}: trust was asked for"),
    }
}

fn clients(fixture: &Fixture, store: &Store, network: Option<&str>) -> (Vec<ClientRow>, Listing) {
    let question = ListQuestion {
        network: network.map(|network| network.parse().expect("a network")),
        ..ListQuestion::of(ListTable::Clients)
    };
    let listing = list(fixture, store, &question);
    match &listing.rows {
        ListRows::Clients(rows) => (rows.clone(), listing.clone()),
        other => panic!("{other:?}: clients were asked for"),
    }
}

/// What another recipient makes of an attempt.
fn to(recipient: &str) -> Attempt<'_> {
    Attempt {
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    }
}

#[test]
fn pending_tuples_are_told_with_their_times() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let begun = fixture.clock.now().as_millis() / 1_000;
    fixture.judge(&store, &ATTEMPT);
    fixture.wait_seconds(60);
    fixture.judge(&store, &ATTEMPT);
    let rows = pending(&fixture, &store, ListQuestion::default());
    let [row] = &rows[..] else {
        panic!("one waits: {rows:?}");
    };
    assert_eq!((row.standing.as_str(), row.attempts), ("early", 2));
    assert_eq!((row.first, row.last), (begun, begun + 60));
    assert_eq!((row.opens, row.until), (begun + 195, begun + 86_400));
    assert_eq!(row.extra, 15);
    assert_eq!(
        (&row.client, &row.sender, &row.recipient),
        (&None, &None, &None)
    );
    assert_eq!(row.fingerprint.len(), 32);
    fixture.wait_minutes(3);
    assert_eq!(
        pending(&fixture, &store, ListQuestion::default())[0].standing,
        "in-window"
    );
    fixture.wait_hours(24);
    let listing = list(&fixture, &store, &ListQuestion::default());
    assert!(
        listing.rows.is_empty(),
        "what has lapsed is not shown, swept or not"
    );
    assert_eq!(listing.matched, 0);
}

#[test]
fn those_that_wait_and_those_that_passed_are_told_apart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.judge(&store, &to("another@here.example"));
    let passed = pending(
        &fixture,
        &store,
        ListQuestion {
            passed: true,
            ..ListQuestion::default()
        },
    );
    assert_eq!(passed.len(), 1);
    assert_eq!(
        (passed[0].standing.as_str(), passed[0].passes),
        ("passed", 1)
    );
    assert!(passed[0].passed.is_some());
    let waiting = pending(&fixture, &store, ListQuestion::default());
    assert_eq!((waiting.len(), waiting[0].standing.as_str()), (1, "early"));
}

#[test]
fn list_is_filtered_sorted_and_cut_and_says_how_many_more_there_are() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in 0_u64..20 {
        for _ in 0..=number % 5 {
            fixture.judge(&store, &to(&format!("r{number}@here.example")));
            fixture.wait_seconds(1);
        }
    }
    let most_tried = ListQuestion {
        sort: Some(ListOrder::Attempts),
        limit: Some(6),
        ..ListQuestion::default()
    };
    let listing = list(&fixture, &store, &most_tried);
    assert_eq!(
        (listing.matched, listing.more, listing.rows.len()),
        (20, 14, 6)
    );
    let attempts = |question| {
        let rows = pending(&fixture, &store, question);
        rows.iter().map(|row| row.attempts).collect::<Vec<_>>()
    };
    assert_eq!(attempts(most_tried.clone()), [5, 5, 5, 5, 4, 4]);
    let least_tried = ListQuestion {
        reverse: true,
        ..most_tried
    };
    assert_eq!(attempts(least_tried), [1, 1, 1, 1, 2, 2]);
    let persistent = ListQuestion {
        least_attempts: Some(4),
        ..ListQuestion::default()
    };
    assert_eq!(attempts(persistent).len(), 8);
    let first = |question| pending(&fixture, &store, question).len();
    let (older, newer) = (Some(31), Some(30));
    let old = first(ListQuestion {
        older,
        ..ListQuestion::default()
    });
    let young = first(ListQuestion {
        newer,
        ..ListQuestion::default()
    });
    assert_eq!(old + young, 20);
    assert!(old > 0 && young > 0, "{old} and {young}");
    let all = pending(&fixture, &store, ListQuestion::default());
    let one = ListQuestion {
        fingerprint: Some(all[7].fingerprint[..12].to_owned()),
        ..ListQuestion::default()
    };
    assert_eq!(pending(&fixture, &store, one), [all[7].clone()]);
}

#[test]
fn what_is_not_kept_is_said_and_where_to_ask_instead() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let by_sender = ListQuestion {
        sender: Some("s@sender.example".to_owned()),
        ..ListQuestion::default()
    };
    let listing = list(&fixture, &store, &by_sender);
    assert!(listing.rows.is_empty() && !listing.addresses_kept);
    assert!(
        listing.notes[0].contains("greygate why ADDRESS"),
        "{:?}",
        listing.notes
    );
    assert!(listing.notes[0].contains("keep_addresses"));
    let listing = list(&fixture, &store, &ListQuestion::default());
    assert!(listing.notes[0].contains("keep_addresses"));
}

#[test]
fn trust_is_told_while_it_is_earned_and_when_it_is() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 2,
        ..Policy::default()
    });
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    let rows = trusted(&fixture, &store);
    let [row] = &rows[..] else {
        panic!("one sender: {rows:?}");
    };
    let told = (row.standing.as_str(), row.passes, row.wanted);
    assert_eq!(told, ("earning", 1, 2));
    assert_eq!(row.earned_by, "passes");
    fixture.wait_hours(2);
    pass_once(&fixture, &store, &to("another@here.example"));
    let rows = trusted(&fixture, &store);
    assert_eq!((rows[0].standing.as_str(), rows[0].passes), ("trusted", 2));
    assert_eq!(
        rows[0].until - rows[0].last,
        fixture.policy.load().trust.as_secs()
    );
}

fn struck(fixture: &Fixture, store: &Store) {
    let sized = ATTEMPT;
    // One message, every second for a minute.
    for _ in 0..60 {
        fixture.judge(store, &sized);
        fixture.wait_seconds(1);
    }
}

#[test]
fn clients_are_told_by_address_where_a_sentence_or_the_question_names_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    struck(&fixture, &store);
    let (rows, listing) = clients(&fixture, &store, None);
    let [row] = &rows[..] else {
        panic!("one was struck: {rows:?}");
    };
    assert_eq!(
        row.client.as_deref(),
        Some("192.0.2.7"),
        "its sentence tells"
    );
    assert_eq!(
        (row.strikes, row.offence.as_deref()),
        (1, Some("rapid-retries"))
    );
    assert!(row.sentence.is_some() && row.repute.is_some());
    assert!(
        listing.notes[0].contains("--network"),
        "{:?}",
        listing.notes
    );

    fixture.wait_hours(1);
    let (rows, _) = clients(&fixture, &store, None);
    assert_eq!(
        (rows[0].client.as_deref(), rows[0].strikes),
        (None, 1),
        "no sentence is in force"
    );
    for network in ["192.0.2.7/32", "192.0.2.0/24", "192.0.0.0/16"] {
        let (rows, listing) = clients(&fixture, &store, Some(network));
        assert_eq!(rows[0].client.as_deref(), Some("192.0.2.7"), "{network}");
        assert!(listing.notes.is_empty());
    }
    let (rows, listing) = clients(&fixture, &store, Some("192.0.0.0/8"));
    assert!(rows.is_empty(), "{rows:?}");
    assert!(
        listing.notes[0].contains("wider than a /16"),
        "{:?}",
        listing.notes
    );
}

#[test]
fn sentences_are_told_by_what_they_dropped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let since = fixture.clock.now();
    for host in 1..=5_u8 {
        store.punish(Sentence {
            client: SentencedClient::of([192, 0, 2, host].into()),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since,
            until: since.after(Duration::from_hours(1)),
            persistence: Persistence {
                drops: 100 * u64::from(host),
                ..Persistence::default()
            },
        });
    }
    let question = ListQuestion {
        network: Some("192.0.2.0/29".parse().expect("a network")),
        least_drops: Some(200),
        limit: Some(2),
        ..ListQuestion::of(ListTable::Sentences)
    };
    let listing = list(&fixture, &store, &question);
    assert_eq!((listing.matched, listing.more), (4, 2));
    let ListRows::Sentences(rows) = &listing.rows else {
        panic!("sentences were asked for");
    };
    let told = |row: &SentenceRow| (row.client.clone(), row.drops);
    let worst: Vec<_> = rows.iter().map(told).collect();
    assert_eq!(
        worst,
        [("192.0.2.5".to_owned(), 500), ("192.0.2.4".to_owned(), 400)]
    );
    assert_eq!(
        rows[0].carried_out.as_deref(),
        Some("observe"),
        "the warm-up is not over"
    );
}

#[test]
fn forgotten_tuple_is_new_and_forgotten_trust_has_to_be_earned_again() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 1,
        ..Policy::default()
    });
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    let other = to("another@here.example");
    assert!(
        matches!(fixture.judge(&store, &other), Verdict::Pass(_)),
        "it is trusted"
    );
    let rows = trusted(&fixture, &store);
    let bits = bits_of(&rows[0].fingerprint).expect("as it is shown");
    assert_eq!(store.forget(bits), [ForgottenKind::Trust]);
    assert_eq!(store.forget(bits), [], "once");
    assert!(matches!(fixture.judge(&store, &other), Verdict::Defer(_)));

    let waiting = pending(&fixture, &store, ListQuestion::default());
    let bits = bits_of(&waiting[0].fingerprint).expect("as it is shown");
    fixture.wait_minutes(5);
    assert_eq!(store.forget(bits), [ForgottenKind::Pending]);
    // Not a first contact all the same: sender and recipient are known, and in hybrid mode that reads.
    let again = fixture.judge(&store, &other);
    assert!(
        matches!(again, Verdict::Defer(_) | Verdict::Read(_)),
        "{again:?}"
    );
    let waiting = pending(&fixture, &store, ListQuestion::default());
    assert_eq!(waiting[0].attempts, 1);
}

#[test]
fn trust_is_forgotten_by_whose_it_is_whatever_changes_in_the_sender() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 1,
        ..Policy::default()
    });
    let store = fixture.open();
    let list_mail = Attempt {
        reverse_path: b"list-bounces+r=here.example@sender.example",
        ..ATTEMPT
    };
    pass_once(&fixture, &store, &list_mail);
    let forget = |address: [u8; 4], sender: &str| {
        let gone = store.forget_trust(address.into(), sender.as_bytes(), b"");
        gone.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(forget([198, 51, 100, 7], "list-bounces@sender.example"), []);
    assert_eq!(forget([192, 0, 2, 7], "other@sender.example"), []);
    // Its network is trusted, whichever address of it is named.
    assert_eq!(
        forget([192, 0, 2, 9], "list-bounces@sender.example"),
        [ForgottenKind::Trust]
    );
    assert_eq!(trusted(&fixture, &store), []);
}

#[test]
fn forgiven_mail_waits_no_longer_than_others_and_is_not_put_off() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    for _ in 0..3 {
        fixture.judge(&store, &ATTEMPT);
        fixture.wait_seconds(50);
    }
    let late = pending(&fixture, &store, ListQuestion::default());
    assert!(late[0].extra > 0, "{late:?}");
    let mail = ForgivenMail {
        address: ATTEMPT.client,
        reverse_path: ATTEMPT.reverse_path,
        recipient: ATTEMPT.recipient,
    };
    assert_eq!(store.forgive_mail(&mail).delays, 1);
    assert_eq!(store.forgive_mail(&mail).delays, 0, "once");
    let now = pending(&fixture, &store, ListQuestion::default());
    assert_eq!((now[0].extra, now[0].first), (0, late[0].first));
    fixture.wait_seconds(30);
    let verdict = fixture.judge(&store, &ATTEMPT);
    assert!(
        matches!(verdict, Verdict::Pass(_)),
        "{verdict:?} after three minutes"
    );
}

#[test]
fn forgiveness_says_when_a_bad_name_was_all_there_was() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let now = fixture.clock.now();
    store.report_mail(ATTEMPT.client, Some(ATTEMPT.client_name), true, now);
    let client = SentencedClient::of(ATTEMPT.client);
    let forgiven = store.forgive(client, now);
    assert_eq!(
        (forgiven.lifted, forgiven.strikes, forgiven.reputations),
        (None, 0, 1)
    );
    assert_eq!(store.forgive(client, now).reputations, 0, "once");
}

#[test]
fn messages_that_were_read_are_told_and_can_be_forgotten() {
    let mut policy = Policy::default();
    policy.mode = greygate::policy::Mode::Content;
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let mut message = store.message_hasher();
    message.header(b"Message-ID", b"<1@sender.example>");
    message.body(b"Hello.\r\n");
    let read = store.judge_content(&ATTEMPT, &message, fixture.clock.now());
    assert!(matches!(read.verdict, Verdict::Defer(_)), "{read:?}");
    let rows = || match list(&fixture, &store, &ListQuestion::of(ListTable::Fingerprints)).rows {
        ListRows::Fingerprints(rows) => rows,
        other => panic!("{other:?}: messages were asked for"),
    };
    let found: Vec<FingerprintRow> = rows();
    assert_eq!((found.len(), found[0].attempts), (1, 1));
    assert_eq!(
        (found[0].standing.as_str(), found[0].opens - found[0].first),
        ("early", 60)
    );
    let bits = bits_of(&found[0].fingerprint).expect("as it is shown");
    assert_eq!(store.forget(bits), [ForgottenKind::Fingerprint]);
    assert!(rows().is_empty());
}

/// How long a walk takes: `cargo test -p greylist-tests --test store measures_a_walk -- --ignored --nocapture`.
#[test]
#[ignore = "run by hand: a measurement, of TUPLES tuples or a million"]
fn measures_a_walk() {
    let tuples = std::env::var("TUPLES").map_or(1_000_000, |it| it.parse().expect("a number"));
    let mut fixture = Fixture::new();
    fixture.settings.capacity = tuples;
    let store = fixture.open();
    for number in 0..tuples {
        fixture.judge(&store, &to(&format!("r{number}@here.example")));
    }
    for limit in [50, 10_000] {
        let question = ListQuestion {
            limit: Some(limit),
            sort: Some(ListOrder::Attempts),
            ..ListQuestion::default()
        };
        let begun = std::time::Instant::now();
        let listing = list(&fixture, &store, &question);
        println!("{} of {} in {:?}", limit, listing.matched, begun.elapsed());
        assert_eq!(listing.matched, tuples as u64);
    }
}
